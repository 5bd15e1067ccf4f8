"""NeMo manifests: one JSON object a line, one recording each. No torch here."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperasr.errors import ManifestError

LONGEST = 1e7
"""Seconds; nobody recorded four months in one file."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One line of a manifest; times are seconds."""

    audio: Path
    duration: float
    text: str
    speaker: str = ""
    source: str = ""
    offset: float = 0.0
    """Where in the file it begins."""
    piece: bool = False
    """Whether the manifest states an offset, 0 or another: it is so much of the file then."""


def read_manifest(path: Path) -> list[Utterance]:
    """The utterances of a NeMo manifest, in order; audio paths are relative to the manifest.

    Needs `audio_filepath` and `duration`; reads `text`, `speaker`, `source` and `offset` where
    present.
    Raises ManifestError naming the line that cannot be used.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = (getattr(error, "strerror", None) or "").lower() or "not text in UTF-8"
        raise ManifestError(f"{path}: cannot read this manifest: {reason}") from error
    found = [
        _parse(line, path, number) for number, line in enumerate(lines, start=1) if line.strip()
    ]
    if not found:
        raise ManifestError(f"{path}: this manifest names no recordings")
    return found


def _parse(line: str, manifest: Path, number: int) -> Utterance:
    where = f"{manifest}, line {number}"
    try:
        entry: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", None) or str(error)
        raise ManifestError(f"{where}: not a JSON object: {reason}") from error
    if not isinstance(entry, dict) or not isinstance(entry.get("audio_filepath"), str):
        raise ManifestError(f'{where}: "audio_filepath" is missing')
    duration: Any = entry.get("duration")
    if not _is_number(duration) or not 0 < duration < LONGEST:
        raise ManifestError(f'{where}: "duration" must be a positive number of seconds')
    offset: Any = entry.get("offset") or 0.0
    if not _is_number(offset) or not 0 <= offset < LONGEST:
        raise ManifestError(f'{where}: "offset" must be a number of seconds, 0 or more')
    texts = {name: entry.get(name) for name in ("text", "speaker", "source")}
    for name, value in texts.items():
        if isinstance(value, bool) or not isinstance(value, str | int | None):
            raise ManifestError(f'{where}: "{name}" must be a string')
    return Utterance(
        audio=manifest.parent / entry["audio_filepath"],
        duration=float(duration),
        offset=float(offset),
        piece=entry.get("offset") is not None,
        **{name: "" if value is None else str(value) for name, value in texts.items()},
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
