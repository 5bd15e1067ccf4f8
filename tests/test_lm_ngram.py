"""The estimate is lmplz's, to the last digits, and a probability distribution."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from language_models import DATA, SENTENCES, build, harbour, largest_difference, model, sums

from hyperasr.errors import ConfigError, TextError
from hyperasr.lm import counts, ngram
from hyperasr.lm.arpa import read_arpa

LMPLZ = {
    "harbour.1": (1, (0,)),
    "harbour.2": (2, (0,)),
    "harbour.3": (3, (0,)),
    "harbour.4": (4, (0,)),
    "harbour.3.prune-0-0-1": (3, (0, 0, 1)),
    "harbour.4.prune-0-1-1-2": (4, (0, 1, 1, 2)),
    "harbour.3.prune-1": (3, (1,)),
}


@pytest.mark.parametrize("name", LMPLZ)
def test_every_number_is_lmplzs(name):
    order, prune = LMPLZ[name]
    assert (
        largest_difference(model(0, 400, order, prune), read_arpa(DATA / f"{name}.arpa.gz")) < 1e-5
    )


def test_a_text_too_small_for_discounts_gets_those_of_lmplzs_fallback_and_a_warning():
    said = []
    text = (DATA / "tiny.txt").read_bytes()
    small = ngram.build([text], 3, say=said.append)
    assert largest_difference(small, read_arpa(DATA / "tiny.3.arpa.gz")) < 1e-5
    assert "too small or too regular to estimate the discounts of 3-grams: 0.5, 1, 1.5" in said[-1]


def test_the_text_may_come_in_blocks_and_be_counted_in_pieces(monkeypatch):
    monkeypatch.setattr(counts, "PIECE", 50)
    lines = harbour().splitlines(keepends=True)
    assert largest_difference(ngram.build(lines, 4, (0, 0, 1)), model(0, 400, 4, (0, 0, 1))) == 0


@given(SENTENCES, st.integers(1, 5), st.lists(st.integers(0, 2), min_size=1, max_size=1))
def test_every_context_sums_to_one(sentences, order, prune):
    np.testing.assert_allclose(sums(build(sentences, order, tuple(prune))), 1, atol=1e-5)


@given(SENTENCES, st.integers(2, 4))
def test_every_context_sums_to_one_with_gaps(sentences, order):
    gapped = [line.replace("c", "<unk>") for line in [*sentences, "a b"]]
    built = build(gapped, order)
    np.testing.assert_allclose(sums(built), 1, atol=1e-5)
    assert not any((built.ids(n) == 0).any() for n in range(2, order + 1))


def test_no_ngram_reaches_across_a_word_that_cannot_be_written():
    built = build(["the boat <unk> came home"], 3)
    spelled = {
        tuple(built.vocabulary[i] for i in row) for n in (2, 3) for row in built.ids(n).tolist()
    }
    assert spelled == {
        ("<s>", "the"),
        ("the", "boat"),
        ("<s>", "the", "boat"),
        ("came", "home"),
        ("home", "</s>"),
        ("came", "home", "</s>"),
    }


def test_a_discount_of_nothing_leaves_nothing_for_other_words():
    often = {1: 2, 2: 2, 3: 4, 4: 9}  # these counts make the discounts of 2 and of 3 vanish
    words = [chr(ord("a") + n) for n in range(17)]
    times = [count for count, words in often.items() for _ in range(words)]
    built = build([w for w, count in zip(words, times, strict=True) for _ in range(count)], 2)
    assert built.grams[0].backoff.min() == np.float32(-99)
    np.testing.assert_allclose(sums(built), 1, atol=1e-5)


def test_an_order_longer_than_any_sentence_leaves_it_empty_and_says_so():
    said = []
    built = ngram.build([b"a b\nc\n"], 5, say=said.append)
    assert built.counts[3:] == (1, 0)
    assert "no sentence is long enough for 5-grams: the model has none" in said


@pytest.mark.parametrize("text", [b"", b"\n", b"<unk>\n"])
def test_a_text_without_words_is_refused(text):
    with pytest.raises(TextError, match="no words"):
        ngram.build([text] if text else [])


@pytest.mark.parametrize(
    ("order", "prune", "message"),
    [
        (0, (0,), "order must be from 1 to 6, not 0"),
        (7, (0,), "order must be from 1 to 6, not 7"),
        (2, (0, 0, 1), "takes 1 to 2 numbers"),
        (3, (), "takes 1 to 3 numbers"),
        (3, (0, 2, 1), "never fall"),
        (3, (-1,), "from 0"),
    ],
)
def test_impossible_settings_are_refused(order, prune, message):
    with pytest.raises(ConfigError, match=message):
        ngram.build([b"a\n"], order, prune)
