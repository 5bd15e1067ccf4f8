"""The product as a newcomer meets it: the bundled model, the example, the installed command."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hyperasr.folder import DEFAULT_MODEL, find_checkpoint
from hyperasr.manifest import read_manifest
from hyperasr.score.wer import word_errors
from hyperasr.tokens import CharTokens
from hyperasr.transcribe import Transcriber

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "morning.flac"


@pytest.fixture(scope="module")
def transcriber():
    return Transcriber.load()


def hyperasr(*arguments):
    command = [sys.executable, "-m", "hyperasr", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_first_command_of_the_readme_prints_what_the_readme_says():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    promised = re.search(r"transcribe examples/morning.flac\n```\n\n```\n(.*?)```", readme, re.S)
    result = hyperasr("transcribe", EXAMPLE)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == promised.group(1)


def test_most_words_of_the_example_are_right(transcriber):
    expected = CharTokens().normalise(EXAMPLE.with_suffix(".txt").read_text(encoding="utf-8"))
    assert word_errors([(expected, transcriber(EXAMPLE).text)]).rate < 0.5


def test_the_bundled_model_is_small():
    folder = find_checkpoint(DEFAULT_MODEL)
    assert (folder / "model.safetensors").stat().st_size < 20e6
    assert (folder / "lm.binary").stat().st_size < 25e6


def test_people_the_model_never_heard_are_understood_as_the_card_says(transcriber, speech):
    """A sample of dev: within 15 points of the whole, which benchmarks/accuracy.py measures."""
    card = (find_checkpoint(DEFAULT_MODEL) / "README.md").read_text(encoding="utf-8")
    promised = float(re.search(r"^\| all \|.*\| ([\d.]+) %[^|]*\|$", card, re.M).group(1)) / 100
    sample = read_manifest(speech / "dev.jsonl")[::12]
    pairs = [(utterance.text, transcriber(utterance.audio).text) for utterance in sample]
    assert word_errors(pairs).rate < promised + 0.15


def test_bad_input_is_one_line_each_and_the_rest_is_done(tmp_path):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("this is not audio")
    (tmp_path / "folder.wav").mkdir()
    bad = [tmp_path / name for name in ("empty.wav", "text.wav", "folder.wav", "gone.wav")]
    result = hyperasr("transcribe", *bad, EXAMPLE, "-o", tmp_path / "out")
    assert result.returncode == 1
    *lines, summary = result.stderr.splitlines()
    assert summary == "hyperasr: 3 of 4 files failed"
    bad.insert(0, bad.pop(2))  # that a folder holds nothing is told before anything is heard
    for path, line in zip(bad, lines, strict=True):
        assert line.startswith(f"hyperasr: {path}: ")
    assert (tmp_path / "out" / "morning.txt").read_text(encoding="utf-8").strip()
    assert "Traceback" not in result.stderr


def test_a_model_that_cannot_be_opened_exits_3(tmp_path):
    result = hyperasr("transcribe", EXAMPLE, "-m", tmp_path / "none")
    assert result.returncode == 3
    assert len(result.stderr.splitlines()) == 1
    assert str(tmp_path / "none") in result.stderr
