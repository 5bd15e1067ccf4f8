"""The whole way from a folder like LibriSpeech's to transcripts, with a kill -9 in the middle.

    python benchmarks/librispeech_recipe.py train.jsonl --minutes 10

Lays a part of a NeMo manifest out as LibriSpeech is published (train-clean-100 and dev-clean, of
different speakers), then runs `hyperasr train --recipe librispeech-8m --librispeech DIR` for three
passes, kills it in the second, runs the same command again, and transcribes and scores with best/,
the mean of the best. The recipe is the published one but for --vocab tokens, as many as few texts
give, and batches of --batch seconds, so that a pass has several. Prints a table of the steps and
one JSON line; exits with 1 at the first step that fails.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import soundfile
from rich.console import Console
from rich.table import Table

from hyperasr import audio
from hyperasr.errors import AudioError
from hyperasr.manifest import Utterance, read_manifest
from hyperasr.tokens import ENGLISH, normalise
from hyperasr.train.metrics import read_metrics

HYPERASR = [sys.executable, "-m", "hyperasr"]
LONGEST = 20.0
CHAPTER = 10
"""Utterances of a chapter."""
SAVE_STEPS = 2
EPOCHS = 3


class StepError(Exception):
    """A step did not do what it should."""


def choose(manifest: Path, seconds: dict[str, float]) -> dict[str, list[Utterance]]:
    """Whole speakers for each subset in turn, until it is so long."""
    speakers: dict[str, list[Utterance]] = {}
    for number, utterance in enumerate(read_manifest(manifest)):
        if utterance.duration <= LONGEST and normalise(utterance.text, ENGLISH):
            name = utterance.speaker or f"{number // CHAPTER}"
            speakers.setdefault(name, []).append(utterance)
    chosen: dict[str, list[Utterance]] = {name: [] for name in seconds}
    waiting = sorted(speakers.values(), key=len)
    for name, enough in seconds.items():
        while waiting and sum(u.duration for u in chosen[name]) < enough:
            share = enough / 4  # several speakers each
            for utterance in waiting.pop():
                if share > 0:
                    chosen[name].append(utterance)
                    share -= utterance.duration
        if not chosen[name]:
            raise StepError(f"{manifest}: too few speakers for {name}")
    return chosen


def build(chosen: dict[str, list[Utterance]], root: Path) -> str:
    """Write SUBSET/SPEAKER/CHAPTER/*.flac and *.trans.txt; returns what there is."""
    numbers: dict[str, int] = {}
    for subset, utterances in chosen.items():
        for number, utterance in enumerate(utterances):
            speaker = numbers.setdefault(utterance.speaker or "nobody", 1001 + len(numbers))
            chapter = 10_001 + number // CHAPTER
            folder = root / subset / str(speaker) / str(chapter)
            folder.mkdir(parents=True, exist_ok=True)
            name = f"{speaker}-{chapter}-{number % CHAPTER:04}"
            try:
                samples = audio.read(utterance.audio)
            except AudioError as error:
                raise StepError(str(error)) from error
            soundfile.write(folder / f"{name}.flac", samples, audio.SAMPLE_RATE)
            with (folder / f"{speaker}-{chapter}.trans.txt").open("a", encoding="utf-8") as file:
                file.write(f"{name} {normalise(utterance.text, ENGLISH).upper()}\n")
    sizes = {n: sum(u.duration for u in found) / 60 for n, found in chosen.items()}
    return ", ".join(f"{name} {minutes:.1f} min" for name, minutes in sizes.items())


def call(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StepError(f"exit code {done.returncode}: {done.stderr[-500:]}")
    return done


def kill_in_second_pass(command: list[str], run: Path) -> str:
    """Train until the state that follows the first evaluation was written twice, then kill -9."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    state, seen = run / "state.pt", set()
    while process.poll() is None and len(seen) < 3:
        time.sleep(0.05)
        if any("wer" in entry for entry in read_metrics(run)) and state.exists():
            seen.add(state.stat().st_mtime_ns)
    process.kill()
    said = process.communicate()[1].decode()
    if process.returncode != -9:
        raise StepError(
            f"ended before it was killed, exit code {process.returncode}: {said[-500:]}"
        )
    steps = [entry["step"] for entry in read_metrics(run)]
    return f"killed after the report of step {steps[-1]}"


def resume(command: list[str], run: Path) -> str:
    """The same command; it must go on, evaluate each pass once and leave the mean of them."""
    said = call(command).stderr
    resumed = [line for line in said.splitlines() if "resuming at step" in line]
    if len(resumed) != 1 or resumed[0].endswith(" 0"):
        raise StepError(f"did not go on: {said[-500:]}")
    entries = read_metrics(run)
    reports = [entry["step"] for entry in entries if "wer" not in entry]
    if reports != sorted(set(reports)):
        raise StepError(f"steps are reported twice: {reports}")
    averaged = [entry["averaged"] for entry in entries if "wer" in entry]
    if averaged != [*[1] * EPOCHS, EPOCHS]:
        raise StepError(f"not {EPOCHS} evaluations and their mean's: {averaged}")
    kept = sorted(path.name for path in (run / "kept").iterdir())
    if len(kept) != EPOCHS or not (run / "best" / "decoder.safetensors").exists():
        raise StepError(f"best is not the mean of {EPOCHS}: {kept}")
    return f"{resumed[0].rpartition(': ')[2]}; best is the mean of {', '.join(kept)}"


def transcribe(recordings: list[Path], model: Path, output: Path) -> str:
    """A transcript of every recording of dev."""
    command = ["transcribe", *map(str, recordings), "-m", str(model), "--beam-size", "1"]
    call([*HYPERASR, *command, "-o", str(output), "-q"])
    found = list(output.rglob("*.txt"))  # the tree of the corpus
    if len(found) != len(recordings):
        raise StepError(f"{len(found)} transcripts of {len(recordings)} recordings")
    return f"{len(found)} transcripts"


def score(run: Path) -> str:
    """The word error rate on dev."""
    manifest = run / "manifests" / "dev-clean.jsonl"
    command = ["score", "--manifest", str(manifest), "--model", str(run / "best")]
    table = call([*HYPERASR, *command, "--beam-size", "1", "--json", "-", "-q"]).stdout
    json.loads(table)
    last = [entry for entry in read_metrics(run) if "wer" in entry][-1]
    return f"scored; {last['wer']:.1%} WER when it was trained"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path, help="NeMo manifest with speakers")
    parser.add_argument("--minutes", type=float, default=10.0, help="of training speech")
    parser.add_argument("--dev-minutes", type=float, default=1.5)
    parser.add_argument("--vocab", type=int, default=100, help="the recipe has 5000")
    parser.add_argument("--batch", type=float, default=60.0, help="seconds; the recipe has 600")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder to leave everything in")
    arguments = parser.parse_args()
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="librispeech-recipe-"))
    corpus, run = folder / "LibriSpeech", folder / "run"
    command = [*HYPERASR, "train", "--recipe", "librispeech-8m", "--librispeech", str(corpus)]
    command += ["-o", str(run), "--epochs", str(EPOCHS), "--threads", str(arguments.threads)]
    changed = {"vocab_size": arguments.vocab, "batch_seconds": arguments.batch}
    for name, value in (changed | {"save_steps": SAVE_STEPS}).items():
        command += ["--set", f"{name}={value}"]
    lengths = {"train-clean-100": 60 * arguments.minutes, "dev-clean": 60 * arguments.dev_minutes}
    steps: dict[str, Callable[[], str]] = {
        "build": lambda: build(choose(arguments.manifest, lengths), corpus),
        "train, kill -9": lambda: kill_in_second_pass(command, run),
        "resume": lambda: resume(command, run),
        "transcribe": lambda: transcribe(
            sorted(corpus.glob("dev-clean/*/*/*.flac")), run / "best", folder / "transcripts"
        ),
        "score": lambda: score(run),
    }
    table = Table(title="librispeech-8m on a small corpus")
    for heading in ("step", "seconds", "what"):
        table.add_column(heading, justify="right" if heading == "seconds" else "left")
    rows, failed = [], False
    os.environ.setdefault("OMP_NUM_THREADS", str(arguments.threads))
    for name, work in steps.items():
        started = time.perf_counter()
        try:
            what = work()
        except StepError as error:
            what, failed = f"FAILED: {error}", True
        took = round(time.perf_counter() - started, 1)
        rows.append({"step": name, "seconds": took, "what": what})
        table.add_row(name, f"{took:.1f}", what)
        if failed:
            break
    Console().print(table)
    print(json.dumps({"benchmark": "librispeech_recipe", "failed": failed, "steps": rows}))
    if arguments.keep is None:
        shutil.rmtree(folder)
    sys.exit(failed)


if __name__ == "__main__":
    main()
