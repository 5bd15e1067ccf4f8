"""A whole file -> the one text it holds: SRT, WebVTT, hyperasr's and whisper's JSON."""

import html
import json
import re
from collections.abc import Mapping
from typing import Any

from hyperasr.score.formats import alternatives, plain, seconds
from hyperasr.score.texts import Text, TimedWord
from hyperasr.transcript import Transcript

CLOCK = r"(?:\d+:)?\d{1,3}:\d{2}[.,]\d{1,3}"
CUE = re.compile(rf"\s*{CLOCK}\s*-->\s*{CLOCK}(\s.*)?")
TAG = re.compile(r"</?[a-zA-Z0-9:.][^<>]*>|\{\\[^{}]*\}")
NOT_SPOKEN = ("WEBVTT", "NOTE", "STYLE", "REGION")
"""Blocks of WebVTT that are on no screen."""


def subtitles(content: str, name: str, escaped: bool) -> Text:
    """The words of all cues, in order, without tags; `escaped`: WebVTT writes & as &amp;."""
    spoken: list[str] = []
    for block in re.split(r"\n[^\S\n]*\n", content):
        lines = block.strip().split("\n")
        times = [number for number, line in enumerate(lines[:2]) if CUE.fullmatch(line)]
        if times:
            spoken += lines[times[0] + 1 :]
        elif lines != [""] and not lines[0].startswith(NOT_SPOKEN):
            raise ValueError(f'a block without times: "{lines[0][:40]}"')
    text = " ".join(TAG.sub("", line) for line in spoken)
    return Text(name, html.unescape(text) if escaped else text)


def transcript(content: str, name: str) -> Text:
    """hyperasr's JSON, and whisper's: words with times and confidences where it has them."""
    document = parse(content)
    if document is None:
        raise ValueError("not a JSON object with a transcript: give one object in each file")
    segments = document.get("segments") or []
    if not isinstance(segments, list) or not all(isinstance(s, dict) for s in segments):
        raise ValueError('"segments" must be a list of objects')
    text = document.get("text")
    if not isinstance(text, str):
        if not segments:
            raise ValueError('this JSON holds no transcript: "text" is missing')
        text = " ".join(str(segment.get("text", "")) for segment in segments)
    words = tuple(_words(segments))
    about = document.get("audio")
    audio = about if isinstance(about, dict) else {}
    return Text(
        name,
        plain(text),
        words if " ".join(word.text for word in words).split() == plain(text).split() else (),
        alternatives([_listed(segment) for segment in segments]) if _has_lists(segments) else (),
        audio=plain(str(audio.get("path") or "")),
    )


def heard(transcript: Transcript, name: str) -> Text:
    """What a model heard just now, under the name of its reference."""
    lists = [
        tuple(alternative.text for alternative in segment.alternatives) or (segment.text,)
        for segment in transcript.segments
    ]
    return Text(
        name,
        transcript.text,
        tuple(TimedWord(w.text, w.start, w.end, w.confidence) for w in transcript.words),
        tuple(lists) if any(segment.alternatives for segment in transcript.segments) else (),
    )


def _words(segments: list[dict[str, Any]]) -> list[TimedWord]:
    found = []
    for segment in segments:
        spoken = segment.get("words") or []
        for word in spoken if isinstance(spoken, list) else [spoken]:
            if not isinstance(word, dict) or not isinstance(word.get("word"), str):
                raise ValueError('a word of "words" must be an object with a "word"')
            start, end, sure = (seconds(word.get(key)) for key in ("start", "end", "probability"))
            sure = None if sure is None or sure > 1 else sure
            found.append(TimedWord(plain(word["word"]).strip(), start, end, sure))
    return found


def _has_lists(segments: list[dict[str, Any]]) -> bool:
    return any(segment.get("nbest") for segment in segments)


def _listed(segment: dict[str, Any]) -> dict[str, Any]:
    """A segment with its own text for an n-best list, if it has none."""
    return segment if segment.get("nbest") else segment | {"nbest": [segment.get("text", "")]}


def parse(content: str) -> Mapping[str, Any] | None:
    """A file that is one JSON object; None if it is not."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
