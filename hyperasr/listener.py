"""Windows of many recordings, as they come -> batches for the encoder, in threads.

What waits the longest goes next, and with it what is about as long and waits too, of whichever
file.
"""

from bisect import bisect_left
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Condition

import numpy as np
import torch
from numpy.typing import NDArray

from hyperasr.encoder import Encoder
from hyperasr.features import LogMel
from hyperasr.runtime import give_back
from hyperasr.windows import FRAME

GRID = 16
"""Encoder frames that the length of a batch is a multiple of.

On a CPU a matrix product works in tiles of rows. Where every recording starts at a tile, its
numbers come out the same to the last bit, whatever lies beside it in the batch ...
"""
BLOCKS = 128, 384
"""... and padding changes no bit either between two of these: the kernels that sum over time change
there (seen in torch 2.11 with bfloat16 and float32)."""
ALIKE = 0.8
"""How long the shorter must be, of the longer, for both to be padded to one length."""
FEW = 24
"""Windows waiting for the encoder, below which another file may be opened."""
MANY = 48
"""Windows waiting for the encoder, from which those who bring more wait too."""
TIDY = 100
"""Windows after which freed memory is given back: half an hour of audio."""

Rows = NDArray[np.float32]


def padded_samples(samples: int) -> int:
    """Samples of the batch that a waveform of so many goes into: the most that fit the grid."""
    return on_grid(samples) * FRAME - 1


def on_grid(samples: int) -> int:
    """Encoder frames of that batch."""
    frames = samples // FRAME + 1
    return -(-frames // GRID) * GRID


def fit_together(frames: int, others: int) -> bool:
    """Whether recordings of so many frames, on the grid, go into one batch."""
    shorter, longer = sorted((frames, others))
    one_block = bisect_left(BLOCKS, shorter) == bisect_left(BLOCKS, longer) < len(BLOCKS)
    return shorter == longer or (one_block and shorter >= ALIKE * longer)


@dataclass(slots=True, eq=False)
class _Waiting:
    waveform: NDArray[np.float32]  # (N,)
    heard: Future[Rows] = field(default_factory=Future)

    @property
    def frames(self) -> int:
        return on_grid(len(self.waveform))


class Listener:
    """Encodes in `workers` threads, up to `batch_size` waveforms of like length at once.

    `encoded`: somebody asks for the encoded frames (S, D) too; they stand in further columns.
    """

    def __init__(
        self,
        features: LogMel,
        encoder: Encoder,
        batch_size: int,
        workers: int,
        encoded: bool = False,
    ):
        self._features, self._encoder, self._encoded = features, encoder, encoded
        self._batch_size = batch_size
        self._waiting: list[_Waiting] = []
        self._since_tidied = 0
        self._room = Condition()
        self._threads = ThreadPoolExecutor(workers, "listen", torch.set_num_threads, (1,))

    def wait_for_room(self) -> None:
        """Until few windows wait: files are opened when there is something to do for them."""
        with self._room:
            self._room.wait_for(lambda: len(self._waiting) < FEW)

    def submit(self, waveforms: Sequence[NDArray[np.float32]]) -> list[Future[Rows]]:
        """What is heard in each waveform (N,), (S, V), at some time; waits while many wait."""
        entries = [_Waiting(waveform) for waveform in waveforms]
        with self._room:
            self._room.wait_for(lambda: len(self._waiting) < MANY)
            self._waiting += entries
        for _ in entries:  # a thread that finds nothing left has nothing to do
            self._threads.submit(self._next_batch)
        return [entry.heard for entry in entries]

    def _next_batch(self) -> None:
        with self._room:
            if not self._waiting:
                return
            first = self._waiting[0].frames
            alike = [entry for entry in self._waiting if fit_together(entry.frames, first)]
            batch = sorted(alike, key=lambda entry: abs(entry.frames - first))[: self._batch_size]
            self._waiting = [entry for entry in self._waiting if entry not in batch]
            self._room.notify_all()
            self._since_tidied += len(batch)
            tidy = self._since_tidied >= TIDY
            if tidy:
                self._since_tidied = 0
        if tidy:
            give_back()
        batch = [entry for entry in batch if entry.heard.set_running_or_notify_cancel()]
        if not batch:
            return
        try:
            for entry, rows in zip(
                batch, self.hear([entry.waveform for entry in batch]), strict=True
            ):
                entry.heard.set_result(rows)
        except BaseException as error:
            for entry in batch:
                entry.heard.set_exception(error)

    @torch.inference_mode()
    def hear(self, waveforms: Sequence[NDArray[np.float32]]) -> list[Rows]:
        """Waveforms (N,) at 16 kHz -> log-probabilities (S, V) of each, encoded as one batch."""
        lengths = torch.tensor([max(len(w), self._features.config.min_samples) for w in waveforms])
        padded = torch.zeros(len(waveforms), padded_samples(int(lengths.max())))
        for row, waveform in zip(padded, waveforms, strict=True):
            row[: len(waveform)] = torch.from_numpy(waveform)
        device = self._features.window.device
        features, frames = self._features(padded.to(device), lengths.to(device))
        if self._encoded:
            encoded, sizes = self._encoder.encode(features, frames)
            found = torch.cat([self._encoder.read(encoded), encoded.float()], 2)  # (B, S, V + D)
        else:
            found, sizes = self._encoder(features, frames)  # (B, S, V)
        rows = found.cpu().numpy()
        return [row[:size] for row, size in zip(rows, sizes.tolist(), strict=True)]
