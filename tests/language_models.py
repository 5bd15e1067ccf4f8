"""Small language models and what is asked of every one, for the tests of lm/."""

import functools
from pathlib import Path

import kenlm
import numpy as np
from hypothesis import strategies as st

from hyperasr.lm import ngram
from hyperasr.lm.arpa import write_arpa
from hyperasr.lm.backoff import log_prob
from hyperasr.lm.model import BOS, EOS, NOWHERE, NGramModel, find, pack

DATA = Path(__file__).parent / "data"

WORDS = st.sampled_from(["a", "b", "c", "d", "isn't", "été"])
SENTENCES = st.lists(st.lists(WORDS, min_size=1, max_size=6).map(" ".join), min_size=1, max_size=30)


@functools.cache
def harbour(first: int = 0, last: int = 400) -> bytes:
    """Some sentences of a made-up text."""
    lines = (DATA / "harbour.txt").read_bytes().splitlines(keepends=True)
    return b"".join(lines[first:last])


@functools.cache
def model(first: int = 0, last: int = 400, order: int = 3, prune: tuple[int, ...] = (0,)):
    """A model of some sentences of it."""
    return ngram.build([harbour(first, last)], order, prune)


def build(sentences: list[str], order: int, prune: tuple[int, ...] = (0,)) -> NGramModel:
    return ngram.build(["".join(f"{line}\n" for line in sentences).encode()], order, prune)


def largest_difference(one: NGramModel, other: NGramModel) -> float:
    """Of log-probabilities and back-offs; the n-grams must be the same."""
    assert one.counts == other.counts
    numbers = {word: number for number, word in enumerate(other.vocabulary)}
    words = rows = np.array([numbers[word] for word in one.vocabulary])
    largest = 0.0
    for order, (here, there) in enumerate(zip(one.grams, other.grams, strict=True), start=1):
        if order > 1:
            rows = find(there.keys, pack(rows[here.contexts], words[here.words]))
        assert (rows != NOWHERE).all()
        for a, b in ((here.log_prob, there.log_prob), (here.backoff, there.backoff)):
            largest = max(largest, float(np.abs(a - b[rows]).max(initial=0)))
    return largest


def sums(model: NGramModel) -> np.ndarray:
    """For every context that is listed, and for none: what its probabilities add up to."""
    words = np.delete(np.arange(len(model.vocabulary), dtype=np.uint32), BOS)
    found = [np.sum(10 ** log_prob(model, words[:, None]))]
    for order in range(1, model.order):
        ids = model.ids(order)
        for context in ids[ids[:, -1] != EOS]:
            ids = np.column_stack([np.tile(context, (len(words), 1)), words])
            found.append(np.sum(10 ** log_prob(model, ids)))
    return np.array(found)


def kenlm_scores(model: NGramModel, path: Path, text: bytes) -> list[float]:
    """log10 of every known word and end of sentence, as KenLM has it."""
    write_arpa(model, path)
    judge = kenlm.Model(str(path))
    return [
        score
        for line in text.decode().splitlines()
        for score, _, unknown in judge.full_scores(line)
        if not unknown
    ]
