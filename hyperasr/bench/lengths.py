"""HyperConformer against Conformer: one whole pass over recordings of growing length.

Both have the sizes of one model and random weights, which take as long as trained ones; features
are left out. The two take turns in one process; memory is that of a process of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from hyperasr import runtime
from hyperasr.audio import SAMPLE_RATE
from hyperasr.bench.measure import (
    LONG,
    MIB,
    Peak,
    alternate,
    apart,
    free_memory,
    give_memory_back,
    keep_memory,
    slope,
    timed,
)
from hyperasr.bench.stages import Setup
from hyperasr.compute import prepare
from hyperasr.encoder import Encoder, EncoderConfig
from hyperasr.windows import FRAME

FRAMES_PER_SECOND = 100
USABLE = 0.7
"""Share of the free memory that a pass may take: others live here too."""
MIXERS: dict[str, Literal["hypermixing", "attention"]] = {
    "hyperconformer": "hypermixing",
    "conformer": "attention",
}


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass over one recording; features and weights are not counted."""

    seconds: float
    peak_mib: float


@dataclass(frozen=True, slots=True)
class Length:
    """Both models at one length; None where a pass was left out (a note says why)."""

    audio_seconds: int
    hyperconformer: Pass | None
    conformer: Pass | None

    @property
    def time_ratio(self) -> float | None:
        """How many times as long the Conformer takes."""
        if self.hyperconformer is None or self.conformer is None:
            return None
        return self.conformer.seconds / self.hyperconformer.seconds

    @property
    def time_saved_percent(self) -> float | None:
        """The share of the Conformer's time that the HyperConformer does not need."""
        return None if self.time_ratio is None else 100 * (1 - 1 / self.time_ratio)


@dataclass(frozen=True, slots=True)
class Comparison:
    """All lengths, and what was left out."""

    lengths: tuple[Length, ...]
    notes: tuple[str, ...]

    def exponent(self, model: str, quantity: str) -> float | None:
        """How `quantity` ("seconds", "peak_mib") of a model grows with the length: the k of n^k."""
        rows = [(row.audio_seconds, getattr(row, model)) for row in self.lengths]
        points = [(n, getattr(found, quantity)) for n, found in rows if found is not None]
        return slope([n for n, _ in points], [value for _, value in points])


def compare(
    sizes: EncoderConfig,
    setup: Setup,
    lengths: Sequence[int],
    tell: Callable[[str], None],
    budget: float = 8.0,
    free: Callable[[str], float] = free_memory,
) -> Comparison:
    """Time and memory of both at each length, in seconds; what does not fit in memory is left out.

    The turns at one length take `budget` seconds. A pass that takes longer than LONG takes no
    turns: it is timed where its memory is measured.
    """
    keep_memory()
    configs = {name: replace(sizes, mixer=mixer) for name, mixer in MIXERS.items()}
    encoders = {name: build(config, setup) for name, config in configs.items()}
    rows: list[Length] = []
    notes: list[str] = []
    for seconds in lengths:
        found: dict[str, Pass] = {}
        works: dict[str, Callable[[], float]] = {}
        for name, config in configs.items():
            tell(f"{name}, {seconds} s of audio")
            try:
                found[name], timed_well = _alone(config, setup, seconds, free)
            except MemoryError as error:
                notes.append(f"{name} at {seconds} s left out: {error}")
                continue
            if not timed_well:
                works[name] = _timed_pass(encoders[name], setup, seconds)
        for name, spent in alternate(works, rounds=21, budget=budget).items():
            found[name] = replace(found[name], seconds=spent)
        give_memory_back()  # the next pass in a process of its own may need it
        rows.append(Length(seconds, found.get("hyperconformer"), found.get("conformer")))
    return Comparison(tuple(rows), tuple(notes))


def _alone(
    config: EncoderConfig, setup: Setup, seconds: int, free: Callable[[str], float]
) -> tuple[Pass, bool]:
    """`first_pass` in a process of its own; raises MemoryError where it does not fit."""
    needed = memory_needed(config, seconds, setup.compute_type)
    available = free(setup.device)
    if needed > USABLE * available:
        raise MemoryError(f"takes about {needed / MIB:.0f} MiB, {available / MIB:.0f} are free")
    return apart(first_pass, config, setup, seconds)


def build(config: EncoderConfig, setup: Setup) -> Encoder:
    """An encoder of random weights, as the setup computes it."""
    torch.manual_seed(0)
    encoder, _ = prepare(Encoder(config).eval(), setup.compute_type, setup.device)
    return encoder


def noise(config: EncoderConfig, setup: Setup, seconds: int) -> tuple[Tensor, Tensor]:
    """Random features (1, T, M) of a recording and their number (1,)."""
    frames = seconds * FRAMES_PER_SECOND + 1
    features = torch.randn(1, frames, config.n_mels, generator=torch.Generator().manual_seed(0))
    return features.to(setup.device), torch.tensor([frames], device=setup.device)


def _timed_pass(encoder: Encoder, setup: Setup, seconds: int) -> Callable[[], float]:
    inputs = noise(encoder.config, setup, seconds)
    return timed(partial(encode, encoder, *inputs), setup.device)


@torch.inference_mode()
def encode(encoder: Encoder, features: Tensor, frames: Tensor) -> None:
    """One pass."""
    encoder(features, frames)


def first_pass(config: EncoderConfig, setup: Setup, seconds: int) -> tuple[Pass, bool]:
    """A pass in this process, after one over a second of audio, and whether it was timed well.

    It is when the pass takes longer than LONG: then a second one, in memory that the first has
    touched, gives the time.
    """
    runtime.settle(setup.threads)
    keep_memory()
    encoder = build(config, setup)
    _timed_pass(encoder, setup, 1)()
    run = _timed_pass(encoder, setup, seconds)
    peak = Peak(setup.device)
    spent, mib = run(), peak.mib()
    return (Pass(run(), mib), True) if spent > LONG else (Pass(spent, mib), False)


def memory_needed(config: EncoderConfig, seconds: int, compute_type: str) -> int:
    """About how many bytes a pass takes; what the allocator leaves in holes comes on top.

    Ten activations as wide as the feed-forward layer; attention holds its scores by distance
    (S, 2 S) per head before and after scaling, the bias (S, S) that is cut from them, and (S, S)
    of its own.
    """
    S = seconds * SAMPLE_RATE // FRAME
    numbers = 10 * S * config.d_ffn
    if config.mixer == "attention":
        numbers += 6 * config.n_heads * S * S
    return (2 if compute_type == "bfloat16" else 4) * numbers
