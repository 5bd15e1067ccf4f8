"""How this process uses the machine: waiting threads, memory, device. Call before torch works.

No torch at the top of this file.
"""

import ctypes
import os
import platform
import re

from hyperasr.errors import ConfigError

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # from glibc's malloc.h


def settle(threads: int = 0) -> None:
    """Be fast on a machine that is shared; `threads` 0 leaves torch's choice.

    Threads that wait sleep instead of spinning: beside other work that is several times as
    fast. Freed memory is kept for the next batch: otherwise glibc returns every large tensor to
    the kernel, and touching fresh pages costs more than the arithmetic done on them.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if platform.libc_ver()[0] == "glibc" and "MALLOC_MMAP_MAX_" not in os.environ:
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    if threads:
        import torch

        torch.set_num_threads(min(threads, os.cpu_count() or threads))


def give_back() -> None:
    """Return freed memory to the kernel: what `settle` keeps lies ever more scattered for hours."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def choose_device(name: str) -> str:
    """The device that `name` means: "auto" is a CUDA GPU where there is one, else the CPU.

    Raises ConfigError when torch does not know the device or this machine lacks it.
    """
    import torch

    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise ConfigError(f"device {name!r} is not known: auto, cpu, cuda, cuda:1 or mps")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device {name!r} cannot be used here: {reason}") from error
    return str(device)


def has_bfloat16(device: str) -> bool:
    """Whether bfloat16 arithmetic is faster than float32 on this device."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported()
    return device == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())
