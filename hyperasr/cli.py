"""The command line: read options, call the library, print, choose the exit code.

No torch at the top of this file: `--help` and mistyped options must answer at once.
Results go to stdout, everything said to a person goes to stderr.

Exit codes: 0 all done; 1 some files failed, the others were written; 2 wrong usage; 3 the model
could not be loaded; 130 interrupted, state saved.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from hyperasr import __version__, writers
from hyperasr.errors import (
    AudioError,
    CheckpointError,
    ConfigError,
    HyperAsrError,
    OutputError,
)
from hyperasr.transcript import Transcript

if TYPE_CHECKING:
    from hyperasr.train.evaluate import Evaluation
    from hyperasr.train.loop import Progress as TrainProgress

FAILED, USAGE, NO_MODEL, INTERRUPTED = 1, 2, 3, 130

PATIENCE = 2.0
"""Seconds before a progress bar appears."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Transcribe speech to text and subtitles; train the models that do it.",
)
console = Console(stderr=True, soft_wrap=True)

# Options that several commands share are declared once, so they read the same everywhere.
Device = Annotated[
    str, typer.Option(help="auto, cpu, cuda, cuda:1, mps. auto: a CUDA GPU if there is one.")
]
Threads = Annotated[int, typer.Option(min=0, help="CPU threads; 0: as many as there are cores.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"hyperasr {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Hold the subcommands together."""


@app.command()
def transcribe(
    audio: Annotated[
        list[Path],
        typer.Argument(help="Audio or video files.", show_default=False, readable=False),
    ],
    model: Annotated[
        str,
        typer.Option("--model", "-m", envvar="HYPERASR_MODEL", help="Checkpoint folder or name."),
    ] = "hyperconformer-en",
    output_dir: Annotated[
        str,
        typer.Option(
            "--output-dir",
            "--output_dir",
            "-o",
            help="Folder for the results; 'source': beside each input; '-': stdout.",
        ),
    ] = "-",
    output_format: Annotated[
        list[str] | None,
        typer.Option(
            "--output-format",
            "--output_format",
            "-f",
            help=f"{', '.join(writers.WRITERS)}, all; several with commas or by repeating.",
            show_default="txt",
        ),
    ] = None,
    device: Device = "auto",
    threads: Threads = 0,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Windows of 16 s that are encoded together.")
    ] = 8,
    quiet: Quiet = False,
) -> None:
    """Write down what is said in each audio file.

    Example: hyperasr transcribe interview.wav -f srt,txt -o subtitles
    """
    formats = _formats(["txt"] if output_format is None else output_format)
    targets = _targets(audio, output_dir, formats)

    from hyperasr import runtime  # after the options are known to be good: torch takes seconds

    runtime.settle(threads)
    from hyperasr.transcribe import Transcriber

    transcriber = Transcriber.load(model, device, batch_size)
    failed = 0
    bar = _Bar(audio, quiet)
    try:
        for path in audio:
            try:
                transcript = transcriber(path, bar.heard)
            except AudioError as error:
                bar.pause()
                say(f"{path}: {error}")
                failed += 1
                continue
            finally:
                bar.next_file()
            bar.pause()
            if not transcript.words and not quiet:
                say(f"{path}: no speech heard")
            try:
                _deliver(transcript, targets[path], formats)
            except OutputError as error:
                say(f"{path}: {error}")
                failed += 1
                if targets[path] is None:  # stdout is gone for the next file too
                    break
    except KeyboardInterrupt:
        say("interrupted; what was finished is written")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        bar.pause()
    if failed:
        if len(audio) > 1:
            say(f"{failed} of {len(audio)} files failed")
        raise typer.Exit(FAILED)


def _formats(asked: list[str]) -> list[str]:
    """Formats as typed, 'srt,txt' or repeated -> their names, each once."""
    names = [name.strip() for group in asked for name in group.split(",") if name.strip()]
    for name in names:
        if name not in writers.WRITERS and name != "all":
            raise typer.BadParameter(
                f"no format {name!r}; known: {', '.join(writers.WRITERS)}, all", param_hint="-f"
            )
    if not names:
        raise typer.BadParameter("name at least one format", param_hint="-f")
    return list(writers.WRITERS) if "all" in names else list(dict.fromkeys(names))


def _targets(inputs: list[Path], output_dir: str, formats: list[str]) -> dict[Path, Path | None]:
    """Where each input's results go, without their suffix; None for stdout.

    Results that would overwrite each other or an input are refused before anything is written.
    """
    if output_dir == "-":
        several = "several formats" if len(formats) > 1 else ""
        if len(set(inputs)) > 1 and formats != ["txt"]:
            several = f"several files as {formats[0]}"
        if several:
            raise typer.BadParameter(f"{several} need a folder: add --output-dir", param_hint="-f")
        return dict.fromkeys(inputs)
    targets: dict[Path, Path | None] = {}
    taken = {os.path.realpath(path): path for path in inputs}
    for path in dict.fromkeys(inputs):
        folder = path.parent if output_dir == "source" else Path(output_dir)
        targets[path] = folder / path.stem
        for name in formats:
            result = os.path.realpath(folder / f"{path.stem}.{name}")
            if result in taken:
                raise typer.BadParameter(
                    f"the {name} of {path} would overwrite {taken[result]} or what comes of it: "
                    "choose another folder",
                    param_hint="--output-dir",
                )
            taken[result] = path
    return targets


def _deliver(transcript: Transcript, target: Path | None, formats: list[str]) -> None:
    for name in formats:
        text = writers.WRITERS[name](transcript)
        if target is not None:
            writers.save(text, target.with_name(f"{target.name}.{name}"))
            continue
        try:
            sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
            sys.stdout.buffer.flush()
        except (OSError, AttributeError) as error:  # closed stdout has no buffer
            sys.stdout = None  # or Python complains again at the end
            reason = getattr(error, "strerror", None) or "it is closed"
            raise OutputError(f"cannot write to stdout: {reason.lower()}") from error


class _Bar:
    """A bar of the audio seconds done, shown only in a terminal and when the work takes a while."""

    def __init__(self, inputs: list[Path], quiet: bool):
        self._hidden = quiet or not console.is_terminal
        self._since = monotonic()
        self._before = self._now = 0.0  # seconds of the files done, and of the one at hand
        lengths = [] if self._hidden else [_duration(path) for path in inputs]
        total = sum(length for length in lengths if length is not None)
        self._progress = Progress(
            TextColumn("transcribing"),
            BarColumn(),
            TextColumn("{task.completed:.0f} s" if None in lengths else f"of {total:.0f} s"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=self._hidden,
        )
        self._task = self._progress.add_task("", total=None if None in lengths else total)

    def heard(self, seconds: float) -> None:
        """So many seconds of the file at hand are done."""
        self._now = seconds
        self._progress.update(self._task, completed=self._before + seconds)
        if monotonic() - self._since > PATIENCE:
            self._progress.start()

    def next_file(self) -> None:
        """The file at hand is done."""
        self._before, self._now = self._before + self._now, 0.0

    def pause(self) -> None:
        """Clear the bar away, for a line that is to be printed."""
        self._progress.stop()


def _duration(path: Path) -> float | None:
    """Seconds, as the header says; 0 for a file that will be complained about in its turn."""
    from hyperasr.audio import duration

    try:
        return duration(path)
    except AudioError:
        return 0.0


@app.command()
def train(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Settings in a TOML file.")
    ] = None,
    manifest: Annotated[
        list[Path] | None,
        typer.Option(help="Training speech, a NeMo manifest (JSON lines); repeatable."),
    ] = None,
    dev: Annotated[
        Path | None, typer.Option(help="Manifest to measure the word error rate on.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the run; resumed if it has a state.")
    ] = Path("runs/hyperconformer"),
    model: Annotated[
        str | None,
        typer.Option(help="hyperconformer-8m, hyperconformer-22m, conformer-8m, conformer-22m."),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps in all.")] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other setting, as name=value; repeatable."),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder for decoded audio, reused by later runs; default: in memory."),
    ] = None,
    precision: Annotated[
        str, typer.Option(help="auto, float32 or bfloat16. auto: bfloat16 where it is faster.")
    ] = "auto",
    device: Device = "auto",
    threads: Threads = 0,
    quiet: Quiet = False,
) -> None:
    """Train a model, or go on with a run that was stopped.

    Example: hyperasr train --manifest train.jsonl --dev dev.jsonl -o runs/first --steps 20000
    """
    from hyperasr.train.config import load_config, parse_setting

    overrides: dict[str, Any] = dict(parse_setting(text) for text in setting or [])
    given = {
        "manifests": [str(path) for path in manifest] if manifest else None,
        "dev": str(dev) if dev else None,
        "model": model,
        "steps": steps,
    }
    settings = load_config(config, overrides | {k: v for k, v in given.items() if v is not None})
    if precision not in ("auto", "float32", "bfloat16"):
        raise typer.BadParameter("auto, float32 or bfloat16", param_hint="--precision")

    from hyperasr import runtime

    runtime.settle(threads)
    from hyperasr.train.loop import Trainer

    device = runtime.choose_device(device)
    bfloat16 = precision == "bfloat16" or (precision == "auto" and runtime.has_bfloat16(device))
    tell = _nobody if quiet else say
    try:
        trainer = Trainer(settings, output, device=device, bfloat16=bfloat16, cache=cache, say=tell)
        begun = trainer.step
        with _stop_on_signal() as stopped, _train_bar(quiet or not trainer.workers.leads) as report:
            result = trainer.run(report, stopped)
    except OSError as error:
        where, reason = error.filename or output, error.strerror or str(error)
        raise OutputError(f"{where}: {reason.lower()}: free space or choose another") from error
    if stopped():
        say(f"stopped at step {trainer.step}; the same command goes on from there")
        raise typer.Exit(INTERRUPTED)
    if not trainer.workers.leads:
        return
    if trainer.step == begun:
        tell(f"{output}: has its {trainer.step} steps already; raise --steps to go on")
    elif result is not None:
        typer.echo(f"{result.wer:.2%} WER on dev; best {trainer.best_wer:.2%} in {output / 'best'}")


def _nobody(message: str) -> None:
    """Who listens with --quiet."""


@app.command()
def import_speechbrain(
    folder: Annotated[
        Path, typer.Argument(help="Training or release folder with model.ckpt.", show_default=False)
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Checkpoint folder to write.", show_default=False)
    ],
    quiet: Quiet = False,
) -> None:
    """Turn a SpeechBrain HyperConformer or Conformer into a checkpoint.

    Example: hyperasr import-speechbrain results/hyperconformer_8M/7775 -o checkpoints/published
    """
    from hyperasr.importers.speechbrain import import_folder

    import_folder(folder, output, _nobody if quiet else say)


@contextmanager
def _stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Turn SIGINT and SIGTERM into a question that the loop asks after every step."""
    told: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        told.append(number)

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(told)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _train_bar(quiet: bool) -> Iterator[Callable[["TrainProgress | Evaluation"], None]]:
    """Loss, learning rate, speed, waiting and time left; a line per evaluation."""
    from hyperasr.train.evaluate import Evaluation

    progress = Progress(
        TextColumn("step {task.completed} of {task.total}"),
        BarColumn(bar_width=20),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
        console=console,
        disable=quiet,
    )
    task = progress.add_task("")
    lines = not console.is_terminal  # a log file gets lines, a terminal a bar

    def report(news: "TrainProgress | Evaluation") -> None:
        if quiet:
            return
        if isinstance(news, Evaluation):
            sources = ", ".join(f"{s or 'dev'} {w:.1%}" for s, w in news.by_source.items())
            console.print(escape(f"step {news.step}: WER {news.wer:.1%} ({sources})"))
            return
        text = (
            f"loss {news.loss:.3f}, rate {news.learning_rate:.1e}, "
            f"{news.audio_seconds_per_second:.0f} audio s/s, {news.waiting:.1%} waiting for data"
        )
        progress.update(task, completed=news.step, total=news.steps, description=text)
        if lines:
            left = f"{news.seconds_left / 60:.0f} min left"
            console.print(escape(f"step {news.step} of {news.steps}: {text}, {left}"))

    with progress if not lines else _nothing():
        yield report


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def say(message: str) -> None:
    """Speak to the person at the keyboard, never into the results; always one line."""
    line = " ".join(message.splitlines()).encode("utf-8", "backslashreplace").decode()
    typer.echo(f"hyperasr: {line}", err=True)


def main() -> None:
    """Entry point: a HyperAsrError becomes one line; a bug keeps its traceback."""
    try:
        app()
    except CheckpointError as error:
        say(str(error))
        sys.exit(NO_MODEL)
    except ConfigError as error:
        say(str(error))
        sys.exit(USAGE)
    except HyperAsrError as error:
        say(str(error))
        sys.exit(FAILED)
    except KeyboardInterrupt:
        say("interrupted; what was finished is written")
        sys.exit(INTERRUPTED)
