"""Small real things that several tests use: a tiny checkpoint, audio files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
import torch

from hyperasr.attention_decoder import AttentionDecoder
from hyperasr.checkpoint import save_checkpoint
from hyperasr.encoder import Encoder, EncoderConfig
from hyperasr.features import LogMel
from hyperasr.tokens import CharTokens

TINY = EncoderConfig(d_model=16, n_layers=2, n_heads=2, d_ffn=32, channels=(4, 4))


def tiny_checkpoint(folder: Path, seed: int = 0, decoder: AttentionDecoder | None = None) -> Path:
    """A checkpoint of random weights, small enough to build in milliseconds."""
    torch.manual_seed(seed)
    encoder = Encoder(replace(TINY, vocab_size=len(CharTokens().labels)))
    save_checkpoint(folder, encoder, LogMel(), CharTokens(), decoder=decoder)
    return folder


def noise(path: Path, seconds: float = 1.0, rate: int = 16_000, channels: int = 1) -> Path:
    """A file of quiet noise; the suffix of `path` decides the format."""
    shape = (round(seconds * rate), channels)
    samples = np.random.default_rng(0).normal(0, 0.1, shape).clip(-1, 1)
    soundfile.write(path, samples, rate)
    return path
