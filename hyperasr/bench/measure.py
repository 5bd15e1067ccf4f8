"""How everything here is measured: time by taking turns, memory in a process of its own.

No torch at the top of this file.
"""

import ctypes
import math
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile
from time import perf_counter
from typing import Any, TypeVar

import numpy as np

from hyperasr.errors import HyperAsrError

T = TypeVar("T")

MIB = 2**20
LONG = 5.0
"""Seconds of a work's first run from which one more is enough."""

_M_TRIM_THRESHOLD = -1  # from glibc's malloc.h

_CHILD = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from hyperasr.bench.measure import _answer; _answer()"
)


def alternate(
    works: Mapping[str, Callable[[], float]], rounds: int = 5, budget: float = math.inf
) -> dict[str, float]:
    """Median seconds of each work; a work returns the seconds that it took (see `timed`).

    They take turns, so that what else the machine does meets all of them; the first turn warms
    up, which matters: memory that was never touched may cost more than the arithmetic. Ends after
    `rounds` more turns, or before the turn that would pass `budget` seconds, never before one. A
    work whose first run took longer than LONG gets one turn.
    """
    first = {name: work() for name, work in works.items()}
    times = {name: [work()] for name, work in works.items()}
    short = [name for name in works if first[name] <= LONG]
    turn = sum(first[name] for name in short)
    for number in range(2, rounds + 1):
        if number * turn > budget:
            break
        for name in short:
            times[name].append(works[name]())
    return {name: median(found) for name, found in times.items()}


def timed(work: Callable[[], object], device: str = "cpu") -> Callable[[], float]:
    """`work` as one that returns its seconds, the GPU's share of it included."""

    def run() -> float:
        wait_for(device)
        started = perf_counter()
        work()
        wait_for(device)
        return perf_counter() - started

    return run


def wait_for(device: str) -> None:
    """Return when the device has done what it was given; a CPU has."""
    if device != "cpu":
        import torch

        (torch.mps if device == "mps" else torch.cuda).synchronize()


def slope(lengths: Sequence[float], values: Sequence[float]) -> float | None:
    """The exponent k of values ~ lengths**k, by least squares over their logarithms.

    Values of 0 or below say nothing and are left out; None where less than two are left.
    """
    points = [(x, y) for x, y in zip(lengths, values, strict=True) if y > 0]
    if len({x for x, _ in points}) < 2:
        return None
    x, y = np.log(points).T
    return float(np.polyfit(x, y, 1)[0])


def apart(work: Callable[..., T], *arguments: Any) -> T:
    """What `work(*arguments)` returns, run in a fresh process, where no peak has been yet.

    All of it must be picklable. The process is out of reach of the terminal's Ctrl-C and ends
    with this call, and those that it started with it. Raises what is raised of HyperAsrError and
    MemoryError there, MemoryError also if it is killed, and RuntimeError with its stderr for
    anything else.
    """
    question = pickle.dumps(sys.path) + pickle.dumps((work, arguments))
    with TemporaryFile() as answer, TemporaryFile() as complaint:  # a pipe waits for grandchildren
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD],
            stdin=subprocess.PIPE,
            stdout=answer,
            stderr=complaint,
            start_new_session=True,
        )
        try:
            child.communicate(question)
        finally:
            with suppress(ProcessLookupError):  # all have ended by themselves
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        answer.seek(0)
        complaint.seek(0)
        return _result(child.returncode, answer.read(), complaint.read())


def _result(code: int, answer: bytes, complaint: bytes) -> Any:
    if code == -signal.SIGKILL:
        raise MemoryError("the system ended it, probably for lack of memory")
    if code:
        raise RuntimeError(complaint.decode(errors="replace"))
    result = pickle.loads(answer)
    if isinstance(result, HyperAsrError | MemoryError):
        raise result
    return result


def _answer() -> None:
    """What the fresh process does; if memory runs out it is the first to go, not a neighbour."""
    with suppress(OSError):  # not Linux
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    work, arguments = pickle.load(sys.stdin.buffer)
    try:
        with _out_of_memory_is_one_error():
            result = work(*arguments)
    except (HyperAsrError, MemoryError) as error:
        result = error
    sys.stdout.buffer.write(pickle.dumps(result))


@contextmanager
def _out_of_memory_is_one_error() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # torch's own, of the CPU and of CUDA, say the same word
        if "allocate" not in str(error):
            raise
        raise MemoryError(str(error).splitlines()[0]) from error


class Peak:
    """Peak memory above what was held at the start: of this process, or of its CUDA GPU."""

    def __init__(self, device: str):
        self._cuda = device.startswith("cuda")
        if self._cuda:
            import torch

            torch.cuda.reset_peak_memory_stats()
            self._base = torch.cuda.memory_allocated()
        else:
            _forget_peak()
            self._base = process_peak()

    def mib(self) -> float:
        """The peak so far, in MiB."""
        if self._cuda:
            import torch

            return (torch.cuda.max_memory_allocated() - self._base) / MIB
        return (process_peak() - self._base) / MIB


def process_peak() -> int:
    """The most memory that this process ever held, in bytes.

    Read from /proc where there is one: getrusage would count the parent's before the exec.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text(encoding="utf-8").splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def keep_memory() -> None:
    """Never give freed memory back: what was touched once stays touched.

    `runtime.settle` keeps 2 GiB, plenty for windows. An attention pass over minutes takes more,
    and without this would spend most of its time on getting pages again and again.
    """
    with suppress(OSError, AttributeError, TypeError):  # not glibc
        ctypes.CDLL(None).mallopt(_M_TRIM_THRESHOLD, -1)


def give_memory_back() -> None:
    """Hand what is freed to the system, once."""
    with suppress(OSError, AttributeError, TypeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def _forget_peak() -> None:
    """Give freed memory back and start the peak anew, where the system can.

    Otherwise what loading the model took and freed again would hide what comes after it.
    """
    give_memory_back()
    with suppress(OSError):  # not Linux, or not allowed
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def free_memory(device: str) -> float:
    """Bytes that can still be had on the device; infinite where nobody says."""
    if device.startswith("cuda"):
        import torch

        return float(torch.cuda.mem_get_info()[0])
    found = [math.inf]
    with suppress(OSError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found += [int(s.split()[1]) * 1024 for s in lines if s.startswith("MemAvailable")]
    with suppress(OSError, ValueError):  # ValueError: "max", no limit
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text(encoding="ascii"))
        found.append(limit - int((group / "memory.current").read_text(encoding="ascii")))
    return float(min(found))
