"""Recipes, passes over the data instead of steps, and the mean of the best checkpoints."""

import shutil
from pathlib import Path

import pytest
import torch
from test_train_batches import corpus_of
from training import PLAIN, Killed, config_of, evaluations, kill_at, losses, metrics
from training import tiny_models as tiny_models
from training import tones as tones

from hyperasr.checkpoint import load_checkpoint
from hyperasr.errors import ConfigError
from hyperasr.train.batches import plan_epoch
from hyperasr.train.config import TrainConfig, load_config, recipes
from hyperasr.train.evaluate import Evaluation
from hyperasr.train.loop import Trainer

SPEECH = {"manifests": ["train.jsonl"], "dev": "dev.jsonl"}

# -- recipes ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_is_a_set_of_settings(name):
    config = load_config(None, SPEECH, name)
    assert config != load_config(None, SPEECH), "else it would not be one"
    assert (config.manifests, config.dev) == (("train.jsonl",), "dev.jsonl")


@pytest.mark.parametrize("size", ["8m", "22m"])
def test_the_librispeech_recipes_are_the_published_ones(size):
    config = load_config(None, SPEECH, f"librispeech-{size}")
    assert config.model == f"hyperconformer-{size}"
    assert (config.ctc_weight, config.vocab_size, config.average_best) == (0.3, 5000, 10)
    assert (config.schedule, config.warmup_steps, config.learning_rate) == ("noam", 25_000, 1e-3)
    assert (config.batch_seconds, config.max_batch, config.epochs) == (600.0, 128, 110)
    assert (config.loss_per, config.max_grad_norm) == ("utterance", 5.0)


def test_a_file_wins_over_a_recipe_and_an_option_over_both(tmp_path):
    (tmp_path / "mine.toml").write_text("warmup_steps = 7\nepochs = 3\nvocab_size = 100")
    config = load_config(tmp_path / "mine.toml", SPEECH | {"vocab_size": 200}, "librispeech-8m")
    assert (config.warmup_steps, config.epochs, config.vocab_size) == (7, 3, 200)
    assert config.ctc_weight == 0.3


def test_steps_that_are_asked_for_are_not_outvoted_by_a_recipes_epochs():
    assert load_config(None, SPEECH | {"steps": 9}, "librispeech-8m").epochs == 0
    assert load_config(None, SPEECH | {"steps": 9, "epochs": 2}, "librispeech-8m").epochs == 2


def test_a_recipe_that_does_not_exist():
    with pytest.raises(ConfigError, match="'huge'; known: fine-tune, librispeech-22m, lib"):
        load_config(None, SPEECH, "huge")


def test_a_setting_that_is_misspelled_is_guessed_and_one_that_is_not_lists_all():
    with pytest.raises(ConfigError, match=r"'batch_second'; known: batch_seconds$"):
        load_config(None, SPEECH | {"batch_second": 9})
    with pytest.raises(ConfigError, match="'x'; known: manifests, dev, init, "):
        load_config(None, SPEECH | {"x": 9})


def test_a_batch_has_no_more_utterances_than_allowed():
    config = TrainConfig(manifests=("m",), max_batch=7)
    plan = plan_epoch(corpus_of([1.0] * 30), list(range(30)), config, 0)
    assert sorted(len(batch) for batch in plan) == [2, 7, 7, 7, 7]


# -- passes -------------------------------------------------------------------------------


def test_epochs_are_so_many_steps(tones, tmp_path):
    config = config_of(tones, dev=str(tones), epochs=3, first_steps=0)
    trainer = Trainer(config, tmp_path)
    assert trainer.config.steps == 3 * len(trainer._plan())
    trainer.run(stop=lambda: trainer.step == 1)
    resumed = Trainer(config, tmp_path)
    resumed.run()
    assert resumed.epoch == 3
    assert abs(resumed.step - trainer.config.steps) <= 3, "passes differ by a batch"
    assert len(evaluations(tmp_path)) == 3
    assert evaluations(tmp_path)[-1][0] == resumed.step
    finished = Trainer(config, tmp_path)
    finished.run()
    assert finished.step == resumed.step
    with pytest.raises(ConfigError, match="first_steps needs steps"):
        config_of(tones, epochs=3, first_steps=5)


# -- the mean of the best -----------------------------------------------------------------

BEST = {"average_best": 3, "average_decay": 0.0, "steps": 6, "epoch_steps": 1}
MEAN = 0
WERS = {1: 0.9, 2: 0.3, 3: 0.5, 4: 0.8, 5: 0.3, 6: 0.4, MEAN: 0.2}


def run_with(wers: dict[int, float], trainer: Trainer, *report) -> dict[int, torch.Tensor]:
    """Run with these WERs at these steps; returns the weights that were evaluated then."""
    weights: dict[int, torch.Tensor] = {}

    def score(encoder, dev) -> Evaluation:
        what = MEAN if trainer.step in weights else trainer.step  # the mean comes at the end
        weights[what] = encoder.ctc.weight.clone()
        return Evaluation(trainer.step, wers[what], {})

    trainer._score_dev = score
    trainer.run(*report)
    return weights


def test_best_is_one_of_them_where_that_is_better_than_the_mean(tones, tmp_path):
    trainer = Trainer(config_of(tones, dev=str(tones), **BEST, **PLAIN), tmp_path)
    weights = run_with(WERS | {MEAN: 0.35}, trainer)
    found = load_checkpoint(tmp_path / "best").encoder.ctc.weight
    torch.testing.assert_close(found, weights[2], atol=1e-3, rtol=1e-2)
    assert trainer.best_wer == 0.3


def test_a_run_that_kept_one_cannot_keep_several(tones, tmp_path):
    one = BEST | {"average_best": 1, "steps": 2}
    run_with(WERS, Trainer(config_of(tones, dev=str(tones), **one, **PLAIN), tmp_path))
    with pytest.raises(ConfigError, match="best is of a run with average_best 1"):
        Trainer(config_of(tones, dev=str(tones), **BEST, **PLAIN), tmp_path)


def test_another_dev_begins_the_comparison_anew(tones, tmp_path):
    other = tones.parent / "other.jsonl"
    other.write_text("\n".join(tones.read_text().splitlines()[:3]))
    one = BEST | {"average_best": 1}
    first = Trainer(config_of(tones, dev=str(tones), **one | {"steps": 2}, **PLAIN), tmp_path)
    run_with(WERS, first)
    second = Trainer(config_of(tones, dev=str(other), **one | {"steps": 4}, **PLAIN), tmp_path)
    weights = run_with(WERS, second)
    found = load_checkpoint(tmp_path / "best").encoder.ctc.weight
    torch.testing.assert_close(found, weights[3], atol=1e-3, rtol=1e-2)
    assert second.best_wer == 0.5


def test_kept_weights_that_somebody_deleted_are_not_missed(tones, tmp_path):
    first = Trainer(config_of(tones, dev=str(tones), **BEST | {"steps": 5}, **PLAIN), tmp_path)
    run_with(WERS, first)
    shutil.rmtree(tmp_path / "kept" / "step-3")
    (tmp_path / "best" / "model.safetensors").write_bytes(b"damaged")
    last = Trainer(config_of(tones, dev=str(tones), **BEST, **PLAIN), tmp_path)
    run_with(WERS, last)
    assert load_checkpoint(tmp_path / "best").tokens.labels


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "kept").iterdir())


def test_best_is_the_mean_of_the_best_and_others_are_deleted(tones, tmp_path):
    trainer = Trainer(config_of(tones, dev=str(tones), **BEST, **PLAIN), tmp_path)
    weights = run_with(WERS, trainer)
    assert kept(tmp_path) == ["step-2", "step-5", "step-6"]
    expected = torch.stack([weights[step] for step in (2, 5, 6)]).mean(dim=0)
    found = load_checkpoint(tmp_path / "best").encoder.ctc.weight
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-2)  # kept in half precision
    assert torch.equal(found, weights[MEAN]), "and that is what is evaluated at the end"
    last = metrics(tmp_path)[-1]
    assert (last["step"], last["wer"], last["averaged"], trainer.best_wer) == (6, 0.2, 3, 0.2)
    assert load_checkpoint(tmp_path / "kept" / "step-2").encoder.ctc.weight.tolist() == (
        weights[2].half().float().tolist()
    )


def test_a_decoder_is_averaged_too(tones, tmp_path):
    joint = {"ctc_weight": 0.3, "decoder_layers": 1, "steps": 2}
    trainer = Trainer(config_of(tones, dev=str(tones), **BEST | joint, **PLAIN), tmp_path)
    run_with(WERS, trainer)
    found = [load_checkpoint(tmp_path / "kept" / f"step-{n}").decoder for n in (1, 2)]
    expected = (found[0].output.weight + found[1].output.weight) / 2
    mean = load_checkpoint(tmp_path / "best").decoder.output.weight
    torch.testing.assert_close(mean, expected, atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize("step", [3, 4, 5])
def test_a_killed_run_keeps_the_same_ones(tones, tmp_path, step):
    config = config_of(tones, dev=str(tones), save_steps=100, **BEST, **PLAIN)
    run_with(WERS, Trainer(config, tmp_path / "whole"))
    with pytest.raises(Killed):
        run_with(WERS, Trainer(config, tmp_path / "cut"), kill_at(step))
    run_with(WERS, Trainer(config, tmp_path / "cut"))
    assert kept(tmp_path / "cut") == kept(tmp_path / "whole")
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    means = [load_checkpoint(tmp_path / name / "best").sha256 for name in ("cut", "whole")]
    assert means[0] == means[1]


def test_without_dev_nobody_knows_which_are_best(tones):
    with pytest.raises(ConfigError, match="average_best needs dev"):
        config_of(tones, average_best=2)
