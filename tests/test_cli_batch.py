"""`hyperasr batch` through its front door, with the model replaced by a stub."""

import io
import json
import os
import signal

import pytest
from rich.console import Console
from typer.testing import CliRunner

from hyperasr import transcribe
from hyperasr.batch.plan import find, mirror
from hyperasr.batch.run import Outcome
from hyperasr.cli import app, progress
from hyperasr.errors import AudioError, CheckpointError
from hyperasr.transcript import Segment, Transcript, Word

runner = CliRunner()


class Stub:
    """A transcriber that hears the file's name, not in one that holds "bad"; it keeps count."""

    name, sha256, settings = "stub", "0" * 64, {"beam_size": 1}

    def __init__(self):
        self.heard = []

    def as_finished(self, paths, heard):
        for number, path in enumerate(paths):
            self.heard.append(path.name)
            yield number, self.hear(path, heard)

    def hear(self, path, heard):
        if not path.exists():
            return AudioError("no such file")
        if path.read_text() == "bad":
            return AudioError("not audio")
        heard(2.0)
        words = () if path.read_text() == "silence" else (Word(path.stem, 0.0, 1.0, 0.5),)
        return Transcript(str(path), 2.0, (Segment(0.0, 1.0, words),))


@pytest.fixture
def stub(monkeypatch, tmp_path):
    """The stub, in a folder with three recordings in `in`."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.wav", "b.wav", "sub/c.wav"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text("sound")
    stub = Stub()
    monkeypatch.setattr(transcribe.Transcriber, "load", lambda *_: stub)
    return stub


def batch(*arguments):
    return runner.invoke(app, ["batch", *map(str, arguments)])


def visible(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(str(p.relative_to(folder)) for p in files if not p.name.startswith("."))


def files(folder):
    return json.loads((folder / "report.json").read_text())["files"]


def test_the_tree_is_mirrored_and_nothing_goes_to_stdout(stub, tmp_path):
    result = batch("in", "-o", "out", "-f", "txt,srt")
    assert (result.exit_code, result.stdout) == (0, "")
    names = [f"{name}.{suffix}" for name in ("a", "b", "sub/c") for suffix in ("srt", "txt")]
    assert visible(tmp_path / "out") == sorted([*names, "report.json"])
    assert (tmp_path / "out/sub/c.txt").read_text() == "c\n"
    assert result.stderr.startswith("hyperasr: 3 recordings, 0 done before, 3 to do\n")


def test_the_same_command_again_hears_nothing_again(stub, tmp_path):
    batch("in", "-o", "out")
    assert batch("in", "-o", "out").exit_code == 0
    assert len(stub.heard) == 3
    assert files(tmp_path / "out")["done_before"] == 3


@pytest.mark.parametrize(
    "options",
    [
        ["-f", "json"],
        ["--max-cps", "10"],
        ["--min-confidence", "0.7"],
        ["--overwrite"],
        ["-m", "examples-of-another"],
    ],
)
def test_other_settings_do_everything_again(stub, monkeypatch, tmp_path, options):
    (tmp_path / "examples-of-another").mkdir()
    (tmp_path / "examples-of-another/config.json").write_text("{}")
    batch("in", "-o", "out")
    assert batch("in", "-o", "out", *options).exit_code == 0
    assert len(stub.heard) == 6


def test_what_changed_or_is_missing_is_done_again_and_said(stub, tmp_path):
    batch("in", "-o", "out")
    (tmp_path / "in/a.wav").write_text("another sound")
    (tmp_path / "out/b.txt").unlink()
    (tmp_path / "in/new.wav").write_text("sound")
    result = batch("in", "-o", "out")
    assert "4 recordings, 1 done before, 3 to do, 2 of them again" in result.stderr
    assert sorted(stub.heard[3:]) == ["a.wav", "b.wav", "new.wav"]


def test_one_bad_file_does_not_stop_the_others_and_is_tried_again(stub, tmp_path):
    (tmp_path / "in/a.wav").write_text("bad")
    result = batch("in", "gone.wav", "-o", "out", "-q")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "hyperasr: in/a.wav: not audio",
        "hyperasr: gone.wav: no such file",
        "hyperasr: 2 of 4 files failed",
    ]
    assert visible(tmp_path / "out") == ["in/b.txt", "in/sub/c.txt", "report.json"]
    assert files(tmp_path / "out")["failed"] == 2
    (tmp_path / "in/a.wav").write_text("sound")
    assert batch("in", "-o", "out/in").exit_code == 0


def test_fail_fast_stops_at_the_first(stub, tmp_path):
    (tmp_path / "in/a.wav").write_text("bad")
    result = batch("in", "-o", "out", "--fail-fast")
    assert result.exit_code == 1
    assert stub.heard == ["a.wav"]
    assert "1 of 3 files failed; 2 were not begun" in result.stderr


def test_skip_existing_leaves_alone_what_is_there_whoever_wrote_it(stub, tmp_path):
    (tmp_path / "out/sub").mkdir(parents=True)
    for name in ("a.txt", "b.txt", "b.srt"):
        (tmp_path / "out" / name).write_text("by hand")
    options = ["-o", "out", "-f", "txt,srt", "--skip-existing"]
    assert batch("in", *options).exit_code == 0
    assert stub.heard == ["a.wav", "c.wav"]
    assert (tmp_path / "out/b.txt").read_text() == "by hand"
    result = batch("in", *options)
    assert (result.exit_code, len(stub.heard)) == (0, 2)
    assert "all results of 3 recordings are there" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["in"],
        ["in", "-o", "out", "-f", "docx"],
        ["in", "-o", "out", "--skip-existing", "--overwrite"],
        ["@gone.txt", "-o", "out"],
        ["-o", "out"],
    ],
)
def test_wrong_usage_is_told_before_anything_is_done(stub, tmp_path, arguments):
    assert batch(*arguments).exit_code == 2
    assert not (tmp_path / "out").exists()


def test_no_recordings_is_nothing_to_do(stub, tmp_path):
    (tmp_path / "empty").mkdir()
    result = batch("empty", "*.mp3", "-o", "out")
    assert result.exit_code == 4
    assert "empty: no recordings found" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_there_has_failed(stub, tmp_path):
    result = batch("gone.wav", "*.mp3", "-o", "out")
    assert result.exit_code == 1
    assert "hyperasr: 1 recording, 0 done before, 1 to do\n" in result.stderr
    assert "gone.wav: no such file" in result.stderr


def test_a_recording_called_report_does_not_meet_the_report(stub, tmp_path):
    (tmp_path / "in/report.wav").write_text("sound")
    batch("in", "-o", "out", "-f", "json")
    assert "report.wav.json" in visible(tmp_path / "out")
    assert files(tmp_path / "out")["done"] == 4


def test_silence_is_counted_and_not_a_failure(stub, tmp_path):
    (tmp_path / "in/a.wav").write_text("silence")
    result = batch("in", "-o", "out")
    assert result.exit_code == 0
    assert "no speech heard in 1 file" in result.stderr


def test_a_report_that_cannot_be_written_is_told(stub, tmp_path):
    (tmp_path / "out/report.json").mkdir(parents=True)
    result = batch("in", "-o", "out")
    assert result.exit_code == 1
    assert "cannot write out/report.json" in result.stderr


def test_a_model_that_cannot_be_loaded_leaves_the_journal_alone(stub, monkeypatch, tmp_path):
    batch("in", "-o", "out")

    def fail(*_):
        raise CheckpointError("no such model")

    with monkeypatch.context() as context:
        context.setattr(transcribe.Transcriber, "load", fail)
        assert isinstance(batch("in", "-o", "out", "--overwrite").exception, CheckpointError)
    assert batch("in", "-o", "out").exit_code == 0
    assert len(stub.heard) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_what_is_done_and_the_same_command_goes_on(
    stub, monkeypatch, tmp_path, number
):
    hear = stub.hear

    def interrupted(path, heard):
        if path.name == "b.wav":
            os.kill(os.getpid(), number)
        return hear(path, heard)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(stub, "hear", interrupted)
    result = batch("in", "-o", "out")
    assert result.exit_code == 130
    assert "interrupted; 2 files are left, the same command goes on" in result.stderr
    assert json.loads((tmp_path / "out/report.json").read_text())["interrupted"]
    assert signal.getsignal(signal.SIGTERM) is before
    monkeypatch.setattr(stub, "hear", hear)
    assert batch("in", "-o", "out").exit_code == 0
    assert sorted(stub.heard) == ["a.wav", "b.wav", "b.wav", "c.wav"]


# Progress


def test_elsewhere_than_in_a_terminal_a_line_comes_now_and_then(stub, monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.setattr("hyperasr.audio.duration", lambda path: 2.0)
    lines = batch("in", "-o", "out").stderr.splitlines()
    assert any("1 of 3 files, 2.0 s of sound, " in line and " left" in line for line in lines)
    monkeypatch.setattr(progress, "PATIENCE", 1e9)
    assert len(batch("in", "-o", "new").stderr.splitlines()) == 2


def test_in_a_terminal_a_bar_shows_the_files_at_work(stub, monkeypatch):
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=100)
    monkeypatch.setattr(progress, "console", console)
    monkeypatch.setattr("hyperasr.audio.duration", lambda path: 4.0)
    items = mirror(find(["in"]))
    watch = progress.Watch(items, quiet=False)
    assert watch.total is None
    for item in items[:2]:
        watch.started(item)
    assert watch.total == 12.0  # the third is taken to be as long as its size says
    watch.heard(4.0)
    console.print(*watch._bar.get_renderables())
    assert "in/a.wav" in text.getvalue()
    assert "0 of 3 files, 4.0 s of sound" in text.getvalue()
    watch.finished(Outcome(items[0], 1.0, 4.0))
    watch.finished(Outcome(items[1], 1.0, error=AudioError("cut off")))
    assert watch.total == 8.0
    assert list(watch.at_work) == []
    watch.close()
