"""Blocks of waveform -> overlapping windows; their log-probabilities -> one stream -> segments.

Every window is as long as the utterances the model was trained on and is heard by itself. Where
two windows overlap each keeps the half that lies further from its own edge, so what is kept was
heard with context on both sides.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hyperasr.transcript import Segment, Word

FRAME = 640
"""Samples from one encoder frame to the next: 40 ms at 16 kHz."""
WINDOW = 400 * FRAME
"""16 s, the longest piece of audio that the encoder hears at once."""
STEP = 350 * FRAME
"""14 s from the start of one window to the start of the next."""
LONGEST = 30.0
"""Seconds that a segment lasts at most, unless one word does."""
PAUSE = 0.7
"""Seconds without a word after which a new segment starts."""


@dataclass(frozen=True, slots=True)
class Window:
    """A piece of a recording."""

    start: int
    """Samples from the start of the recording, a multiple of FRAME."""
    samples: NDArray[np.float32]  # (N,) float32, N at most WINDOW

    @property
    def end(self) -> int:
        """One past the last sample, from the start of the recording."""
        return self.start + len(self.samples)


def cut(blocks: Iterable[NDArray[np.float32]]) -> Iterator[Window]:
    """Blocks of a recording, in order -> its windows, in order; the last moved back to be full.

    Holds less than two windows and one block, however long the recording is.
    """
    held = np.zeros(0, np.float32)
    start = 0
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) >= STEP + WINDOW:
            yield Window(start, held[:WINDOW])
            held, start = held[STEP:], start + STEP
    if len(held) > WINDOW:
        yield Window(start, held[:WINDOW])
        back = -(-(len(held) - WINDOW) // FRAME) * FRAME
        held, start = held[back:], start + back
    if len(held):
        yield Window(start, held)


def stitch(
    spans: Sequence[tuple[int, int]], log_probs: Sequence[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """(start, end) of each window and its (S, V) log-probabilities -> those of the recording."""
    seams = [(end + start) // 2 // FRAME for (_, end), (start, _) in pairwise(spans)]
    begins, ends = [0, *seams], [*seams, None]
    return np.concatenate(
        [
            rows[begin - start // FRAME : end and end - start // FRAME]
            for (start, _), rows, begin, end in zip(spans, log_probs, begins, ends, strict=True)
        ]
    )


def segments(words: Sequence[Word], pause: float = PAUSE) -> tuple[Segment, ...]:
    """Words in order -> segments that end where nobody speaks for `pause` seconds.

    One that would be longer than LONGEST is cut at the longest pause in it.
    """
    groups: list[list[Word]] = []
    for word in words:
        if groups and word.start - groups[-1][-1].end < pause:
            groups[-1].append(word)
        else:
            groups.append([word])
    whole = [part for group in groups for part in _cut_long(group)]
    return tuple(Segment(part[0].start, part[-1].end, tuple(part)) for part in whole)


def _cut_long(words: list[Word]) -> list[list[Word]]:
    done: list[list[Word]] = []
    waiting = [words]
    while waiting:
        part = waiting.pop()
        if part[-1].end - part[0].start <= LONGEST or len(part) == 1:
            done.append(part)
            continue
        gaps = [after.start - before.end for before, after in pairwise(part)]
        at = gaps.index(max(gaps)) + 1
        waiting += [part[at:], part[:at]]
    return done
