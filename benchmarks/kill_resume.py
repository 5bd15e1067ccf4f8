"""`hyperasr batch`, killed with SIGKILL at random moments and started again: the same bytes?

    python benchmarks/kill_resume.py [--cycles 50] [--files 24]

Each cycle starts the command on a new output folder, kills it when a random number of files is done
and up to 50 ms later, starts the same command again, and compares all that is written with an
uninterrupted run; nothing that the journal held may be done again. The recordings are made by the
program flite. Prints a table and one JSON line; exit code 1 if anything differs.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from hyperasr.batch.journal import NAME as JOURNAL
from hyperasr.batch.report import NAME as REPORT


def record(folder: Path, files: int) -> None:
    """Recordings of a sentence each, in three folders."""
    for number in range(files):
        path = folder / str(number % 3) / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = f"this is recording number {number} and the weather is {'very ' * (number % 5)} fine"
        subprocess.run(["flite", "-t", text, "-o", str(path)], check=True)


def written(folder: Path) -> dict[str, bytes]:
    """Everything that is there, but for the two files that tell times."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in files
        if path.name not in (JOURNAL, REPORT)
    }


def lines(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int, default=50)
    parser.add_argument("--files", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        record(folder / "in", arguments.files)
        command = [sys.executable, "-m", "hyperasr", "batch", str(folder / "in"), "-f", "all", "-q"]
        subprocess.run([*command, "-o", str(folder / "expected")], check=True)
        expected = written(folder / "expected")
        killed = identical = half_written = redone = 0
        for cycle in track(range(arguments.cycles), console=Console(stderr=True)):
            out = folder / f"out-{cycle}"
            journal = out / JOURNAL
            enough = chance.randrange(arguments.files)
            process = subprocess.Popen([*command, "-o", str(out)])
            while process.poll() is None and lines(journal) < enough:
                time.sleep(0.001)
            time.sleep(chance.uniform(0, 0.05))
            process.kill()
            killed += process.wait() == -9
            done = lines(journal)
            half_written += any(out.rglob("*.part"))
            subprocess.run([*command, "-o", str(out)], check=True)
            redone += json.loads((out / REPORT).read_text())["files"]["done_before"] < done
            identical += written(out) == expected
    rows = {
        "cycles": arguments.cycles,
        "killed": killed,
        "left_half_written_file": half_written,
        "did_something_again": redone,
        "identical": identical,
    }
    table = Table(title=f"{arguments.files} files, {len(expected)} outputs", show_header=False)
    for what, count in rows.items():
        table.add_row(what.replace("_", " "), str(count))
    Console().print(table)
    print(json.dumps({"benchmark": "kill_resume", "files": arguments.files, **rows}))
    sys.exit(identical < arguments.cycles or redone > 0)


if __name__ == "__main__":
    main()
