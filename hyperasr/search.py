"""The beam search: log-probabilities of frames -> the likeliest texts.

A CTC prefix search (Hannun et al., arXiv:1408.2873): what is held is a text with two
log-probabilities, of the paths that end in blank and of those that end in its last token.
pyctcdecode's own search holds these apart, so that half of its beams say the same, and follows
every token of every beam; here a step is not taken that cannot come near the best one. Labels,
interface and n-gram are pyctcdecode's. No torch here.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyctcdecode.alphabet import Alphabet
from pyctcdecode.decoder import BeamSearchDecoderCTC, OutputBeam
from pyctcdecode.language_model import AbstractLanguageModel, HotwordScorer

from hyperasr.align import BLANK
from hyperasr.hotwords import Hotwords, Place
from hyperasr.language_model import NGram

MAX_REMEMBERED = 200_000
"""Beginnings of words whose worth is kept from one utterance to the next, about 50 MB of them."""
LONG_WORD = 6
"""Letters from which on an unknown word costs more the longer it gets."""
NEVER = -math.inf


class Text:
    """Words that are finished, as a chain of the last one and those before it."""

    __slots__ = ("before", "next", "recent", "state", "sure", "word", "worth")

    def __init__(
        self,
        before: "Text | None",
        word: str,
        worth: float,
        sure: float,
        state: Any,
        recent: tuple[tuple[str, ...], Any],
    ):
        self.before, self.word, self.worth, self.state = before, word, worth, state
        self.sure = sure
        """Its worth without what an unfinished phrase may have to give back."""
        self.recent = recent
        """As many of the last words as the n-gram looks back to, and the place among hotwords."""
        self.next: dict[str, Text] = {}

    def __str__(self) -> str:
        """All its words."""
        words, here = [], self
        while here.before is not None:
            words.append(here.word)
            here = here.before
        return " ".join(reversed(words))


class Begun:
    """The letters of a word that is not finished, and what they are worth."""

    __slots__ = ("letters", "next", "worth")

    def __init__(self, letters: str, worth: float):
        self.letters, self.worth = letters, worth
        self.next: dict[str, Begun] = {}


class Search(BeamSearchDecoderCTC):
    """pyctcdecode's decoder with another search inside."""

    def __init__(self, alphabet: Alphabet, fusion: "Fusion | None") -> None:
        super().__init__(alphabet, fusion)
        self._fusion = fusion
        self._nothing, self._remembered = Begun("", 0.0), 0
        mark, labels = "▁" if self._is_bpe else " ", sorted(self._idx2vocab.items())
        self._spelled = [(label.startswith(mark), label.strip(mark)) for _, label in labels]
        """Of every token, whether it begins a word, and its letters."""
        longest = max(len(letters) for _, letters in self._spelled)
        self._ahead = fusion.ahead(longest) if fusion is not None else 0.0
        """By how much one more token may make a text better at most."""

    def run(
        self,
        log_probs: NDArray[Any],
        beam_size: int,
        behind: float,
        unlikely: float,
        prune_history: bool,
    ) -> list[OutputBeam]:
        """The texts of (S, V) log-probabilities, best first.

        Texts that are `behind` the best are given up (a negative log-probability); tokens below
        `unlikely` are not tried, but for the likeliest of a frame. With `prune_history`, of texts
        that the language model cannot tell apart any more only the best one goes on.
        """
        scorer: Any = None  # of pyctcdecode's own hotwords, which this search never asks
        return self._decode_logits(log_probs, beam_size, behind, unlikely, prune_history, scorer)

    def _decode_logits(
        self,
        logits: NDArray[Any],
        beam_width: int,
        beam_prune_logp: float,
        token_min_logp: float,
        prune_history: bool,
        hotword_scorer: HotwordScorer,
        lm_start_state: Any = None,
    ) -> list[OutputBeam]:
        """What pyctcdecode calls to search (S, V) log-probabilities."""
        if self._remembered > MAX_REMEMBERED:
            self._nothing, self._remembered = Begun("", 0.0), 0
        if lm_start_state is None and self._fusion is not None:
            lm_start_state = self._fusion.get_start_state()
        # A text in the beam: total, of paths to blank, of paths to its last token, both, and
        # (words, letters, last token), which tell it from all others.
        start = Text(None, "", 0.0, 0.0, lm_start_state, ((), None))
        beam = [(0.0, 0.0, NEVER, 0.0, (start, self._nothing, -1))]
        for tokens in _likely(logits, token_min_logp):
            beam = self._step(beam, tokens, beam_prune_logp)[:beam_width]
            if prune_history:
                beam = _distinct(beam)
        return self._finish(beam, beam_prune_logp)[:beam_width]

    def _step(  # noqa: C901  # one loop: a call for each candidate would cost a fifth
        self, beam: list[Any], tokens: list[tuple[int, float]], behind: float
    ) -> list[Any]:
        """The texts after one more frame, best first; `tokens` are (token, log-probability)."""
        log1p, exp = math.log1p, math.exp
        found: dict[Any, list[float]] = {}  # to blank, to the last token, worth
        floor = NEVER
        entry: list[float] | None
        for token, sound in tokens:
            begins, letters = self._spelled[token]
            for total, to_blank, to_last, both, key in beam:
                if total + sound + self._ahead < floor:
                    break  # and those that follow are worse still
                text, begun, last = key
                if token == BLANK:
                    slot, reached, following = 0, both + sound, key
                else:
                    slot, reached = 1, both + sound
                    if token == last:
                        if to_last > NEVER:
                            entry = found.setdefault(key, [NEVER, NEVER, text.worth + begun.worth])
                            entry[1] = add(entry[1], to_last + sound)
                        if to_blank == NEVER:
                            continue
                        reached = to_blank + sound
                    if begins:
                        if begun.letters:
                            text = text.next.get(begun.letters) or self._word(text, begun.letters)
                        begun = self._nothing
                    if letters:
                        begun = begun.next.get(letters) or self._begin(begun, letters)
                    following = text, begun, token
                worth = text.worth + begun.worth
                if reached + worth < floor or reached == NEVER:
                    continue
                entry = found.get(following)
                if entry is None:
                    # A hotword that is only begun must not push out the text that will be right.
                    floor = max(floor, reached + text.sure + min(0.0, begun.worth) + behind)
                    entry = found[following] = [NEVER, NEVER, worth]
                old = entry[slot]
                if old < reached:
                    entry[slot] = reached + log1p(exp(old - reached))
                else:
                    entry[slot] = old + log1p(exp(reached - old))
        after = []
        for key, (to_blank, to_last, worth) in found.items():
            both = add(to_blank, to_last)
            if both + worth >= floor:
                after.append((both + worth, to_blank, to_last, both, key))
        after.sort(key=_total, reverse=True)
        return after or beam  # of a frame in which nothing is possible nothing is known

    def _word(self, text: Text, word: str) -> Text:
        """The text with a word more."""
        if self._fusion is None:
            found = Text(text, word, 0.0, 0.0, None, text.recent)
        else:
            added, state = self._fusion.score(text.state, word)
            back = self._fusion.order - 1
            words = (*text.recent[0], word)[-back:] if back else ()
            worth = text.worth + added
            sure = worth - self._fusion.credit(state)
            found = Text(text, word, worth, sure, state, (words, self._fusion.place(state)))
        text.next[word] = found
        return found

    def _begin(self, begun: Begun, more: str) -> Begun:
        """The letters with more of them."""
        letters = begun.letters + more
        worth = self._fusion.score_partial_token(letters) if self._fusion is not None else 0.0
        self._remembered += 1
        found = begun.next[more] = Begun(letters, worth)
        return found

    def _finish(self, beam: list[Any], behind: float) -> list[OutputBeam]:
        """The texts with their last words, the end counted in, best first."""
        ends: dict[str, Any] = {}
        for _, _, _, sound, (text, begun, _) in beam:
            if begun.letters:
                text = text.next.get(begun.letters) or self._word(text, begun.letters)
            words = str(text)
            if words in ends:
                sound = float(np.logaddexp(sound, ends[words][1]))
            end, state = 0.0, None
            if self._fusion is not None:
                end, state = self._fusion.score(text.state, "", is_last_word=True)
            ends[words] = text.worth + end, sound, state
        output: list[OutputBeam] = [
            (words, state, [], sound, sound + worth)
            for words, (worth, sound, state) in ends.items()
        ]
        output.sort(key=lambda found: found[-1], reverse=True)
        return [found for found in output if found[-1] >= output[0][-1] + behind]


def add(one: float, other: float) -> float:
    """log(exp(one) + exp(other))."""
    if one < other:
        one, other = other, one
    return one + math.log1p(math.exp(other - one)) if one > NEVER else NEVER


def _total(text: Any) -> float:
    return text[0]


def _distinct(beam: list[Any]) -> list[Any]:
    """The best of the texts that go on alike: the same last words, letters and token."""
    seen: dict[Any, Any] = {}
    for one in beam:
        text, begun, last = one[-1]
        seen.setdefault((text.recent, begun, last), one)
    return list(seen.values())


def _likely(log_probs: NDArray[Any], least: float) -> list[list[tuple[int, float]]]:
    """For each frame of (S, V) the tokens of at least that log-probability, best first."""
    order = np.argsort(-log_probs, axis=1, kind="stable")
    values = np.take_along_axis(log_probs, order, axis=1)
    counts = np.maximum((values >= least).sum(axis=1), 1).tolist()
    return [
        list(zip(tokens[:count], sounds[:count], strict=True))
        for tokens, sounds, count in zip(order.tolist(), values.tolist(), counts, strict=True)
    ]


class Fusion(AbstractLanguageModel):
    """What a text is worth by its words: n-gram, reward per word, hotwords, unknown words.

    The state of a text is KenLM's state and its place among the hotwords, so one pass scores both
    and a thousand phrases cost no more than one.
    """

    def __init__(
        self,
        alpha: float,
        beta: float,
        unknown: float,
        ngram: NGram | None,
        hotwords: Hotwords | None,
    ) -> None:
        self.alpha, self.beta, self.unknown = alpha, beta, unknown
        self.ngram = ngram
        self.hotwords = hotwords or Hotwords((), 0.0)

    def credit(self, state: Any) -> float:
        """What a text in this state may have to give back: its phrase is not finished."""
        _, place = state
        return max(0.0, self.hotwords.weight) * len(place.waiting)

    @staticmethod
    def place(state: Any) -> Place:
        """Where a text in this state stands among the hotwords."""
        return state[1]

    def ahead(self, letters: int) -> float:
        """By how much a token of up to so many letters may make a text better at most."""
        return max(0.0, self.beta) + self.hotwords.rise(letters)

    @property
    def order(self) -> int:
        """How many words back a score looks, its own included."""
        return max(self.ngram.order if self.ngram else 1, self.hotwords.longest + 1)

    def get_start_state(self) -> Any:
        """The state of an empty text."""
        return self.ngram.start() if self.ngram else None, self.hotwords.start

    def score(self, prev_state: Any, word: str, is_last_word: bool = False) -> tuple[float, Any]:
        """What `word` adds to a text in this state, and the state then; "" only ends a text."""
        state, place = prev_state
        total = 0.0
        if word:
            total += self.beta
            if self.hotwords.words:
                earned, place = self.hotwords.step(place, word)
                total += earned
            if self.ngram:
                log_prob, state = self.ngram.score(state, word)
                total += self.alpha * log_prob
                if not self.ngram.knows(word) and word not in self.hotwords.words:
                    total += self._unknown(word)
        if is_last_word:
            total += self.hotwords.finish(place)
            if self.ngram:
                total += self.alpha * self.ngram.end(state)
        return total, (state, place)

    def score_partial_token(self, partial_token: str) -> float:
        """What the letters of a word that is not finished add."""
        earned = self.hotwords.partial(partial_token)
        if earned or self.ngram is None or self.ngram.begins(partial_token):
            return earned
        return self._unknown(partial_token)

    def _unknown(self, word: str) -> float:
        return self.unknown * max(1.0, len(word) / LONG_WORD)
