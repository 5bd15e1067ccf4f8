"""What the encoder promises: the published sizes and formulas, and padding that never matters."""

import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hyperasr.dropout import Dropout
from hyperasr.encoder import (
    CONFIGS,
    Convolution,
    Encoder,
    EncoderConfig,
    HyperMixing,
    RelativeAttention,
    sinusoids,
)
from hyperasr.errors import ConfigError
from hyperasr.front_end import FrontEnd

TINY = EncoderConfig(
    n_mels=8, vocab_size=11, d_model=16, n_layers=2, n_heads=4, d_ffn=32, channels=(6, 4)
)
MIXERS = ["hypermixing", "attention"]
each_mixer = pytest.mark.parametrize("mixer", MIXERS)


def shaken(module, seed=0):
    """The module in evaluation mode, no parameter left at the zero or one it starts with."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return module.eval()


def build(config, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return shaken(Encoder(config))


TINY_ENCODERS = {mixer: build(replace(TINY, mixer=mixer)) for mixer in MIXERS}


def padded_batch(lengths, n_mels, extra=0, garbage=1.0, seed=0):
    """Random features (B, T, M) whose padding is garbage, not zeros."""
    generator = torch.Generator().manual_seed(seed)
    batch = garbage * torch.randn(len(lengths), max(lengths) + extra, n_mels, generator=generator)
    for row, length in enumerate(lengths):
        batch[row, :length] = torch.randn(length, n_mels, generator=generator)
    return batch


@torch.inference_mode()
def difference_alone_and_together(encoder, batch, lengths):
    """The largest change of any log-probability when an utterance is taken out of its batch."""
    together, frames = encoder(batch, torch.tensor(lengths))
    largest = 0.0
    for row, length in enumerate(lengths):
        alone, own = encoder(batch[row : row + 1, :length], torch.tensor([length]))
        assert own.tolist() == [alone.shape[1]] == [frames[row]]
        largest = max(largest, (together[row, : frames[row]] - alone[0]).abs().max().item())
    return largest


# Sizes.


@pytest.mark.parametrize(
    ("name", "vocab_size", "parameters"),
    [
        ("hyperconformer-8m", 29, 4_420_701),
        ("hyperconformer-8m", 1000, 4_561_496),
        ("hyperconformer-8m", 5000, 5_141_496),
        ("hyperconformer-22m", 29, 13_645_245),
        ("hyperconformer-22m", 1000, 13_894_792),
        ("hyperconformer-22m", 5000, 14_922_792),
        ("conformer-8m", 29, 5_185_341),
        ("conformer-8m", 1000, 5_326_136),
        ("conformer-8m", 5000, 5_906_136),
        ("conformer-22m", 29, 16_072_352 + 29 * 257),
        ("conformer-22m", 1000, 16_072_352 + 1000 * 257),
        ("conformer-22m", 5000, 16_072_352 + 5000 * 257),
    ],
)
def test_the_named_models_have_the_published_number_of_parameters(name, vocab_size, parameters):
    with torch.device("meta"):
        encoder = Encoder(replace(CONFIGS[name], vocab_size=vocab_size))
    assert sum(parameter.numel() for parameter in encoder.parameters()) == parameters


def test_no_model_is_named_that_has_no_count():
    assert set(CONFIGS) == {
        "hyperconformer-8m",
        "hyperconformer-22m",
        "conformer-8m",
        "conformer-22m",
    }


@each_mixer
@pytest.mark.parametrize("frames", [*range(5, 18), 100, 101])
def test_rows_are_log_probabilities_of_a_quarter_of_the_frames(mixer, frames):
    log_probs, lengths = TINY_ENCODERS[mixer](torch.randn(2, frames, 8), torch.tensor([frames, 5]))
    S = math.ceil(math.ceil(frames / 2) / 2)
    assert log_probs.shape == (2, S, 11)
    assert lengths.tolist() == [S, 2]
    assert log_probs.dtype == torch.float32
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(2, S))


@each_mixer
def test_the_answer_is_that_of_the_last_block(mixer):
    encoder = TINY_ENCODERS[mixer]
    features, lengths = torch.randn(1, 40, 8), torch.tensor([40])
    outputs = list(encoder.hidden(features, lengths))
    assert [x.shape for x in outputs] == [(1, 10, 16)] * 2
    assert torch.equal(encoder.log_probs(outputs[-1]), encoder(features, lengths)[0])


IMPOSSIBLE = [
    {"mixer": "magic"},
    {"n_heads": 7},
    {"n_heads": 5, "d_model": 145},
    {"d_model": 147, "n_heads": 1},
    {"conv_kernel": 30},
    {"n_mels": 82},
    {"n_heads": 0},
    {"n_layers": 0},
    {"vocab_size": 0},
    {"n_mels": 0},
    {"d_model": -144},
    {"conv_kernel": -1},
    {"channels": (64, 32, 16)},
    {"dropout": 1.0},
    {"dropout": -0.1},
]


@pytest.mark.parametrize("bad", IMPOSSIBLE, ids=str)
def test_impossible_sizes_are_refused_with_the_setting_named(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        EncoderConfig(**bad)


# Padding never changes an answer.


@each_mixer
def test_every_short_length_gets_the_same_answer_alone_and_in_a_batch(mixer):
    lengths = list(range(5, 38))
    batch = padded_batch(lengths, 8, extra=3, garbage=10.0)
    assert difference_alone_and_together(TINY_ENCODERS[mixer], batch, lengths) < 1e-4


@settings(max_examples=40, deadline=None)
@given(
    mixer=st.sampled_from(MIXERS),
    lengths=st.lists(st.integers(5, 300), min_size=1, max_size=5),
    extra=st.integers(0, 9),
    garbage=st.sampled_from([0.0, 1.0, 1000.0]),
    seed=st.integers(0, 9),
)
@example("hypermixing", [5, 300], 0, 1000.0, 0)
@example("attention", [5, 300], 0, 1000.0, 0)
def test_an_utterance_gets_the_same_answer_alone_and_in_a_batch(
    mixer, lengths, extra, garbage, seed
):
    batch = padded_batch(lengths, 8, extra, garbage, seed)
    assert difference_alone_and_together(TINY_ENCODERS[mixer], batch, lengths) < 1e-4


@pytest.mark.parametrize("name", ["hyperconformer-8m", "conformer-8m"])
def test_the_published_sizes_give_the_same_answer_alone_and_in_a_batch(name):
    lengths = [57, 210, 131]
    batch = padded_batch(lengths, 80, extra=2, garbage=10.0)
    assert difference_alone_and_together(build(CONFIGS[name]), batch, lengths) < 1e-4


@each_mixer
def test_padding_gets_no_gradient(mixer):
    lengths = torch.tensor([37, 60, 22])
    features = padded_batch([37, 60, 22], 8, extra=5).requires_grad_()
    log_probs, frames = TINY_ENCODERS[mixer](features, lengths)
    real = torch.arange(log_probs.shape[1]) < frames[:, None]
    (gradient,) = torch.autograd.grad(log_probs[real][:, :5].sum(), features)
    inside = torch.arange(features.shape[1]) < lengths[:, None]
    assert (gradient[~inside] == 0).all()
    assert (gradient[inside].abs().amax(-1) > 0).all()


# bfloat16.


@pytest.mark.parametrize(
    "config",
    [TINY, replace(TINY, mixer="attention"), CONFIGS["hyperconformer-8m"]],
    ids=["tiny hypermixing", "tiny attention", "8m hypermixing"],
)
def test_bfloat16_gives_the_same_answer_alone_and_in_a_batch_but_for_its_rounding(config):
    """The batch may change no more than bfloat16 itself does, whose sums may differ in order."""
    encoder = build(config)
    lengths = [5, 6, 7, 8, 63, 130]
    batch = padded_batch(lengths, config.n_mels, extra=5, garbage=10.0)
    with torch.inference_mode():
        exact, frames = encoder(batch, torch.tensor(lengths))
        with torch.autocast("cpu", torch.bfloat16):
            rough, _ = encoder(batch, torch.tensor(lengths))
    assert rough.dtype == torch.float32
    real = torch.arange(exact.shape[1]) < frames[:, None]
    rounding = (rough - exact)[real].abs().max().item()
    assert 0 < rounding < 1.0
    with torch.autocast("cpu", torch.bfloat16):
        assert difference_alone_and_together(encoder, batch, lengths) < 2 * rounding


BFLOAT16_SHAPES = """
import torch
from hyperasr.encoder import Convolution, Encoder, EncoderConfig

torch.set_num_threads(2)
convolution = Convolution(EncoderConfig())
encoder = Encoder(EncoderConfig(n_layers=1))
with torch.autocast("cpu", torch.bfloat16):
    for B, S in [(7, 480), (1, 480), (7, 496), (1, 496), (3, 31), (5, 250), (9, 129)]:
        out = convolution(torch.randn(B, S, 144), torch.ones(B, S, 1))
        out.float().sum().backward()
        assert out.shape == (B, S, 144) and out.isfinite().all(), (B, S)
    for B in (1, 3, 7):
        for T in (5, 62, 511):
            with torch.no_grad():
                out, _ = encoder(torch.randn(B, T, 80), torch.full((B,), T))
            assert out.isfinite().all(), (B, T)
"""


@pytest.mark.timeout(330)
def test_bfloat16_finishes_for_odd_batches_with_two_threads():
    """In its own process: where torch hangs, nothing inside the process could stop it."""
    subprocess.run([sys.executable, "-c", BFLOAT16_SHAPES], check=True, timeout=300)


# The formulas.


def plain_front_end(front_end, features):
    """One utterance (T, M) through reflect-padded convolutions with one kernel per channel."""
    kernel1 = front_end.conv1.weight.view(-1, 1, 3, 3)  # (out, in, time, frequency)
    x = F.pad(features[None, None], (1, 1, 1, 1), mode="reflect")
    x = F.conv2d(x, kernel1, front_end.conv1.bias, stride=2).permute(0, 2, 3, 1)
    x = F.layer_norm(x, x.shape[2:], front_end.norm1.weight, front_end.norm1.bias, 1e-5)
    x = F.pad(F.leaky_relu(x, 0.01).permute(0, 3, 1, 2), (1, 1, 1, 1), mode="reflect")
    x = F.conv2d(x, front_end.conv2.weight, front_end.conv2.bias, stride=2).permute(0, 2, 3, 1)
    x = F.layer_norm(x, x.shape[2:], front_end.norm2.weight, front_end.norm2.bias, 1e-5)
    return front_end.project(F.leaky_relu(x, 0.01).flatten(2))[0]


@pytest.mark.parametrize("frames", [5, 6, 7, 8, 9, 50, 51])
@pytest.mark.parametrize("n_mels", [8, 80])
def test_the_front_end_is_two_reflected_convolutions(n_mels, frames):
    front_end = shaken(FrontEnd(n_mels, TINY.channels, TINY.d_model, 0.0))
    features = torch.randn(frames, n_mels)
    x, lengths = front_end(features[None], torch.tensor([frames]))
    expected = plain_front_end(front_end, features)
    assert lengths.tolist() == [len(expected)]
    torch.testing.assert_close(x[0], expected, rtol=1e-4, atol=1e-5)


def mixer_inputs(frames=(23, 9, 16)):
    """x (B, S, D) with garbage in its padding, keep (B, S, 1), position codes (S, D)."""
    generator = torch.Generator().manual_seed(1)
    S = max(frames)
    x = torch.randn(len(frames), S, TINY.d_model, generator=generator, dtype=torch.float64)
    keep = (torch.arange(S) < torch.tensor(frames)[:, None]).unsqueeze(2).double()
    return x, keep, sinusoids(S, TINY.d_model, x.device).double()


def naive_hypermixing(layer, x, positions):
    """One utterance (S, D): both matrices written out in full, summed over time frame by frame."""
    H, E, K = layer.in_weight.shape
    out = torch.zeros_like(x)
    for head in range(H):
        own = slice(head * E, (head + 1) * E)
        z = x[:, own]
        hidden = F.gelu(
            (z + positions[:, own]) @ layer.hidden_weight[head] + layer.hidden_bias[head]
        )
        W1 = hidden[:, :E] @ layer.in_weight[head] + layer.in_bias[head]  # (S, K)
        W2 = hidden[:, E:] @ layer.out_weight[head] + layer.out_bias[head]  # (S, K)
        mixed = torch.zeros(E, K, dtype=x.dtype)
        for frame in range(len(x)):
            mixed += torch.outer(z[frame], W1[frame])
        out[:, own] = (F.gelu(mixed) @ W2.T).T
    return layer.norm(out)


def naive_attention(layer, x, positions):
    """One utterance (S, D): every pair of frames by itself, codes by their distance."""
    S, D = x.shape
    H = layer.n_heads
    weights = layer.query_key_value.weight.view(H, 3, D // H, D)
    codes = layer.position(positions).view(S, H, D // H)
    heads = []
    for head in range(H):
        q, k, v = (x @ weight.T for weight in weights[head])
        scores = torch.zeros(S, S, dtype=x.dtype)
        for i in range(S):
            for j in range(S):
                content = (q[i] + layer.content_bias[head, 0]) @ k[j]
                place = (q[i] + layer.position_bias[head, 0]) @ codes[abs(i - j), head]
                scores[i, j] = (content + place) / math.sqrt(D)
        heads.append(scores.softmax(-1) @ v)
    return layer.out(torch.cat(heads, dim=1))


@pytest.mark.parametrize(
    ("kind", "naive"), [(HyperMixing, naive_hypermixing), (RelativeAttention, naive_attention)]
)
@torch.no_grad()
def test_a_mixer_computes_the_formula_of_its_paper(kind, naive):
    layer = shaken(kind(TINY)).double()
    x, keep, positions = mixer_inputs()
    mixed = layer(x, keep, positions)
    for row, S in enumerate(keep.sum(dim=(1, 2)).int().tolist()):
        expected = naive(layer, x[row, :S], positions[:S])
        torch.testing.assert_close(mixed[row, :S], expected, rtol=0, atol=1e-9)


def test_position_codes_are_sines_in_even_columns_and_cosines_in_odd_ones():
    codes = sinusoids(50, 8, torch.device("cpu"))
    for column in range(8):
        angles = torch.arange(50) / 10_000 ** ((column - column % 2) / 8)
        expected = angles.cos() if column % 2 else angles.sin()
        torch.testing.assert_close(codes[:, column], expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_convolution_is_the_depthwise_conv1d_of_its_parameters():
    layer = shaken(Convolution(TINY))
    x = torch.randn(3, 40, 16)
    expected = layer.depthwise(x.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(layer.convolve(x), expected, rtol=0, atol=1e-5)


# Memory, dropout, learning.


class Largest(TorchDispatchMode):
    """Watches every tensor that torch makes and remembers the size of the largest."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        self.numel = max(self.numel, *sizes, 0)
        return out


def largest_tensor(mixer, frames):
    """The largest tensor of a training step on one utterance of so many encoder frames."""
    encoder = Encoder(replace(TINY, mixer=mixer)).train()
    with Largest() as watch:
        log_probs, _ = encoder(torch.randn(1, 4 * frames, 8), torch.tensor([4 * frames]))
        log_probs[..., 0].sum().backward()
    return watch.numel


def test_memory_grows_in_proportion_to_the_length():
    short, long = largest_tensor("hypermixing", 700), largest_tensor("hypermixing", 1400)
    assert short < 700 * 700
    assert 1.9 < long / short < 2.1


def test_the_watch_on_memory_sees_the_square_of_attention():
    assert largest_tensor("attention", 1400) >= 1400 * 1400


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_dropout_drops_about_its_share_and_keeps_the_mean(share, dtype):
    torch.manual_seed(0)
    x = torch.ones(333, 1001, dtype=dtype, requires_grad=True)
    y = Dropout(share).train()(x * 1)
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    assert y.unique().numel() == 2
    assert (y == 0).float().mean().item() == pytest.approx(share, abs=1 / 256)
    assert y.float().mean().item() == pytest.approx(1.0, abs=0.01)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(gradient, y)


def test_dropout_decides_for_each_number_by_itself():
    torch.manual_seed(0)
    dropped = (Dropout(0.5).train()(torch.ones(1_000_003)) == 0).float() - 0.5
    for step in (1, 2, 3, 4, 8, 16, 64):
        assert abs((dropped[step:] * dropped[:-step]).mean().item()) < 0.002


@pytest.mark.parametrize("module", [Dropout(0.5).eval(), Dropout(0.0).train()])
def test_dropout_does_nothing_in_evaluation_or_when_its_share_is_zero(module):
    x = torch.randn(7, 9)
    assert torch.equal(module(x), x)


@each_mixer
def test_it_can_learn_one_utterance_by_heart(mixer):
    torch.manual_seed(0)
    encoder = Encoder(replace(TINY, mixer=mixer, dropout=0.0))
    features, lengths = torch.randn(1, 80, 8), torch.tensor([80])
    target = torch.tensor([[3, 1, 4, 1, 5]])
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=2e-2)
    for _ in range(100):
        log_probs, frames = encoder(features, lengths)
        loss = F.ctc_loss(log_probs.transpose(0, 1), target, frames, torch.tensor([5]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
