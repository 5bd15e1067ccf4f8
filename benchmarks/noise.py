"""Words invented where nobody speaks: silence, white and pink noise, music, ten minutes of each.

    python benchmarks/noise.py --model hyperconformer-en

Prints words per hour in a table and one JSON line.
"""

import argparse
import json

import numpy as np
from rich.console import Console
from rich.table import Table

from hyperasr import runtime
from hyperasr.transcribe import Transcriber
from hyperasr.windows import WINDOW, cut, stitch, utterances

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="hyperconformer-en")
    parser.add_argument("--seconds", type=int, default=600)
    arguments = parser.parse_args()
    runtime.settle()
    transcriber = Transcriber.load(arguments.model)
    seconds = arguments.seconds
    sounds = {"silence": np.zeros(seconds * RATE, np.float32)}
    for name, slope in (("white", 0.0), ("pink", 0.5)):
        for level in (0.001, 0.01, 0.1):
            sounds[f"{name} noise, RMS {level}"] = noise(slope, level, seconds)
    sounds["music, RMS 0.1"] = music(0.1, seconds)
    table = Table(title=arguments.model)
    table.add_column("sound")
    table.add_column("words per hour", justify="right")
    rows = {}
    for name, samples in sounds.items():
        windows = cut(np.array_split(samples, max(1, len(samples) // WINDOW)))
        heard = utterances(stitch(transcriber.listen_to_all(windows)), transcriber.silent)
        words = sum(len(segment.words) for segment in transcriber.decode_all(heard))
        rows[name] = round(words * 3600 / seconds)
        table.add_row(name, str(rows[name]))
    Console().print(table)
    print(json.dumps({"benchmark": "noise", "model": arguments.model, "words_per_hour": rows}))


if __name__ == "__main__":
    main()
