"""What is named on a command line -> recordings -> where the results of each belong. No torch here.

    inputs -> find -> recordings below one folder -> mirror -> items

The tree is mirrored from the deepest folder that holds everything that was named, so no two
recordings share a result, and the place of a result does not depend on what else is in a folder.
"""

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePath

from hyperasr.errors import ConfigError, ManifestError
from hyperasr.manifest import read_manifest

AUDIO_SUFFIXES = frozenset(
    {
        ".3gp", ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".au",
        ".avi", ".caf", ".flac", ".flv", ".m4a", ".m4b", ".m4v", ".mka",
        ".mkv", ".mov", ".mp2", ".mp3", ".mp4", ".mpeg", ".mpg", ".oga",
        ".ogg", ".opus", ".sph", ".w64", ".wav", ".webm", ".wma", ".wmv",
    }
)  # fmt: skip
"""What is taken for a recording in a folder; a file that is named is always taken."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A file or folder that could not be used, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """The recordings that some inputs lead to, each once, in the order of the inputs."""

    recordings: tuple[Path, ...]
    base: Path
    """The deepest folder that holds everything that was named."""
    barren: tuple[str, ...]
    """Inputs that lead to no recording."""
    unlisted: tuple[Failure, ...]
    """Folders that cannot be looked into."""


@dataclass(frozen=True, slots=True)
class Item:
    """One recording of a plan."""

    path: Path
    result: str
    """Where the results go, below the output folder and without the format's suffix."""
    size: int
    """Bytes; 0 for a file that will be complained about in its turn."""


# Inputs -> recordings


def find(inputs: Sequence[str]) -> Found:
    """The recordings that inputs lead to.

    An input is a file, a folder (searched with all that is below it), a pattern such as
    `talks/**/*.wav`, `@LIST` with an input a line, a NeMo manifest (.json, .jsonl) or a Kaldi
    wav.scp. Hidden files and folders below an input are passed over.

    Raises ManifestError when a list, a manifest or a wav.scp cannot be read.
    """
    unlisted: list[Failure] = []
    recordings: dict[str, Path] = {}  # by absolute path, so that each comes once
    bases, barren = [], []
    for text in inputs:
        count = 0
        for base, paths in _named(text, unlisted):
            bases.append(os.path.abspath(base))
            for path in paths:
                count += 1
                recordings.setdefault(os.path.abspath(path), path)
        if not count:
            barren.append(text)
    base = Path(os.path.commonpath(bases) if bases else ".").absolute()
    return Found(tuple(recordings.values()), base, tuple(barren), tuple(unlisted))


Named = Iterator[tuple[PurePath, Iterable[Path]]]
"""A folder, and recordings below it."""


def _named(text: str, unlisted: list[Failure]) -> Named:
    path = Path(text)
    if os.path.isdir(text):
        yield path, _walk(path, unlisted)
    elif os.path.isfile(text) and path.suffix.lower() in (".json", ".jsonl"):
        yield from _of_manifest(path)
    elif os.path.isfile(text) and path.suffix == ".scp":
        yield from _of_scp(path)
    elif text.startswith("@") and not os.path.lexists(text):
        for line in _lines(Path(text[1:])):
            if line.startswith("@"):
                raise ManifestError(f"{text[1:]}: names a list in a list, {line}: name it itself")
            yield from _named(line, unlisted)
    elif glob.has_magic(text) and not os.path.lexists(text):
        fixed = takewhile(lambda part: not glob.has_magic(part), path.parts)
        yield PurePath(*fixed), _matches(text, unlisted)
    else:
        yield path.parent, [path]


def _walk(top: Path, unlisted: list[Failure]) -> Iterator[Path]:
    """The recordings in a folder and below it, in the order of their names."""

    def tell(error: OSError) -> None:
        unlisted.append(Failure(Path(error.filename), (error.strerror or str(error)).lower()))

    for folder, folders, files in os.walk(top, onerror=tell, followlinks=True):
        seen = [name for name in folders if not name.startswith(".")]
        folders[:] = sorted(name for name in seen if not _leads_back(folder, name))
        for name in sorted(files):
            if not name.startswith(".") and PurePath(name).suffix.lower() in AUDIO_SUFFIXES:
                yield Path(folder, name)


def _leads_back(folder: str, name: str) -> bool:
    """Whether a folder is a link to one that it lies in: a walk would never end."""
    path = os.path.join(folder, name)
    if not os.path.islink(path):
        return False
    here, there = os.path.realpath(folder), os.path.realpath(path)
    return os.path.commonpath([here, there]) == there


def _matches(pattern: str, unlisted: list[Failure]) -> Iterator[Path]:
    for match in sorted(glob.glob(pattern, recursive=True)):
        if os.path.isdir(match):
            yield from _walk(Path(match), unlisted)
        else:
            yield Path(match)


def _of_manifest(path: Path) -> Named:
    for number, entry in enumerate(read_manifest(path), start=1):
        if entry.offset > 0:
            raise ManifestError(
                f"{path}, recording {number}: a piece of a file (its offset is {entry.offset:g} s):"
                " only whole files are transcribed, cut the piece out first"
            )
        yield entry.audio.parent, [entry.audio]


def _of_scp(path: Path) -> Named:
    for line in _lines(path):
        _, _, name = line.partition(" ")
        if not name.strip() or name.rstrip().endswith("|"):
            raise ManifestError(f"{path}: no file name in {line!r}: commands are not run")
        yield Path(name.strip()).parent, [Path(name.strip())]


def _lines(path: Path) -> Iterator[str]:
    try:
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise ManifestError(f"{path}: cannot read this list: {reason}") from error
    if "\0" in text:
        raise ManifestError(f"{path}: not a text file: a list names an input a line")
    for line in text.split("\n"):
        if line.strip():
            yield line.rstrip("\r").strip(" \t")


# Recordings -> items


def mirror(found: Found, reserved: Iterable[str] = ()) -> tuple[Item, ...]:
    """Where the results of each recording belong: its path below the base without its suffix.

    Recordings that differ in nothing but the suffix keep it: `x.wav` and `x.mp3` become `x.wav.srt`
    and `x.mp3.srt`. So does one whose result would take a `reserved` name.
    """
    whole = {path: os.path.relpath(path, found.base) for path in found.recordings}
    names = {path: os.path.splitext(name)[0] for path, name in whole.items()}
    while True:
        taken = Counter([*names.values(), *reserved])
        clashing = [p for p, name in names.items() if taken[name] > 1 and name != whole[p]]
        if not clashing:
            break
        names |= {path: whole[path] for path in clashing}
    return tuple(Item(path, name, _size(path)) for path, name in names.items())


def check(items: Iterable[Item], folder: Path, suffixes: Sequence[str]) -> None:
    """Raise ConfigError if a result would overwrite one of the recordings, or another result."""
    items = tuple(items)
    taken = {os.path.realpath(item.path): f"{item.path}" for item in items}
    for item in items:
        for suffix in suffixes:
            result = os.path.realpath(folder / f"{item.result}.{suffix}")
            if result in taken:
                raise ConfigError(
                    f"the {suffix} of {item.path} would overwrite {taken[result]}: "
                    "choose another output folder"
                )
            taken[result] = f"that of {item.path}"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):  # ValueError: a null byte in the name
        return 0
