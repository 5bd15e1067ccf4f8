"""Weights and confidences from a development set."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stand_ins import noise, tiny_checkpoint
from typer.testing import CliRunner

from hyperasr.cli import app
from hyperasr.decoder import Decoder, DecoderSettings
from hyperasr.folder import read_config
from hyperasr.score.wer import word_errors
from hyperasr.tokens import CharTokens
from hyperasr.transcript import Word
from hyperasr.tune import (
    Heard,
    Trial,
    calibrate,
    calibrated,
    rightness,
    trials,
)
from hyperasr.windows import Utterance

runner = CliRunner()


def said(text):
    """An utterance whose every letter is sure."""
    tokens = CharTokens()
    rows = np.full((2 * len(text), len(tokens.labels)), 1e-5, np.float32)
    rows[:, 0] = 1.0
    for place, token in enumerate(tokens.encode(text)):
        rows[2 * place] = 1e-5
        rows[2 * place, token] = 1.0
    return Utterance(0, np.log(rows / rows.sum(axis=1, keepdims=True)))


def test_every_combination_is_tried_and_errors_are_counted_by_source():
    tokens = CharTokens()
    heard = [
        Heard("the cat", "read", (said("the cat"),)),
        Heard("a dog", "told", (said("a"), said("hog"))),
        Heard("silence", "told", ()),
    ]
    decoder = Decoder(tokens.labels, tokens.encode)
    found = list(trials(decoder, heard, [0.5, 1.0], [0.0], [8, 4], processes=0))
    combinations = [(t.settings.beam_size, t.settings.alpha, t.settings.beta) for t in found]
    assert combinations == [(8, 0.5, 0.0), (8, 1.0, 0.0), (4, 0.5, 0.0), (4, 1.0, 0.0)]
    for trial in found:
        assert (trial.errors.errors, trial.errors.reference) == (2, 5)
        assert trial.by_source["read"].errors == 0
        assert trial.by_source["told"].errors == 2


def test_a_word_is_right_where_the_alignment_says_so():
    words = tuple(Word(text, 0.0, 1.0, 0.1 * n) for n, text in enumerate(["a", "b", "x", "d"]))
    trial = Trial(DecoderSettings(), word_errors([]), {}, (("a b c d e", words),))
    confidences, right = rightness(trial)
    assert confidences.tolist() == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert right.tolist() == [True, True, False, True]


def test_calibration_finds_how_sure_words_are():
    random = np.random.default_rng(0)
    confidences = random.uniform(0.02, 0.98, 20_000)
    right = random.random(20_000) < calibrated(confidences, 0.6, 0.4)
    assert calibrate(confidences, right) == pytest.approx((0.6, 0.4), abs=0.05)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30))
def test_calibration_ends_with_numbers_whatever_it_is_given(pairs):
    confidences = np.array([confidence for confidence, _ in pairs])
    right = np.array([is_right for _, is_right in pairs])
    assert np.isfinite(calibrate(confidences, right)).all()


@pytest.fixture
def dev(tmp_path):
    recordings = [noise(tmp_path / f"{n}.wav", seconds=1.0) for n in range(2)]
    manifest = tmp_path / "dev.jsonl"
    lines = [{"audio_filepath": path.name, "duration": 1.0, "text": "ab"} for path in recordings]
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return manifest


def test_the_command_prints_the_best_and_writes_it_where_it_is_told_to(dev, tmp_path):
    folder = tiny_checkpoint(tmp_path / "tiny")
    command = ["lm", "tune", "--manifest", dev, "-m", folder, "--alpha", "0.5", "--beta", "0,1"]
    result = runner.invoke(app, [*map(str, command), "--threads", "1", "--write"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["alpha"] == 0.5
    assert found["beta"] in (0, 1)
    stored = read_config(folder)["decoding"]
    assert stored["alpha"] == found["alpha"]
    assert stored["sure"] == found["sure"]


@pytest.mark.parametrize(
    ("option", "value"), [("--alpha", "a"), ("--beta", ""), ("--beam-size", "1")]
)
def test_what_is_no_list_of_numbers_is_refused(dev, option, value):
    result = runner.invoke(app, ["lm", "tune", "--manifest", str(dev), option, value])
    assert result.exit_code == 2
