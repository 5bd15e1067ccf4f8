"""Word errors, held against the textbook recurrence."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperasr.score.wer import ErrorCount, word_errors

texts = st.lists(st.sampled_from(["a", "b", "c", "ab", "é"]), max_size=8).map(" ".join)


def distance(reference: list[str], hypothesis: list[str]) -> int:
    """Levenshtein's, row by row: insertions, deletions and substitutions cost 1 each."""
    row = list(range(len(hypothesis) + 1))
    for expected in reference:
        diagonal, row[0] = row[0], row[0] + 1
        for j, heard in enumerate(hypothesis, start=1):
            cost = min(row[j] + 1, row[j - 1] + 1, diagonal + (expected != heard))
            diagonal, row[j] = row[j], cost
    return row[-1]


@given(texts, texts)
def test_a_pair_costs_its_edit_distance(expected, heard):
    errors = distance(expected.split(), heard.split())
    assert word_errors([(expected, heard)]) == ErrorCount(errors, len(expected.split()))


@given(st.lists(st.tuples(texts, texts)))
def test_errors_and_words_are_summed_over_the_pairs_not_averaged(pairs):
    counts = [word_errors([pair]) for pair in pairs]
    total = word_errors(pair for pair in pairs)
    assert total.errors == sum(count.errors for count in counts)
    assert total.reference == sum(count.reference for count in counts)


@pytest.mark.parametrize(
    ("pairs", "errors", "reference", "rate"),
    [
        pytest.param([], 0, 0, 0.0, id="no pairs"),
        pytest.param([("", "")], 0, 0, 0.0, id="nothing said, nothing heard"),
        pytest.param([(" \n", "\t")], 0, 0, 0.0, id="only spaces"),
        pytest.param([("", "a b")], 2, 0, math.inf, id="nothing said, something heard"),
        pytest.param([("a b", "")], 2, 2, 1.0, id="something said, nothing heard"),
        pytest.param([("", "a"), ("b c", "b c")], 1, 2, 0.5, id="one of them empty"),
        pytest.param([("a", "b c d")], 3, 1, 3.0, id="more errors than words"),
    ],
)
def test_empty_and_extreme(pairs, errors, reference, rate):
    count = word_errors(pairs)
    assert (count.errors, count.reference, count.rate) == (errors, reference, rate)


def test_spaces_do_not_count_but_case_and_punctuation_do():
    assert word_errors([(" the  cat\tsat\n", "the cat sat")]).errors == 0
    assert word_errors([("the cat sat", "The cat sat.")]).errors == 2
