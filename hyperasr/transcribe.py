"""Audio file in, transcript out: the flow, in order. Start reading here."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import groupby, islice
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hyperasr import audio
from hyperasr.checkpoint import Checkpoint, load_checkpoint
from hyperasr.compute import prepare
from hyperasr.decoder_pool import DecoderPool
from hyperasr.decoding import DecodingOptions, build_decoder, told
from hyperasr.errors import AudioError
from hyperasr.folder import DEFAULT_MODEL
from hyperasr.rescoring import Rescorer
from hyperasr.runtime import choose_device
from hyperasr.transcript import Segment, Transcript
from hyperasr.windows import Utterance, Window, cut, stitch, utterances

BATCH_SIZE = 4
"""Windows that are encoded together."""
AHEAD = 2
"""Files that are at work at once."""
WAITING = 64
"""Utterances that wait for a decoder before the encoder waits for them."""


class Transcriber:
    """A model on a device, ready to listen."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str = "cpu",
        batch_size: int = BATCH_SIZE,
        compute_type: str = "float32",
        decoding: DecodingOptions | None = None,
        say: Callable[[str], None] = lambda message: None,
    ):
        self.name, self.sha256 = checkpoint.name, checkpoint.sha256
        self.device = torch.device(device)
        self.batch_size = batch_size
        self._given_up = Event()
        # On a CPU two threads with a batch each are a third faster than one batch in two threads;
        # a single one would only contend with this thread for the interpreter.
        self.workers = torch.get_num_threads() if self.device.type == "cpu" else 2
        self.decoder = decoder = build_decoder(checkpoint, decoding or DecodingOptions(), say)
        searches = decoder.settings.beam_size > 1 and torch.get_num_threads() > 1
        self.decoders = DecoderPool(decoder, torch.get_num_threads() if searches else 0)
        self.listeners = ThreadPoolExecutor(self.workers, "listen", torch.set_num_threads, (1,))
        labels = checkpoint.tokens.labels
        self.silent = np.array([not label.strip(" ▁") for label in labels])  # blank and space
        self.features = checkpoint.features.to(self.device)
        self.encoder, self.compute_type = prepare(checkpoint.encoder, compute_type, device)
        self.settings = told(decoding or DecodingOptions(), decoder) | {
            "compute_type": self.compute_type
        }
        self.nbest = decoding.nbest if decoding else 1
        self.rescorer = None
        if decoding and decoding.rescore == "attention" and checkpoint.decoder is not None:
            self.rescorer = Rescorer(checkpoint.decoder, checkpoint.tokens.encode, self.device)

    @classmethod
    def load(
        cls,
        model: str | Path = DEFAULT_MODEL,
        device: str = "auto",
        batch_size: int = BATCH_SIZE,
        compute_type: str = "auto",
        decoding: DecodingOptions | None = None,
        say: Callable[[str], None] = lambda message: None,
    ) -> "Transcriber":
        """Open a checkpoint by name or folder; `say` hears what is done otherwise than asked.

        Raises CheckpointError, LanguageModelError or ConfigError.
        """
        device = choose_device(device)
        return cls(load_checkpoint(model), device, batch_size, compute_type, decoding, say)

    def __call__(
        self, path: Path | str, heard: Callable[[float], None] = lambda seconds: None
    ) -> Transcript:
        """What is said in an audio file; calls `heard` with the seconds done so far.

        Raises AudioError when the file cannot be read.
        """
        duration = 0.0

        def so_far(seconds: float) -> None:
            nonlocal duration
            duration = seconds
            heard(seconds)

        found = list(self.decode_all(self.hear(path, so_far)))
        segments = [_within(segment, duration) for segment in found if segment.words]
        return Transcript(
            str(path), duration, tuple(segments), self.name, self.sha256, self.settings
        )

    def each(
        self, paths: Sequence[Path], heard: Callable[[float], None] = lambda seconds: None
    ) -> Iterator[Transcript | AudioError]:
        """What is said in each audio file, in order, or why it cannot be read.

        While the end of a file is being decoded the next one is heard already. Calls `heard` with
        every few seconds that are done, of whichever file, from threads of its own.
        """

        def flow(path: Path) -> Transcript | AudioError:
            before = 0.0

            def so_far(seconds: float) -> None:
                nonlocal before
                heard(seconds - before)
                before = seconds

            try:
                return self(path, so_far)
            except AudioError as error:
                return error

        flows = ThreadPoolExecutor(AHEAD, "flow")
        pending: deque[Future[Transcript | AudioError]] = deque()
        remaining = iter(paths)
        finished = False
        try:
            while True:
                pending += [
                    flows.submit(flow, path) for path in islice(remaining, AHEAD - len(pending))
                ]
                if not pending:
                    finished = True
                    return
                yield pending.popleft().result()
        finally:
            if not finished:
                self._given_up.set()  # an error or Ctrl-C: what is still being heard ends early
            flows.shutdown(cancel_futures=True)
            self._given_up.clear()

    def hear(
        self, path: Path | str, heard: Callable[[float], None] = lambda seconds: None
    ) -> Iterator[Utterance]:
        """The stretches of speech in an audio file; calls `heard` with the seconds done so far."""

        def windows() -> Iterator[tuple[Window, NDArray[np.float32]]]:
            for window, rows in self.listen_to_all(cut(audio.blocks(path))):
                if self._given_up.is_set():
                    return
                yield window, rows
                heard(window.end / audio.SAMPLE_RATE)

        return utterances(stitch(windows()), self.silent)

    def listen_to_all(
        self, windows: Iterable[Window]
    ) -> Iterator[tuple[Window, NDArray[np.float32]]]:
        """Windows in order -> the same, each with its log-probabilities (S, V)."""
        if self.workers == 1:
            for batch in _batches(windows, self.batch_size):
                yield from zip(batch, self.listen([w.samples for w in batch]), strict=True)
            return
        pending: deque[tuple[list[Window], Future[list[NDArray[np.float32]]]]] = deque()
        try:
            for batch in _batches(windows, self.batch_size):
                waveforms = [window.samples for window in batch]
                pending.append((batch, self.listeners.submit(self.listen, waveforms)))
                if len(pending) > self.workers:  # one more than are at work, so that none waits
                    done, future = pending.popleft()
                    yield from zip(done, future.result(), strict=True)
            for batch, future in pending:
                yield from zip(batch, future.result(), strict=True)
        finally:
            _give_up(pending)

    def decode_all(self, utterances: Iterable[Utterance]) -> Iterator[Segment]:
        """Utterances in order -> what is said in each, decoded while the next are heard."""
        pending: deque[tuple[Utterance, Future[Segment]]] = deque()
        try:
            for utterance in utterances:
                pending.append((utterance, self.decoders.submit(utterance)))
                if len(pending) > WAITING:
                    done, future = pending.popleft()
                    yield self._rescored(self.decoders.result(future, done), done)
            for done, future in pending:
                if self._given_up.is_set():
                    return
                yield self._rescored(self.decoders.result(future, done), done)
        finally:
            _give_up(pending)

    def _rescored(self, segment: Segment, utterance: Utterance) -> Segment:
        """The segment that the attention decoder finds likeliest, where one is to be asked."""
        if self.rescorer is None or utterance.encoded is None or len(segment.alternatives) < 2:
            return segment
        texts = self.rescorer(segment.alternatives, utterance.encoded)
        kept = tuple(texts[: self.nbest]) if self.nbest > 1 else ()
        best = self.decoder.segment(texts, utterance.log_probs, utterance.first)
        return replace(best, alternatives=kept)

    @torch.inference_mode()
    def listen(self, waveforms: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Waveforms (N,) at 16 kHz -> log-probabilities (S, V) of each, encoded as one batch.

        With a rescorer the encoded frames (S, D) stand in further columns.
        """
        shortest = self.features.config.min_samples
        lengths = torch.tensor([max(len(waveform), shortest) for waveform in waveforms])
        padded = torch.zeros(len(waveforms), int(lengths.max()))
        for row, waveform in zip(padded, waveforms, strict=True):
            row[: len(waveform)] = torch.from_numpy(waveform)
        features, frames = self.features(padded.to(self.device), lengths.to(self.device))
        if self.rescorer is None:
            found, sizes = self.encoder(features, frames)  # (B, S, V)
        else:
            encoded, sizes = self.encoder.encode(features, frames)
            found = torch.cat([self.encoder.read(encoded), encoded.float()], dim=2)  # (B, S, V + D)
        rows = found.cpu().numpy()
        return [row[:size] for row, size in zip(rows, sizes.tolist(), strict=True)]


def _batches(windows: Iterable[Window], size: int) -> Iterator[list[Window]]:
    """Windows in order, up to `size` of one length together: padding costs as much as sound."""
    for _, alike in groupby(windows, key=lambda window: len(window.samples)):
        while batch := list(islice(alike, size)):
            yield batch


def _give_up(pending: Iterable[tuple[Any, Future[Any]]]) -> None:
    """After an error or Ctrl-C nobody asks for what is still to be done; it would be waited for."""
    for _, future in pending:
        future.cancel()


def _within(segment: Segment, duration: float) -> Segment:
    """The segment, ended where the recording ends: the last frame may reach beyond."""
    words = tuple(replace(word, end=min(word.end, duration)) for word in segment.words)
    return replace(segment, end=min(segment.end, duration), words=words)
