"""`hyperasr batch` on a folder against a loop of `hyperasr transcribe` over the same files.

    python benchmarks/batch.py [--files 200] [--threads 2] [--manifest dev.jsonl]

Both are timed as a user feels them: whole commands, the model loaded, results written. The
recordings are those of a manifest, or sentences that the program flite speaks. With
`--loop-files N` the loop goes over the first N files only, every one as long as the others on
average, and its time for all of them is N's times files / N; the table says so.
Prints a table and one JSON line.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hyperasr import audio
from hyperasr.manifest import read_manifest

TEXT = (
    "the old man came to the tower in the morning and asked if they could see her friends who had "
    "been away for many years while rain was falling on the harbour and nobody said a word"
)


def speak(folder: Path, files: int) -> None:
    """Sentences of 5 to 20 words."""
    chance = random.Random(0)
    for number in range(files):
        text = " ".join(chance.choices(TEXT.split(), k=chance.randint(5, 20)))
        subprocess.run(["flite", "-t", text, "-o", str(folder / f"{number:04}.wav")], check=True)


def collect(folder: Path, files: int, manifest: Path) -> None:
    """Recordings of a manifest, from all parts of it."""
    entries = read_manifest(manifest)
    for number, entry in enumerate(entries[:: max(1, len(entries) // files)][:files]):
        shutil.copy(entry.audio, folder / f"{number:04}{entry.audio.suffix}")


def seconds_of(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--loop-files", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compute-type", default="auto")
    parser.add_argument("--manifest", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "in"
        folder.mkdir()
        if arguments.manifest:
            collect(folder, arguments.files, arguments.manifest)
        else:
            speak(folder, arguments.files)
        paths = sorted(folder.iterdir())
        sound = sum(audio.duration(path) or 0.0 for path in paths)
        looped = paths[: arguments.loop_files]
        hyperasr = [sys.executable, "-m", "hyperasr"]
        options = ["-f", "srt", "--threads", str(arguments.threads)]
        options += ["--compute-type", arguments.compute_type]
        warm = [*hyperasr, "transcribe", str(paths[0]), *options, "-o", f"{name}/warm"]
        seconds_of(warm)
        batch = seconds_of([*hyperasr, "batch", str(folder), *options, "-o", f"{name}/batch"])
        loop = sum(
            seconds_of([*hyperasr, "transcribe", str(path), *options, "-o", f"{name}/loop"])
            for path in looped
        )
        for path in looped:  # the same texts, or the times say nothing
            results = [Path(name, which, f"{path.stem}.srt") for which in ("batch", "loop")]
            assert results[0].read_text() == results[1].read_text(), path.name
    whole = loop * len(paths) / len(looped)
    scaled = "" if len(looped) == len(paths) else f", {len(looped)} files measured and scaled"
    title = f"{len(paths)} files, {sound / 60:.1f} minutes, {arguments.threads} threads"
    table = Table(title=f"{title}, {os.cpu_count()} cores")
    for heading in ("", "seconds", "times real time"):
        table.add_column(heading, justify="right")
    table.add_row("hyperasr batch", f"{batch:.1f}", f"{sound / batch:.1f}")
    table.add_row(f"loop of transcribe{scaled}", f"{whole:.1f}", f"{sound / whole:.1f}")
    Console().print(table)
    Console().print(f"batch is {whole / batch:.1f} times as fast")
    result = {
        "benchmark": "batch",
        "files": len(paths),
        "audio_seconds": round(sound, 1),
        "threads": arguments.threads,
        "compute_type": arguments.compute_type,
        "batch_seconds": round(batch, 2),
        "loop_files": len(looped),
        "loop_seconds": round(loop, 2),
        "ratio": round(whole / batch, 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
