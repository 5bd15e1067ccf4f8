"""Audio file in, transcript out: the flow, in order. Start reading here."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hyperasr import audio, decoder
from hyperasr.checkpoint import Checkpoint, load_checkpoint
from hyperasr.compute import prepare
from hyperasr.folder import DEFAULT_MODEL
from hyperasr.runtime import choose_device
from hyperasr.transcript import Transcript
from hyperasr.windows import Window, cut, segments, stitch

BATCH_SIZE = 4
"""Windows that are encoded together."""


class Transcriber:
    """A model on a device, ready to listen."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str = "cpu",
        batch_size: int = BATCH_SIZE,
        compute_type: str = "float32",
    ):
        self.name = checkpoint.name
        self.labels = checkpoint.tokens.labels
        self.device = torch.device(device)
        self.features = checkpoint.features.to(self.device)
        self.encoder, self.compute_type = prepare(checkpoint.encoder, compute_type, device)
        self.batch_size = batch_size
        # On a CPU two threads with a batch each are a third faster than one batch in two threads.
        self.workers = torch.get_num_threads() if self.device.type == "cpu" else 1
        self.pool = ThreadPoolExecutor(self.workers, "listen", torch.set_num_threads, (1,))

    @classmethod
    def load(
        cls,
        model: str | Path = DEFAULT_MODEL,
        device: str = "auto",
        batch_size: int = BATCH_SIZE,
        compute_type: str = "auto",
    ) -> "Transcriber":
        """Open a checkpoint by name or folder; raises CheckpointError or ConfigError."""
        return cls(load_checkpoint(model), choose_device(device), batch_size, compute_type)

    def __call__(
        self, path: Path | str, heard: Callable[[float], None] = lambda seconds: None
    ) -> Transcript:
        """What is said in an audio file; calls `heard` with the seconds done so far.

        Raises AudioError when the file cannot be read.
        """
        spans: list[tuple[int, int]] = []  # (start, end) of each window, in samples
        log_probs: list[NDArray[np.float32]] = []
        for batch, rows in self.listen_to_all(cut(audio.blocks(path))):
            log_probs += rows
            spans += [(window.start, window.end) for window in batch]
            heard(batch[-1].end / audio.SAMPLE_RATE)
        duration = spans[-1][1] / audio.SAMPLE_RATE
        heard_words = decoder.greedy(stitch(spans, log_probs), self.labels)
        words = [replace(word, end=min(word.end, duration)) for word in heard_words]
        return Transcript(str(path), duration, segments(words), model=self.name)

    def listen_to_all(
        self, windows: Iterable[Window]
    ) -> Iterator[tuple[list[Window], list[NDArray[np.float32]]]]:
        """Windows in order -> batches of them in order, each with its log-probabilities (S, V)."""
        windows = iter(windows)
        pending: deque[tuple[list[Window], Future[list[NDArray[np.float32]]]]] = deque()
        while batch := list(islice(windows, self.batch_size)):
            waveforms = [window.samples for window in batch]
            pending.append((batch, self.pool.submit(self.listen, waveforms)))
            if len(pending) > self.workers:  # one more than are at work, so that none waits
                done, future = pending.popleft()
                yield done, future.result()
        yield from ((batch, future.result()) for batch, future in pending)

    @torch.inference_mode()
    def listen(self, waveforms: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Waveforms (N,) at 16 kHz -> log-probabilities (S, V) of each, encoded as one batch."""
        shortest = self.features.config.min_samples
        lengths = torch.tensor([max(len(waveform), shortest) for waveform in waveforms])
        padded = torch.zeros(len(waveforms), int(lengths.max()))
        for row, waveform in zip(padded, waveforms, strict=True):
            row[: len(waveform)] = torch.from_numpy(waveform)
        features, frames = self.features(padded.to(self.device), lengths.to(self.device))
        log_probs, sizes = self.encoder(features, frames)
        rows = log_probs.cpu().numpy()
        return [row[:size] for row, size in zip(rows, sizes.tolist(), strict=True)]
