"""A file or a folder -> its texts, whatever format it is in; the content tells which.

Reading order: `read`, then files, then folders.
"""

import gzip
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from hyperasr.errors import TextError
from hyperasr.score import documents
from hyperasr.score.formats import IDS, LINES, recognise
from hyperasr.score.texts import Text, Texts, unique

GZIP = b"\x1f\x8b"
COMMENT = ";;"
"""What a line begins with that sclite's formats do not read."""
KINDS = {".json": "JSON", ".vtt": "VTT", ".srt": "SRT", ".txt": "plain text"}
"""What a folder may hold; of files with one name the first of these is taken."""
TABLES = {"start\tend\ttext\n": "whisper's table", 'File type = "ooTextFile"': "a Praat TextGrid"}
"""What files begin with that would pass for plain text, numbers and all."""
AUDIO = (".flac", ".wav", ".opus", ".mp3")
"""Recordings looked for beside a transcript of LibriSpeech."""


def read(path: Path, heard: bool = False) -> Texts:
    """The texts of a file or folder; `heard`: they are hypotheses, not references.

    Raises TextError naming the file, the line where there is one, and what to do.
    """
    return unique(_folder(path, heard) if path.is_dir() else _file(path, heard))


def read_both(path: Path) -> tuple[Texts, Texts]:
    """References and hypotheses of NeMo JSON lines that have `text` and `pred_text`.

    Raises TextError when there are no hypotheses in it.
    """
    content = "" if path.is_dir() else _content(path)  # once: it may be a pipe
    if '"pred_text"' not in content:
        raise TextError(
            f'{path}: holds no hypotheses ("pred_text"): name them after the references'
        )
    return unique(_parsed(path, content, heard=False)), unique(_parsed(path, content, heard=True))


def _file(path: Path, heard: bool) -> Texts:
    return _parsed(path, _content(path), heard)


def _parsed(path: Path, content: str, heard: bool) -> Texts:
    """The texts in the content of a file."""
    name = path.name.removesuffix(".gz")
    for start, kind in TABLES.items():
        if content.startswith(start):
            raise TextError(f"{path}: {kind}, which is not read: give the txt, srt, json or ctm")
    format = _document_format(content, Path(name).suffix.lower())
    if format:
        return Texts(str(path), format, (_document(path, content, format),))
    lines = [
        (number, line)
        for number, line in enumerate(content.split("\n"), start=1)
        if line.strip() and not line.startswith(COMMENT)
    ]
    format = recognise(lines, name) if lines else None
    if format is None:
        return Texts(str(path), "plain text", (_document(path, content, "plain text"),))
    with _telling(path):
        found = LINES[format](lines, heard)
    return Texts(str(path), format, tuple(_beside(path.parent, text) for text in found))


def _document_format(content: str, suffix: str) -> str | None:
    """The format of a file that holds one text; None for lines with ids, and plain text."""
    start = content.lstrip()
    if start.startswith("WEBVTT") or suffix == ".vtt":
        return "VTT"
    if any(map(documents.CUE.fullmatch, start.split("\n", 2)[:2])) or suffix == ".srt":
        return "SRT"
    document = documents.parse(content) if start.startswith("{") else None
    if document is None:
        return "JSON" if suffix == ".json" and not start.startswith("{") else None
    one_line = "\n" not in start.rstrip()
    if one_line and any(key in document for key in ("audio_filepath", "pred_text", *IDS)):
        return None  # a manifest of one line
    return "JSON" if "segments" in document or suffix == ".json" else None


def _document(path: Path, content: str, format: str) -> Text:
    """A file that holds one text; its id is its name."""
    name = _stem(path.name)
    with _telling(path):
        if format in ("VTT", "SRT"):
            return documents.subtitles(content, name, escaped=format == "VTT")
        if format == "JSON":
            return documents.transcript(content, name)
    return Text(name, " ".join(content.split()))


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    """What is wrong with a file, or with one of its lines: "12: reason"."""
    try:
        yield
    except ValueError as error:
        line, _, reason = str(error).partition(": ")
        where = f"{path}, line {line}: {reason}" if line.isdigit() else f"{path}: {error}"
        raise TextError(where) from error


def _content(path: Path) -> str:
    """The text of a file, plain or gzipped, in UTF-8."""
    try:
        found = path.read_bytes()
        if found.startswith(GZIP):
            found = gzip.decompress(found)
    except FileNotFoundError:
        raise TextError(f"{path}: no such file or folder: check the name") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TextError(f"{path}: damaged compressed data ({error}): copy it again") from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise TextError(f"{path}: {reason}: give transcripts") from error
    try:
        text = found.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = found.count(b"\n", 0, error.start) + 1
        raise TextError(
            f"{path}, line {line}: not UTF-8: convert the file, as with iconv -f latin1 -t utf-8"
        ) from error
    if "\0" in text:
        raise TextError(f"{path}: not a text: give transcripts")
    return re.sub(r"\r\n?", "\n", text)


def _stem(name: str) -> str:
    """'talk.srt.gz' -> 'talk'."""
    name = name.removesuffix(".gz")
    return name.removesuffix(Path(name).suffix) or name


def _beside(folder: Path, text: Text) -> Text:
    """The same with its recording as seen from the working folder."""
    return replace(text, audio=str(folder / text.audio)) if text.audio else text


def _folder(folder: Path, heard: bool) -> Texts:
    """A LibriSpeech tree, a Kaldi data folder, or files whose names tell them apart."""
    chapters = sorted(folder.rglob("*.trans.txt"))
    if chapters:
        found = [text for path in chapters for text in _chapter(path)]
        return Texts(str(folder), "LibriSpeech", tuple(found))
    if (folder / "text").is_file():
        return _file(folder / "text", heard)
    best: dict[str, tuple[int, Path]] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix().removesuffix(".gz")
        suffix = Path(name).suffix.lower()
        if suffix in KINDS and path.is_file() and not _is_report(path):
            stem = name[: -len(suffix)]
            rank = list(KINDS).index(suffix)
            best[stem] = min(best.get(stem, (rank, path)), (rank, path))
    if not best:
        raise TextError(
            f"{folder}: no transcripts in this folder: it needs .txt, .srt, .vtt or .json files, "
            "LibriSpeech's .trans.txt or Kaldi's text; name files of other formats themselves"
        )
    formats = list(KINDS.values())
    texts = [
        replace(_document(path, _content(path), formats[rank]), id=name)
        for name, (rank, path) in best.items()
    ]
    kinds = sorted({formats[rank] for rank, _ in best.values()})
    return Texts(str(folder), f"folder of {', '.join(kinds)}", tuple(texts))


def _is_report(path: Path) -> bool:
    """Whether `hyperasr batch` wrote this about its run: it lies among the transcripts."""
    document = documents.parse(_content(path)) if path.name == "report.json" else None
    return document is not None and {"schema_version", "files", "rtfx"} <= document.keys()


def _chapter(path: Path) -> Iterator[Text]:
    """The utterances of one .trans.txt, with the recordings that lie beside it."""
    for text in _file(path, heard=False):
        recordings = (path.parent / f"{text.id}{suffix}" for suffix in AUDIO)
        audio = next((recording for recording in recordings if recording.is_file()), None)
        yield replace(text, audio=str(audio)) if audio else text
