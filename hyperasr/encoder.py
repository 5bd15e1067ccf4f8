"""HyperConformer: log-mel features in, CTC log-probabilities out; Conformer as the baseline.

One alphabet names every axis below:

    B  utterances in the batch        D  model width
    T  feature frames (10 ms)         H  mixing heads, each E = D / H wide
    S  encoder frames (40 ms)         K  mixing width of one head, d_ffn / H
    M  mel bands                      V  vocabulary, blank included

`keep` is (B, S, 1), 1.0 on real frames and 0.0 on padding. Every layer that looks sideways in
time multiplies by it first (attention masks by it), and the front end reflects each utterance at
its own end: an utterance gets the same answer alone or in any batch.

Reading order: config, front end, the sublayers, the block, the model. Nothing here knows about
files, words or the command line; `checkpoint.py` fills the weights in. Sources: HyperConformer
arXiv:2305.18281, HyperMixer arXiv:2203.03691, Conformer arXiv:2005.08100.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hyperasr.errors import ConfigError

SUBSAMPLING = 4
"""Feature frames per encoder frame."""
TILE = 256
"""Encoder frames that the front end makes at a time on a CPU: its inside is the peak of memory."""


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """Sizes of one encoder. The defaults are the paper's 8M model over 28 characters."""

    mixer: Literal["hypermixing", "attention"] = "hypermixing"
    n_mels: int = 80
    vocab_size: int = 29
    d_model: int = 144
    n_layers: int = 10
    n_heads: int = 8
    d_ffn: int = 576
    conv_kernel: int = 31
    channels: tuple[int, int] = (64, 32)
    dropout: float = 0.1

    def __post_init__(self) -> None:
        """Reject sizes that cannot be built, before any memory is spent."""
        if self.mixer not in ("hypermixing", "attention"):
            raise ConfigError(f"mixer={self.mixer!r} must be 'hypermixing' or 'attention'")
        for name in (
            "n_mels",
            "vocab_size",
            "d_model",
            "n_layers",
            "n_heads",
            "d_ffn",
            "conv_kernel",
        ):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name}={getattr(self, name)} must be positive")
        if len(self.channels) != 2 or min(self.channels) <= 0:
            raise ConfigError(f"channels={self.channels} must be two positive numbers")
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"dropout={self.dropout} must be from 0 to below 1")
        if self.d_model % self.n_heads or self.d_ffn % self.n_heads:
            raise ConfigError(f"n_heads={self.n_heads} must divide d_model and d_ffn")
        if self.d_model % 2:
            raise ConfigError(f"d_model={self.d_model} must be even, for pairs of sine and cosine")
        if self.conv_kernel % 2 == 0:
            raise ConfigError(f"conv_kernel={self.conv_kernel} must be odd, to keep frames aligned")
        if self.n_mels % SUBSAMPLING:
            raise ConfigError(f"n_mels={self.n_mels} must be a multiple of {SUBSAMPLING}")


_SMALL = EncoderConfig()
_LARGE = EncoderConfig(d_model=256, d_ffn=1024)
CONFIGS = {
    "hyperconformer-8m": _SMALL,
    "hyperconformer-22m": _LARGE,
    "conformer-8m": replace(_SMALL, mixer="attention"),
    "conformer-22m": replace(_LARGE, mixer="attention"),
}
"""The published sizes; their names count the recipe's attention decoder in."""


class Dropout(nn.Module):
    """Dropout that draws eight decisions from one random number on the CPU.

    There torch draws them one by one in one thread, which takes a third of a training step.
    The share that is dropped is a multiple of 1/256.
    """

    def __init__(self, share: float):
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape; what is kept grows so that the mean stays."""
        if not self.training or self.share == 0.0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.share)
        count, dropped = x.numel(), round(256 * self.share)
        numbers = torch.empty((count + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
        keep = numbers.view(torch.uint8)[:count].view(x.shape) >= dropped
        return x * (keep.to(x.dtype) * (256 / (256 - dropped)))


class FrontEnd(nn.Module):
    """Two 3x3 convolutions of stride 2 over time and frequency, reflected at the edges."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        first, second = config.channels
        self.conv1 = nn.Linear(9, first)  # one input channel: a matrix product over 3x3 patches
        self.norm1 = nn.LayerNorm([config.n_mels // 2, first])
        self.conv2 = nn.Conv2d(first, second, 3, stride=2)
        self.norm2 = nn.LayerNorm([config.n_mels // 4, second])
        self.dropout = Dropout(config.dropout)
        self.project = nn.Linear(config.n_mels // 4 * second, config.d_model)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, M) and (B,) -> (B, S, D) and (B,) in encoder frames."""
        patches = self.patches(features, lengths)  # (B, T/2 + 2, M/2, 9)
        S = (patches.shape[1] - 1) // 2
        tile = S if self.training or patches.device.type != "cpu" else max(1, TILE // len(patches))
        # Frames a to b of the output see the patches 2a to 2b: pieces give what the whole would.
        pieces = [patches[:, 2 * a : 2 * min(a + tile, S) + 1] for a in range(0, S, tile)]
        x = torch.cat([self.convolve(piece) for piece in pieces], dim=1)  # (B, S, M/4 C)
        return self.dropout(self.project(x)), half(half(lengths))

    def convolve(self, patches: Tensor) -> Tensor:
        """Both convolutions: (B, 2 S + 1, M/2, 9) -> (B, S, M/4 C)."""
        x = self.dropout(F.leaky_relu(self.norm1(self.conv1(patches))))
        x = torch.cat([x[:, :, 1:2], x], dim=2)  # (B, 2 S + 1, M/2 + 1, C), reflected low edge
        x = self.conv2(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # (B, S, M/4, C), channels last
        return self.dropout(F.leaky_relu(self.norm2(x))).flatten(2)

    def patches(self, features: Tensor, lengths: Tensor) -> Tensor:
        """What the first convolution sees (B, T/2 + 2, M/2, 9), one frame beyond either end.

        Up to the second convolution every frame is computed by itself, so the edges that the
        second one reflects are made here, by repeating patches, where they cost no gradient.
        """
        x = reflect(features, lengths)  # (B, T + 2, M)
        x = torch.cat([x[:, :, 1:2], x], dim=2)  # (B, T + 2, M + 1)
        patches = x.unfold(1, 3, 2).unfold(2, 3, 2).flatten(3)  # (B, T/2, M/2, 9)
        return reflect(patches, half(lengths))


def half(lengths: Tensor) -> Tensor:
    """How many frames a convolution of stride 2 leaves, rounded up."""
    return (lengths + 1) // 2


def reflect(x: Tensor, lengths: Tensor) -> Tensor:
    """(B, T, ...) -> (B, T + 2, ...): a mirrored frame before the start and after each own end."""
    mirrored = torch.cat([x[:, 1:2], x, torch.zeros_like(x[:, :1])], dim=1)
    rows = torch.arange(len(x), device=x.device)
    mirrored[rows, lengths + 1] = mirrored[rows, lengths - 1]
    return mirrored


class HyperMixing(nn.Module):
    """Token mixing in linear time: the utterance itself writes the MLP that mixes its frames.

    Stands where self-attention stands in a Conformer. The paper lets two small networks write
    matrices W1, W2 of (S, K) per head and computes GELU(zᵀ W1) W2ᵀ. A network's last layer is
    W = h V + v with h only E wide, so neither matrix is ever built:

        zᵀ W1 = (zᵀ h1) V1 + (Σ z) v1        and        W2 Pᵀ = h2 (V2 Pᵀ) + P v2
    """

    def __init__(self, config: EncoderConfig):
        super().__init__()
        H, E, K = config.n_heads, config.d_model // config.n_heads, config.d_ffn // config.n_heads
        self.n_heads = H
        self.hidden_weight = nn.Parameter(torch.empty(H, E, 2 * E))  # W1's network, then W2's
        self.hidden_bias = nn.Parameter(torch.zeros(H, 1, 2 * E))
        self.in_weight = nn.Parameter(torch.empty(H, E, K))
        self.in_bias = nn.Parameter(torch.zeros(H, 1, K))
        self.out_weight = nn.Parameter(torch.empty(H, E, K))
        self.out_bias = nn.Parameter(torch.zeros(H, 1, K))
        self.norm = nn.LayerNorm(config.d_model)
        for weight in (self.hidden_weight, self.in_weight, self.out_weight):
            nn.init.normal_(weight, std=E**-0.5)

    def forward(self, x: Tensor, keep: Tensor, positions: Tensor) -> Tensor:
        """(B, S, D) -> (B, S, D)."""
        B, S, D = x.shape
        E = D // self.n_heads
        x = x * keep
        z = self.heads(x)  # (H, B, S, E)
        frames = self.heads(x + positions).flatten(1, 2)  # (H, B S, E)
        hidden = F.gelu(torch.baddbmm(self.hidden_bias, frames, self.hidden_weight))
        h1, h2 = hidden.view(self.n_heads, B, S, -1).chunk(2, dim=-1)  # (H, B, S, E) each

        summary = (z.transpose(2, 3) @ h1).flatten(1, 2)  # (H, B E, E)
        total = z.sum(dim=2).flatten(1).unsqueeze(2)  # (H, B E, 1)
        mixed = F.gelu(torch.baddbmm(total @ self.in_bias, summary, self.in_weight))  # (H, B E, K)

        back = mixed @ self.out_weight.transpose(1, 2)  # (H, B E, E)
        shift = mixed @ self.out_bias.transpose(1, 2)  # (H, B E, 1)
        out = torch.baddbmm(
            shift.reshape(-1, 1, E), h2.flatten(0, 1), back.reshape(-1, E, E).transpose(1, 2)
        )  # (H B, S, E)
        return self.norm(out.view(self.n_heads, B, S, E).permute(1, 2, 0, 3).flatten(2))

    def heads(self, x: Tensor) -> Tensor:
        """(B, S, D) -> (H, B, S, E)."""
        return x.view(*x.shape[:2], self.n_heads, -1).permute(2, 0, 1, 3)


class RelativeAttention(nn.Module):
    """Self-attention with relative position codes (Transformer-XL, arXiv:1901.02860).

    As the reference has it: scaled by the whole width, not a head's, and codes that know how far
    apart two frames are, not which comes first.
    """

    def __init__(self, config: EncoderConfig):
        super().__init__()
        D = config.d_model
        self.n_heads, self.dropout = config.n_heads, config.dropout
        self.query_key_value = nn.Linear(D, 3 * D, bias=False)  # per head: query, key, value
        self.position = nn.Linear(D, D, bias=False)
        self.content_bias = nn.Parameter(torch.zeros(config.n_heads, 1, D // config.n_heads))
        self.position_bias = nn.Parameter(torch.zeros(config.n_heads, 1, D // config.n_heads))
        self.out = nn.Linear(D, D)

    def forward(self, x: Tensor, keep: Tensor, positions: Tensor) -> Tensor:
        """(B, S, D) -> (B, S, D)."""
        B, S, D = x.shape
        q, k, v = self.split(self.query_key_value(x)).chunk(3, dim=-1)  # (B, H, S, E) each
        codes = torch.cat([positions.flip(0), positions[1:]])  # (2S - 1, D), by distance
        codes = self.split(self.position(codes[None]))  # (1, H, 2S - 1, E)
        scores = (q + self.position_bias) @ codes.transpose(2, 3) * D**-0.5  # (B, H, S, 2S - 1)
        # Row i needs the columns from S - 1 - i on: a view whose rows start one column earlier.
        batch, head, row, column = scores.stride()
        bias = scores.as_strided((*scores.shape[:3], S), (batch, head, row - 1, column), S - 1)
        padding = torch.zeros_like(keep).masked_fill(keep == 0, -torch.inf)  # (B, S, 1)
        bias = bias + padding.transpose(1, 2)[:, None]  # (B, H, S, S)
        dropout = self.dropout if self.training else 0.0
        x = F.scaled_dot_product_attention(
            q + self.content_bias, k, v, attn_mask=bias, dropout_p=dropout, scale=D**-0.5
        )
        return self.out(x.transpose(1, 2).reshape(B, S, D))

    def split(self, x: Tensor) -> Tensor:
        """(B, S, n D) -> (B, H, S, n E)."""
        return x.view(*x.shape[:2], self.n_heads, -1).transpose(1, 2)


class Convolution(nn.Module):
    """The Conformer's local half: gate, depthwise convolution over time, project."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        D, k = config.d_model, config.conv_kernel
        self.norm = nn.LayerNorm(D)
        self.gate = nn.Linear(D, 2 * D)
        self.depthwise = nn.Conv1d(D, D, k, padding=k // 2, groups=D)
        self.out_norm = nn.LayerNorm(D)
        self.out = nn.Linear(D, D)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        """(B, S, D) -> (B, S, D)."""
        x = F.glu(self.gate(self.norm(x)), dim=-1) * keep  # padding must not leak through k frames
        x = self.convolve(x)
        return self.dropout(self.out(F.silu(self.out_norm(x))))

    def convolve(self, x: Tensor) -> Tensor:
        """(B, S, D) -> (B, S, D), as a channels-last conv2d: 25 times as fast as conv1d.

        In float32 on the CPU: in bfloat16 with two threads torch 2.11 never returns for some
        shapes, and this is a hundredth of the arithmetic.
        """
        image = x.unsqueeze(2).permute(0, 3, 1, 2)  # (B, D, S, 1), channels last in memory
        weight, bias = self.depthwise.weight.unsqueeze(3), self.depthwise.bias
        on_cpu = x.device.type == "cpu"
        with torch.autocast("cpu", enabled=False) if on_cpu else nullcontext():
            image = F.conv2d(
                image.to(weight.dtype) if on_cpu else image,
                weight,
                bias,
                padding=(weight.shape[2] // 2, 0),
                groups=len(weight),
            )
        return image.permute(0, 2, 3, 1).squeeze(2).to(x.dtype)


class FeedForward(nn.Sequential):
    """Widen, bend, narrow."""

    def __init__(self, config: EncoderConfig):
        super().__init__(
            nn.LayerNorm(config.d_model),
            nn.Linear(config.d_model, config.d_ffn),
            nn.SiLU(),
            Dropout(config.dropout),
            nn.Linear(config.d_ffn, config.d_model),
            Dropout(config.dropout),
        )


class Block(nn.Module):
    """Half a feed-forward, mixing, convolution, half a feed-forward."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.ffn_in = FeedForward(config)
        self.mixing_norm = nn.LayerNorm(config.d_model)
        self.mixing: nn.Module = (
            HyperMixing(config) if config.mixer == "hypermixing" else RelativeAttention(config)
        )
        self.convolution = Convolution(config)
        self.ffn_out = FeedForward(config)
        self.norm = nn.LayerNorm(config.d_model)

    def forward(self, x: Tensor, keep: Tensor, positions: Tensor) -> Tensor:
        """(B, S, D) -> (B, S, D)."""
        x = x + 0.5 * self.ffn_in(x)
        x = x + self.mixing(self.mixing_norm(x), keep, positions)
        x = x + self.convolution(x, keep)
        x = x + 0.5 * self.ffn_out(x)
        return self.norm(x)


class Encoder(nn.Module):
    """The whole acoustic model: front end, blocks, CTC head."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.config = config
        self.front_end = FrontEnd(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(config.d_model, eps=1e-6)
        self.ctc = nn.Linear(config.d_model, config.vocab_size)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, M) and (B,) -> log-probabilities (B, S, V) and their lengths (B,).

        Every length must be at least 5 (see FeatureConfig.min_samples).
        """
        for x in self.hidden(features, lengths):
            last = x
        return self.log_probs(last), self.output_lengths(lengths)

    def hidden(self, features: Tensor, lengths: Tensor) -> Iterator[Tensor]:
        """The output (B, S, D) of each block in turn."""
        x, lengths = self.front_end(features, lengths)
        frame = torch.arange(x.shape[1], device=x.device)
        keep = (frame < lengths[:, None]).unsqueeze(2).to(x.dtype)  # (B, S, 1)
        positions = sinusoids(x.shape[1], x.shape[2], x.device).to(x.dtype)  # (S, D)
        for block in self.blocks:
            x = block(x, keep, positions)
            yield x

    @staticmethod
    def output_lengths(lengths: Tensor) -> Tensor:
        """Feature frames (B,) -> encoder frames (B,)."""
        return half(half(lengths))

    def log_probs(self, x: Tensor) -> Tensor:
        """A block's output (B, S, D) -> float32 log-probabilities (B, S, V)."""
        return F.log_softmax(self.ctc(self.norm(x.to(self.ctc.weight.dtype))).float(), dim=-1)


def sinusoids(length: int, width: int, device: torch.device) -> Tensor:
    """Fixed position codes (length, width), sines in the even columns (arXiv:1706.03762)."""
    rate = 10_000.0 ** (-torch.arange(0, width, 2, device=device) / width)
    angle = torch.arange(length, device=device)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)
