"""Peak memory of `hyperasr transcribe` on a recording of ten hours and on one of ten minutes.

    python benchmarks/memory.py

Makes both of the example recording, over and over, with pauses of 0.3 to 3 s and now and then one
of a minute. Memory is the largest resident set of one process, as the kernel keeps it, and what all
processes hold of their own (anonymous pages, those that several share counted once), read twice
a second. Prints a table and one JSON line. Linux only.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import soundfile
from rich.console import Console
from rich.table import Table

RATE = 16_000
EXAMPLE = Path(__file__).parents[1] / "examples" / "morning.flac"


def record(path: Path, seconds: float) -> Path:
    """Speech and pauses, as FLAC, written piece by piece."""
    speech, _ = soundfile.read(EXAMPLE, dtype="float32")
    rng = np.random.default_rng(0)
    left = round(seconds * RATE)
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        while left:
            pause = 60.0 if rng.random() < 0.02 else rng.uniform(0.3, 3.0)
            hiss = 0.001 * rng.standard_normal(round(pause * RATE))
            for part in (rng.uniform(0.3, 1.0) * speech, hiss):
                file.write(part[:left].astype(np.float32))
                left -= len(part[:left])
    return path


def family(root: int) -> set[int]:
    """A process and all that came from it."""
    found, waiting = set(), [root]
    while waiting:
        process = waiting.pop()
        found.add(process)
        for children in Path(f"/proc/{process}/task").glob("*/children"):
            waiting += map(int, children.read_text().split())
    return found


def shared_out(process: int) -> int:
    """KiB that a process holds, what several share divided among them; 0 once it has ended."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss_Anon:"))


def measure(path: Path, options: list[str]) -> tuple[float, float, float]:
    """Seconds, peak MiB that all processes hold, peak resident set of the largest in MiB."""
    command = [sys.executable, "-m", "hyperasr", "transcribe", str(path), *options]
    start, peak = time.monotonic(), 0
    with open(os.devnull, "wb") as nowhere:
        process = subprocess.Popen(command, stdout=nowhere)
    while True:
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        if ended:
            break
        with suppress(OSError):  # one of them ended meanwhile
            peak = max(peak, sum(map(shared_out, family(process.pid))))
        time.sleep(0.5)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with exit code {process.returncode}")
    return time.monotonic() - start, peak / 1024, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=10.0, help="of the long recording")
    parser.add_argument("options", nargs="*", help="of hyperasr transcribe, after --")
    arguments = parser.parse_args()
    lengths = {"10 min": 600.0, f"{arguments.hours:g} h": 3600 * arguments.hours}
    table = Table(title=" ".join(["hyperasr transcribe", *arguments.options]))
    for heading in ("recording", "largest process, MiB", "all hold, MiB", "seconds", "RTFx"):
        table.add_column(heading, justify="right")
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, seconds in lengths.items():
            path = record(Path(folder, "talk.flac"), seconds)
            took, peak, largest = measure(path, [*arguments.options, "-f", "json"])
            rows[name] = {
                "seconds": round(took, 1),
                "largest_mib": round(largest),
                "held_mib": round(peak),
                "rtfx": round(seconds / took),
            }
            values = rows[name]
            table.add_row(
                name,
                *(str(values[key]) for key in ("largest_mib", "held_mib", "seconds", "rtfx")),
            )
    Console().print(table)
    short, long = rows.values()
    growth = {key: round(long[key] / short[key] - 1, 3) for key in ("largest_mib", "held_mib")}
    line = {"benchmark": "memory", "options": arguments.options, "rows": rows, "growth": growth}
    print(json.dumps(line))


if __name__ == "__main__":
    main()
