"""HyperConformer against Conformer: time and peak memory of one pass, at growing lengths.

    python benchmarks/encoder.py [--model-size 8m] [--seconds 5 10 20 30 60 120] [--threads 1]

The two alternate in one run, after a warm-up; the table shows medians. Every measurement of
memory is a process of its own, because a process's peak never falls. Prints a table and one
JSON line.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from hyperasr import runtime
from hyperasr.encoder import CONFIGS, Encoder
from hyperasr.features import LogMel

RATE = 16_000


def build(name: str) -> Encoder:
    torch.manual_seed(0)
    return Encoder(CONFIGS[name]).eval()


@torch.inference_mode()
def once(encoder: Encoder, seconds: int) -> float:
    """Seconds of time for one waveform of noise, feature extraction left out."""
    samples = torch.randn(1, seconds * RATE, generator=torch.Generator().manual_seed(seconds))
    features, frames = LogMel()(samples, torch.tensor([samples.shape[1]]))
    started = time.perf_counter()
    encoder(features, frames)
    return time.perf_counter() - started


def peak_megabytes(name: str, seconds: int, threads: int) -> float:
    """Peak resident memory of one pass above that of the loaded model, in a fresh process."""
    command = [sys.executable, __file__, "--peak", name, str(seconds), str(threads)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def report_peak(name: str, seconds: int, threads: int) -> None:
    torch.set_num_threads(threads)
    encoder = build(name)
    once(encoder, 1)
    before = peak_kilobytes()
    once(encoder, seconds)
    print((peak_kilobytes() - before) / 1024)


def peak_kilobytes() -> int:
    """This process's own peak; getrusage would count its parent's before the exec."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model-size", choices=["8m", "22m"], default="8m")
    parser.add_argument("--seconds", type=int, nargs="+", default=[5, 10, 20, 30, 60, 120])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        name, seconds, threads = arguments.peak
        report_peak(name, int(seconds), int(threads))
        return
    runtime.settle(arguments.threads)
    names = [f"{kind}-{arguments.model_size}" for kind in ("hyperconformer", "conformer")]
    encoders = {name: build(name) for name in names}
    rows = []
    for seconds in arguments.seconds:
        times: dict[str, list[float]] = {name: [] for name in names}
        for turn in range(arguments.repeats + 1):  # the first turn warms up
            for name in names:
                spent = once(encoders[name], seconds)
                if turn:
                    times[name].append(spent)
        hyper, conformer = (statistics.median(times[name]) for name in names)
        memory = [peak_megabytes(name, seconds, arguments.threads) for name in names]
        rows.append(
            {
                "seconds": seconds,
                "hyperconformer_s": round(hyper, 4),
                "conformer_s": round(conformer, 4),
                "ratio": round(conformer / hyper, 2),
                "hyperconformer_mb": round(memory[0]),
                "conformer_mb": round(memory[1]),
            }
        )
    table = Table(title=f"{names[0]} against {names[1]}, {arguments.threads} thread(s), float32")
    for heading in ("audio s", "HyperConformer s", "Conformer s", "ratio", "peak MB", "peak MB"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console().print(table)
    print(json.dumps({"benchmark": "encoder", "threads": arguments.threads, "rows": rows}))


if __name__ == "__main__":
    main()
