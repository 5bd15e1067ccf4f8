"""Waveform -> log-mel features: the filter bank of the published HyperConformer recipe.

    B  utterances in the batch      T  feature frames, one every 10 ms
    N  samples at 16 kHz            M  mel bands

Every utterance is treated by itself: its silence floor (80 dB below its loudest band) and its
number of frames depend on nothing else in the batch.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hyperasr.errors import ConfigError

DYNAMIC_RANGE_DB = 80.0
POWER_FLOOR = 1e-10


@dataclass(frozen=True, slots=True)
class FeatureConfig:
    """Sizes of the filter bank; the defaults are the published ones (25 ms every 10 ms)."""

    sample_rate: int = 16_000
    window: int = 400
    hop: int = 160
    n_mels: int = 80

    def __post_init__(self) -> None:
        """Refuse sizes that give no filter bank."""
        if min(self.sample_rate, self.window, self.hop, self.n_mels) <= 0:
            raise ConfigError("features: sample_rate, window, hop and n_mels must be positive")
        if self.window % 2:
            raise ConfigError(f"features: window={self.window} must be even")
        if self.hop > self.window:
            raise ConfigError(f"features: hop={self.hop} skips samples, window={self.window}")

    @property
    def min_samples(self) -> int:
        """The shortest waveform that gives the encoder's front end an edge to reflect."""
        return 4 * self.hop


class LogMel(nn.Module):
    """Normalised log-mel features; `mean` and `std` (M,) are part of the checkpoint.

    Source: SpeechBrain's Fbank as the HyperConformer recipe (arXiv:2305.18281) configures it.
    Always computed in float32, whatever the encoder computes in.
    """

    window: Tensor
    filters: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, config: FeatureConfig | None = None):
        super().__init__()
        self.config = config = config or FeatureConfig()
        window = torch.hamming_window(config.window, periodic=True)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", mel_filters(config), persistent=False)
        self.register_buffer("mean", torch.zeros(config.n_mels))
        self.register_buffer("std", torch.ones(config.n_mels))

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N) samples and (B,) their numbers -> (B, T, M) and (B,) their frames."""
        decibels, frames = self.decibels(waveforms, lengths)
        return (decibels - self.mean) / self.std.clamp(min=1e-10), frames

    def decibels(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N) and (B,) -> log-mel in dB (B, T, M), not normalised, and frames (B,)."""
        N = waveforms.shape[1]
        inside = torch.arange(N, device=waveforms.device) < lengths[:, None]  # (B, N)
        with torch.autocast(waveforms.device.type, enabled=False):
            spectrum = torch.stft(
                waveforms.float() * inside,
                self.config.window,
                self.config.hop,
                window=self.window,
                center=True,
                pad_mode="constant",
                return_complex=True,
            )  # (B, window / 2 + 1, T)
            power = spectrum.real.square() + spectrum.imag.square()  # (B, window / 2 + 1, T)
            mel = power.transpose(1, 2) @ self.filters  # (B, T, M)
            decibels = 10.0 * mel.clamp(min=POWER_FLOOR).log10()
        frames = lengths // self.config.hop + 1
        padding = torch.arange(mel.shape[1], device=mel.device) >= frames[:, None]  # (B, T)
        loudest = decibels.masked_fill(padding[..., None], -torch.inf).amax(dim=(1, 2))  # (B,)
        return decibels.maximum(loudest[:, None, None] - DYNAMIC_RANGE_DB), frames


def mel_filters(config: FeatureConfig) -> Tensor:
    """Triangular filters (window / 2 + 1, M), symmetric in Hz around each centre.

    The half-width is the distance to the *left* neighbour on both sides, as in the reference:
    not the filters of HTK, Slaney or torchaudio.
    """
    edges = mel_edges(config)
    centres, widths = edges[1:-1], (edges[1:] - edges[:-1])[:-1]  # (M,) Hz
    bins = torch.linspace(0.0, config.sample_rate / 2, config.window // 2 + 1)[:, None]  # Hz
    return (1.0 - (bins - centres).abs() / widths).clamp(min=0.0)


def mel_edges(config: FeatureConfig) -> Tensor:
    """(M + 2,) Hz, evenly spaced in mel: 0, the centres of the bands, the Nyquist frequency."""
    top = 2595.0 * math.log10(1.0 + config.sample_rate / 2 / 700.0)
    return 700.0 * (10.0 ** (torch.linspace(0.0, top, config.n_mels + 2) / 2595.0) - 1.0)
