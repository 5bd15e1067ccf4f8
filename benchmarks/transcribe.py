"""The whole of `hyperasr transcribe`, greedy and with the model's own n-gram: times real time.

    python benchmarks/transcribe.py --manifest dev.jsonl [--model hyperconformer-en] [--threads 2]

Joins the recordings of a manifest to files of two minutes, 30 minutes in all, and transcribes them
in order, as the command does, reading included, loading the model left out. Each way
runs twice and the second time counts. Prints a table and one JSON line.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import soundfile
from rich.console import Console
from rich.table import Table

from hyperasr import audio, runtime
from hyperasr.manifest import read_manifest

FILE_SECONDS, FILES = 120, 15


def two_minutes(manifest: Path) -> Iterator[np.ndarray]:
    """Recordings of a manifest joined and cut, from the beginning again if they do not last."""
    held = np.zeros(0, np.float32)
    while True:
        for entry in read_manifest(manifest):
            held = np.concatenate([held, *audio.blocks(entry.audio)])
            while len(held) >= FILE_SECONDS * audio.SAMPLE_RATE:
                yield held[: FILE_SECONDS * audio.SAMPLE_RATE]
                held = held[FILE_SECONDS * audio.SAMPLE_RATE :]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="hyperconformer-en")
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    runtime.settle(arguments.threads)
    from hyperasr.decoding import DecodingOptions
    from hyperasr.transcribe import Transcriber

    table = Table(title=f"{arguments.model}, {arguments.threads} threads, times real time")
    for heading in ("compute type", "greedy", "n-gram"):
        table.add_column(heading, justify="right")
    rows: dict[str, dict[str, int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.wav" for number in range(FILES)]
        recordings = islice(two_minutes(arguments.manifest), FILES)
        for path, samples in zip(paths, recordings, strict=True):
            soundfile.write(path, samples, audio.SAMPLE_RATE)
        for compute_type in ("float32", "bfloat16"):
            rates = {}
            for name, options in (("greedy", DecodingOptions(beam_size=1)), ("n-gram", None)):
                transcriber = Transcriber.load(
                    arguments.model, "cpu", compute_type=compute_type, decoding=options
                )
                for _ in range(2):
                    started = time.perf_counter()
                    for found in transcriber.each(paths):
                        assert not isinstance(found, Exception)
                    seconds = time.perf_counter() - started
                rates[name] = round(FILES * FILE_SECONDS / seconds)
            rows[compute_type] = rates
            table.add_row(compute_type, *map(str, rates.values()))
    Console().print(table)
    print(json.dumps({"benchmark": "transcribe", "threads": arguments.threads, "rates": rows}))


if __name__ == "__main__":
    main()
