"""Subtitles keep to their rules; srt and vtt are read back by a parser that is not ours."""

import html
import math
import re
from collections.abc import Sequence
from itertools import pairwise

import pysubs2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transcripts import LETTERS, UNICODE, inked, muddled_transcripts, say, segment_of, transcripts

from hyperasr.errors import ConfigError
from hyperasr.subtitles import CueRules, cues
from hyperasr.transcript import Segment, Transcript, Word
from hyperasr.writers import SUBTITLES, clock, write

PLAIN = CueRules(max_cps=1000, min_duration=0, min_gap=0)
"""Cues that come with their first word and go with their last."""


def shown(transcript: Transcript, rules: CueRules = PLAIN) -> list[tuple[int, int, list[str]]]:
    """(start, end, lines) of every cue."""
    return [
        (cue.start, cue.end, [" ".join(line) for line in cue.lines])
        for cue in cues(transcript, rules)
    ]


# How they are spelled.


def test_srt_and_vtt():
    words = (Word("guten", 0.1, 0.5, 0.25), Word("tag", 0.60004, 1.2, 0.75))
    segments = (Segment(0, 1.25, words), Segment(1.25, 1.5, ()), segment_of([late("zürich", 1.6)]))
    transcript = Transcript("two.wav", 3.0, segments)
    assert write(transcript, "srt", PLAIN) == (
        "1\n00:00:00,100 --> 00:00:01,200\nguten tag\n\n2\n00:00:01,600 --> 00:00:01,900\nzürich\n"
    )
    assert write(transcript, "vtt", PLAIN) == (
        "WEBVTT\n\n"
        "1\n00:00:00.100 --> 00:00:01.200\nguten tag\n\n"
        "2\n00:00:01.600 --> 00:00:01.900\nzürich\n"
    )


def test_subtitles_escape_what_their_format_would_misread():
    transcript = say("a --> b ----> & <i> &amp;")
    assert write(transcript, "srt").splitlines()[2] == "a -> b -> & <i> &amp;"
    line = write(transcript, "vtt").splitlines()[4]
    assert line == "a --&gt; b ----&gt; &amp; &lt;i&gt; &amp;amp;"
    assert html.unescape(line) == "a --> b ----> & <i> &amp;"


def test_a_blank_line_inside_a_word_does_not_end_its_cue():
    transcript = Transcript("a.wav", 1.0, (segment_of([late("two\n\n\u2028halves", 0.0)]),))
    assert write(transcript, "srt", PLAIN) == "1\n00:00:00,000 --> 00:00:00,300\ntwo halves\n"


@pytest.mark.parametrize(
    ("ms", "expected"),
    [(0, "00:00:00,000"), (3_661_500, "01:01:01,500"), (360_000_000, "100:00:00,000")],
)
def test_clock(ms, expected):
    assert clock(ms, ",") == expected


@given(st.integers(min_value=0, max_value=10**10))
def test_the_clock_can_be_read_back(ms):
    assert milliseconds_of(clock(ms, "."), ".") == ms


def test_each_word_is_underlined_while_it_is_said():
    transcript = say("one two & three", pauses={1: 0.2})
    rules = CueRules(max_words_per_line=2, highlight_words=True)
    assert write(transcript, "vtt", rules) == (
        "WEBVTT\n\n"
        "1\n00:00:00.000 --> 00:00:00.300\n<u>one</u> two\n&amp; three\n\n"
        "2\n00:00:00.300 --> 00:00:00.500\none two\n&amp; three\n\n"
        "3\n00:00:00.500 --> 00:00:00.800\none <u>two</u>\n&amp; three\n\n"
        "4\n00:00:00.800 --> 00:00:01.100\none two\n<u>&amp;</u> three\n\n"
        "5\n00:00:01.100 --> 00:00:01.400\none two\n&amp; <u>three</u>\n"
    )


# Where they are cut.


def test_two_full_lines_fit_one_cue_and_a_letter_more_does_not():
    line = "abcdef " * 5 + "abcdefg"
    assert [lines for *_, lines in shown(say(f"{line} {line}", 0.1))] == [[line, line]]
    assert len(shown(say(f"{line} {line} a", 0.1))) == 2


def test_what_fits_one_cue_stays_one_cue():
    assert shown(say("a b", 0.1, pauses={1: 6.5})) == [(0, 6700, ["a b"])]


def test_two_lines_are_about_equally_long():
    [(_, _, lines)] = shown(say(" ".join(["abcdef"] * 7)))
    assert [len(line) for line in lines] == [27, 20]


def test_a_long_segment_becomes_even_cues():
    sizes = [len(" ".join(lines)) for *_, lines in shown(say("abcde " * 15, seconds=0.1))]
    assert sizes == [41, 47]


def test_a_long_segment_is_cut_at_its_pause():
    transcript = say("abcde " * 15, seconds=0.1, pauses={3: 0.1, 5: 0.6, 8: 0.1})
    found = shown(transcript)
    assert [len(" ".join(lines).split()) for *_, lines in found] == [5, 10]
    assert [(start, end) for start, end, _ in found] == [(0, 600), (1200, 2300)]


def test_slow_speech_is_cut_by_time():
    found = shown(say("a b c d e f g h", seconds=1.0))
    assert [(start, end) for start, end, _ in found] == [(0, 4000), (4000, 8000)]


def test_cues_are_even_in_time_where_time_is_what_runs_out():
    transcript = say("abc " * 8 + "a " * 8, seconds=0.1, pauses=dict.fromkeys(range(8, 16), 0.9))
    assert [(start, end) for start, end, _ in shown(transcript)] == [(0, 3800), (4700, 8800)]


def test_cues_are_even_in_words_where_words_are_counted():
    rules = CueRules(max_line_count=1, max_words_per_line=4, min_gap=0)
    found = shown(say("aaaaaaaa bbbbbbbb c d e f"), rules)
    assert [lines for *_, lines in found] == [["aaaaaaaa bbbbbbbb c"], ["d e f"]]


def test_no_cue_is_cut_so_short_that_nobody_can_read_it():
    """There is a pause to cut at, but a cue that ends there would be gone too soon."""
    transcript = say("so so so " + "abcde " * 13, seconds=0.03, pauses={3: 0.72})
    assert shown(transcript)[0][2] == ["so so so"]
    assert shown(transcript, CueRules(max_cps=1000))[0][2] != ["so so so"]


# When they come and go.


def late(text: str, start: float, seconds: float = 0.3) -> Word:
    return Word(text, start, start + seconds, 1.0)


def test_a_short_cue_stays_as_long_as_it_has_to():
    assert shown(say("yes"), CueRules(min_duration=1.5)) == [(0, 1500, ["yes"])]


def test_a_cue_stays_until_it_can_be_read():
    assert shown(say("abcd efghi", 0.1), CueRules(max_cps=5)) == [(0, 2000, ["abcd efghi"])]


def test_a_cue_that_would_stay_leaves_a_gap_before_the_next():
    segments = (segment_of([late("one", 0.0)]), segment_of([late("two", 0.5)]))
    found = shown(Transcript("a.wav", 3.0, segments), CueRules(min_duration=1, min_gap=0.1))
    assert found == [(0, 400, ["one"]), (500, 1500, ["two"])]


def test_where_there_is_no_room_for_a_gap_the_next_cue_comes_later():
    segments = (segment_of([late("one", 0.0, 0.05)]), segment_of([late("two", 0.05)]))
    found = shown(Transcript("a.wav", 3.0, segments), CueRules(min_gap=0.1))
    assert [(start, end) for start, end, _ in found] == [(0, 1), (101, 934)]


def test_a_word_held_for_a_minute_leaves_after_seven_seconds():
    assert shown(say("ooooh", seconds=60.0)) == [(0, 7000, ["ooooh"])]


def test_a_cue_leaves_when_the_next_segment_begins():
    segments = (segment_of([late("one", 0.0, 2.0)]), segment_of([late("two", 1.5, 1.5)]))
    found = shown(Transcript("a.wav", 3.0, segments))
    assert found == [(0, 1500, ["one"]), (1500, 3000, ["two"])]


def test_words_without_duration_still_take_turns():
    segments = tuple(segment_of([late(text, 5.0, 0.0)]) for text in "abc")
    found = shown(Transcript("a.wav", 5.0, segments))
    assert [(start, end) for start, end, _ in found] == [(5000, 5001), (5001, 5002), (5002, 5003)]


# Rules that are none.


@pytest.mark.parametrize(
    ("rules", "option"),
    [
        ({"max_line_count": 0}, "--max-line-count"),
        ({"max_line_width": -1}, "--max-line-width"),
        ({"max_words_per_line": 0}, "--max-words-per-line"),
        ({"max_cps": 0.0}, "--max-cps"),
        ({"max_cps": float("nan")}, "--max-cps"),
        ({"max_duration": 0.0}, "--max-duration"),
        ({"max_duration": float("inf")}, "--max-duration"),
        ({"min_duration": -0.1}, "--min-duration"),
        ({"min_duration": 3.0, "max_duration": 2.0}, "--min-duration 3 is longer than"),
        ({"min_gap": 1.5}, "--min-gap"),
    ],
)
def test_rules_that_contradict_each_other_or_sense_are_refused(rules, option):
    with pytest.raises(ConfigError, match=option) as caught:
        CueRules(**rules)
    assert "\n" not in str(caught.value)


# Whatever is said.


@st.composite
def some_rules(draw: st.DrawFn) -> CueRules:
    shortest = draw(st.sampled_from([0.0, 0.04, 0.833, 2.0]))
    return CueRules(
        max_line_count=draw(st.integers(1, 4)),
        max_line_width=draw(st.integers(1, 60)),
        max_words_per_line=draw(st.none() | st.integers(1, 5)),
        max_cps=draw(st.sampled_from([1.0, 5.0, 17.0, 1000.0])),
        min_duration=shortest,
        max_duration=max(shortest, draw(st.sampled_from([0.1, 1.0, 7.0, 60.0]))),
        min_gap=draw(st.sampled_from([0.0, 0.001, 0.083, 1.0])),
    )


@settings(max_examples=150, deadline=None)
@given(transcript=transcripts() | muddled_transcripts(), rules=some_rules())
def test_cues_keep_to_the_rules(transcript, rules):
    found = shown(transcript, rules)
    for start, end, lines in found:
        assert 0 < end - start <= rules.max_duration * 1000
        assert len(lines) <= rules.max_line_count
        for line in lines:
            assert len(line) <= rules.max_line_width or " " not in line
            assert len(line.split()) <= (rules.max_words_per_line or math.inf)
    for (_, end, _), (start, _, _) in pairwise(found):
        assert start - end >= round(rules.min_gap * 1000)
    assert " ".join(line for *_, lines in found for line in lines) == transcript.text


@settings(max_examples=150, deadline=None)
@given(transcript=transcripts(), rules=some_rules())
def test_cues_follow_their_words_and_stay_as_long_as_there_is_room(transcript, rules):
    """Cues of a segment show its words and no others; only a gap makes one come late."""
    gap = round(rules.min_gap * 1000)
    found = shown(transcript, rules)
    parts = divided([segment.words for segment in transcript.segments], found)
    starts = [round(words[0].start * 1000) for words in parts]
    free = 0
    for place, ((start, end, lines), words) in enumerate(zip(found, parts, strict=True)):
        assert start == max(starts[place], free)
        free = end + gap
        readable = len(" ".join(lines)) / rules.max_cps
        wanted = start + 1000 * max(rules.min_duration, readable)
        room = [start + 1000 * rules.max_duration, *(s - gap for s in starts[place + 1 :][:1])]
        spoken = round(words[-1].end * 1000)
        assert end == pytest.approx(max(min(max(spoken, wanted), *room), start + 1), abs=0.501)


def divided(
    segments: Sequence[Sequence[Word]], found: list[tuple[int, int, list[str]]]
) -> list[Sequence[Word]]:
    """The words of each cue, by counting; no cue has words of two segments."""
    parts, cue = [], iter(found)
    for left in segments:
        while left:
            texts = " ".join(next(cue)[2]).split()
            parts.append(left[: len(texts)])
            assert [word.text for word in parts[-1]] == texts
            left = left[len(texts) :]
    assert next(cue, None) is None
    return parts


@settings(max_examples=80, deadline=None)
@given(transcript=transcripts() | muddled_transcripts())
def test_highlighting_shows_the_same_words_at_the_same_times(transcript):
    parts = cues(transcript, CueRules(highlight_words=True))
    for whole in cues(transcript, CueRules()):
        now, said = whole.start, []
        while now < whole.end:
            part = parts.pop(0)
            assert (part.start, part.lines) == (now, whole.lines)
            now = part.end
            said += [] if part.spoken is None else [part.spoken]
        assert now == whole.end
        assert said == sorted(set(said))
        assert set(said) <= set(range(sum(map(len, whole.lines))))
    assert not parts


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(LETTERS, min_size=1, max_size=20))
def test_every_word_that_lasts_is_underlined_once(texts):
    for format in SUBTITLES:
        text = write(say(" ".join(texts)), format, CueRules(highlight_words=True))
        assert re.findall("<u>(.*?)</u>", text) == texts


@pytest.mark.parametrize("format", ["srt", "vtt"])
@settings(max_examples=80, deadline=None)
@given(transcript=transcripts(UNICODE))
def test_cues_carry_any_unicode(format, transcript):
    found = " ".join(
        line for *_, lines in read(format, write(transcript, format)) for line in lines
    )
    words = inked(transcript)
    if format == "srt":
        words = [re.sub("-{2,}>", "->", word) for word in words]
    assert found == " ".join(words)


@pytest.mark.parametrize("highlight_words", [False, True])
@pytest.mark.parametrize("format", ["srt", "vtt"])
@settings(max_examples=40, deadline=None)
@given(transcript=transcripts(), rules=some_rules())
def test_another_program_reads_the_same_cues(format, highlight_words, transcript, rules):
    rules = CueRules(
        rules.max_line_count,
        rules.max_line_width,
        max_duration=60,
        min_gap=rules.min_gap,
        highlight_words=highlight_words,
    )
    text = write(transcript, format, rules)
    theirs = pysubs2.SSAFile.from_string(text, format_=format)
    ours = read(format, re.sub("</?u>", "", text))
    assert [(cue.start, cue.end, cue.plaintext.split("\n")) for cue in theirs] == ours


def read(format: str, text: str) -> list[tuple[int, int, list[str]]]:
    """(start, end, lines) of every cue by the letter of the format; nothing else in the file."""
    if format == "vtt":
        header, _, text = text.partition("\n\n")
        assert header.strip() == "WEBVTT"
    found = []
    for number, block in enumerate(text.removesuffix("\n").split("\n\n") if text else [], start=1):
        name, times, *lines = block.split("\n")
        assert name == str(number)
        mark = {"srt": ",", "vtt": "."}[format]
        start, end = (milliseconds_of(side, mark) for side in times.split(" --> "))
        assert lines
        assert not any("-->" in line or not line.strip() for line in lines)
        found.append((start, end, [html.unescape(x) for x in lines] if format == "vtt" else lines))
    return found


def milliseconds_of(time: str, mark: str) -> int:
    match = re.fullmatch(rf"(\d{{2,}}):([0-5]\d):([0-5]\d){re.escape(mark)}(\d\d\d)", time)
    assert match, time
    hours, minutes, seconds, ms = map(int, match.groups())
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + ms
