"""Audio file in, transcript out: the flow, in order. Start reading here."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import replace
from itertools import islice
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
from hyperasr.errors import AudioError, BrokenOffError
from hyperasr.folder import DEFAULT_MODEL
from hyperasr.listener import Listener
from hyperasr.rescoring import Rescorer
from hyperasr.runtime import choose_device
from hyperasr.stretches import HearingOptions, clipped, placed, windows
from hyperasr.transcript import Segment, Transcript
from hyperasr.vad import Vad
from hyperasr.windows import Utterance, Window, stitch, utterances

BATCH_SIZE = 4
"""Windows that are encoded together."""
AHEAD = 32
"""Files that are at work at once, at most."""
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
        hearing: HearingOptions | None = None,
    ):
        self.hearing = hearing or HearingOptions()
        self.vad = Vad(self.hearing) if self.hearing.vad_filter else None
        self.name, self.sha256 = checkpoint.name, checkpoint.sha256
        self.device = torch.device(device)
        self.batch_size = batch_size
        self._given_up = Event()
        # On a CPU two threads with a batch each are a third faster than one batch in two threads.
        self.workers = torch.get_num_threads() if self.device.type == "cpu" else 2
        self.decoder = decoder = build_decoder(checkpoint, decoding or DecodingOptions(), say)
        searches = decoder.settings.beam_size > 1 and torch.get_num_threads() > 1
        self.decoders = DecoderPool(decoder, torch.get_num_threads() if searches else 0)
        labels = checkpoint.tokens.labels
        self.space = labels.index(" ") if " " in labels else None
        self.silent = np.array([not label.strip(" ▁") for label in labels])  # blank and space
        self.features = checkpoint.features.to(self.device)
        self.encoder, self.compute_type = prepare(checkpoint.encoder, compute_type, device)
        if self.compute_type == "int8":
            self.batch_size = 1  # one scale for a whole batch: others in it would change the text
        self.settings = (
            told(decoding or DecodingOptions(), decoder)
            | {"compute_type": self.compute_type}
            | self.hearing.told()
        )
        self.nbest = decoding.nbest if decoding else 1
        self.rescorer = None
        if decoding and decoding.rescore == "attention" and checkpoint.decoder is not None:
            self.rescorer = Rescorer(checkpoint.decoder, checkpoint.tokens.encode, self.device)
        self.listener = Listener(
            self.features, self.encoder, self.batch_size, self.workers, self.rescorer is not None
        )

    @classmethod
    def load(
        cls,
        model: str | Path = DEFAULT_MODEL,
        device: str = "auto",
        batch_size: int = BATCH_SIZE,
        compute_type: str = "auto",
        decoding: DecodingOptions | None = None,
        say: Callable[[str], None] = lambda message: None,
        hearing: HearingOptions | None = None,
    ) -> "Transcriber":
        """Open a checkpoint by name or folder; `say` hears what is done otherwise than asked.

        Raises CheckpointError, LanguageModelError or ConfigError.
        """
        device = choose_device(device)
        checkpoint = load_checkpoint(model)
        return cls(checkpoint, device, batch_size, compute_type, decoding, say, hearing)

    def __call__(
        self, path: Path | str, heard: Callable[[float], None] = lambda seconds: None
    ) -> Transcript:
        """What is said in an audio file; calls `heard` with the seconds done so far.

        Raises AudioError when the file cannot be read, BrokenOffError where it can be in part.
        """
        reading = _Reading(path)
        found = list(self.decode_all(self.hear_blocks(reading, heard)))
        duration = reading.duration()
        segments = tuple(_within(segment, duration) for segment in found if segment.words)
        if reading.problem is not None and not segments:
            raise reading.problem
        if self.hearing.clips and self.hearing.clips[0][0] >= duration:
            raise AudioError(f"lasts {duration:.1f} s and ends before --clip-timestamps begin")
        heard(duration)
        transcript = Transcript(
            "stdin" if str(path) == audio.STDIN else str(path),
            duration,
            segments,
            self.name,
            self.sha256,
            self.settings,
        )
        if reading.problem is not None:
            raise BrokenOffError(str(reading.problem), transcript)
        return transcript

    def each(
        self, paths: Iterable[Path], heard: Callable[[float], None] = lambda seconds: None
    ) -> Iterator[Transcript | AudioError]:
        """What is said in each audio file, in order, or why it cannot be read."""
        ready: dict[int, Transcript | AudioError] = {}
        following = 0
        with closing(self.as_finished(paths, heard)) as finished:
            for number, found in finished:
                ready[number] = found
                while following in ready:
                    yield ready.pop(following)
                    following += 1

    def as_finished(
        self, paths: Iterable[Path], heard: Callable[[float], None] = lambda seconds: None
    ) -> Generator[tuple[int, Transcript | AudioError], None, None]:
        """The number of each audio file, from 0, and what is said in it, as soon as that is known.

        Several files are at work at once: their windows are encoded together, and while one is
        being decoded others are heard. Calls `heard` with every few seconds that are done, of
        whichever file, from threads of its own.
        """

        def flow(path: Path) -> Transcript | AudioError:
            before = 0.0

            def so_far(seconds: float) -> None:
                nonlocal before
                heard(seconds - before)
                before = seconds

            self.listener.wait_for_room()
            try:
                return self(path, so_far)
            except AudioError as error:
                return error

        flows = ThreadPoolExecutor(AHEAD, "flow")
        pending: dict[Future[Transcript | AudioError], int] = {}
        remaining = enumerate(paths)
        finished = False
        try:
            while True:
                for number, path in islice(remaining, AHEAD - len(pending)):
                    pending[flows.submit(flow, path)] = number
                if not pending:
                    finished = True
                    return
                done, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in sorted(done, key=pending.__getitem__):
                    yield pending.pop(future), future.result()
        finally:
            if not finished:
                self._given_up.set()  # an error or Ctrl-C: what is still being heard ends early
            flows.shutdown(cancel_futures=True)
            self._given_up.clear()

    def hear(self, path: Path | str) -> Iterator[Utterance]:
        """The stretches of speech in an audio file."""
        return self.hear_blocks(audio.blocks(path))

    def hear_blocks(
        self,
        blocks: Iterable[NDArray[np.float32]],
        heard: Callable[[float], None] = lambda seconds: None,
    ) -> Iterator[Utterance]:
        """The stretches of speech in a recording; calls `heard` with the seconds done so far."""
        clips = self.hearing.clips
        pieces = clipped(blocks, clips) if clips else placed(blocks)
        if self.vad is not None:
            pieces = self.vad.speech(pieces)

        def rows() -> Iterator[tuple[Window, NDArray[np.float32]]]:
            for window, found in self.listen_to_all(windows(pieces)):
                if self._given_up.is_set():
                    return
                yield window, found
                heard(window.end / audio.SAMPLE_RATE)

        return utterances(stitch(rows(), self.space, len(self.silent)), self.silent)

    def listen_to_all(
        self, windows: Iterable[Window]
    ) -> Iterator[tuple[Window, NDArray[np.float32]]]:
        """Windows in order -> the same, each with its log-probabilities (S, V)."""
        pending: deque[tuple[Window, Future[NDArray[np.float32]]]] = deque()
        remaining = iter(windows)
        try:
            while group := list(islice(remaining, 2 * self.batch_size)):
                heard = self.listener.submit([window.samples for window in group])
                pending += zip(group, heard, strict=True)
                while (
                    len(pending) > 2 * self.workers * self.batch_size
                ):  # at work and to choose from
                    window, future = pending.popleft()
                    yield window, future.result()
            for window, future in pending:
                yield window, future.result()
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


class _Reading:
    """The blocks of a file, how far they were read, and why no further."""

    def __init__(self, path: Path | str):
        self._path = path
        self._ended = False
        self.seconds = 0.0
        self.problem: AudioError | None = None

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Ends where the file cannot be read on: what was heard up to there is kept."""
        try:
            for block in audio.blocks(self._path):
                self.seconds += len(block) / audio.SAMPLE_RATE
                yield block
            self._ended = True
        except AudioError as error:
            self.problem = error

    def duration(self) -> float:
        """Seconds of the file; where nobody wanted to read it all, as its header says."""
        if self._ended or self.problem is not None:
            return self.seconds
        return max(self.seconds, audio.duration(self._path) or 0.0)


def _give_up(pending: Iterable[tuple[Any, Future[Any]]]) -> None:
    """After an error or Ctrl-C nobody asks for what is still to be done; it would be waited for."""
    for _, future in pending:
        future.cancel()


def _within(segment: Segment, duration: float) -> Segment:
    """The segment, ended where the recording ends: the last frame may reach beyond."""
    if segment.end <= duration:
        return segment
    words = tuple(replace(word, end=min(word.end, duration)) for word in segment.words)
    return replace(segment, end=min(segment.end, duration), words=words)
