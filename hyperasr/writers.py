"""Transcript -> text. One pure function per format, one table that names them all.

A writer never opens a file: `save` does that, once, for every format. What is on screen at which
time is decided in `subtitles.py`.

Reading order: text and JSON, subtitles, columns, TextGrid, times in order, the table, `save`.
"""

import io
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from statistics import fmean

from hyperasr.files import replacing
from hyperasr.subtitles import DEFAULT_RULES, Cue, CueRules, cues, milliseconds, visible
from hyperasr.transcript import Segment, Transcript, Word

SCHEMA_VERSION = 1  # of the JSON; raised when a field changes its meaning or goes away
LANGUAGE = "en"  # the only one the models speak


def to_txt(transcript: Transcript) -> str:
    """One line per segment that has words, words only."""
    lines = (" ".join(segment.text.split()) for segment in transcript.segments)
    return "".join(f"{line}\n" for line in lines if line)


def to_json(transcript: Transcript) -> str:
    """JSON in whisper's shape, with confidences, the model and the audio beside it.

    Times are seconds to the millisecond; a confidence is 0 to 1, and null for a segment without
    words. Shape: `WriteJSON` and `transcribe` of https://github.com/openai/whisper.

    Raises ValueError for NaN or infinity, which JSON does not have.
    """
    document = {
        "schema_version": SCHEMA_VERSION,
        "text": transcript.text,
        "language": LANGUAGE,
        "segments": [
            {
                "id": number,
                "start": round(segment.start, 3),
                "end": round(segment.end, 3),
                "text": segment.text,
                "confidence": confidence(segment),
                "words": [
                    {
                        "word": word.text,
                        "start": round(word.start, 3),
                        "end": round(word.end, 3),
                        "probability": round(word.confidence, 4),
                    }
                    for word in segment.words
                ],
                **_extras(segment),
            }
            for number, segment in enumerate(transcript.segments)
        ],
        "model": {"name": transcript.model, "sha256": transcript.model_sha256},
        "settings": dict(transcript.settings),
        "audio": {"path": transcript.source, "duration": round(transcript.duration, 3)},
    }
    text = io.StringIO()  # json.dumps holds every bracket of ten hours before it joins them
    json.dump(document, text, ensure_ascii=False, allow_nan=False, indent=2)
    text.write("\n")
    return text.getvalue()


def _extras(segment: Segment) -> dict[str, object]:
    """What was asked for beyond the words: alternatives and their scores, hotwords heard."""
    extras: dict[str, object] = {}
    if segment.alternatives:
        extras["nbest"] = [
            {"text": found.text, "score": round(found.score, 3)} for found in segment.alternatives
        ]
    if segment.hotwords:
        extras["hotwords"] = list(segment.hotwords)
    return extras


def confidence(segment: Segment) -> float | None:
    """Mean confidence of the words, 0 to 1; None where there are none to be sure of."""
    return round(fmean(word.confidence for word in segment.words), 4) if segment.words else None


def to_jsonl(transcript: Transcript) -> str:
    """One line as NeMo's transcripts have it, with the segments beside: a manifest of one file.

    Times are seconds from the start of the file. `pred_text` is what NeMo calls the words that a
    model heard: https://github.com/NVIDIA/NeMo/blob/main/examples/asr/transcribe_speech.py
    """
    line = {
        "audio_filepath": transcript.source,
        "duration": round(transcript.duration, 3),
        "pred_text": transcript.text,
        "segments": [
            {"start": said.start / 1000, "end": said.end / 1000, "text": said.text}
            for said in in_order(transcript)
        ],
    }
    return json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n"


def to_srt(transcript: Transcript, rules: CueRules = DEFAULT_RULES) -> str:
    """SubRip: numbered cues, comma before the milliseconds.

    SubRip has no standard and no escapes, so an arrow `-->` inside a text is shortened to `->`.
    Format: https://www.matroska.org/technical/subtitles.html#srt-subtitles
    """
    blocks = cue_blocks(cues(transcript, rules), ",", lambda word: re.sub("-{2,}>", "->", word))
    return "\n".join(blocks)


def to_vtt(transcript: Transcript, rules: CueRules = DEFAULT_RULES) -> str:
    """WebVTT: a header, numbered cues, full stop before the milliseconds; `&`, `<`, `>` escaped.

    Format: https://www.w3.org/TR/webvtt1/
    """
    return "\n".join(["WEBVTT\n", *cue_blocks(cues(transcript, rules), ".", escape_vtt)])


def escape_vtt(word: str) -> str:
    """'--><b>' -> '--&gt;&lt;b&gt;'."""
    return word.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def cue_blocks(shown: Iterable[Cue], mark: str, escape: Callable[[str], str]) -> list[str]:
    """Cues as SubRip and WebVTT both spell them: number from 1, times, lines."""
    blocks = []
    for number, cue in enumerate(shown, start=1):
        times = f"{clock(cue.start, mark)} --> {clock(cue.end, mark)}"
        blocks.append("\n".join([str(number), times, *cue_lines(cue, escape)]) + "\n")
    return blocks


def cue_lines(cue: Cue, escape: Callable[[str], str]) -> list[str]:
    """The lines of a cue; the word that is being said stands between <u> and </u>."""
    places = count()
    return [
        " ".join(
            f"<u>{escape(word)}</u>" if next(places) == cue.spoken else escape(word)
            for word in line
        )
        for line in cue.lines
    ]


def clock(ms: int, mark: str) -> str:
    """3661500 milliseconds -> '01:01:01,500' with ',' as the mark; hours go on past 99."""
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{mark}{ms % 1000:03}"


def to_tsv(transcript: Transcript) -> str:
    """Whisper's table: a header, then start and end in milliseconds and text of every segment."""
    rows = [f"{said.start}\t{said.end}\t{said.text}\n" for said in in_order(transcript)]
    return "".join(["start\tend\ttext\n", *rows])


def to_ctm(transcript: Transcript) -> str:
    """NIST's time marked words: file, channel, start and length in seconds, word, confidence.

    Format: https://github.com/usnistgov/SCTK/blob/master/doc/infmts.htm
    """
    file = file_id(transcript)
    return "".join(
        f"{file} 1 {seconds(start)} {seconds(end - start)} {word.text.replace(' ', '_')} "
        f"{word.confidence:.4f}\n"
        for said in in_order(transcript)
        for start, end, word in said.words
    )


def to_stm(transcript: Transcript) -> str:
    """NIST's time marked segments: file, channel, speaker, start and end in seconds, text.

    Nobody tells speakers apart, so the file stands for the speaker. A text that begins with `<`
    would be read as a label, unless one (empty) comes before it.

    Format: https://github.com/usnistgov/SCTK/blob/master/doc/infmts.htm
    """
    file = file_id(transcript)
    return "".join(
        f"{file} 1 {file} {seconds(said.start)} {seconds(said.end)} "
        f"{'<> ' * said.text.startswith('<')}{said.text}\n"
        for said in in_order(transcript)
    )


def file_id(transcript: Transcript) -> str:
    """The name of the file as NIST's formats want it: no folder, suffix, blanks or `;;`."""
    return re.sub(r"^;|\s", "_", Path(transcript.source).stem) or "_"


def to_textgrid(transcript: Transcript) -> str:
    """Praat's annotation: two tiers, `segments` and `words`, empty where nobody speaks.

    Format: https://www.fon.hum.uva.nl/praat/manual/TextGrid_file_formats.html
    """
    found = in_order(transcript)
    tiers = {
        "segments": [(said.start, said.end, said.text) for said in found],
        "words": [(start, end, word.text) for said in found for start, end, word in said.words],
    }
    until = max([milliseconds(transcript.duration), 1, *(said.end for said in found)])
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {seconds(until)}",
        "tiers? <exists>",
        f"size = {len(tiers)}",
        "item []:",
    ]
    for number, (name, spans) in enumerate(tiers.items(), start=1):
        lines += [f"    item [{number}]:", *interval_tier(name, without_gaps(spans, until))]
    return "\n".join(lines) + "\n"


def interval_tier(name: str, intervals: list[tuple[int, int, str]]) -> list[str]:
    """The lines of one tier of a TextGrid."""
    lines = [
        '        class = "IntervalTier"',
        f'        name = "{name}"',
        "        xmin = 0",
        f"        xmax = {seconds(intervals[-1][1])}",
        f"        intervals: size = {len(intervals)}",
    ]
    for number, (start, end, text) in enumerate(intervals, start=1):
        quoted = text.replace('"', '""')
        lines += [
            f"        intervals [{number}]:",
            f"            xmin = {seconds(start)}",
            f"            xmax = {seconds(end)}",
            f'            text = "{quoted}"',
        ]
    return lines


def without_gaps(spans: Iterable[tuple[int, int, str]], until: int) -> list[tuple[int, int, str]]:
    """The spans, with empty ones where none is, from 0 to `until`."""
    filled, now = [], 0
    for start, end, text in [*spans, (until, until, "")]:
        filled += [(now, start, "")] if now < start else []
        filled += [(start, end, text)] if start < end else []
        now = end
    return filled


@dataclass(frozen=True, slots=True)
class Stretch:
    """A segment that has words, and these, from start to end in milliseconds."""

    start: int
    end: int
    words: tuple[tuple[int, int, Word], ...]

    @property
    def text(self) -> str:
        """The words joined by single spaces."""
        return " ".join(word.text for _, _, word in self.words)


def in_order(transcript: Transcript) -> list[Stretch]:
    """Segments with words, one after the other, each around its words, which follow each other."""
    segments = [(segment, words) for segment in transcript.segments if (words := visible(segment))]
    times = iter(timeline([(word.start, word.end) for _, words in segments for word in words]))
    spoken = [tuple((*next(times), word) for word in words) for _, words in segments]
    found = []
    free = 0
    for number, ((segment, _), timed) in enumerate(zip(segments, spoken, strict=True)):
        start = max(min(milliseconds(segment.start), timed[0][0]), free)
        following = [later[0][0] for later in spoken[number + 1 : number + 2]]
        free = max(min([milliseconds(segment.end), *following]), timed[-1][1])
        found.append(Stretch(start, free, timed))
    return found


def timeline(spans: Sequence[tuple[float, float]]) -> list[tuple[int, int]]:
    """Spans of seconds -> milliseconds, in order: none overlaps the next, each lasts 1 at least."""
    starts = [milliseconds(start) for start, _ in spans]
    found = []
    free = 0
    for number, (_, end) in enumerate(spans):
        start = max(starts[number], free)
        free = max(min([milliseconds(end), *starts[number + 1 : number + 2]]), start + 1)
        found.append((start, free))
    return found


def seconds(ms: int) -> str:
    """1500 -> '1.500'."""
    return f"{ms // 1000}.{ms % 1000:03}"


SUBTITLES: dict[str, Callable[[Transcript, CueRules], str]] = {"srt": to_srt, "vtt": to_vtt}
"""What keeps to rules."""

WRITERS: dict[str, Callable[[Transcript], str]] = {
    "txt": to_txt,
    "srt": to_srt,
    "vtt": to_vtt,
    "tsv": to_tsv,
    "json": to_json,
    "jsonl": to_jsonl,
    "ctm": to_ctm,
    "stm": to_stm,
    "textgrid": to_textgrid,
}

FOR_PEOPLE = ("txt", "srt", "vtt")
"""Where doubtful words are marked; programs read the others."""

ONE_AFTER_ANOTHER = ("txt", "jsonl", "ctm", "stm")
"""Formats in which several files make one file of that format."""


def suffix(name: str) -> str:
    """What the files of a format end in: its name, but Praat looks for .TextGrid."""
    return ".TextGrid" if name == "textgrid" else f".{name}"


def write(
    transcript: Transcript,
    name: str,
    rules: CueRules = DEFAULT_RULES,
    min_confidence: float = 0.0,
) -> str:
    """The transcript in the format of that name, as a user asked for it."""
    if name in FOR_PEOPLE:
        transcript = mark_doubtful(transcript, min_confidence)
    return SUBTITLES[name](transcript, rules) if name in SUBTITLES else WRITERS[name](transcript)


def mark_doubtful(transcript: Transcript, min_confidence: float) -> Transcript:
    """Words that are less certain than that, put as [word?], for people to look at."""

    def marked(word: Word) -> Word:
        return replace(word, text=f"[{word.text}?]") if word.confidence < min_confidence else word

    segments = (
        replace(segment, words=tuple(map(marked, segment.words))) for segment in transcript.segments
    )
    return replace(transcript, segments=tuple(segments)) if min_confidence > 0 else transcript


def save(text: str, path: Path) -> None:
    """Write `text` to `path` in UTF-8, lines ending in "\\n"; nobody sees a half-written file.

    Missing folders are created, a link is followed, and what UTF-8 cannot hold (half a surrogate
    pair, as in undecodable file names) becomes `\\udcff`, which JSON reads back.

    Raises OutputError, saying what to do, if the file cannot be written; what stood there stays.
    """
    with (
        replacing(path) as partial,
        partial.open("x", encoding="utf-8", errors="backslashreplace", newline="\n") as file,
    ):
        file.write(text)
