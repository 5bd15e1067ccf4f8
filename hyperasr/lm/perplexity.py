"""How well a model predicts a text."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from hyperasr.errors import TextError
from hyperasr.lm.backoff import log_prob
from hyperasr.lm.counts import encode
from hyperasr.lm.model import BOS, EOS, UNK, Floats, NGramModel, Words


@dataclass(frozen=True, slots=True)
class Perplexity:
    """What a model made of a text."""

    sentences: int
    words: int
    unknown: int  # words the model does not have, or that nobody could write
    log_prob: float  # log10, of the known words and the ends of sentences

    @property
    def perplexity(self) -> float:
        """Per known word and end of sentence; unknown words are left out, as SRILM does."""
        return 10 ** (-self.log_prob / (self.words - self.unknown + self.sentences))


class Known(dict[bytes, int]):
    """The numbers of a vocabulary; any other word is <unk>."""

    def __init__(self, vocabulary: Iterable[str]):
        super().__init__((word.encode(), number) for number, word in enumerate(vocabulary))

    def __missing__(self, word: bytes) -> int:
        """Not in the vocabulary."""
        return UNK


def measure(model: NGramModel, blocks: Iterable[bytes]) -> Perplexity:
    """The perplexity of whole lines of text, one sentence each.

    Raises TextError if there are none.
    """
    numbers = Known(model.vocabulary)
    sentences = words = unknown = 0
    total = 0.0
    for block in blocks:
        ids, values = predictions(block, numbers, model.order, lambda rows: log_prob(model, rows))
        ends = int(np.count_nonzero(ids == EOS))
        sentences, words = sentences + ends, words + len(ids) - ends
        unknown += int(np.count_nonzero(ids == UNK))
        total += float(values[ids != UNK].sum())
    if not words:
        raise TextError("there are no words in this text: give a text with words")
    return Perplexity(sentences, words, unknown, total)


def predictions(
    block: bytes, numbers: dict[bytes, int], order: int, score: Callable[[Words], Floats]
) -> tuple[Words, Floats]:
    """Whole lines -> (m,) word numbers without <s>, and (m,) what `score` says of each.

    `score` gets (m, n) words, the last of which it is asked about: as many before it as the
    sentence has, <s> among them, and the order allows.
    """
    ids = encode(block, numbers)
    here = np.arange(len(ids))
    history = here - np.maximum.accumulate(np.where(ids == BOS, here, 0))
    history = np.minimum(history, order - 1)
    values = np.zeros(len(ids))
    for length in range(order):
        at = np.flatnonzero((history == length) & (ids != BOS))
        if len(at):
            values[at] = score(ids[at[:, None] + np.arange(-length, 1)])
    asked = ids != BOS
    return ids[asked], values[asked]
