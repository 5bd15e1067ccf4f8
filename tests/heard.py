"""A stand-in for the encoder: what a model hears when a text is said."""

from collections.abc import Sequence

import numpy as np


def spelled(
    text: str,
    labels: Sequence[str],
    doubts: dict[int, tuple[str, float]] | None = None,
    sure: float = 0.97,
    frames: int = 3,
) -> np.ndarray:
    """Log-probabilities (S, V) as of a model that hears `text`: a letter, then blanks, and so on.

    `doubts` says how likely another letter is in the place of one: {16: ("o", 0.4)}.
    """
    rows = np.full((len(text) * frames, len(labels)), 0.001 / len(labels))
    rows[:, 0] = 0.999
    for place, letter in enumerate(text):
        said = rows[place * frames]
        said[:] = (1 - sure) / len(labels)
        other, share = (doubts or {}).get(place, (letter, 0.0))
        said[labels.index(other)] = sure * share
        said[labels.index(letter)] = sure * (1 - share)
    return np.log(rows / rows.sum(axis=1, keepdims=True)).astype(np.float32)
