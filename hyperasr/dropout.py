"""Dropout at a speed that a CPU can train with."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Dropout(nn.Module):
    """Dropout in its input's own memory, eight decisions from one random number on the CPU.

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
        count, dropped = x.numel(), min(round(256 * self.share), 255)
        numbers = torch.empty((count + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
        keep = torch.empty_like(x, memory_format=torch.contiguous_format, requires_grad=False)
        torch.ge(numbers.view(torch.uint8)[:count].view(x.shape), dropped, out=keep)
        return x.mul_(keep.mul_(256 / (256 - dropped)))
