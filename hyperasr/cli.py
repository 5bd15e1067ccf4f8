"""The command line: read options, call the library, print, choose the exit code.

No torch at the top of this file: `--help` and mistyped options must answer at once.
Results go to stdout, everything said to a person goes to stderr.

Exit codes: 0 all done; 1 some files failed, the others were written; 2 wrong usage; 3 the model
could not be loaded; 4 nothing to do; 130 interrupted, state saved.
"""

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
from hyperasr.errors import CheckpointError, ConfigError, HyperAsrError
from hyperasr.transcript import Transcript

if TYPE_CHECKING:
    from hyperasr.train.evaluate import Evaluation
    from hyperasr.train.loop import Progress as TrainProgress

FAILED, USAGE, NO_MODEL, NOTHING_TO_DO, INTERRUPTED = 1, 2, 3, 4, 130

PATIENCE = 2.0
"""Seconds before a progress bar appears."""

app = typer.Typer(
    no_args_is_help=True,
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
    audio: Annotated[list[Path], typer.Argument(help="Audio or video files.", show_default=False)],
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
    formats = _formats(output_format or ["txt"])
    targets = _targets(audio, output_dir, formats)

    from hyperasr import runtime  # after the options are known to be good: torch takes seconds

    runtime.settle(threads)
    from hyperasr.transcribe import Transcriber

    transcriber = Transcriber.load(model, device, batch_size)
    failed = 0
    with _bar(audio, quiet) as heard:
        for path in audio:
            try:
                transcript = transcriber(path, heard)
                _deliver(transcript, targets[path], formats)
            except HyperAsrError as error:
                say(f"{path}: {error}")
                failed += 1
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
    return list(writers.WRITERS) if "all" in names else list(dict.fromkeys(names))


def _targets(inputs: list[Path], output_dir: str, formats: list[str]) -> dict[Path, Path | None]:
    """Where each input's results go, without their suffix; None for stdout.

    Two inputs that would share a result are refused before anything is written.
    """
    if output_dir == "-":
        if len(formats) > 1:
            raise typer.BadParameter(
                "several formats need a folder: add --output-dir", param_hint="-f"
            )
        return dict.fromkeys(inputs)
    targets: dict[Path, Path | None] = {}
    taken: dict[Path, Path] = {}
    for path in dict.fromkeys(inputs):
        folder = path.parent if output_dir == "source" else Path(output_dir)
        target = folder / path.stem
        if target in taken:
            raise typer.BadParameter(
                f"{taken[target]} and {path} would both be written to {target}.{formats[0]}: "
                "transcribe them into different folders",
                param_hint="AUDIO",
            )
        taken[target] = path
        targets[path] = target
    return targets


def _deliver(transcript: Transcript, target: Path | None, formats: list[str]) -> None:
    for name in formats:
        text = writers.WRITERS[name](transcript)
        if target is None:
            sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
            sys.stdout.buffer.flush()
        else:
            writers.save(text, target.with_name(f"{target.name}.{name}"))


@contextmanager
def _bar(inputs: list[Path], quiet: bool) -> Iterator[Callable[[float], None]]:
    """A bar of the audio seconds done, which appears only when the work takes a while."""
    from hyperasr.audio import duration

    progress = Progress(
        TextColumn("transcribing"),
        BarColumn(),
        TextColumn("{task.completed:.0f} of {task.total:.0f} s"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
    )
    if progress.disable:
        yield lambda seconds: None
        return
    total = sum(duration(path) or 0.0 for path in inputs)
    task = progress.add_task("transcribing", total=total or None)
    since, done, last = monotonic(), 0.0, 0.0

    def heard(seconds: float) -> None:
        nonlocal done, last
        done += seconds - last if seconds > last else seconds  # fewer than before: the next file
        last = seconds
        progress.update(task, completed=done)
        if monotonic() - since > PATIENCE:
            progress.start()

    try:
        yield heard
    finally:
        progress.stop()


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
    trainer = Trainer(settings, output, device=device, bfloat16=bfloat16, cache=cache, say=say)
    with _stop_on_signal() as stopped, _train_bar(quiet or not trainer.workers.leads) as report:
        result = trainer.run(report, stopped)
    if stopped():
        say(f"stopped at step {trainer.step}; the same command goes on from there")
        raise typer.Exit(INTERRUPTED)
    if result is None and trainer.workers.leads:
        say(f"{output}: has its {trainer.step} steps already; raise --steps to go on")
    elif result is not None and trainer.workers.leads:
        typer.echo(f"{result.wer:.2%} WER on dev; best {trainer.best_wer:.2%} in {output / 'best'}")


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

    import_folder(folder, output, (lambda line: None) if quiet else say)


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
