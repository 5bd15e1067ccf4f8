"""HyperConformer: log-mel features in, CTC log-probabilities out; Conformer as the baseline.

One alphabet names every axis below:

    B  utterances in the batch        D  model width
    T  feature frames (10 ms)         H  mixing heads, each E = D / H wide
    S  encoder frames (40 ms)         K  mixing width of one head, d_ffn / H
    M  mel bands                      V  vocabulary, blank included

`keep` is (B, S, 1), 1.0 on real frames and 0.0 on padding, or None where nothing is padded. Every
layer that looks sideways in time multiplies by it first (attention masks by it), and the front end
reflects each utterance at its own end: an utterance gets the same answer alone or in any batch.

Reading order: config, the sublayers, the block, the model; the front end that makes frames of
features is in `front_end.py`. Nothing here knows about
files, words or the command line; `checkpoint.py` fills the weights in. Sources: HyperConformer
arXiv:2305.18281, HyperMixer arXiv:2203.03691, Conformer arXiv:2005.08100.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hyperasr.dropout import Dropout
from hyperasr.errors import ConfigError
from hyperasr.front_end import SUBSAMPLING, FrontEnd, half


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


class HyperMixing(nn.Module):
    """Token mixing in linear time: the utterance itself writes the MLP that mixes its frames.

    Stands where self-attention stands in a Conformer. The paper lets two small networks write
    matrices W1, W2 of (S, K) per head and computes GELU(zᵀ W1) W2ᵀ. A network's last layer is
    W = h V + v with h only E wide, so neither matrix is ever built:

        zᵀ W1 = (zᵀ h1) V1 + (Σ z) v1        and        W2 Pᵀ = h2 (V2 Pᵀ) + P v2

    A column of ones beside h, a row v under V, and each side is one product.
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
        self.folded: tuple[Tensor, ...] | None = None  # with_ones(), once for all: inference only
        for weight in (self.hidden_weight, self.in_weight, self.out_weight):
            nn.init.normal_(weight, std=E**-0.5)

    def forward(self, x: Tensor, keep: Tensor | None, positions: Tensor) -> Tensor:
        """(B, S, D) -> (B, S, D)."""
        B, S, D = x.shape
        H, E = self.n_heads, D // self.n_heads
        weight, bias, write_in, write_out = self.folded or self.with_ones()
        x = x if keep is None else x * keep
        z = self.heads(x).reshape(H * B, S, E)
        frames = self.heads(x + positions).reshape(H, B * S, E)
        hidden = F.gelu(torch.baddbmm(bias, frames, weight)).view(H * B, S, -1)  # h1, ONE, h2
        summary = z.transpose(1, 2) @ hidden[..., : E + 1]  # (H B, E, E + 1): zᵀ h1 and Σ z
        mixed = F.gelu(summary.view(H, B * E, E + 1) @ write_in)  # (H, B E, K)
        back = (mixed @ write_out.transpose(1, 2)).view(H * B, E, E + 1)
        out = hidden[..., E:] @ back.transpose(1, 2)  # (H B, S, E)
        return self.norm(out.view(H, B, S, E).permute(1, 2, 0, 3).flatten(2))

    def with_ones(self) -> tuple[Tensor, ...]:
        """Weight, bias of the hidden layers, V1 over v1, v2 over V2; between h1 and h2 a ONE.

        The column passes through GELU, so it is of eights, where GELU does nothing and dividing
        is exact.
        """
        E = self.in_weight.shape[1]
        zero = torch.zeros_like(self.hidden_weight[..., :1])
        weight = torch.cat([self.hidden_weight[..., :E], zero, self.hidden_weight[..., E:]], dim=2)
        eight = torch.full_like(self.hidden_bias[..., :1], 8.0)
        bias = torch.cat([self.hidden_bias[..., :E], eight, self.hidden_bias[..., E:]], dim=2)
        write_in = torch.cat([self.in_weight, self.in_bias / 8], dim=1)  # (H, E + 1, K)
        write_out = torch.cat([self.out_bias / 8, self.out_weight], dim=1)  # (H, E + 1, K)
        return weight, bias, write_in, write_out

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

    def forward(self, x: Tensor, keep: Tensor | None, positions: Tensor) -> Tensor:
        """(B, S, D) -> (B, S, D)."""
        B, S, D = x.shape
        q, k, v = self.split(self.query_key_value(x)).chunk(3, dim=-1)  # (B, H, S, E) each
        codes = torch.cat([positions.flip(0), positions[1:]])  # (2S - 1, D), by distance
        codes = self.split(self.position(codes[None]))  # (1, H, 2S - 1, E)
        scores = (q + self.position_bias) @ codes.transpose(2, 3) * D**-0.5  # (B, H, S, 2S - 1)
        # Row i needs the columns from S - 1 - i on: a view whose rows start one column earlier.
        batch, head, row, column = scores.stride()
        bias = scores.as_strided((*scores.shape[:3], S), (batch, head, row - 1, column), S - 1)
        if keep is not None:
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

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """(B, S, D) -> (B, S, D)."""
        h = F.glu(self.gate(self.norm(x)), dim=-1)
        h = h if keep is None else h * keep  # padding must not leak through k frames
        h = silu(self.out_norm(self.convolve(h)))
        return add_linear(x, self.out, h, self.dropout)

    def convolve(self, x: Tensor) -> Tensor:
        """(B, S, D) -> (B, S, D), as a channels-last conv2d: 25 times as fast as conv1d.

        In float32 on the CPU: in bfloat16 with two threads torch 2.11 never returns for some
        shapes, and this is a hundredth of the arithmetic.
        """
        image = x.unsqueeze(2).permute(0, 3, 1, 2)  # (B, D, S, 1), channels last in memory
        weight, bias = self.depthwise.weight.unsqueeze(3), self.depthwise.bias
        on_cpu = x.device.type == "cpu"
        rounding = on_cpu and torch.is_autocast_enabled("cpu")
        with torch.autocast("cpu", enabled=False) if rounding else nullcontext():
            image = F.conv2d(
                image.to(weight.dtype) if on_cpu else image,
                weight,
                bias,
                padding=(weight.shape[2] // 2, 0),
                groups=len(weight),
            )
        return image.permute(0, 2, 3, 1).squeeze(2).to(x.dtype)


class FeedForward(nn.Sequential):
    """Widen, bend, narrow; half of it is added."""

    def __init__(self, config: EncoderConfig):
        super().__init__(
            nn.LayerNorm(config.d_model),
            nn.Linear(config.d_model, config.d_ffn),
            nn.SiLU(),
            Dropout(config.dropout),
            nn.Linear(config.d_ffn, config.d_model),
            Dropout(config.dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, D) -> (B, S, D)."""
        norm, widen, _, dropout, narrow, last_dropout = self
        h = dropout(silu(widen(norm(x))))  # (B, S, d_ffn)
        return add_linear(x, narrow, h, last_dropout, scale=0.5)


def silu(x: Tensor) -> Tensor:
    """SiLU, in place where no gradient needs x."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


def add_linear(
    x: Tensor, linear: nn.Module, h: Tensor, dropout: nn.Module, scale: float = 1.0
) -> Tensor:
    """x + scale * dropout(linear(h)); a folded layer has the scale in it and adds by itself."""
    add_to: Callable[[Tensor, Tensor], Tensor] | None = getattr(linear, "add_to", None)
    if add_to is not None:
        return add_to(x, h)
    return torch.add(x, dropout(linear(h)), alpha=scale)


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

    def forward(self, x: Tensor, keep: Tensor | None, positions: Tensor) -> Tensor:
        """(B, S, D) -> (B, S, D)."""
        x = self.ffn_in(x)
        x = x + self.mixing(self.mixing_norm(x), keep, positions)
        x = self.convolution(x, keep)
        x = self.ffn_out(x)
        return self.norm(x)


class Encoder(nn.Module):
    """The whole acoustic model: front end, blocks, CTC head."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.config = config
        self.front_end = FrontEnd(config.n_mels, config.channels, config.d_model, config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(config.d_model, eps=1e-6)
        self.ctc = nn.Linear(config.d_model, config.vocab_size)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, M) and (B,) -> log-probabilities (B, S, V) and their lengths (B,).

        Every length must be at least 5 (see FeatureConfig.min_samples).
        """
        encoded, lengths = self.encode(features, lengths)
        return self.read(encoded), lengths

    def encode(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """What the CTC head and an attention decoder read, (B, S, D), and its lengths (B,)."""
        for x in self.hidden(features, lengths):
            last = x
        return self.norm(last.to(self.ctc.weight.dtype)), self.output_lengths(lengths)

    def hidden(self, features: Tensor, lengths: Tensor) -> Iterator[Tensor]:
        """The output (B, S, D) of each block in turn."""
        x, lengths = self.front_end(features.to(self.ctc.weight.dtype), lengths)
        keep = None
        if (
            x.device.type != "cpu" or int(lengths.min()) < x.shape[1]
        ):  # to look would make a GPU wait
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
        return self.read(self.norm(x.to(self.ctc.weight.dtype)))

    def read(self, encoded: Tensor) -> Tensor:
        """Encoded frames (B, S, D) -> float32 log-probabilities (B, S, V)."""
        return F.log_softmax(self.ctc(encoded).float(), dim=-1)


def sinusoids(length: int, width: int, device: torch.device) -> Tensor:
    """Fixed position codes (length, width), sines in the even columns (arXiv:1706.03762)."""
    rate = 10_000.0 ** (-torch.arange(0, width, 2, device=device) / width)
    angle = torch.arange(length, device=device)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)
