"""`hyperasr bench`: what this machine does with a model -> tables, a picture, a line of JSON."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from hyperasr.cli.options import (
    BatchSize,
    BeamSize,
    ComputeType,
    Device,
    Model,
    Quiet,
    Threads,
    check_picture,
)
from hyperasr.cli.terminal import FAILED, INTERRUPTED, console, interrupted, say
from hyperasr.errors import AudioError
from hyperasr.files import replacing

if TYPE_CHECKING:
    from hyperasr.bench.lengths import Comparison
    from hyperasr.bench.report import Report


def bench(
    model: Model = "hyperconformer-en",
    audio: Annotated[
        Path | None,
        typer.Option(help="Recording to transcribe; default: two minutes of made-up speech."),
    ] = None,
    lengths: Annotated[
        list[str] | None,
        typer.Option(
            help="Seconds of audio in one pass of the encoder; commas or repeated.",
            show_default="5,10,20,30,60,120,300",
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Less of everything, in half a minute.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw time and memory against length: FILE.png or .svg.")
    ] = None,
    device: Device = "auto",
    compute_type: ComputeType = "auto",
    threads: Threads = 0,
    batch_size: BatchSize = 4,
    beam_size: BeamSize = None,
    quiet: Quiet = False,
) -> None:
    """Measure speed and memory on this machine, against a Conformer of the same size too.

    Tables go to stderr, one line of JSON to stdout. Takes about two minutes.

    Example: hyperasr bench --plot speed.svg
    """
    asked = _lengths(lengths)
    if plot is not None:
        check_picture(plot, "--plot")

    from hyperasr import runtime

    runtime.settle(threads)
    from hyperasr.bench.report import FULL, QUICK, measure
    from hyperasr.bench.stages import Setup

    plan = QUICK if quick else FULL
    if asked:
        plan = replace(plan, lengths=asked)
    device = runtime.choose_device(device)
    setup = Setup(model, device, threads, batch_size, compute_type, beam_size)
    try:
        with console.status("loading the model") as status:
            if quiet:
                status.stop()
            report = measure(setup, plan, audio, lambda what: status.update(escape(what)))
    except AudioError as error:
        say(f"{audio}: {error}")
        raise typer.Exit(FAILED) from error
    except MemoryError as error:
        say(f"too little memory: {error}; try a smaller --batch-size")
        raise typer.Exit(FAILED) from error
    except KeyboardInterrupt:
        interrupted("nothing is written")
        raise typer.Exit(INTERRUPTED) from None
    if not quiet:
        _show(report)
    typer.echo(json.dumps(report.as_json()))
    if plot is not None:
        _draw(report, plot)


def _lengths(asked: list[str] | None) -> tuple[int, ...]:
    """Lengths as typed, '5,10' or repeated -> seconds, each once, the shortest first."""
    texts = [text.strip() for group in asked or [] for text in group.split(",")]
    for text in texts:
        if not (text.isascii() and text.isdigit() and int(text)):
            raise typer.BadParameter(
                f"{text!r} is no length: whole seconds from 1, as in 5,10,60",
                param_hint="--lengths",
            )
    return tuple(sorted({int(text) for text in texts}))


def _draw(report: "Report", path: Path) -> None:
    from hyperasr.bench.plot import draw

    machine = report.machine
    title = (
        f"{report.parameters / 1e6:.1f} million parameters, {report.compute_type}, "
        f"{machine.threads} thread(s), "
        f"{machine.gpu or machine.cpu}"
    )
    picture = draw(report.comparison, title, path.suffix.lower().lstrip("."))
    with replacing(path) as partial:
        partial.write_bytes(picture)


def _show(report: "Report") -> None:
    machine = report.machine
    where = f"{machine.gpu or machine.cpu}, {machine.threads} of {machine.cores} threads"
    where += f", {report.compute_type}"
    stages = _table(f"{report.model}: {report.recording}", ("stage", "seconds", "RTFx", "peak MiB"))
    for stage in report.stages:
        _row(stages, stage.stage, stage.seconds, stage.rtfx, stage.peak_mib)
    windowed = _table("in windows of 15 s", ("audio s", "seconds", "ms per audio s"))
    for row in report.windowed:
        _row(windowed, row.audio_seconds, row.seconds, row.ms_per_audio_second)
    console.print(escape(where), stages, windowed, _comparison(report.comparison), sep="\n")
    for note in report.comparison.notes:
        console.print(escape(f"note: {note}"))


def _comparison(comparison: "Comparison") -> Table:
    table = _table(
        "one pass, HyperConformer (H) against Conformer (C)",
        ("audio s", "H s", "C s", "C / H", "saved %", "H MiB", "C MiB"),
    )
    for row in comparison.lengths:
        passes = (row.hyperconformer, row.conformer)
        time = [found.seconds if found else None for found in passes]
        memory = [found.peak_mib if found else None for found in passes]
        _row(table, row.audio_seconds, *time, row.time_ratio, row.time_saved_percent, *memory)
    table.add_section()
    time = [comparison.exponent(name, "seconds") for name in ("hyperconformer", "conformer")]
    memory = [comparison.exponent(name, "peak_mib") for name in ("hyperconformer", "conformer")]
    _row(table, "exponent", *time, None, None, *memory)
    return table


def _table(title: str, headings: Iterable[str]) -> Table:
    table = Table(title=escape(title), title_justify="left")
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _row(table: Table, *values: str | float | None) -> None:
    """Three significant digits; a dash for what was not measured."""
    table.add_row(*("-" if v is None else v if isinstance(v, str) else _short(v) for v in values))


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
