"""`hyperasr transcribe`: audio files -> transcripts on stdout or in files."""

import os
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from hyperasr import writers
from hyperasr.batch.plan import Failure, Found, Item, check, mirror
from hyperasr.cli import options
from hyperasr.cli.inputs import recordings
from hyperasr.cli.options import (
    Alpha,
    BatchSize,
    BeamSize,
    Beta,
    ClipTimestamps,
    ComputeType,
    Device,
    HighlightWords,
    Hotwords,
    HotwordsFile,
    HotwordWeight,
    Lm,
    MaxCps,
    MaxDuration,
    MaxLineCount,
    MaxLineWidth,
    MaxWordsPerLine,
    MinConfidence,
    MinDuration,
    MinGap,
    Model,
    Nbest,
    OutputFormat,
    Quiet,
    Rescore,
    Threads,
    VadFilter,
    VadMinSilence,
    VadThreshold,
)
from hyperasr.cli.terminal import FAILED, INTERRUPTED, console, interrupted, nobody, say
from hyperasr.errors import AudioError, BrokenOffError, ConfigError, OutputError
from hyperasr.stretches import DEFAULT_HEARING
from hyperasr.subtitles import DEFAULT_RULES, CueRules
from hyperasr.transcript import Transcript

STDIN = "-"  # as in hyperasr.audio, whose libraries take their time
PATIENCE = 2.0
"""Seconds before a progress bar appears."""


def transcribe(
    audio: Annotated[
        list[str],
        typer.Argument(
            help="Files, folders, 'patterns/**/*.wav', @LIST, manifests, wav.scp; - for stdin.",
            show_default=False,
        ),
    ],
    model: Model = "hyperconformer-en",
    output_dir: Annotated[
        str,
        typer.Option(
            "--output-dir",
            "--output_dir",
            "-o",
            help="Folder for the results, in the tree of the inputs; 'source': beside each input; "
            "'-': stdout.",
        ),
    ] = "-",
    output_format: OutputFormat = None,
    device: Device = "auto",
    compute_type: ComputeType = "auto",
    threads: Threads = 0,
    batch_size: BatchSize = 4,
    beam_size: BeamSize = None,
    lm: Lm = None,
    alpha: Alpha = None,
    beta: Beta = None,
    hotwords: Hotwords = None,
    hotwords_file: HotwordsFile = None,
    hotword_weight: HotwordWeight = 4.0,
    nbest: Nbest = 1,
    rescore: Rescore = "none",
    min_confidence: MinConfidence = 0.0,
    clip_timestamps: ClipTimestamps = None,
    vad_filter: VadFilter = DEFAULT_HEARING.vad_filter,
    vad_threshold: VadThreshold = DEFAULT_HEARING.vad_threshold,
    vad_min_silence: VadMinSilence = DEFAULT_HEARING.vad_min_silence,
    max_line_count: MaxLineCount = DEFAULT_RULES.max_line_count,
    max_line_width: MaxLineWidth = DEFAULT_RULES.max_line_width,
    max_words_per_line: MaxWordsPerLine = DEFAULT_RULES.max_words_per_line,
    max_cps: MaxCps = DEFAULT_RULES.max_cps,
    min_duration: MinDuration = DEFAULT_RULES.min_duration,
    max_duration: MaxDuration = DEFAULT_RULES.max_duration,
    min_gap: MinGap = DEFAULT_RULES.min_gap,
    highlight_words: HighlightWords = DEFAULT_RULES.highlight_words,
    quiet: Quiet = False,
) -> None:
    """Write down what is said in each audio file.

    Example: hyperasr transcribe interview.wav -f srt,txt -o subtitles
    """
    formats = options.formats(output_format)
    plan = _plan(audio, output_dir, formats)
    rules = CueRules(
        max_line_count,
        max_line_width,
        max_words_per_line,
        max_cps,
        min_duration,
        max_duration,
        min_gap,
        highlight_words,
    )
    tell = nobody if quiet else say
    hearing = options.hearing(clip_timestamps, vad_filter, vad_threshold, vad_min_silence, tell)
    expected = options.phrases(hotwords, hotwords_file)
    _make_folder(output_dir)

    from hyperasr import runtime  # after the options are known to be good: torch takes seconds

    runtime.settle(threads)
    from hyperasr.decoding import DecodingOptions
    from hyperasr.transcribe import Transcriber

    decoding = DecodingOptions(lm, beam_size, alpha, beta, nbest, rescore, expected, hotword_weight)
    transcriber = Transcriber.load(model, device, batch_size, compute_type, decoding, tell, hearing)
    options.tell_what_shows_nowhere(formats, nbest, min_confidence, rules, tell)
    failed = len(plan.unlisted)
    paths = list(plan.targets)
    bar = _Bar(paths, quiet)
    try:
        for path, found in zip(paths, transcriber.each(paths, bar.heard), strict=True):
            bar.pause()
            failed += isinstance(found, AudioError)
            transcript = _told(found, _name(path), bool(expected), tell)
            if transcript is None:
                continue
            try:
                _deliver(transcript, plan.targets[path], formats, rules, min_confidence)
            except OutputError as error:
                say(f"{_name(path)}: {error}")
                failed += not isinstance(found, AudioError)
                if plan.targets[path] is None:  # stdout is gone for the next file too
                    break
    except KeyboardInterrupt:
        interrupted("what was finished is written")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        bar.pause()
    if failed:
        if len(paths) > 1:
            say(f"{failed} of {len(paths) + len(plan.unlisted)} files failed")
        raise typer.Exit(FAILED)


def _told(
    found: Transcript | AudioError, name: Path, expecting: bool, tell: Callable[[str], None]
) -> Transcript | None:
    """Say what is to be said about a file -> what is to be written, if anything was heard."""
    if isinstance(found, BrokenOffError):
        say(f"{name}: {found}; what was heard before is written")
        return found.heard
    if isinstance(found, AudioError):
        say(f"{name}: {found}")
        return None
    if not found.words:
        tell(f"{name}: no speech heard")
    elif expecting:
        tell(f"{name}: {_heard_hotwords(found)}")
    return found


def _name(path: Path) -> Path:
    """What an input is called: standard input has no name of its own."""
    return Path("stdin") if str(path) == STDIN else path


def _make_folder(output_dir: str) -> None:
    """Where the results go: better told now that nothing can be written than after an hour."""
    if output_dir in ("-", "source"):
        return
    folder = Path(output_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(folder, os.W_OK) else "cannot be written to"
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
    if reason:
        raise typer.BadParameter(
            f"{folder}: {reason}: choose another folder", param_hint="--output-dir"
        )


def _heard_hotwords(transcript: Transcript) -> str:
    """Which hotwords were heard and how often, for a person."""
    count = Counter(phrase for segment in transcript.segments for phrase in segment.hotwords)
    if not count:
        return "no hotword heard"
    return "hotwords heard: " + ", ".join(f"{name} ({times})" for name, times in count.items())


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be heard, and where the results of each go."""

    targets: dict[Path, Path | None]
    """Without the format's suffix; None for stdout."""
    unlisted: tuple[Failure, ...]
    """Folders that cannot be looked into."""


def _plan(inputs: list[str], output_dir: str, formats: list[str]) -> _Plan:
    """Every recording once, standard input last.

    Results that would overwrite each other or an input are refused before anything is written.
    """
    named = [text for text in inputs if text != STDIN]
    if len(inputs) - len(named) > 1:
        raise typer.BadParameter("- is standard input and can be read once", param_hint="AUDIO")
    stdin = [Path(STDIN)] if len(named) < len(inputs) else []
    found = recordings(named) if named else Found((), Path(), (), ())
    if output_dir == "-":
        paths = [*found.recordings, *stdin]
        several = "several formats" if len(formats) > 1 else ""
        if len(paths) > 1 and formats[0] not in writers.ONE_AFTER_ANOTHER:
            several = f"several files as {formats[0]}"
        if several:
            raise typer.BadParameter(f"{several} need a folder: add --output-dir", param_hint="-f")
        return _Plan(dict.fromkeys(paths), found.unlisted)
    items = mirror(found, ["stdin"] if stdin else [])
    items += tuple(Item(path, "stdin", 0) for path in stdin)
    if output_dir != "source":
        items = _side_by_side(items, named)
    folder = found.base if output_dir == "source" else Path(output_dir)
    try:
        check(items, folder, [writers.suffix(name)[1:] for name in formats])
    except ConfigError as error:
        raise typer.BadParameter(str(error), param_hint="--output-dir") from error
    return _Plan({item.path: folder / item.result for item in items}, found.unlisted)


def _side_by_side(items: tuple[Item, ...], named: list[str]) -> tuple[Item, ...]:
    """Results by the bare names of files that were all named one by one, if no two would meet."""
    bare = tuple(replace(item, result=_name(item.path).stem) for item in items)
    alone = {item.path for item in items} <= {Path(STDIN), *map(Path, named)}
    return bare if alone and len({item.result for item in bare}) == len(bare) else items


def _deliver(
    transcript: Transcript,
    target: Path | None,
    formats: list[str],
    rules: CueRules,
    min_confidence: float,
) -> None:
    for name in formats:
        text = writers.write(transcript, name, rules, min_confidence)
        if target is not None:
            writers.save(text, target.with_name(target.name + writers.suffix(name)))
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
