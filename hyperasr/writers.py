"""Transcript -> text. One pure function per format, one table that names them all.

A writer never opens a file: `save` does that, once, for every format. What is on screen at which
time is decided in `subtitles.py`.

Reading order: the formats, the table, the clock, `save`.
"""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from hyperasr.files import replacing
from hyperasr.subtitles import cues, milliseconds
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
    return json.dumps(document, ensure_ascii=False, allow_nan=False, indent=2) + "\n"


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


def to_srt(transcript: Transcript) -> str:
    """SubRip: numbered cues, comma before the milliseconds.

    SubRip has no standard and no escapes, so an arrow `-->` inside a text is shortened to `->`.
    Format: https://www.matroska.org/technical/subtitles.html#srt-subtitles
    """
    return "\n".join(cue_blocks(transcript, ",", lambda line: re.sub("-{2,}>", "->", line)))


def to_vtt(transcript: Transcript) -> str:
    """WebVTT: a header, numbered cues, full stop before the milliseconds; `&`, `<`, `>` escaped.

    Format: https://www.w3.org/TR/webvtt1/
    """
    return "\n".join(["WEBVTT\n", *cue_blocks(transcript, ".", escape_vtt)])


def escape_vtt(line: str) -> str:
    """'a --> <b>' -> 'a --&gt; &lt;b&gt;'."""
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def cue_blocks(transcript: Transcript, mark: str, escape: Callable[[str], str]) -> list[str]:
    """Cues as SubRip and WebVTT both spell them: number from 1, times, lines."""
    blocks = []
    for number, cue in enumerate(cues(transcript), start=1):
        times = f"{clock(cue.start / 1000, mark)} --> {clock(cue.end / 1000, mark)}"
        blocks.append("\n".join([str(number), times, *map(escape, cue.lines)]) + "\n")
    return blocks


WRITERS: dict[str, Callable[[Transcript], str]] = {
    "txt": to_txt,
    "json": to_json,
    "srt": to_srt,
    "vtt": to_vtt,
}


def mark_doubtful(transcript: Transcript, min_confidence: float) -> Transcript:
    """Words that are less certain than that, put as [word?], for people to look at."""

    def marked(word: Word) -> Word:
        return replace(word, text=f"[{word.text}?]") if word.confidence < min_confidence else word

    segments = (
        replace(segment, words=tuple(map(marked, segment.words))) for segment in transcript.segments
    )
    return replace(transcript, segments=tuple(segments)) if min_confidence > 0 else transcript


def clock(seconds: float, mark: str) -> str:
    """3661.5 -> '01:01:01,500' with ',' as the mark; hours go on past 99, and before 0 is 0."""
    ms = milliseconds(seconds)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{mark}{ms % 1000:03}"


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
