"""The filter bank against a slow second opinion in float64, written from the recipe alone."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperasr.errors import ConfigError
from hyperasr.features import FeatureConfig, LogMel

SECOND = 16_000


@pytest.fixture(scope="module")
def log_mel():
    return LogMel().eval()


def slow_power(samples: np.ndarray) -> np.ndarray:
    """(N,) -> mel power (T, 80): one frame, one bin, one filter at a time."""
    n = np.arange(400)
    window = 0.54 - 0.46 * np.cos(2 * np.pi * n / 400)
    waves = np.exp(-2j * np.pi * np.outer(n, np.arange(201)) / 400)
    padded = np.concatenate([np.zeros(200), samples.astype(np.float64), np.zeros(200)])
    mels = np.linspace(0, 2595 * math.log10(1 + 8000 / 700), 82)
    hz = 700 * (10 ** (mels / 2595) - 1)
    frequencies = np.arange(201) * 40.0
    power = np.zeros((len(samples) // 160 + 1, 80))
    for t in range(len(power)):
        spectrum = np.abs((padded[160 * t : 160 * t + 400] * window) @ waves) ** 2
        for m in range(80):
            left = hz[m + 1] - hz[m]
            triangle = np.maximum(0, 1 - np.abs(frequencies - hz[m + 1]) / left)
            power[t, m] = spectrum @ triangle
    return power


def slow_decibels(samples: np.ndarray) -> np.ndarray:
    decibels = 10 * np.log10(np.maximum(slow_power(samples), 1e-10))
    return np.maximum(decibels, decibels.max() - 80)


def alone(log_mel: LogMel, samples: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Decibels (T, 80) of one utterance."""
    samples = torch.as_tensor(samples, dtype=torch.float32)
    decibels, frames = log_mel.decibels(samples[None], torch.tensor([len(samples)]))
    assert decibels.shape == (1, int(frames[0]), 80)
    return decibels[0]


def noise(count: int, level: float = 0.1, seed: int = 0) -> np.ndarray:
    return np.float32(level * np.random.default_rng(seed).standard_normal(count))


def tones(*frequencies: float, level: float = 0.3, count: int = 4000) -> np.ndarray:
    time = np.arange(count) / SECOND
    return np.float32(sum(level * np.sin(2 * np.pi * f * time + f) for f in frequencies))


SOUNDS = {
    "loud noise": noise(4000, 0.3),
    "quiet noise": noise(4000, 1e-4),
    "low tone": tones(123.4),
    "high tone": tones(7777.0),
    "chord": tones(220.0, 1000.0, 3520.0, level=0.1),
    "constant": np.full(4000, 0.5, np.float32),
    "speech after silence": np.concatenate([np.zeros(2000, np.float32), noise(2000, 0.2)]),
    "a click": np.eye(1, 4000, 1234, dtype=np.float32)[0],
    "full scale": np.sign(noise(4000)),
}


@pytest.mark.parametrize("name", SOUNDS)
def test_decibels_are_those_of_the_slow_computation(log_mel, name):
    error = np.abs(alone(log_mel, SOUNDS[name]).numpy() - slow_decibels(SOUNDS[name]))
    # Bands that a pure tone reaches only at the very foot of their triangle feel float32.
    assert error.max() < (3e-3 if "tone" in name else 1e-3)
    assert np.median(error) < 5e-5


@pytest.mark.parametrize("count", [640, 641, 799, 800, 801, 959, 960, 961, 1119, 1120])
def test_lengths_around_multiples_of_the_hop_count_and_compute_their_last_frame(log_mel, count):
    samples = noise(count)
    decibels = alone(log_mel, samples).numpy()
    assert decibels.shape == (count // 160 + 1, 80)
    assert np.abs(decibels - slow_decibels(samples)).max() < 1e-3


def test_digital_silence_is_minus_a_hundred_everywhere(log_mel):
    decibels = alone(log_mel, np.zeros(SECOND))
    torch.testing.assert_close(decibels, torch.full((101, 80), -100.0))


def test_nothing_is_more_than_80_decibels_below_the_loudest_band(log_mel):
    samples = np.concatenate([noise(4000, 0.5), np.zeros(8000, np.float32)])
    decibels = alone(log_mel, samples)
    torch.testing.assert_close(decibels.min(), decibels.max() - 80)
    assert (decibels[40:] == decibels.min()).all()


def test_a_loud_neighbour_does_not_raise_the_floor_of_a_quiet_utterance(log_mel):
    quiet = torch.tensor(noise(SECOND // 2, 1e-4))
    quiet[4000:] = 0
    loud = torch.tensor(noise(SECOND // 2, 0.5, seed=1))
    lengths = torch.tensor([len(quiet), len(loud)])
    together, _ = log_mel.decibels(torch.stack([quiet, loud]), lengths)
    assert together[0].min() < together[1].max() - 90
    torch.testing.assert_close(together[0], alone(log_mel, quiet), rtol=0, atol=1e-5)


def test_the_frame_after_the_end_does_not_raise_the_floor(log_mel):
    """A click on the last sample is loudest there, in a frame that only a batch computes."""
    samples = torch.tensor(noise(1600 + 159, 1e-6))
    samples[-1] = 1.0
    batch = torch.zeros(1, 4000)
    batch[0, : len(samples)] = samples
    together, frames = log_mel.decibels(batch, torch.tensor([len(samples)]))
    torch.testing.assert_close(together[0, : frames[0]], alone(log_mel, samples))


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(640, 3300), min_size=1, max_size=4),
    garbage=st.sampled_from([0.0, 1e-3, 1.0, 1e4]),
    seed=st.integers(0, 99),
)
def test_an_utterance_gets_the_same_decibels_alone_and_in_a_batch(log_mel, lengths, garbage, seed):
    generator = torch.Generator().manual_seed(seed)
    longest = max(lengths) + 333 * (seed % 2)
    batch = garbage * torch.randn(len(lengths), longest, generator=generator)
    for row, length in enumerate(lengths):
        batch[row, :length] = 0.05 * torch.randn(length, generator=generator)
    together, frames = log_mel.decibels(batch, torch.tensor(lengths))
    assert frames.tolist() == [length // 160 + 1 for length in lengths]
    for row, length in enumerate(lengths):
        one = alone(log_mel, batch[row, :length])
        torch.testing.assert_close(together[row, : frames[row]], one, rtol=0, atol=1e-5)


def test_features_are_decibels_less_the_mean_over_the_standard_deviation():
    log_mel = LogMel()
    log_mel.mean.copy_(torch.linspace(-60, -20, 80))
    log_mel.std.copy_(torch.linspace(5, 25, 80))
    samples = noise(2000)
    features, frames = log_mel(torch.tensor(samples)[None], torch.tensor([2000]))
    assert frames.tolist() == [13]
    expected = (slow_decibels(samples) - np.linspace(-60, -20, 80)) / np.linspace(5, 25, 80)
    assert np.abs(features[0].numpy() - expected).max() < 1e-4


def test_a_band_that_never_varied_in_training_gives_no_infinity():
    log_mel = LogMel()
    log_mel.std.zero_()
    features, _ = log_mel(torch.tensor(noise(2000))[None], torch.tensor([2000]))
    assert features.isfinite().all()


def test_the_statistics_belong_to_the_checkpoint_and_the_filters_do_not(log_mel):
    assert set(log_mel.state_dict()) == {"mean", "std"}


def test_autocast_changes_nothing(log_mel):
    samples = torch.tensor(noise(2000))[None]
    with torch.autocast("cpu", torch.bfloat16):
        features, _ = log_mel(samples, torch.tensor([2000]))
    assert features.dtype == torch.float32
    assert torch.equal(features, log_mel(samples, torch.tensor([2000]))[0])


def test_the_highest_bin_has_no_weight_and_every_band_has_some(log_mel):
    assert log_mel.filters.shape == (201, 80)
    assert (log_mel.filters[200] == 0).all()
    assert (log_mel.filters.sum(0) > 0).all()


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"hop": 0}, "hop"),
        ({"window": -1}, "window"),
        ({"n_mels": 0}, "n_mels"),
        ({"sample_rate": 0}, "sample_rate"),
        ({"hop": 401}, "hop=401"),
    ],
)
def test_impossible_sizes_are_refused_with_the_setting_named(bad, named):
    with pytest.raises(ConfigError, match=named):
        FeatureConfig(**bad)
