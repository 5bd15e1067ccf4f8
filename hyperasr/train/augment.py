"""What is done to an utterance so that it never sounds the same twice."""

import numpy as np
import torch
import torchaudio.functional
from torch import Generator, Tensor

from hyperasr.train.config import TrainConfig


def change_speed(waveform: Tensor, speed: float) -> Tensor:
    """Play (N,) samples `speed` times as fast, pitch and all (Ko et al., Interspeech 2015)."""
    percent = round(speed * 100)
    if percent == 100:
        return waveform
    return torchaudio.functional.resample(waveform, percent, 100)


def background(samples: int, seed: int) -> Tensor:
    """(N,) of sound in which nobody speaks: noise from white to brown at any level, or silence."""
    rng = np.random.default_rng(seed)
    level = 10.0 ** rng.uniform(-4.0, -0.5)
    slope = rng.uniform(0.0, 1.0)  # of the amplitude: 0 white, 0.5 pink, 1 brown
    if rng.random() < 0.1:
        return torch.zeros(samples)
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    spectrum[1:] /= np.arange(1, len(spectrum)) ** slope
    noise = np.fft.irfft(spectrum, samples)
    return torch.from_numpy((level * noise / np.abs(noise).max()).astype(np.float32))


def room_noise(waveform: Tensor, samples: int, seed: int) -> Tensor:
    """(N,) as loud as the quietest tenth of `waveform`: what a microphone hears in a pause."""
    frames = waveform[: len(waveform) // 160 * 160].view(-1, 160)  # 10 ms each
    level = frames.square().mean(1).sqrt().quantile(0.1) if len(frames) else 0.0
    return level * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def spec_augment(
    features: Tensor, lengths: Tensor, config: TrainConfig, generator: Generator
) -> Tensor:
    """Hide bands of frequency and stretches of time of (B, T, M), SpecAugment arXiv:1904.08779.

    Masked values become 0, the mean of normalised features. Each time mask is at most
    `time_share` of the utterance's own length (arXiv:1912.05533) and `time_width` frames.
    The masks are drawn on the CPU, so a run gives the same result on any device.
    """
    B, T, M = features.shape

    def masks(count: int, widest: Tensor, size: Tensor, axis: Tensor) -> Tensor:
        """(B, len(axis)), true where any of `count` random stretches lies."""
        width = torch.rand(B, count, generator=generator) * widest[:, None]
        start = torch.rand(B, count, generator=generator) * (size[:, None] - width).clamp(min=0)
        inside = (axis >= start[..., None]) & (axis < (start + width)[..., None])
        return inside.any(dim=1)

    own = lengths.cpu().float()
    bands = torch.full((B,), float(M))
    widest = torch.full((B,), float(config.frequency_width))
    longest = (own * config.time_share).clamp(max=config.time_width)
    in_time = masks(config.time_masks, longest, own, torch.arange(T))
    in_frequency = masks(config.frequency_masks, widest, bands, torch.arange(M))
    hidden = in_time[:, :, None] | in_frequency[:, None, :]  # (B, T, M)
    return features.masked_fill(hidden.to(features.device), 0.0)
