"""`hyperasr transcribe`: audio files -> transcripts on stdout or in files."""

import os
import sys
from collections import Counter
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from hyperasr import writers
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
from hyperasr.cli.terminal import FAILED, INTERRUPTED, console, nobody, say
from hyperasr.errors import AudioError, OutputError
from hyperasr.transcript import Transcript

PATIENCE = 2.0
"""Seconds before a progress bar appears."""


def transcribe(
    audio: Annotated[
        list[Path],
        typer.Argument(help="Audio or video files.", show_default=False, readable=False),
    ],
    model: Model = "hyperconformer-en",
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
    compute_type: ComputeType = "auto",
    threads: Threads = 0,
    batch_size: BatchSize = 4,
    beam_size: BeamSize = None,
    lm: Lm = None,
    alpha: Alpha = None,
    beta: Beta = None,
    hotwords: Annotated[
        list[str] | None,
        typer.Option(help="Words or phrases to expect, with commas or by repeating."),
    ] = None,
    hotwords_file: Annotated[
        Path | None, typer.Option(help="The same from a text file, one a line.")
    ] = None,
    hotword_weight: Annotated[
        float, typer.Option(min=0.0, help="What a hotword is worth, a natural logarithm.")
    ] = 4.0,
    nbest: Annotated[
        int, typer.Option(min=1, help="Texts to keep of each utterance, in json.")
    ] = 1,
    rescore: Annotated[
        str,
        typer.Option(help="attention: let the model's attention decoder choose; none: do not."),
    ] = "none",
    min_confidence: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Mark less certain words in txt, srt, vtt: \\[word?]."),
    ] = 0.0,
    quiet: Quiet = False,
) -> None:
    """Write down what is said in each audio file.

    Example: hyperasr transcribe interview.wav -f srt,txt -o subtitles
    """
    formats = _formats(["txt"] if output_format is None else output_format)
    targets = _targets(audio, output_dir, formats)
    expected = tuple(_phrases(hotwords or [], hotwords_file))
    _make_folder(output_dir)

    from hyperasr import runtime  # after the options are known to be good: torch takes seconds

    runtime.settle(threads)
    from hyperasr.decoding import DecodingOptions
    from hyperasr.transcribe import Transcriber

    decoding = DecodingOptions(lm, beam_size, alpha, beta, nbest, rescore, expected, hotword_weight)
    tell = nobody if quiet else say
    transcriber = Transcriber.load(model, device, batch_size, compute_type, decoding, tell)
    failed = 0
    bar = _Bar(audio, quiet)
    try:
        for path, transcript in zip(audio, transcriber.each(audio, bar.heard), strict=True):
            bar.pause()
            if isinstance(transcript, AudioError):
                say(f"{path}: {transcript}")
                failed += 1
                continue
            if not transcript.words:
                tell(f"{path}: no speech heard")
            elif expected:
                tell(f"{path}: {_heard_hotwords(transcript)}")
            try:
                _deliver(transcript, targets[path], formats, min_confidence)
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


def _make_folder(output_dir: str) -> None:
    """Where the results go: better told now that nothing can be written than after an hour."""
    if output_dir in ("-", "source"):
        return
    folder = Path(output_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(folder, os.W_OK) else "permission denied"
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
    if reason:
        raise typer.BadParameter(
            f"{folder}: {reason}: choose another folder", param_hint="--output-dir"
        )


def _phrases(typed: list[str], file: Path | None) -> list[str]:
    """Hotwords as typed, 'ann, bob marley' or repeated, and those of a file."""
    phrases = [phrase for group in typed for phrase in group.split(",")]
    if file is not None:
        try:
            phrases += file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = (getattr(error, "strerror", None) or "").lower() or "not text in UTF-8"
            raise typer.BadParameter(f"{file}: {reason}", param_hint="--hotwords-file") from error
    return list(dict.fromkeys(phrase.strip() for phrase in phrases if phrase.strip()))


def _heard_hotwords(transcript: Transcript) -> str:
    """Which hotwords were heard and how often, for a person."""
    count = Counter(phrase for segment in transcript.segments for phrase in segment.hotwords)
    if not count:
        return "no hotword heard"
    return "hotwords heard: " + ", ".join(f"{name} ({times})" for name, times in count.items())


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


def _deliver(
    transcript: Transcript, target: Path | None, formats: list[str], min_confidence: float
) -> None:
    marked = writers.mark_doubtful(transcript, min_confidence)
    for name in formats:
        text = writers.WRITERS[name](transcript if name == "json" else marked)
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
        self._lock = Lock()
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
        """So many seconds more are done."""
        with self._lock:
            self._progress.advance(self._task, seconds)
            if monotonic() - self._since > PATIENCE:
                self._progress.start()

    def pause(self) -> None:
        """Clear the bar away, for a line that is to be printed."""
        with self._lock:
            self._progress.stop()


def _duration(path: Path) -> float | None:
    """Seconds, as the header says; 0 for a file that will be complained about in its turn."""
    from hyperasr.audio import duration

    try:
        return duration(path)
    except AudioError:
        return 0.0
