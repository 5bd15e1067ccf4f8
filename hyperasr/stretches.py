"""What of a recording is heard: the clips that somebody names, nothing that is perfectly silent.

blocks -> pieces, each with its place -> stretches without a gap -> windows
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from hyperasr.errors import ConfigError
from hyperasr.windows import FRAME, Window, cut

RATE = 16_000  # Hz
QUIET = 2**-15
"""No louder than the smallest step of 16 bits: nobody speaks."""

Waveform = NDArray[np.float32]
Clips = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class HearingOptions:
    """Which parts of a recording are to be heard."""

    clips: Clips = ()
    """Begin and end of each, seconds; none: all of it."""
    vad_filter: bool = False
    """Only stretches in which silero-vad finds speech."""
    vad_threshold: float = 0.5
    """How sure it has to be."""
    vad_min_silence: float = 2.0
    """Seconds without speech after which nothing is heard until there is some again."""

    def __post_init__(self) -> None:
        """Refuse what cannot be, naming the option of the command line."""
        if not 0 < self.vad_threshold < 1:
            raise ConfigError(f"--vad-threshold {self.vad_threshold:g} must be between 0 and 1")
        if not 0.1 <= self.vad_min_silence <= 60:
            raise ConfigError(
                f"--vad-min-silence {self.vad_min_silence:g} must be from 0.1 to 60 seconds"
            )

    def told(self) -> dict[str, str | float | None]:
        """What was asked for, for the transcript."""
        told: dict[str, str | float | None] = {}
        if self.clips:
            told["clip_timestamps"] = ",".join(
                f"{seconds:g}" for clip in self.clips for seconds in clip if seconds < math.inf
            )
        if self.vad_filter:
            told["vad_threshold"] = self.vad_threshold
            told["vad_min_silence"] = self.vad_min_silence
        return told


DEFAULT_HEARING = HearingOptions()


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of the samples of a recording."""

    start: int
    """Samples from the start of the recording."""
    samples: Waveform  # (N,) float32


def parse_clips(text: str) -> Clips:
    """Clips as whisper's users type them: "0,10.5,60" -> ((0.0, 10.5), (60.0, inf)).

    Raises ConfigError, one line.
    """
    numbers: list[float] = []
    for typed in text.split(","):
        try:
            numbers.append(float(typed))
        except ValueError:
            raise ConfigError(f"--clip-timestamps: {typed.strip()!r} is not a number") from None
        if not 0 <= numbers[-1] < math.inf:
            raise ConfigError(f"--clip-timestamps: {typed.strip()} is no time in a recording")
    for number, (before, after) in enumerate(pairwise(numbers)):
        if before > after or (before == after and number % 2 == 0):  # a clip of no length
            raise ConfigError(
                f"--clip-timestamps: {after:g} after {before:g}: START,END,START,END,... in order"
            )
    if len(numbers) % 2:
        numbers.append(math.inf)
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def clipped(blocks: Iterable[Waveform], clips: Clips) -> Iterator[Piece]:
    """Blocks of a recording -> those parts that lie within a clip, to the nearest FRAME.

    Reads no more blocks than it takes.
    """
    edges = [tuple(_nearest_frame(seconds) for seconds in clip) for clip in clips]
    start = 0
    for block in blocks:
        end = start + len(block)
        for first, last in edges:
            part = block[max(first - start, 0) : max(min(last, end) - start, 0)]
            if len(part):
                yield Piece(max(first, start), part)
        start = end
        if start >= edges[-1][1]:
            return


def _nearest_frame(seconds: float) -> int:
    return round(min(seconds, 1e12) * RATE / FRAME) * FRAME


def placed(blocks: Iterable[Waveform]) -> Iterator[Piece]:
    """Blocks of a recording, each with its place."""
    start = 0
    for block in blocks:
        yield Piece(start, block)
        start += len(block)


def stretches(pieces: Iterable[Piece]) -> Iterator[tuple[int, Iterator[Waveform]]]:
    """Pieces in order -> the start and the samples of each stretch that has no gap in it.

    As with `itertools.groupby`, a stretch has to be read before the next is asked for.
    """
    seen = 0

    def left_out(piece: Piece) -> int:
        """Samples before this piece that were in none."""
        nonlocal seen
        seen += len(piece.samples)
        return piece.start + len(piece.samples) - seen

    for _, group in groupby(pieces, left_out):
        stretch = iter(group)
        first = next(stretch)
        yield first.start, chain([first.samples], (piece.samples for piece in stretch))


def windows(pieces: Iterable[Piece]) -> Iterator[Window]:
    """Pieces in order -> windows of each stretch by itself, but for those that are silent."""
    for start, blocks in stretches(pieces):
        for window in cut(blocks):
            if window.samples.max() > QUIET or window.samples.min() < -QUIET:
                yield Window(start + window.start, window.samples)
