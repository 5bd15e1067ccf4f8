"""Log-probabilities -> words with times and confidences. No torch here."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hyperasr.transcript import Word

BLANK = 0


def greedy(
    log_probs: NDArray[np.float32],
    labels: Sequence[str],
    frame_seconds: float = 0.04,
    offset: float = 0.0,
) -> tuple[Word, ...]:
    """The likeliest token of every frame, repeats merged and blanks removed (CTC best path).

    Takes (S, V) log-probabilities, frame s centred at `offset + s * frame_seconds` seconds.
    A word lasts from its first token's first frame to its last token's last frame; its
    confidence is the geometric mean of its tokens' best probabilities.
    """
    best = log_probs.argmax(axis=1)  # (S,)
    first = np.flatnonzero(np.diff(best, prepend=-1))  # where each run of one token starts
    last = np.append(first, len(best))[1:] - 1
    words: list[Word] = []
    letters: list[tuple[str, int, int, float]] = []

    def finish() -> None:
        text = "".join(letter for letter, *_ in letters)
        if text:
            start = offset + (letters[0][1] - 0.5) * frame_seconds
            end = offset + (letters[-1][2] + 0.5) * frame_seconds
            score = float(np.exp(np.mean([score for *_, score in letters])))
            words.append(Word(text, max(offset, start), end, min(1.0, score)))
        letters.clear()

    for a, b in zip(first.tolist(), last.tolist(), strict=True):
        token = int(best[a])
        if token == BLANK:
            continue
        label = labels[token]
        if label.startswith((" ", "▁")):
            finish()
        letter = label.lstrip(" ▁")
        if letter:
            letters.append((letter, a, b, float(log_probs[a : b + 1, token].max())))
    finish()
    return tuple(words)
