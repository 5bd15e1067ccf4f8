"""A large model -> a small one that predicts nearly the same: entropy pruning.

Stolcke, "Entropy-based pruning of backoff language models" (1998): an n-gram goes if backing off
instead changes the model's distribution, in relative entropy, by less than a threshold. Each
n-gram is judged as if it were the only one to go.
"""

import numpy as np

from hyperasr.errors import ConfigError
from hyperasr.lm.backoff import TINY, left_over, lower_log_prob, normalised
from hyperasr.lm.model import BOS, Floats, NGramModel, Rows, pack


def prune(
    model: NGramModel, threshold: float | None = None, max_ngrams: int | None = None
) -> NGramModel:
    """The model without the n-grams that change its perplexity by a share below `threshold`.

    Or, with `max_ngrams`, of the n-grams (single words among them, which all stay) the most
    telling ones, so many at most. The context of an n-gram that stays stays too.

    Raises ConfigError unless exactly one of the two is given and possible.
    """
    if (threshold is None) == (max_ngrams is None):
        raise ConfigError("prune needs either a threshold or a number of n-grams")
    scores = losses(model)
    if max_ngrams is not None:
        threshold = _threshold(scores, max_ngrams - model.counts[0])
    elif threshold is None or not threshold > 0:
        raise ConfigError(f"the threshold must be above 0, not {threshold:g}")
    renumbered = np.arange(model.counts[0])
    tables = [(model.grams[0].keys, model.grams[0].log_prob.astype(np.float64))]
    for grams, score in zip(model.grams[1:], scores, strict=True):
        kept = score >= threshold
        keys = pack(renumbered[grams.contexts[kept]], grams.words[kept])
        tables.append((keys, grams.log_prob[kept].astype(np.float64)))
        renumbered = np.cumsum(kept) - 1
    return normalised(model.vocabulary, tables)


def _threshold(scores: list[Floats], places: int) -> float:
    """The lowest threshold that leaves at most so many n-grams."""
    together = np.concatenate([np.empty(0), *scores])
    if places < 0:
        raise ConfigError("the model has more single words than the n-grams asked for: allow more")
    if places >= len(together):
        return float(TINY * min(1.0, together.min(initial=1.0)))
    ordered = np.sort(together)[::-1]
    return float(np.nextafter(ordered[places], np.inf))


def losses(model: NGramModel) -> list[Floats]:
    """Orders 2 and up: by which share perplexity grows if an n-gram goes, and all that extend it.

    Of these the largest is what counts: an n-gram must stay as long as one of its extensions does.
    """
    suffixes = model.suffixes()
    history = model.grams[0].log_prob.astype(np.float64) * np.log(10)
    history[BOS] = 0.0
    found = []
    for order in range(2, model.order + 1):
        found.append(_losses(model, order, suffixes[order - 1], history))
        grams = model.grams[order - 1]
        history = history[grams.contexts] + grams.log_prob * np.log(10)
    for order in range(model.order, 2, -1):
        contexts = model.grams[order - 1].contexts
        np.maximum.at(found[order - 3], contexts, found[order - 2])
    return found


def _losses(model: NGramModel, order: int, suffixes: Rows, history: Floats) -> Floats:
    """Stolcke's equation 12 for every n-gram of one order, as a share of perplexity.

    `history` is (contexts,), the natural logarithm of each context's own probability.
    """
    grams = model.grams[order - 1]
    contexts = grams.contexts
    log_p = grams.log_prob.astype(np.float64) * np.log(10)
    log_lower = lower_log_prob(model, order, suffixes) * np.log(10)
    left, below = (sides[contexts] for sides in left_over(model, order, suffixes))
    left, below = np.maximum(left, TINY), np.maximum(below, TINY)
    weight = np.log(left) - np.log(below)
    new_weight = np.log(left + np.exp(log_p)) - np.log(below + np.exp(log_lower))
    here = np.exp(log_p) * (log_lower + new_weight - log_p)
    elsewhere = left * (new_weight - weight)
    return np.expm1(-np.exp(history[contexts]) * (here + elsewhere))
