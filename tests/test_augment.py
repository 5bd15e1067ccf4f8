"""What is done to utterances in training: every random choice follows a seed."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hyperasr.audio import SAMPLE_RATE as RATE
from hyperasr.features import FeatureConfig, mel_edges
from hyperasr.train.augment import (
    add_background,
    background,
    change_speed,
    reverberate,
    room_noise,
    spec_augment,
    warp_frequency,
)
from hyperasr.train.config import TrainConfig


def settings_for(**changes) -> TrainConfig:
    return TrainConfig(manifests=("unused",), **changes)


@given(st.integers(1000, 20_000), st.sampled_from([0.5, 0.9, 0.95, 1.0, 1.1, 1.25, 2.0]))
def test_faster_is_shorter(count, speed):
    percent = round(speed * 100)
    assert change_speed(torch.ones(count), speed).shape == (-(-count * 100 // percent),)


@pytest.mark.parametrize("speed", [0.9, 1.0, 1.1])
def test_faster_is_higher(speed):
    tone = torch.sin(2 * torch.pi * 400 * torch.arange(RATE) / RATE)
    changed = change_speed(tone, speed)
    loudest = torch.fft.rfft(changed).abs().argmax() * RATE / len(changed)
    assert loudest == pytest.approx(400 * speed, abs=2)
    assert changed.abs().max() == pytest.approx(1.0, abs=0.05)


def test_background_is_noise_or_music_of_any_level_or_silence():
    sounds = [background(4000, seed) for seed in range(200)]
    peaks = np.array([sound.abs().max().item() for sound in sounds])
    assert all(sound.shape == (4000,) and sound.isfinite().all() for sound in sounds)
    assert 5 <= (peaks == 0).sum() <= 40, "a tenth is silent"
    assert peaks[peaks > 0].min() < 1e-3
    assert 0.1 < peaks.max() <= 1.0
    assert torch.equal(background(4001, 5), background(4001, 5))
    assert len({sound.sum().item() for sound in sounds}) > 150
    spectra = [np.abs(np.fft.rfft(sound.numpy())) ** 2 for sound in sounds if sound.any()]
    peaked = [np.sort(s)[-20:].sum() / s.sum() > 0.8 for s in spectra]
    assert 0.2 < np.mean(peaked) < 0.7, "music is tones, and so is brown noise, nearly"


def masked(seed: int, lengths: list[int], config: TrainConfig) -> torch.Tensor:
    """What SpecAugment hides of features that are nowhere 0, (B, T, M) booleans."""
    features = 1 + torch.rand(len(lengths), max(lengths), 80)
    before, generator = features.clone(), torch.Generator().manual_seed(seed)
    out = spec_augment(features, torch.tensor(lengths), config, generator)
    assert torch.equal(features, before), "its input is left alone"
    hidden = out == 0
    assert torch.equal(out[~hidden], features[~hidden])
    return hidden


mask_configs = st.builds(
    settings_for,
    frequency_masks=st.integers(0, 3),
    frequency_width=st.integers(0, 25),
    time_masks=st.integers(0, 5),
    time_share=st.floats(0.0, 0.2),
)


@given(st.integers(0, 2**31), st.lists(st.integers(5, 300), min_size=1, max_size=4), mask_configs)
@example(0, [100, 50], settings_for(frequency_masks=0, time_masks=0))
@example(0, [100, 50], settings_for(frequency_width=0, time_share=0.0))
def test_masks_are_bands_and_stretches_of_bounded_width(seed, lengths, config):
    hidden = masked(seed, lengths, config)
    for x, length in zip(hidden, lengths, strict=True):
        in_time, in_frequency = x.all(dim=1), x[:length].all(dim=0)
        assert torch.equal(x, in_time[:, None] | in_frequency[None, :])
        assert in_frequency.sum() <= config.frequency_masks * config.frequency_width
        assert in_time.sum() <= config.time_masks * np.ceil(config.time_share * length)
        assert not in_time[length:].any()


@settings(max_examples=10)
@given(st.integers(0, 2**31))
def test_the_same_generator_state_hides_the_same(seed):
    config, lengths = settings_for(), [200, 150, 200, 120]
    assert torch.equal(masked(seed, lengths, config), masked(seed, lengths, config))
    assert not torch.equal(masked(seed, lengths, config), masked(seed + 1, lengths, config))
    first, *others = masked(seed, [200] * 4, config)
    assert not all(torch.equal(first, other) for other in others), "each utterance has its own"


def test_one_mask_is_one_stretch_anywhere_of_any_width_up_to_the_limit():
    config = settings_for(frequency_masks=0, time_masks=1, time_share=0.2)
    hidden = masked(0, [200] * 400, config).all(dim=2)
    widths = hidden.sum(dim=1)
    stretches = (hidden.int().diff(dim=1) == 1).sum(dim=1) + hidden[:, 0]
    assert torch.equal(stretches, (widths > 0).int())
    assert 17 < widths.float().mean() < 23, "uniform from 0 to 40"
    assert widths.max() > 36
    early, late = hidden[:, :100].sum().item(), hidden[:, 100:].sum().item()
    assert early == pytest.approx(late, rel=0.3)


def test_the_noise_of_a_pause_is_as_loud_as_the_quietest_tenth():
    loud, quiet = 0.5 * torch.randn(12_800), 0.01 * torch.randn(3_200)
    noise = room_noise(torch.cat([loud, quiet]), 16_000, 3)
    assert noise.square().mean().sqrt() == pytest.approx(0.01, rel=0.3)
    assert torch.equal(noise, room_noise(torch.cat([loud, quiet]), 16_000, 3))
    assert not room_noise(torch.zeros(100), 50, 3).any()


def level(waveform: torch.Tensor) -> float:
    return float(waveform.square().mean().sqrt())


@settings(max_examples=15)
@given(st.integers(1, 2**31), st.integers(1, 30_000))
def test_a_room_keeps_length_and_loudness_and_follows_its_seed(seed, count):
    speech = 0.1 * torch.randn(count, generator=torch.Generator().manual_seed(seed % 1000))
    heard = reverberate(speech, seed)
    assert heard.shape == speech.shape
    assert level(heard) == pytest.approx(level(speech), rel=1e-3)
    assert torch.equal(heard, reverberate(speech, seed))
    assert not reverberate(torch.zeros(count), seed).any()


def test_a_room_is_heard_after_a_sound_and_never_before():
    click = torch.zeros(RATE)
    click[4000] = 1.0
    for seed in range(1, 20):
        heard = reverberate(click, seed).abs()
        assert heard[:4000].max() < 1e-5 < heard[4000]
        early, late = heard[4200:5600].square().sum(), heard[14_000:].square().sum()
        assert late < 1e-2 * early, "it dies away"


@settings(max_examples=15)
@given(st.integers(1, 2**31), st.integers(100, 30_000))
def test_noise_behind_speech_is_5_to_30_db_quieter(seed, count):
    speech = 0.1 * torch.randn(count, generator=torch.Generator().manual_seed(seed % 1000))
    heard = add_background(speech, seed)
    assert heard.shape == speech.shape
    noise = heard - speech
    if noise.any():  # a tenth of all backgrounds is silence
        assert 4.9 < 20 * np.log10(level(speech) / level(noise)) < 30.1


CENTRES = mel_edges(FeatureConfig())[1:-1]


@pytest.mark.parametrize("seed", range(5))
def test_a_warped_tone_is_another_tone_of_the_same_loudness(seed):
    features = torch.zeros(4, 3, 80)
    features[:, :, 40] = 1.0
    warped = warp_frequency(features, CENTRES, 0.15, torch.Generator().manual_seed(seed))
    heard = (warped * CENTRES).sum(2) / warped.sum(2)  # (B, T), Hz
    factors = CENTRES[40] / heard
    assert torch.allclose(factors, factors[:, :1].expand_as(factors)), "one for an utterance"
    assert ((factors > 1 / 1.17) & (factors < 1.17)).all()
    assert len(set(factors[:, 0].tolist())) > 1, "utterances differ"
    assert torch.allclose(warped.sum(2), torch.ones(4, 3), atol=0.3)


@given(st.floats(0.0, 0.5), st.integers(0, 1000))
def test_warping_leaves_flat_features_flat_and_by_nothing_changes_nothing(width, seed):
    flat, generator = torch.full((2, 4, 80), 0.7), torch.Generator().manual_seed(seed)
    assert torch.allclose(warp_frequency(flat, CENTRES, width, generator), flat)
    features = torch.randn(2, 4, 80)
    assert torch.allclose(warp_frequency(features, CENTRES, 0.0, generator), features, atol=1e-4)
