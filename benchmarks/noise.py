"""Words invented where nobody speaks: silence, white and pink noise, ten minutes of each.

    python benchmarks/noise.py --model hyperconformer-en

Prints words per hour in a table and one JSON line.
"""

import argparse
import json

import numpy as np
from rich.console import Console
from rich.table import Table

from hyperasr import decoder, runtime
from hyperasr.transcribe import Transcriber
from hyperasr.windows import WINDOW, cut, stitch

RATE = 16_000


def noise(slope: float, level: float, seconds: int) -> np.ndarray:
    """Gaussian noise whose amplitude falls with frequency to the power of `slope`."""
    rng = np.random.default_rng(0)
    spectrum = np.fft.rfft(rng.standard_normal(seconds * RATE))
    spectrum[1:] /= np.arange(1, len(spectrum)) ** slope
    samples = np.fft.irfft(spectrum)
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
    table = Table(title=f"{arguments.model}, greedy")
    table.add_column("sound")
    table.add_column("words per hour", justify="right")
    rows = {}
    for name, samples in sounds.items():
        windows = list(cut(np.array_split(samples, max(1, len(samples) // WINDOW))))
        log_probs = [transcriber.listen([window.samples])[0] for window in windows]
        spans = [(window.start, window.end) for window in windows]
        words = decoder.greedy(stitch(spans, log_probs), transcriber.labels)
        rows[name] = round(len(words) * 3600 / seconds)
        table.add_row(name, str(rows[name]))
    Console().print(table)
    print(json.dumps({"benchmark": "noise", "model": arguments.model, "words_per_hour": rows}))


if __name__ == "__main__":
    main()
