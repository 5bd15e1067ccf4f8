"""Folding changes nothing, rounding changes little, and every compute type ends for every shape."""

from dataclasses import replace

import pytest
import torch
from test_encoder import shaken

from hyperasr import compute
from hyperasr.compute import Int8Linear, PackedLinear, deviation, fold, prepare
from hyperasr.encoder import CONFIGS, Encoder, EncoderConfig
from hyperasr.errors import ConfigError

SMALL = EncoderConfig(n_mels=16, d_model=32, n_layers=2, n_heads=4, d_ffn=64, channels=(8, 4))
EIGHT_MILLION = replace(CONFIGS["hyperconformer-8m"], n_layers=3)


def features_of(config, *lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(len(lengths), max(lengths), config.n_mels, generator=generator)
    return features, torch.tensor(lengths)


def heard(encoder, features, lengths):
    with torch.inference_mode():
        return encoder(features, lengths)[0]


@pytest.mark.parametrize("mixer", ["hypermixing", "attention"])
@pytest.mark.parametrize("lengths", [(60,), (97, 41), (5, 80, 80)])
def test_folding_is_exact_but_for_the_order_of_sums(mixer, lengths):
    encoder = shaken(Encoder(replace(SMALL, mixer=mixer)))
    batch = features_of(SMALL, *lengths)
    expected = encoder(*batch)[0]  # with gradients: nothing in place, nothing folded
    torch.testing.assert_close(heard(fold(encoder), *batch), expected.detach(), atol=2e-5, rtol=0)


def test_folding_leaves_the_encoder_and_its_features_as_they_were():
    encoder = shaken(Encoder(SMALL)).train()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    batch = features_of(SMALL, 50)
    given = batch[0].clone()
    for compute_type in ("float32", "bfloat16", "int8", "auto"):
        heard(prepare(encoder, compute_type)[0], *batch)
    assert encoder.training
    assert all(parameter.requires_grad for parameter in encoder.parameters())
    after = encoder.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert torch.equal(batch[0], given)


@pytest.mark.parametrize(("compute_type", "limit"), [("bfloat16", 0.05), ("int8", 0.1)])
def test_rounding_moves_the_answers_a_little_and_does_move_them(compute_type, limit):
    encoder = shaken(Encoder(EIGHT_MILLION))
    rounded, name = prepare(encoder, compute_type)
    assert name == compute_type
    assert 1e-4 < deviation(fold(encoder), rounded) < limit
    log_probs = heard(rounded, *features_of(EIGHT_MILLION, 120, 40))
    assert log_probs.dtype == torch.float32
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(2, 30), atol=1e-4, rtol=0)


def test_every_linear_layer_that_int8_can_round_is_rounded():
    kinds = [type(module) for module in prepare(Encoder(SMALL), "int8")[0].modules()]
    assert kinds.count(Int8Linear) == 2 + SMALL.n_layers * 6  # two in the front end
    assert kinds.count(torch.nn.Linear) == 1  # the CTC head


@pytest.mark.timeout(60)
@pytest.mark.parametrize("compute_type", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("threads", [1, 2])
def test_every_compute_type_ends_for_odd_batches_and_lengths(compute_type, threads):
    """The depthwise convolution of torch 2.11 never returned for some of these in bfloat16."""
    torch.set_num_threads(threads)
    try:
        encoder, _ = prepare(replace_layers(1), compute_type)
        for utterances, frames in [(1, 480), (7, 480), (7, 496), (5, 333), (3, 61), (1, 5)]:
            features, lengths = features_of(SMALL, *[4 * frames] * utterances)
            log_probs = heard(encoder, features.repeat(1, 1, 5), lengths)
            assert bool(log_probs.isfinite().all())
    finally:
        torch.set_num_threads(1)


def replace_layers(n_layers):
    """The 8M sizes, as the convolution that hung had them."""
    return shaken(Encoder(replace(CONFIGS["hyperconformer-8m"], n_layers=n_layers)))


@pytest.mark.parametrize("compute_type", ["float32", "bfloat16", "int8"])
def test_padding_changes_less_than_rounding_does(compute_type):
    encoder, _ = prepare(shaken(Encoder(SMALL)), compute_type)
    features, lengths = features_of(SMALL, 90, 53)
    alone = heard(encoder, features[1:, :53], lengths[1:])
    beside = heard(encoder, features, lengths)[1:, : alone.shape[1]]
    limit = {"float32": 1e-4, "bfloat16": 0.2, "int8": 0.5}[compute_type]
    torch.testing.assert_close(beside, alone, atol=limit, rtol=0)


def test_auto_takes_bfloat16_only_where_the_machine_has_it_and_the_answers_stay_close(monkeypatch):
    encoder = shaken(Encoder(SMALL))
    monkeypatch.setattr(compute, "has_bfloat16", lambda device: True)
    assert prepare(encoder, "auto")[1] == "bfloat16"
    monkeypatch.setattr(compute, "deviation", lambda exact, rounded: 0.06)
    assert prepare(encoder, "auto")[1] == "float32"
    monkeypatch.undo()
    monkeypatch.setattr(compute, "has_bfloat16", lambda device: False)
    assert prepare(encoder, "auto")[1] == "float32"


def test_an_encoder_that_rounds_to_nonsense_is_not_chosen(monkeypatch):
    encoder = shaken(Encoder(SMALL))
    monkeypatch.setattr(compute, "has_bfloat16", lambda device: True)
    with torch.no_grad():
        encoder.ctc.weight.fill_(torch.nan)
    assert prepare(encoder, "auto")[1] == "float32"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_linear_layers_are_packed_where_torch_can(dtype):
    kinds = [type(module) for module in fold(Encoder(SMALL), dtype).modules()]
    packable = hasattr(torch.ops.mkldnn, "_linear_pointwise")
    assert kinds.count(PackedLinear) == (2 + SMALL.n_layers * 6 if packable else 0)


def test_an_unknown_compute_type_is_refused_with_those_that_are_known():
    with pytest.raises(ConfigError, match="'float16' is not known: auto, float32, bfloat16, int8"):
        prepare(Encoder(SMALL), "float16")


def test_int8_is_refused_off_the_cpu():
    with pytest.raises(ConfigError, match="int8 is for the CPU, not for cuda:1"):
        prepare(Encoder(SMALL), "int8", "cuda:1")
