"""What every output file promises; srt and vtt are read back by a parser that is not ours."""

import errno
import html
import json
import os
import re
import resource
from itertools import accumulate, pairwise
from pathlib import Path

import pysubs2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperasr.errors import OutputError
from hyperasr.transcript import Segment, Transcript, Word
from hyperasr.writers import WRITERS, clock, save

TRANSCRIPT = Transcript(
    source="two.wav",
    duration=3.00049,
    segments=(
        Segment(0.0, 1.25, (Word("guten", 0.1, 0.5, 0.25), Word("tag", 0.60004, 1.2, 0.75))),
        Segment(1.25, 1.5, ()),
        Segment(1.5, 3.0, (Word("zürich", 1.6, 2.9, 1.0),)),
    ),
    model="tiny",
)


def say(text: str, seconds: float = 0.3, pauses: dict[int, float] | None = None) -> Transcript:
    """One segment; every word lasts `seconds`, `pauses` are the gaps before words, by position."""
    words, now = [], 0.0
    for position, word in enumerate(text.split()):
        now += (pauses or {}).get(position, 0.0)
        words.append(Word(word, now, now + seconds, 1.0))
        now += seconds
    return Transcript("a.wav", now, (Segment(0.0, now, tuple(words)),))


# The plain formats.


def test_txt_has_a_line_for_each_segment_with_words():
    assert WRITERS["txt"](TRANSCRIPT) == "guten tag\nzürich\n"


def test_json_has_the_shape_of_whisper():
    text = WRITERS["json"](TRANSCRIPT)
    assert "zürich" in text
    assert text.endswith("}\n")
    document = json.loads(text)
    first, silent, last = document.pop("segments")
    assert document == {
        "schema_version": 1,
        "text": "guten tag zürich",
        "language": "en",
        "model": {"name": "tiny", "sha256": ""},
        "settings": {},
        "audio": {"path": "two.wav", "duration": 3.0},
    }
    assert first.pop("words") == [
        {"word": "guten", "start": 0.1, "end": 0.5, "probability": 0.25},
        {"word": "tag", "start": 0.6, "end": 1.2, "probability": 0.75},
    ]
    assert first == {"id": 0, "start": 0.0, "end": 1.25, "text": "guten tag", "confidence": 0.5}
    assert (silent["text"], silent["words"], silent["confidence"]) == ("", [], None)
    assert last["id"] == 2


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("format", ["json", "srt", "vtt"])
def test_a_time_that_is_no_number_is_never_written(format, bad):
    transcript = Transcript("a.wav", 1.0, (Segment(0.0, 1.0, (Word("a", bad, bad, 1.0),)),))
    with pytest.raises((ValueError, OverflowError)):
        WRITERS[format](transcript)


@pytest.mark.parametrize("format", WRITERS)
def test_every_format_survives_silence(format):
    for segments in ((), (Segment(0.0, 3.0, ()),), (Segment(0, 1, (Word(" ", 0, 1, 1.0),)),)):
        text = WRITERS[format](Transcript("quiet.wav", 3.0, segments))
        assert (text == "") == (format in ("txt", "srt"))


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, "00:00:00,000"),
        (3661.5, "01:01:01,500"),
        (59.9996, "00:01:00,000"),
        (3599.9996, "01:00:00,000"),
        (360_000.0, "100:00:00,000"),
        (-0.2, "00:00:00,000"),
    ],
)
def test_clock(seconds, expected):
    assert clock(seconds, ",") == expected


@given(st.floats(min_value=0, max_value=10_000_000))
def test_the_clock_can_be_read_back_to_the_millisecond(seconds):
    match = re.fullmatch(r"(\d{2,}):([0-5]\d):([0-5]\d)\.(\d{3})", clock(seconds, "."))
    assert match
    hours, minutes, whole, ms = map(int, match.groups())
    read = hours * 3600 + minutes * 60 + whole + ms / 1000
    assert abs(read - seconds) <= 0.000501


# Subtitles.


def test_srt():
    assert WRITERS["srt"](TRANSCRIPT) == (
        "1\n00:00:00,100 --> 00:00:01,200\nguten tag\n\n2\n00:00:01,600 --> 00:00:02,900\nzürich\n"
    )


def test_vtt():
    assert WRITERS["vtt"](TRANSCRIPT) == (
        "WEBVTT\n\n"
        "1\n00:00:00.100 --> 00:00:01.200\nguten tag\n\n"
        "2\n00:00:01.600 --> 00:00:02.900\nzürich\n"
    )


def test_subtitles_escape_what_their_format_would_misread():
    transcript = say("a --> b ----> & <i> &amp;")
    assert WRITERS["srt"](transcript).splitlines()[2] == "a -> b -> & <i> &amp;"
    line = WRITERS["vtt"](transcript).splitlines()[4]
    assert line == "a --&gt; b ----&gt; &amp; &lt;i&gt; &amp;amp;"
    assert html.unescape(line) == "a --> b ----> & <i> &amp;"


def test_a_blank_line_inside_a_word_does_not_end_its_cue_or_its_line():
    word = Word("two\n\n\u2028halves", 0.0, 1.0, 1.0)
    transcript = Transcript("a.wav", 1.0, (Segment(0.0, 1.0, (word,)),))
    assert WRITERS["txt"](transcript) == "two halves\n"
    assert WRITERS["srt"](transcript) == "1\n00:00:00,000 --> 00:00:01,000\ntwo halves\n"


def test_two_full_lines_fit_one_cue_and_a_letter_more_does_not():
    line = "abcdef " * 5 + "abcdefg"
    assert [lines for *_, lines in read("srt", say(f"{line} {line}", 0.1))] == [[line, line]]
    assert len(read("srt", say(f"{line} {line} a", 0.1))) == 2


def test_what_fits_one_cue_stays_one_cue():
    assert read("srt", say("a b", 0.1, pauses={1: 6.5})) == [(0, 6700, ["a b"])]


def test_two_lines_are_about_equally_long():
    [(_, _, lines)] = read("srt", say(" ".join(["abcdef"] * 7)))
    assert [len(line) for line in lines] == [27, 20]


def test_a_long_segment_becomes_even_cues():
    sizes = [len(" ".join(lines)) for *_, lines in read("srt", say("abcde " * 15, seconds=0.1))]
    assert sizes == [41, 47]


def test_a_long_segment_is_cut_at_its_pause():
    transcript = say("abcde " * 15, seconds=0.1, pauses={3: 0.1, 5: 0.6, 8: 0.1})
    cues = read("srt", transcript)
    assert [len(" ".join(lines).split()) for *_, lines in cues] == [5, 10]
    assert [(start, end) for start, end, _ in cues] == [(0, 600), (1200, 2300)]


def test_slow_speech_is_cut_by_time():
    cues = read("srt", say("a b c d e f g h", seconds=1.0))
    assert [(start, end) for start, end, _ in cues] == [(0, 4000), (4000, 8000)]


def test_cues_are_even_in_time_where_time_is_what_runs_out():
    transcript = say("abc " * 8 + "a " * 8, seconds=0.1, pauses=dict.fromkeys(range(8, 16), 0.9))
    assert [(start, end) for start, end, _ in read("srt", transcript)] == [(0, 3800), (4700, 8800)]


def test_a_word_held_for_a_minute_leaves_after_seven_seconds():
    assert read("srt", say("ooooh", seconds=60.0)) == [(0, 7000, ["ooooh"])]


def test_a_cue_leaves_when_the_next_segment_begins():
    early, late = Word("one", 0.0, 2.0, 1.0), Word("two", 1.5, 3.0, 1.0)
    segments = (Segment(0.0, 2.0, (early,)), Segment(1.5, 3.0, (late,)))
    cues = read("srt", Transcript("a.wav", 3.0, segments))
    assert cues == [(0, 1500, ["one"]), (1500, 3000, ["two"])]


def test_words_without_duration_still_take_turns():
    segments = tuple(Segment(5.0, 5.0, (Word(text, 5.0, 5.0, 1.0),)) for text in "abc")
    cues = read("srt", Transcript("a.wav", 5.0, segments))
    assert [(start, end) for start, end, _ in cues] == [(5000, 5001), (5001, 5002), (5002, 5003)]


def read(format: str, transcript: Transcript) -> list[tuple[int, int, list[str]]]:
    """(start, end, lines) of every cue by the letter of the format; nothing else in the file."""
    text = WRITERS[format](transcript)
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
    match = re.fullmatch(rf"(\d{{2,}}):(\d\d):(\d\d){re.escape(mark)}(\d\d\d)", time)
    assert match, time
    hours, minutes, seconds, ms = map(int, match.groups())
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + ms


UNICODE = st.text(max_size=60) | st.sampled_from(
    ["", "-->", "--->", "&lt;", "<v Bob>", "\n\n", "1"]
)
LETTERS = st.text("abcdeéßж語😀", min_size=1, max_size=50)
TICKS = st.sampled_from([0.0, 0.0, 0.0004, 0.04, 0.2, 0.3, 0.7, 2.5, 9.0])


@st.composite
def transcripts(draw: st.DrawFn, texts: st.SearchStrategy[str] = LETTERS) -> Transcript:
    """Words in order of time, some of them without duration, some segments without words."""
    spoken = draw(st.lists(st.tuples(texts, TICKS, TICKS), max_size=40))
    times = list(accumulate((tick for _, *ticks in spoken for tick in ticks), initial=0.0))
    words = [
        Word(text, times[2 * n + 1], times[2 * n + 2], 0.5) for n, (text, *_) in enumerate(spoken)
    ]
    cuts = draw(st.lists(st.integers(0, len(words)), max_size=3).map(sorted))
    parts = [words[a:b] for a, b in pairwise([0, *cuts, len(words)])]
    return Transcript("a.wav", times[-1], tuple(segment_of(part) for part in parts))


@st.composite
def muddled_transcripts(draw: st.DrawFn) -> Transcript:
    """Segments that overlap, words that run backwards: nothing that should happen."""
    times = st.floats(min_value=-1, max_value=30)
    words = st.builds(Word, LETTERS, times, times, st.just(0.5))
    parts = draw(st.lists(st.lists(words, max_size=12), max_size=4))
    return Transcript("a.wav", 30.0, tuple(segment_of(part) for part in parts))


def segment_of(words: list[Word]) -> Segment:
    return Segment(words[0].start, words[-1].end, tuple(words)) if words else Segment(0, 0, ())


@pytest.mark.parametrize("format", ["srt", "vtt"])
@settings(max_examples=80, deadline=None)
@given(transcript=transcripts() | muddled_transcripts())
def test_cues_can_be_read_and_never_overlap(format, transcript):
    cues = read(format, transcript)
    for start, end, lines in cues:
        assert 0 < end - start <= 7000
        assert len(lines) <= 2
        assert all(len(line) <= 42 or " " not in line for line in lines)
    for (_, end, _), (start, _, _) in pairwise(cues):
        assert end <= start
    shown = " ".join(line for *_, lines in cues for line in lines)
    assert shown == transcript.text


@settings(max_examples=80, deadline=None)
@given(transcript=transcripts())
def test_cues_stay_inside_their_segment_and_follow_its_words(transcript):
    """Cues of a segment show its words and no others, from when they start to when they end."""
    cues = iter(read("srt", transcript))
    free = 0
    for segment in transcript.segments:
        left = list(segment.words)
        while left:
            start, end, lines = next(cues)
            shown = " ".join(lines).split()
            words, left = left[: len(shown)], left[len(shown) :]
            assert shown == [word.text for word in words]
            assert start == max(round(words[0].start * 1000), free)
            assert end <= max(round(words[-1].end * 1000), start + 1)
            free = end
    assert next(cues, None) is None


@pytest.mark.parametrize("format", ["srt", "vtt"])
@settings(max_examples=80, deadline=None)
@given(transcript=transcripts(UNICODE))
def test_cues_carry_any_unicode(format, transcript):
    shown = " ".join(line for *_, lines in read(format, transcript) for line in lines)
    expected = " ".join(" ".join(word.text for word in transcript.words).split())
    assert shown == (re.sub("-{2,}>", "->", expected) if format == "srt" else expected)


@pytest.mark.parametrize("format", ["srt", "vtt"])
@settings(max_examples=40, deadline=None)
@given(transcript=transcripts())
def test_another_program_reads_the_same_cues(format, transcript):
    theirs = pysubs2.SSAFile.from_string(WRITERS[format](transcript), format_=format)
    ours = read(format, transcript)
    assert [(cue.start, cue.end, cue.text.split("\\N")) for cue in theirs] == ours


@settings(max_examples=80, deadline=None)
@given(transcript=transcripts(UNICODE))
def test_json_and_txt_carry_any_unicode(transcript):
    """JSON keeps every word as it was; txt never breaks a line inside a segment."""
    segments = json.loads(WRITERS["json"](transcript))["segments"]
    words = [(w["word"], w["start"], w["end"]) for s in segments for w in s["words"]]
    assert words == [(w.text, round(w.start, 3), round(w.end, 3)) for w in transcript.words]
    lines = [" ".join(segment.text.split()) for segment in transcript.segments]
    assert WRITERS["txt"](transcript).splitlines() == [line for line in lines if line]


# Files.


def test_save_creates_folders_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "new" / "deeper" / "two.txt"
    save("zürich\r\n語\n", path)
    assert path.read_bytes() == "zürich\r\n語\n".encode()
    assert list(path.parent.iterdir()) == [path]


def test_save_replaces_and_keeps_the_usual_permissions(tmp_path):
    path, ordinary = tmp_path / "two.txt", tmp_path / "ordinary.txt"
    ordinary.touch()
    save("old and longer\n", path)
    save("new\n", path)
    assert path.read_text(encoding="utf-8") == "new\n"
    assert path.stat().st_mode == ordinary.stat().st_mode


def test_save_writes_through_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.txt"
    link.symlink_to(tmp_path / "real" / "file.txt")
    save("a\n", link)
    assert link.is_symlink()
    assert (tmp_path / "real" / "file.txt").read_text(encoding="utf-8") == "a\n"


def test_save_takes_the_longest_name_a_folder_can_hold(tmp_path):
    path = tmp_path / ("x" * 251 + ".txt")
    save("a\n", path)
    assert path.read_text(encoding="utf-8") == "a\n"


def test_an_undecodable_file_name_survives_in_json(tmp_path):
    name = os.fsdecode(b"caf\xe9.wav")
    save(WRITERS["json"](Transcript(name, 1.0, ())), tmp_path / "a.json")
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text)["audio"]["path"] == name


def test_two_processes_never_share_a_temporary_file(tmp_path, monkeypatch):
    seen = []
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda p, t: (seen.append(p), replace(p, t)))
    save("one\n", tmp_path / "a.txt")
    save("two\n", tmp_path / "a.txt")
    assert len(set(seen)) == 2
    assert {partial.parent for partial in seen} == {tmp_path}


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path):
    """A limit on file sizes stands in for the disk: the write itself fails, half-way."""
    path = tmp_path / "two.txt"
    save("old\n", path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OutputError) as caught:
            save("x" * 100_000, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_one_clear_line(caught.value, path)
    assert path.read_text(encoding="utf-8") == "old\n"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free some disk space"),
        (errno.EROFS, "this disk is read-only"),
        (errno.EACCES, "change the permissions"),
        (errno.EIO, "choose another folder"),
    ],
)
def test_a_failure_says_what_to_do(tmp_path, monkeypatch, number, advice):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OutputError, match=advice) as caught:
        save("a\n", tmp_path / "a.txt")
    assert_one_clear_line(caught.value, tmp_path / "a.txt")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_save_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save("a\n", tmp_path / "a.txt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_named(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(OutputError, match="change the permissions"):
        save("a\n", tmp_path / "a.txt")


def test_a_folder_in_the_way_is_left_alone(tmp_path):
    folder = tmp_path / "a.txt"
    folder.mkdir()
    with pytest.raises(OutputError, match="is a directory; move the folder") as caught:
        save("a\n", folder)
    assert_one_clear_line(caught.value, folder)
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("name", ["file/a.txt", "file/deeper/a.txt"])
def test_a_file_in_place_of_a_folder_is_explained(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="a file stands where a folder is needed"):
        save("a\n", tmp_path / name)


def test_a_pipe_is_not_replaced_by_a_file(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OutputError, match="not a plain file"):
        save("a\n", pipe)
    assert pipe.is_fifo()


def assert_one_clear_line(error: OutputError, path: Path) -> None:
    assert str(error).startswith(f"cannot write {path}: ")
    assert "\n" not in str(error)
