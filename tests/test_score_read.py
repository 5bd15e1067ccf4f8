"""Every format by its content alone, and every way in which a file can be bad."""

import gzip
import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperasr.batch.report import Report
from hyperasr.errors import TextError
from hyperasr.score.documents import heard
from hyperasr.score.read import read, read_both
from hyperasr.score.texts import TimedWord
from hyperasr.transcript import Alternative, Segment, Transcript, Word
from hyperasr.writers import to_json, to_srt, to_vtt
from hyperasr.writers import write as written

TALK = Transcript(
    "talk.wav",
    3.0,
    (
        Segment(0.0, 1.0, (Word("rock", 0.0, 0.5, 0.9), Word("&", 0.5, 1.0, 0.8))),
        Segment(1.5, 3.0, (Word("roll", 1.5, 3.0, 0.4),), (Alternative("role", -1.0),)),
    ),
)


@pytest.fixture
def write(tmp_path):
    def write(content, name="file"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def texts(path, heard=False):
    found = read(path, heard)
    return found.format, {text.id: text.text for text in found}


KALDI = "s1-u1 a b\ns1-u2\n\n s1-u3 1 2 3 4\n"
LINES = [
    ("Kaldi text", KALDI, {"s1-u1": "a b", "s1-u2": "", "s1-u3": "1 2 3 4"}),
    ("TRN", "a (b) c (u-1)\n(u-2)\n", {"u-1": "a (b) c", "u-2": ""}),
    ("CTM", ";; x\nf 1 1.0 0.2 b 0.9\nf 1 0.0 0.5 a\ng 1 0 1 I\n", {"f": "a b", "g": "I"}),
    (
        "STM",
        "f 1 ann 0.0 2.5 <o,f0> a b\nf 1 bob 2.5 4 \n",
        {"f-1-0.000-2.500": "a b", "f-1-2.500-4.000": ""},
    ),
    (
        "NeMo JSON lines",
        '{"audio_filepath": "x/1.wav", "duration": 1, "text": "a"}\n'
        '{"id": 7, "text": "b"}\n{"audio_filepath": "x/1.wav", "offset": 2.5, "text": "c"}\n',
        {"x/1.wav": "a", "7": "b", "x/1.wav@2.5": "c"},
    ),
    ("plain text", "the cat\nsat\n", {"file": "the cat sat"}),
    ("plain text", "", {"file": ""}),
    ("SRT", "1\n00:00:00,000 --> 00:00:01,000\n<i>a</i> &\nb\n", {"file": "a & b"}),
    ("VTT", "WEBVTT\n\nNOTE x\n\n00:00.000 --> 00:01.000\n<v Ann>a &amp; b\n", {"file": "a & b"}),
    ("JSON", '{"text": "a b", "segments": []}', {"file": "a b"}),
]


@pytest.mark.parametrize(("format", "content", "expected"), LINES)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, lambda b: b.replace(b"\n", b"\r\n")])
def test_formats_are_recognised_by_content(write, format, content, expected, pack):
    assert texts(write(pack(content.encode()))) == (format, expected)


def test_words_of_a_ctm_keep_times_and_confidences_in_order(write):
    (text,) = read(write("f 1 1.0 0.25 b 0.9\nf 1 0.0 0.5 a\n"))
    assert text.words == (TimedWord("a", 0.0, 0.5, None), TimedWord("b", 1.0, 1.25, 0.9))


def test_what_is_known_about_an_utterance_is_kept(write):
    line = {"audio_filepath": "a.wav", "duration": 2, "text": "x", "speaker": "s", "source": "q"}
    path = write(json.dumps(line))
    (text,) = read(path)
    assert (text.speaker, text.source, text.duration) == ("s", "q", 2.0)
    assert text.audio == str(path.parent / "a.wav")
    (segment,) = read(write("f A ann 1.5 4 <o> a\n"))
    assert (segment.recording, segment.channel, segment.speaker) == ("f", "A", "ann")
    assert (segment.offset, segment.duration) == (1.5, 2.5)


def test_one_file_may_hold_both_sides(write):
    path = write(
        '{"id": 1, "text": "a", "pred_text": "b"}\n{"id": 2, "text": "c", "pred_text": null}\n'
        '{"id": 3, "text": "d"}\n'
    )
    said, guessed = read_both(path)
    assert [(t.id, t.text) for t in said] == [("1", "a"), ("2", "c"), ("3", "d")]
    assert [(t.id, t.text) for t in guessed] == [("1", "b")]
    for other in (write('{"id": 1, "text": "a"}', "one"), write("a-1 b", "two")):
        with pytest.raises(TextError, match="holds no hypotheses"):
            read_both(other)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_both_sides_may_come_through_a_pipe(tmp_path):
    os.mkfifo(pipe := tmp_path / "pipe")
    with ThreadPoolExecutor() as beside:
        beside.submit(pipe.write_text, '{"id": 1, "text": "a", "pred_text": "b"}')
        said, guessed = read_both(pipe)
    assert [text.text for text in (*said, *guessed)] == ["a", "b"]


def test_one_transcript_over_several_lines_is_no_manifest(write):
    assert texts(write('{\n "id": 3,\n "text": "a",\n "segments": []\n}'))[0] == "JSON"


def test_numbers_that_no_float_can_hold_are_not_known(write):
    huge = 10**400
    (line,) = read(write(json.dumps({"id": 1, "text": "a", "duration": huge, "offset": huge})))
    assert (line.duration, line.offset) == (None, 0.0)
    word = {"word": "a", "start": huge, "end": -1, "probability": huge}
    (whole,) = read(write(json.dumps({"text": "a", "segments": [{"words": [word]}]})))
    assert whole.words == (TimedWord("a"),)


def test_a_librispeech_tree(write, tmp_path):
    write("19-198-0001 A B\n", "LS/19/198/19-198.trans.txt")
    write("26-1-0001 C\n", "LS/26/1/26-1.trans.txt")
    audio = write(b"", "LS/26/1/26-1-0001.flac")
    found = read(tmp_path / "LS")
    assert [(t.id, t.text, t.speaker) for t in found] == [
        ("19-198-0001", "A B", "19"),
        ("26-1-0001", "C", "26"),
    ]
    assert [text.audio for text in found] == ["", str(audio)]


def test_a_folder_of_files_takes_the_one_that_knows_most(write, tmp_path):
    write("plain", "out/a.txt")
    write(to_json(TALK), "out/a.json")
    write(to_srt(TALK), "out/deep/b.srt")
    write(gzip.compress(to_vtt(TALK).encode()), "out/c.vtt.gz")
    write("ignored", "out/readme.md")
    format, found = texts(tmp_path / "out")
    assert found == dict.fromkeys(("a", "deep/b", "c"), "rock & roll")
    assert format == "folder of JSON, SRT, VTT"


def test_hyperasrs_json_has_times_confidences_and_alternatives(write):
    (read_back,) = read(write(to_json(TALK), "talk.json"))
    now = heard(TALK, "talk")
    assert read_back.words == now.words
    assert [word.confidence for word in now.words] == [0.9, 0.8, 0.4]
    assert read_back.alternatives == now.alternatives == (("rock &",), ("role",))


def test_a_folder_that_hyperasr_batch_wrote(write, tmp_path):
    """Its report is no transcript, not even where a recording is called report."""
    about = Report("m", "0", {}, 1, 0, (), (), 1.0)
    about.write(tmp_path)
    write("", ".hyperasr-journal.jsonl")
    write('{"text": "a b"}', "talk.json")
    assert texts(tmp_path)[1] == {"talk": "a b"}
    write("c", "report.txt")
    assert texts(tmp_path)[1] == {"report": "c", "talk": "a b"}


def test_kaldis_data_folder(write, tmp_path):
    write("ann hello\n", "data/text")
    write("ann /a.wav\n", "data/wav.scp")
    assert texts(tmp_path / "data") == ("Kaldi text", {"ann": "hello"})


BAD = [
    ("u-1 caf\xe9\n".encode("latin-1"), "file, line 1: not UTF-8: convert"),
    (b"u-1 a\nu-2 \xff\n", "file, line 2: not UTF-8"),
    (b"RIFF\0\0\0\0WAVE", "not a text"),
    (gzip.compress(b"u-1 a\n" * 100)[:-12], "damaged compressed data"),
    (b"u-1 a\nu-2 b\nu-1 c\n", "more than one text for the same id: u-1: leave one"),
    (b'{"id": 1, "text": "a"}\n{"id": 2}\n', 'file, line 2: "text" is missing'),
    (b'{"id": 1, "text": "a"}\n{"id": 2, "te\n', "file, line 2: not a JSON object"),
    (b'{"text": "a"}\n{"text": "b"}\n', 'file, line 1: no "audio_filepath" or "id"'),
    (b"f 1 0.5 1.0 a 1.5\n", "file, line 1: the confidence 1.5"),
    (b"f 1 s 2.5 1.0 a\n", "file, line 1: the segment ends before it begins"),
    (b"f 1 s 0.5 1.0 { a / b }\n", "file, line 1: alternatives"),
    (b"f 1 0.5 1.0 <ALT_BEGIN>\n", "file, line 1: alternatives"),
    (b"f 1 0.5 1.0 a\nf 1 * * <ALT_BEGIN>\nf 1 1.5 1.0 a\n", "file, line 2: alternatives"),
    (b"WEBVTT\n\n00:00.000 --> 00:01.000\na\n\nno times\n", "file: a block without times"),
    (b'{"segments": 3}', '"segments" must be a list'),
    (b'{"segments": [{"nbest": [1]}], "text": ""}', '"nbest" must be a list of texts'),
    (b'{"id": 1, "text": "a", "nbest": 3}', 'file, line 1: "nbest" must be a list of texts'),
    (b'{"segments": [{"words": 3}], "text": ""}', 'a word of "words" must be an object'),
]


@pytest.mark.parametrize(("content", "message"), BAD)
def test_bad_files_are_named_in_one_line(write, content, message):
    with pytest.raises(TextError) as error:
        read(write(content))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.ctm", "f 1 0.5 1.0 a\nf 1 0.5\n", "a.ctm, line 2: not"),
        ("a.stm", "f 1 s 0.5 x\n", "a.stm, line 1: not"),
        ("a.trn", "a (1)\nb\n", 'a.trn, line 2: not "words (id)"'),
        ("a.json", "[]", "a.json: not a JSON object"),
        ("a.jsonl", '"text": "a"}\n{"id": 1, "text": "b"}\n', "a.jsonl, line 1: not a JSON object"),
    ],
)
def test_a_suffix_is_believed_so_that_damage_is_told(write, name, content, message):
    with pytest.raises(TextError, match=message.replace("(", r"\(").replace(")", r"\)")):
        read(write(content, name))


@pytest.mark.parametrize(
    ("format", "kind"), [("tsv", "whisper's table"), ("textgrid", "a Praat TextGrid")]
)
def test_a_table_is_not_scored_as_if_its_numbers_were_words(write, format, kind):
    with pytest.raises(TextError, match=f"{kind}, which is not read: give the txt"):
        read(write(written(TALK, format)))


def test_no_such_file_and_no_transcripts_in_a_folder(tmp_path):
    with pytest.raises(TextError, match="nowhere: no such file or folder"):
        read(tmp_path / "nowhere")
    with pytest.raises(TextError, match="no transcripts in this folder"):
        read(tmp_path)


def test_the_same_text_twice_is_one_text(write):
    found = read(write("u-1 a\nu-2 b\nu-1 a\n"))
    assert [text.id for text in found] == ["u-1", "u-2"]
    assert found.repeated == ("u-1",)


@given(content=st.one_of(st.binary(max_size=80), st.text(max_size=80).map(str.encode)))
def test_whatever_a_file_holds_it_is_read_or_told(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "anything"
    path.write_bytes(content)
    try:
        assert read(path).texts
    except TextError as error:
        assert str(path) in str(error)  # noqa: PT017


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["text", "segments", "words", "word", "start", "nbest", "id", "audio"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_whatever_json_a_file_holds_it_is_read_or_told(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "anything.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    try:
        for text in read(path):
            text.text.encode()
    except TextError as error:
        assert str(path) in str(error)  # noqa: PT017
