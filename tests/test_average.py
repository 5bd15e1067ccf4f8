"""The mean of checkpoints."""

import math

import pytest
import torch
from typer.testing import CliRunner

from hyperasr.checkpoint import load_checkpoint, save_checkpoint
from hyperasr.cli import app
from hyperasr.encoder import Encoder, EncoderConfig
from hyperasr.errors import ConfigError
from hyperasr.features import LogMel
from hyperasr.tokens import CharTokens
from hyperasr.train.average import average

SIZES = EncoderConfig(d_model=16, n_layers=2, n_heads=2, d_ffn=32, channels=(4, 4))


def saved(folder, seed, sizes=SIZES, loudness=0.0):
    torch.manual_seed(seed)
    features = LogMel()
    features.mean.fill_(loudness)
    save_checkpoint(folder, Encoder(sizes), features, CharTokens())
    return folder


def weights_of(folder):
    return load_checkpoint(folder).encoder.state_dict()


@pytest.mark.parametrize(("weights", "shares"), [(None, (0.5, 0.5)), ([3.0, 1.0], (0.75, 0.25))])
def test_every_weight_is_the_mean_of_its_own(tmp_path, weights, shares):
    names = [saved(tmp_path / name, seed) for seed, name in enumerate("ab")]
    average(names, tmp_path / "mean", weights)
    one, other = map(weights_of, names)
    for name, tensor in weights_of(tmp_path / "mean").items():
        expected = shares[0] * one[name] + shares[1] * other[name]
        torch.testing.assert_close(tensor, expected, atol=1e-3, rtol=1e-3)  # saved in half


def test_what_does_not_fit_is_named(tmp_path):
    first = saved(tmp_path / "first", 0)
    larger = saved(tmp_path / "larger", 0, EncoderConfig(d_model=32, n_heads=2, n_layers=2))
    louder = saved(tmp_path / "louder", 0, loudness=1.0)
    with pytest.raises(ConfigError, match=r"first and .*larger have different sizes"):
        average([first, larger], tmp_path / "mean")
    with pytest.raises(ConfigError, match=r"louder have different feature statistics"):
        average([first, louder], tmp_path / "mean")
    with pytest.raises(ConfigError, match="2 checkpoints, but 1 weights"):
        average([first, first], tmp_path / "mean", [1.0])
    with pytest.raises(ConfigError, match="none is negative"):
        average([first, first], tmp_path / "mean", [2.0, -1.0])
    for weights in ([math.nan, 1.0], [1.0, math.nan], [math.inf, 1.0], [1e308, 1e308], [0.0, 0.0]):
        with pytest.raises(ConfigError, match="weights are finite"):
            average([first, first], tmp_path / "mean", weights)
    assert not (tmp_path / "mean").exists()


def test_on_the_command_line(tmp_path):
    names = [str(saved(tmp_path / name, seed)) for seed, name in enumerate("ab")]
    command = ["average", *names, "--weights", "1,0", "-o", str(tmp_path / "mean")]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert torch.allclose(
        weights_of(tmp_path / "mean")["ctc.weight"], weights_of(names[0])["ctc.weight"], atol=1e-3
    )
    wrong = CliRunner().invoke(app, [*command[:3], "--weights", "much", "-o", "x"])
    assert wrong.exit_code == 2
