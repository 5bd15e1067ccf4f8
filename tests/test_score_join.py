"""Which hypothesis belongs to which reference: by id and by time, never by place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperasr.errors import TextError
from hyperasr.score.join import join
from hyperasr.score.texts import Text, Texts, TimedWord, unique


def some(format="Kaldi text", **texts):
    return Texts("file", format, tuple(Text(id, text) for id, text in texts.items()))


def ids(*names, format="Kaldi text"):
    return Texts("file", format, tuple(Text(name, f"text of {name}") for name in names))


def joined(references, hypotheses):
    found = join(references, hypotheses)
    return [(said.id, heard and heard.text) for said, heard in found.pairs], found.extra


@given(st.permutations(["u1", "u2", "u3", "u4"]), st.sets(st.sampled_from(["u1", "u2", "u3"])))
def test_order_does_not_matter_and_what_is_missing_shifts_nothing(order, gone):
    hypotheses = ids(*(name for name in order if name not in gone), "u5")
    pairs, extra = joined(ids("u1", "u2", "u3", "u4"), hypotheses)
    assert pairs == [
        (name, None if name in gone else f"text of {name}") for name in ("u1", "u2", "u3", "u4")
    ]
    assert extra == ("u5",)


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        (["a/1.wav", "b/1.wav"], ["a/1", "b/1"]),
        (["x/u.1.flac", "x/u.2.flac"], ["u.1", "u.2"]),
        (["/data/a.opus"], ["out\\a.json", "out\\b.json"]),
        (["a.wav", "b.wav"], ["a.wav", "c.wav"]),
    ],
)
def test_ids_that_are_paths_meet_without_folders_and_suffixes(said, heard):
    pairs, _ = joined(ids(*said), ids(*heard))
    assert pairs[0] == (said[0], f"text of {heard[0]}")


def test_names_that_are_not_unique_are_not_guessed():
    with pytest.raises(TextError, match="no id is in both file"):
        join(ids("a/1.wav", "b/1.wav"), ids("1", "2"))


def test_two_files_of_one_text_belong_together():
    said = some("plain text", morning="a b")
    assert joined(said, some("JSON", other="a c"))[0] == [("morning", "a c")]
    assert joined(said, some("NeMo JSON lines", x="a c"))[0] == [("morning", "a c")]


def test_an_empty_hypothesis_file_leaves_everything_missing():
    pairs, extra = joined(ids("u1", "u2"), some("plain text", empty=""))
    assert (pairs, extra) == ([("u1", None), ("u2", None)], ())


def test_no_references_and_nothing_in_common_are_refused():
    with pytest.raises(TextError, match="holds no references"):
        join(some("plain text", empty=""), ids("u1", "u2"))
    with pytest.raises(TextError, match=r"no id is in both .*u1.* and .*v1.*same ids"):
        join(ids("u1"), ids("v1"))


def segment(begin, end, text="", recording="f", channel="1", ignored=False):
    id = f"{recording}-{channel}-{begin}"
    where = {"recording": recording, "channel": channel, "ignored": ignored}
    return Text(id, text, duration=end - begin, offset=begin, **where)


def ctm(*words, recording="f", channel="1"):
    timed = tuple(TimedWord(text, start, end) for text, start, end in words)
    return Text(recording, " ".join(word.text for word in timed), timed, channel=channel)


def by_time(segments, *heard):
    return join(Texts("r", "STM", tuple(segments)), Texts("h", "CTM", heard))


def test_words_go_to_segments_by_their_middles_and_count_time_from_there():
    segments = [segment(2.0, 3.0, "b"), segment(0.0, 1.0, "a")]
    words = [("a", 0.5, 1.4), ("gap", 1.2, 1.6), ("b", 2.5, 2.75), ("late", 8.0, 9.0)]
    found = by_time(segments, ctm(*words))
    assert [(said.text, heard.text) for said, heard in found.pairs] == [
        ("a", "a"),
        ("b", "gap b late"),
    ]
    assert [(word.start, word.end) for word in found.pairs[1][1].words][1] == (0.5, 0.75)


def test_what_is_not_to_be_scored_is_left_out_with_its_words():
    segments = [segment(0.0, 1.0, "a"), segment(1.0, 2.0, ignored=True), segment(2.0, 3.0, "b")]
    found = by_time(segments, ctm(("a", 0.1, 0.2), ("noise", 1.2, 1.4), ("b", 2.1, 2.2)))
    assert [(said.text, heard.text) for said, heard in found.pairs] == [("a", "a"), ("b", "b")]


def test_channels_and_recordings_are_kept_apart():
    segments = [
        segment(0.0, 1.0, "a"),
        segment(0.0, 1.0, "b", channel="2"),
        segment(0.0, 1.0, "c", "g"),
    ]
    heard = [
        ctm(("a", 0.1, 0.2)),
        ctm(("b", 0.1, 0.2), channel="2"),
        ctm(("x", 0, 1), recording="h"),
    ]
    found = by_time(segments, *heard)
    assert [(said.text, heard and heard.text) for said, heard in found.pairs] == [
        ("a", "a"),
        ("b", "b"),
        ("c", None),
    ]
    assert found.extra == ("h/1",)


def test_channels_of_different_recordings_do_not_meet():
    segments = [segment(0.0, 1.0, "a", channel="A"), segment(0.0, 1.0, "b", channel="B")]
    heard = [ctm(("a", 0.1, 0.2), recording="g", channel=channel) for channel in "AB"]
    with pytest.raises(TextError, match=r"no id is in both .*f/A, f/B.* and .*g/A, g/B"):
        by_time(segments, *heard)
    heard = [ctm(("a", 0.1, 0.2), recording="x/f.wav", channel=channel) for channel in "AB"]
    assert by_time(segments, *heard).extra == ()


def test_without_times_of_words_the_segments_of_a_recording_are_put_together():
    segments = Texts("r", "STM", (segment(2.0, 3.0, "b"), segment(0.0, 1.0, "a")))
    assert joined(segments, some("plain text", f="a b"))[0] == [("f", "a b")]
    assert [said.text for said, _ in join(segments, some("plain text", f="a b")).pairs] == ["a b"]
    also = Texts("h", "STM", (segment(0.0, 3.0, "a b"),))
    assert joined(segments, also)[0] == [("f", "a b")]


@given(
    st.lists(st.tuples(st.floats(0, 50), st.floats(0, 9)), min_size=1, max_size=6),
    st.lists(st.tuples(st.floats(0, 60), st.floats(0, 3)), max_size=12),
)
def test_every_word_is_in_one_segment(stretches, spans):
    segments = {begin: segment(begin, begin + length) for begin, length in stretches}
    words = [(f"w{n}", start, start + length) for n, (start, length) in enumerate(spans)]
    found = by_time(segments.values(), ctm(*words))
    placed = [word.text for _, heard in found.pairs if heard for word in heard.words]
    assert sorted(placed) == sorted(word for word, *_ in words)


def test_one_id_with_two_texts_is_refused_naming_the_first_few():
    twice = Texts("file", "x", tuple(Text(f"u{n}", str(k)) for n in range(7) for k in range(2)))
    with pytest.raises(TextError, match="u0, u1, u2, u3, u4 and 2 more: leave one of each"):
        unique(twice)
