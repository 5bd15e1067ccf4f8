"""Blocks of waveform -> overlapping windows; their log-probabilities -> one stream -> utterances.

Every window is as long as the utterances the model was trained on and is heard by itself. Where
two windows overlap each keeps the half that lies further from its own edge, so what is kept was
heard with context on both sides.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

FRAME = 640
"""Samples from one encoder frame to the next: 40 ms at 16 kHz."""
WINDOW = 400 * FRAME
"""16 s, the piece of a long recording that the encoder hears at once."""
WHOLE = 500 * FRAME
"""20 s, up to which a recording, or the end of one, is heard in one piece."""
SHORTEST = 150 * FRAME
"""6 s, the least that the last window of a long recording lasts: it hears what it is about."""
STEP = 350 * FRAME
"""14 s from the start of one window to the start of the next."""
PAUSE = 18
"""Frames (0.72 s) without a word after which a new utterance starts."""
MARGIN = 8
"""Frames of silence (0.32 s) that are kept before and after an utterance."""
LONGEST = 375
"""Frames (15 s) that an utterance lasts at most."""


@dataclass(frozen=True, slots=True)
class Window:
    """A piece of a recording."""

    start: int
    """Samples from the start of the recording, a multiple of FRAME."""
    samples: NDArray[np.float32]  # (N,) float32, N at most WHOLE

    @property
    def end(self) -> int:
        """One past the last sample, from the start of the recording."""
        return self.start + len(self.samples)


def cut(blocks: Iterable[NDArray[np.float32]]) -> Iterator[Window]:
    """Blocks of a recording, in order -> its windows, in order; the last shorter or longer.

    Holds less than two windows and one block, however long the recording is.
    """
    held = np.zeros(0, np.float32)
    start = 0
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) >= STEP + WINDOW:
            yield Window(start, held[:WINDOW])
            held, start = held[STEP:], start + STEP
    if len(held) > WHOLE:
        yield Window(start, held[:WINDOW])
        on = min(STEP, (len(held) - SHORTEST) // FRAME * FRAME)
        held, start = held[on:], start + on
    if len(held):
        yield Window(start, held)


def stitch(
    heard: Iterable[tuple[Window, NDArray[np.float32]]],
) -> Iterator[NDArray[np.float32]]:
    """Windows in order, each with its (S, V) log-probabilities -> those of the recording, in parts.

    Holds one window.
    """
    begin = 0  # first frame of the recording that is still to be given
    before: tuple[int, int, NDArray[np.float32]] | None = None
    for window, rows in heard:
        if before is not None:
            start, end, held = before
            seam = (end + window.start) // 2 // FRAME
            yield held[begin - start // FRAME : seam - start // FRAME]
            begin = seam
        before = window.start, window.end, rows
    if before is not None:
        start, _, held = before
        yield held[begin - start // FRAME :]


@dataclass(frozen=True, slots=True)
class Utterance:
    """A stretch of speech between two pauses."""

    first: int
    """Its first frame, from the start of the recording."""
    log_probs: NDArray[np.float32]  # (S, V)
    encoded: NDArray[np.float32] | None = None
    """(S, D), what an attention decoder reads, where somebody will ask for it."""


def utterances(
    stream: Iterable[NDArray[np.float32]], silent: NDArray[np.bool_]
) -> Iterator[Utterance]:
    """Log-probabilities of a recording, in parts -> its stretches of speech, in order.

    `silent` (V,) says which tokens are no sound: the blank and the space between words; further
    columns than V are encoded frames. Speech is cut where nothing is said for PAUSE, and one that
    would be longer than LONGEST at its longest pause. Where it is cut does not depend on the size
    of the parts. Holds LONGEST and one part.
    """
    V = len(silent)
    held = np.zeros((0, V), np.float32)
    start = 0
    for part in chain(stream, [None]):
        if part is not None:
            held = np.concatenate([held, part]) if len(held) else part
        speech = ~silent[held[:, :V].argmax(axis=1)]  # (S,)
        while cut_at := _first_utterance(speech, ends=part is None):
            begin, end, rest = cut_at
            if begin < end:
                encoded = held[begin:end, V:] if held.shape[1] > V else None
                yield Utterance(start + begin, held[begin:end, :V], encoded)
            held, speech, start = held[rest:], speech[rest:], start + rest


def _first_utterance(speech: NDArray[np.bool_], ends: bool) -> tuple[int, int, int] | None:
    """Begin and end of the first utterance, and what comes after it; None to wait for more."""
    S = len(speech)
    where = np.flatnonzero(speech)
    if not len(where):
        rest = S if ends else S - MARGIN
        return (0, 0, rest) if rest > 0 else None
    begin = max(0, int(where[0]) - MARGIN)
    limit = begin + LONGEST
    gaps = np.diff(where, append=S + (PAUSE if ends else 0)) - 1  # silent frames after each
    pauses = np.flatnonzero((gaps >= PAUSE) & (where < limit))
    if len(pauses):
        end = min(S, limit, int(where[pauses[0]]) + 1 + MARGIN)
        return begin, end, end
    if not ends and limit + PAUSE > S:
        return None
    inside = np.flatnonzero(where < limit)[:-1]
    longest = inside[gaps[inside] == gaps[inside].max()][-1] if len(inside) else 0
    at = int(where[longest]) + 1 + int(gaps[longest]) // 2 if gaps[longest] else limit
    return begin, at, at
