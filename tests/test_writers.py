"""What every output file promises; txt and json."""

import errno
import json
import os
import resource
from pathlib import Path

import pytest
from hypothesis import given, settings
from transcripts import UNICODE, transcripts

from hyperasr.errors import OutputError
from hyperasr.transcript import Segment, Transcript, Word
from hyperasr.writers import WRITERS, save

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
@pytest.mark.parametrize("format", sorted(set(WRITERS) - {"txt"}))
def test_a_time_that_is_no_number_is_never_written(format, bad):
    transcript = Transcript("a.wav", 1.0, (Segment(0.0, 1.0, (Word("a", bad, bad, 1.0),)),))
    with pytest.raises((ValueError, OverflowError)):
        WRITERS[format](transcript)


@pytest.mark.parametrize("format", WRITERS)
def test_every_format_survives_silence(format):
    for segments in ((), (Segment(0.0, 3.0, ()),), (Segment(0, 1, (Word(" ", 0, 1, 1.0),)),)):
        text = WRITERS[format](Transcript("quiet.wav", 3.0, segments))
        assert (text == "") == (format in ("txt", "srt", "ctm", "stm"))


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
