"""Rates, intervals, comparisons, the oracle and calibration, on counts small enough to check."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperasr.errors import TextError
from hyperasr.score import measure
from hyperasr.score.calibration import calibration
from hyperasr.score.normalise import normaliser
from hyperasr.score.report import to_json, to_pra
from hyperasr.score.result import Confusion, Counts
from hyperasr.score.scoring import score
from hyperasr.score.texts import Text, Texts, TimedWord

BASIC = normaliser("basic")


def texts(*found, name="file"):
    return Texts(name, "Kaldi text", found)


def scored(*pairs, **about):
    """The score of (reference, hypothesis) texts; None: no hypothesis."""
    said = [Text(f"u{n}", a, **about) for n, (a, _) in enumerate(pairs)]
    heard = [Text(f"u{n}", b) for n, (_, b) in enumerate(pairs) if b is not None]
    return score(texts(*said), texts(*heard, name="system"), BASIC)


def test_every_word_counts_the_same_wherever_it_stands():
    found = scored(("a", "b"), ("a b c d", "a b c d"), ("", ""), ("c d", None)).total
    assert found.words == Counts(correct=4, substitutions=1, deletions=2)
    assert found.words.rate == pytest.approx(3 / 7)
    assert (found.wrong, found.utterances) == (2, 4)
    assert found.characters.rate == pytest.approx(4 / 11)


def test_references_without_words_have_no_rate_but_their_insertions():
    found = scored(("", "a b"), ("...", "c"))
    assert found.total.words == Counts(insertions=3)
    assert (found.total.words.rate, found.total.interval) == (None, None)
    document = json.loads(to_json(found))
    assert (document["wer"], document["words"]["insertions"]) == (None, 3)


def test_groups_are_those_that_the_references_know():
    said = [
        Text("1", "a", speaker="ann", duration=1.0),
        Text("2", "b", speaker="bob", duration=25.0),
        Text("3", "c", speaker="ann", duration=2.0),
        Text("4", "d"),
    ]
    heard = [Text(n, "a") for n in "1234"]
    groups = score(texts(*said), texts(*heard), BASIC).groups
    assert set(groups) == {"speaker", "duration"}
    rows = {
        by: [(g.name, g.utterances, g.words.errors) for g in found] for by, found in groups.items()
    }
    assert rows["speaker"] == [("ann", 2, 1), ("bob", 1, 1), ("unknown", 1, 1)]
    assert rows["duration"] == [
        ("0 to 2 s", 1, 0), ("2 to 5 s", 1, 1), ("from 20 s", 1, 1), ("unknown", 1, 1),
    ]  # fmt: skip


def test_the_interval_is_that_of_a_plain_bootstrap():
    random = np.random.default_rng(1)
    words = random.integers(1, 30, 200)
    errors = random.binomial(words, 0.2)
    found = measure.interval(np.stack([errors, words], axis=1))
    drawn = random.integers(0, 200, (4000, 200))
    low, high = np.quantile(errors[drawn].sum(1) / words[drawn].sum(1), [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.004)
    assert found == measure.interval(np.stack([errors, words], axis=1)[::-1])


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=30))
def test_an_interval_lies_within_what_utterances_have(rows):
    rows = [(min(errors, words), words) for errors, words in rows]
    if any(words for _, words in rows):
        found = measure.interval(np.array(rows))
        assert 0 <= found.low <= found.high <= 1


def test_blocks_of_draws_make_no_difference(monkeypatch):
    rows = np.array([(n % 3, n % 7 + 1) for n in range(50)])
    whole = measure.resampled(rows)
    monkeypatch.setattr(measure, "BLOCK", 30)
    assert (measure.resampled(rows) == whole).all()
    assert whole.shape == (measure.RESAMPLES, 2)


def test_one_utterance_has_no_interval():
    assert scored(("a b", "a c")).total.interval is None


def pair_of_systems(better, worse, count=40):
    said = texts(*(Text(f"u{n}", "a b c d") for n in range(count)))
    systems = [
        texts(*(Text(f"u{n}", text(n)) for n in range(count)), name=name)
        for name, text in (("one", better), ("two", worse))
    ]
    return score(said, systems[0], BASIC, other=systems[1]).comparison


def test_two_systems_are_compared_on_the_same_resamples():
    """Every utterance is better by one word: however they are drawn the difference is that."""
    found = pair_of_systems(
        lambda n: "a b c" if n % 2 else "a b c d", lambda n: "a b" if n % 2 else "a b c"
    )
    assert found.other == "two"
    assert found.difference == pytest.approx(-0.25)
    assert (found.interval.low, found.interval.high) == pytest.approx((-0.25, -0.25))
    assert found.better == 1.0


def test_equal_systems_are_each_better_half_of_the_time():
    found = pair_of_systems(lambda n: "a b", lambda n: "c b a"[: 2 * (n % 2) + 3])
    same = pair_of_systems(lambda n: "a b", lambda n: "a b")
    assert (same.difference, same.better) == (0.0, 0.5)
    assert found.total.utterances == 40


def test_a_comparison_needs_the_same_utterances_and_words():
    said = texts(Text("f-1", "a", recording="f", duration=1.0, channel="1"))
    timed = texts(Text("f", "a", (TimedWord("a", 0.0, 1.0),), channel="1"))
    with pytest.raises(TextError, match="times of its words"):
        score(said, timed, BASIC, other=texts(Text("f", "a")))
    with pytest.raises(TextError, match="without words"):
        score(texts(Text("u", "")), texts(Text("u", "a")), BASIC, other=texts(Text("u", "a")))


def test_most_frequent_errors_come_first_and_equals_in_order_of_the_alphabet():
    found = scored(("a b", "a c"), ("b", "c"), ("d", "c"), ("x y", "y"), ("y", "y u"))
    assert found.confusions == (Confusion("b", "c", 2), Confusion("d", "c", 1))
    assert found.deletions == (Confusion("x", "", 1),)
    assert found.insertions == (Confusion("", "u", 1),)


def test_ids_on_one_side_only_are_listed():
    found = score(
        texts(Text("1", "a"), Text("2", "b")), texts(Text("1", "a"), Text("3", "c")), BASIC
    )
    assert (found.missing, found.extra) == (("2",), ("3",))


def oracle(said, heard, *lists):
    return score(texts(Text("u", said)), texts(Text("u", heard, alternatives=lists)), BASIC).oracle


def test_the_oracle_takes_the_best_text_of_every_list():
    assert oracle("a b", "a c", ("a c", "a b", "x")) == Counts(correct=2)
    assert oracle("a b c d", "a x y d", ("a x", "a b"), ("y d", "c d")) == Counts(correct=4)
    assert oracle("a b", "a b", ("x",)) == Counts(correct=2)
    assert scored(("a", "a")).oracle is None


@given(
    st.lists(st.lists(st.text("ab ", max_size=5), min_size=1, max_size=3), min_size=1, max_size=3)
)
def test_the_oracle_is_never_worse_than_the_first_choice(lists):
    heard = " ".join(found[0] for found in lists)
    found = score(
        texts(Text("u", "a b a b")),
        texts(Text("u", heard, alternatives=tuple(map(tuple, lists)))),
        BASIC,
    )
    assert found.oracle.errors <= found.total.words.errors


def test_confidences_are_held_against_what_is_correct():
    words = [TimedWord("a", confidence=0.95), TimedWord("x", confidence=0.95), TimedWord("c")]
    heard = Text("u", "a x c", tuple(words))
    found = score(texts(Text("u", "a b c")), texts(heard), BASIC).calibration
    assert [(b.count, b.confidence, b.accuracy) for b in found.bins if b.count] == [(2, 0.95, 0.5)]
    assert found.ece == pytest.approx(0.45)
    assert scored(("a", "a")).calibration is None


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=30))
def test_every_confidence_is_in_one_bin(pairs):
    values = np.array([value for value, _ in pairs])
    found = calibration(values, np.array([right for _, right in pairs], bool))
    assert sum(bin.count for bin in found.bins) == len(pairs)
    assert all(bin.low <= bin.confidence <= bin.high + 1e-9 for bin in found.bins if bin.count)
    assert 0 <= found.ece <= 1


def test_words_as_sure_as_right_have_no_calibration_error():
    assert calibration(np.array([0.5] * 4), np.array([1, 1, 0, 0], bool)).ece == 0
    assert calibration(np.array([1.0] * 4), np.array([0, 0, 0, 0], bool)).ece == 1


def test_aligned_text_is_laid_out_as_sclite_does():
    found = scored(("the cat sat", "the big hat sat"), ("東京", None))
    assert to_pra(found) == (
        "System: system\nNormalizer: basic 1\n\n"
        "id: (u0)\nScores: (#C #S #D #I) 2 1 0 1\n"
        "REF:  the *** cat sat\nHYP:  the big hat sat\nEval:     I   S\n\n"
        "id: (u1)\nScores: (#C #S #D #I) 0 0 1 0\n(no hypothesis)\n"
        "REF:  東京\nHYP:  ****\nEval: D\n"
    )


def test_json_holds_every_number_of_the_tables():
    said = texts(Text("1", "a b", speaker="s", duration=1.0), Text("2", "c", speaker="t"))
    heard = texts(Text("1", "a x", alternatives=(("a x", "a b"),)), Text("9", "z"))
    heard = replace(heard, texts=(replace(heard.texts[0], words=(
        TimedWord("a", 0, 1, 0.5), TimedWord("x", 1, 2, 0.5))), heard.texts[1]))  # fmt: skip
    found = score(said, heard, BASIC, other=texts(Text("1", "a b"), Text("2", "c")))
    document = json.loads(to_json(found))
    assert (document["normalizer"], document["system"]) == ("basic 1", "file")
    assert document["wer"] == pytest.approx(2 / 3, abs=1e-6)
    kinds = {"correct": 1, "substitutions": 1, "deletions": 1, "insertions": 0}
    assert document["words"] == {"reference": 3, "errors": 2, **kinds}
    assert (document["missing"], document["extra"]) == (["2"], ["9"])
    assert [row["name"] for row in document["by"]["speaker"]] == ["s", "t"]
    assert document["confusions"] == [["b", "x", 1]]
    assert document["most_deleted"] == [["c", 1]]
    assert document["oracle"]["errors"] == 1
    assert document["comparison"]["difference"] == pytest.approx(2 / 3, abs=1e-6)
    assert document["calibration"]["ece"] == 0.0
    assert document["per_utterance"][0]["alignment"] == [["a", "a"], ["b", "x"]]
