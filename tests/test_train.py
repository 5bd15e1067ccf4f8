"""Training runs of a tiny model on tones: steps, kills and resumes."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training import (
    PLAIN,
    QUIET,
    TEXTS,
    TINY,
    Killed,
    batch_of,
    check_same,
    config_of,
    equal,
    evaluations,
    kill_at,
    losses,
    metrics,
    state_in,
)
from training import tiny_models as tiny_models
from training import tones as tones

from hyperasr.checkpoint import load_checkpoint
from hyperasr.encoder import Encoder
from hyperasr.errors import ConfigError, HyperAsrError, ManifestError
from hyperasr.train import loop
from hyperasr.train.config import TrainConfig, load_config
from hyperasr.train.corpus import Corpus
from hyperasr.train.evaluate import Evaluation
from hyperasr.train.loop import Progress, Trainer

# -- one run ------------------------------------------------------------------------------


def test_a_run_learns_and_leaves_checkpoints_and_metrics(tones, tmp_path):
    long = {"steps": 60, "learning_rate": 2e-2, "batch_seconds": 4.0, "first_speakers": ()}
    config = config_of(tones, manifests=(str(tones),) * 5, dev=str(tones), **long, **PLAIN)
    folder, reports = tmp_path / "new" / "run", []
    trainer = Trainer(config, folder)
    batch = batch_of(trainer)
    features, frames = trainer.learner.features(batch.waveforms, batch.lengths)
    bands = torch.cat([x[:n] for x, n in zip(features, frames, strict=True)])
    torch.testing.assert_close(bands.mean(0), torch.zeros(80), atol=1e-3, rtol=0)
    torch.testing.assert_close(bands.std(0, correction=0), torch.ones(80), atol=1e-3, rtol=0)

    last = trainer.run(reports.append)
    assert last == reports[-1]
    assert last.wer <= 0.2, "eight recordings are soon learnt by heart"
    assert last.by_source == {"tones": last.wer}
    found = [loss for _, loss in losses(folder)]
    assert np.mean(found[-10:]) < 0.1 * np.mean(found[:10])
    assert [report.step for report in reports] == [entry["step"] for entry in metrics(folder)]
    assert [step for step, _ in losses(folder)] == list(range(1, 61))
    assert evaluations(folder)[-1] == (60, last.wer)
    assert load_config(None, json.loads((folder / "settings.json").read_text())) == config

    saved = load_checkpoint(folder / "checkpoint")
    for ours, theirs in (
        (trainer.learner.averaged, saved.encoder),
        (trainer.learner.features, saved.features),
    ):
        in_half = {name: x.half().float() for name, x in ours.state_dict().items()}
        assert equal(in_half, dict(theirs.state_dict()))
    assert saved.encoder.config == replace(TINY, dropout=0.0)


def test_best_is_the_checkpoint_with_the_lowest_wer(tones, tmp_path):
    trainer = Trainer(config_of(tones, dev=str(tones), **QUIET), tmp_path)
    wers, weights = iter([0.5, 0.2, 0.2, 0.4, 0.3, 0.6]), {}

    def score(encoder: Encoder, dev: Corpus) -> Evaluation:
        wer = next(wers)
        weights.setdefault(wer, encoder.ctc.weight.half().float())
        return Evaluation(trainer.step, wer, {})

    trainer._score_dev = score
    trainer.run()
    for name, wer in (("best", 0.2), ("checkpoint", 0.6)):
        assert torch.equal(load_checkpoint(tmp_path / name).encoder.ctc.weight, weights[wer])
    assert trainer.best_wer == 0.2


def test_the_average_follows_the_weights(tones, tmp_path):
    trainer = Trainer(config_of(tones, average_decay=0.5), tmp_path)
    expected = None
    for step in range(8):
        trainer.train_step(batch_of(trainer, 0))
        trainer.step += 1
        current = trainer.learner.encoder.ctc.weight.detach().clone()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = current if expected is None else decay * expected + (1 - decay) * current
        torch.testing.assert_close(trainer.learner.averaged.ctc.weight, expected)


def test_every_step_is_made_at_its_learning_rate(tones, tmp_path):
    trainer, used = Trainer(config_of(tones), tmp_path), []
    trainer.run(
        lambda _: used.append(trainer.learner.optimizers["optimizer"].param_groups[0]["lr"])
    )
    shares = [1 / 3, 2 / 3, *[1] * 7, 3 / 4, 2 / 4, 1 / 4]
    assert used == pytest.approx([1e-2 * share for share in shares])
    assert [entry["learning_rate"] for entry in metrics(tmp_path)] == [*used[1:], 0.0]


def test_the_first_speakers_are_heard_as_they_are(tones, tmp_path, monkeypatch):
    trainer, masked = Trainer(config_of(tones), tmp_path), []
    heard = {pick for batch in trainer._plan() for pick in batch}
    found = {(trainer.corpus.utterances[pick.index].speaker, pick.speed) for pick in heard}
    assert found == {("x", 1.0)}
    monkeypatch.setattr(loop, "spec_augment", lambda x, *_: masked.append(trainer.step) or x)
    trainer.run()
    assert masked == list(range(5, 12))


def test_a_text_too_long_for_its_sound_does_no_harm(tones, tmp_path):
    trainer = Trainer(config_of(tones), tmp_path)
    utterances = (replace(trainer.corpus.utterances[0], text="ab" * 100),)
    trainer.corpus = replace(trainer.corpus, utterances=utterances)
    assert trainer.train_step(batch_of(trainer)).ctc == 0.0
    assert all(p.isfinite().all() for p in trainer.learner.encoder.parameters())


def test_a_step_without_a_number_changes_nothing(tones, tmp_path):
    trainer = Trainer(config_of(tones), tmp_path)
    batch, std = batch_of(trainer), trainer.learner.features.std.clone()
    parts = [part for name, part in trainer.learner.parts().items() if name != "features"]
    assert trainer.train_step(batch).ctc > 0
    before = copy.deepcopy([part.state_dict() for part in parts])
    trainer.learner.features.std.fill_(torch.nan)
    assert np.isnan(trainer.train_step(batch).ctc)
    assert equal([part.state_dict() for part in parts], before)
    trainer.learner.features.std.copy_(std)
    assert trainer.train_step(batch).ctc > 0
    assert all(p.isfinite().all() for p in trainer.learner.encoder.parameters())
    assert all(not equal(part.state_dict(), x) for part, x in zip(parts, before, strict=True))


def test_a_run_gives_up_after_many_such_steps_in_a_row(tones, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "PATIENCE", 3)
    trainer = Trainer(config_of(tones), tmp_path)
    batch, std = batch_of(trainer, 0), trainer.learner.features.std.clone()
    for value in (torch.nan, torch.nan, std, torch.nan, torch.nan, std):
        trainer.learner.features.std.copy_(torch.as_tensor(value))
        trainer.train_step(batch)
    trainer.learner.features.std.fill_(torch.nan)
    with pytest.raises(HyperAsrError, match="learning_rate"):
        trainer.run()
    assert len(losses(tmp_path)) == 2, "two steps are forgiven, the third is one too many"


def test_what_cannot_be_trained_on_is_left_out_aloud(tones, tmp_path):
    said = []
    trainer = Trainer(config_of(tones, max_utterance=0.8), tmp_path / "a", say=said.append)
    assert [u.text for u in trainer.corpus.utterances] == [t for t in TEXTS if len(t) < 4]
    assert ["1 of 8" in message for message in said] == [True]
    with pytest.raises(ManifestError):
        Trainer(config_of(tones, max_utterance=0.1), tmp_path / "b")


def test_names_that_do_not_exist(tones, tmp_path):
    with pytest.raises(ConfigError, match="'huge'; known: tiny"):
        Trainer(config_of(tones, model="huge"), tmp_path)
    with pytest.raises(ConfigError, match=r"first_speakers.*: z$"):
        Trainer(config_of(tones, first_speakers=("x", "z")), tmp_path)


# -- kills and resumes --------------------------------------------------------------------


@pytest.fixture(scope="module")
def uninterrupted(tones, tmp_path_factory) -> Path:
    """With everything random in it: speeds, masks, dropout, background."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    Trainer(config_of(tones), folder).run()
    assert [step for step, _ in losses(folder)] == list(range(1, 13))
    return folder


@pytest.fixture(scope="module")
def evaluated(tones, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("evaluated")
    Trainer(config_of(tones, dev=str(tones), **QUIET), folder).run()
    assert [step for step, _ in evaluations(folder)] == [2, 4, 5, 8, 11, 12]
    return folder


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 6, 8, 10])
def test_a_run_that_is_stopped_and_resumed_ends_as_if_it_was_not(
    tones, tmp_path, uninterrupted, step
):
    """Within the first speakers' passes, at the end of each and of that phase, and later."""
    first = Trainer(config_of(tones), tmp_path)
    first.run(stop=lambda: first.step == step - 1)
    assert first.step == state_in(tmp_path)["step"] == step
    second = Trainer(config_of(tones), tmp_path)
    assert (second.step, second.epoch, second.position) == (step, first.epoch, first.position)
    second.run()
    check_same(tmp_path, uninterrupted)


@pytest.mark.parametrize(
    ("save_steps", "step"), [(3, 4), (5, 5), (4, 5), (6, 7), (8, 10), (100, 11), (1, 12)]
)
def test_a_run_that_is_killed_and_resumed_ends_as_if_it_was_not(
    tones, tmp_path, uninterrupted, save_steps, step
):
    """What was done since the last save is lost: nothing, one step or two."""
    config = config_of(tones, save_steps=save_steps)
    with pytest.raises(Killed):
        Trainer(config, tmp_path).run(kill_at(step))
    assert 0 <= losses(tmp_path)[-1][0] - state_in(tmp_path)["step"] < save_steps
    Trainer(config, tmp_path).run()
    check_same(tmp_path, uninterrupted)


def test_a_run_killed_before_its_first_state_starts_over(tones, tmp_path, uninterrupted):
    with pytest.raises(Killed):
        Trainer(config_of(tones), tmp_path).run(kill_at(2))
    Trainer(config_of(tones), tmp_path).run()
    check_same(tmp_path, uninterrupted)


@pytest.mark.parametrize(("step", "logged"), [(5, False), (8, False), (8, True)])
def test_a_cut_off_evaluation_is_made_up_for(tones, tmp_path, evaluated, step, logged):
    """Killed while dev is transcribed, or between the evaluation's line and its state."""
    config = config_of(tones, dev=str(tones), **QUIET, save_steps=1)
    trainer = Trainer(config, tmp_path)

    def log(entry: dict[str, Any]) -> None:
        killed = "wer" in entry and entry["step"] == step
        if logged or not killed:
            Trainer._log(trainer, entry)
        if killed:
            raise Killed

    trainer._log = log
    with pytest.raises(Killed):
        trainer.run()
    Trainer(config, tmp_path).run()
    assert evaluations(tmp_path) == evaluations(evaluated)


@pytest.mark.parametrize("step", [4, 5, 11])
def test_a_stop_at_the_end_of_a_pass_does_not_lose_its_evaluation(tones, tmp_path, evaluated, step):
    config = config_of(tones, dev=str(tones), **QUIET)
    trainer = Trainer(config, tmp_path)
    trainer.run(stop=lambda: trainer.step == step - 1)
    Trainer(config, tmp_path).run()
    assert evaluations(tmp_path) == evaluations(evaluated)


def test_evaluating_more_often_does_not_change_the_training(tones, tmp_path, uninterrupted):
    Trainer(config_of(tones, dev=str(tones), epoch_steps=3), tmp_path).run()
    assert {3, 6, 9, 12} <= {step for step, _ in evaluations(tmp_path)}
    assert equal(state_in(tmp_path)["average"], state_in(uninterrupted)["average"])
    assert losses(tmp_path) == losses(uninterrupted)


def test_evaluations_may_be_more_than_a_pass_apart(tones, tmp_path):
    Trainer(config_of(tones, dev=str(tones), first_steps=0, epoch_steps=6), tmp_path).run()
    assert [step for step, _ in evaluations(tmp_path)] == [6, 12]


def test_a_finished_run_has_nothing_left_to_do(tones, tmp_path):
    config = config_of(tones, dev=str(tones), steps=2)
    Trainer(config, tmp_path).run()
    before = state_in(tmp_path), metrics(tmp_path)
    Trainer(config, tmp_path).run()
    assert equal(state_in(tmp_path), before[0])
    assert metrics(tmp_path) == before[1]


def test_a_run_goes_on_with_larger_batches(tones, tmp_path):
    """There may be fewer batches in a pass now than were already done of it."""
    config = config_of(tones, dev=str(tones), first_speakers=(), steps=8)
    trainer, reports = Trainer(config, tmp_path), []
    trainer.run(stop=lambda: trainer.step == 1)

    def report(found: Progress | Evaluation) -> None:
        reports.append(found)
        assert len(reports) < 30, "it goes round in circles"

    Trainer(replace(config, batch_seconds=100.0), tmp_path).run(report)
    assert [step for step, _ in losses(tmp_path)] == list(range(1, 9))


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda blob: blob[:-1000], id="a piece missing"),
        pytest.param(lambda blob: blob[:100], id="hardly begun"),
        pytest.param(lambda blob: b"", id="empty"),
        pytest.param(lambda blob: b"no state at all", id="something else"),
    ],
)
def test_a_state_that_cannot_be_read_is_left_alone(tones, tmp_path, spoil):
    config = config_of(tones, steps=2)
    Trainer(config, tmp_path).run()
    path = tmp_path / "state.pt"
    path.write_bytes(spoil(path.read_bytes()))
    check_refusal(config, tmp_path)


@pytest.mark.parametrize("model", ["tinier", "shorter"])
def test_a_state_of_another_size_is_left_alone(tones, tmp_path, model):
    Trainer(config_of(tones, steps=2), tmp_path).run()
    check_refusal(config_of(tones, model=model), tmp_path)


def check_refusal(config: TrainConfig, folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=r"state\.pt"):
        Trainer(config, folder)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_muon_has_the_matrices_of_blocks_and_adamw_all_else(tones, tmp_path):
    learner = Trainer(config_of(tones, optimizer="muon", steps=1), tmp_path).learner
    held = {
        name: {id(p) for group in optimizer.param_groups for p in group["params"]}
        for name, optimizer in learner.optimizers.items()
    }
    assert held["muon"].isdisjoint(held["optimizer"])
    assert held["muon"] | held["optimizer"] == {id(p) for p in learner.parameters}
    names = {name for name, p in learner.encoder.named_parameters() if id(p) in held["muon"]}
    assert "blocks.1.ffn_in.1.weight" in names
    assert all(name.startswith("blocks.") and name.endswith("weight") for name in names)


def test_a_run_with_muon_that_is_stopped_and_resumed_ends_as_if_it_was_not(tones, tmp_path):
    config = config_of(tones, optimizer="muon")
    Trainer(config, tmp_path / "whole").run()
    first = Trainer(config, tmp_path / "cut")
    first.run(stop=lambda: first.step == 6)
    Trainer(config, tmp_path / "cut").run()
    check_same(tmp_path / "cut", tmp_path / "whole")
