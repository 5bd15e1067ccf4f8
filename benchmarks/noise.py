"""Words invented where nobody speaks: silence, white and pink noise, music, an hour of each.

    python benchmarks/noise.py --model hyperconformer-en

Prints words per hour, without and with the voice activity filter, in a table and one JSON line.
"""

import argparse
import json
from collections.abc import Callable
from functools import partial

import numpy as np
from rich.console import Console
from rich.table import Table

from hyperasr import runtime
from hyperasr.stretches import HearingOptions
from hyperasr.transcribe import Transcriber

RATE = 16_000


def noise(slope: float, level: float, seconds: int) -> np.ndarray:
    """Gaussian noise whose amplitude falls with frequency to the power of `slope`."""
    rng = np.random.default_rng(0)
    spectrum = np.fft.rfft(rng.standard_normal(seconds * RATE))
    spectrum[1:] /= np.arange(1, len(spectrum)) ** slope
    samples = np.fft.irfft(spectrum)
    return (level * samples / samples.std()).astype(np.float32)


def music(level: float, seconds: int) -> np.ndarray:
    """Chords of a plucked instrument, two a second, over a slow bass."""
    rng = np.random.default_rng(0)
    time = np.arange(RATE // 2) / RATE
    fade = np.exp(-3 * time)
    beats = []
    for _ in range(2 * seconds):
        pitches = 220 * 2 ** (rng.choice([0, 2, 4, 5, 7, 9, 11, 12], 3) / 12)
        chord = sum(
            np.sin(2 * np.pi * k * pitch * time) / k for pitch in pitches for k in range(1, 6)
        )
        beats.append(chord * fade + np.sin(2 * np.pi * 55 * time))
    samples = np.concatenate(beats)
    return (level * samples / samples.std()).astype(np.float32)


def invented(transcriber: Transcriber, samples: np.ndarray) -> int:
    """How many words a model hears in it."""
    blocks = np.array_split(samples, max(1, len(samples) // (30 * RATE)))
    segments = transcriber.decode_all(transcriber.hear_blocks(blocks))
    return sum(len(segment.words) for segment in segments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="hyperconformer-en")
    parser.add_argument("--seconds", type=int, default=3600)
    arguments = parser.parse_args()
    runtime.settle()
    seconds = arguments.seconds
    sounds: dict[str, Callable[[], np.ndarray]] = {
        "silence": partial(np.zeros, seconds * RATE, np.float32)
    }
    for name, slope in (("white", 0.0), ("pink", 0.5)):
        for level in (0.001, 0.01, 0.1):
            sounds[f"{name} noise, RMS {level}"] = partial(noise, slope, level, seconds)
    sounds["music, RMS 0.1"] = partial(music, 0.1, seconds)
    plain = Transcriber.load(arguments.model)
    filtered = Transcriber.load(arguments.model, hearing=HearingOptions(vad_filter=True))
    table = Table(title=f"{arguments.model}: words per hour")
    for heading in ("sound", "heard whole", "--vad-filter"):
        table.add_column(heading, justify="left" if heading == "sound" else "right")
    rows: dict[str, dict[str, int]] = {"whole": {}, "vad_filter": {}}
    for name, make in sounds.items():
        samples = make()
        for kind, transcriber in (("whole", plain), ("vad_filter", filtered)):
            rows[kind][name] = round(invented(transcriber, samples) * 3600 / seconds)
        table.add_row(name, str(rows["whole"][name]), str(rows["vad_filter"][name]))
    Console().print(table)
    print(json.dumps({"benchmark": "noise", "model": arguments.model, "words_per_hour": rows}))


if __name__ == "__main__":
    main()
