"""Aligned utterances -> rates, their confidence intervals, what goes wrong most often."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyperasr.errors import TextError
from hyperasr.score.calibration import calibration
from hyperasr.score.result import (
    AlignedWord,
    Calibration,
    Comparison,
    Confusion,
    Counts,
    Group,
    Interval,
    ScoredUtterance,
)

RESAMPLES = 1000
SEED = 0
QUANTILES = (0.025, 0.975)
BLOCK = 1_000_000
"""Numbers that are drawn at once."""

KEPT = 100
"""Confusions, deletions and insertions that are kept of each."""

BUCKETS = (2.0, 5.0, 10.0, 20.0)
"""Seconds between which durations are put together."""


class Tally(NamedTuple):
    """Of one utterance."""

    words: Counts
    characters: Counts


Numbers = NDArray[np.int64]


def tally(utterances: Iterable[ScoredUtterance]) -> list[Tally]:
    """The counts of every utterance: its words are many and are gone through once."""
    return [Tally(utterance.counts, utterance.characters) for utterance in utterances]


def group(name: str, tallies: Sequence[Tally]) -> Group:
    """Rates of utterances together."""
    words = _sum(found.words for found in tallies)
    rows = np.array([(t.words.errors, t.words.reference) for t in tallies], np.int64)
    return Group(
        name,
        len(tallies),
        words,
        _sum(found.characters for found in tallies),
        sum(found.words.errors > 0 for found in tallies),
        interval(rows.reshape(-1, 2)) if words.reference else None,
    )


def _sum(counts: Iterable[Counts]) -> Counts:
    rows = [(c.correct, c.substitutions, c.deletions, c.insertions) for c in counts]
    return Counts(*map(sum, zip(*rows, strict=True)))


def interval(rows: Numbers) -> Interval | None:
    """Where the WER of (errors, words) of every utterance lies; None for fewer than two."""
    if len(rows) < 2:
        return None
    drawn = resampled(rows)
    return _between(drawn[:, 0], drawn[:, 1])


def _between(errors: Numbers, words: Numbers) -> Interval:
    """Of resamples without a single word there is no rate."""
    some = words > 0
    low, high = np.quantile(errors[some] / words[some], QUANTILES)
    return Interval(float(low), float(high))


def resampled(rows: Numbers) -> Numbers:
    """(N, F) -> sums (RESAMPLES, F) over N rows drawn with replacement, the same every time.

    Equal rows are drawn together: how often each kind comes is a multinomial draw, so the time
    depends on how many kinds there are and not on N.
    """
    kinds, counts = np.unique(rows, axis=0, return_counts=True)  # (K, F), (K,)
    random = np.random.default_rng(SEED)
    step = max(1, BLOCK // len(kinds))
    blocks = [
        random.multinomial(len(rows), counts / len(rows), min(step, RESAMPLES - done)) @ kinds
        for done in range(0, RESAMPLES, step)
    ]
    return np.concatenate(blocks)  # (RESAMPLES, F)


def groups(
    utterances: Sequence[ScoredUtterance], tallies: Sequence[Tally]
) -> Mapping[str, tuple[Group, ...]]:
    """By speaker, source and duration, each where some utterance knows it."""
    keys: dict[str, Callable[[ScoredUtterance], str]] = {
        "speaker": lambda utterance: utterance.speaker,
        "source": lambda utterance: utterance.source,
        "duration": lambda utterance: bucket(utterance.duration),
    }
    found = {}
    for by, key in keys.items():
        members: dict[str, list[Tally]] = {}
        for utterance, counted in zip(utterances, tallies, strict=True):
            members.setdefault(key(utterance), []).append(counted)
        if set(members) == {""}:
            continue
        order = [bucket(edge) for edge in (0.0, *BUCKETS)] if by == "duration" else []
        names = sorted(
            members,
            key=lambda name: (name == "", order and name in order and order.index(name), name),
        )
        found[by] = tuple(group(name or "unknown", members[name]) for name in names)
    return found


def bucket(duration: float | None) -> str:
    """3.2 -> "2 to 5 s"; "" where the duration is not known."""
    if duration is None:
        return ""
    number = int(np.searchsorted(BUCKETS, duration, side="right"))
    if number == len(BUCKETS):
        return f"from {BUCKETS[-1]:g} s"
    return f"{(0.0, *BUCKETS)[number]:g} to {BUCKETS[number]:g} s"


def compare(
    name: str, ours: Sequence[Tally], theirs: Sequence[Tally], missing: tuple[str, ...] = ()
) -> Comparison:
    """Two systems on the same utterances, which are drawn together for both."""
    total, words = group(name, theirs), sum(found.words.reference for found in ours)
    if not words:
        raise TextError("without words in the references two systems cannot be compared")
    rows = [
        (a.words.errors, b.words.errors, a.words.reference)
        for a, b in zip(ours, theirs, strict=True)
    ]
    drawn = resampled(np.array(rows, np.int64))
    fewer = drawn[:, 1] - drawn[:, 0]
    better = float((fewer > 0).mean() + (fewer == 0).mean() / 2)
    difference = sum(a - b for a, b, _ in rows) / words
    return Comparison(name, total, difference, _between(-fewer, drawn[:, 2]), better, missing)


def most_frequent(
    utterances: Iterable[ScoredUtterance],
) -> tuple[tuple[Confusion, ...], tuple[Confusion, ...], tuple[Confusion, ...]]:
    """Confusions, deletions and insertions, the most frequent of each first."""
    counts = Counter(
        (word.reference, word.hypothesis)
        for utterance in utterances
        for word in utterance.words
        if word.reference != word.hypothesis
    )
    ranked = sorted(
        (Confusion(said or "", heard or "", count) for (said, heard), count in counts.items()),
        key=lambda found: (-found.count, found.reference, found.hypothesis),
    )
    return (
        tuple(found for found in ranked if found.reference and found.hypothesis)[:KEPT],
        tuple(found for found in ranked if not found.hypothesis)[:KEPT],
        tuple(found for found in ranked if not found.reference)[:KEPT],
    )


def confidences(words: Iterable[AlignedWord]) -> Calibration | None:
    """How far the confidences can be believed; None where there are none."""
    sure = [
        (word.confidence, word.kind == "correct")
        for word in words
        if word.hypothesis is not None and word.confidence is not None
    ]
    if not sure:
        return None
    values, right = zip(*sure, strict=True)
    return calibration(np.array(values), np.array(right))
