"""Confidences and whether they were right -> how far they can be believed."""

import numpy as np
from numpy.typing import NDArray

from hyperasr.score.result import Calibration, ReliabilityBin

BINS = 10
"""Ranges of confidence in a reliability table."""


def calibration(confidences: NDArray[np.float64], right: NDArray[np.bool_]) -> Calibration:
    """The words in ranges of confidence, lowest first, and the expected calibration error.

    A range holds its lower bound, the last one both.
    """
    which = np.minimum((confidences * BINS).astype(int), BINS - 1)
    bins = tuple(
        _bin(number, confidences[which == number], right[which == number]) for number in range(BINS)
    )
    total = sum(found.count * abs(found.confidence - found.accuracy) for found in bins)
    return Calibration(bins, total / max(1, len(confidences)))


def _bin(number: int, confidences: NDArray[np.float64], right: NDArray[np.bool_]) -> ReliabilityBin:
    low, high = number / BINS, (number + 1) / BINS
    if not len(confidences):
        return ReliabilityBin(low, high, 0, 0.0, 0.0)
    return ReliabilityBin(
        low, high, len(confidences), float(confidences.mean()), float(right.mean())
    )
