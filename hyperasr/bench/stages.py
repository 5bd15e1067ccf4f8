"""Speed and memory of every stage of `transcribe.py`, measured where the flow calls it."""

import threading
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from hyperasr import audio, runtime
from hyperasr.audio import SAMPLE_RATE
from hyperasr.bench.measure import Peak, alternate, apart, timed, wait_for
from hyperasr.decoding import DecodingOptions
from hyperasr.errors import AudioError
from hyperasr.folder import DEFAULT_MODEL
from hyperasr.transcribe import BATCH_SIZE, Transcriber
from hyperasr.windows import cut, stitch, utterances

SHORTEST = 1.0
"""Seconds of a recording below which overheads are all there is to measure."""


@dataclass(frozen=True, slots=True)
class Setup:
    """The model that is measured, and how it runs; picklable, for processes of their own."""

    model: str = DEFAULT_MODEL
    device: str = "cpu"
    """As `runtime.choose_device` returns it: not "auto"."""
    threads: int = 0
    batch_size: int = BATCH_SIZE
    compute_type: str = "auto"
    beam_size: int | None = None
    """None: the model's own; 1: greedy."""

    def load(self) -> Transcriber:
        """The model, ready; raises CheckpointError, LanguageModelError or ConfigError."""
        runtime.settle(self.threads)
        decoding = DecodingOptions(beam_size=self.beam_size)
        return Transcriber.load(
            self.model, self.device, self.batch_size, self.compute_type, decoding
        )


@dataclass(frozen=True, slots=True)
class Stage:
    """What one stage takes for the whole recording."""

    stage: str
    seconds: float
    rtfx: float
    """Seconds of audio per second of work."""
    peak_mib: float
    """Above what the process held when the stage began, the model included."""


@dataclass(frozen=True, slots=True)
class Windowed:
    """A recording of some length, heard in windows as `transcribe` hears it."""

    audio_seconds: int
    seconds: float
    ms_per_audio_second: float


def measure_stages(
    setup: Setup, recording: Path, tell: Callable[[str], None], together: bool = False
) -> list[Stage]:
    """Every stage of transcribing a file, each in a process of its own, or all in one (`together`).

    One process is quicker, but only Linux forgets the peak of the stage before.

    Raises AudioError when the file cannot be read or is shorter than SHORTEST.
    """
    seconds = sum(map(len, audio.blocks(recording))) / SAMPLE_RATE
    if seconds < SHORTEST:
        raise AudioError(f"{seconds:.2f} s long: give at least {SHORTEST:.0f} s to measure")
    found: list[tuple[float, float]] = []
    for names in [list(STAGES)] if together else [[name] for name in STAGES]:
        tell(f"{', '.join(names)}: {seconds:.0f} s of audio")
        found += apart(run_stages, names, setup, recording)
    return [
        Stage(name, spent, seconds / spent, peak)
        for name, (spent, peak) in zip(STAGES, found, strict=True)
    ]


def run_stages(names: Sequence[str], setup: Setup, recording: Path) -> list[tuple[float, float]]:
    """(median seconds, peak MiB) of each stage, one after the other in this process."""
    transcriber = setup.load()
    transcriber.listener.hear(
        [np.zeros(SAMPLE_RATE, np.float32)]
    )  # the first call prepares kernels
    return [_run_stage(name, transcriber, recording) for name in names]


def _run_stage(name: str, transcriber: Transcriber, recording: Path) -> tuple[float, float]:
    watch = _Watch(transcriber)

    def run() -> float:
        watch.spent, watch.count = 0.0, 0
        STAGES[name](transcriber, recording, watch)
        return watch.spent

    return alternate({name: run}, rounds=3)[name], watch.peak_mib or 0.0


class _Watch:
    """Sums the time from each start to its stop; memory is that of the first time.

    Both may be called in several threads at once. They take what torch gives to the hooks of a
    module, and ignore it.
    """

    def __init__(self, transcriber: Transcriber):
        self.spent, self.count = 0.0, 0
        self.peak_mib: float | None = None
        self._device = str(transcriber.device)
        self._peak: Peak | None = None
        self._since = threading.local()
        self._lock = threading.Lock()

    def start(self, *_: object) -> None:
        wait_for(self._device)
        if self._peak is None:
            self._peak = Peak(self._device)
        self._since.clock = perf_counter()

    def stop(self, *_: object) -> None:
        wait_for(self._device)
        with self._lock:
            self.spent += perf_counter() - self._since.clock
            self.count += 1
        if self._peak is not None and self.peak_mib is None:
            self.peak_mib = self._peak.mib()


def _audio(transcriber: Transcriber, recording: Path, watch: _Watch) -> None:
    watch.start()
    for _ in cut(audio.blocks(recording)):
        pass
    watch.stop()


def _part(name: str, transcriber: Transcriber, recording: Path, watch: _Watch) -> None:
    """The module of that name, watched while the recording is heard; nothing is decoded beside.

    Threads work at once, a batch each: their time is shared out. Memory is that of one batch, heard
    before the others by itself.
    """
    module = getattr(transcriber, name)
    hooks = (
        module.register_forward_pre_hook(watch.start),
        module.register_forward_hook(watch.stop),
    )
    if watch.peak_mib is None:
        windows = islice(cut(audio.blocks(recording)), transcriber.batch_size)
        transcriber.listener.hear([window.samples for window in windows])
    for _ in transcriber.listen_to_all(cut(audio.blocks(recording))):
        pass
    watch.spent /= min(transcriber.workers, watch.count)
    for hook in hooks:
        hook.remove()


def _decoder(transcriber: Transcriber, recording: Path, watch: _Watch) -> None:
    heard = list(transcriber.listen_to_all(cut(audio.blocks(recording))))
    watch.start()
    for _ in transcriber.decode_all(utterances(stitch(heard), transcriber.silent)):
        pass
    watch.stop()


def _transcribe(transcriber: Transcriber, recording: Path, watch: _Watch) -> None:
    watch.start()
    transcriber(recording)
    watch.stop()


STAGES: dict[str, Callable[[Transcriber, Path, _Watch], None]] = {
    "audio": _audio,
    "features": partial(_part, "features"),
    "encoder": partial(_part, "encoder"),
    "decoder": _decoder,
    "transcribe": _transcribe,
}
"""In the order of the flow; the last is all of it."""


def measure_windows(transcriber: Transcriber, lengths: Sequence[int]) -> list[Windowed]:
    """Features and encoder of recordings of so many seconds, in batches of windows.

    Says whether a second costs the same in a long recording as in a short one.
    """
    device = str(transcriber.device)
    works = {str(n): timed(partial(_hear, transcriber, noise(n)), device) for n in lengths}
    times = alternate(works, rounds=3, budget=15.0)
    return [Windowed(n, times[str(n)], 1000 * times[str(n)] / n) for n in lengths]


def _hear(transcriber: Transcriber, samples: NDArray[np.float32]) -> None:
    for _ in transcriber.listen_to_all(cut([samples])):
        pass


def noise(seconds: int) -> NDArray[np.float32]:
    """(N,) of quiet noise, the same at every call."""
    rng = np.random.default_rng(0)
    return rng.standard_normal(seconds * SAMPLE_RATE, dtype=np.float32) * np.float32(0.1)


def speech_like(seconds: int) -> NDArray[np.float32]:
    """(N,) with the rhythm, pitch and formants of speech but no words, the same at every call."""
    N, syllable = min(seconds, 30) * SAMPLE_RATE, SAMPLE_RATE // 5
    rng = np.random.default_rng(0)
    grid, samples = np.arange(0, N + syllable, syllable), np.arange(N)

    def glide(low: float, high: float) -> NDArray[np.float64]:
        """(N,) from one random value per syllable to the next."""
        return np.interp(samples, grid, rng.uniform(low, high, len(grid)))

    pitch = glide(90, 200)  # Hz
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    formants = [glide(300, 800), glide(900, 2300), glide(2400, 3000)]  # Hz
    voice = np.zeros(N)
    for harmonic in range(1, 20):
        gain = sum(1 / (1 + ((harmonic * pitch - formant) / 100) ** 2) for formant in formants)
        voice += gain * np.sin(harmonic * phase)
    spoken = np.repeat(rng.random(len(grid)) < 0.85, syllable)[:N]  # the rest are pauses
    voice *= spoken * np.sin(np.pi * samples / syllable) ** 2
    voice += 0.05 * rng.standard_normal(N)
    return np.resize(0.3 * voice / np.abs(voice).max(), seconds * SAMPLE_RATE).astype(np.float32)


def save_speech_like(path: Path, seconds: int) -> Path:
    """A WAV file of it, 16 bits."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((speech_like(seconds) * 32767).astype("<i2").tobytes())
    return path
