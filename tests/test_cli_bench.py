"""`hyperasr bench` through its front door, with the measuring replaced by a stub."""

import json

import pytest
from test_bench import REPORT
from typer.testing import CliRunner

from hyperasr.bench import report
from hyperasr.bench.report import FULL, QUICK
from hyperasr.cli import app
from hyperasr.cli import bench as command
from hyperasr.errors import AudioError, OutputError

runner = CliRunner()


@pytest.fixture(autouse=True)
def asked(monkeypatch):
    """The (setup, plan, audio) that the stub was asked to measure."""
    calls = []

    def measure(setup, plan, audio, tell):
        tell("a [stage]")
        calls.append((setup, plan, audio))
        return REPORT

    monkeypatch.setattr(report, "measure", measure)
    return calls


def run(*arguments):
    return runner.invoke(app, ["bench", "--device", "cpu", *map(str, arguments)])


def test_the_document_is_one_line_on_stdout_and_the_tables_are_for_people(asked):
    result = run()
    assert result.exit_code == 0
    assert result.stdout.count("\n") == 1
    assert json.loads(result.stdout) == json.loads(json.dumps(REPORT.as_json()))
    for figure in ("480", "75", "exponent", "left out", "1 of 2 threads"):
        assert figure in result.stderr
    assert asked[0][1] is FULL


def test_quiet_leaves_the_document_alone():
    result = run("--quiet")
    assert (result.exit_code, result.stderr) == (0, "")
    json.loads(result.stdout)


def test_options_reach_the_measurement(asked, tmp_path):
    run("--quick", "--lengths", "60,5", "--lengths", "5", "--batch-size", "2", "--audio", "a.wav")
    ((setup, plan, audio),) = asked
    assert plan.lengths == (5, 60)
    assert plan.windowed == QUICK.windowed
    assert (setup.batch_size, setup.device, audio.name) == (2, "cpu", "a.wav")


@pytest.mark.parametrize("name", ["speed.svg", "SPEED.PNG"])
def test_a_picture_is_drawn(tmp_path, name):
    pytest.importorskip("matplotlib")
    assert run("--plot", tmp_path / name).exit_code == 0
    assert 0 < (tmp_path / name).stat().st_size < 100_000


@pytest.mark.parametrize(
    "arguments",
    [
        ["--lengths", "0"],
        ["--lengths", "-5"],
        ["--lengths", "5,long"],
        ["--lengths", "1.5"],
        ["--lengths", ","],
        ["--lengths", "²"],
        ["--plot", "speed.pdf"],
        ["--plot", "speed"],
        ["--plot", "no/such/folder/speed.svg"],
        ["--plot", "taken/speed.svg"],
        ["--plot", "folder.svg"],
        ["--batch-size", "0"],
        ["--threads", "-1"],
    ],
)
def test_wrong_usage_is_told_before_anything_is_measured(arguments, asked, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("a file stands where the folder should be")
    (tmp_path / "folder.svg").mkdir()
    result = run(*arguments)
    assert (result.exit_code, result.stdout, asked) == (2, "", [])


def test_a_missing_matplotlib_is_told_before_anything_is_measured(asked, tmp_path, monkeypatch):
    monkeypatch.setattr("hyperasr.cli.options.find_spec", lambda name: None)
    result = run("--plot", tmp_path / "speed.svg")
    assert (result.exit_code, asked) == (2, [])
    assert "hyperasr[bench]" in result.stderr


def fails_with(monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(report, "measure", fail)


def test_a_recording_that_cannot_be_read_is_named(monkeypatch):
    fails_with(monkeypatch, AudioError("no such file"))
    result = run("--audio", "gone.wav")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "hyperasr: gone.wav: no such file\n"


def test_too_little_memory_is_one_line(monkeypatch):
    fails_with(monkeypatch, MemoryError("the system ended it"))
    result = run()
    assert (result.exit_code, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1


def test_an_interrupt_is_said(monkeypatch):
    fails_with(monkeypatch, KeyboardInterrupt())
    result = run()
    assert (result.exit_code, result.stdout) == (130, "")
    assert "interrupted" in result.stderr


def test_the_figures_are_kept_where_the_picture_cannot_be_written(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(command, "check_picture", lambda path, option: path.mkdir())
    result = run("--plot", tmp_path / "speed.svg")
    assert isinstance(result.exception, OutputError)
    json.loads(result.stdout)
