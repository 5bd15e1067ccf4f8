"""Blocks of waveform -> windows; their log-probabilities -> one stream -> utterances.

A window is about as long as the utterances the model was trained on and is heard by itself. It ends
where the speaker pauses. Where nobody pauses two windows overlap, and each keeps the half of the
overlap that lies further from its own edge, so what is kept was heard with context on both sides.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

FRAME = 640
"""Samples from one encoder frame to the next: 40 ms at 16 kHz."""
WINDOW = 383 * FRAME
"""15 s, the most of a long recording that the encoder hears at once, in 384 frames."""
WHOLE = 511 * FRAME
"""20 s, up to which a recording is heard in one piece."""
SHORTEST = 50 * FRAME
"""2 s, the least that a window between two pauses lasts ..."""
LEAST = 125 * FRAME
"""5 s, the least that one lasts which begins or ends amid speech: it hears what it is about."""
STEP = 335 * FRAME
"""13 s from the start of a window to that of the next, where they overlap."""
AROUND = 50 * FRAME
"""2 s before and after a pause, in which somebody must be heard to be louder."""
HUSH = 0.4
"""Seconds that a pause lasts at least, for a window to end there ..."""
DEPTH = 20.0
"""... and how much quieter it is than what is around it, dB."""
NEVER = -30.0
"""The logarithm of no probability to speak of."""
TICK = 160
"""Samples (10 ms) that loudness is measured over."""
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
    """Blocks of a recording, in order -> its windows, in order.

    Where it is cut does not depend on the size of the blocks. Holds less than two windows and one
    block, however long the recording is.
    """
    held = np.zeros(0, np.float32)
    start = 0
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) > WINDOW + LEAST:
            window, on = _next_window(held, start)
            yield window
            held, start = held[on:], start + on
    while len(held) > (WINDOW if start else WHOLE):
        window, on = _next_window(held, start)
        yield window
        held, start = held[on:], start + on
    if len(held):
        yield Window(start, held)


def _next_window(held: NDArray[np.float32], start: int) -> tuple[Window, int]:
    """The first window of what is held, and how far on the next one starts."""
    end = _pause(held[: WINDOW + AROUND], latest=min(WINDOW, len(held) - SHORTEST))
    if end is not None:
        return Window(start, held[:end]), end
    return Window(start, held[:WINDOW]), min(STEP, (len(held) - LEAST) // FRAME * FRAME)


def _pause(samples: NDArray[np.float32], latest: int) -> int | None:
    """The middle of the longest pause from SHORTEST to `latest`: a sample, a multiple of FRAME.

    A pause is HUSH in which every 30 ms are DEPTH quieter than the loudest 30 ms around it.
    """
    ticks = samples[: len(samples) // TICK * TICK].reshape(-1, TICK)
    power = np.convolve(np.square(ticks).mean(axis=1), np.ones(3) / 3, "same")  # (N / TICK,)
    quiet = _loudest(power, round(HUSH / 2 * 16_000 / TICK))
    loud = _loudest(power, AROUND // TICK)
    paused = quiet * 10 ** (DEPTH / 10) < loud
    edges = np.flatnonzero(np.diff(paused, prepend=False, append=False))
    begins, ends = edges[::2] * TICK, edges[1::2] * TICK
    middles = (begins + ends) // 2 // FRAME * FRAME
    inside = (middles >= SHORTEST) & (middles <= latest)
    if not inside.any():
        return None
    return int(middles[np.where(inside, ends - begins, -1).argmax()])


def _loudest(power: NDArray[np.float32], reach: int) -> NDArray[np.float32]:
    """The largest of `power` within `reach` before and after each place."""
    padded = np.pad(power, reach, mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).max(axis=1)


def stitch(
    heard: Iterable[tuple[Window, NDArray[np.float32]]],
    space: int | None = None,
    vocabulary: int | None = None,
) -> Iterator[NDArray[np.float32]]:
    """Windows in order, each with its (S, V) log-probabilities -> those of the recording, in parts.

    Where a window ends at a pause the last frame is a `space` (its column): no word goes on from
    one window to the next, and none of them can hear that the word before has ended. Between
    windows that do not meet every frame is blank. Further columns than `vocabulary`, if there are
    any, are encoded frames. Holds one window.
    """
    begin = 0  # first frame of the recording that is still to be given
    before: tuple[int, int, NDArray[np.float32]] | None = None
    for window, rows in heard:
        if before is not None:
            start, end, held = before
            seam = -(-end // FRAME) if end < window.start else (end + window.start) // 2 // FRAME
            part = held[begin - start // FRAME : seam - start // FRAME]
            if end <= window.start and space is not None:
                part = part.copy()
                part[-1, :vocabulary] = NEVER
                part[-1, space] = 0.0
            yield part
            begin = seam
        nothing = np.zeros((WINDOW // FRAME, rows.shape[1]), np.float32)
        nothing[:, 1:vocabulary] = NEVER
        while begin < window.start // FRAME:
            yield nothing[: window.start // FRAME - begin]
            begin += min(len(nothing), window.start // FRAME - begin)
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
