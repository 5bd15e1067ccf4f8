"""Word errors between a reference and a hypothesis, by Levenshtein distance over words."""

from collections.abc import Iterable
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein


@dataclass(frozen=True, slots=True)
class ErrorCount:
    """How many errors against how many reference words (or characters)."""

    errors: int
    reference: int

    @property
    def rate(self) -> float:
        """Errors per reference unit; infinite when there are errors and nothing to find."""
        if self.reference:
            return self.errors / self.reference
        return float("inf") if self.errors else 0.0


def word_errors(pairs: Iterable[tuple[str, str]]) -> ErrorCount:
    """Errors over (reference, hypothesis) texts, summed over all of them."""
    errors = reference = 0
    for expected, heard in pairs:
        words = expected.split()
        errors += Levenshtein.distance(words, heard.split())
        reference += len(words)
    return ErrorCount(errors, reference)
