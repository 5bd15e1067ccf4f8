"""`hyperasr score` through its front door."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hyperasr import cli, transcribe
from hyperasr.cli import app
from hyperasr.errors import AudioError, ConfigError, TextError
from hyperasr.transcript import Alternative, Segment, Transcript, Word

runner = CliRunner()

HERE = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[2])}
"""For programs that run elsewhere: they are to find this hyperasr."""

SAID = "u-1 The cat sat.\nu-2 hello\nu-3 good night\n"
HEARD = "u-3 good bye\nu-1 the cat sat\nu-9 what\n"


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("said").write_text(SAID)
    Path("heard").write_text(HEARD)


def run(*arguments):
    return runner.invoke(app, ["score", *map(str, arguments)])


@pytest.mark.usefixtures("files")
def test_the_table_is_on_stdout_and_what_does_not_match_on_stderr():
    result = run("said", "heard")
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        "hyperasr: 1 without a hypothesis, counted as deletions: u-2",
        "hyperasr: 1 without a reference, not counted: u-9",
    ]
    assert "said (Kaldi text), heard (Kaldi text)\nnormalizer basic 1\n" in result.stdout
    (row,) = [line.split() for line in result.stdout.splitlines() if line.startswith("total")]
    assert row[1] == "33.33%"
    assert row[-5:] == ["1", "1", "0", "6", "3"]
    assert "1  night → bye" in result.stdout


@pytest.mark.usefixtures("files")
def test_json_goes_to_stdout_and_the_table_to_stderr():
    result = run("said", "heard", "--json", "-")
    assert json.loads(result.stdout)["wer"] == pytest.approx(1 / 3, abs=1e-6)
    assert "33.33%" in result.stderr
    assert run("said", "heard", "--json", "-", "-q").stderr == ""


@pytest.mark.usefixtures("files")
def test_normalizers_change_the_number_and_are_named():
    rates = {}
    for name in ("none", "basic", "librispeech", "whisper"):
        document = json.loads(run("said", "heard", "--normalizer", name, "--json", "-").stdout)
        rates[document["normalizer"].split()[0]] = document["words"]["errors"]
    assert rates == {"none": 4, "basic": 2, "librispeech": 2, "whisper": 2}
    result = run("said", "heard", "--normalizer", "wisper")
    assert isinstance(result.exception, ConfigError)


@pytest.mark.usefixtures("files")
def test_files_are_written_and_the_page_is_asked_for_its_player(monkeypatch):
    asked = []

    class Page:
        @staticmethod
        def to_html(score, audio_from):
            asked.append(audio_from)
            return f"<p>{score.total.words.errors}"

    monkeypatch.setitem(sys.modules, "hyperasr.score.html", Page)
    arguments = ["--json", "a/s.json", "--pra", "s.pra", "--html", "pages/s.html"]
    assert run("said", "heard", *arguments).exit_code == 0
    assert run("said", "heard", "--html", "pages/s.html", "--audio").exit_code == 0
    assert asked == [None, Path("pages")]
    assert Path("pages/s.html").read_text() == "<p>2"
    assert "REF:  the cat sat\n" in Path("s.pra").read_text()
    assert json.loads(Path("a/s.json").read_text())["utterances"] == 3


@pytest.mark.usefixtures("files")
def test_another_system_is_compared():
    Path("other").write_text("u-1 the cat\nu-2 hello\nu-3 good night\n")
    result = run("said", "heard", "--compare", "other", "--json", "-")
    document = json.loads(result.stdout)["comparison"]
    assert document["difference"] == pytest.approx(1 / 6, abs=1e-6)
    assert "other: WER 16.67%; heard minus that: +16.67 points" in result.stderr


@pytest.mark.usefixtures("files")
def test_what_another_system_lacks_is_told():
    Path("other").write_text("u-1 the cat sat\n")
    result = run("said", "heard", "--compare", "other", "--json", "-", "--html", "x.html")
    assert "2 without a hypothesis in other, counted as deletions: u-2, u-3" in result.stderr
    assert json.loads(result.stdout)["comparison"]["missing"] == ["u-2", "u-3"]
    assert "without a hypothesis of the second" in Path("x.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("limit", "code"), [("0.34", 0), ("34%", 0), ("33%", 5), ("0", 5), ("1.5", 0)]
)
def test_a_limit_that_is_exceeded_exits_5(limit, code):
    assert run("said", "heard", "--max-wer", limit).exit_code == code


@pytest.mark.usefixtures("files")
def test_a_limit_that_is_met_exactly_is_not_exceeded():
    """1997 / 2000 is larger than 99.85 / 100, as floating-point numbers."""
    Path("said").write_text("u-1 " + "a " * 2000)
    Path("heard").write_text("u-1 " + "a " * 3)
    assert run("said", "heard", "--max-wer", "99.85%").exit_code == 0
    result = run("said", "heard", "--max-wer", "99.849%")
    assert result.exit_code == 5
    assert "the WER is above 99.849%" in result.stderr


def test_a_wer_that_is_not_defined_exceeds_any_limit_if_words_were_put_in(files):
    Path("said").write_text("u-1\nu-3 ...\n")
    result = run("said", "heard", "--max-wer", "1")
    assert result.exit_code == 5
    assert "no WER is defined; 5 words were inserted" in result.stdout
    Path("heard").write_text("u-1\nu-3 uh\n")
    assert "no WER is defined; 1 word was inserted" in run("said", "heard").stdout
    Path("heard").write_text("u-1\nu-3\n")
    assert run("said", "heard", "--max-wer", "0").exit_code == 0


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "REFERENCES"),
        (["said", "heard", "--manifest", "said"], "holds the references already"),
        (["said", "heard", "--max-wer", "15"], "--max-wer"),
        (["said", "heard", "--max-wer", "much"], "--max-wer"),
        (["said", "heard", "--max-wer", "nan"], "--max-wer"),
        (["said", "heard", "--audio"], "--audio"),
        (["said", "heard", "--model", "x"], "--model"),
        (["said", "heard", "--beam-size", "4"], "--beam-size"),
        (["said", "heard", "--json", "heard"], "would be overwritten"),
        (["said", "heard", "--json", "x", "--pra", "x"], "would be overwritten"),
        (["said", "heard", "--pra", "said/below"], "cannot be written"),
        (["said", "heard", "--pra", "-"], "only --json goes to stdout"),
    ],
)
def test_wrong_usage_exits_2_and_changes_nothing(arguments, reason):
    result = run(*arguments)
    assert result.exit_code == 2
    assert reason in result.stderr
    assert Path("heard").read_text() == HEARD


@pytest.mark.usefixtures("files")
def test_one_file_without_hypotheses_is_not_scored_against_itself():
    result = run("said")
    assert isinstance(result.exception, TextError)
    assert "name them after the references" in str(result.exception)


@pytest.fixture
def hearing(monkeypatch):
    """A model that hears "good night", of which it is sure, and of bad.wav nothing."""

    class Stub:
        name = "stub"

        def each(self, paths):
            for path in paths:
                words = (Word("good", 0.0, 1.0, 0.9), Word("bye", 1.0, 2.0, 0.5))
                lists = (Alternative("good bye", -1.0), Alternative("good night", -2.0))
                heard = Transcript(str(path), 2.0, (Segment(0.0, 2.0, words, lists),))
                yield AudioError("not audio") if path.name == "bad.wav" else heard

    monkeypatch.setattr(transcribe.Transcriber, "load", lambda *_: Stub())


def manifest(*names, **more):
    lines = [{"audio_filepath": n, "duration": 1, "text": "good night"} | more for n in names]
    Path("m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return "m.jsonl"


@pytest.mark.usefixtures("files", "hearing")
def test_a_model_is_scored_on_a_manifest():
    result = run("--manifest", manifest("a.wav", "b.wav"), "--nbest", "2", "--json", "-")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert (document["system"], document["wer"], document["oracle"]["wer"]) == ("stub", 0.5, 0.0)
    assert [row["words"] for row in document["calibration"]["bins"] if row["words"]] == [2, 2]


@pytest.mark.usefixtures("files", "hearing")
def test_a_recording_that_cannot_be_read_counts_as_missing_and_is_not_forgotten():
    result = run("--manifest", manifest("a.wav", "bad.wav"), "--json", "-")
    assert result.exit_code == 1
    assert "bad.wav: not audio" in result.stderr
    assert json.loads(result.stdout)["missing"] == ["bad.wav"]


@pytest.mark.usefixtures("files", "hearing")
def test_only_whole_recordings_are_transcribed():
    for path in (manifest("a.wav", offset=2.5), "said"):
        result = run("--manifest", path)
        assert isinstance(result.exception, TextError)
        assert "give a NeMo manifest" in str(result.exception)


@pytest.mark.usefixtures("files")
def test_the_example_of_the_documentation_is_what_is_printed():
    Path("references.trn").write_text(
        "She said that she would come with me in the morning. (ann-1)\n"
        "They came to the tower and asked if they could see the old man. (ann-2)\n"
        "I have never seen a man who was sourer to his friends. (bob-1)\n"
    )
    Path("hypotheses.trn").write_text(
        "i have never seen a man who was soured to his friends (bob-1)\n"
        "they came to the tower and asked if they could see old man (ann-2)\n"
        "she said that she would come with me in in the morning (ann-1)\n"
    )
    result = run("references.trn", "hypotheses.trn", "--pra", "aligned.pra")
    page = (Path(__file__).parents[1] / "docs" / "scoring.md").read_text(encoding="utf-8")
    documented = [line.removeprefix("    ").rstrip() for line in page.splitlines()]
    for line in (
        *result.stdout.splitlines(),
        *Path("aligned.pra").read_text().split("\n\n")[2].splitlines(),
    ):
        assert line.rstrip() in documented


@pytest.mark.usefixtures("files")
def test_words_neither_steer_the_terminal_nor_the_table():
    Path("heard").write_text("u-1 the \x1b[31mcat [bold]sat[/bold]\nu-2 hello\n")
    result = run("said", "heard", "--normalizer", "none")
    assert "\x1b" not in result.stdout
    assert "→ [bold]sat[/bold]" in result.stdout


@pytest.mark.usefixtures("files")
def test_ids_do_not_steer_the_terminal():
    Path("heard").write_text("u-1 the cat\nu-2\x9b2J x\nu-\x1b[31m9 x\n")
    result = runner.invoke(app, ["score", "said", "heard"], color=True)
    assert "u-2\ufffd2J, u-\ufffd[31m9" in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("options", [["--pra", "kept"], ["-q", "--json", "-"]])
def test_a_full_stdout_is_one_line_and_files_are_written_first(options):
    command = [sys.executable, "-m", "hyperasr", "score", "said", "said", *options]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, env=HERE, check=False
        )
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "cannot write to stdout: no space left on device" in done.stderr
    assert Path("kept").exists() == ("kept" in options)


def test_scoring_of_texts_does_not_wait_for_torch(files):
    code = (
        "import sys, hyperasr.cli as cli; sys.argv = ['hyperasr', 'score', 'said', 'heard']\n"
        "try: cli.main()\n"
        "except SystemExit as end: sys.exit(end.code or int('torch' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=HERE, check=False)
    assert done.returncode == 0, done.stderr
