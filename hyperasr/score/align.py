"""A reference and a hypothesis -> one alignment of least errors, by rapidfuzz (C++).

Ties are broken as rapidfuzz does, and as jiwer therefore does. Words in common at the beginning
and at the end are paired. Between them, going from the end to the beginning, the next column is a
deletion if there is an alignment of least errors with one here; else a substitution, else an
insertion, else a correct word. So "a b" heard as "b c" is two substitutions, and of two words
heard as one the first was mistaken and the second left out.

Texts so long that all pairs of their words make more than `LARGE` are halved by rapidfuzz where an
alignment of least errors can be halved, and the rule holds in every part.
"""

from array import array
from collections.abc import Sequence
from dataclasses import replace

from rapidfuzz.distance import Editops, Levenshtein

from hyperasr.score.normalise import Normaliser
from hyperasr.score.result import AlignedWord, Counts, ScoredUtterance
from hyperasr.score.texts import Text, TimedWord

LARGE = 4_000_000
"""Pairs of words from which on rapidfuzz is helped to a band around the diagonal."""
LONG = 100_000
"""Letters from which on characters are compared piece by piece, cut amid `SURE` correct words."""
SURE = 20


def align(reference: Text, hypothesis: Text | None, normalise: Normaliser) -> ScoredUtterance:
    """One utterance, aligned; without a hypothesis all of its words are deletions."""
    heard = [] if hypothesis is None else spelled(hypothesis, normalise)
    words = align_words(normalise(reference.text), heard)
    return ScoredUtterance(
        reference.id,
        words,
        count_characters(words),
        missing=hypothesis is None,
        speaker=reference.speaker,
        source=reference.source,
        duration=reference.duration,
        audio=reference.audio or (hypothesis.audio if hypothesis else ""),
        offset=reference.offset,
    )


def spelled(text: Text, normalise: Normaliser) -> list[TimedWord]:
    """The words of a text as they are compared, with their times where those are known.

    The text is normalised as a whole, because "twenty" and "one" may become "21". A word that no
    single word of the file became has no time.
    """
    whole = normalise(text.text)
    if not text.words:
        return [TimedWord(word) for word in whole]
    timed = [replace(word, text=part) for word in text.words for part in normalise(word.text)]
    if [word.text for word in timed] == whole:
        return timed
    found = [TimedWord(word) for word in whole]
    for block in Levenshtein.opcodes([word.text for word in timed], whole):
        if block.tag == "equal":
            found[block.dest_start : block.dest_end] = timed[block.src_start : block.src_end]
    return found


def align_words(
    reference: Sequence[str], hypothesis: Sequence[TimedWord]
) -> tuple[AlignedWord, ...]:
    """Every word of both, in order, against a word of the other or against none."""
    aligned: list[AlignedWord] = []
    here = there = 0

    def correct(until: int) -> None:
        nonlocal here, there
        while here < until:
            aligned.append(_pair(reference[here], hypothesis[there]))
            here, there = here + 1, there + 1

    for edit in _edits(reference, [word.text for word in hypothesis]):
        correct(edit.src_pos)
        if edit.tag == "delete":
            aligned.append(AlignedWord(reference[here], None))
        else:
            aligned.append(
                _pair(None if edit.tag == "insert" else reference[here], hypothesis[there])
            )
            there += 1
        here += edit.tag != "insert"
    correct(len(reference))
    return tuple(aligned)


def _pair(reference: str | None, heard: TimedWord) -> AlignedWord:
    return AlignedWord(reference, heard.text, heard.start, heard.end, heard.confidence)


def _edits(reference: Sequence[str], hypothesis: Sequence[str]) -> Editops:
    """What turns the reference into the hypothesis."""
    longest = max(len(reference), len(hypothesis))
    hint = longest // 8 if len(reference) * len(hypothesis) > LARGE else None
    if isinstance(reference, str):
        return Levenshtein.editops(reference, hypothesis, score_hint=hint)
    numbers: dict[str, int] = {}  # words as numbers: rapidfuzz is then more than twice as fast
    first, second = (
        array("I", [numbers.setdefault(word, len(numbers)) for word in words])
        for words in (reference, hypothesis)
    )
    return Levenshtein.editops(first, second, score_hint=hint)


def count_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> Counts:
    """Words, or the letters of two strings, and what became of them."""
    kinds = [edit.tag for edit in _edits(reference, hypothesis)]
    substitutions, deletions = kinds.count("replace"), kinds.count("delete")
    correct = len(reference) - substitutions - deletions
    return Counts(correct, substitutions, deletions, kinds.count("insert"))


def count_characters(words: Sequence[AlignedWord]) -> Counts:
    """Errors by letters, one space between words counted as a letter.

    Long texts are cut amid many correct words in a row, so that a million words take seconds;
    what is found then is never less than the least number, and in practice the same.
    """
    total = Counts()
    for first, last in _pieces(words):
        piece = words[first:last]
        reference = " ".join(word.reference for word in piece if word.reference is not None)
        hypothesis = " ".join(word.hypothesis for word in piece if word.hypothesis is not None)
        total += count_errors(reference, hypothesis)
        if last < len(words):
            total += Counts(correct=1)  # the space between two correct words
    return total


def _pieces(words: Sequence[AlignedWord]) -> list[tuple[int, int]]:
    """Where a long text may be cut: between correct words, with many of them around."""
    if sum(len(word.reference or word.hypothesis or "") for word in words) < LONG:
        return [(0, len(words))]
    cuts, run = [0], 0
    for place, word in enumerate(words):
        run = run + 1 if word.reference == word.hypothesis else 0
        if run >= SURE and run % SURE == 0:
            cuts.append(place - SURE // 2)
    return list(zip(cuts, [*cuts[1:], len(words)], strict=True))
