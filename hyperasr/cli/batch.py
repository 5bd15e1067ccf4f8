"""`hyperasr batch`: thousands of recordings -> a folder of transcripts, resumable."""

import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import typer

from hyperasr import __version__, writers
from hyperasr.batch.journal import Journal, decisive_files, settings_digest
from hyperasr.batch.node import Order
from hyperasr.batch.plan import Item, check, mirror
from hyperasr.batch.report import NAME as REPORT
from hyperasr.batch.report import Report, counted
from hyperasr.batch.run import Leftovers, Outcome, finished, run
from hyperasr.cli import options
from hyperasr.cli.engines import Address, EngineChoice, EngineName, Hearer, hearer
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
from hyperasr.cli.progress import Watch
from hyperasr.cli.terminal import (
    FAILED,
    INTERRUPTED,
    console,
    end_at_next_interrupt,
    interrupted,
    nobody,
    say,
)
from hyperasr.errors import ClusterError, OutputError
from hyperasr.stretches import DEFAULT_HEARING
from hyperasr.subtitles import DEFAULT_RULES, CueRules


def batch(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Files, folders, 'patterns/**/*.wav', @LIST, NeMo manifests, wav.scp.",
            show_default=False,
        ),
    ],
    output_dir: Annotated[
        Path,
        typer.Option(
            "--output-dir",
            "--output_dir",
            "-o",
            help="Folder for the results, in the tree of the inputs.",
            show_default=False,
        ),
    ],
    output_format: OutputFormat = None,
    resume: Annotated[
        bool,
        typer.Option("--resume/--overwrite", help="Go on where an earlier run ended, or do all."),
    ] = True,
    skip_existing: Annotated[
        bool,
        typer.Option("--skip-existing", help="Leave alone what has all its results, whosoever's."),
    ] = False,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop at the first file that fails.")
    ] = False,
    engine: EngineChoice = EngineName.local,
    address: Address = None,
    model: Model = "hyperconformer-en",
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
    """Write down what is said in thousands of files; killed or not, the same command goes on.

    Example: hyperasr batch recordings -o transcripts -f srt,json
    """
    if skip_existing and not resume:
        raise typer.BadParameter("--skip-existing and --overwrite contradict each other")
    if address is not None and engine is EngineName.local:
        raise typer.BadParameter("--address is for --engine ray: add it")
    formats = {name: writers.suffix(name)[1:] for name in options.formats(output_format)}
    suffixes = list(formats.values())
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
    expected = options.phrases(hotwords, hotwords_file)
    tell = nobody if quiet else say
    hearing = options.hearing(clip_timestamps, vad_filter, vad_threshold, vad_min_silence, tell)
    found = recordings(inputs)
    items = mirror(found, [Path(REPORT).stem] if "json" in formats else [])
    check(items, output_dir, suffixes)
    with Journal(output_dir) as journal:
        asked = [i for i in items if not (skip_existing and _has_all(i, output_dir, suffixes))]
        if not asked:
            tell(f"all results of {counted(len(items), 'recording')} are there")
            raise typer.Exit(FAILED if found.unlisted else 0)

        from hyperasr import runtime  # after the options are known to be good: torch takes seconds

        runtime.settle(threads)
        from hyperasr.decoding import DecodingOptions

        decoding = DecodingOptions(
            lm, beam_size, alpha, beta, nbest, rescore, expected, hotword_weight
        )
        order = Order(model, batch_size, compute_type, decoding, hearing)
        with (
            _interruptible(),
            hearer(engine, address, order, device, threads, tell) as found_model,
        ):
            options.tell_what_shows_nowhere(list(formats), nbest, min_confidence, rules, tell)
            told = {
                **found_model.settings,
                "min_confidence": min_confidence,
                "subtitles": asdict(rules),
                "formats": list(formats),
            }
            settings = _digest(found_model, told, model, lm)
            if not resume:
                journal.clear()
            with console.status("comparing with the journal") as status:
                if quiet:
                    status.stop()
                done = finished(asked, journal, settings, suffixes)
            todo = [item for item in asked if item not in done]
            tell(_intention(len(items), todo, journal))
            begun, watch, leftovers = monotonic(), Watch(todo, quiet), Leftovers(output_dir, items)
            work = run(
                found_model.in_order(todo),
                found_model.engine(watch.heard),
                lambda transcript: {
                    suffix: writers.write(transcript, name, rules, min_confidence)
                    for name, suffix in formats.items()
                },
                journal,
                settings,
                watch.started,
            )
            outcomes, interrupted = _watched(work, watch, journal, fail_fast)
            leftovers.remove()
            report = Report(
                found_model.name,
                found_model.sha256,
                told,
                len(items),
                len(items) - len(todo),
                tuple(outcomes),
                found.unlisted,
                monotonic() - begun,
                interrupted,
            )
            _end(report, output_dir, tell)


def _has_all(item: Item, folder: Path, suffixes: list[str]) -> bool:
    return all((folder / f"{item.result}.{suffix}").exists() for suffix in suffixes)


def _digest(heard_by: Hearer, told: dict[str, Any], model: str, lm: str | None) -> str:
    """Of everything but the recording that decides what is written."""
    decides = {name: value for name, value in told.items() if name != "formats"}
    decides |= {"version": __version__, "model": heard_by.name}
    return settings_digest(decides, decisive_files(model, lm))


def _intention(count: int, todo: list[Item], journal: Journal) -> str:
    again = sum(1 for item in todo if item.result in journal.records)
    text = f"{counted(count, 'recording')}, {count - len(todo)} done before, {len(todo)} to do"
    if again:
        text += f", {again} of them again: the settings, the recording or a result has changed"
    return text


def _watched(
    work: Generator[Outcome, None, None], watch: Watch, journal: Journal, fail_fast: bool
) -> tuple[list[Outcome], bool]:
    """What comes of the work, and whether somebody interrupted it."""
    outcomes: list[Outcome] = []
    try:
        with closing(work):
            for outcome in work:
                outcomes.append(outcome)
                watch.finished(outcome)
                if outcome.error is not None:
                    say(f"{outcome.item.path}: {outcome.error}")
                    if fail_fast or outcome.hopeless or journal.broken:
                        break
    except KeyboardInterrupt:
        end_at_next_interrupt("hyperasr: interrupted; the same command goes on\n")
        return outcomes, True
    except ClusterError as error:
        say(str(error))
    finally:
        watch.close()
    return outcomes, False


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM is what Ctrl-C is."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(report: Report, folder: Path, tell: Callable[[str], None]) -> None:
    """The report, to a person and to report.json; the exit code."""
    for line in report.lines():
        tell(line)
    failed = len(report.failures)
    try:
        report.write(folder)
    except OutputError as error:
        say(str(error))
        failed += 1
    if report.interrupted:
        left = "file is" if report.left == 1 else "files are"
        interrupted(f"{report.left} {left} left, the same command goes on")
        raise typer.Exit(INTERRUPTED)
    if report.failures or report.left:
        left = f"; {report.left} were not begun" if report.left else ""
        say(f"{len(report.failures)} of {report.planned} files failed{left}")
    if failed or report.left:
        raise typer.Exit(FAILED)
