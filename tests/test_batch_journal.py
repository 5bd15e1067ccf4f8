"""What is believed of a journal, and what is not."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperasr.batch import journal as module
from hyperasr.batch.journal import NAME, Journal, Record, digest, settings_digest
from hyperasr.batch.plan import Item
from hyperasr.errors import ConfigError, OutputError


def record(name, **changes):
    return replace(Record(name, "r" * 64, "s" * 64, {"txt": "t" * 64}, 1.5), **changes)


RECORDS = [record("a"), record("b/ü"), record("c\udcff", outputs={"srt": "1", "json": "2"})]


def written(folder):
    with Journal(folder) as journal:
        for each in RECORDS:
            journal.add(each)
    return (folder / NAME).read_bytes()


def test_what_was_added_is_there_again_the_last_of_a_name_counting(tmp_path):
    written(tmp_path / "new" / "out")
    with Journal(tmp_path / "new" / "out") as journal:
        assert list(journal.records.values()) == RECORDS
        journal.add(record("a", settings="other"))
    with Journal(tmp_path / "new" / "out") as journal:
        assert journal.records["a"].settings == "other"
        journal.clear()
    with Journal(tmp_path / "new" / "out") as journal:
        assert journal.records == {}


@given(st.integers(0))
def test_a_journal_torn_anywhere_keeps_what_is_whole_and_goes_on(place):
    with TemporaryDirectory() as name:
        folder = Path(name)
        content = written(folder)
        torn = content[: place % len(content)]
        (folder / NAME).write_bytes(torn)
        with Journal(folder) as journal:
            whole = torn.count(b"\n") + (content[len(torn) : len(torn) + 1] == b"\n")
            assert list(journal.records.values()) == RECORDS[:whole]
            journal.add(record("z"))
        with Journal(folder) as journal:
            assert list(journal.records.values()) == [*RECORDS[:whole], record("z")]


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["result", "outputs"]), inner),
)


@given(st.binary() | st.builds(lambda value: json.dumps(value).encode(), JSON))
def test_a_line_that_is_no_record_counts_for_nothing(line):
    assert module._record(line) is None


@pytest.mark.parametrize(
    "change",
    [{"result": ["a"]}, {"outputs": "txt"}, {"seconds": None}, {"recording": ""}, {"new": 1}],
)
def test_a_record_of_another_kind_counts_for_nothing(change):
    fields = {"result": "a", "recording": "r", "settings": "s", "outputs": {}, "seconds": 1.0}
    assert module._record(json.dumps(fields).encode()) is not None
    assert module._record(json.dumps(fields | change).encode()) is None


@pytest.fixture
def finished(tmp_path):
    """A recording that is done, its journal, and the files."""
    recording, out = tmp_path / "a.wav", tmp_path / "out"
    recording.write_bytes(b"sound")
    item = Item(recording, "x/a", 5)
    (out / "x").mkdir(parents=True)
    (out / "x/a.srt").write_bytes(b"1")
    (out / "x/a.json").write_bytes(b"{}")
    digests = {suffix: digest(out / f"x/a.{suffix}") for suffix in ("srt", "json")}
    with Journal(out) as journal:
        journal.add(Record("x/a", digest(recording), "settings", digests, 1.0))
        yield item, journal, out


def test_done_is_what_still_holds(finished):
    item, journal, _ = finished
    assert journal.done(item, "settings", ["srt", "json"]) == journal.records["x/a"]
    assert journal.done(item, "settings", ["srt"])
    assert not journal.done(item, "other settings", ["srt"])
    assert not journal.done(item, "settings", ["srt", "txt"])
    assert not journal.done(replace(item, result="a"), "settings", ["srt"])


@pytest.mark.parametrize("file", ["x/a.srt", "x/a.json", "../a.wav"])
@pytest.mark.parametrize("damage", ["changed", "gone", "empty", "a pipe", "a folder"])
def test_a_recording_or_a_result_that_is_not_what_it_was_is_not_done(finished, file, damage):
    item, journal, out = finished
    path = out / file
    path.unlink()
    if damage == "a pipe":
        os.mkfifo(path)
    elif damage == "a folder":
        path.mkdir()
    elif damage != "gone":
        path.write_bytes(b"" if damage == "empty" else b"0")
    assert not journal.done(item, "settings", ["srt", "json"])


def test_a_second_run_in_a_folder_is_refused_and_a_later_one_is_not(tmp_path):
    code = (
        "import sys; from pathlib import Path; from hyperasr.batch.journal import Journal\n"
        "try: Journal(Path(sys.argv[1]))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )

    def second():
        command = [sys.executable, "-c", code, str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with Journal(tmp_path):
        said = second()
    assert said.startswith(f"ConfigError {tmp_path}: another run is at work in this folder")
    assert second() == ""


def test_a_folder_that_cannot_be_one_is_refused_by_name(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file: .*choose another output folder"):
        Journal(tmp_path / "file")


def test_a_full_disk_is_told_and_remembered(tmp_path):
    class Full:
        def write(self, line):
            return len(line) - 1  # as much as fitted

    with Journal(tmp_path) as journal:
        real, journal._file = journal._file, Full()
        with pytest.raises(OutputError, match=r"no space left.*make room"):
            journal.add(record("a"))
        assert journal.broken
        journal._file = real


def test_settings_and_files_decide_together(tmp_path):
    (tmp_path / "lm").write_bytes(b"1")
    first = settings_digest({"a": 1, "b": None}, [tmp_path / "lm"])
    assert first == settings_digest({"b": None, "a": 1}, [tmp_path / "lm"])
    assert first != settings_digest({"a": 2, "b": None}, [tmp_path / "lm"])
    (tmp_path / "lm").write_bytes(b"2")
    assert first != settings_digest({"a": 1, "b": None}, [tmp_path / "lm"])
