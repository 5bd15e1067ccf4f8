"""Estimating an n-gram model: time and peak memory, and how far the result is from lmplz's.

    python benchmarks/ngram.py TEXT [--order 3] [--prune 0,0,1] [--lmplz PATH]

TEXT is plain text, one sentence a line, and is taken as it stands. Both programs read it and
write an ARPA file, one after the other; lmplz is left out where it is not on the PATH. Prints a
table and one JSON line.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from hyperasr.lm.arpa import read_arpa
from hyperasr.lm.model import NOWHERE, NGramModel, find, pack


def measure(command: list[str]) -> tuple[float, float]:
    """Seconds and peak megabytes of a command."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    _, said = process.communicate()
    if process.returncode:
        sys.exit(said.decode(errors="replace"))
    return time.perf_counter() - started, peak_of(said.decode(errors="replace"))


def peak_of(said: str) -> float:
    """Megabytes, from the last line a command said: `VmHWM: 123 kB` or lmplz's own figure."""
    words = said.replace(":", " ").split()
    name = "VmHWM" if "VmHWM" in words else "RSSMax"
    return int(words[words.index(name) + 1]) / 1024


def ours(text: str, output: str, order: int, prune: str) -> list[str]:
    """`hyperasr lm build` in a process that tells its own peak."""
    arguments = ["lm", "build", text, "-o", output, "--tokens", "none"]
    arguments += ["--order", str(order), "--prune", prune]
    code = (
        "import sys\n"
        "from hyperasr.cli import app\n"
        f"app({arguments!r}, standalone_mode=False)\n"
        "print(next(l for l in open('/proc/self/status') if 'VmHWM' in l), file=sys.stderr)\n"
    )
    return [sys.executable, "-c", code]


def largest_difference(mine: NGramModel, theirs: NGramModel) -> float:
    """Of all log10 probabilities and back-offs; words may be numbered differently."""
    if mine.counts != theirs.counts:
        sys.exit(f"not the same n-grams: {mine.counts} and {theirs.counts}")
    numbers = {word: number for number, word in enumerate(theirs.vocabulary)}
    words = rows = np.array([numbers[word] for word in mine.vocabulary])
    largest = 0.0
    for order, (here, there) in enumerate(zip(mine.grams, theirs.grams, strict=True), start=1):
        if order > 1:
            rows = find(there.keys, pack(rows[here.contexts], words[here.words]))
        if (rows == NOWHERE).any():
            sys.exit(f"not the same {order}-grams")
        for a, b in ((here.log_prob, there.log_prob), (here.backoff, there.backoff)):
            largest = max(largest, float(np.abs(a - b[rows]).max(initial=0)))
    return largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text")
    parser.add_argument("--order", type=int, default=3)
    parser.add_argument("--prune", default="0")
    parser.add_argument("--lmplz", default=shutil.which("lmplz"))
    options = parser.parse_args()
    prune = options.prune.replace(",", " ").split()
    results: dict[str, object] = {"order": options.order, "prune": options.prune}
    results["bytes"] = os.path.getsize(options.text)
    with tempfile.TemporaryDirectory() as folder:
        mine, theirs = f"{folder}/mine.arpa", f"{folder}/theirs.arpa"
        commands = {"hyperasr": ours(options.text, mine, options.order, options.prune)}
        if options.lmplz:
            commands["lmplz"] = [options.lmplz, "-o", str(options.order), "--prune", *prune]
            commands["lmplz"] += ["--skip_symbols", "--discount_fallback", "-S", "4G"]
            commands["lmplz"] += ["--text", options.text, "--arpa", theirs]
        for name, command in commands.items():
            seconds, peak = measure(command)
            results[name] = {"seconds": round(seconds, 1), "peak_mb": round(peak)}
        model = read_arpa(Path(mine))
        results["ngrams"] = model.counts
        if options.lmplz:
            results["largest_difference"] = largest_difference(model, read_arpa(Path(theirs)))
    show(results, list(commands))
    print(json.dumps(results))


def show(results: dict[str, object], programs: list[str]) -> None:
    table = Table("", "seconds", "peak MB")
    for name in programs:
        table.add_row(name, *(str(value) for value in results[name].values()))
    Console().print(table)
    if "largest_difference" in results:
        Console().print(f"largest difference: {results['largest_difference']:.1e} in log10")


if __name__ == "__main__":
    main()
