"""Audio file in, transcript out: the flow, in order. Start reading here."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hyperasr import audio, decoder
from hyperasr.checkpoint import Checkpoint, load_checkpoint
from hyperasr.folder import DEFAULT_MODEL
from hyperasr.runtime import choose_device
from hyperasr.transcript import Transcript
from hyperasr.windows import cut, segments, stitch

BATCH_SIZE = 8
"""Windows that are encoded together."""


class Transcriber:
    """A model on a device, ready to listen."""

    def __init__(self, checkpoint: Checkpoint, device: str = "cpu", batch_size: int = BATCH_SIZE):
        self.name = checkpoint.name
        self.labels = checkpoint.tokens.labels
        self.device = torch.device(device)
        self.features = checkpoint.features.to(self.device)
        self.encoder = checkpoint.encoder.to(self.device)
        self.batch_size = batch_size

    @classmethod
    def load(
        cls,
        model: str | Path = DEFAULT_MODEL,
        device: str = "auto",
        batch_size: int = BATCH_SIZE,
    ) -> "Transcriber":
        """Open a checkpoint by name or folder; raises CheckpointError or ConfigError."""
        return cls(load_checkpoint(model), choose_device(device), batch_size)

    def __call__(
        self, path: Path | str, heard: Callable[[float], None] = lambda seconds: None
    ) -> Transcript:
        """What is said in an audio file; calls `heard` with the seconds done so far.

        Raises AudioError when the file cannot be read.
        """
        spans: list[tuple[int, int]] = []  # (start, end) of each window, in samples
        log_probs: list[NDArray[np.float32]] = []
        pending = cut(audio.blocks(path))
        while batch := list(islice(pending, self.batch_size)):
            log_probs += self.listen([window.samples for window in batch])
            spans += [(window.start, window.end) for window in batch]
            heard(batch[-1].end / audio.SAMPLE_RATE)
        duration = spans[-1][1] / audio.SAMPLE_RATE
        heard_words = decoder.greedy(stitch(spans, log_probs), self.labels)
        words = [replace(word, end=min(word.end, duration)) for word in heard_words]
        return Transcript(str(path), duration, segments(words), model=self.name)

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
