"""A score -> JSON, and aligned text as sclite's .pra has it. What people see is made elsewhere."""

import json
import unicodedata
from typing import Any

from hyperasr.score.result import (
    AlignedWord,
    Counts,
    Group,
    Interval,
    Score,
    ScoredUtterance,
)

SCHEMA_VERSION = 1
"""Of the JSON; raised when a field changes its meaning or goes away."""
DIGITS = 6
MARKS = {"correct": "", "substitution": "S", "deletion": "D", "insertion": "I"}


def to_json(score: Score) -> str:
    """Everything in a score, rates as fractions to six digits, null where one is not defined."""
    total = _group(score.total)
    del total["name"]
    document = {
        "schema_version": SCHEMA_VERSION,
        "normalizer": score.normaliser,
        "system": score.system,
        **total,
        "by": {by: [_group(found) for found in groups] for by, groups in score.groups.items()},
        "confusions": [[c.reference, c.hypothesis, c.count] for c in score.confusions],
        "most_deleted": [[found.reference, found.count] for found in score.deletions],
        "most_inserted": [[found.hypothesis, found.count] for found in score.insertions],
        "missing": list(score.missing),
        "extra": list(score.extra),
        "comparison": _comparison(score),
        "oracle": None if score.oracle is None else _rate("wer", score.oracle),
        "calibration": _calibration(score),
        "per_utterance": [_utterance(utterance) for utterance in score.utterances],
    }
    return json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n"


def _group(group: Group) -> dict[str, Any]:
    return {
        "name": group.name,
        "utterances": group.utterances,
        "wer": _rounded(group.words.rate),
        "wer_interval": _interval(group.interval),
        "cer": _rounded(group.characters.rate),
        "ser": _rounded(group.wrong / group.utterances if group.utterances else None),
        "words": _counts(group.words),
        "characters": _counts(group.characters),
        "wrong_utterances": group.wrong,
    }


def _counts(counts: Counts) -> dict[str, int]:
    return {
        "reference": counts.reference,
        "correct": counts.correct,
        "substitutions": counts.substitutions,
        "deletions": counts.deletions,
        "insertions": counts.insertions,
        "errors": counts.errors,
    }


def _rate(name: str, counts: Counts) -> dict[str, Any]:
    return {name: _rounded(counts.rate), **_counts(counts)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)


def _interval(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [round(interval.low, DIGITS), round(interval.high, DIGITS)]


def _comparison(score: Score) -> dict[str, Any] | None:
    found = score.comparison
    if found is None:
        return None
    return {
        "system": found.other,
        "total": _group(found.total),
        "difference": _rounded(found.difference),
        "difference_interval": _interval(found.interval),
        "better": _rounded(found.better),
        "missing": list(found.missing),
    }


def _calibration(score: Score) -> dict[str, Any] | None:
    if score.calibration is None:
        return None
    return {
        "ece": _rounded(score.calibration.ece),
        "bins": [
            {
                "low": found.low,
                "high": found.high,
                "words": found.count,
                "confidence": _rounded(found.confidence) if found.count else None,
                "accuracy": _rounded(found.accuracy) if found.count else None,
            }
            for found in score.calibration.bins
        ],
    }


def _utterance(utterance: ScoredUtterance) -> dict[str, Any]:
    counts = utterance.counts
    return {
        "id": utterance.id,
        "speaker": utterance.speaker,
        "source": utterance.source,
        "duration": utterance.duration,
        "missing": utterance.missing,
        **_rate("wer", counts),
        "alignment": [[word.reference, word.hypothesis] for word in utterance.words],
    }


def to_pra(score: Score) -> str:
    """Every utterance with its words one above the other, errors marked S, D and I.

    As sclite writes it, except that errors are not put in capitals: case may be one.
    """
    blocks = [f"System: {score.system}\nNormalizer: {score.normaliser}\n"]
    blocks += [_aligned(utterance) for utterance in score.utterances]
    return "\n".join(blocks)


def _aligned(utterance: ScoredUtterance) -> str:
    counts = utterance.counts
    scores = (counts.correct, counts.substitutions, counts.deletions, counts.insertions)
    said, heard, marks = _rows(utterance)
    missing = "\n(no hypothesis)" if utterance.missing else ""
    lines = [
        f"id: ({utterance.id})",
        f"Scores: (#C #S #D #I) {' '.join(map(str, scores))}{missing}",
        f"REF:  {' '.join(said)}".rstrip(),
        f"HYP:  {' '.join(heard)}".rstrip(),
        f"Eval: {' '.join(marks)}".rstrip(),
    ]
    return "\n".join(lines) + "\n"


def _rows(utterance: ScoredUtterance) -> list[list[str]]:
    """Reference, hypothesis and marks, each column as wide as its widest word."""
    columns = [_column(word) for word in utterance.words]
    return [list(row) for row in zip(*columns, strict=True)] or [[], [], []]


def _column(word: AlignedWord) -> tuple[str, str, str]:
    said, heard, mark = word.reference, word.hypothesis, MARKS[word.kind]
    width = max(_width(text) for text in (said or "", heard or ""))
    gap = "*" * width
    said, heard = (gap if text is None else text for text in (said, heard))
    return _padded(said, width), _padded(heard, width), _padded(mark, width)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _width(text: str) -> int:
    """Columns of a terminal: two for a wide character, none for a mark on another."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(map(bool, map(unicodedata.combining, text)))
