"""A folder of LibriSpeech becomes manifests; what cannot be trained on is named."""

import json
import os
import signal
from pathlib import Path

import pytest
from sounds import SAMPLE_RATE, record, tone
from training import tiny_models as tiny_models
from typer.testing import CliRunner

from hyperasr.cli import app
from hyperasr.errors import ConfigError, ManifestError
from hyperasr.manifest import read_manifest
from hyperasr.train import librispeech
from hyperasr.train.librispeech import count_utterances, find_subsets, prepare

SAID = {"84-1-0000": "ABLE BAKER", "84-1-0001": "CHARLIE'S", "85-2-0000": "DOG"}


def corpus(root: Path, said: dict[str, str], subset: str = "train-clean-100") -> Path:
    """A subset of one second each; returns its folder."""
    transcripts: dict[Path, list[str]] = {}
    for number, (id, text) in enumerate(said.items()):
        speaker, chapter, _ = id.split("-")
        folder = root / subset / speaker / chapter
        folder.mkdir(parents=True, exist_ok=True)
        record(folder / f"{id}.flac", tone(1 + number / 8, SAMPLE_RATE, 300.0))
        transcripts.setdefault(folder / f"{speaker}-{chapter}.trans.txt", []).append(f"{id} {text}")
    for path, lines in transcripts.items():
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / subset


def prepared(root: Path) -> tuple[list[dict], tuple[str, ...]]:
    """The lines of the only manifest and what was wrong."""
    (subset,) = prepare(find_subsets(root), root / "out")
    lines = subset.manifest.read_text(encoding="utf-8").splitlines()
    assert subset.utterances == len(lines)
    return [json.loads(line) for line in lines], subset.problems


def test_a_subset_becomes_a_manifest(tmp_path):
    corpus(tmp_path, SAID)
    entries, problems = prepared(tmp_path)
    assert problems == ()
    assert [entry["text"] for entry in entries] == ["able baker", "charlie's", "dog"]
    assert [entry["duration"] for entry in entries] == [1.0, 1.125, 1.25]
    assert [entry["speaker"] for entry in entries] == ["84", "84", "85"]
    assert {entry["source"] for entry in entries} == {"train-clean-100"}
    utterances = read_manifest(tmp_path / "out" / "train-clean-100.jsonl")
    assert all(utterance.audio.is_file() for utterance in utterances)


def test_subsets_are_found_in_the_folder_or_in_the_librispeech_in_it(tmp_path):
    corpus(tmp_path / "LibriSpeech", SAID)
    corpus(tmp_path / "LibriSpeech", SAID, "dev-clean")
    (tmp_path / "LibriSpeech" / "README.TXT").write_text("about it")
    for folder in (tmp_path, tmp_path / "LibriSpeech"):
        assert list(find_subsets(folder)) == ["dev-clean", "train-clean-100"]
    assert count_utterances(find_subsets(tmp_path).values()) == 6
    for folder in (tmp_path / "LibriSpeech" / "dev-clean", tmp_path / "missing"):
        with pytest.raises(ManifestError, match=r"expected SUBSET/SPEAKER/CHAPTER/\*\.trans\.txt"):
            find_subsets(folder)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("CHAPTER 12", "has 1 2, outside the alphabet"),
        ("ЯЖ", "has Ж Я, outside the alphabet"),
        ("", "its text is empty"),
        ("...", "its text is empty"),
        ("A" * 40, "1.1 s are too short for its text of 40 letters"),
    ],
)
def test_a_text_that_cannot_be_learnt_is_named(tmp_path, text, reason):
    corpus(tmp_path, SAID | {"84-1-0001": text})
    entries, (problem,) = prepared(tmp_path)
    assert len(entries) == 2
    assert "84-1-0001.flac: " in problem
    assert reason in problem


def test_accents_and_dots_can_be_spelled(tmp_path):
    corpus(tmp_path, {"84-1-0000": "Café, à la carte."})
    entries, problems = prepared(tmp_path)
    assert (entries[0]["text"], problems) == ("cafe a la carte", ())


def test_a_recording_that_is_missing_damaged_or_without_text_is_named(tmp_path):
    folder = corpus(tmp_path, SAID) / "84" / "1"
    (folder / "84-1-0000.flac").unlink()
    damaged = folder / "84-1-0001.flac"
    damaged.write_bytes(damaged.read_bytes()[:2000])
    record(folder / "84-1-0007.flac", tone(1, SAMPLE_RATE))
    entries, (missing, cut, silent) = prepared(tmp_path)
    assert [entry["text"] for entry in entries] == ["dog"]
    assert "84-1-0000.flac: no such file, but a text in 84-1.trans.txt" in missing
    assert "84-1-0001.flac: " in cut
    assert "84-1-0007.flac: no text" in silent


def test_a_transcript_that_is_damaged_is_named(tmp_path):
    folder = corpus(tmp_path, SAID)
    (folder / "85/2/85-2.trans.txt").write_bytes(b"85-2-0000 \xff\xfe\n")
    with (folder / "84/1/84-1.trans.txt").open("a") as file:
        file.write("84-1-0000 AGAIN\n\n")
    entries, problems = prepared(tmp_path)
    assert [entry["text"] for entry in entries] == ["able baker", "charlie's"]
    assert any("84-1.trans.txt: 84-1-0000 is there twice" in problem for problem in problems)
    assert any("85-2.trans.txt: cannot be read" in problem for problem in problems)


def test_nothing_usable_in_a_subset_is_its_first_problem_and_no_manifest(tmp_path):
    folder = corpus(tmp_path, {"84-1-0000": "12"})
    (subset,) = prepare(find_subsets(tmp_path), tmp_path / "out")
    assert (subset.utterances, subset.manifest.exists()) == (0, False)
    nothing, reason = subset.problems
    assert nothing == f"{folder}: none of its recordings can be used"
    assert "84-1-0000.flac: its text has 1 2" in reason


# -- the command --------------------------------------------------------------------------


def run(*arguments: str | Path):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_tells_hours_on_stdout_and_problems_on_stderr(tmp_path):
    corpus(tmp_path, SAID)
    corpus(tmp_path, SAID | {f"86-3-{n:04}": "12" for n in range(15)}, "dev-clean")
    out = tmp_path / "manifests"
    result = run("prepare", "librispeech", tmp_path, "-o", out)
    assert result.exit_code == 1, "something was left out"
    assert result.stdout.splitlines() == [
        f"{out}/dev-clean.jsonl: 3 utterances, 0.0 h, 2 speakers",
        f"{out}/train-clean-100.jsonl: 3 utterances, 0.0 h, 2 speakers",
    ]
    assert result.stderr.count("86-3-") == 10, "not all of them"
    assert f"15 left out: see {out / 'problems.txt'}" in result.stderr
    assert len((out / "problems.txt").read_text().splitlines()) == 15

    one = run("prepare", "librispeech", tmp_path, "-o", out, "--subset", "train-clean-100")
    assert (one.exit_code, len(one.stdout.splitlines()), one.stderr) == (0, 1, "")
    none = run("prepare", "librispeech", tmp_path, "-o", out, "--subset", "test-clean")
    assert isinstance(none.exception, ConfigError)
    assert "no test-clean; there are dev-clean, train-clean-100" in str(none.exception)


SMALL = ["--set", "batch_seconds=4", "--set", "max_utterance=2", "--set", "vocab_size=0"]


def test_training_from_a_librispeech_folder_prepares_it_once(tmp_path, monkeypatch):
    corpus(tmp_path / "speech", SAID)
    corpus(tmp_path / "speech", SAID, "dev-clean")
    corpus(tmp_path / "speech", SAID, "test-clean")
    command = ["train", "--recipe", "librispeech-8m", "--librispeech", tmp_path / "speech"]
    command += ["-o", tmp_path / "run", "--model", "tiny", "--epochs", "2", *SMALL]
    result = run(*command)
    assert result.exit_code == 0, result.output
    assert "WER on dev" in result.stdout
    manifests = sorted(path.name for path in (tmp_path / "run" / "manifests").iterdir())
    assert manifests == ["dev-clean.jsonl", "train-clean-100.jsonl"]
    assert (tmp_path / "run" / "best" / "decoder.safetensors").exists()

    monkeypatch.setattr("hyperasr.train.librispeech.prepare", lambda *_: pytest.fail("again"))
    again = run(*command)
    assert again.exit_code == 0, again.output
    assert "steps already" in again.stderr


def test_a_folder_without_train_subsets_is_refused(tmp_path):
    corpus(tmp_path, SAID, "test-clean")
    result = run("train", "--librispeech", tmp_path, "-o", tmp_path / "run")
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception) == f"{tmp_path}: has no train subset; there are test-clean"


def test_another_corpus_is_prepared_anew_and_the_same_is_told(tmp_path):
    for name in ("one", "two"):
        corpus(tmp_path / name, SAID)
    tiny = [
        "--model",
        "tiny",
        "--steps",
        "1",
        "--precision",
        "float32",
        "--set",
        "batch_seconds=25",
    ]
    said = []
    for name in ("one", "one", "two"):
        result = run("train", "--librispeech", tmp_path / name, "-o", tmp_path / "run", *tiny)
        assert result.exit_code == 0, result.output
        said.append("taken as they are; delete them where" in result.stderr)
    assert said == [False, True, False]
    manifest = tmp_path / "run" / "manifests" / "train-clean-100.jsonl"
    assert all(u.audio.is_relative_to(tmp_path / "two") for u in read_manifest(manifest))


def test_a_subset_with_nothing_in_it_does_not_stop_the_others(tmp_path):
    corpus(tmp_path, SAID)
    corpus(tmp_path, {"84-1-0000": "12"}, "dev-clean")
    result = run("prepare", "librispeech", tmp_path, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stdout.startswith(f"{tmp_path / 'out' / 'train-clean-100.jsonl'}: 3 utterances")
    assert "dev-clean: none of its recordings can be used" in result.stderr
    only = run("prepare", "librispeech", tmp_path, "-o", tmp_path / "o", "--subset", "dev-clean")
    assert isinstance(only.exception, ManifestError)
    assert "none of its recordings can be used" in str(only.exception)
    assert "84-1-0000" in (tmp_path / "o" / "problems.txt").read_text()


def test_the_list_of_problems_is_of_this_time(tmp_path):
    corpus(tmp_path, SAID)
    lost = tmp_path / "train-clean-100" / "84" / "1" / "84-1-0000.flac"
    sound = lost.read_bytes()
    lost.unlink()
    assert run("prepare", "librispeech", tmp_path, "-o", tmp_path / "out").exit_code == 1
    assert "84-1-0000" in (tmp_path / "out" / "problems.txt").read_text()
    lost.write_bytes(sound)
    assert run("prepare", "librispeech", tmp_path, "-o", tmp_path / "out").exit_code == 0
    assert not (tmp_path / "out" / "problems.txt").exists()


def test_folders_that_may_not_be_looked_into_are_told(tmp_path, monkeypatch):
    subset = corpus(tmp_path, SAID)
    closed = subset / "84"
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != closed)
    _, problems = prepared(tmp_path)
    assert f"{closed}: may not be looked into: change its permissions" in problems
    for closed in (subset, tmp_path):
        with pytest.raises(ManifestError, match=f"{closed}: may not be looked into"):
            find_subsets(tmp_path)


def test_ends_of_lines_that_were_lost_are_told(tmp_path):
    corpus(tmp_path, SAID | {"84-1-0002": "LAST"})
    path = tmp_path / "train-clean-100" / "84" / "1" / "84-1.trans.txt"
    path.write_text(path.read_text() + "X" * 400 + "\n")
    entries, problems = prepared(tmp_path)
    assert len(entries) == 4
    assert problems == (f"{path}: {'X' * 20}...: File name too long",)


def test_a_folder_whose_name_is_no_utf8(tmp_path):
    corpus(tmp_path / "corpus", SAID)
    root = (tmp_path / "corpus").rename(tmp_path / os.fsdecode(b"corp\xe9"))
    list(prepare(find_subsets(root), tmp_path / "out"))
    utterances = read_manifest(tmp_path / "out" / "train-clean-100.jsonl")
    assert all(utterance.audio.is_file() for utterance in utterances)


def test_sigterm_while_listening_is_as_ctrl_c(tmp_path, monkeypatch):
    corpus(tmp_path, SAID)
    monkeypatch.setattr(librispeech, "_check", lambda line: os.kill(os.getpid(), signal.SIGTERM))
    result = run("prepare", "librispeech", tmp_path, "-o", tmp_path / "out")
    assert (result.exit_code, result.stderr) == (130, "hyperasr: interrupted\n")
