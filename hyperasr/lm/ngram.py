"""Counts -> interpolated modified Kneser-Ney probabilities, equal to those of KenLM's lmplz.

Chen and Goodman, "An empirical study of smoothing techniques for language modeling" (1998), for
the estimate; Heafield et al., "Scalable modified Kneser-Ney language model estimation" (2013),
for pruning, <s>, <unk> and the order of steps.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hyperasr.errors import ConfigError
from hyperasr.lm.counts import Counts, Table, count
from hyperasr.lm.model import (
    BOS,
    EOS,
    HIGHEST_ORDER,
    IMPOSSIBLE,
    NOWHERE,
    UNK,
    Floats,
    Grams,
    NGramModel,
    Rows,
    context_of,
    pack,
    suffix_links,
    word_of,
)

FALLBACK = (0.0, 0.5, 1.0, 1.5)
"""Discounts by count (3 and above alike) where the text is too small to estimate them."""


def build(
    blocks: Iterable[bytes],
    order: int = 3,
    prune: Sequence[int] = (0,),
    say: Callable[[str], None] = lambda message: None,
) -> NGramModel:
    """Whole lines of text, one sentence each -> a language model of n-grams up to `order` words.

    `prune` drops the n-grams that occur so often or less, per order, as lmplz does: the last
    number holds for all longer ones. <unk> in the text is a gap: no n-gram reaches across it.
    `say` hears what was done otherwise than asked.

    Raises ConfigError for impossible settings, TextError for a text without words.
    """
    thresholds = _thresholds(order, prune)
    vocabulary, tables = count(blocks, order)
    return estimate(vocabulary, tables, thresholds, say)


def _thresholds(order: int, prune: Sequence[int]) -> list[int]:
    if not 1 <= order <= HIGHEST_ORDER:
        raise ConfigError(f"the order must be from 1 to {HIGHEST_ORDER}, not {order}")
    if not prune or len(prune) > order:
        raise ConfigError(f"prune takes 1 to {order} numbers for order {order}, not {len(prune)}")
    if prune[0] < 0 or any(low > high for low, high in pairwise(prune)):
        raise ConfigError(
            f"prune {','.join(map(str, prune))}: numbers from 0 that never fall, or parts of an "
            "n-gram would go before it"
        )
    return [*prune, *[prune[-1]] * (order - len(prune))]


@dataclass(frozen=True, slots=True)
class _Level:
    """One order on its way to probabilities; every array is (n,), the n-grams in key order."""

    table: Table
    suffixes: Rows  # the row of each n-gram without its first word, one order below
    adjusted: Counts  # Kneser-Ney's counts: of different words before, not of occurrences
    pruned: NDArray[np.bool_]
    discounts: tuple[float, ...]

    @property
    def contexts(self) -> Rows:
        return context_of(self.table.keys)


def estimate(
    vocabulary: tuple[str, ...],
    tables: Sequence[Table],
    thresholds: Sequence[int],
    say: Callable[[str], None],
) -> NGramModel:
    """Tables of counts, one per order, and their pruning thresholds -> the model."""
    levels = _levels(tables, thresholds, say)
    log_probs, backoffs = _interpolate(levels)
    return _without_pruned(vocabulary, levels, log_probs, backoffs)


def _levels(
    tables: Sequence[Table], thresholds: Sequence[int], say: Callable[[str], None]
) -> list[_Level]:
    suffixes = [np.zeros(len(tables[0].keys), np.int64)]
    for low, high in pairwise(tables):
        suffixes.append(suffix_links(high.keys, low.keys, suffixes))
    begins = np.arange(len(tables[0].keys)) == BOS  # whether an n-gram begins with <s>
    tail: int | None = None
    levels = []
    for n, table in enumerate(tables, start=1):
        counts = table.counts
        if n > 1:
            begins = begins[context_of(table.keys)]
        if n < len(tables):
            before = np.bincount(suffixes[n], minlength=len(counts))
            # What only ever follows a gap has no words before it; it did occur once, at least.
            adjusted = np.where(begins, counts, np.maximum(before, 1))
        else:
            adjusted = counts.copy()
        if n == 1:
            adjusted[[UNK, BOS]] = 0
        pruned = counts <= thresholds[n - 1]
        if n == 1:
            pruned[[UNK, BOS, EOS]] = False
        tail = _tail(n, suffixes[n - 1], begins, tail)
        seen = adjusted.copy()
        if tail is not None and n < len(tables):
            seen[tail] = counts[tail]
        discounts = _discounts(n, seen, say)
        levels.append(_Level(table, suffixes[n - 1], adjusted, pruned, discounts))
    return levels


def _tail(n: int, suffixes: Rows, begins: NDArray[np.bool_], below: int | None) -> int | None:
    """The row of the n-gram that comes last when n-grams are sorted from their last word back.

    lmplz takes this one's occurrences for its adjusted count when it estimates the discounts,
    which shows on small texts. None once it would begin with <s>.
    """
    if n == 1:
        return len(suffixes) - 1
    if below is None:
        return None
    found = np.flatnonzero(suffixes == below)
    return int(found[-1]) if len(found) and not begins[found[-1]] else None


def _discounts(n: int, adjusted: Counts, say: Callable[[str], None]) -> tuple[float, ...]:
    """What to take from counts of 0, 1, 2 and 3 or more: Chen and Goodman's equation 26."""
    if not len(adjusted):
        say(f"no sentence is long enough for {n}-grams: the model has none")
        return FALLBACK
    n1, n2, n3, n4 = np.bincount(np.minimum(adjusted, 5), minlength=6)[1:5].tolist()
    if n1 and n2 and n3:
        y = n1 / (n1 + 2 * n2)
        found = (0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
        if all(0 <= discount <= at for at, discount in enumerate(found)):
            return found
    say(
        f"this text is too small or too regular to estimate the discounts of {n}-grams: "
        f"{', '.join(f'{discount:g}' for discount in FALLBACK[1:])} are used; more text helps"
    )
    return FALLBACK


def _interpolate(levels: list[_Level]) -> tuple[list[Floats], list[Floats]]:
    """Per order, log10 probabilities and back-off weights; pruned n-grams still among them."""
    log_probs, backoffs = [], []
    lower = np.array([1 / (np.count_nonzero(~levels[0].pruned) - 1)])  # uniform, without <s>
    for n, level in enumerate(levels, start=1):
        contexts = level.contexts
        size = len(lower)
        total = np.bincount(contexts, level.adjusted, size)
        discount = np.asarray(level.discounts)[np.minimum(level.adjusted, 3)]
        # The mass that goes to shorter n-grams: all of a pruned one's, the discount of another's.
        freed = np.bincount(contexts, np.where(level.pruned, level.adjusted, discount), size)
        is_context = total > 0
        weight = np.divide(freed, total, out=np.ones(size), where=is_context)
        own = (level.adjusted - discount) / total[contexts]
        prob = own + weight[contexts] * lower[level.suffixes]
        if n == 1:
            prob[BOS] = 1.0  # never predicted; its back-off is what counts
        else:
            backoffs.append(_log10(weight))
        log_probs.append(np.minimum(_log10(prob), 0.0))
        lower = prob
    backoffs.append(np.zeros(len(lower)))
    return log_probs, backoffs


def _log10(values: Floats) -> Floats:
    """-99 for 0: a discount may be 0, and ARPA files know no infinity."""
    return np.log10(np.maximum(values, 10.0**IMPOSSIBLE))


def _without_pruned(
    vocabulary: tuple[str, ...],
    levels: list[_Level],
    log_probs: list[Floats],
    backoffs: list[Floats],
) -> NGramModel:
    """Leave out what is pruned and number the rest anew; the order of keys stays."""
    words = np.cumsum(~levels[0].pruned) - 1
    contexts, grams = np.full(1, NOWHERE), []
    for n, (level, log_prob, backoff) in enumerate(
        zip(levels, log_probs, backoffs, strict=True), start=1
    ):
        kept = np.flatnonzero(~level.pruned)
        keys = level.table.keys[kept]
        above = contexts[context_of(keys)] if n > 1 else np.zeros(len(kept), np.int64)
        grams.append(
            Grams(
                pack(above, words[word_of(keys)]),
                log_prob[kept].astype(np.float32),
                backoff[kept].astype(np.float32),
            )
        )
        contexts = np.cumsum(~level.pruned) - 1
    spelled = tuple(vocabulary[i] for i in np.flatnonzero(~levels[0].pruned))
    return NGramModel(spelled, tuple(grams))
