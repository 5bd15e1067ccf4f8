"""An encoder as it was trained -> the same encoder as this machine computes it fastest.

    float32    exact
    bfloat16   half the bytes; on a CPU with AVX-512 bfloat16 or AMX, or a GPU, twice as fast
    int8       linear layers in 8 bits, activations rounded as they come; CPU only

`auto` is bfloat16 where the machine has it and the answers stay close, else float32.
"""

import copy
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from hyperasr.encoder import Encoder, HyperMixing
from hyperasr.errors import ConfigError
from hyperasr.runtime import has_bfloat16

ComputeType = Literal["float32", "bfloat16", "int8"]
MAX_DEVIATION = 0.05
"""How far `auto` lets the log-probabilities move: root mean square, as a share of their spread."""


def prepare(
    encoder: Encoder, compute_type: str = "float32", device: str = "cpu"
) -> tuple[Encoder, str]:
    """A copy for inference alone, on `device`, and its compute type; `encoder` stays as it is.

    Raises ConfigError when the compute type is not known or the device cannot do it.
    """
    if compute_type == "auto":
        return _fastest_that_agrees(encoder, device)
    if compute_type not in get_args(ComputeType):
        known = ", ".join(("auto", *get_args(ComputeType)))
        raise ConfigError(f"compute type {compute_type!r} is not known: {known}")
    if compute_type == "int8":
        if device != "cpu":
            raise ConfigError(f"compute type int8 is for the CPU, not for {device}")
        folded = _fold(encoder, torch.float32, "cpu")
        _replace(folded, f"{_WHOLE}|{_HALVED}", Int8Linear)
        return folded, compute_type
    return fold(encoder, getattr(torch, compute_type), device), compute_type


def fold(
    encoder: Encoder, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
) -> Encoder:
    """What is the same in every pass, done once: casts, HyperMixing's columns of ones, layouts."""
    folded = _fold(encoder, dtype, device)
    if folded.ctc.weight.device.type == "cpu" and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        _replace(folded, _WHOLE, PackedLinear)
        _replace(folded, _HALVED, lambda linear: PackedLinear(linear, 0.5))
    return folded


def _fold(encoder: Encoder, dtype: torch.dtype, device: str | torch.device) -> Encoder:
    """The same without the layouts of linear layers."""
    folded = copy.deepcopy(encoder).eval().requires_grad_(False).to(device, dtype)
    on_cpu = folded.ctc.weight.device.type == "cpu"
    for module in list(folded.modules()):
        if isinstance(module, HyperMixing):
            module.folded = module.with_ones()
        elif isinstance(module, nn.Conv1d) and on_cpu:
            module.float()  # see Convolution.convolve
    return folded


class PackedLinear(nn.Module):
    """A linear layer whose weight lies as oneDNN multiplies it, which adds in the same pass.

    nn.Linear arranges the weight every time and writes the bias first; and its float32 is MKL's,
    which leaves AVX-512 alone on some CPUs. The operators are those that torch.compile uses.
    """

    def __init__(self, linear: nn.Linear, scale: float = 1.0):
        """`scale` times what `linear` gives; halving is exact."""
        super().__init__()
        weight = (scale * linear.weight.detach()).contiguous()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        self.bias = scale * linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")

    def add_to(self, x: Tensor, h: Tensor) -> Tensor:
        """x + forward(h), (..., out)."""
        return torch.ops.mkldnn._linear_pointwise.binary(h, x, self.weight, self.bias, "add")


class Int8Linear(nn.Module):
    """A linear layer of 8-bit weights, one scale a row; x is rounded to 8 bits as it comes."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        weight = linear.weight.detach().float()
        scales = weight.abs().amax(dim=1).clamp(min=1e-8) / 127
        zeros = torch.zeros(len(scales), dtype=torch.long)
        rounded = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
        self.packed = torch.ops.quantized.linear_prepack(rounded, linear.bias.float())
        self.reduce_range = not torch.cpu._is_vnni_supported()  # older CPUs add up in 16 bits

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out), float32."""
        return torch.ops.quantized.linear_dynamic(x, self.packed, self.reduce_range)


_WHOLE = r"conv1|project|ffn_(in|out)\.1|convolution\.(gate|out)"
_HALVED = r"ffn_(in|out)\.4"


def _replace(encoder: Encoder, names: str, kind: Callable[[nn.Linear], nn.Module]) -> None:
    """Put `kind` of it where a linear layer's name ends in one of `names`."""
    for name, module in list(encoder.named_modules()):
        if isinstance(module, nn.Linear) and re.search(rf"\.({names})$", name):
            parent, _, child = name.rpartition(".")
            setattr(encoder.get_submodule(parent), child, kind(module))


def deviation(encoder: Encoder, other: Encoder) -> float:
    """How far another encoder's log-probabilities lie from these: RMS, as a share of their spread.

    On four seconds of made-up features, the same ones each time.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 401, encoder.config.n_mels, generator=generator)
    features = noise.cumsum(dim=1) / 8  # moves slowly, as features of speech do
    device = encoder.ctc.weight.device
    lengths = torch.tensor([401], device=device)
    with torch.inference_mode(), _one_thread():
        expected, _ = encoder(features.to(device), lengths)
        found, _ = other(features.to(device), lengths)
    return float((found - expected).square().mean().sqrt() / expected.std())


@contextmanager
def _one_thread() -> Iterator[None]:
    """As audio is heard later, and because bfloat16 in several threads was seen to hang."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _fastest_that_agrees(encoder: Encoder, device: str) -> tuple[Encoder, str]:
    exact = fold(encoder, device=device)
    if has_bfloat16(device):
        rounded = fold(encoder, torch.bfloat16, device)
        if deviation(exact, rounded) <= MAX_DEVIATION:
            return rounded, "bfloat16"
    return exact, "float32"
