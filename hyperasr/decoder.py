"""Log-probabilities of an utterance -> words with times, confidences and alternatives.

    greedy      the likeliest token of every frame
    Decoder     beam search with an n-gram language model and hotwords

The search itself, and what it is told about words, is in `search.py`.
Times and confidences come from an alignment of the words that were chosen, so they are there with
a language model too. No torch here.
"""

import logging
import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyctcdecode.alphabet import Alphabet

from hyperasr.align import BLANK, align
from hyperasr.errors import ConfigError
from hyperasr.hotwords import Hotwords
from hyperasr.language_model import NGram
from hyperasr.search import Fusion, Search
from hyperasr.transcript import Alternative, Segment, Word

logging.getLogger("pyctcdecode").setLevel(logging.ERROR)

FRAME_SECONDS = 0.04
SURE_BLANK = np.log(0.99)
"""A frame whose blank is at least as likely says nothing; of a run of such frames one is kept."""
BEAM = 48
"""The beam size that the following three fit: each doubling of it makes the search wider ..."""
MAX_TOKENS = 8
"""... by two more tokens that are tried in a frame at most: flat ones would take minutes;"""
MIN_TOKEN = -6.0
"""... by 1 in the log-probability below which a token is not tried, unless it is the likeliest;"""
BEHIND = -8.0
"""... by 2 in what texts may be behind the best before they are given up."""


@dataclass(frozen=True, slots=True)
class DecoderSettings:
    """How to search; the weights are natural logarithms."""

    beam_size: int = BEAM
    """Texts that are followed at once; the more, the unlikelier the tokens that are tried."""
    alpha: float = 0.5
    """Weight of the language model."""
    beta: float = 0.5
    """Reward for each word."""
    unknown: float = -12.0
    """Reward for a word that the language model does not have."""
    nbest: int = 1
    """Alternatives that are kept at most; those far behind the best are none."""
    sure: float = 1.0
    doubt: float = 0.0
    """The log-odds that a word is right: `sure` times the sound's own log-odds, less `doubt`."""
    lead: float = 0.0
    tail: float = 0.0
    """Seconds that a word begins before its first token is heard and lasts after its last one."""

    def __post_init__(self) -> None:
        """Refuse numbers that search for nothing."""
        if self.beam_size < 1 or self.nbest < 1:
            raise ConfigError("beam_size and nbest must be at least 1")
        weights = (self.alpha, self.beta, self.unknown, self.sure, self.doubt)
        if not all(map(math.isfinite, weights)):
            raise ConfigError("alpha, beta, unknown, sure and doubt must be finite")
        if self.unknown > 0.0:
            raise ConfigError("unknown must not be positive: it is a penalty")
        if not (0.0 <= self.lead <= 1.0 and 0.0 <= self.tail <= 1.0):
            raise ConfigError("lead and tail must be from 0 to 1 second")


class Decoder:
    """Beam search over the labels of one model."""

    def __init__(
        self,
        labels: Sequence[str],
        encode: Callable[[str], Sequence[int]],
        settings: DecoderSettings | None = None,
        ngram: NGram | None = None,
        hotwords: Hotwords | None = None,
    ):
        self.labels = tuple(labels)
        self.encode = encode
        self.settings = settings or DecoderSettings()
        self.ngram = ngram
        self.hotwords = hotwords
        pieces = any(label.startswith("▁") for label in labels)
        self.markers = np.array([is_marker(label) for label in labels])  # (V,)
        weights = self.settings.alpha, self.settings.beta, self.settings.unknown
        fusion = Fusion(*weights, ngram, hotwords) if ngram or hotwords else None
        self._search = Search(Alphabet(list(labels), pieces), fusion)
        weakref.finalize(self, self._search.cleanup)  # it keeps the model in a global

    def with_settings(self, settings: DecoderSettings) -> "Decoder":
        """The same decoder, searching otherwise; the language model is shared."""
        return Decoder(self.labels, self.encode, settings, self.ngram, self.hotwords)

    def __call__(self, log_probs: NDArray[np.floating[Any]], first_frame: int = 0) -> Segment:
        """What is said in an utterance (S, V) that begins at a frame of the recording."""
        log_probs = np.nan_to_num(log_probs.astype(np.float32), nan=-np.inf, neginf=-np.inf)
        texts = self._texts(self._without_markers(log_probs))
        return self.segment(texts, log_probs, first_frame)

    def segment(
        self, texts: Sequence[Alternative], log_probs: NDArray[np.float32], first_frame: int = 0
    ) -> Segment:
        """The first of the texts, its words timed and weighed in an utterance (S, V)."""
        words = timed_words(texts[0].text.split(), log_probs, self.encode, self.labels, first_frame)
        words = tuple(replace(word, confidence=self._confidence(word.confidence)) for word in words)
        words = lengthened(words, self.settings.lead, self.settings.tail)
        start = first_frame * FRAME_SECONDS
        heard = self.hotwords.heard([word.text for word in words]) if self.hotwords else ()
        return Segment(
            words[0].start if words else start,
            words[-1].end if words else start + len(log_probs) * FRAME_SECONDS,
            words,
            tuple(texts) if self.settings.nbest > 1 else (),
            heard,
        )

    def _confidence(self, sound: float) -> float:
        """How likely a word is right whose sound alone has this probability."""
        log_odds = math.log(max(sound, 1e-9)) - math.log(max(1.0 - sound, 1e-9))
        against = self.settings.doubt - self.settings.sure * log_odds
        return 1.0 / (1.0 + math.exp(min(against, 700.0)))

    def _texts(self, log_probs: NDArray[np.float32]) -> list[Alternative]:
        """The best texts (1 to nbest of them), best first."""
        if self.settings.beam_size == 1 or not len(log_probs):
            words = greedy(log_probs, self.labels)
            return [Alternative(" ".join(word.text for word in words), 0.0)]
        wider = math.log2(self.settings.beam_size / BEAM)
        beams = self._search.run(
            _reduced(log_probs, max(2, round(MAX_TOKENS + 2 * wider))),
            self.settings.beam_size,
            min(BEHIND - 2 * wider, -1.0),
            min(MIN_TOKEN - wider, -1.0),
            prune_history=self.settings.nbest == 1,
        )
        return [Alternative(beam[0], float(beam[-1])) for beam in beams[: self.settings.nbest]]

    def _without_markers(self, log_probs: NDArray[np.float32]) -> NDArray[np.float32]:
        """A marker writes nothing: what it has of the probability goes to the blank."""
        if not self.markers.any():
            return log_probs
        usable = np.where(self.markers, -np.inf, log_probs)
        quiet = np.logaddexp.reduce(log_probs[:, self.markers], axis=1)  # (S,)
        usable[:, BLANK] = np.logaddexp(usable[:, BLANK], quiet)
        return usable


def _reduced(log_probs: NDArray[np.float32], tokens: int) -> NDArray[Any]:
    """(S, V) without frames that are surely blank, but for one of a run, and unlikely tokens."""
    blank = log_probs[:, BLANK] >= SURE_BLANK
    again = np.concatenate([[False], blank[1:] & blank[:-1]])
    kept = log_probs[~again]
    if kept.shape[1] > tokens:
        bound = np.partition(kept, -tokens, axis=1)[:, -tokens, None]
        kept = np.where(kept >= bound, kept, -np.inf)
    return kept


def timed_words(
    words: Sequence[str],
    log_probs: NDArray[np.float32],
    encode: Callable[[str], Sequence[int]],
    labels: Sequence[str],
    first_frame: int = 0,
) -> tuple[Word, ...]:
    """Words that were said in (S, V), with times and confidences, from their best alignment.

    A word lasts from its first token's first frame to its last token's last frame; its confidence
    is the geometric mean of its tokens' best probabilities. Where the tokens of `encode` do not
    fit into the frames (the search may have spelled a word with fewer), the words share them.
    """
    space = labels.index(" ") if " " in labels else None
    tokens: list[int] = []
    ends: list[int] = []  # one past the last token of each word
    spelled = [encode(word) for word in words]
    for letters in spelled:
        if tokens and space is not None:
            tokens.append(space)
        tokens += letters
        ends.append(len(tokens))
    found = align(log_probs, tokens) if all(spelled) else None
    if found is None:
        return _shared_evenly(words, log_probs, first_frame)
    first, last = found
    timed, begin = [], 0
    for word, end in zip(words, ends, strict=True):
        of_word = range(begin, end)
        best = [float(log_probs[first[i] : last[i] + 1, tokens[i]].max()) for i in of_word]
        start = (first_frame + int(first[begin]) - 0.5) * FRAME_SECONDS
        stop = (first_frame + int(last[end - 1]) + 0.5) * FRAME_SECONDS
        timed.append(Word(word, max(0.0, start), stop, math.exp(min(0.0, fmean(best)))))
        begin = end + (space is not None)
    return tuple(timed)


def lengthened(words: Sequence[Word], lead: float, tail: float) -> tuple[Word, ...]:
    """Words that begin `lead` seconds earlier and end `tail` later, as far as there is room.

    CTC says a token when it is sure of it, not as long as it lasts. Neighbours share the silence
    between them.
    """
    if not words or not lead + tail:
        return tuple(words)
    gaps = [max(0.0, after.start - before.end) for before, after in pairwise(words)]
    shares = [min(1.0, gap / (lead + tail)) for gap in gaps]  # of what would be taken of each gap
    return tuple(
        replace(word, start=max(0.0, word.start - lead * before), end=word.end + tail * after)
        for word, before, after in zip(words, [1.0, *shares], [*shares, 1.0], strict=True)
    )


def _shared_evenly(
    words: Sequence[str], log_probs: NDArray[np.float32], first_frame: int
) -> tuple[Word, ...]:
    """Words that last equally long, each as sure as the frames (S, V) are on the whole."""
    confidence = math.exp(min(0.0, float(log_probs.max(axis=1).mean())))
    edges = first_frame - 0.5 + np.linspace(0, len(log_probs), len(words) + 1)
    times = np.maximum(0.0, edges * FRAME_SECONDS).tolist()
    return tuple(
        Word(word, start, end, confidence)
        for word, start, end in zip(words, times[:-1], times[1:], strict=True)
    )


def is_marker(label: str) -> bool:
    """Whether a token is no text: <s>, </s>, <unk>."""
    return label.startswith("<") and label.endswith(">")


def greedy(
    log_probs: NDArray[np.floating[Any]], labels: Sequence[str], first_frame: int = 0
) -> tuple[Word, ...]:
    """The likeliest token of every frame, repeats merged and blanks removed (CTC best path).

    Takes (S, V) log-probabilities of frames from `first_frame` of the recording on. A word lasts
    from its first token's first frame to its last token's last frame; its confidence is the
    geometric mean of its tokens' best probabilities.
    """
    words = []
    for runs in _words_of_best_path(log_probs, labels):
        text = "".join(letter for letter, *_ in runs)
        start = (first_frame + runs[0][1] - 0.5) * FRAME_SECONDS
        end = (first_frame + runs[-1][2] + 0.5) * FRAME_SECONDS
        score = float(np.exp(np.mean([score for *_, score in runs])))
        words.append(Word(text, max(0.0, start), end, min(1.0, score)))
    return tuple(words)


def _words_of_best_path(
    log_probs: NDArray[np.floating[Any]], labels: Sequence[str]
) -> Iterator[list[tuple[str, int, int, float]]]:
    """For each word: letters, first frame, last frame and best log-probability of its tokens."""
    word: list[tuple[str, int, int, float]] = []
    frame = 0
    for token, run in groupby(log_probs.argmax(axis=1).tolist()):
        first, frame = frame, frame + len(list(run))
        if token == BLANK or is_marker(labels[token]):
            continue
        if labels[token].startswith((" ", "▁")) and word:
            yield word
            word = []
        if letter := labels[token].lstrip(" ▁"):
            word.append((letter, first, frame - 1, float(log_probs[first:frame, token].max())))
    if word:
        yield word
