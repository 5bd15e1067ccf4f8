"""The alignment of a reference and a hypothesis, held against its definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperasr.score import align as aligning
from hyperasr.score.align import align, align_words, count_characters, count_errors, spelled
from hyperasr.score.normalise import Normaliser, normaliser
from hyperasr.score.result import Counts
from hyperasr.score.texts import Text, TimedWord

BASIC = normaliser("basic")

words = st.lists(st.sampled_from(["a", "b", "c", "dd", "é"]), max_size=9)


def pairs(reference, hypothesis):
    aligned = align_words(reference, [TimedWord(word) for word in hypothesis])
    return [(word.reference, word.hypothesis) for word in aligned]


def errors(reference, hypothesis):
    return count_errors(reference, hypothesis).errors


def by_definition(reference, hypothesis):
    """An alignment of least errors, ties broken as the module says, by the textbook recurrence."""
    first = 0
    while first < min(len(reference), len(hypothesis)) and reference[first] == hypothesis[first]:
        first += 1
    last = 0
    while (
        last < min(len(reference), len(hypothesis)) - first
        and reference[-1 - last] == hypothesis[-1 - last]
    ):
        last += 1
    said, heard = (
        reference[first : len(reference) - last],
        hypothesis[first : len(hypothesis) - last],
    )
    least = np.add.outer(np.arange(len(said) + 1), np.arange(len(heard) + 1))
    for i, a in enumerate(said, start=1):
        for j, b in enumerate(heard, start=1):
            cheapest = min(least[i - 1, j], least[i, j - 1]) + 1
            least[i, j] = min(cheapest, least[i - 1, j - 1] + (a != b))
    i, j, middle = len(said), len(heard), []
    while i or j:
        cost = least[i, j] - 1
        if i and least[i - 1, j] == cost:
            i -= 1
            middle.append((said[i], None))
        elif i and j and said[i - 1] != heard[j - 1] and least[i - 1, j - 1] == cost:
            i, j = i - 1, j - 1
            middle.append((said[i], heard[j]))
        elif j and least[i, j - 1] == cost:
            j -= 1
            middle.append((None, heard[j]))
        else:
            i, j = i - 1, j - 1
            middle.append((said[i], heard[j]))
    ends = [(word, word) for word in reference]
    return ends[:first] + middle[::-1] + ends[len(ends) - last :]


@given(words, words)
def test_errors_are_least_and_ties_are_broken_as_documented(reference, hypothesis):
    assert pairs(reference, hypothesis) == by_definition(reference, hypothesis)


def test_the_examples_of_the_documentation():
    assert pairs(["a", "b"], ["b", "c"]) == [("a", "b"), ("b", "c")]
    assert pairs(["new", "york", "is"], ["newark", "is"]) == [
        ("new", "newark"),
        ("york", None),
        ("is", "is"),
    ]


@given(words, words)
def test_distance_is_symmetric_and_zero_only_for_the_same(reference, hypothesis):
    assert errors(reference, hypothesis) == errors(hypothesis, reference)
    assert (errors(reference, hypothesis) == 0) == (reference == hypothesis)


@given(words, words, words)
def test_a_detour_is_never_shorter(one, two, three):
    assert errors(one, three) <= errors(one, two) + errors(two, three)


@given(words, st.lists(st.integers(0, 9), max_size=5))
def test_every_inserted_word_is_one_error_more(reference, places):
    hypothesis = list(reference)
    for place in places:
        hypothesis.insert(min(place, len(hypothesis)), "zz")
    counts = count_errors(reference, hypothesis)
    assert counts == Counts(correct=len(reference), insertions=len(places))


@given(words, words)
def test_the_counts_are_those_of_the_alignment(reference, hypothesis):
    aligned = align_words(reference, [TimedWord(word) for word in hypothesis])
    assert Counts.of(aligned) == count_errors(reference, hypothesis)
    assert [w.reference for w in aligned if w.reference is not None] == reference
    assert [w.hypothesis for w in aligned if w.hypothesis is not None] == hypothesis


def spoiled(count, share=0.2):
    """That many words, and what a poor recogniser makes of them."""
    random = np.random.default_rng(count)
    reference = [f"w{n}" for n in random.integers(0, 500, count)]
    kept = [word for word in reference if random.random() > share / 2]
    return reference, [word if random.random() > share / 2 else "x" for word in kept]


def test_long_texts_have_no_more_errors_than_when_all_pairs_are_looked_at(monkeypatch):
    reference, hypothesis = spoiled(3000)
    assert len(reference) * len(hypothesis) > aligning.LARGE
    banded = errors(reference, hypothesis)
    monkeypatch.setattr(aligning, "LARGE", 10**9)
    assert banded == errors(reference, hypothesis) > 300


def test_letters_of_long_texts_are_compared_in_pieces(monkeypatch):
    reference, hypothesis = spoiled(2000, share=0.02)
    aligned = align_words(reference, [TimedWord(word) for word in hypothesis])
    whole = count_characters(aligned)
    monkeypatch.setattr(aligning, "LONG", 1000)
    assert len(aligning._pieces(aligned)) > 20
    assert count_characters(aligned) == whole


@given(words, words)
def test_characters_are_counted_with_one_space_between_words(reference, hypothesis):
    aligned = align_words(reference, [TimedWord(word) for word in hypothesis])
    assert count_characters(aligned) == count_errors(" ".join(reference), " ".join(hypothesis))


def test_a_missing_hypothesis_is_all_deletions():
    found = align(Text("u", "a b"), None, BASIC)
    assert (found.missing, found.counts) == (True, Counts(deletions=2))
    assert align(Text("u", "a b"), Text("u", ""), BASIC).missing is False


def test_words_keep_their_times_whatever_a_normaliser_makes_of_them():
    def numbers(text):
        return text.lower().replace("twenty one", "21").replace("-", " ").replace("...", "")

    written = ["A", "well-known", "...", "twenty", "one", "B"]
    heard = [TimedWord(w, n, n + 0.5, 0.9) for n, w in enumerate(written)]
    text = Text("u", " ".join(word.text for word in heard), tuple(heard))
    found = spelled(text, Normaliser("numbers", "1", numbers))
    assert [(word.text, word.start) for word in found] == [
        ("a", 0),
        ("well", 1),
        ("known", 1),
        ("21", None),
        ("b", 5),
    ]


@pytest.mark.parametrize(("said", "heard"), [("", ""), ("", "a"), ("a", ""), ("a", "b")])
def test_empty_and_one_word_texts(said, heard):
    found = align(Text("u", said), Text("u", heard), BASIC)
    assert found.counts.errors == (said != heard)
    assert found.counts.reference == len(said.split())
