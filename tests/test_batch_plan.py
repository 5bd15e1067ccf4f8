"""What is named on a command line, and where the results of it belong."""

import json
import os
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperasr.batch.plan import Found, check, find, mirror
from hyperasr.errors import ConfigError, ManifestError


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Make files by name, in the current folder."""
    monkeypatch.chdir(tmp_path)

    def make(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"sound")

    return make


def results(*inputs):
    """Every recording that the inputs lead to, and where its results go."""
    return {str(item.path): item.result for item in mirror(find(inputs))}


def test_a_folder_is_searched_and_its_tree_mirrored(tree):
    tree("talks/b.wav", "talks/2024/a.FLAC", "talks/2024/deep/c.opus", "talks/notes.txt")
    assert results("talks") == {
        "talks/b.wav": "b",
        "talks/2024/a.FLAC": "2024/a",
        "talks/2024/deep/c.opus": "2024/deep/c",
    }


def test_hidden_files_and_folders_are_passed_over_but_a_named_one_is_taken(tree):
    tree("talks/.a.wav", "talks/.trash/b.wav", "talks/c.wav", ".d.wav")
    assert list(results("talks")) == ["talks/c.wav"]
    assert list(results("talks/*", ".d.wav")) == ["talks/c.wav", ".d.wav"]


def test_several_inputs_are_mirrored_from_the_folder_that_holds_them_all(tree):
    tree("in/a/x.wav", "in/b/x.wav", "in/b/c/y.wav")
    assert results("in/a", "in/b/c") == {"in/a/x.wav": "a/x", "in/b/c/y.wav": "b/c/y"}
    assert results("in/a/x.wav", "in/b/x.wav") == {"in/a/x.wav": "a/x", "in/b/x.wav": "b/x"}
    assert results("in/b/c/y.wav") == {"in/b/c/y.wav": "y"}


def test_a_pattern_is_mirrored_from_its_fixed_part_whatever_it_finds(tree):
    tree("in/2024/a/x.wav", "in/2024/notes.txt")
    assert results("in/**/*.wav") == {"in/2024/a/x.wav": "2024/a/x"}
    assert results("in/20*") == {"in/2024/a/x.wav": "2024/a/x"}
    assert results("*/2024/n*") == {"in/2024/notes.txt": "in/2024/notes"}


def test_a_file_whose_name_looks_like_a_pattern_or_a_list_is_that_file(tree):
    tree("a[1].wav", "a1.wav", "@b.wav")
    assert list(results("a[1].wav", "@b.wav")) == ["a[1].wav", "@b.wav"]
    assert list(results("a[1]*")) == ["a1.wav"]


def test_a_list_holds_an_input_a_line(tree):
    tree("in/a.wav", "in/b.wav", "in/sub folder/c.wav", "d.wav")
    Path("list.txt").write_text("\ufeffin/b.wav\r\n\n in/sub folder \nd.*\nin/b.wav\n")
    assert list(results("@list.txt")) == ["in/b.wav", "in/sub folder/c.wav", "d.wav"]
    Path("list.txt").write_text("@list.txt\n")
    with pytest.raises(ManifestError, match=r"list\.txt.*name it itself"):
        find(["@list.txt"])
    with pytest.raises(ManifestError, match=r"^gone\.txt: .*no such file"):
        find(["@gone.txt"])
    Path("list.txt").write_bytes(b"RIFF\0\0\0\0WAVE")
    with pytest.raises(ManifestError, match=r"^list\.txt: not a text file"):
        find(["@list.txt"])


@pytest.mark.parametrize("name", ["sets/dev.jsonl", "sets/dev.json"])
def test_a_nemo_manifest_names_recordings_relative_to_itself(tree, name):
    tree(name)
    entries = [{"audio_filepath": f"{n}.wav", "duration": 2.0} for n in ("b/x", "a/x", "b/x")]
    Path(name).write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    assert results(name) == {"sets/b/x.wav": "b/x", "sets/a/x.wav": "a/x"}


def test_a_piece_of_a_file_is_refused_rather_than_the_whole_transcribed(tree):
    tree("dev.jsonl")
    entry = {"audio_filepath": "a.wav", "duration": 2.0, "offset": 3.5}
    Path("dev.jsonl").write_text(json.dumps(entry))
    with pytest.raises(ManifestError, match=r"^dev\.jsonl, recording 1: .*3\.5 s.*cut"):
        find(["dev.jsonl"])


def test_a_kaldi_list_names_recordings_and_its_commands_are_not_run(tree):
    tree("wav.scp")
    Path("wav.scp").write_text("u1 in/a.wav\nu2 in/b b.wav\n")
    assert results("wav.scp") == {"in/a.wav": "a", "in/b b.wav": "b b"}
    for line in ("u1 touch hacked |", "u1"):
        Path("wav.scp").write_text(f"{line}\n")
        with pytest.raises(ManifestError, match=r"^wav\.scp: "):
            find(["wav.scp"])


def test_a_librispeech_tree_is_a_folder_like_others(tree):
    tree("dev/84/121/84-121-0000.flac", "dev/84/121/84-121.trans.txt", "dev/README.TXT")
    assert results("dev") == {"dev/84/121/84-121-0000.flac": "84/121/84-121-0000"}


def test_what_leads_nowhere_is_told_and_a_missing_file_comes_along_to_fail(tree):
    tree("in/notes.txt", "a.wav")
    found = find(["in", "x*.wav", "gone.wav", "a.wav"])
    assert found.barren == ("in", "x*.wav")
    assert found.recordings == (Path("gone.wav"), Path("a.wav"))


def test_links_to_folders_are_followed_and_never_in_a_circle(tree):
    tree("store/x.wav", "in/y.wav")
    os.symlink("../store", "in/linked")
    os.symlink("..", "in/back")
    os.symlink(".", "in/self")
    assert list(results("in")) == ["in/y.wav", "in/linked/x.wav"]


def test_a_folder_that_cannot_be_looked_into_is_told(tree, monkeypatch):
    tree("in/a.wav", "in/shut/b.wav")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = find(["in"])
    assert found.recordings == (Path("in/a.wav"),)
    assert [(str(f.path), f.reason) for f in found.unlisted] == [("in/shut", "permission denied")]


def test_recordings_that_differ_in_the_suffix_keep_it_and_the_others_do_not(tree):
    tree("in/x.wav", "in/x.mp3", "in/y.wav", "in/sub/x.wav")
    names = {"in/x.mp3": "x.mp3", "in/x.wav": "x.wav", "in/y.wav": "y", "in/sub/x.wav": "sub/x"}
    assert results("in") == names
    (item,) = mirror(find(["in/y.wav"]), reserved=["y"])
    assert item.result == "y.wav"


NAMES = st.builds(
    "/".join,
    st.lists(st.sampled_from(["a", "b", "x", "x.wav", "x.wav.wav", "y.mp3", ".h"]), min_size=1),
)


@given(st.lists(NAMES, unique=True), st.lists(st.sampled_from(["a", "x", "x.wav"])))
def test_no_two_recordings_share_a_result_and_the_tree_stays(names, reserved):
    found = Found(tuple(Path("/in", name) for name in names), Path("/in"), (), ())
    items = mirror(found, reserved)
    assert len({item.result for item in items}) == len(items)
    for item, name in zip(items, names, strict=True):
        assert item.result in (name, str(PurePosixPath(name).with_suffix("")))
        if item.result in reserved:
            assert item.result == name  # `check` has the last word


def test_a_result_never_overwrites_a_recording(tree):
    tree("in/x.txt", "in/y.wav")
    items = mirror(find(["in/x.txt", "in/y.wav"]))
    check(items, Path("out"), ["txt"])
    check(items, Path("in"), ["srt"])
    with pytest.raises(ConfigError, match=r"^the txt of in/x\.txt would overwrite in/x\.txt"):
        check(items, Path("in"), ["srt", "txt"])


def test_a_name_that_is_not_text_survives(tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.wav"
    with open(name, "wb"):
        pass
    (item,) = mirror(find([str(tmp_path)]))
    assert os.fsencode(item.path) == name
    assert os.fsencode(item.result) == b"caf\xe9"
