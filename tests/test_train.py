"""Training runs of a tiny model on tones: settings, steps, kills and resumes, several workers.

The letters of the made-up language are a low, a middle and a high tone.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperasr.checkpoint import load_checkpoint
from hyperasr.encoder import EncoderConfig
from hyperasr.errors import ConfigError, HyperAsrError, ManifestError
from hyperasr.train import loop
from hyperasr.train.config import TrainConfig, load_config, parse_setting
from hyperasr.train.data import make_batch
from hyperasr.train.loop import Evaluation, Trainer

TINY = EncoderConfig(d_model=16, n_layers=2, n_heads=2, d_ffn=32, channels=(4, 4))
MODELS = {"tiny": TINY, "tinier": replace(TINY, d_model=8), "shorter": replace(TINY, n_layers=1)}
HERTZ = {"a": 300.0, "b": 900.0, "c": 2500.0, " ": 0.0}
TEXTS = ("ab", "ba", "ca", "abc", "bc a", "cab", "acb", "b c")


@pytest.fixture(scope="module", autouse=True)
def tiny_models():
    """Models that build in no time, and a report after every step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "CONFIGS", MODELS)
        patch.setattr(loop, "REPORT_STEPS", 1)
        yield


@pytest.fixture(scope="module")
def speech(tmp_path_factory) -> Path:
    """A manifest of eight recordings by two speakers, 0.5 to 1 second each."""
    folder, lines = tmp_path_factory.mktemp("tones"), []
    rng, time = np.random.default_rng(0), np.arange(3200) / 16_000
    for number, text in enumerate(TEXTS):
        letters = [np.append(np.sin(2 * np.pi * HERTZ[c] * time), np.zeros(800)) for c in text]
        samples = 0.5 * np.concatenate(letters) + rng.normal(0, 1e-3, 4000 * len(text))
        soundfile.write(folder / f"{number}.wav", samples, 16_000)
        entry = {"audio_filepath": f"{number}.wav", "duration": len(samples) / 16_000}
        entry |= {"text": text, "speaker": "xy"[number % 2], "source": "tones"}
        lines.append(json.dumps(entry))
    (folder / "tones.jsonl").write_text("\n".join(lines))
    return folder / "tones.jsonl"


def config_of(manifest: Path, **changes: Any) -> TrainConfig:
    """Twelve steps: passes of 2 over speaker x until step 5, then of 3 over both speakers."""
    settings: dict[str, Any] = {
        "manifests": (str(manifest),),
        "model": "tiny",
        "steps": 12,
        "warmup_steps": 3,
        "decay_steps": 4,
        "learning_rate": 1e-2,
        "average_decay": 0.9,
        "batch_seconds": 3.0,
        "length_step": 0.5,
        "max_utterance": 2.0,
        "first_speakers": ("x",),
        "first_steps": 5,
    }
    return TrainConfig(**settings | changes)


PASS_ENDS = [2, 4, 5, 8, 11, 12]
PLAIN = {"dropout": 0.0, "speeds": (1.0,), "frequency_masks": 0, "time_masks": 0}


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(folder: Path) -> list[tuple[int, float]]:
    return [(entry["step"], entry["loss"]) for entry in metrics(folder) if "loss" in entry]


def evaluations(folder: Path) -> list[tuple[int, float]]:
    return [(entry["step"], entry["wer"]) for entry in metrics(folder) if "wer" in entry]


def outcome(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "state.pt", weights_only=True)


def equal(one: Any, other: Any) -> bool:
    """Whether two states are the same to the last bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


# -- settings -----------------------------------------------------------------------------


@pytest.fixture
def toml(tmp_path) -> Callable[[str], Path]:
    def write(content: str) -> Path:
        (tmp_path / "train.toml").write_text(content, encoding="utf-8")
        return tmp_path / "train.toml"

    return write


def test_paths_are_relative_to_the_file_and_overrides_win(toml, tmp_path):
    path = toml('manifests = ["a.jsonl", "/b.jsonl"]\ndev = "d/dev.jsonl"\nsteps = 7\nseed = 3')
    config = load_config(path, {"steps": 9, "learning_rate": 1})
    assert config.manifests == (str(tmp_path / "a.jsonl"), "/b.jsonl")
    assert config.dev == str(tmp_path / "d" / "dev.jsonl")
    assert (config.steps, config.seed) == (9, 3)
    assert config.learning_rate == 1.0
    assert isinstance(config.learning_rate, float), "a whole number is a number, too"
    assert config.batch_seconds == TrainConfig(manifests=("m",)).batch_seconds


def test_paths_among_the_overrides_are_relative_to_where_we_are(toml):
    path = toml('manifests = ["a.jsonl"]\ndev = ""')
    config = load_config(path, {"manifests": ["here.jsonl"]})
    assert (config.manifests, config.dev) == (("here.jsonl",), "")
    assert load_config(None, {"manifests": ("m",)}) == TrainConfig(manifests=("m",))


def test_settings_survive_their_json():
    config = TrainConfig(manifests=("m", "n"), speeds=(0.9, 1.0), dev="d")
    assert load_config(None, json.loads(config.to_json())) == config


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("stepz = 5", "stepz"),
        ("steps = 5.0", "steps"),
        ('steps = "5"', "steps"),
        ("steps = true", "steps"),
        ("learning_rate = true", "learning_rate"),
        ('learning_rate = "fast"', "learning_rate"),
        ("model = 8", "model"),
        ("dev = 5", "dev"),
        ('manifests = "train.jsonl"', "manifests"),
        ("manifests = 5", "manifests"),
        ("manifests = [5]", "manifests"),
        ("manifests = []", "manifest"),
        ("speeds = 1.0", "speeds"),
        ('speeds = ["fast"]', "speeds"),
        ("first_speakers = [84]", "first_speakers"),
        *((f"{name} = 0", name) for name in ("steps", "batch_seconds", "length_step")),
        *((f"{name} = -1", name) for name in ("max_utterance", "learning_rate", "save_steps")),
        ("save_steps = 0", "save_steps"),
        ("max_utterance = 300", "batch_seconds"),
        ("speeds = []", "speeds"),
        ("speeds = [0.0]", "speeds"),
        ("speeds = [1.0, nan]", "speeds"),
        ("middle_loss = 1.0", "middle_loss"),
        ("average_decay = 1.0", "average_decay"),
        ("average_decay = -0.1", "average_decay"),
        *((f"learning_rate = {x}", "learning_rate") for x in ("nan", "inf")),
        ("batch_seconds = inf", "batch_seconds"),
        *((f"dropout = {x}", "dropout") for x in ("1.0", "-0.1", "nan")),
        ("epoch_steps = -1", "epoch_steps"),
        ("weight_decay = -1.0", "weight_decay"),
        ("max_grad_norm = 0.0", "max_grad_norm"),
        *((f"seed = {x}", "seed") for x in (-1, 10**11)),
        *((f"{axis}_masks = -1", f"{axis}_masks") for axis in ("time", "frequency")),
        ("time_share = 1.5", "time_share"),
    ],
)
def test_a_setting_that_cannot_be_is_named(toml, line, named):
    manifests = "" if line.startswith("manifests") else 'manifests = ["m"]\n'
    with pytest.raises(ConfigError, match=named):
        load_config(toml(manifests + line), {})


def test_settings_that_cannot_be_read(toml, tmp_path):
    for path in (tmp_path / "missing.toml", tmp_path, toml("steps = ")):
        with pytest.raises(ConfigError, match=str(path)):
            load_config(path, {})
    with pytest.raises(ConfigError, match="manifest"):
        load_config(None, {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("steps=5", ("steps", 5)),
        (" dropout = 0.5 ", ("dropout", 0.5)),
        ("model=conformer-8m", ("model", "conformer-8m")),
        ('model="tiny"', ("model", "tiny")),
        ('manifests=["a=b.jsonl"]', ("manifests", ["a=b.jsonl"])),
        ("dev=", ("dev", "")),
    ],
)
def test_a_setting_on_the_command_line_is_spelled_as_in_toml(text, expected):
    assert parse_setting(text) == expected
    with pytest.raises(ConfigError, match="steps 5"):
        parse_setting("steps 5")


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(0, 60), st.integers(0, 60))
def test_the_learning_rate_rises_stays_and_falls_to_zero(steps, warmup, decay):
    config = TrainConfig(
        manifests=("m",), steps=steps, warmup_steps=warmup, decay_steps=decay, learning_rate=0.5
    )
    rates = [
        Trainer.learning_rate(SimpleNamespace(config=config, step=step))
        for step in range(steps + 1)
    ]
    assert rates[-1] == 0.0
    assert all(0.0 < rate <= 0.5 for rate in rates[:-1])
    if warmup + decay <= steps:
        assert rates[:warmup] == pytest.approx([0.5 * (k + 1) / warmup for k in range(warmup)])
        assert all(rate == 0.5 for rate in rates[max(0, warmup - 1) : steps - decay + bool(decay)])
        assert rates[steps - decay :] == pytest.approx(
            [0.5 * k / max(1, decay) for k in range(decay, -1, -1)] if decay else [0.0]
        )


# -- one run ------------------------------------------------------------------------------


def test_a_run_learns_and_leaves_checkpoints_and_metrics(speech, tmp_path):
    config = config_of(
        speech,
        manifests=(str(speech),) * 5,
        dev=str(speech),
        steps=60,
        learning_rate=2e-2,
        batch_seconds=4.0,
        first_speakers=(),
        **PLAIN,
    )
    folder, reports = tmp_path / "new" / "run", []
    trainer = Trainer(config, folder)
    waveforms, lengths = batch_of(trainer).waveforms, batch_of(trainer).lengths
    features, frames = trainer.features(waveforms, lengths)
    bands = torch.cat([x[:n] for x, n in zip(features, frames, strict=True)])
    torch.testing.assert_close(bands.mean(0), torch.zeros(80), atol=1e-3, rtol=0)
    torch.testing.assert_close(bands.std(0, correction=0), torch.ones(80), atol=1e-3, rtol=0)

    last = trainer.run(reports.append)
    assert isinstance(last, Evaluation)
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
    assert equal(saved.encoder.state_dict(), trainer.averaged.state_dict())
    assert equal(saved.features.state_dict(), trainer.features.state_dict())
    assert saved.encoder.config == replace(TINY, dropout=0.0)
    best = load_checkpoint(folder / "best")
    trainer.average.module.load_state_dict(best.encoder.state_dict())
    rescored = trainer._score_dev(trainer.averaged.eval(), trainer.dev)
    assert rescored.wer == min(wer for _, wer in evaluations(folder))


def batch_of(trainer: Trainer, *indices: int):
    """A batch of these utterances, or of all, at their own speed."""
    picks = [replace(pick, speed=1.0) for batch in trainer._plan() for pick in batch]
    picks = [pick for pick in picks if pick.index in indices or not indices]
    return make_batch(trainer.corpus, picks, trainer.tokens, trainer.config.length_step)


def test_the_average_follows_the_weights(speech, tmp_path):
    trainer = Trainer(config_of(speech, average_decay=0.5), tmp_path)
    expected = None
    for step in range(8):
        trainer.train_step(batch_of(trainer, 0))
        trainer.step += 1
        current = trainer.encoder.ctc.weight.detach().clone()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = current if expected is None else decay * expected + (1 - decay) * current
        torch.testing.assert_close(trainer.averaged.ctc.weight, expected)


def test_every_step_is_made_at_its_learning_rate(speech, tmp_path):
    trainer, rates = Trainer(config_of(speech), tmp_path), []
    schedule = [
        Trainer.learning_rate(SimpleNamespace(config=trainer.config, step=step))
        for step in range(13)
    ]
    trainer.run(lambda _: rates.append(trainer.optimizer.param_groups[0]["lr"]))
    assert rates == schedule[:12]
    assert [entry["learning_rate"] for entry in metrics(tmp_path)] == schedule[1:]


def test_a_text_too_long_for_its_sound_does_no_harm(speech, tmp_path):
    trainer = Trainer(config_of(speech), tmp_path)
    utterances = (replace(trainer.corpus.utterances[0], text="ab" * 100),)
    trainer.corpus = replace(trainer.corpus, utterances=utterances)
    picks = [loop.Pick(0, 1.0, 0.5)]
    assert trainer.train_step(make_batch(trainer.corpus, picks, trainer.tokens, 0.5)) == 0.0
    assert all(p.isfinite().all() for p in trainer.encoder.parameters())


def test_a_step_without_a_number_changes_nothing(speech, tmp_path):
    trainer = Trainer(config_of(speech), tmp_path)
    assert trainer.train_step(batch_of(trainer)) > 0
    before = json.dumps(state_of(trainer), default=torch.Tensor.tolist)
    std = trainer.features.std.clone()
    trainer.features.std.fill_(torch.nan)
    assert np.isnan(trainer.train_step(batch_of(trainer)))
    assert json.dumps(state_of(trainer), default=torch.Tensor.tolist) == before
    trainer.features.std.copy_(std)
    assert trainer.train_step(batch_of(trainer)) > 0
    assert all(p.isfinite().all() for p in trainer.encoder.parameters())
    assert json.dumps(state_of(trainer), default=torch.Tensor.tolist) != before


def state_of(trainer: Trainer) -> list[dict[str, Any]]:
    return [x.state_dict() for x in (trainer.encoder, trainer.average, trainer.optimizer)]


def test_a_run_gives_up_after_many_such_steps_in_a_row(speech, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "PATIENCE", 3)
    trainer = Trainer(config_of(speech), tmp_path)
    batch, std = batch_of(trainer, 0), trainer.features.std.clone()
    for value in (torch.nan, torch.nan, std, torch.nan, torch.nan, std):
        trainer.features.std.copy_(torch.as_tensor(value))
        trainer.train_step(batch)
    trainer.features.std.fill_(torch.nan)
    with pytest.raises(HyperAsrError, match="learning_rate"):
        trainer.run()
    assert len(losses(tmp_path)) == 2, "two steps are forgiven, the third is one too many"


def test_what_cannot_be_trained_on_is_left_out_aloud(speech, tmp_path):
    said = []
    trainer = Trainer(config_of(speech, max_utterance=0.8), tmp_path / "a", say=said.append)
    assert [u.text for u in trainer.corpus.utterances] == [t for t in TEXTS if len(t) < 4]
    assert len(said) == 1
    assert "1 of 8" in said[0]
    with pytest.raises(ManifestError):
        Trainer(config_of(speech, max_utterance=0.1), tmp_path / "b")


def test_names_that_do_not_exist(speech, tmp_path):
    with pytest.raises(ConfigError, match="'huge'; known: tiny"):
        Trainer(config_of(speech, model="huge"), tmp_path)
    with pytest.raises(ConfigError, match=r"first_speakers.*: z$"):
        Trainer(config_of(speech, first_speakers=("x", "z")), tmp_path)


# -- kills and resumes --------------------------------------------------------------------


@pytest.fixture(scope="module")
def uninterrupted(speech, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    Trainer(config_of(speech, dev=str(speech)), folder).run()
    assert [step for step, _ in losses(folder)] == list(range(1, 13))
    assert [step for step, _ in evaluations(folder)] == PASS_ENDS
    return folder


class Killed(BaseException):
    """The process is gone: nothing more is written."""


def kill_at(step: int) -> Callable[[loop.Progress | Evaluation], None]:
    def report(found: loop.Progress | Evaluation) -> None:
        if found.step == step:
            raise Killed

    return report


@pytest.mark.parametrize("step", range(1, 12))
def test_a_run_that_is_stopped_and_resumed_ends_as_if_it_was_not(
    speech, tmp_path, uninterrupted, step
):
    """Within the first speakers' passes, at the end of each, at the end of that phase, later."""
    config = config_of(speech, dev=str(speech))
    first = Trainer(config, tmp_path)
    assert first.run(stop=lambda: first.step == step - 1) is None
    assert first.step == outcome(tmp_path)["step"] == step
    second = Trainer(config, tmp_path)
    assert (second.step, second.epoch, second.position) == (step, first.epoch, first.position)
    second.run()
    assert equal(outcome(tmp_path), outcome(uninterrupted))
    assert losses(tmp_path) == losses(uninterrupted)


@pytest.mark.parametrize(
    ("save_steps", "step"),
    [
        pytest.param(3, 4, id="within the first phase"),
        pytest.param(5, 5, id="at its end, saved there"),
        pytest.param(4, 5, id="at its end, saved before"),
        pytest.param(6, 7, id="in the first pass over all"),
        pytest.param(8, 10, id="saved at the end of a pass"),
        pytest.param(100, 11, id="saved by evaluations only"),
        pytest.param(1, 12, id="after the last step"),
    ],
)
def test_a_run_that_is_killed_and_resumed_ends_as_if_it_was_not(
    speech, tmp_path, uninterrupted, save_steps, step
):
    config = config_of(speech, dev=str(speech), save_steps=save_steps)
    with pytest.raises(Killed):
        Trainer(config, tmp_path).run(kill_at(step))
    assert outcome(tmp_path)["step"] <= step
    Trainer(config, tmp_path).run()
    assert equal(outcome(tmp_path), outcome(uninterrupted))
    assert losses(tmp_path) == losses(uninterrupted)


def test_a_run_may_be_killed_again_and_again(speech, tmp_path, uninterrupted):
    config = config_of(speech, dev=str(speech), save_steps=1)
    for step in (1, 3, 4, 8, 9, 12):
        with pytest.raises(Killed):
            Trainer(config, tmp_path).run(kill_at(step))
    Trainer(config, tmp_path).run()
    assert equal(outcome(tmp_path), outcome(uninterrupted))
    assert losses(tmp_path) == losses(uninterrupted)


@pytest.mark.parametrize("step", [5, 8, 12])
def test_an_evaluation_that_was_cut_off_is_made_up_for(
    speech, tmp_path, uninterrupted, monkeypatch, step
):
    """Killed while dev is transcribed, which is when a run with a large dev set often is."""
    config = config_of(speech, dev=str(speech), save_steps=1)
    with monkeypatch.context() as patch:
        trainer = Trainer(config, tmp_path)
        real = trainer._score_dev
        patch.setattr(
            trainer, "_score_dev", lambda *a: kill_at(step)(trainer) or real(*a), raising=True
        )
        with pytest.raises(Killed):
            trainer.run()
    Trainer(config, tmp_path).run()
    assert evaluations(tmp_path) == evaluations(uninterrupted)


@pytest.mark.parametrize("step", [4, 5, 11])
def test_a_stop_at_the_end_of_a_pass_does_not_lose_its_evaluation(
    speech, tmp_path, uninterrupted, step
):
    config = config_of(speech, dev=str(speech))
    trainer = Trainer(config, tmp_path)
    trainer.run(stop=lambda: trainer.step == step - 1)
    Trainer(config, tmp_path).run()
    assert evaluations(tmp_path) == evaluations(uninterrupted)


def test_a_run_killed_before_its_first_state_starts_over(speech, tmp_path, uninterrupted):
    config = config_of(speech, dev=str(speech))
    with pytest.raises(Killed):
        Trainer(config, tmp_path).run(kill_at(1))
    Trainer(config, tmp_path).run()
    assert equal(outcome(tmp_path), outcome(uninterrupted))
    assert losses(tmp_path) == losses(uninterrupted), "each step has one line"


def test_evaluating_more_often_does_not_change_the_training(speech, tmp_path, uninterrupted):
    Trainer(config_of(speech, dev=str(speech), epoch_steps=3), tmp_path).run()
    assert {3, 6, 9, 12} <= {step for step, _ in evaluations(tmp_path)}
    assert equal(outcome(tmp_path)["encoder"], outcome(uninterrupted)["encoder"])
    assert losses(tmp_path) == losses(uninterrupted)


def test_a_finished_run_has_nothing_left_to_do(speech, tmp_path):
    Trainer(config_of(speech, dev=str(speech)), tmp_path).run()
    before = outcome(tmp_path), metrics(tmp_path)
    again = Trainer(config_of(speech, dev=str(speech)), tmp_path).run()
    assert again is not None
    assert again.step == 12
    assert equal(outcome(tmp_path), before[0])
    assert metrics(tmp_path) == before[1]


@pytest.mark.timeout(30)
def test_a_run_goes_on_with_larger_batches(speech, tmp_path):
    """There may be fewer batches in a pass now than were already done of it."""
    config = config_of(speech, first_speakers=())
    trainer = Trainer(config, tmp_path)
    trainer.run(stop=lambda: trainer.step == 1)
    Trainer(replace(config, batch_seconds=100.0), tmp_path).run()
    assert [step for step, _ in losses(tmp_path)] == list(range(1, 13))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda blob: blob[:-1000],
        lambda blob: blob[:100],
        lambda blob: b"",
        lambda blob: b"no state at all",
    ],
    ids=["a piece missing", "hardly begun", "empty", "something else"],
)
def test_a_state_that_cannot_be_read_is_left_alone(speech, tmp_path, spoil):
    config = config_of(speech, steps=2)
    Trainer(config, tmp_path).run()
    path = tmp_path / "state.pt"
    path.write_bytes(spoil(path.read_bytes()))
    check_refusal(config, tmp_path)


@pytest.mark.parametrize("model", ["tinier", "shorter"])
def test_a_state_of_another_size_is_left_alone(speech, tmp_path, model):
    Trainer(config_of(speech, steps=2), tmp_path).run()
    check_refusal(config_of(speech, model=model), tmp_path)


def check_refusal(config: TrainConfig, folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=r"state\.pt"):
        Trainer(config, folder)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


# -- several workers ----------------------------------------------------------------------

WORKER = """
import json
import sys
from pathlib import Path
import torch
from hyperasr.encoder import EncoderConfig
from hyperasr.train import loop
from hyperasr.train.config import load_config

torch.set_num_threads(1)
sizes = dict(d_model=16, n_layers=2, n_heads=2, d_ffn=32, channels=(4, 4))
loop.CONFIGS, loop.REPORT_STEPS = {"tiny": EncoderConfig(**sizes)}, 1
config, folder = load_config(None, json.loads(sys.argv[1])), Path(sys.argv[2])
first = loop.Trainer(config, folder)
rank = first.workers.rank
first.run(stop=lambda: rank == 1 and first.step == 3)  # only one of them is told
assert first.step == 4
torch.distributed.barrier()
second = loop.Trainer(config, folder)
last = second.run()
assert last is not None
torch.save([second.encoder.state_dict(), last.wer], folder / f"rank{rank}.pt")
torch.distributed.destroy_process_group()
"""


@pytest.mark.timeout(120)
def test_two_workers_end_where_one_does(speech, tmp_path):
    config = config_of(speech, dev=str(speech), steps=8, learning_rate=1e-3, **PLAIN)
    single = Trainer(config, tmp_path / "one")
    assert any(len(batch) == 1 for batch in single._plan()), "one worker has to be idle at times"
    last = single.run()

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", WORKER, config.to_json(), tmp_path / "two"]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    workers = [subprocess.Popen(command, env=os.environ | shared | {"RANK": rank}) for rank in "01"]
    try:
        assert [worker.wait(100) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
    (ours, wer), (theirs, other_wer) = (
        torch.load(tmp_path / "two" / f"rank{rank}.pt") for rank in "01"
    )
    assert equal(ours, theirs)
    assert wer == other_wer == last.wer
    torch.testing.assert_close(ours, dict(single.encoder.state_dict()), atol=1e-5, rtol=0)
    for (step, loss), (_, expected) in zip(
        losses(tmp_path / "two"), losses(tmp_path / "one"), strict=True
    ):
        assert loss == pytest.approx(expected, rel=1e-5), step
