"""How far word starts and ends lie from the truth, on speech whose word times are known.

    python benchmarks/word_times.py [--model hyperconformer-en] [--text examples/bulletins.txt]

Every word is spoken by itself by flite (Debian package `flite`), its silence is cut off at 1 % of
its peak, and the words of a sentence are joined with 80 ms between: so every start and end is known
to a few milliseconds. Measured on the words that were heard right. Prints a table and one JSON
line.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein
from rich.console import Console
from rich.table import Table

from hyperasr import audio, runtime

GAP = 0.08
"""Seconds between words."""


@cache
def spoken(word: str, voice: str) -> NDArray[np.float32]:
    """One word at 16 kHz, without the silence around it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "word.wav"
        subprocess.run(["flite", "-voice", voice, "-t", word, "-o", str(path)], check=True)
        samples = np.concatenate(list(audio.blocks(path)))
    loud = np.flatnonzero(np.abs(samples) > 0.01 * np.abs(samples).max())
    return samples[loud[0] : loud[-1] + 1]


def sentence(words: list[str], voice: str) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The words one after the other, and (start, end) of each in seconds."""
    silence = np.zeros(int(GAP * audio.SAMPLE_RATE), np.float32)
    parts, times = [np.zeros(audio.SAMPLE_RATE // 2, np.float32)], []
    at = len(parts[0])
    for word in words:
        samples = spoken(word, voice)
        times.append((at, at + len(samples)))
        parts += [samples, silence]
        at += len(samples) + len(silence)
    parts.append(np.zeros(audio.SAMPLE_RATE // 2, np.float32))
    return np.concatenate(parts), np.array(times) / audio.SAMPLE_RATE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="hyperconformer-en")
    parser.add_argument("--text", type=Path, default=Path("examples/bulletins.txt"))
    parser.add_argument("--sentences", type=int, default=40)
    arguments = parser.parse_args()
    if not shutil.which("flite"):
        sys.exit("needs the program flite: apt-get install flite")
    runtime.settle()
    from hyperasr.checkpoint import load_checkpoint
    from hyperasr.transcribe import Transcriber

    tokens = load_checkpoint(arguments.model).tokens
    transcriber = Transcriber.load(arguments.model)
    lines = arguments.text.read_text(encoding="utf-8").splitlines()[: arguments.sentences]
    table = Table(title=f"{arguments.model}, error of word times in ms")
    for heading in ("voice", "words", "right", "start, median", "end, median", "start, 90 %"):
        table.add_column(heading, justify="right")
    rows = {}
    for voice in ("slt", "rms"):
        starts: list[float] = []
        ends: list[float] = []
        total = 0
        for line in lines:
            words = tokens.normalise(line).split()
            samples, times = sentence(words, voice)
            total += len(words)
            with tempfile.NamedTemporaryFile(suffix=".wav") as file:
                soundfile.write(file.name, samples, audio.SAMPLE_RATE)
                heard = transcriber(file.name).words
            for block in Levenshtein.opcodes(words, [word.text for word in heard]):
                if block.tag == "equal":
                    found = heard[block.dest_start : block.dest_end]
                    true = times[block.src_start : block.src_end]
                    starts += [
                        word.start - start for word, (start, _) in zip(found, true, strict=True)
                    ]
                    ends += [word.end - end for word, (_, end) in zip(found, true, strict=True)]
        start, end = 1000 * np.array(starts), 1000 * np.array(ends)
        rows[voice] = {
            "words": total,
            "right": len(start),
            "start_median_ms": round(float(np.median(np.abs(start)))),
            "end_median_ms": round(float(np.median(np.abs(end)))),
            "start_90_ms": round(float(np.quantile(np.abs(start), 0.9))),
            "start_bias_ms": round(float(np.median(start))),
            "end_bias_ms": round(float(np.median(end))),
        }
        table.add_row(voice, *map(str, list(rows[voice].values())[:5]))
    Console().print(table)
    print(json.dumps({"benchmark": "word_times", "model": arguments.model, "voices": rows}))


if __name__ == "__main__":
    main()
