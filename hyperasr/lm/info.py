"""What there is to know about an ARPA file."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hyperasr.lm.model import SPECIAL, NGramModel


@dataclass(frozen=True, slots=True)
class Info:
    """A model and the file it is in."""

    order: int
    counts: tuple[int, ...]  # n-grams of each order
    letter_case: str
    size: int  # bytes
    sha256: str


def describe(model: NGramModel, path: Path) -> Info:
    """Look at a model that was read from `path`."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return Info(
        order=model.order,
        counts=model.counts,
        letter_case=letter_case(model.vocabulary),
        size=path.stat().st_size,
        sha256=digest.hexdigest(),
    )


def letter_case(vocabulary: Iterable[str]) -> str:
    """'lower', 'upper' or 'mixed'; 'none' for words of a script without capitals."""
    words = [word for word in vocabulary if word not in SPECIAL and word.lower() != word.upper()]
    lower, upper = all(map(str.islower, words)), all(map(str.isupper, words))
    if not words:
        return "none"
    return "lower" if lower else "upper" if upper else "mixed"
