"""Sentences -> how often every n-gram occurs, for texts larger than memory.

Words become numbers in order of appearance and go to disk in pieces; every order is then counted
piece by piece. Memory holds one piece and the tables of different n-grams, whatever the length
of the text.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from hyperasr.errors import OutputError, TextError
from hyperasr.lm.model import BOS, SPECIAL, UNK, Keys, Rows, Words, find, pack

PIECE = 1 << 23
"""Words counted at once; about 200 MB of arrays."""

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Table:
    """The different n-grams of one order, sorted by key, and how often each occurs."""

    keys: Keys
    counts: Counts

    def __add__(self, other: "Table") -> "Table":
        """Both texts counted together."""
        places = np.searchsorted(self.keys, other.keys)
        known = np.zeros(len(places), bool)
        if len(self.keys):
            known = self.keys[np.minimum(places, len(self.keys) - 1)] == other.keys
        counts = self.counts.copy()
        counts[places[known]] += other.counts[known]
        new = ~known
        return Table(
            np.insert(self.keys, places[new], other.keys[new]),
            np.insert(counts, places[new], other.counts[new]),
        )


class Numbers(dict[bytes, int]):
    """Words -> numbers in order of appearance; a word met for the first time gets the next."""

    def __init__(self) -> None:
        super().__init__((word.encode(), number) for number, word in enumerate(SPECIAL))

    def __missing__(self, word: bytes) -> int:
        """The next free number."""
        number = self[word] = len(self)
        return number


def count(blocks: Iterable[bytes], order: int) -> tuple[tuple[str, ...], list[Table]]:
    """Whole lines of text, one sentence each -> the words by number, and a table per order.

    <unk> in a line stands for a word nobody could write: no n-gram reaches across it.

    Raises TextError when there is no word at all, OutputError when the temporary folder is full.
    """
    numbers = Numbers()
    with TemporaryDirectory(prefix="hyperasr-lm-") as folder:
        try:
            pieces = _to_disk(blocks, numbers, Path(folder))
            tables = [_unigrams(pieces, len(numbers))]
            if len(numbers) == len(SPECIAL):
                raise TextError("there are no words in this text: give a text with words")
            for length in range(2, order + 1):
                tables.append(_table(pieces, length))
                if length < order:
                    _advance(pieces, tables[-1], length)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            advice = "free some space or set TMPDIR to a larger disk"
            raise OutputError(f"{folder}: cannot keep the counts: {reason}; {advice}") from error
    return tuple(word.decode() for word in numbers), tables


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some whole sentences on disk: words, and the row of the n-gram that ends at each."""

    path: Path

    @property
    def words(self) -> Words:
        return np.load(self.path.with_suffix(".words.npy"))

    @property
    def rows(self) -> Words:
        return np.load(self.path.with_suffix(".rows.npy"))

    def keys(self, length: int) -> tuple[Rows, Keys]:
        """Where n-grams of this length end, and their keys, given the rows one order below."""
        words = self.words
        ends = np.flatnonzero(_history(words) >= length - 1)
        return ends, pack(self.rows[ends - 1], words[ends])


def encode(block: bytes, numbers: dict[bytes, int]) -> Words:
    """Whole lines -> word numbers, every line between <s> and </s>."""
    marked = b"<s> " + block.replace(b"\n", b" </s> <s> ")
    words = marked.split()[:-1]
    return np.fromiter(map(numbers.__getitem__, words), np.uint32, len(words))


def _to_disk(blocks: Iterable[bytes], numbers: Numbers, folder: Path) -> list[_Piece]:
    pieces: list[_Piece] = []
    for words in _pieces(encode(block, numbers) for block in blocks):
        piece = _Piece(folder / str(len(pieces)))
        np.save(piece.path.with_suffix(".words.npy"), words)
        np.save(piece.path.with_suffix(".rows.npy"), words)  # a unigram's row is its word
        pieces.append(piece)
    return pieces


def _pieces(arrays: Iterable[Words]) -> Iterator[Words]:
    held: list[Words] = []
    for array in arrays:
        held.append(array)
        if sum(map(len, held)) >= PIECE:
            yield np.concatenate(held)
            held = []
    if held:
        yield np.concatenate(held)


def _history(words: Words) -> Rows:
    """(m,): how many words before each may stand in its n-grams, <s> included.

    0 at <s> and after a word that nobody could write, -1 at that word itself.
    """
    here = np.arange(len(words))
    begins = np.where(words == BOS, here, np.where(words == UNK, here + 1, 0))
    return here - np.maximum.accumulate(begins)


def _unigrams(pieces: list[_Piece], size: int) -> Table:
    counts = np.zeros(size, np.int64)
    for piece in pieces:
        counts += np.bincount(piece.words, minlength=size)
    return Table(np.arange(size, dtype=np.uint64), counts)


def _table(pieces: list[_Piece], length: int) -> Table:
    """Count the n-grams of one length; runs of similar size are merged, as a merge sort does."""
    runs: list[Table] = [Table(np.empty(0, np.uint64), np.empty(0, np.int64))]
    for piece in pieces:
        _, keys = piece.keys(length)
        runs.append(_run(keys))
        while len(runs) > 1 and 2 * len(runs[-1].keys) >= len(runs[-2].keys):
            last = runs.pop()
            runs[-1] = runs[-1] + last
    while len(runs) > 1:
        last = runs.pop()
        runs[-1] = runs[-1] + last
    return runs[0]


def _run(keys: Keys) -> Table:
    keys.sort()
    new = np.ones(len(keys), bool)
    new[1:] = keys[1:] != keys[:-1]
    begins = np.flatnonzero(new)
    return Table(keys[begins], np.diff(begins, append=len(keys)))


def _advance(pieces: list[_Piece], table: Table, length: int) -> None:
    """Write to disk the row of the n-gram of this length that ends at each word."""
    for piece in pieces:
        ends, keys = piece.keys(length)
        rows = np.zeros(len(piece.words), np.uint32)
        rows[ends] = find(table.keys, keys)
        np.save(piece.path.with_suffix(".rows.npy"), rows)
