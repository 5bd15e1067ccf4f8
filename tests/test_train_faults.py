"""Training goes wrong: no number for a loss, damaged audio, full disks, signals, other settings."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_prepare import run
from training import PLAIN, QUIET, batch_of, check_same, config_of, equal, losses, metrics, state_in
from training import tiny_models as tiny_models
from training import tones as tones

from hyperasr.checkpoint import load_checkpoint
from hyperasr.cli import train as cli_train
from hyperasr.errors import ConfigError, HyperAsrError, OutputError
from hyperasr.train import learner, loop, state
from hyperasr.train import metrics as train_metrics
from hyperasr.train.loop import Trainer


def command(manifest: Path, folder: Path, *more: str | Path):
    """`hyperasr train` with the tiny model, two passes."""
    small = ["batch_seconds=3", "length_step=0.5", "max_utterance=2", "warmup_steps=3"]
    settings = [part for setting in small for part in ("--set", setting)]
    options = ["--model", "tiny", "--epochs", "2", "--precision", "float32", *settings]
    return run("train", "--manifest", manifest, "-o", folder, *options, *more)


# -- losses that are no number ------------------------------------------------------------


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_steps_without_a_number_are_skipped_counted_and_told(tones, tmp_path, monkeypatch, bad):
    broken, before = {2, 5}, Trainer.train_step

    def step(trainer, batch, stop=False):
        mean = trainer.learner.features.mean.clone()
        if trainer.step + 1 in broken:
            trainer.learner.features.mean.fill_(bad)
        found = before(trainer, batch, stop)
        trainer.learner.features.mean.copy_(mean)
        return found

    monkeypatch.setattr(Trainer, "train_step", step)
    result = command(tones, tmp_path)
    assert result.exit_code == 0, result.output
    skipped = [(entry["step"], entry["skipped"]) for entry in metrics(tmp_path)]
    assert skipped == [(n, sum(b <= n for b in broken)) for n, _ in skipped]
    assert "2 steps skipped: their loss was no number" in result.stderr
    assert state_in(tmp_path)["skipped"] == 2
    entries = train_metrics.read_metrics(tmp_path)
    assert [entry["step"] for entry in entries if entry["loss"] is None] == sorted(broken)


def test_a_report_tells_the_mean_of_the_losses_that_are_numbers():
    assert loop._mean([1.0, float("nan"), 3.0]) == 2.0
    assert np.isnan(loop._mean([float("inf")]))


def test_too_many_in_a_row_end_the_run_and_its_last_state_stays(tones, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "PATIENCE", 3)
    config = config_of(tones, save_steps=1, **QUIET)
    first = Trainer(config, tmp_path)
    first.run(stop=lambda: first.step == 1)
    trainer = Trainer(config, tmp_path)
    trainer.learner.features.std.fill_(torch.nan)
    with pytest.raises(HyperAsrError, match="3 steps in a row: lower learning_rate"):
        trainer.run()
    weights = state_in(tmp_path)["encoder"].values()
    assert all(weight.isfinite().all() for weight in weights)


# -- recordings ---------------------------------------------------------------------------


def test_a_damaged_recording_is_named_and_the_rest_is_trained_on(tones, tmp_path):
    lines = tones.read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    for entry in entries:
        entry["audio_filepath"] = str(tones.parent / entry["audio_filepath"])
    entries[3]["audio_filepath"] = str(tmp_path / "damaged.wav")
    (tmp_path / "damaged.wav").write_bytes((tones.parent / "3.wav").read_bytes()[:40])
    manifest = tmp_path / "train.jsonl"
    manifest.write_text("\n".join(map(json.dumps, entries)))
    result = command(manifest, tmp_path / "run")
    assert result.exit_code == 0, result.output
    said = [line for line in result.stderr.splitlines() if "damaged.wav" in line]
    assert len(said) == 1
    assert said[0].endswith("; left out")
    assert state_in(tmp_path / "run")["step"] > 0


def test_a_source_without_words_is_in_no_rate(tones, tmp_path):
    entries = [json.loads(line) for line in tones.read_text().splitlines()]
    for entry in entries:
        entry["audio_filepath"] = str(tones.parent / entry["audio_filepath"])
    entries[0] |= {"text": "", "source": "noise"}
    (tmp_path / "dev.jsonl").write_text("\n".join(map(json.dumps, entries)))
    config = config_of(tones, steps=2, dev=str(tmp_path / "dev.jsonl"))
    last = Trainer(config, tmp_path / "run").run()
    assert set(last.by_source) == {"tones"}
    assert state_in(tmp_path / "run")["step"] == 2


# -- a disk that is full ------------------------------------------------------------------


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_keeps_the_last_state_and_checkpoint(tones, tmp_path, monkeypatch):
    config = config_of(tones, dev=str(tones), save_steps=1, **QUIET)
    Trainer(config, tmp_path / "whole").run()
    folder = tmp_path / "run"
    first = Trainer(config, folder)
    first.run(stop=lambda: first.step == 5)
    kept = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with monkeypatch.context() as context:
        context.setattr(Path, "write_bytes", full)
        with pytest.raises(OutputError, match=r"state\.pt: no space left on device; free some"):
            Trainer(config, folder).run()
        with pytest.raises(OSError, match="No space left"):
            Trainer(config, folder).learner.save(folder / "checkpoint")
    names = ("state.pt", "checkpoint/model.safetensors", "checkpoint/config.json")
    assert all((folder / name).read_bytes() == kept[folder / name] for name in names)
    assert not list(folder.rglob("*.part*")), "nothing half-written is left"
    load_checkpoint(folder / "checkpoint")
    Trainer(config, folder).run()  # there is room again
    check_same(folder, tmp_path / "whole")


def test_a_full_disk_at_the_moment_of_renaming_keeps_the_last_state(tones, tmp_path, monkeypatch):
    trainer = Trainer(config_of(tones, steps=2), tmp_path)
    trainer.run()
    before = state_in(tmp_path)
    trainer.train_step(batch_of(trainer))
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OutputError, match=r"state\.pt: no space left"):
        trainer.save_state()
    assert equal(state_in(tmp_path), before)


def test_metrics_stay_where_they_cannot_be_written_anew(tones, tmp_path, monkeypatch):
    Trainer(config_of(tones, steps=2), tmp_path).run()
    before = (tmp_path / "metrics.jsonl").read_bytes()
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OutputError, match=r"metrics\.jsonl: no space left"):
        Trainer(config_of(tones, steps=2), tmp_path)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_a_full_disk_is_one_line_for_the_user(tones, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "save_state", full)
    result = command(tones, tmp_path)
    assert isinstance(result.exception, OutputError)
    assert "no space left on device; free some disk space or write" in str(result.exception)


def test_the_steps_are_not_lost_where_a_checkpoint_cannot_be_written(tones, tmp_path, monkeypatch):
    with monkeypatch.context() as context:
        context.setattr(learner, "save_checkpoint", full)
        with pytest.raises(OSError, match="No space left"):
            Trainer(config_of(tones, save_steps=100), tmp_path / "run").run()
    assert state_in(tmp_path / "run")["step"] == 2, "those of the first pass"
    Trainer(config_of(tones, save_steps=100), tmp_path / "run").run()
    Trainer(config_of(tones, save_steps=100), tmp_path / "whole").run()
    check_same(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize("name", ["checkpoint", "best"])
def test_a_folder_of_others_is_refused_before_anything_is_trained(tones, tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "notes.txt").write_text("mine")
    result = command(tones, tmp_path)
    assert isinstance(result.exception, OutputError)
    assert f"{name} exists and is no checkpoint" in str(result.exception)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_a_folder_where_a_file_stands_is_told_as_such(tones, tmp_path):
    (tmp_path / "file").write_text("mine")
    result = command(tones, tmp_path / "file")
    assert "file exists; a file stands where a folder is needed" in str(result.exception)


# -- signals and settings -----------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_same_command_goes_on(tones, tmp_path, monkeypatch, number):
    assert command(tones, tmp_path / "whole").exit_code == 0
    before, handler = Trainer.train_step, signal.getsignal(number)

    def step(trainer, batch, stop=False):
        if trainer.step == 3:
            os.kill(os.getpid(), number)
        return before(trainer, batch, stop)

    with monkeypatch.context() as context:
        context.setattr(Trainer, "train_step", step)
        result = command(tones, tmp_path / "run")
    assert result.exit_code == 130
    stopped_at = state_in(tmp_path / "run")["step"]
    assert stopped_at in (4, 5), "the step that was under way, and perhaps the one that was asked"
    assert f"stopped at step {stopped_at}; the same command goes on from there" in result.stderr
    assert signal.getsignal(number) is handler
    assert command(tones, tmp_path / "run").exit_code == 0
    check_same(tmp_path / "run", tmp_path / "whole")


def test_sigterm_before_there_is_anything_to_save_is_as_ctrl_c(tones, tmp_path, monkeypatch):
    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(loop, "load_corpus", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    result = command(tones, tmp_path)
    assert result.exit_code == 130
    assert result.stderr == "hyperasr: interrupted\n"
    assert signal.getsignal(signal.SIGTERM) is handler


def test_ctrl_c_once_more_ends_at_once(tones, tmp_path, monkeypatch):
    """Long after the first one, while something takes its time; the last state stays."""
    monkeypatch.setattr(cli_train, "PASSED_ON", 0.0)

    def step(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("it goes on")

    monkeypatch.setattr(Trainer, "train_step", step)
    result = command(tones, tmp_path)
    assert result.exit_code == 130
    said = [line for line in result.stderr.splitlines() if line.startswith("hyperasr: ")]
    assert said[-2:] == [
        "hyperasr: stops after this step; Ctrl-C once more ends at once, at the last saved state",
        "hyperasr: interrupted",
    ]


def test_a_signal_after_the_last_step_does_not_make_a_finished_run_unfinished(
    tones, tmp_path, monkeypatch
):
    before = Trainer.save_state

    def save(trainer):
        if trainer.finished():
            os.kill(os.getpid(), signal.SIGTERM)
        before(trainer)

    monkeypatch.setattr(Trainer, "save_state", save)
    result = command(tones, tmp_path)
    assert result.exit_code == 0
    assert "stopped at" not in result.stderr


# -- a folder for one run -----------------------------------------------------------------


def test_two_runs_do_not_share_a_folder(tones, tmp_path):
    trainer = Trainer(config_of(tones, steps=2), tmp_path)
    other = subprocess.run(
        [sys.executable, "-m", "hyperasr", "train", "--manifest", tones, "-o", tmp_path],
        capture_output=True,
        text=True,
    )
    assert other.returncode == 2
    assert f"{tmp_path}: another run is at work in this folder" in other.stderr
    trainer.run()
    Trainer(config_of(tones, steps=3), tmp_path).run()


def test_what_a_killed_run_left_is_tidied(tones, tmp_path):
    Trainer(config_of(tones, steps=2), tmp_path).run()
    names = sorted(path.name for path in tmp_path.iterdir())
    (tmp_path / ".hyperasr-0123.part").write_bytes(b"half a state")
    (tmp_path / ".best.0123.partial").mkdir()
    (tmp_path / "kept" / ".step-7.0123.partial").mkdir(parents=True)
    (tmp_path / "checkpoint").rename(tmp_path / ".checkpoint.0123.old")  # killed between two moves
    Trainer(config_of(tones, steps=2), tmp_path).run()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "kept"])
    assert list((tmp_path / "kept").iterdir()) == []
    load_checkpoint(tmp_path / "checkpoint")


def test_a_run_that_began_without_a_checkpoint_is_not_said_to_have(tones, tmp_path):
    Trainer(config_of(tones, steps=2), tmp_path / "run").run()
    began = config_of(tones, steps=3, init=str(tmp_path / "run" / "checkpoint"))
    with pytest.raises(
        ConfigError, match=r"run began otherwise: init .* \(was \"\"\): set it back"
    ):
        Trainer(began, tmp_path / "run")


def test_steps_and_passes_contradict_each_other(tones, tmp_path):
    result = command(tones, tmp_path, "--steps", "5")
    assert result.exit_code == 2
    assert "--epochs" in result.stderr


@pytest.mark.parametrize("letters", [("ä", "ö"), ("", "ä")])
def test_a_state_of_other_tokens_is_refused(tones, tmp_path, letters):
    before, after = letters
    Trainer(config_of(tones, steps=2, letters=before), tmp_path).run()
    with pytest.raises(ConfigError, match=r"state\.pt is of other tokens: set letters back"):
        Trainer(config_of(tones, steps=3, letters=after), tmp_path)


def test_subwords_that_are_gone_are_not_learnt_anew(tones, tmp_path):
    config = config_of(tones, steps=2, vocab_size=33)
    Trainer(config, tmp_path).run()
    (tmp_path / "tokenizer.model").unlink()
    with pytest.raises(ConfigError, match=r"tokenizer\.model is not there.*put it back"):
        Trainer(config, tmp_path)


@pytest.mark.parametrize("held", ["text", torch.zeros(3), {"step": "2"}, {}, [1]])
def test_a_state_that_is_none_is_one_line(tones, tmp_path, held):
    Trainer(config_of(tones, steps=2), tmp_path).run()
    if isinstance(held, dict) and held:
        held = state_in(tmp_path) | held
    torch.save(held, tmp_path / "state.pt")
    with pytest.raises(ConfigError, match=r"state\.pt is damaged .* choose another folder$"):
        Trainer(config_of(tones, steps=3), tmp_path)


def test_other_settings_are_told_in_one_line(tones, tmp_path):
    Trainer(config_of(tones, steps=2, **PLAIN), tmp_path).run()
    said: list[str] = []
    again = config_of(tones, steps=3, learning_rate=0.5, **PLAIN)
    Trainer(again, tmp_path, say=said.append)
    (line,) = [line for line in said if "other settings" in line]
    assert line == (
        f"{tmp_path}: goes on with other settings: steps 3 (was 2), learning_rate 0.5 (was 0.01)"
    )
    said.clear()
    Trainer(again, tmp_path, say=said.append)
    assert not [line for line in said if "other settings" in line], "they are the run's now"


def test_a_state_of_another_optimiser_names_the_setting_that_changed(tones, tmp_path):
    Trainer(config_of(tones, steps=2), tmp_path).run()
    with pytest.raises(ConfigError, match=r"set back .* optimizer muon \(was adamw\)"):
        Trainer(config_of(tones, steps=3, optimizer="muon"), tmp_path)
    (tmp_path / "settings.json").unlink()
    with pytest.raises(ConfigError, match=r"choose another folder$"):
        Trainer(config_of(tones, steps=3, optimizer="muon"), tmp_path)


def test_settings_that_cannot_be_read_or_are_older_are_no_reason_to_complain(tones, tmp_path):
    config = config_of(tones, steps=2)
    state.save_settings(tmp_path, config)
    assert state.changed_settings(tmp_path, config) == ""
    older = json.loads((tmp_path / "settings.json").read_text())
    del older["gain_range"]  # there was no such setting yet
    (tmp_path / "settings.json").write_text(json.dumps(older))
    assert state.changed_settings(tmp_path, config) == ""
    long = config_of(tones, steps=2, dev="x" * 100)
    assert state.changed_settings(tmp_path, long) == f'dev {"x" * 36} ... (was "")'
    for damaged in ("{", "[]", ""):
        (tmp_path / "settings.json").write_text(damaged)
        assert state.changed_settings(tmp_path, config) == ""


def test_a_run_of_before_skipped_steps_were_counted_goes_on(tones, tmp_path):
    Trainer(config_of(tones, steps=2), tmp_path).run()
    old = state_in(tmp_path)
    del old["skipped"]
    torch.save(old, tmp_path / "state.pt")
    trainer = Trainer(config_of(tones, steps=3), tmp_path)
    trainer.run()
    assert (trainer.skipped, losses(tmp_path)[-1][0]) == (0, 3)
