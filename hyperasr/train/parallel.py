"""Several processes, one run: each takes its share of every batch, gradients are summed.

Started by torchrun, which sets RANK and WORLD_SIZE; without it a run has one worker. On a CPU
two processes of one thread each are faster than one process of two threads.
"""

import atexit
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed
from torch import nn

from hyperasr.errors import WorkerError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Workers:
    """Which worker this process is, of how many."""

    rank: int = 0
    count: int = 1

    @classmethod
    def join(cls, device: str) -> "Workers":
        """Join the workers that torchrun started, or be the only one; `leave` when done."""
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count == 1:
            return cls()
        if not torch.distributed.is_initialized():
            backend = "nccl" if device.startswith("cuda") else "gloo"
            _import_before_joining()
            torch.distributed.init_process_group(backend)
            atexit.register(leave)  # whatever ends this process
        return cls(torch.distributed.get_rank(), count)

    @property
    def leads(self) -> bool:
        """Whether this is the worker that writes files and talks."""
        return self.rank == 0

    def in_turn(self, work: Callable[[], T]) -> T:
        """What `work` returns; one worker of each machine is done with it before the others begin.

        For work that leaves a file behind which spares the others most of it.
        """
        first = int(os.environ.get("LOCAL_RANK", self.rank)) == 0
        found = [work()] if first else []
        self.gather(None)  # the others wait
        return found[0] if found else work()

    def sum_gradients(self, parameters: Iterable[nn.Parameter], *numbers: float) -> list[float]:
        """Replace every gradient by its sum over the workers; returns the sums of `numbers`."""
        if self.count == 1:
            return list(numbers)
        gradients = [p.grad for p in parameters if p.grad is not None]
        told = torch.tensor(numbers, device=gradients[0].device)
        flat = torch.cat([g.flatten() for g in (*gradients, told)])
        with _others_may_end():
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
        with _others_may_end():
            torch.distributed.all_gather_object(found, mine)
        return found


def leave() -> None:
    """Part from the other workers, if there are any; their threads end before this returns.

    A thread of theirs that outlives the interpreter would abort the process: it drops the tensors
    of the last exchange, for which it needs the interpreter.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _import_before_joining() -> None:
    """Import what would hold on to the group for ever, and so keep its threads, if it came later.

    torch's optimisers import this module, whose functions have the group as default arguments.
    """
    import torch.distributed.nn.functional  # noqa: F401


@contextmanager
def _others_may_end() -> Iterator[None]:
    """One line instead of a traceback where another worker is gone; it has said why."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0][:100]
        raise WorkerError(f"another worker ended, see its message ({reason})") from error
