"""Which recording goes to whom, and what becomes of those whose worker died. No torch, no Ray here.

    todo -> longest_first -> Handout -> workers

The longest go first, so that nobody is left alone with one at the end. What was at work when a
worker died is heard again, each by a worker that has nothing else: so the one that kills its worker
is found, and those that happened to be beside it are not blamed for long.
"""

from collections import Counter, deque
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from hyperasr.audio import duration
from hyperasr.batch.plan import Item
from hyperasr.batch.run import READERS
from hyperasr.errors import AudioError

CHANCES = 3
"""How often a worker may die of one recording before that one counts as failed."""

Worker = TypeVar("Worker", bound=Hashable)


def longest_first(items: Sequence[Item]) -> list[Item]:
    """The recordings, longest first, as their headers say.

    Where a header says nothing, or only ffmpeg could read it, a recording is taken to be as long to
    a byte as the others.
    """
    with ThreadPoolExecutor(READERS) as readers:
        lengths = dict(zip(items, readers.map(_seconds, items), strict=True))
    known = [item for item, seconds in lengths.items() if seconds]
    heard, size = sum(lengths[item] for item in known), sum(item.size for item in known)
    a_byte = heard / size if size else 1.0
    return sorted(items, key=lambda item: -(lengths[item] or item.size * a_byte))


def _seconds(item: Item) -> float:
    try:
        return duration(item.path, ask_ffmpeg=False) or 0.0
    except AudioError:
        return 0.0


class Handout(Generic[Worker]):
    """Hands items to workers, in order; takes those of dead workers back."""

    def __init__(self, items: Iterable[Item], chances: int = CHANCES):
        self._items = iter(items)
        self._chances = chances
        self._lost: Counter[Item] = Counter()
        self._suspects: deque[Item] = deque()
        self._at_work: dict[Worker, set[Item]] = {}
        self._emptying: Worker | None = None
        """Who gets nothing more until it is ready for a suspect."""
        self._exhausted = False

    @property
    def ended(self) -> bool:
        """Whether every item was handed out and has come back."""
        return self._exhausted and not self._suspects and not any(self._at_work.values())

    def give(self, workers: Collection[Worker], most: int) -> Iterator[tuple[Worker, Item]]:
        """Items for those who have fewer than `most`; who has the fewest gets the next."""
        while True:
            given = None
            for worker in sorted(workers, key=lambda worker: len(self._of(worker))):
                given = self._next_for(worker, most)
                if given is not None:
                    yield worker, given
                    break
            if given is None:
                return

    def _of(self, worker: Worker) -> set[Item]:
        return self._at_work.setdefault(worker, set())

    def _next_for(self, worker: Worker, most: int) -> Item | None:
        mine = self._of(worker)
        if any(self._lost[item] for item in mine):
            return None  # a suspect stays alone
        item: Item | None = None
        if self._suspects and not mine:
            item = self._suspects.popleft()
            if self._emptying == worker:
                self._emptying = None
        elif self._suspects and self._emptying in (None, worker):
            self._emptying = worker
        elif len(mine) < most and not self._exhausted:
            item = next(self._items, None)
            self._exhausted = item is None
        if item is not None:
            mine.add(item)
        return item

    def done(self, worker: Worker, item: Item) -> None:
        """The item has come back."""
        self._of(worker).remove(item)

    def lost(self, worker: Worker, item: Item) -> bool:
        """The worker died over it. Whether it goes to another; otherwise that was too often."""
        self.done(worker, item)
        self._lost[item] += 1
        again = self._lost[item] < self._chances
        if again:
            self._suspects.append(item)
        return again

    def gone(self, worker: Worker) -> None:
        """The worker will ask for nothing more; what it still has is told by `lost`."""
        if self._emptying == worker:
            self._emptying = None
