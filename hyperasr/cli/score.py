"""`hyperasr score`: references + hypotheses -> word error rates, tables, files."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from hyperasr.cli import score_tables
from hyperasr.cli.options import (
    Alpha,
    BatchSize,
    BeamSize,
    Beta,
    ComputeType,
    Device,
    Lm,
    Model,
    Quiet,
    Threads,
)
from hyperasr.cli.terminal import EXCEEDED, FAILED, INTERRUPTED, console, interrupted, nobody, say
from hyperasr.errors import AudioError, OutputError, TextError
from hyperasr.folder import DEFAULT_MODEL
from hyperasr.writers import save

if TYPE_CHECKING:
    from hyperasr.decoding import DecodingOptions
    from hyperasr.score.result import Score
    from hyperasr.score.texts import Texts

HEARING = (
    "model", "lm", "beam_size", "alpha", "beta", "nbest",
    "device", "compute_type", "threads", "batch_size",
)  # fmt: skip
"""Options that mean nothing where nothing is transcribed."""


ROUNDING = 1e-12
"""Of rates as floating-point numbers: 99.85 % is not above 99.85 %."""


def score(
    context: typer.Context,
    references: Annotated[
        Path | None,
        typer.Argument(help="What was said: a file or folder, any format.", show_default=False),
    ] = None,
    hypotheses: Annotated[
        Path | None,
        typer.Argument(
            help="What was heard; left out where the references hold pred_text beside text.",
            show_default=False,
        ),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(help="Transcribe the recordings of this NeMo manifest and score them."),
    ] = None,
    normalizer: Annotated[
        str, typer.Option(help="What does not count: none, basic, librispeech, whisper.")
    ] = "basic",
    compare: Annotated[
        Path | None, typer.Option(help="Hypotheses of another system, to compare with.")
    ] = None,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write the score; -: to stdout.")
    ] = None,
    pra: Annotated[
        Path | None, typer.Option(help="Write the aligned words, as sclite does.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page to look at.")] = None,
    audio: Annotated[
        bool, typer.Option("--audio", help="With a player on that page that jumps to a word.")
    ] = False,
    max_wer: Annotated[
        str | None, typer.Option(help="Exit with 5 above this: 0.15 or 15%.")
    ] = None,
    model: Model = DEFAULT_MODEL,
    lm: Lm = None,
    beam_size: BeamSize = None,
    alpha: Alpha = None,
    beta: Beta = None,
    nbest: Annotated[
        int, typer.Option(min=1, help="Texts to keep of each utterance, for the oracle WER.")
    ] = 1,
    device: Device = "auto",
    compute_type: ComputeType = "auto",
    threads: Threads = 0,
    batch_size: BatchSize = 4,
    quiet: Quiet = False,
) -> None:
    """Measure word error rates of transcripts, or of a model on a manifest.

    Example: hyperasr score references.trn hypotheses.trn --html report.html
    """
    limit = _limit(max_wer)
    _check(context, references, manifest, audio, html)
    _spare(
        [Path(json_file) if json_file not in (None, "-") else None, pra, html],
        [references, hypotheses, manifest, compare],
    )

    from hyperasr.score import scoring
    from hyperasr.score.normalise import normaliser
    from hyperasr.score.read import read, read_both

    normalise = normaliser(normalizer)
    tell = nobody if quiet else say
    failed = False
    other = None if compare is None else read(compare, heard=True)
    if references is not None and hypotheses is not None:
        said, heard = read(references), read(hypotheses, heard=True)
    elif references is not None:
        said, heard = read_both(references)
    else:
        said = read(manifest or Path())
        from hyperasr import runtime

        runtime.settle(threads)
        from hyperasr.decoding import DecodingOptions

        decoding = DecodingOptions(lm, beam_size, alpha, beta, nbest)
        heard, failed = _transcribe(
            said, model, decoding, (device, batch_size, compute_type), quiet
        )
    for texts in filter(None, (said, heard, other)):
        if texts.repeated:
            tell(f"{texts.name}: counted once though given more often: {_listed(texts.repeated)}")
    found = scoring.score(said, heard, normalise, other)
    _tell_unmatched(found, tell)
    _write(found, json_file, pra, html, audio)
    if not quiet:
        formats = f"{said.name} ({said.format}), {heard.name} ({heard.format})"
        to = Console(stderr=json_file == "-")
        to.width = max(to.width, score_tables.WIDTH)
        with _telling_when_full():
            to.print(*score_tables.tables(found, formats), sep="\n")
    if limit is not None and _exceeds(found, limit):
        say(f"the WER is above {100 * limit:g}%")
        raise typer.Exit(EXCEEDED)
    if failed:
        raise typer.Exit(FAILED)


def _check(
    context: typer.Context,
    references: Path | None,
    manifest: Path | None,
    audio: bool,
    html: Path | None,
) -> None:
    """Refuse what contradicts itself or would be without effect."""
    if references is not None and manifest is not None:
        raise typer.BadParameter(
            "holds the references already: give it without others", param_hint="--manifest"
        )
    if references is None and manifest is None:
        raise typer.BadParameter(
            "give references and hypotheses, or --manifest to transcribe and score",
            param_hint="REFERENCES",
        )
    if manifest is None:
        for name in HEARING:
            source = context.get_parameter_source(name)
            if source is not None and source.name == "COMMANDLINE":
                option = "--" + name.replace("_", "-")
                raise typer.BadParameter("is for transcribing: add --manifest", param_hint=option)
    if audio and html is None:
        raise typer.BadParameter("is for a page: add --html FILE", param_hint="--audio")


def _spare(outputs: list[Path | None], inputs: list[Path | None]) -> None:
    """Refuse before the work to overwrite what is read, or to write where nothing can be."""
    taken = {os.path.realpath(path) for path in inputs if path is not None}
    for output in filter(None, outputs):
        if os.path.realpath(output) in taken:
            raise typer.BadParameter(f"{output} would be overwritten: choose another name")
        if str(output) == "-":
            raise typer.BadParameter("only --json goes to stdout: name a file")
        taken.add(os.path.realpath(output))
        folder = next(parent for parent in output.absolute().parents if parent.exists())
        if output.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
            raise typer.BadParameter(f"{output} cannot be written: choose another name")


def _limit(text: str | None) -> float | None:
    """'0.15' or '15%' -> 0.15; a bare 15 may mean either."""
    if text is None:
        return None
    percent = text.strip().endswith("%")
    try:
        value = float(text.strip().removesuffix("%")) / (100 if percent else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value < (100 if percent else 2):
        raise typer.BadParameter("a share or a percentage, as 0.15 or 15%", param_hint="--max-wer")
    return value


def _exceeds(score: "Score", limit: float) -> bool:
    """A WER that is not defined exceeds any limit if there are errors."""
    rate = score.total.words.rate
    return score.total.words.errors > 0 if rate is None else rate > limit + ROUNDING


def _transcribe(
    said: "Texts",
    model: str,
    decoding: "DecodingOptions",
    machine: tuple[str, int, str],
    quiet: bool,
) -> tuple["Texts", bool]:
    """What a model hears in the recordings of the references, and whether some cannot be read."""
    from hyperasr.score import documents
    from hyperasr.score.texts import Texts
    from hyperasr.transcribe import Transcriber

    for text in said:
        if not text.audio or text.offset:
            reason = "stands amid its recording: cut it out" if text.audio else "has no recording"
            raise TextError(f"{said.name}: {text.id} {reason}; give a NeMo manifest")
    found, failed = [], False
    with console.status("loading the model") as status:
        if quiet:
            status.stop()
        transcriber = Transcriber.load(model, *machine, decoding, nobody if quiet else say)
        transcripts = transcriber.each([Path(text.audio) for text in said])
        try:
            for number, (text, heard) in enumerate(zip(said, transcripts, strict=True), start=1):
                status.update(f"transcribed {number} of {len(said.texts)}")
                if isinstance(heard, AudioError):
                    say(f"{text.audio}: {heard}")
                    failed = True
                else:
                    found.append(documents.heard(heard, text.id))
        except KeyboardInterrupt:
            interrupted("nothing is written")
            raise typer.Exit(INTERRUPTED) from None
    return Texts(transcriber.name, "transcribed now", tuple(found)), failed


def _listed(ids: tuple[str, ...]) -> str:
    from hyperasr.score.texts import shown

    return shown(ids)


def _tell_unmatched(score: "Score", tell: "score_tables.Tell") -> None:
    """Ids that are on one side only."""
    lacking = [("", score.missing)]
    if score.comparison is not None:
        lacking.append((f" in {score.comparison.other}", score.comparison.missing))
    counted = "counted as deletions" if score.total.words.reference else "no words either"
    for where, missing in lacking:
        if missing:
            tell(f"{len(missing):,} without a hypothesis{where}, {counted}: {_listed(missing)}")
    if score.extra:
        tell(f"{len(score.extra):,} without a reference, not counted: {_listed(score.extra)}")


def _write(
    score: "Score", json_file: str | None, pra: Path | None, html: Path | None, audio: bool
) -> None:
    from hyperasr.score import report

    if json_file == "-":
        with _telling_when_full():
            typer.echo(report.to_json(score), nl=False)
    elif json_file is not None:
        save(report.to_json(score), Path(json_file))
    if pra is not None:
        save(report.to_pra(score), pra)
    if html is not None:
        from hyperasr.score.html import to_html

        save(to_html(score, html.parent if audio else None), html)


@contextmanager
def _telling_when_full() -> Iterator[None]:
    """What cannot be printed is one line; a pipe that was closed early is not."""
    if sys.stdout is None:
        raise OutputError("cannot write to stdout: it is closed")
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        sys.stdout = None  # or Python complains again at the end
        reason = (error.strerror or str(error)).lower()
        raise OutputError(f"cannot write to stdout: {reason}") from error
