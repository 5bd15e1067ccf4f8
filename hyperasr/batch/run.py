"""A plan, an engine that hears and a journal -> results on disk. No torch here.

An engine takes items and gives each back with its transcript, or with the reason why there is none,
in any order. It writes nothing: results and journal are written here, whatever the engine is.
"""

import errno
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from hyperasr.batch.journal import Journal, Record, digest
from hyperasr.batch.plan import Item
from hyperasr.errors import AudioError, HyperAsrError, OutputError
from hyperasr.transcript import Transcript
from hyperasr.writers import save

if TYPE_CHECKING:
    from hyperasr.transcribe import Transcriber

READERS = 4
"""Threads that compare finished recordings with the journal."""
HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""What the next result would meet as well."""

Engine = Callable[[Iterable[Item]], Iterator[tuple[Item, Transcript | HyperAsrError]]]
Render = Callable[[Transcript], Mapping[str, str]]
"""A transcript -> the text of each result by its suffix."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one recording."""

    item: Item
    waited: float
    """Seconds since the outcome before it."""
    seconds: float = 0.0
    """Length of the recording."""
    words: int = 0
    error: HyperAsrError | None = None
    """Why there is no result."""

    @property
    def hopeless(self) -> bool:
        """Whether nothing else could be written either: a full or read-only disk."""
        cause = self.error.__cause__ if isinstance(self.error, OutputError) else None
        return getattr(cause, "errno", None) in HOPELESS


def local(
    transcriber: "Transcriber", heard: Callable[[float], None] = lambda seconds: None
) -> Engine:
    """The engine of one machine; `heard` is told of every few seconds that are done."""

    def engine(items: Iterable[Item]) -> Iterator[tuple[Item, Transcript | HyperAsrError]]:
        at_work: dict[int, Item] = {}

        def paths() -> Iterator[Path]:
            for number, item in enumerate(items):
                at_work[number] = item
                yield item.path

        for number, result in transcriber.as_finished(paths(), heard):
            yield at_work.pop(number), result

    return engine


def finished(
    items: Iterable[Item], journal: Journal, settings: str, suffixes: Sequence[str]
) -> dict[Item, Record]:
    """What the journal says is done, compared with every recording and result on disk."""
    items = tuple(items)
    with ThreadPoolExecutor(READERS) as readers:
        records = readers.map(lambda item: journal.done(item, settings, suffixes), items)
        return {item: record for item, record in zip(items, records, strict=True) if record}


def run(
    items: Iterable[Item],
    engine: Engine,
    render: Render,
    journal: Journal,
    settings: str,
    started: Callable[[Item], None] = lambda item: None,
) -> Generator[Outcome, None, None]:
    """Hear, write and remember each item; one that fails does not stop the others.

    `started` is told of each item that the engine takes.
    """
    before: dict[Item, tuple[int, int]] = {}

    def taken() -> Iterator[Item]:
        for item in items:
            before[item] = _state(item.path)
            started(item)
            yield item

    since = monotonic()
    for item, result in engine(taken()):
        error, seconds, words = None, 0.0, 0
        try:
            if not isinstance(result, Transcript):
                raise result
            seconds, words = result.duration, len(result.words)
            recording = digest(item.path)
            if not recording or _state(item.path) != before.pop(item):
                raise AudioError("changed while it was heard: run the same command again")
            outputs = _write(render(result), journal.folder, item.result)
            journal.add(Record(item.result, recording, settings, outputs, seconds))
        except HyperAsrError as problem:
            error = problem
        now = monotonic()
        yield Outcome(item, now - since, seconds, words, error)
        since = now


def _write(results: Mapping[str, str], folder: Path, name: str) -> dict[str, str]:
    """Write each result; gives their digests."""
    digests = {}
    for suffix, text in results.items():
        path = folder / f"{name}.{suffix}"
        save(text, path)
        digests[suffix] = digest(path)
    return digests


def _state(path: Path) -> tuple[int, int]:
    """What changes when a file is written to."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return 0, 0
    return status.st_size, status.st_mtime_ns


class Leftovers:
    """Half-written files that killed runs left in the folders of a plan.

    Noted at the beginning and removed at the end if nobody wrote to them meanwhile: another
    program may be at work on one.
    """

    def __init__(self, folder: Path, items: Iterable[Item]):
        folders = {(folder / item.result).parent.resolve() for item in items}
        found = [path for folder in folders for path in folder.glob(".hyperasr-*.part")]
        self._states = {path: _state(path) for path in found}

    def remove(self) -> None:
        """Remove what is dead."""
        for path, state in self._states.items():
            if _state(path) == state:
                path.unlink(missing_ok=True)
