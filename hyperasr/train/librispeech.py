"""A folder of LibriSpeech -> manifests, every recording and text checked on the way.

DIR/[LibriSpeech/]SUBSET/SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt     id TEXT, a line each
                                         SPEAKER-CHAPTER-0000.flac     or wav, opus, mp3
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hyperasr import audio
from hyperasr.errors import AudioError, ManifestError
from hyperasr.files import replacing
from hyperasr.tokens import ENGLISH, normalise

AUDIO = (".flac", ".wav", ".opus", ".mp3")
TRANSCRIPTS = "*/*/*.trans.txt"
LETTERS_PER_SECOND = 25
"""More cannot be said, and CTC could not write them: one letter in each encoder frame."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """An utterance that is fit to train on; `seconds` as decoded."""

    audio: Path
    text: str
    speaker: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Subset:
    """What became of a part of the corpus, "train-clean-100" say."""

    name: str
    manifest: Path
    utterances: int
    seconds: float
    speakers: int
    problems: tuple[str, ...]
    """A line for everything that was left out, naming the file and the reason."""


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of a transcript."""

    id: str
    text: str
    transcript: Path


def find_subsets(folder: Path) -> dict[str, Path]:
    """The subsets in a folder, or in the LibriSpeech folder in it, by name.

    Raises ManifestError when there is none, or one that may not be looked into.
    """
    for root in (folder, folder / "LibriSpeech"):
        inside = [] if _closed(root) or not root.is_dir() else sorted(root.iterdir())
        if closed := next(filter(_closed, (root, *inside)), None):
            raise ManifestError(f"{closed}: may not be looked into: change its permissions")
        found = {
            path.name: path
            for path in inside
            if path.is_dir() and next(path.glob(TRANSCRIPTS), None) is not None
        }
        if found:
            return found
    raise ManifestError(
        f"{folder}: no LibriSpeech here: expected SUBSET/SPEAKER/CHAPTER/*.trans.txt"
    )


def prepare(
    subsets: dict[str, Path], output: Path, advance: Callable[[], None] = lambda: None
) -> Iterator[Subset]:
    """Write OUTPUT/NAME.jsonl for each subset in turn; `advance` is called at every utterance.

    None is written of a subset that has nothing to train on, which is the first of its problems.
    """
    for name, folder in subsets.items():
        lines, problems = _read_transcripts(folder)
        good: list[Spoken] = []
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # libsndfile works outside the GIL
            for found in pool.map(_check, lines):
                advance()
                if isinstance(found, Spoken):
                    good.append(found)
                else:
                    problems.append(found)
        problems += _without_text(folder, lines)
        manifest = output / f"{name}.jsonl"
        if good:
            _write(manifest, good, name)
        else:
            problems.insert(0, f"{folder}: none of its recordings can be used")
        yield Subset(
            name,
            manifest,
            len(good),
            sum(spoken.seconds for spoken in good),
            len({spoken.speaker for spoken in good}),
            tuple(problems),
        )


def count_utterances(subsets: Iterable[Path]) -> int:
    """How many lines the transcripts of these folders have."""
    return sum(len(_read_transcripts(folder)[0]) for folder in subsets)


def _read_transcripts(folder: Path) -> tuple[list[_Line], list[str]]:
    """The lines of all transcripts of a subset, and what is wrong with the rest."""
    lines: list[_Line] = []
    problems = [
        f"{path}: may not be looked into: change its permissions"
        for path in sorted([*folder.glob("*"), *folder.glob("*/*")])
        if _closed(path)
    ]
    for path in sorted(folder.glob(TRANSCRIPTS)):
        try:
            content = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            problems.append(f"{path}: cannot be read: {error}")
            continue
        seen: set[str] = set()
        for line in filter(str.strip, content.split("\n")):
            id, _, text = line.strip().partition(" ")
            if id in seen:
                problems.append(f"{path}: {id} is there twice")
                continue
            seen.add(id)
            lines.append(_Line(id, text, path))
    return lines, problems


def _closed(folder: Path) -> bool:
    """Whether this is a folder whose files cannot be seen; `glob` says nothing of such."""
    try:
        return folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK)
    except PermissionError:  # the folder around it is closed, and told itself
        return False


def _check(line: _Line) -> Spoken | str:
    """What can be trained on, or why it cannot."""
    folder = line.transcript.parent
    places = [folder / f"{line.id}{suffix}" for suffix in AUDIO]
    try:
        path = next((place for place in places if place.is_file()), None)
    except OSError as error:  # a name too long, where the ends of lines were lost
        return f"{line.transcript}: {line.id[:20]}...: {error.strerror}"
    if path is None:
        return f"{places[0]}: no such file, but a text in {line.transcript.name}"
    text = normalise(line.text, ENGLISH)
    lost = sorted({c for c in line.text if c.isalnum() and not normalise(c, ENGLISH)})
    if lost:
        return f"{path}: its text has {' '.join(lost)}, outside the alphabet: spell it out"
    if not text:
        return f"{path}: its text is empty"
    try:
        seconds = len(audio.read(path)) / audio.SAMPLE_RATE
    except AudioError as error:
        return f"{path}: {error}"
    if len(text) > LETTERS_PER_SECOND * seconds:
        return f"{path}: {seconds:.1f} s are too short for its text of {len(text)} letters"
    return Spoken(path.resolve(), text, folder.parent.name, seconds)


def _without_text(folder: Path, lines: Sequence[_Line]) -> Iterator[str]:
    """Recordings that no transcript mentions."""
    known = {(line.transcript.parent, line.id) for line in lines}
    for path in sorted(folder.glob("*/*/*")):
        if path.suffix in AUDIO and (path.parent, path.stem) not in known:
            yield f"{path}: no text in {path.parent.name}'s transcript"


def _write(path: Path, utterances: Iterable[Spoken], source: str) -> None:
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as file:
        for spoken in utterances:
            entry = {
                "audio_filepath": str(spoken.audio),
                "duration": round(spoken.seconds, 4),
                "text": spoken.text,
                "speaker": spoken.speaker,
                "source": source,
            }
            file.write(json.dumps(entry) + "\n")  # ASCII: names of files may be no UTF-8
