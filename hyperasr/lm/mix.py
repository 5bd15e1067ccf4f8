"""Two models -> one: linear interpolation, written down as a back-off model again.

p(w | h) = weight p_first(w | h) + (1 - weight) p_second(w | h) for every n-gram that either
lists, and back-offs that make it sum to 1: SRILM's static `ngram -mix-lm`. The weight that suits
a field is the one under which a text of it is most probable; expectation maximisation finds it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hyperasr.errors import ConfigError, TextError
from hyperasr.lm.backoff import log_prob, normalised
from hyperasr.lm.model import (
    IMPOSSIBLE,
    UNK,
    Floats,
    Grams,
    Keys,
    NGramModel,
    Rows,
    Words,
    find,
    pack,
)
from hyperasr.lm.perplexity import Known, predictions

ROUNDS, SETTLED = 500, 1e-6
"""EM stops after so many rounds, or when the weight moves less than that."""

LEAST = 0.001
"""The smallest share that a text can give one of the models: words it alone has stay possible."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two models, seen from the vocabulary of both."""

    model: NGramModel
    numbers: Rows  # of each of its words, in the vocabulary of both
    own: Words  # its own number of each word of both, <unk> if it lacks it
    knows: NDArray[np.bool_]  # whether it has each word of both

    def log_prob(self, ids: Words) -> Floats:
        """(m, n) words of both -> (m,) log10 p of the last; IMPOSSIBLE for a word it lacks."""
        found = log_prob(self.model, self.own[ids[:, -self.model.order :]])
        return np.where(self.knows[ids[:, -1]], found, IMPOSSIBLE)

    def keys(self, order: int, rows: Rows) -> Keys:
        """The keys of its n-grams in the union, given the rows there of those one shorter."""
        grams = self.model.grams[order - 1]
        return pack(rows[grams.contexts], self.numbers[grams.words])


def sides(first: NGramModel, second: NGramModel) -> tuple[tuple[str, ...], tuple[Side, Side]]:
    """The vocabulary of both, the first's words before the second's, and each from its view."""
    vocabulary = tuple(dict.fromkeys((*first.vocabulary, *second.vocabulary)))
    together = {word: number for number, word in enumerate(vocabulary)}
    views = []
    for model in (first, second):
        numbers = np.array([together[word] for word in model.vocabulary])
        own = np.full(len(vocabulary), UNK, np.uint32)
        own[numbers] = np.arange(len(numbers))
        knows = np.zeros(len(vocabulary), bool)
        knows[numbers] = True
        views.append(Side(model, numbers, own, knows))
    return vocabulary, (views[0], views[1])


def mix(first: NGramModel, second: NGramModel, weight: float) -> NGramModel:
    """Interpolate two models over the words and n-grams of both; `weight` is the first's share.

    Raises ConfigError unless the weight is between 0 and 1.
    """
    if not 0 < weight < 1:
        raise ConfigError(f"the weight must be between 0 and 1, not {weight:g}")
    vocabulary, both = sides(first, second)
    union = NGramModel(vocabulary, ())
    rows = [side.numbers for side in both]  # of each side's n-grams of one order, in the union
    for order in range(1, max(first.order, second.order) + 1):
        keys = np.arange(len(vocabulary), dtype=np.uint64)
        if order > 1:
            longer = [n for n, side in enumerate(both) if side.model.order >= order]
            own = {n: both[n].keys(order, rows[n]) for n in longer}
            keys = np.unique(np.concatenate(list(own.values())))
            rows = [find(keys, own[n]) if n in own else rows[n] for n in range(2)]
        none = np.zeros(len(keys), np.float32)
        union = NGramModel(vocabulary, (*union.grams, Grams(keys, none, none)))
    tables = []
    for order, grams in enumerate(union.grams, start=1):
        ids = union.ids(order)
        shares = zip((weight, 1 - weight), both, strict=True)
        prob = sum((share * 10.0 ** side.log_prob(ids) for share, side in shares), np.zeros(1))
        tables.append((grams.keys, np.log10(np.clip(prob, 10.0**IMPOSSIBLE, 1.0))))
    return normalised(vocabulary, tables)


def best_weight(first: NGramModel, second: NGramModel, blocks: Iterable[bytes]) -> float:
    """The share of `first` under which a text (whole lines) is most probable, by EM.

    Raises TextError if neither model knows a word of it.
    """
    vocabulary, both = sides(first, second)
    numbers = Known(vocabulary)
    order = max(first.order, second.order)
    found: list[list[Floats]] = [[np.empty(0)], [np.empty(0)]]
    for block in blocks:
        for side, values in zip(both, found, strict=True):
            ids, log_probs = predictions(block, numbers, order, side.log_prob)
            values.append(10.0 ** log_probs[ids != UNK])
    here, there = (np.concatenate(values) for values in found)
    if not len(here):
        raise TextError("the models know no word of this text: give a text of the same language")
    weight = 0.5
    for _ in range(ROUNDS):
        mine = weight * here
        update = float(np.mean(mine / (mine + (1 - weight) * there)))
        moved, weight = abs(update - weight), update
        if moved < SETTLED:
            break
    return min(max(weight, LEAST), 1 - LEAST)
