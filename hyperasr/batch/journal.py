"""What is finished: an append-only file of JSON lines in the output folder. No torch here.

A recording is done when its record names the content of the recording, the settings and the
content of every result, and all of that still holds. So it never matters when a run was killed, or
what was deleted or changed since: what does not hold is done again. A line that is torn or is no
record counts for nothing.
"""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from hyperasr.batch.plan import Item
from hyperasr.errors import ConfigError, OutputError
from hyperasr.folder import find_checkpoint

NAME = ".hyperasr-journal.jsonl"
BLOCK = 2**20  # bytes hashed at a time


@dataclass(frozen=True, slots=True)
class Record:
    """One finished recording. Digests are SHA-256."""

    result: str
    """As of the plan's item."""
    recording: str
    """Digest of what was heard."""
    settings: str
    """Digest of what decides how it is heard and written."""
    outputs: Mapping[str, str]
    """The suffix of each result, and its digest."""
    seconds: float
    """Length of the recording."""


class Journal:
    """The journal of an output folder, locked for this process while it is open."""

    def __init__(self, folder: Path):
        """Open or begin the journal.

        Raises ConfigError when the folder cannot be written to or another run is at work in it.
        """
        import fcntl  # which Windows does not have: nothing else here depends on it

        self.folder, self.path = folder, folder / NAME
        self.broken = False
        """Whether a record could not be written; the next ones will not be either."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab+", buffering=0)
        except OSError as error:
            raise _useless(folder, error) from error
        try:
            # Not flock: a forked process would hold that on, also when this one is killed.
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise _useless(folder, error) from error
            raise ConfigError(
                f"{folder}: another run is at work in this folder: wait for it or choose another"
            ) from error
        self._file.seek(0)
        content = self._file.read()
        records = map(_record, content.split(b"\n"))
        self.records = {record.result: record for record in records if record}
        if not content.endswith(b"\n") and content:
            self._append(b"\n")

    def __enter__(self) -> "Journal":
        """Stay open for a run."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Make sure that it survives a power cut, and let others in.

        Records that a power cut takes are work done again, no more: `done` believes none that it
        has not compared with the files.
        """
        with suppress(OSError):
            os.fsync(self._file.fileno())
        self._file.close()

    def clear(self) -> None:
        """Forget everything."""
        self.records = {}
        self._file.truncate(0)

    def add(self, record: Record) -> None:
        """Remember what is finished. Raises OutputError if it cannot be written down."""
        self.records[record.result] = record
        self._append(json.dumps(asdict(record)).encode() + b"\n")

    def _append(self, line: bytes) -> None:
        try:
            if self._file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self.broken = True
            reason = (error.strerror or str(error)).lower()
            raise OutputError(
                f"cannot write {self.path}: {reason}; make room and run the same command again"
            ) from error

    def done(self, item: Item, settings: str, suffixes: Iterable[str]) -> Record | None:
        """The record of a recording that needs nothing more; the cheap questions come first."""
        record = self.records.get(item.result)
        if record is None or record.settings != settings:
            return None
        for suffix in suffixes:
            written = digest(self.folder / f"{item.result}.{suffix}")
            if not written or record.outputs.get(suffix) != written:
                return None
        return record if record.recording == digest(item.path) else None


def digest(path: Path) -> str:
    """SHA-256 of a file; nothing for one that cannot be read, or that is a pipe or a device."""
    found = hashlib.sha256()
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return ""
        with path.open("rb", buffering=0) as file:
            while block := file.read(BLOCK):
                found.update(block)
    except (OSError, ValueError):
        return ""
    return found.hexdigest()


def settings_digest(settings: Mapping[str, Any], files: Iterable[Path]) -> str:
    """One digest of settings and of the content of files."""
    content = [digest(path) for path in files]
    return hashlib.sha256(json.dumps([settings, content], sort_keys=True).encode()).hexdigest()


def decisive_files(model: str, lm: str | None) -> list[Path]:
    """The files of a checkpoint, and of a language model that was named, that decide what is heard.

    Raises CheckpointError when there is no such checkpoint.
    """
    folder = find_checkpoint(model)
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and path.suffix != ".md"]
    if lm not in (None, "none"):
        files += [Path(str(lm)), Path(str(lm)).with_name("unigrams.txt")]
    return files


def _useless(folder: Path, error: OSError) -> ConfigError:
    reason = (error.strerror or str(error)).lower()
    return ConfigError(f"{folder}: {reason}: choose another output folder")


def _record(line: bytes) -> Record | None:
    """What a line says, or None for one that was torn by a kill or is no record."""
    try:
        record = Record(**json.loads(line))
    except (ValueError, TypeError, RecursionError):
        return None
    sound = isinstance(record.outputs, dict) and isinstance(record.seconds, float)
    return record if sound and isinstance(record.result, str) and record.recording else None
