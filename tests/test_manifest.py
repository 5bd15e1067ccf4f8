"""Manifests as people write them: relative paths, blank lines and every kind of broken line."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hyperasr.errors import ManifestError
from hyperasr.manifest import Utterance, read_manifest

GOOD = '{"audio_filepath": "a.wav", "duration": 1}'


@pytest.fixture
def write(tmp_path):
    def write(content: str | bytes) -> Path:
        path = tmp_path / "train.jsonl"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def complaint(path: Path) -> str:
    """What is said about a manifest that cannot be used: it starts with the file's name."""
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    assert str(caught.value).startswith(str(path))
    return str(caught.value).removeprefix(str(path))


def test_every_field_is_read(write):
    entry = {"audio_filepath": "clips/a.wav", "duration": 1.25, "text": "Grüß Gott"}
    entry |= {"speaker": "s1", "source": "radio", "language": "de"}
    path = write(json.dumps(entry, ensure_ascii=False))
    expected = Utterance(path.parent / "clips/a.wav", 1.25, "Grüß Gott", "s1", "radio")
    assert read_manifest(path) == [expected]


def test_what_is_not_needed_may_be_missing(write):
    path = write(GOOD)
    (utterance,) = read_manifest(path)
    assert utterance == Utterance(path.parent / "a.wav", 1.0, "", "", "")
    assert isinstance(utterance.duration, float)


def test_an_absolute_path_stays(write, tmp_path):
    entry = {"audio_filepath": str(tmp_path / "elsewhere" / "a.wav"), "duration": 2}
    (utterance,) = read_manifest(write(json.dumps(entry)))
    assert utterance.audio == tmp_path / "elsewhere" / "a.wav"


def test_a_relative_manifest_gives_paths_that_open_from_here(write, tmp_path, monkeypatch):
    write(GOOD)
    monkeypatch.chdir(tmp_path.parent)
    (utterance,) = read_manifest(Path(tmp_path.name) / "train.jsonl")
    assert utterance.audio == Path(tmp_path.name) / "a.wav"


def test_the_order_is_kept_and_blank_lines_are_skipped(write):
    lines = [json.dumps({"audio_filepath": name, "duration": 1}) for name in "cab"]
    path = write("\n".join(["", lines[0], "  \t", lines[1] + "\r", lines[2], "", ""]))
    assert [utterance.audio.name for utterance in read_manifest(path)] == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("audio_filepath: a.wav", "JSON"),
        (GOOD[:-1], "JSON"),
        (f"[{GOOD}]", "audio_filepath"),
        ("null", "audio_filepath"),
        ("{}", "audio_filepath"),
        ('{"duration": 1}', "audio_filepath"),
        ('{"audio_filepath": null, "duration": 1}', "audio_filepath"),
        ('{"audio_filepath": 7, "duration": 1}', "audio_filepath"),
        ('{"audio_filepath": ["a.wav"], "duration": 1}', "audio_filepath"),
        ('{"audio_filepath": "a.wav"}', "duration"),
        ('{"audio_filepath": "a.wav", "duration": null}', "duration"),
        ('{"audio_filepath": "a.wav", "duration": "1"}', "duration"),
        ('{"audio_filepath": "a.wav", "duration": [1]}', "duration"),
        ('{"audio_filepath": "a.wav", "duration": 0}', "duration"),
        ('{"audio_filepath": "a.wav", "duration": -1.5}', "duration"),
        ('{"audio_filepath": "a.wav", "duration": NaN}', "duration"),
        ('{"audio_filepath": "a.wav", "duration": Infinity}', "duration"),
        ('{"audio_filepath": "a.wav", "duration": 1e999}', "duration"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_with_the_reason(write, line, reason):
    said = complaint(write(f"{GOOD}\n\n{line}\n{GOOD}\n"))
    assert said.startswith(", line 3: ")
    assert reason in said


@pytest.mark.parametrize(
    "line",
    [
        pytest.param('{"audio_filepath": "a.wav", "duration": true}', id="duration true"),
        pytest.param(f'{{"audio_filepath": "a.wav", "duration": 1{"0" * 400}}}', id="400 digits"),
        pytest.param(f'{{"audio_filepath": "a.wav", "duration": 1{"0" * 5000}}}', id="5000 digits"),
        pytest.param('{"audio_filepath": "a.wav", "duration": 1, "text": ["a"]}', id="text a list"),
        pytest.param('{"audio_filepath": "a.wav", "duration": 1, "text": 5}', id="text a number"),
        pytest.param('{"audio_filepath": "a.wav", "duration": 1, "source": {}}', id="source {}"),
        pytest.param("[" * 100_000, id="nested 100000 deep"),
    ],
)
def test_a_line_of_the_wrong_types_is_refused(write, line):
    assert complaint(write(f"{GOOD}\n{line}\n")).startswith(", line 2: ")


def test_null_is_no_word(write):
    """As NeMo writes it for recordings without a transcript; "None" would be trained on."""
    entry = {"audio_filepath": "a.wav", "duration": 1, "text": None, "speaker": None}
    (utterance,) = read_manifest(write(json.dumps(entry)))
    assert (utterance.text, utterance.speaker) == ("", "")


@pytest.mark.parametrize("separator", ["\u2028", "\x85"], ids=ascii)
def test_only_a_newline_ends_a_line(write, separator):
    """`json.dumps(..., ensure_ascii=False)` writes these characters as they are."""
    text = f"one{separator}two"
    line = json.dumps({"audio_filepath": "a", "duration": 1, "text": text}, ensure_ascii=False)
    assert [utterance.text for utterance in read_manifest(write(line))] == [text]


def test_a_byte_order_mark_is_no_part_of_the_first_line(write):
    assert len(read_manifest(write(b"\xef\xbb\xbf" + GOOD.encode()))) == 1


@pytest.mark.parametrize("content", ["", "\n", " \n\t\n"], ids=repr)
def test_an_empty_manifest_is_refused(write, content):
    assert "no recordings" in complaint(write(content))


def test_a_file_that_cannot_be_read_is_refused(write, tmp_path):
    assert "cannot read" in complaint(tmp_path / "missing.jsonl")
    assert "cannot read" in complaint(tmp_path)
    assert "cannot read" in complaint(write(b'{"audio_filepath": "\xff\xfe"}'))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
fields = ["audio_filepath", "duration", "text", "speaker", "source"]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(fields), json_values))
def test_any_object_gives_an_utterance_or_a_manifest_error(write, entry):
    try:
        (utterance,) = read_manifest(write(json.dumps(entry)))
    except ManifestError:
        return
    assert 0 < utterance.duration < float("inf")
    assert all(isinstance(x, str) for x in (utterance.text, utterance.speaker, utterance.source))
