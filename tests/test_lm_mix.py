"""Mixed and pruned models are distributions, mean what they should, and KenLM agrees with us."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from language_models import SENTENCES, build, harbour, kenlm_scores, model, sums

from hyperasr.errors import ConfigError, TextError
from hyperasr.lm.backoff import log_prob
from hyperasr.lm.mix import best_weight, mix, sides
from hyperasr.lm.model import IMPOSSIBLE
from hyperasr.lm.perplexity import measure
from hyperasr.lm.prune import losses, prune

DEV = harbour(300, 400)


def mixed(weight=0.4, orders=(3, 3)):
    return mix(model(0, 150, orders[0]), model(150, 300, orders[1], (0, 1)), weight)


@given(SENTENCES, SENTENCES, st.integers(1, 3), st.integers(1, 3), st.floats(0.01, 0.99))
def test_every_context_of_a_mixed_model_sums_to_one(first, second, low, high, weight):
    both = mix(build(first, low), build(second, high), weight)
    np.testing.assert_allclose(sums(both), 1, atol=1e-5)


@given(SENTENCES, st.integers(2, 4), st.floats(1e-6, 1))
def test_every_context_of_a_pruned_model_sums_to_one(sentences, order, threshold):
    np.testing.assert_allclose(sums(prune(build(sentences, order), threshold)), 1, atol=1e-5)


def test_listed_ngrams_of_a_mixed_model_are_the_weighted_mean():
    first, second = model(0, 150), model(150, 300, 3, (0, 1))
    together = mix(first, second, 0.4)
    _, (here, there) = sides(first, second)
    for order in (1, 2, 3):
        ids = together.ids(order)
        mean = 0.4 * 10 ** here.log_prob(ids) + 0.6 * 10 ** there.log_prob(ids)
        np.testing.assert_allclose(10 ** log_prob(together, ids), mean, rtol=1e-5)


def test_a_mixed_model_lists_the_words_and_ngrams_of_both():
    first, second = model(0, 150), model(150, 300, 4)
    both = mix(first, second, 0.4)
    assert set(both.vocabulary) == {*first.vocabulary, *second.vocabulary}
    for order in (2, 3, 4):
        spelled = [
            {tuple(m.vocabulary[i] for i in row) for row in m.ids(order).tolist()}
            for m in (first, second, both)
            if m.order >= order
        ]
        assert spelled[-1] == set().union(*spelled[:-1])
    assert both.order == 4


def test_a_model_mixed_with_itself_stays_what_it_is():
    same = mix(model(), model(), 0.3)
    assert same.counts == model().counts
    for here, there in zip(same.grams, model().grams, strict=True):
        np.testing.assert_allclose(here.log_prob, there.log_prob, atol=1e-5)


def test_a_word_of_one_model_alone_gets_nothing_from_the_other():
    first, second = build(["a b", "a a"], 2), build(["c b", "b c"], 2)
    vocabulary, (side, _) = sides(first, second)
    assert side.log_prob(np.array([[vocabulary.index("c")]])) == [IMPOSSIBLE]


def test_the_weight_that_em_finds_is_the_best_there_is():
    first, second = model(0, 150), model(150, 300)
    best = best_weight(first, second, [DEV])

    def perplexity(weight):
        return measure(mix(first, second, weight), [DEV]).perplexity

    assert perplexity(best) < min(perplexity(best - 0.05), perplexity(best + 0.05))
    assert perplexity(best) < min(measure(m, [DEV]).perplexity for m in (first, second))


def test_the_weight_goes_to_the_model_of_the_text():
    field = build(["we sailed home", "home we sailed"] * 5, 3)
    assert best_weight(model(), field, [b"we sailed home\n"]) < 0.2
    assert best_weight(field, model(), [b"we sailed home\n"]) > 0.8


def test_impossible_weights_and_strange_texts_are_refused():
    for weight in (0, 1, -1, float("nan")):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            mix(model(), model(), weight)
    with pytest.raises(TextError, match="no words"):
        measure(model(), [])


@pytest.mark.parametrize("make", [model, mixed, lambda: prune(mixed(orders=(3, 4)), 1e-4)])
def test_kenlm_scores_as_we_do(make, tmp_path):
    ours, text = make(), DEV + b"the xylophone of torwick came home\n"
    theirs = kenlm_scores(ours, tmp_path / "model.arpa", text)
    found = measure(ours, [text])
    assert len(theirs) == found.words - found.unknown + found.sentences
    assert sum(theirs) == pytest.approx(found.log_prob, abs=1e-2)


@given(SENTENCES, st.integers(2, 4))
def test_kenlm_scores_small_models_as_we_do(tmp_path_factory, sentences, order):
    built = build(sentences, order)
    text = "".join(f"{line}\n" for line in [*reversed(sentences), "a d b z c"]).encode()
    theirs = kenlm_scores(built, tmp_path_factory.mktemp("kenlm") / "model.arpa", text)
    assert sum(theirs) == pytest.approx(measure(built, [text]).log_prob, abs=1e-3)


def test_the_text_may_come_in_blocks():
    whole = measure(model(), [DEV])
    assert measure(model(), DEV.splitlines(keepends=True)).log_prob == pytest.approx(whole.log_prob)
    assert whole.sentences == 100


def test_unknown_words_are_counted_and_left_out():
    found = measure(model(), [b"the boat came home\n", b"the zeppelin <unk> came home\n"])
    assert (found.sentences, found.words, found.unknown) == (2, 9, 2)


# Pruning.


def test_an_ngram_goes_if_perplexity_hardly_grows_without_it():
    """Stolcke's relative entropy, from its definition: all words, with and without one n-gram."""
    whole = build(["a b", "a c b", "b a", "a b c", "c c a b", "b b a c"], 2)
    words = np.delete(np.arange(len(whole.vocabulary), dtype=np.uint32), 1)
    for row, loss in enumerate(losses(whole)[0]):
        context, word = whole.ids(2)[row]
        ids = np.column_stack([np.full(len(words), context), words])
        p = 10 ** log_prob(whole, ids)
        lower = 10 ** log_prob(whole, words[:, None])
        kept = np.isin(words, whole.ids(2)[whole.grams[1].contexts == context][:, 1])
        kept &= words != word
        rest = np.where(kept, 0, lower)
        q = np.where(kept, p, rest * (1 - p[kept].sum()) / rest.sum())
        marginal = 1 if context == 1 else 10 ** whole.grams[0].log_prob[context]
        expected = np.expm1(marginal * np.sum(p * np.log(p / q)))
        assert loss == pytest.approx(expected, rel=1e-3, abs=1e-7)


def test_a_higher_threshold_keeps_less_and_predicts_worse():
    whole, rows = mixed(), []
    for threshold in (1e-9, 1e-4, 1e-3, 1e-2):
        small = prune(whole, threshold)
        rows.append((sum(small.counts), -measure(small, [DEV]).perplexity))
    assert rows == sorted(rows, reverse=True)
    assert rows[0][0] <= sum(whole.counts)


@pytest.mark.parametrize("most", [150, 500, 1000, 10**9])
def test_so_many_ngrams_stay_at_most(most):
    small = prune(model(), max_ngrams=most)
    assert min(most, sum(model().counts)) - 20 <= sum(small.counts) <= most
    assert small.counts[0] == model().counts[0]


def test_a_model_pruned_of_nothing_stays_what_it_is():
    same = prune(model(), max_ngrams=10**9)
    assert same.counts == model().counts
    for here, there in zip(same.grams, model().grams, strict=True):
        np.testing.assert_allclose(here.backoff, there.backoff, atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "either a threshold or a number"),
        ({"threshold": 1e-8, "max_ngrams": 10}, "either a threshold or a number"),
        ({"threshold": 0}, "must be above 0"),
        ({"max_ngrams": 10}, "more single words than"),
    ],
)
def test_impossible_pruning_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        prune(model(), **settings)
