"""Formats that programs read, read back by readers that are not ours."""

import csv
import io
import json
import re
import shutil
import subprocess
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from praatio import textgrid
from transcripts import LETTERS, UNICODE, inked, muddled_transcripts, say, transcripts

from hyperasr.manifest import read_manifest
from hyperasr.transcript import Segment, Transcript, Word
from hyperasr.writers import FOR_PEOPLE, WRITERS, in_order, suffix, timeline, write

TRANSCRIPT = Transcript(
    source="my talks/day one.v2.wav",
    duration=3.00049,
    segments=(
        Segment(0.0, 1.25, (Word("guten", 0.1, 0.5, 0.25), Word("tag", 0.60004, 1.2, 0.75))),
        Segment(1.25, 1.5, ()),
        Segment(1.5, 2.9, (Word("zürich", 1.6, 2.9, 1.0),)),
    ),
)
SILENCE = Transcript("quiet.wav", 3.0, (Segment(0, 1, (Word(" ", 0, 1, 1.0),)),))


# What they look like.


def test_tsv_is_the_table_of_whisper():
    assert WRITERS["tsv"](TRANSCRIPT) == (
        "start\tend\ttext\n0\t1250\tguten tag\n1500\t2900\tzürich\n"
    )


def test_jsonl_is_a_line_of_a_nemo_manifest(tmp_path):
    text = WRITERS["jsonl"](TRANSCRIPT)
    assert text.count("\n") == 1
    assert json.loads(text) == {
        "audio_filepath": "my talks/day one.v2.wav",
        "duration": 3.0,
        "pred_text": "guten tag zürich",
        "segments": [
            {"start": 0.0, "end": 1.25, "text": "guten tag"},
            {"start": 1.5, "end": 2.9, "text": "zürich"},
        ],
    }
    (tmp_path / "heard.jsonl").write_text(text + WRITERS["jsonl"](SILENCE), encoding="utf-8")
    found = read_manifest(tmp_path / "heard.jsonl")
    assert [(line.audio.name, line.duration) for line in found] == [
        ("day one.v2.wav", 3.0),
        ("quiet.wav", 3.0),
    ]


def test_ctm_has_a_line_for_each_word():
    assert WRITERS["ctm"](TRANSCRIPT) == (
        "day_one.v2 1 0.100 0.400 guten 0.2500\n"
        "day_one.v2 1 0.600 0.600 tag 0.7500\n"
        "day_one.v2 1 1.600 1.300 zürich 1.0000\n"
    )


def test_stm_has_a_line_for_each_segment():
    assert WRITERS["stm"](TRANSCRIPT) == (
        "day_one.v2 1 day_one.v2 0.000 1.250 guten tag\n"
        "day_one.v2 1 day_one.v2 1.500 2.900 zürich\n"
    )


def test_a_text_that_looks_like_a_label_is_none():
    assert WRITERS["stm"](say("<unk> said")) == "a 1 a 0.000 0.600 <> <unk> said\n"


@pytest.mark.parametrize(
    ("source", "file"),
    [("a/b.c.wav", "b.c"), (";;x.wav", "_;x"), ("my\ttalk", "my_talk"), ("", "_"), ("-", "-")],
)
def test_a_file_is_named_without_blanks_and_never_looks_like_a_comment(source, file):
    word = Word("a", 0.0, 1.0, 1.0)
    transcript = Transcript(source, 1.0, (Segment(0.0, 1.0, (word,)),))
    assert WRITERS["ctm"](transcript).split(" ")[0] == file
    assert WRITERS["stm"](transcript).split(" ")[0] == file


def test_praat_looks_for_its_own_suffix():
    assert suffix("textgrid") == ".TextGrid"
    assert {suffix(name) for name in WRITERS if name != "textgrid"} == {
        f".{name}" for name in WRITERS if name != "textgrid"
    }


@pytest.mark.parametrize("format", WRITERS)
def test_doubtful_words_are_marked_for_people_alone(format):
    text = write(TRANSCRIPT, format, min_confidence=0.5)
    assert ("[guten?]" in text) == (format in FOR_PEOPLE)
    assert "guten" in text
    assert "[tag?]" not in text


# Times in order.


SPANS = st.lists(st.tuples(st.floats(-1, 100), st.floats(-1, 100)), max_size=20)


@given(SPANS)
def test_a_timeline_never_overlaps_and_every_span_of_it_lasts(spans):
    found = timeline(spans)
    assert len(found) == len(spans)
    assert all(start < end for start, end in found)
    assert all(end <= start for (_, end), (start, _) in pairwise(found))


def test_a_timeline_keeps_what_is_in_order():
    assert timeline([(0.5, 1.0), (1.0, 1.2504), (3.0, 4.0)]) == [
        (500, 1000),
        (1000, 1250),
        (3000, 4000),
    ]


@settings(max_examples=80, deadline=None)
@given(transcript=transcripts() | muddled_transcripts())
def test_segments_follow_each_other_around_their_words(transcript):
    found = in_order(transcript)
    for said in found:
        assert said.start <= said.words[0][0]
        assert said.words[-1][1] <= said.end
    assert all(a.end <= b.start for a, b in pairwise(found))
    assert " ".join(said.text for said in found) == transcript.text


# What other programs read.


def grid(text: str, folder) -> textgrid.Textgrid:
    path = folder / "a.TextGrid"
    path.write_text(text, encoding="utf-8", newline="\n")
    return textgrid.openTextgrid(str(path), includeEmptyIntervals=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("grids")


def test_praatio_reads_two_tiers(folder):
    found = grid(WRITERS["textgrid"](TRANSCRIPT), folder)
    assert found.tierNames == ("segments", "words")
    assert [tuple(entry) for entry in found.getTier("segments").entries] == [
        (0.0, 1.25, "guten tag"),
        (1.25, 1.5, ""),
        (1.5, 2.9, "zürich"),
        (2.9, 3.0, ""),
    ]
    assert [tuple(entry) for entry in found.getTier("words").entries if entry[2]] == [
        (0.1, 0.5, "guten"),
        (0.6, 1.2, "tag"),
        (1.6, 2.9, "zürich"),
    ]


def test_praatio_reads_silence(folder):
    for duration, end in ((3.0, 3.0), (0.0, 0.001)):
        found = grid(WRITERS["textgrid"](Transcript("quiet.wav", duration, ())), folder)
        for name in found.tierNames:
            assert [tuple(entry) for entry in found.getTier(name).entries] == [(0.0, end, "")]


@settings(max_examples=80, deadline=None)
@given(transcript=transcripts(UNICODE) | muddled_transcripts())
def test_praatio_reads_every_word_in_order_and_without_a_hole(folder, transcript):
    found = grid(WRITERS["textgrid"](transcript), folder)
    segments = [" ".join(segment.text.split()) for segment in transcript.segments]
    for name, texts in (("words", inked(transcript)), ("segments", filter(None, segments))):
        entries = found.getTier(name).entries
        assert [text for _, _, text in entries if text] == list(texts)
        assert entries[0][0] == 0.0
        assert entries[-1][1] == found.maxTimestamp
        assert all(start < end for start, end, _ in entries)
        assert all(end == start for (_, end, _), (start, _, _) in pairwise(entries))


@settings(max_examples=80, deadline=None)
@given(transcript=transcripts(UNICODE) | muddled_transcripts())
def test_a_table_reader_reads_every_segment(transcript):
    rows = list(
        csv.DictReader(
            io.StringIO(WRITERS["tsv"](transcript)), delimiter="\t", quoting=csv.QUOTE_NONE
        )
    )
    assert " ".join(row["text"] for row in rows).split() == " ".join(inked(transcript)).split()
    times = [(int(row["start"]), int(row["end"])) for row in rows]
    assert all(start < end for start, end in times)
    assert all(end <= start for (_, end), (start, _) in pairwise(times))


@settings(max_examples=80, deadline=None)
@given(transcript=transcripts(UNICODE) | muddled_transcripts())
def test_times_of_ctm_and_stm_go_forward(transcript):
    words = [line.split(" ") for line in WRITERS["ctm"](transcript).splitlines()]
    assert [word for *_, word, _ in words] == [w.replace(" ", "_") for w in inked(transcript)]
    times = [(float(start), float(length)) for _, _, start, length, *_ in words]
    assert all(length > 0 for _, length in times)
    assert all(a + length <= b + 1e-6 for (a, length), (b, _) in pairwise(times))
    lines = [line.split(" ") for line in WRITERS["stm"](transcript).splitlines()]
    said = [word for _, _, _, _, _, *texts in lines for word in texts if word != "<>"]
    assert said == " ".join(inked(transcript)).split()
    spans = [(float(start), float(end)) for _, _, _, start, end, *_ in lines]
    assert all(start < end for start, end in spans)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))


@pytest.mark.skipif(not shutil.which("sctk"), reason="needs sclite: apt-get install sctk")
@settings(max_examples=15, deadline=None)
@given(transcript=transcripts(LETTERS))
def test_sclite_finds_the_words_of_ctm_in_stm_at_their_times(folder, transcript):
    if not transcript.words:
        return  # sclite refuses an empty file
    for name in ("ctm", "stm"):
        (folder / f"a.{name}").write_text(WRITERS[name](transcript), encoding="utf-8")
    command = "sctk sclite -s -e utf-8 -r a.stm stm -h a.ctm ctm -o sgml stdout"
    done = subprocess.run(
        command.split(), cwd=folder, capture_output=True, check=True, encoding="utf-8"
    )
    found = re.findall(r'(\w),"(.*?)","(.*?)",([\d.]+)\+([\d.]+),([\d.]+)', done.stdout)
    assert [(verdict, ref, hyp) for verdict, ref, hyp, *_ in found] == [
        ("C", word.text, word.text) for word in transcript.words
    ]
    assert {float(confidence) for *_, confidence in found} == {0.5}
    written = [line.split(" ")[2:4] for line in WRITERS["ctm"](transcript).splitlines()]
    assert [(float(start), float(end)) for *_, start, end, _ in found] == [
        pytest.approx((float(start), float(start) + float(length)), abs=0.0011)
        for start, length in written
    ]
