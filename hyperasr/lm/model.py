"""An n-gram model in arrays: one sorted table of keys per order.

An n-gram's key is the row of its context (its first n - 1 words) in the table below, and its
last word: `row << 32 | word`. Tables are sorted, so the n-grams of one context stand together, a
look-up is one binary search per word, and nothing is an object per n-gram. For unigrams the row
is 0 and the key is the word itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNK, BOS, EOS = 0, 1, 2
SPECIAL = ("<unk>", "<s>", "</s>")
"""The words 0, 1 and 2 of every model."""

NOWHERE = -1
"""The row of an n-gram that the model does not list."""

IMPOSSIBLE = -99.0
"""What ARPA files write for log10 of 0."""

HIGHEST_ORDER = 6

Keys = NDArray[np.uint64]
Rows = NDArray[np.int64]
Words = NDArray[np.uint32]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Grams:
    """All n-grams of one order, sorted by key; log10 probabilities and back-off weights."""

    keys: Keys
    log_prob: NDArray[np.float32]
    backoff: NDArray[np.float32]

    @property
    def contexts(self) -> Rows:
        """(n,): the row of each n-gram's context, one order below."""
        return context_of(self.keys)

    @property
    def words(self) -> Rows:
        """(n,): each n-gram's last word."""
        return word_of(self.keys)


@dataclass(frozen=True, slots=True)
class NGramModel:
    """A back-off model: the words by number, <unk>, <s> and </s> first, and the n-grams."""

    vocabulary: tuple[str, ...]
    grams: tuple[Grams, ...]

    @property
    def order(self) -> int:
        """The length of the longest n-grams."""
        return len(self.grams)

    @property
    def counts(self) -> tuple[int, ...]:
        """How many n-grams of each order."""
        return tuple(len(grams.keys) for grams in self.grams)

    def ids(self, order: int, rows: Rows | None = None) -> Words:
        """(n, order): the words of the n-grams of one order, or of some rows of them."""
        here = self.grams[order - 1].keys if rows is None else self.grams[order - 1].keys[rows]
        found = np.empty((len(here), order), np.uint32)
        for place in range(order - 1, -1, -1):
            found[:, place] = word_of(here)
            if place:
                here = self.grams[place - 1].keys[context_of(here)]
        return found

    def locate(self, ids: Words) -> Rows:
        """(m, n) word numbers -> (m,) rows in the table of order n; NOWHERE if not listed."""
        rows = ids[:, 0].astype(np.int64)
        for place in range(1, ids.shape[1]):
            rows = find(self.grams[place].keys, pack(rows, ids[:, place]))
        return rows

    def suffixes(self) -> list[Rows]:
        """Per order, the row of each n-gram without its first word, one order below.

        NOWHERE where the model does not list it: pruning by entropy may leave such holes.
        """
        links = [np.zeros(len(self.grams[0].keys), np.int64)]
        for order in range(2, self.order + 1):
            links.append(
                suffix_links(self.grams[order - 1].keys, self.grams[order - 2].keys, links)
            )
        return links


def pack(contexts: Rows, words: NDArray[np.integer[Any]]) -> Keys:
    """(n,) context rows and last words -> (n,) keys; NOWHERE becomes a key that no table has."""
    keys = contexts.astype(np.uint64) << np.uint64(32)
    keys |= words.astype(np.uint64)
    return keys


def context_of(keys: Keys) -> Rows:
    """The row of each key's context, one order below."""
    return (keys >> np.uint64(32)).astype(np.int64)


def word_of(keys: Keys) -> Rows:
    """Each key's last word."""
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)


def suffix_links(keys: Keys, below: Keys, links: Sequence[Rows]) -> Rows:
    """The row in `below` of each key's n-gram without its first word, or NOWHERE.

    `links` are those of the orders below, the last that of the contexts.
    """
    words = word_of(keys)
    if len(links) == 1:
        return words
    return find(below, pack(links[-1][context_of(keys)], words))


def find(keys: Keys, wanted: Keys) -> Rows:
    """The row in sorted `keys` of each wanted key, NOWHERE where it is missing.

    Wanted keys are sorted first: a binary search that jumps about in a table larger than the
    cache takes five times as long.
    """
    rows = np.full(len(wanted), NOWHERE, np.int64)
    if not len(keys):
        return rows
    order = np.argsort(wanted)
    ordered = wanted[order]
    places = np.minimum(np.searchsorted(keys, ordered), len(keys) - 1)
    hit = keys[places] == ordered
    rows[order[hit]] = places[hit]
    return rows
