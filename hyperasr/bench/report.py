"""The whole measurement, in order, and its result as one JSON document."""

import os
import platform
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from hyperasr import __version__
from hyperasr.bench.lengths import Comparison, compare
from hyperasr.bench.measure import slope
from hyperasr.bench.stages import (
    Setup,
    Stage,
    Windowed,
    measure_stages,
    measure_windows,
    save_speech_like,
)
from hyperasr.encoder import Encoder


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured, in seconds of audio."""

    recording: int
    """Made up for the stages where no file is given."""
    lengths: tuple[int, ...]
    """Of one pass of either encoder."""
    windowed: tuple[int, ...]
    """Of recordings that are heard in windows."""
    budget: float = 6.0
    """Seconds of measuring time for each length of one pass."""
    together: bool = False
    """Whether the stages share a process."""


FULL = Plan(120, (5, 10, 20, 30, 60, 120, 300), (20, 60, 120, 300, 600))
QUICK = Plan(30, (10, 30, 60), (20, 60), budget=2.0, together=True)


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it was measured."""

    cpu: str
    cores: int
    threads: int
    device: str
    gpu: str | None
    system: str
    python: str
    torch: str


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was measured, and where."""

    machine: Machine
    model: str
    parameters: int
    batch_size: int
    compute_type: str
    beam_size: int | None
    """None: the model's own."""
    recording: str
    """The file, or "speech-like"."""
    stages: tuple[Stage, ...]
    comparison: Comparison
    windowed: tuple[Windowed, ...]
    took_seconds: float

    def as_json(self) -> dict[str, Any]:
        """What the command prints; see docs/commands.md."""
        lengths = [
            asdict(row)
            | {"time_ratio": row.time_ratio, "time_saved_percent": row.time_saved_percent}
            for row in self.comparison.lengths
        ]
        document = {
            "benchmark": "hyperasr bench",
            "version": __version__,
            "machine": asdict(self.machine),
            "model": self.model,
            "parameters": self.parameters,
            "batch_size": self.batch_size,
            "compute_type": self.compute_type,
            "beam_size": self.beam_size,
            "recording": self.recording,
            "stages": [asdict(stage) for stage in self.stages],
            "lengths": lengths,
            "growth_exponents": {
                f"{model}_{name}": self.comparison.exponent(model, quantity)
                for model in ("hyperconformer", "conformer")
                for name, quantity in (("time", "seconds"), ("memory", "peak_mib"))
            },
            "windowed": [asdict(row) for row in self.windowed],
            "windowed_growth_exponent": slope(
                [row.audio_seconds for row in self.windowed], [row.seconds for row in self.windowed]
            ),
            "notes": list(self.comparison.notes),
            "took_seconds": self.took_seconds,
        }
        rounded: dict[str, Any] = _rounded(document)
        return rounded


def measure(setup: Setup, plan: Plan, audio: Path | None, tell: Callable[[str], None]) -> Report:
    """Measure everything on this machine; `tell` hears what is being measured.

    Raises AudioError for a file that cannot be read, CheckpointError, ConfigError.
    """
    started = perf_counter()
    transcriber = replace(setup, beam_size=1).load()  # hears, but decodes nothing
    sizes = transcriber.encoder.config
    setup = replace(setup, compute_type=transcriber.compute_type)  # what "auto" came to
    with tempfile.TemporaryDirectory(prefix="hyperasr-bench-") as folder:
        recording = audio or save_speech_like(Path(folder) / "speech-like.wav", plan.recording)
        stages = measure_stages(setup, recording, tell, plan.together)
    tell("recordings in windows of 15 s")
    windowed = measure_windows(transcriber, plan.windowed)
    comparison = compare(sizes, setup, plan.lengths, tell, plan.budget)
    return Report(
        machine=machine(setup.device),
        model=transcriber.name,
        parameters=sum(p.numel() for p in Encoder(sizes).parameters()),
        batch_size=setup.batch_size,
        compute_type=setup.compute_type,
        beam_size=setup.beam_size,
        recording=str(audio) if audio else "speech-like",
        stages=tuple(stages),
        comparison=comparison,
        windowed=tuple(windowed),
        took_seconds=perf_counter() - started,
    )


def machine(device: str) -> Machine:
    """This one."""
    return Machine(
        cpu=_cpu_model(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        device=device,
        gpu=torch.cuda.get_device_name(device) if device.startswith("cuda") else None,
        system=platform.platform(terse=True),
        python=platform.python_version(),
        torch=torch.__version__,
    )


def _cpu_model() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _rounded(value: Any) -> Any:
    """Every number in a document to four significant digits; whole ones stay as they are."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value
