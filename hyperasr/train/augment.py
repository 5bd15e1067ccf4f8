"""What is done to an utterance so that it never sounds the same twice."""

import numpy as np
import torch
import torchaudio.functional
from numpy.typing import NDArray
from torch import Generator, Tensor

from hyperasr.audio import SAMPLE_RATE as RATE
from hyperasr.features import LogMel, mel_edges
from hyperasr.train.config import TrainConfig


def change_speed(waveform: Tensor, speed: float) -> Tensor:
    """Play (N,) samples `speed` times as fast, pitch and all (Ko et al., Interspeech 2015)."""
    percent = round(speed * 100)
    if percent == 100:
        return waveform
    return torchaudio.functional.resample(waveform, percent, 100)


def background(samples: int, seed: int) -> Tensor:
    """(N,) of sound in which nobody speaks, at any level: noise, music or, one in ten, silence."""
    rng = np.random.default_rng(seed)
    level = 10.0 ** rng.uniform(-4.0, -0.5)
    slope = rng.uniform(0.0, 1.0)  # of the amplitude: 0 white, 0.5 pink, 1 brown
    kind = rng.random()
    if kind < 0.1:
        return torch.zeros(samples)
    if kind < 0.5:
        played = melodies(samples, rng)
        return torch.from_numpy((level * played / np.abs(played).max()).astype(np.float32))
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    spectrum[1:] /= np.arange(1, len(spectrum)) ** slope
    noise = np.fft.irfft(spectrum, samples)
    return torch.from_numpy((level * noise / np.abs(noise).max()).astype(np.float32))


def melodies(samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(N,) of one to five voices that play notes at random, each with a timbre of its own."""
    played = 1e-3 * rng.standard_normal(samples)
    for _ in range(rng.integers(1, 6)):
        harmonics = np.arange(1, rng.integers(2, 9))
        strengths = harmonics ** -rng.uniform(0.5, 2.0)
        fading, swing = rng.choice([0.0, 1.0, 5.0]), rng.choice([0.0, 0.004])
        lowest, slowest = rng.uniform(40.0, 500.0), rng.uniform(0.15, 1.5)
        at = 0
        while at < samples:
            length = min(int(rng.uniform(0.1, slowest) * RATE) + 1, samples - at)
            pitch = lowest * 2.0 ** (rng.integers(0, 25) / 12.0)  # two octaves of semitones
            times = np.arange(length) / RATE
            turns = pitch * (times + swing * np.sin(2 * np.pi * 5.0 * times) / 5.0)
            tones = np.sin(2 * np.pi * turns[:, None] * harmonics) @ strengths
            edges = np.minimum(1.0, np.minimum(times, times[::-1]) / 0.01)  # no clicks
            played[at : at + length] += tones * edges * np.exp(-fading * times)
            at += length if rng.random() < 0.8 else 2 * length  # a rest
    return played


def room_noise(waveform: Tensor, samples: int, seed: int) -> Tensor:
    """(N,) as loud as the quietest tenth of `waveform`: what a microphone hears in a pause."""
    frames = waveform[: len(waveform) // 160 * 160].view(-1, 160)  # 10 ms each
    level = frames.square().mean(1).sqrt().quantile(0.1) if len(frames) else 0.0
    return level * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def reverberate(waveform: Tensor, seed: int) -> Tensor:
    """(N,) as a made-up room gives it back, as loud and as long as before.

    The room is noise that dies away after the direct sound, by 60 dB in 0.1 to 0.7 s, and 0 to 15
    dB below it: Polack's model of late reverberation (1988), without a room's first echoes.
    """
    rng = np.random.default_rng(seed)
    decay = rng.uniform(0.1, 0.7)  # s
    times = np.arange(round(decay * RATE)) / RATE
    tail = rng.standard_normal(len(times)) * 10.0 ** (-3.0 * times / decay)
    tail[: round(rng.uniform(0.002, 0.01) * RATE)] = 0.0  # the first wall is some way off
    tail *= 10.0 ** (rng.uniform(-15.0, 0.0) / 20.0) / np.linalg.norm(tail)
    tail[0] = 1.0
    room = torch.from_numpy(tail.astype(np.float32))
    size = 2 ** (len(waveform) + len(room)).bit_length()  # a product of small primes is fast
    heard = torch.fft.irfft(torch.fft.rfft(waveform, size) * torch.fft.rfft(room, size))
    heard = heard[: len(waveform)]
    loudness = waveform.square().mean() / heard.square().mean().clamp(min=1e-12)
    return heard * loudness.sqrt()


def add_background(waveform: Tensor, seed: int) -> Tensor:
    """(N,) with `background` of that seed added, 5 to 30 dB below it."""
    noise = background(-(-len(waveform) // 4000) * 4000, seed)[: len(waveform)]  # for the FFT
    if not noise.any():
        return waveform
    distance = torch.tensor(np.random.default_rng(seed).uniform(5.0, 30.0), dtype=torch.float32)
    return torchaudio.functional.add_noise(waveform, noise, distance)


def warp(features: Tensor, known: LogMel, width: float, generator: Generator) -> Tensor:
    """Normalised features (B, T, M) as of other throats; it is loudness that is warped."""
    decibels = features * known.std + known.mean
    centres = mel_edges(known.config)[1:-1]
    decibels = warp_frequency(decibels, centres, width, generator)
    return (decibels - known.mean) / known.std.clamp(min=1e-10)


def warp_frequency(features: Tensor, centres: Tensor, width: float, generator: Generator) -> Tensor:
    """Features (B, T, M) with frequencies multiplied by 1 / (1 + width) to 1 + width.

    `centres` (M,) are the bands' frequencies in Hz, on the CPU, where the factors are drawn: one
    per utterance, the same for every frequency. Beyond the highest band that one is repeated
    (vocal tract length perturbation, Jaitly and Hinton 2013).
    """
    B, _, M = features.shape
    spread = torch.rand(B, 1, generator=generator) * 2.0 - 1.0
    wanted = centres * (1.0 + width) ** spread  # (B, M), Hz
    above = torch.searchsorted(centres, wanted).clamp(1, M - 1)  # (B, M)
    low, high = centres[above - 1], centres[above]
    share = ((wanted - low) / (high - low)).clamp(0.0, 1.0)
    rows = torch.zeros(B, M, M)  # each band of the result is a mean of two neighbours
    rows.scatter_(2, above[..., None], share[..., None])
    rows.scatter_(2, above[..., None] - 1, 1.0 - share[..., None])
    return features @ rows.transpose(1, 2).to(features.device)


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
