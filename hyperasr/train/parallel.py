"""Several processes, one run: each takes its share of every batch, gradients are summed.

Started by torchrun, which sets RANK and WORLD_SIZE; without it a run has one worker. On a CPU
two processes of one thread each are faster than one process of two threads.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed
from torch import nn


@dataclass(frozen=True, slots=True)
class Workers:
    """Which worker this process is, of how many."""

    rank: int = 0
    count: int = 1

    @classmethod
    def join(cls, device: str) -> "Workers":
        """Join the workers that torchrun started, or be the only one."""
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count == 1:
            return cls()
        if not torch.distributed.is_initialized():
            backend = "nccl" if device.startswith("cuda") else "gloo"
            torch.distributed.init_process_group(backend)
        return cls(torch.distributed.get_rank(), count)

    @property
    def leads(self) -> bool:
        """Whether this is the worker that writes files and talks."""
        return self.rank == 0

    def sum_gradients(self, parameters: Iterable[nn.Parameter], *numbers: float) -> list[float]:
        """Replace every gradient by its sum over the workers; returns the sums of `numbers`."""
        if self.count == 1:
            return list(numbers)
        gradients = [p.grad for p in parameters if p.grad is not None]
        told = torch.tensor(numbers, device=gradients[0].device)
        flat = torch.cat([g.flatten() for g in (*gradients, told)])
        torch.distributed.all_reduce(flat)
        pieces = torch.split(flat, [g.numel() for g in (*gradients, told)])
        for gradient, piece in zip(gradients, pieces, strict=False):
            gradient.copy_(piece.view_as(gradient))
        return pieces[-1].tolist()

    def gather(self, mine: Any) -> list[Any]:
        """What every worker has to say, in order of rank."""
        if self.count == 1:
            return [mine]
        found: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(found, mine)
        return found
