"""Options that several commands share: declared once, so they read the same everywhere."""

import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from hyperasr import writers
from hyperasr.stretches import HearingOptions, parse_clips
from hyperasr.subtitles import DEFAULT_RULES, CueRules

PICTURES = (".png", ".svg")

Model = Annotated[
    str, typer.Option("--model", "-m", envvar="HYPERASR_MODEL", help="Checkpoint folder or name.")
]
Device = Annotated[
    str, typer.Option(help="auto, cpu, cuda, cuda:1, mps. auto: a CUDA GPU if there is one.")
]
ComputeType = Annotated[
    str,
    typer.Option(
        help="auto, float32, bfloat16, int8. auto: bfloat16 where the machine has it and the "
        "answers stay close, else float32."
    ),
]
Threads = Annotated[int, typer.Option(min=0, help="CPU threads; 0: as many as there are cores.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Windows of 16 s that are encoded together.")]
BeamSize = Annotated[
    int | None,
    typer.Option(
        min=1, help="Texts that are followed at once; 1: greedy.", show_default="the model's own"
    ),
]
Lm = Annotated[
    str | None,
    typer.Option(
        help="Language model: ARPA (also .gz) or KenLM binary; none: without.",
        show_default="the model's own",
    ),
]
Alpha = Annotated[
    float | None,
    typer.Option(min=0.0, help="Weight of the language model.", show_default="the model's own"),
]
Beta = Annotated[
    float | None, typer.Option(help="Reward for each word.", show_default="the model's own")
]
OutputFormat = Annotated[
    list[str] | None,
    typer.Option(
        "--output-format",
        "--output_format",
        "-f",
        help=f"{', '.join(writers.WRITERS)}, all; several with commas or by repeating.",
        show_default="txt",
    ),
]
Hotwords = Annotated[
    list[str] | None,
    typer.Option(help="Words or phrases to expect, with commas or by repeating."),
]
HotwordsFile = Annotated[Path | None, typer.Option(help="The same from a text file, one a line.")]
HotwordWeight = Annotated[
    float, typer.Option(min=0.0, help="What a hotword is worth, a natural logarithm.")
]
Nbest = Annotated[int, typer.Option(min=1, help="Texts to keep of each utterance, in json.")]
Rescore = Annotated[
    str,
    typer.Option(help="attention: let the model's attention decoder choose; none: do not."),
]
MinConfidence = Annotated[
    float,
    typer.Option(min=0.0, max=1.0, help="Mark less certain words in txt, srt, vtt: \\[word?]."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]

HEARING = "What is heard"
ClipTimestamps = Annotated[
    str | None,
    typer.Option(
        metavar="START,END,...",
        help="Hear only these parts of each file, in seconds; without the last END to its end.",
        rich_help_panel=HEARING,
    ),
]
VadFilter = Annotated[
    bool,
    typer.Option(
        "--vad-filter",
        help="Hear only where silero-vad finds speech.",
        rich_help_panel=HEARING,
    ),
]
VadThreshold = Annotated[
    float, typer.Option(help="How likely speech has to be, 0 to 1.", rich_help_panel=HEARING)
]
VadMinSilence = Annotated[
    float,
    typer.Option(help="Seconds without speech that are not heard.", rich_help_panel=HEARING),
]

SUBTITLES = "Subtitles (srt, vtt)"
MaxLineCount = Annotated[int, typer.Option(help="Lines of a cue.", rich_help_panel=SUBTITLES)]
MaxLineWidth = Annotated[int, typer.Option(help="Characters of a line.", rich_help_panel=SUBTITLES)]
MaxWordsPerLine = Annotated[
    int | None,
    typer.Option(help="Words of a line.", rich_help_panel=SUBTITLES, show_default="as fit"),
]
MaxCps = Annotated[
    float, typer.Option(help="Characters a second to be read.", rich_help_panel=SUBTITLES)
]
MinDuration = Annotated[
    float, typer.Option(help="Seconds that a cue stays at least.", rich_help_panel=SUBTITLES)
]
MaxDuration = Annotated[
    float, typer.Option(help="Seconds that a cue stays at most.", rich_help_panel=SUBTITLES)
]
MinGap = Annotated[
    float, typer.Option(help="Seconds between two cues, at least.", rich_help_panel=SUBTITLES)
]
HighlightWords = Annotated[
    bool,
    typer.Option(
        "--highlight-words", help="Underline each word while it is said.", rich_help_panel=SUBTITLES
    ),
]


def formats(asked: list[str] | None) -> list[str]:
    """Formats as typed, 'srt,txt' or repeated -> their names, each once."""
    typed = [name.strip().lower() for group in asked or ["txt"] for name in group.split(",")]
    names = [name for name in typed if name]
    for name in names:
        if name not in writers.WRITERS and name != "all":
            raise typer.BadParameter(
                f"no format {name!r}; known: {', '.join(writers.WRITERS)}, all", param_hint="-f"
            )
    if not names:
        raise typer.BadParameter("name at least one format", param_hint="-f")
    return list(writers.WRITERS) if "all" in names else list(dict.fromkeys(names))


def phrases(typed: list[str] | None, file: Path | None) -> tuple[str, ...]:
    """Hotwords as typed, 'ann, bob marley' or repeated, and those of a file."""
    found = [phrase for group in typed or [] for phrase in group.split(",")]
    if file is not None:
        try:
            found += file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = (getattr(error, "strerror", None) or "").lower() or "not text in UTF-8"
            raise typer.BadParameter(f"{file}: {reason}", param_hint="--hotwords-file") from error
    return tuple(dict.fromkeys(phrase.strip() for phrase in found if phrase.strip()))


def hearing(
    clip_timestamps: str | None,
    vad_filter: bool,
    vad_threshold: float,
    vad_min_silence: float,
    tell: Callable[[str], None],
) -> HearingOptions:
    """What is to be heard, as typed."""
    clips = () if clip_timestamps is None else parse_clips(clip_timestamps)
    asked = HearingOptions(clips, vad_filter, vad_threshold, vad_min_silence)
    if not vad_filter and asked != HearingOptions(clips):
        tell("only --vad-filter heeds --vad-threshold and --vad-min-silence: add it")
    return asked


def tell_what_shows_nowhere(
    formats: list[str],
    nbest: int,
    min_confidence: float,
    rules: CueRules,
    tell: Callable[[str], None],
) -> None:
    """Complain of options that were given and that none of the formats heeds."""
    if nbest > 1 and "json" not in formats:
        tell("only json has the texts that --nbest keeps: add -f json")
    if min_confidence > 0 and not {*formats} & {*writers.FOR_PEOPLE}:
        tell("only txt, srt and vtt mark the words for --min-confidence: add one of them")
    if rules != DEFAULT_RULES and not {*formats} & {*writers.SUBTITLES}:
        tell("only srt and vtt heed the options for subtitles: add one of them")


def check_picture(path: Path, option: str) -> None:
    """Refuse what could not be drawn or written, before anything is measured."""
    problem = None
    if path.suffix.lower() not in PICTURES:
        problem = f"{path}: a picture is a {' or '.join(PICTURES)} file"
    elif find_spec("matplotlib") is None:
        problem = "pictures need matplotlib: pip install 'hyperasr[bench]'"
    elif path.is_dir():
        problem = f"{path} is a folder: name a file in it"
    else:
        try:
            tempfile.TemporaryFile(dir=path.parent).close()
        except OSError as error:
            problem = f"cannot write into {path.parent}: {(error.strerror or str(error)).lower()}"
    if problem:
        raise typer.BadParameter(problem, param_hint=option)
