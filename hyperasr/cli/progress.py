"""How far a batch is: a bar and the files at work in a terminal, a line now and then elsewhere."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Lock
from time import monotonic

from rich.console import RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from hyperasr.batch.plan import Item
from hyperasr.batch.report import length
from hyperasr.batch.run import Outcome
from hyperasr.cli.terminal import console, say
from hyperasr.errors import AudioError

PATIENCE = 30.0
"""Seconds between two lines where there is no terminal."""
SHOWN = 4
"""Files at work that are named below the bar."""


class Watch:
    """Told what happens, it tells a person how far the work is.

    How long all of it is, is estimated: the files that were begun say how long they are, and the
    others are taken to be as long to a byte.
    """

    def __init__(self, items: Iterable[Item], quiet: bool):
        items = tuple(items)
        self._count, self._bytes = len(items), sum(item.size for item in items)
        self._files, self._heard = 0, 0.0
        self._known_bytes, self._known_seconds = 0, 0.0
        self._lengths: dict[Item, float] = {}
        self.at_work: dict[Item, float] = {}
        """The files at work, and since when."""
        self._quiet, self._begun = quiet, monotonic()
        self._told = self._begun
        self._lock = Lock()  # an engine tells from threads of its own
        self._bar = _Bar(self, disable=quiet or not console.is_terminal)

    def started(self, item: Item) -> None:
        """A file is being heard."""
        seconds = 0.0 if self._quiet else _duration(item.path)
        with self._lock:
            self.at_work[item] = monotonic()
            if seconds:
                self._lengths[item] = seconds
                self._known_bytes += item.size
                self._known_seconds += seconds
        self._show()

    def heard(self, seconds: float) -> None:
        """So many seconds more are done, of whichever file."""
        with self._lock:
            self._heard += seconds
        self._show()

    def finished(self, outcome: Outcome) -> None:
        """A file is done; or it failed, and the bar makes way for the line that says so."""
        item, failed = outcome.item, outcome.error is not None
        with self._lock:
            self._files += 1
            del self.at_work[item]
            seconds = self._lengths.pop(item, 0.0)
            if failed and seconds:
                self._known_seconds -= seconds
                self._known_bytes -= item.size
            if failed:
                self._bytes -= item.size
        if failed:
            self._bar.stop()
        else:
            self._show()

    def close(self) -> None:
        """Clear the bar away."""
        self._bar.stop()

    @property
    def total(self) -> float | None:
        """Seconds of all files, estimated; None where there is nothing to go by."""
        if not self._known_bytes:
            return None
        return self._known_seconds * max(1.0, self._bytes / self._known_bytes)

    @property
    def line(self) -> str:
        """How far it is, in words."""
        took = monotonic() - self._begun
        text = f"{self._files} of {self._count} files"
        if not self._heard or took <= 0:
            return text
        speed = self._heard / took
        text += f", {length(self._heard)} of sound, {speed:.0f} times real time"
        left = max(0.0, (self.total or 0.0) - self._heard) / speed
        return text if self.total is None else f"{text}, {length(left)} left"

    def _show(self) -> None:
        with self._lock:
            if not self._bar.disable:
                self._bar.show(self.total, self._heard, self.line)
            elif not self._quiet and monotonic() - self._told > PATIENCE:
                self._told = monotonic()
                say(self.line)


class _Bar(Progress):
    """The whole as a bar, the files at work below it."""

    def __init__(self, watch: Watch, disable: bool):
        self._watch = watch
        super().__init__(
            BarColumn(bar_width=20),
            TextColumn("{task.description}", markup=False),
            console=console,
            transient=True,
            refresh_per_second=4,
            disable=disable,
        )
        self._all = self.add_task("", total=None)

    def show(self, total: float | None, done: float, line: str) -> None:
        """Appear, if it does not show already."""
        self.update(self._all, total=total, completed=done, description=line)
        self.start()

    def get_renderables(self) -> Iterator[RenderableType]:
        """The bar with its words; a line for each of the files that are longest at work."""
        yield self.make_tasks_table(self.tasks)
        at_work = list(self._watch.at_work.items())
        for item, since in at_work[:SHOWN]:
            line = f"  {item.path}, {monotonic() - since:.0f} s"
            yield Text(line, overflow="ellipsis", no_wrap=True)
        if len(at_work) > SHOWN:
            yield Text(f"  and {len(at_work) - SHOWN} more")


def _duration(path: Path) -> float:
    """Seconds, as the header says; 0 where it does not or the file cannot be read."""
    from hyperasr.audio import duration

    try:
        return duration(path) or 0.0
    except AudioError:
        return 0.0
