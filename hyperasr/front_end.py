"""Log-mel features -> the encoder's frames: a quarter as many, each of the model's width.

B  utterances in the batch        M  mel bands
T  feature frames (10 ms)         C  channels of a convolution
S  encoder frames (40 ms)         D  model width
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hyperasr.dropout import Dropout

SUBSAMPLING = 4
"""Feature frames per encoder frame."""
TILE = 256
"""Encoder frames that are made at a time on a CPU: the inside of this is the peak of memory."""


class FrontEnd(nn.Module):
    """Two 3x3 convolutions of stride 2 over time and frequency, reflected at the edges."""

    taps: Tensor

    def __init__(self, n_mels: int, channels: tuple[int, int], d_model: int, dropout: float):
        super().__init__()
        first, second = channels
        self.conv1 = nn.Linear(9, first)  # one input channel: a matrix product over 3x3 patches
        self.norm1 = nn.LayerNorm([n_mels // 2, first])
        self.conv2 = nn.Conv2d(first, second, 3, stride=2)
        self.norm2 = nn.LayerNorm([n_mels // 4, second])
        self.dropout = Dropout(dropout)
        self.project = nn.Linear(n_mels // 4 * second, d_model)
        self.register_buffer("taps", patch_columns(n_mels), persistent=False)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, M) and (B,) -> (B, S, D) and (B,) in encoder frames."""
        patches = self.patches(features, lengths)  # (B, T/2 + 2, M/2, 9)
        if patches.device.type == "cpu" and not torch.is_grad_enabled():
            # One by one: what an utterance gives does not depend on the others, to the last bit.
            rows = [self.project(self.tiled(row[None], TILE)) for row in patches]
            return torch.cat(rows), half(half(lengths))
        tile = patches.shape[1] if patches.device.type != "cpu" else max(1, TILE // len(patches))
        return self.dropout(self.project(self.tiled(patches, tile))), half(half(lengths))

    def tiled(self, patches: Tensor, tile: int) -> Tensor:
        """Both convolutions, `tile` frames of the output at a time: (B, S, M/4 C)."""
        S = (patches.shape[1] - 1) // 2
        # Frames a to b of the output see the patches 2a to 2b: pieces give what the whole would.
        pieces = [patches[:, 2 * a : 2 * min(a + tile, S) + 1] for a in range(0, S, tile)]
        convolve = self.convolve
        if torch.is_grad_enabled() and len(pieces) > 1:  # computing them again beats keeping them
            convolve = partial(checkpoint, self.convolve, use_reentrant=False)
        return torch.cat([convolve(piece) for piece in pieces], dim=1)

    def convolve(self, patches: Tensor) -> Tensor:
        """Both convolutions: (B, 2 S + 1, M/2, 9) -> (B, S, M/4 C)."""
        # Dropout first: it is the same, and leaky_relu's gradient needs what leaky_relu returned.
        x = F.leaky_relu(self.dropout(self.norm1(self.conv1(patches))), inplace=True)
        x, low = TapLowBand.apply(x)  # type: ignore[no-untyped-call]  # (B, 2 S + 1, M/2, C), (B, 2 S + 1, C)
        # Zeros below the lowest band, then what its mirror image adds: cheaper than a copy of x.
        y = F.conv2d(
            x.permute(0, 3, 1, 2), self.conv2.weight, self.conv2.bias, stride=2, padding=(0, 1)
        ).permute(0, 2, 3, 1)  # (B, S, M/4, C), channels last in memory
        S = y.shape[1]
        steps = [low[:, i : i + 2 * S - 1 : 2] for i in range(3)]
        mirrored = torch.cat(steps, dim=2)  # (B, S, 3 C)
        y[:, :, 0] += F.linear(mirrored, self.conv2.weight[..., 0].transpose(1, 2).flatten(1))
        return F.leaky_relu(self.dropout(self.norm2(y)), inplace=True).flatten(2)

    def patches(self, features: Tensor, lengths: Tensor) -> Tensor:
        """What the first convolution sees (B, T/2 + 2, M/2, 9), one frame beyond either end.

        Up to the second convolution every frame is computed by itself, so the edges that the
        second one reflects are made here, by repeating patches, where they cost no gradient.
        """
        B, T, M = features.shape
        x = reflect(features, lengths)  # (B, T + 2, M)
        rows = torch.cat([x[:, i : i + T : 2] for i in range(3)], dim=2)  # (B, T/2, 3 M)
        patches = rows.flatten(0, 1).index_select(1, self.taps)  # (B T/2, M/2 9)
        return reflect(patches.view(B, -1, M // 2, 9), half(lengths))


class TapLowBand(torch.autograd.Function):
    """x (B, T, M, C) and its band 1 (B, T, C), whose gradient is added in place.

    Slicing would make a tensor of zeros as large as x for it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        """x and x[:, :, 1]."""
        return x.view_as(x), x[:, :, 1].clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        """The sum of both."""
        whole, band = grads
        whole[:, :, 1] += band
        return whole


def patch_columns(n_mels: int) -> Tensor:
    """Where the 3x3 patches (M/2, 9) of three frames (3 M) side by side are, low edge reflected."""
    band = (2 * torch.arange(n_mels // 2)[:, None] + torch.arange(3) - 1).abs()  # (M/2, 3)
    return (n_mels * torch.arange(3)[:, None] + band[:, None, :]).flatten()  # (M/2 3 3,)


def half(lengths: Tensor) -> Tensor:
    """How many frames a convolution of stride 2 leaves, rounded up."""
    return (lengths + 1) // 2


def reflect(x: Tensor, lengths: Tensor) -> Tensor:
    """(B, T, ...) -> (B, T + 2, ...): a mirrored frame before the start and after each own end."""
    mirrored = torch.cat([x[:, 1:2], x, torch.zeros_like(x[:, :1])], dim=1)
    rows = torch.arange(len(x), device=x.device)
    mirrored[rows, lengths + 1] = mirrored[rows, lengths - 1]
    return mirrored
