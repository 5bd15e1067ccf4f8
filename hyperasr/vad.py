"""Blocks of waveform -> the pieces of them in which somebody speaks.

The network is silero-vad's (the extra `vad`): for every 32 ms the probability of speech. Its
package runs it one such chunk at a time; here those of a block go through the convolutions together
and then, in order, through the LSTM, which is several times faster and gives the same numbers.
"""

import warnings
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hyperasr.errors import ConfigError
from hyperasr.stretches import RATE, HearingOptions, Piece, Waveform, stretches
from hyperasr.windows import FRAME

CHUNK = 512
"""Samples that the network judges at once: 32 ms."""
CONTEXT = 64
"""Samples before a chunk that it hears too."""
DOUBT = 0.15
"""How far below the threshold the probability falls before speech is over."""
PADDING = 0.4
"""Seconds that are heard before and after speech."""

State = tuple[Tensor, Tensor]
Judged = tuple[Waveform, list[float]]
"""Samples (N,), and how likely each CHUNK of them is speech."""


class _Network(nn.Module):
    """silero-vad 5 and 6 for 16 kHz; the names are those of its weights.

    N chunks  T steps of 8 ms in a chunk  C channels
    """

    def __init__(self) -> None:
        super().__init__()
        self.spectrum = nn.Conv1d(1, 258, 256, stride=128, bias=False)
        sizes = ((129, 128, 1), (128, 64, 2), (64, 64, 2), (64, 128, 1))
        self.encoder = nn.ModuleList(
            nn.Conv1d(before, after, 3, stride, padding=1) for before, after, stride in sizes
        )
        self.memory = nn.LSTM(128, 128)
        self.answer = nn.Conv1d(128, 1, 1)

    def forward(self, chunks: Tensor, state: State | None) -> tuple[Tensor, State]:
        """(N, CONTEXT + CHUNK) -> the probability of speech (N,), and what to go on with."""
        x = F.pad(chunks[:, None], (0, CONTEXT), mode="reflect")  # (N, 1, 640)
        real, imaginary = self.spectrum(x).chunk(2, dim=1)  # (N, 129, 4)
        x = (real**2 + imaginary**2).sqrt()
        for layer in self.encoder:
            x = layer(x).relu()  # (N, C, T), at last (N, 128, 1)
        x, state = self.memory(x[:, :, 0], state)  # (N, 128)
        return self.answer(x.relu().T)[0].sigmoid(), state


def _load() -> _Network:
    """The network with the weights of the installed package, which is not imported.

    Importing it would set the number of threads of this whole program to one.
    """
    package = find_spec("silero_vad")
    if package is None or package.origin is None:
        raise ConfigError('--vad-filter needs silero-vad: pip install "hyperasr[vad]"')
    network = _Network().eval()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript: it is what there is
            path = Path(package.origin).parent / "data" / "silero_vad.jit"
            script: Any = torch.jit.load(path)  # type: ignore[no-untyped-call]
        weights = script._model.state_dict()
        network.load_state_dict({_ours(name): value for name, value in weights.items()})
    except (OSError, RuntimeError, AttributeError, ValueError):
        raise ConfigError(
            'the installed silero-vad is another than expected: pip install "hyperasr[vad]"'
        ) from None
    return network.requires_grad_(False)


def _ours(name: str) -> str:
    """The name here of one of silero-vad's weights."""
    for theirs, ours in (
        ("stft.forward_basis_buffer", "spectrum.weight"),
        (".reparam_conv", ""),
        ("decoder.rnn", "memory"),
        ("decoder.decoder.2", "answer"),
    ):
        name = name.replace(theirs, ours)
    return f"{name}_l0" if name.startswith("memory") else name


class Vad:
    """Finds speech, in any number of recordings at once."""

    def __init__(self, options: HearingOptions):
        self._network = _load()
        self._threshold = options.vad_threshold
        self._silence = round(options.vad_min_silence * RATE)

    def speech(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        """Pieces of a recording -> those in which somebody speaks, and PADDING around them."""
        for start, blocks in stretches(pieces):
            for piece in spoken(self.judge(blocks), self._threshold, self._silence):
                yield Piece(start + piece.start, piece.samples)

    def judge(self, blocks: Iterable[Waveform]) -> Iterator[Judged]:
        """The chunks of a recording, block by block, and how likely each is speech."""
        rest = np.zeros(0, np.float32)
        context = torch.zeros(CONTEXT)
        state: State | None = None
        for block in chain(blocks, [None]):
            samples = rest if block is None else np.concatenate([rest, block])
            missing = -len(samples) % CHUNK if block is None else 0  # the last is filled up
            size = (len(samples) + missing) // CHUNK
            samples, rest = samples[: size * CHUNK], samples[size * CHUNK :]
            if size == 0:
                continue
            filled = torch.from_numpy(np.pad(samples, (0, missing)))
            with torch.inference_mode():
                chunks = torch.cat([context, filled]).unfold(0, CONTEXT + CHUNK, CHUNK)
                answer, state = self._network(chunks, state)  # (N, CONTEXT + CHUNK) -> (N,)
            context = filled[-CONTEXT:]
            yield samples, answer.tolist()


def spoken(judged: Iterable[Judged], threshold: float, silence: int) -> Iterator[Piece]:
    """Judged chunks -> pieces with speech, joined where less than `silence` samples lie between.

    Holds the padding and one block.
    """
    padding = min(round(PADDING * RATE), silence // 2)
    held, first = np.zeros(0, np.float32), 0  # samples, and the place of the first of them
    begin: int | None = None  # of what is to be given next, after somebody began to speak
    given = end = at = 0  # one past: what was given, the last speech, what was judged
    speaking = False
    for samples, chances in judged:
        held = np.concatenate([held, samples])
        for chance in chances:
            speaking = chance >= (max(threshold - DOUBT, 0.01) if speaking else threshold)
            if speaking and begin is None:
                begin = max(given, (at - padding) // FRAME * FRAME)
            at += CHUNK
            if speaking:
                end = at
            elif begin is not None and at - end >= silence:
                yield Piece(begin, held[begin - first : end + padding - first])
                begin, given = None, end + padding
        if begin is not None:
            last = max(begin, min(at, end + padding))
            yield Piece(begin, held[begin - first : last - first])
            begin = given = last
        keep = max(given, (at - padding) // FRAME * FRAME)
        held, first = held[keep - first :], keep
