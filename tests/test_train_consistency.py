"""Every utterance heard twice, masked differently: both hearings are to agree (CR-CTC)."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from training import check_same, config_of
from training import tiny_models as tiny_models
from training import tones as tones

from hyperasr.encoder import Encoder, EncoderConfig
from hyperasr.train import losses
from hyperasr.train.batches import Batch
from hyperasr.train.config import TrainConfig
from hyperasr.train.loop import Trainer

SMALL = EncoderConfig(d_model=16, n_layers=2, n_heads=2, d_ffn=32, channels=(4, 4), dropout=0.0)
CONFIG = TrainConfig(manifests=("m",), consistency=0.2, middle_loss=0.0)


def log_probs_of(batch: int, frames: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(batch, frames, 5, generator=generator)).log_softmax(2)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=4), st.integers(0, 999))
def test_the_disagreement_is_the_divergence_both_ways_on_real_frames(sizes, seed):
    both = log_probs_of(2 * len(sizes), 12, seed)
    none = torch.zeros(0)
    batch = Batch(none, none, none, none, weight=0.25, hearings=2)
    found = losses._disagreement(both, torch.tensor(sizes * 2), batch)
    expected = sum(
        F.kl_div(x[:size], y[:size], reduction="sum", log_target=True)
        for first, second, size in zip(*both.chunk(2), sizes, strict=True)
        for x, y in ((first, second), (second, first))
    )
    torch.testing.assert_close(found, 0.25 * expected)


def test_each_hearing_learns_from_the_other_as_it_stands():
    leaves = log_probs_of(2, 6, 0).requires_grad_()
    none = torch.zeros(0)
    batch = Batch(none, none, none, none, weight=1.0, hearings=2)
    losses._disagreement(leaves, torch.tensor([6, 6]), batch).backward()
    one, other = leaves.detach()
    torch.testing.assert_close(leaves.grad, torch.stack([-other.exp(), -one.exp()]))


def test_hearing_everything_twice_changes_no_loss_while_both_agree():
    torch.manual_seed(0)
    encoder = Encoder(SMALL)
    frames = torch.tensor([100, 80])
    features = torch.randn(2, 100, 80)
    waveforms, targets = torch.zeros(2, 16000), torch.tensor([3, 4, 5, 6, 7])
    batch = Batch(waveforms, 160 * frames, targets, torch.tensor([3, 2]), 1 / 5)
    once = losses.compute(encoder, None, features, frames, batch, CONFIG)
    doubled = features.repeat(2, 1, 1), frames.repeat(2), batch.twice(), CONFIG
    twice = losses.compute(encoder, None, *doubled)
    torch.testing.assert_close(twice.ctc, once.ctc)
    torch.testing.assert_close(twice.total, once.total)
    apart = torch.cat([features, features.flip(0)]), frames.repeat(2), batch.twice()
    with_it, without = (
        losses.compute(encoder, None, *apart, replace(CONFIG, consistency=weight))
        for weight in (0.2, 0.0)
    )
    assert with_it.total > without.total


def test_a_consistent_run_that_is_stopped_and_resumed_ends_as_if_it_was_not(tones, tmp_path):
    config = config_of(tones, consistency=0.2)
    Trainer(config, tmp_path / "whole").run()
    first = Trainer(config, tmp_path / "cut")
    first.run(stop=lambda: first.step == 6)
    Trainer(config, tmp_path / "cut").run()
    check_same(tmp_path / "cut", tmp_path / "whole")
