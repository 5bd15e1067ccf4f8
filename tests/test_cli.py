"""The command line through its front door, with the model replaced by a stub."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from hyperasr import cli, transcribe
from hyperasr.cli import app
from hyperasr.cli import transcribe as command
from hyperasr.errors import AudioError, BrokenOffError, CheckpointError
from hyperasr.stretches import HearingOptions
from hyperasr.transcript import Segment, Transcript, Word
from hyperasr.writers import SUBTITLES, WRITERS, suffix

runner = CliRunner()


class Stub:
    """A transcriber that answers each file as a function says."""

    def __init__(self, hear):
        self.hear = hear

    def each(self, paths, heard):
        for path in paths:
            try:
                yield self.hear(path, heard)
            except AudioError as error:
                yield error


@pytest.fixture(autouse=True)
def stub(monkeypatch):
    """A transcriber that hears the file's name, except in one called bad.wav."""

    def hear(path, heard):
        if path.name == "bad.wav":
            raise AudioError("not audio")
        heard(1.0)
        word = Word(path.stem, 0.0, 1.0, 0.9)
        return Transcript(str(path), 1.0, (Segment(0.0, 1.0, (word,)),))

    monkeypatch.setattr(transcribe.Transcriber, "load", lambda *_: Stub(hear))


def run(*arguments):
    return runner.invoke(app, ["transcribe", *map(str, arguments)])


def test_results_go_to_stdout_and_nothing_else_does():
    result = run("hello.wav")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "hello\n", "")


def test_one_bad_file_does_not_stop_the_others_but_is_not_forgotten():
    result = run("a.wav", "bad.wav", "c.wav")
    assert result.exit_code == 1
    assert result.stdout == "a\nc\n"
    assert result.stderr.splitlines() == [
        "hyperasr: bad.wav: not audio",
        "hyperasr: 1 of 3 files failed",
    ]


def test_every_format_is_written_beside_the_input_or_into_a_folder(tmp_path):
    assert run(tmp_path / "a.wav", "-o", "source", "-f", "srt,txt", "-f", "txt").exit_code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.srt", "a.txt"]
    out = tmp_path / "deep" / "out"
    assert run(tmp_path / "a.b.wav", "--output_dir", out, "-f", "all").exit_code == 0
    assert {p.name for p in out.iterdir()} == {f"a.b{suffix(name)}" for name in WRITERS}
    assert json.loads((out / "a.b.json").read_text())["text"] == "a.b"


@pytest.mark.parametrize(
    "arguments",
    [
        ["a.wav", "-f", "docx"],
        ["a.wav", "-f", ","],
        ["a.wav", "-f", "srt,txt"],  # two formats into one stdout
        ["a.wav", "b.wav", "-f", "json"],  # two documents in one stdout
        ["a.wav", "-", "-f", "tsv"],
        ["talk.TextGrid", "-f", "textgrid", "-o", "source"],
        ["talk.txt", "-o", "source"],  # the transcript would replace the recording
        ["talk.txt", "-o", "."],
        ["talk.txt.wav", "talk.txt", "-o", "."],
        ["a.wav", "--batch-size", "0"],
        [],
    ],
)
def test_wrong_usage_is_told_before_anything_is_done(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments).exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_inputs_of_the_same_name_do_not_meet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
    assert run("x/a.wav", "y/a.wav", "y/../y/a.flac", "-o", "out").exit_code == 0
    out = tmp_path / "out"
    names = sorted(str(path.relative_to(out)) for path in out.rglob("*.txt"))
    assert names == ["x/a.txt", "y/a.flac.txt", "y/a.wav.txt"]
    assert run(tmp_path / "x/a.wav", tmp_path / "y/a.wav", "-o", "source").exit_code == 0
    assert (tmp_path / "x/a.txt").exists()
    assert (tmp_path / "y/a.txt").exists()
    assert run("x/a.wav", "y/a.wav").stdout == "a\na\n"


def test_folders_patterns_and_lists_are_searched_and_the_tree_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("talks/b.wav", "talks/deep/a.mp3", "talks/notes.txt", "talks/.hidden/c.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert run("talks").stdout == "b\na\n"
    assert run("talks/**/*.mp3", "talks/b.wav", "talks").stdout == "a\nb\n"
    (tmp_path / "list").write_text("talks/b.wav\n\ntalks/deep\n")
    assert run("@list", "-o", "out").exit_code == 0
    assert (tmp_path / "out/b.txt").read_text() == "b\n"
    assert (tmp_path / "out/deep/a.txt").read_text() == "a\n"
    assert run("talks", "-o", "source").exit_code == 0
    assert (tmp_path / "talks/deep/a.txt").exists()


def test_files_named_one_by_one_lie_beside_each_other_where_they_can(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("x/a.wav", "y/deep/b.wav", "y/a.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def written(*inputs: str) -> list[str]:
        assert run(*inputs, "-o", "-".join(inputs).replace("/", "")).exit_code == 0
        out = tmp_path / "-".join(inputs).replace("/", "")
        return sorted(str(path.relative_to(out)) for path in out.rglob("*.txt"))

    assert written("x/a.wav", "y/deep/b.wav") == ["a.txt", "b.txt"]
    assert written("x/a.wav", "y/deep/b.wav", "y/a.wav") == ["x/a.txt", "y/a.txt", "y/deep/b.txt"]
    assert written("x/a.wav", "y/deep") == ["x/a.txt", "y/deep/b.txt"]


def test_inputs_that_lead_nowhere_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    nothing = run(tmp_path / "empty")
    assert nothing.exit_code == 4
    assert "empty: no recordings found" in nothing.stderr
    some = run(tmp_path / "empty", "a.wav")
    assert (some.exit_code, some.stdout) == (0, "a\n")
    assert "empty: no recordings found" in some.stderr


@pytest.mark.parametrize(
    ("format", "first", "second"),
    [
        ("txt", "a", "b"),
        ("ctm", "a 1 0.000 1.000 a 0.9000", "b 1 0.000 1.000 b 0.9000"),
        ("STM", "a 1 a 0.000 1.000 a", "b 1 b 0.000 1.000 b"),
    ],
)
def test_formats_of_lines_take_several_files_on_stdout(format, first, second):
    assert run("a.wav", "b.wav", "-f", format).stdout == f"{first}\n{second}\n"


def test_standard_input_is_called_stdin(tmp_path):
    heard = run("-", "-o", tmp_path, "-f", "txt")
    assert (heard.exit_code, heard.stderr) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["stdin.txt"]
    twice = run("-", "a.wav", "-")
    assert twice.exit_code == 2
    assert "standard input and can be read once" in " ".join(twice.stderr.split())


def test_what_was_heard_before_a_file_broke_off_is_written_and_told(monkeypatch, tmp_path):
    def hear(path, heard):
        word = Word("begun", 0.0, 1.0, 0.9)
        raise BrokenOffError("cut off after 1.0 s", Transcript("-", 1.0, (Segment(0, 1, (word,)),)))

    monkeypatch.setattr(transcribe.Transcriber, "load", lambda *_: Stub(hear))
    result = run("-")
    assert (result.exit_code, result.stdout) == (1, "begun\n")
    assert result.stderr == (
        "hyperasr: stdin: cut off after 1.0 s; what was heard before is written\n"
    )
    (tmp_path / "a.txt").mkdir()
    assert run("a.wav", "b.wav", "-o", tmp_path).stderr.endswith("2 of 2 files failed\n")


def test_what_is_to_be_heard_reaches_the_model(monkeypatch):
    asked = []
    monkeypatch.setattr(
        transcribe.Transcriber,
        "load",
        lambda *options: asked.append(options[-1]) or Stub(lambda path, heard: None),
    )
    run("a.wav", "--clip-timestamps", "1,2", "--vad_filter", "--vad-threshold", "0.4")
    assert asked == [HearingOptions(((1.0, 2.0),), True, 0.4)]


def test_several_files_make_one_manifest_on_stdout():
    lines = run("a.wav", "b.wav", "-f", "jsonl").stdout.splitlines()
    assert [json.loads(line)["audio_filepath"] for line in lines] == ["a.wav", "b.wav"]


@pytest.mark.parametrize("format", SUBTITLES)
def test_subtitles_keep_to_the_rules_that_were_typed(format):
    shown = run(
        "what-is-said.wav", "-f", format, "--min-duration", "2.5", "--max_duration", "2.75",
        "--max-cps", "4.5", "--highlight_words", "--max-line-count", "1", "--max-line-width", "9",
        "--max-words-per-line", "2", "--min-gap", "0.5",
    )  # fmt: skip
    times = re.findall(r"(\S+) --> (\S+)\n(.*)\n", shown.stdout.replace(",", "."))
    assert times == [
        ("00:00:00.000", "00:00:01.000", "<u>what-is-said</u>"),
        ("00:00:01.000", "00:00:02.667", "what-is-said"),
    ]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--min-duration", "9"], "--min-duration 9 is longer than --max-duration 7"),
        (["--max-cps", "nan"], "--max-cps nan must be from 1 to 1000"),
        (["--max-line-width", "0"], "--max-line-width 0 must be from 1 to 1000"),
        (["--clip-timestamps", "5,3"], "--clip-timestamps: 3 after 5: START,END,START,END,..."),
        (["--vad-threshold", "2"], "--vad-threshold 2 must be between 0 and 1"),
    ],
)
def test_rules_that_contradict_each_other_are_one_line_and_exit_2(
    monkeypatch, capsys, options, complaint
):
    monkeypatch.setattr(sys, "argv", ["hyperasr", "transcribe", "a.wav", "-f", "srt", *options])
    with pytest.raises(SystemExit) as exit:
        cli.main()
    assert exit.value.code == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert complaint in captured.err


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--nbest", "2"], "hyperasr: only json has the texts that --nbest keeps: add -f json\n"),
        (["--nbest", "2", "-f", "json"], ""),
        (["--nbest", "2", "--quiet"], ""),
        (["--max-cps", "15"], "hyperasr: only srt and vtt heed the options for subtitles"),
        (["--max-cps", "15", "-f", "srt"], ""),
        (["--min-confidence", "0.1", "-f", "ctm"], "hyperasr: only txt, srt and vtt mark"),
        (["--min-confidence", "0.1"], ""),
        (["--vad-threshold", "0.4"], "hyperasr: only --vad-filter heeds --vad-threshold and"),
        (["--vad-threshold", "0.4", "--vad-filter"], ""),
    ],
)
def test_an_option_that_shows_nowhere_is_told(options, complaint):
    result = run("a.wav", *options)
    assert result.exit_code == 0
    assert result.stderr.startswith(complaint)
    assert result.stderr.count("\n") == (complaint != "")


def test_a_result_that_cannot_be_written_is_a_failed_file(tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).mkdir()  # where the file should be
    result = run("a.wav", "b.wav", "-o", tmp_path)
    assert result.exit_code == 1
    assert "a.wav: cannot write" in result.stderr
    assert "2 of 2 files failed" in result.stderr


def test_a_folder_that_cannot_be_written_to_is_told_before_anything_is_heard(tmp_path):
    (tmp_path / "taken").write_text("a file stands where the folder should be")
    result = run("a.wav", "-o", tmp_path / "taken")
    assert result.exit_code == 2
    assert "choose another folder" in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("error", "code"),
    [(CheckpointError("no such\nmodel"), 3), (AudioError("odd"), 1), (KeyboardInterrupt(), 130)],
)
def test_a_failure_is_one_line_and_an_exit_code(monkeypatch, capsys, error, code):
    def fail():
        raise error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as exit:
        cli.main()
    assert exit.value.code == code
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("command", app.registered_commands, ids=lambda c: c.callback.__name__)
def test_every_command_explains_itself_with_an_example(command):
    assert "Example: hyperasr " in command.callback.__doc__


def test_help_and_wrong_usage_do_not_wait_for_torch():
    code = "import sys, hyperasr.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_source_file_is_longer_than_450_lines():
    sources = Path(cli.__file__).parents[1].rglob("*.py")
    tests = Path(__file__).parent.rglob("*.py")
    lengths = {p: len(p.read_text(encoding="utf-8").splitlines()) for p in [*sources, *tests]}
    assert not {str(path): n for path, n in lengths.items() if n > 450}


def test_a_recording_without_speech_is_said_to_hold_none(monkeypatch):
    silence = Transcript("quiet.wav", 1.0, ())
    monkeypatch.setattr(
        transcribe.Transcriber, "load", lambda *_: Stub(lambda path, heard: silence)
    )
    result = run("quiet.wav")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "hyperasr: quiet.wav: no speech heard\n"


def test_an_interrupt_while_the_program_loads_is_no_traceback(tmp_path):
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt")
    code = "from hyperasr.__main__ import main; import sys; sys.path.insert(0, sys.argv[1]); main()"
    command = [sys.executable, "-c", code, str(tmp_path)]
    found = subprocess.run(command, capture_output=True, check=False)
    assert (found.returncode, found.stdout) == (130, b"")
    assert found.stderr == b"hyperasr: interrupted\n"


def test_an_interrupt_is_said_and_keeps_what_is_done(monkeypatch, tmp_path):
    def hear(path, heard):
        if path.name == "b.wav":
            raise KeyboardInterrupt
        return Transcript(str(path), 1.0, (Segment(0.0, 1.0, (Word("a", 0.0, 1.0, 0.9),)),))

    monkeypatch.setattr(transcribe.Transcriber, "load", lambda *_: Stub(hear))
    result = run("a.wav", "b.wav", "c.wav", "-o", tmp_path)
    assert result.exit_code == 130
    assert "interrupted" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_an_interrupt_while_the_model_loads_is_said_too(monkeypatch):
    def load(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(transcribe.Transcriber, "load", load)
    result = run("a.wav")
    assert (result.exit_code, result.stderr) == (130, "hyperasr: interrupted\n")


class Terminal:
    """A console in a terminal, and what was printed to it."""

    def __init__(self):
        self.text = io.StringIO()
        self.console = Console(file=self.text, force_terminal=True, width=80)


@pytest.mark.parametrize("lengths", [{"a.wav": 5.0, "b.wav": 7.0}, {"a.wav": None, "b.wav": 7.0}])
def test_in_a_terminal_a_bar_counts_the_seconds_of_all_files(monkeypatch, lengths):
    """One file is missing and one may not say how long it is: neither stops the bar."""
    terminal = Terminal()
    monkeypatch.setattr(command, "console", terminal.console)
    monkeypatch.setattr(command, "PATIENCE", 0.0)

    def duration(path):
        if path.name not in lengths:
            raise AudioError("no such file")
        return lengths[path.name]

    monkeypatch.setattr("hyperasr.audio.duration", duration)
    bar = command._Bar([Path(name) for name in ("a.wav", "gone.wav", "b.wav")], quiet=False)
    bar.heard(5.0)
    bar.heard(7.0)
    assert bar._progress.tasks[0].completed == 12.0
    bar.pause()
    assert "transcribing" in terminal.text.getvalue()


def test_no_bar_where_nobody_looks():
    bar = command._Bar([Path("gone.wav")], quiet=False)  # stderr of a test is no terminal
    bar.heard(1.0)
    bar.pause()


def test_a_full_stdout_is_one_line_and_ends_the_work():
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    code = (
        "from hyperasr import cli, transcribe; from hyperasr.transcript import *; "
        "said = Transcript('a', 1.0, (Segment(0.0, 1.0, (Word('a', 0.0, 1.0, 0.9),)),)); "
        "stub = type('Stub', (), {'each': lambda self, paths, heard: (said for path in paths)}); "
        "transcribe.Transcriber.load = lambda *_: stub(); "
        "import sys; sys.argv = ['hyperasr', 'transcribe', 'a.wav', 'b.wav']; cli.main()"
    )
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert "a.wav: cannot write to stdout: no space left on device" in done.stderr
    assert "Traceback" not in done.stderr
