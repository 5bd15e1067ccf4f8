"""What a back-off model says: p(w | h), with the shorter context where h w is not listed.

p(w | h) = listed p(w | h),  or  backoff(h) p(w | h without its first word)
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hyperasr.lm.model import (
    NOWHERE,
    Floats,
    Grams,
    Keys,
    NGramModel,
    Rows,
    Words,
    context_of,
    find,
    pack,
    suffix_links,
)

ROWS = 1 << 20
"""N-grams that are scored at once; bounds the memory that scoring takes."""

ROUNDING, TINY = 1e-6, 1e-9
"""Probability left below the first: the listed words are all words. The second stands for 0."""


def log_prob(model: NGramModel, ids: Words) -> Floats:
    """(m, n) word numbers -> (m,) log10 p(last word | those before); n is at most the order."""
    parts = [_log_prob(model, ids[start : start + ROWS]) for start in range(0, len(ids), ROWS)]
    return np.concatenate([np.empty(0), *parts])


def _log_prob(model: NGramModel, ids: Words) -> Floats:
    width = ids.shape[1]
    found = model.grams[0].log_prob[ids[:, -1]].astype(np.float64)
    for length in range(2, width + 1):
        contexts = model.locate(ids[:, width - length : -1])
        below, here = model.grams[length - 2], model.grams[length - 1]
        weights = np.where(contexts == NOWHERE, 0.0, below.backoff[contexts])
        rows = find(here.keys, pack(contexts, ids[:, -1]))
        found += weights
        listed = rows != NOWHERE
        found[listed] = here.log_prob[rows[listed]]
    return found


def lower_log_prob(model: NGramModel, order: int, suffixes: Rows) -> Floats:
    """(n,): log10 p(w | h') of each n-gram h w of one order, h' being h without its first word.

    `suffixes` are the links of this order; where they lead nowhere p(w | h') backs off itself.
    """
    found = model.grams[order - 2].log_prob[suffixes].astype(np.float64)
    missing = np.flatnonzero(suffixes == NOWHERE)
    if len(missing):
        found[missing] = log_prob(model, model.ids(order, missing)[:, 1:])
    return found


def normalised(vocabulary: tuple[str, ...], tables: Sequence[tuple[Keys, Floats]]) -> NGramModel:
    """Keys and log10 probabilities per order -> the model, with back-offs that make it sum to 1.

    The weight of a context is what its listed words leave over, as a share of what the shorter
    context leaves over for the same words.
    """
    grams, links = [Grams(tables[0][0], _float32(tables[0][1]), _float32(tables[0][1] * 0))], []
    links.append(np.zeros(len(grams[0].keys), np.int64))
    for order, (keys, values) in enumerate(tables[1:], start=2):
        links.append(suffix_links(keys, grams[-1].keys, links))
        grams.append(Grams(keys, _float32(values), _float32(values * 0)))
        left, below = left_over(NGramModel(vocabulary, tuple(grams)), order, links[-1])
        weights = np.zeros(len(left))
        used = (np.bincount(context_of(keys), minlength=len(left)) > 0) & (below > ROUNDING)
        weights[used] = np.log10(np.maximum(left[used], TINY) / below[used])
        grams[-2] = replace(grams[-2], backoff=_float32(weights))
    return NGramModel(vocabulary, tuple(grams))


def left_over(model: NGramModel, order: int, suffixes: Rows) -> tuple[Floats, Floats]:
    """Per context of one order: 1 - the sum of p(w | h) over its listed words, and of p(w | h')."""
    here, size = model.grams[order - 1], len(model.grams[order - 2].keys)
    listed = 10.0 ** here.log_prob.astype(np.float64)
    lower = 10.0 ** lower_log_prob(model, order, suffixes)
    left: Floats = 1.0 - np.bincount(here.contexts, listed, size)
    below: Floats = 1.0 - np.bincount(here.contexts, lower, size)
    return left, below


def _float32(values: Floats) -> NDArray[np.float32]:
    return values.astype(np.float32)
