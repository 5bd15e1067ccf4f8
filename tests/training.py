"""What the tests of training share: a tiny model, eight recordings of tones, kills."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sounds import SAMPLE_RATE, noise, record, tone

from hyperasr.encoder import EncoderConfig
from hyperasr.train import learner, loop
from hyperasr.train.batches import Batch, Pick, make_batch
from hyperasr.train.config import TrainConfig
from hyperasr.train.evaluate import Evaluation
from hyperasr.train.loop import Progress, Trainer

TINY = EncoderConfig(d_model=16, n_layers=2, n_heads=2, d_ffn=32, channels=(4, 4))
MODELS = {"tiny": TINY, "tinier": replace(TINY, d_model=8), "shorter": replace(TINY, n_layers=1)}
HERTZ = {"a": 300.0, "b": 900.0, "c": 2500.0, " ": 0.0}
TEXTS = ("ab", "ba", "ca", "abc", "bc a", "cab", "acb", "b c")


@pytest.fixture(scope="module", autouse=True)
def tiny_models():
    """Models that build in no time, and a report after every step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learner, "CONFIGS", MODELS)
        patch.setattr(loop, "REPORT_STEPS", 1)
        yield


@pytest.fixture(scope="module")
def tones(tmp_path_factory) -> Path:
    """Eight recordings by two speakers; the letters are a low, a middle and a high tone."""
    folder, lines = tmp_path_factory.mktemp("tones"), []
    for number, text in enumerate(TEXTS):
        letters = [np.append(tone(0.2, SAMPLE_RATE, HERTZ[c]), np.zeros(800)) for c in text]
        samples = np.concatenate(letters) + 1e-3 * noise((4000 * len(text),))
        record(folder / f"{number}.wav", samples)
        entry = {"audio_filepath": f"{number}.wav", "duration": len(samples) / SAMPLE_RATE}
        entry |= {"text": text, "speaker": "xy"[number % 2], "source": "tones"}
        lines.append(json.dumps(entry))
    (folder / "tones.jsonl").write_text("\n".join(lines))
    return folder / "tones.jsonl"


def config_of(manifest: Path, **changes: Any) -> TrainConfig:
    """Twelve steps: passes of 2 over speaker x until step 5, then of 3 or 4 over both."""
    sizes = {"model": "tiny", "batch_seconds": 3.0, "length_step": 0.5, "max_utterance": 2.0}
    rates = {"warmup_steps": 3, "decay_steps": 4, "learning_rate": 1e-2, "average_decay": 0.9}
    data = {"manifests": (str(manifest),), "first_speakers": ("x",), "background_share": 0.15}
    return TrainConfig(**{"steps": 12, "first_steps": 5} | sizes | rates | data | changes)


QUIET = {"background_share": 0.0}
PLAIN = QUIET | {"dropout": 0.0, "speeds": (1.0,), "frequency_masks": 0, "time_masks": 0}


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(folder: Path, key: str = "loss") -> list[tuple[int, float]]:
    return [(entry["step"], entry[key]) for entry in metrics(folder) if key in entry]


def evaluations(folder: Path) -> list[tuple[int, float]]:
    return losses(folder, "wer")


def state_in(folder: Path) -> dict[str, Any]:
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


def batch_of(trainer: Trainer, *indices: int) -> Batch:
    """A batch of these utterances, or of all, at their own speed."""
    utterances = trainer.corpus.utterances
    picks = [Pick(i, 1.0, utterances[i].duration) for i in indices or range(len(utterances))]
    return make_batch(trainer.corpus, picks, trainer.tokens, trainer.config.length_step)


class Killed(BaseException):
    """The process is gone: nothing more is written."""


def kill_at(step: int) -> Callable[[Progress | Evaluation], None]:
    def report(found: Progress | Evaluation) -> None:
        if found.step == step:
            raise Killed

    return report


def check_same(folder: Path, expected: Path) -> None:
    """That two runs left the same state, to the last bit, and the same losses."""
    assert equal(state_in(folder), state_in(expected))
    assert losses(folder) == losses(expected)
