"""Hotwords: what a text earns, word by word, against a naive reading of it as a whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperasr.errors import ConfigError
from hyperasr.hotwords import Hotwords

WEIGHT = 4.0


def earnings(phrases, text):
    """What each word of a text earns, and at the end what its end earns."""
    hotwords = Hotwords(phrases, WEIGHT)
    place, earned = hotwords.start, []
    for word in text.split():
        gain, place = hotwords.step(place, word)
        earned.append(gain / WEIGHT)
    return [*earned, hotwords.finish(place) / WEIGHT]


def naive_search(phrases, words):
    """Phrases in a text, the earliest first and of those the longest, none over another."""
    found = []
    while words:
        here = [p for p in phrases if p and words[: len(p.split())] == p.split()]
        if here:
            found.append(max(here, key=lambda phrase: len(phrase.split())))
        words = words[len(found[-1].split()) if here else 1 :]
    return found


@pytest.mark.parametrize(
    ("phrases", "text", "earned"),
    [
        (["ann"], "so ann said", [0, 1, 0, 0]),
        (["new york"], "in new york now", [0, 1, 1, 0, 0]),
        (["new york"], "new york new york", [1, 1, 1, 1, 0]),
        (["new york"], "a new car", [0, 1, -1, 0]),  # the credit is taken back
        (["new york"], "a new", [0, 1, -1]),
        (["new york"], "new new york", [1, 0, 1, 0]),  # the first is taken back, the second earns
        (["york new"], "new york", [0, 1, -1]),
        (["new", "new york"], "new york", [1, 1, 0]),
        (["new", "new york"], "new car", [1, 0, 0]),
        (["new", "new york city"], "new york", [1, 1, -1]),
        (["new", "new york city", "york"], "new york", [1, 1, 0]),
        (["new york", "york city"], "new york city", [1, 1, 0, 0]),  # one word counts once
        (["a b c", "b d"], "a b d", [1, 1, 0, 0]),  # a is taken back, b and d are a phrase
        (["a b c", "b"], "a b", [1, 1, -1]),
        ([], "new york", [0, 0, 0]),
        (["", "  "], "new york", [0, 0, 0]),
    ],
)
def test_every_word_of_a_phrase_earns_at_once_and_gives_back_what_comes_to_nothing(
    phrases, text, earned
):
    assert earnings(phrases, text) == earned


def test_nothing_is_taken_back_from_a_text_that_has_earned_nothing():
    hotwords = Hotwords(["new york"], WEIGHT)
    assert hotwords.finish(hotwords.start) == 0.0


PHRASES = st.lists(st.text("ab c", min_size=1, max_size=9), max_size=6)
TEXT = st.lists(st.sampled_from("abc"), max_size=15)


@given(PHRASES, TEXT)
def test_a_text_earns_the_weight_for_each_word_of_the_phrases_found_in_it(phrases, words):
    found = Hotwords(phrases, WEIGHT).heard(words)
    worth = sum(len(phrase.split()) for phrase in found)
    assert sum(earnings(phrases, " ".join(words))) == worth


@given(PHRASES, TEXT)
def test_what_is_heard_is_what_a_naive_search_finds(phrases, words):
    tidy = [" ".join(phrase.split()) for phrase in phrases]
    assert list(Hotwords(phrases, WEIGHT).heard(words)) == naive_search(tidy, words)


def test_a_phrase_is_named_each_time_it_is_heard():
    words = ["new", "york", "and", "york", "and", "new", "york", "city"]
    hotwords = Hotwords(["new york city", "new york", "york"], WEIGHT)
    assert hotwords.heard(words) == ("new york", "york", "new york city")


def test_the_beginning_of_a_hotword_earns_its_share_and_never_more_than_the_word():
    hotwords = Hotwords(["york", "yorkshire terrier"], WEIGHT)
    shares = [hotwords.partial("yorkshire"[:n]) / WEIGHT for n in range(1, 10)]
    assert shares[:4] == [0.25, 0.5, 0.75, 1.0]  # on the way to the shortest word
    assert shares[4:] == pytest.approx([5 / 9, 6 / 9, 7 / 9, 8 / 9, 1.0])
    assert hotwords.partial("ter") == pytest.approx(WEIGHT * 3 / 7)
    for other in ("", "yorks hire", "k", "yorkx"):
        assert hotwords.partial(other) == 0.0


def test_a_thousand_phrases_cost_no_more_steps_than_one():
    """The trie is walked, not the list: a word that begins no phrase is one look-up."""
    many = Hotwords([f"word{n} end" for n in range(1000)], WEIGHT)
    assert many.step(many.start, "other") == (0.0, many.start)
    assert many.longest == 2
    assert len(many.words) == 1001


def test_a_phrase_as_long_as_a_text_is_refused():
    Hotwords(["word " * 50], 4.0)
    with pytest.raises(ConfigError, match="hotword of 51 words"):
        Hotwords(["word " * 51], 4.0)


@given(st.lists(st.text("abc", min_size=1, max_size=9), min_size=1, max_size=6), st.integers(1, 3))
def test_a_token_adds_at_most_the_rise(words, letters):
    expected = Hotwords(words, 4.0)
    rise = expected.rise(letters)
    assert 0.0 < rise <= 4.0
    for word in words:
        for end in range(1, len(word) + 1):
            for token in range(1, min(letters, end) + 1):
                gained = expected.partial(word[:end]) - expected.partial(word[: end - token])
                assert gained <= rise + 1e-12
