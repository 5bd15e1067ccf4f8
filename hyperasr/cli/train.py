"""`hyperasr train`: a new run, or more steps of a run that was stopped."""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from hyperasr.cli.options import Device, Quiet, Threads
from hyperasr.cli.prepare import write_manifests
from hyperasr.cli.terminal import INTERRUPTED, console, nobody, say, sigterm_is_ctrl_c
from hyperasr.errors import ConfigError, ManifestError, OutputError
from hyperasr.files import ADVICE
from hyperasr.manifest import read_manifest

if TYPE_CHECKING:
    from hyperasr.train.config import TrainConfig
    from hyperasr.train.evaluate import Evaluation
    from hyperasr.train.loop import Progress as TrainProgress

PASSED_ON = 1.0
"""Seconds within which a second Ctrl-C may be the first one, passed on."""


def train(
    recipe: Annotated[
        str | None,
        typer.Option(help="Settings that come along: librispeech-8m, librispeech-22m, ..."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Settings in a TOML file; they win over a recipe's."),
    ] = None,
    manifest: Annotated[
        list[Path] | None,
        typer.Option(help="Training speech, a NeMo manifest (JSON lines); repeatable."),
    ] = None,
    librispeech: Annotated[
        Path | None,
        typer.Option(help="Folder of LibriSpeech: its train subsets, and dev-clean as --dev."),
    ] = None,
    dev: Annotated[
        Path | None, typer.Option(help="Manifest to measure the word error rate on.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the run; resumed if it has a state.")
    ] = Path("runs/hyperconformer"),
    init: Annotated[
        str | None,
        typer.Option(help="Checkpoint to go on from, with the settings of the recipe fine-tune."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="hyperconformer-8m, hyperconformer-22m, conformer-8m, conformer-22m."),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps in all.")] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the data, instead of --steps.")
    ] = None,
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
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write event files for TensorBoard too.")
    ] = False,
    device: Device = "auto",
    threads: Threads = 0,
    quiet: Quiet = False,
) -> None:
    """Train a model, or go on with a run that was stopped.

    Example: hyperasr train --manifest train.jsonl --dev dev.jsonl -o runs/first --steps 20000
    """
    _check_together(precision, init, model, steps, epochs)
    if librispeech is not None:
        trains, devs = _subsets(librispeech)
        manifests = output / "manifests"
        manifest = [*(manifest or []), *(manifests / f"{name}.jsonl" for name in trains)]
        dev = dev or (manifests / f"{devs[0]}.jsonl" if devs else None)
    given = {
        "manifests": [str(path) for path in manifest] if manifest else None,
        "dev": str(dev) if dev else None,
        "init": init,
        "model": model,
        "steps": steps,
        "epochs": epochs,
    }
    settings = _settings(recipe, config, setting or [], given)

    from hyperasr import runtime

    runtime.settle(threads)
    from hyperasr.train.loop import Trainer

    device = runtime.choose_device(device)
    if librispeech is not None:
        with sigterm_is_ctrl_c():
            _prepare(librispeech, output / "manifests", device, quiet)
    bfloat16 = precision == "bfloat16" or (precision == "auto" and runtime.has_bfloat16(device))
    tell = nobody if quiet else say
    try:
        with sigterm_is_ctrl_c():
            trainer = Trainer(
                settings,
                output,
                device=device,
                bfloat16=bfloat16,
                cache=cache,
                say=tell,
                tensorboard=tensorboard,
            )
        begun = trainer.step
        silent = quiet or not trainer.workers.leads
        with _stop_on_signal(nobody if silent else say) as stopped, _train_bar(silent) as report:
            result = trainer.run(report, stopped)
    except OSError as error:
        where, reason = error.filename or output, error.strerror or str(error)
        advice = ADVICE.get(error.errno or 0, "choose another folder")
        raise OutputError(f"{where}: {reason.lower()}; {advice}") from error
    if stopped() and not trainer.finished():
        if trainer.workers.leads:
            say(f"stopped at step {trainer.step}; the same command goes on from there")
        raise typer.Exit(INTERRUPTED)
    if not trainer.workers.leads:
        return
    if trainer.step == begun:
        tell(f"{output}: has its {trainer.step} steps already; raise --steps to go on")
    elif result is not None:
        typer.echo(f"{result.wer:.2%} WER on dev; best {trainer.best_wer:.2%} in {output / 'best'}")


def _check_together(
    precision: str, init: str | None, model: str | None, steps: int | None, epochs: int | None
) -> None:
    """Refuse options that contradict each other, naming one of them."""
    if precision not in ("auto", "float32", "bfloat16"):
        raise typer.BadParameter("auto, float32 or bfloat16", param_hint="--precision")
    if init is not None and model is not None:
        raise typer.BadParameter("--init has sizes of its own", param_hint="--model")
    if steps is not None and epochs is not None:
        raise typer.BadParameter("it is steps or passes: leave one away", param_hint="--epochs")


def _settings(
    recipe: str | None, config: Path | None, texts: Sequence[str], given: dict[str, Any]
) -> "TrainConfig":
    """Settings of a recipe, a file and options; a checkpoint to go on from brings a recipe."""
    from hyperasr.train.config import load_config, parse_setting

    given = {name: value for name, value in given.items() if value is not None}
    if recipe is None and config is None and "init" in given:
        recipe = "fine-tune"
    return load_config(config, dict(map(parse_setting, texts)) | given, recipe)


def _subsets(folder: Path) -> tuple[list[str], list[str]]:
    """The train subsets of LibriSpeech and its dev subset, dev-clean if it is there."""
    from hyperasr.train.librispeech import find_subsets

    names = find_subsets(folder)
    train = [name for name in names if name.startswith("train")]
    if not train:
        raise ConfigError(f"{folder}: has no train subset; there are {', '.join(names)}")
    return train, sorted(name for name in names if name.startswith("dev"))[:1]


def _prepare(folder: Path, manifests: Path, device: str, quiet: bool) -> None:
    """Write the manifests that are not there yet, or are of another folder."""
    from hyperasr.train.parallel import Workers

    workers = Workers.join(device)
    trains, devs = _subsets(folder)
    names = [*trains, *devs]
    missing = [name for name in names if not _is_of(manifests / f"{name}.jsonl", folder)]
    if len(missing) < len(names) and workers.leads and not quiet:
        say(f"{manifests}: taken as they are; delete them where {folder} has changed")
    if missing and workers.leads:
        write_manifests(folder, manifests, missing, quiet)
    workers.gather(None)  # the others wait


def _is_of(manifest: Path, folder: Path) -> bool:
    """Whether this is a manifest of recordings in `folder`."""
    try:
        first = read_manifest(manifest)[0].audio
    except ManifestError:
        return False
    return first.resolve().is_relative_to(folder.resolve())


@contextmanager
def _stop_on_signal(tell: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Turn SIGINT and SIGTERM into a question that the loop asks after every step.

    Ctrl-C once more ends at once; torchrun passes the first one on within a moment.
    """
    told: list[float] = []

    def remember(number: int, frame: FrameType | None) -> None:
        told.append(time.monotonic())
        if len(told) == 1:
            tell("stops after this step; Ctrl-C once more ends at once, at the last saved state")
        elif number == signal.SIGINT and told[-1] - told[0] > PASSED_ON:
            raise KeyboardInterrupt

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
            mean = f", mean of the {news.averaged} best" if news.averaged > 1 else ""
            console.print(escape(f"step {news.step}{mean}: WER {news.wer:.1%} ({sources})"))
            return
        attention = f", attention {news.attention_loss:.3f}" if news.attention_loss else ""
        text = (
            f"loss {news.loss:.3f}{attention}, rate {news.learning_rate:.1e}, "
            f"{news.audio_seconds_per_second:.0f} audio s/s, {news.waiting:.1%} waiting for data"
        )
        if news.skipped:
            steps = "1 step" if news.skipped == 1 else f"{news.skipped} steps"
            text += f", {steps} skipped: their loss was no number"
        progress.update(task, completed=news.step, total=news.steps, description=text)
        if lines:
            left = f"{news.seconds_left / 60:.0f} min left"
            console.print(escape(f"step {news.step} of {news.steps}: {text}, {left}"))

    with progress if not lines else nullcontext():
        yield report
