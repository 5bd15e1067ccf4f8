"""Manifests -> waveforms in memory -> batches of a bounded number of shapes.

Compressed audio is decoded once, into 16-bit samples in RAM or in a file that is mapped into
memory; after that a batch costs a copy. The order of the batches follows from the seed and the
epoch alone, so a resumed run sees what an uninterrupted one would have seen.
"""

import hashlib
import json
import os
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperasr import audio
from hyperasr.errors import AudioError, ManifestError
from hyperasr.manifest import Utterance
from hyperasr.tokens import Tokens
from hyperasr.train.augment import (
    add_background,
    background,
    change_speed,
    reverberate,
    room_noise,
)
from hyperasr.train.config import TrainConfig
from hyperasr.train.parallel import Workers
from hyperasr.train.phones import Pronunciations

PAUSES = 0.1, 1.0
"""Seconds between utterances that are joined, at least and at most."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Utterances and their samples, all in one 16-bit array."""

    utterances: tuple[Utterance, ...]
    samples: NDArray[np.int16]
    offsets: tuple[int, ...]
    """Where each utterance starts, and the end of the last one."""

    def waveform(self, index: int) -> Tensor:
        """One utterance, (N,) float32 in [-1, 1]."""
        samples = self.samples[self.offsets[index] : self.offsets[index + 1]]
        return torch.from_numpy(samples.astype(np.float32) / 32768.0)


@dataclass(frozen=True, slots=True)
class Pick:
    """An utterance and how it is played; a negative index is background of that seed."""

    index: int
    speed: float
    duration: float
    """Seconds, of all that follows too."""
    gain: float = 1.0
    pause: float = 0.0
    """Seconds of silence before it, where it follows another."""
    then: tuple["Pick", ...] = ()
    """What is said after it in the same recording."""
    room: int = 0
    """Seed of the room that all of it sounds in; 0: none."""
    noise: int = 0
    """Seed of the noise behind all of it; 0: none."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded waveforms and their target ids."""

    waveforms: Tensor  # (B, N)
    lengths: Tensor  # (B,) samples
    targets: Tensor  # (sum of target_lengths,)
    target_lengths: Tensor  # (B,)
    weight: float
    """What a summed loss is multiplied by to be per token of the whole batch."""
    tokens_each: float = 1.0
    """Of an utterance of the whole batch, on average."""
    hearings: int = 1
    """How often every utterance is in it: all once, then all again."""
    phones: tuple[Tensor, Tensor] | None = None
    """All ids, then the length of each utterance (B,), 0 where the dictionary lacks a word."""

    def twice(self) -> "Batch":
        """Every utterance, then every utterance again; a loss per token stays what it is."""
        return replace(
            self,
            waveforms=self.waveforms.repeat(2, 1),
            lengths=self.lengths.repeat(2),
            targets=self.targets.repeat(2),
            target_lengths=self.target_lengths.repeat(2),
            phones=self.phones and (self.phones[0].repeat(2), self.phones[1].repeat(2)),
            weight=self.weight / 2,
            hearings=2,
        )


def load_corpus(
    utterances: list[Utterance], cache: Path | None, warn: Callable[[str], None]
) -> Corpus:
    """Decode every recording once, into RAM or into a file in the folder `cache`.

    A recording that cannot be read is reported through `warn` and left out. Raises
    ManifestError when none is left.
    """
    if cache is not None:
        found = _open_cache(utterances, cache, warn)
        if found is not None:
            return found
    pieces: list[NDArray[np.int16]] = []
    kept: list[Utterance] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # libsndfile works outside the GIL
        for utterance, samples in zip(utterances, pool.map(_decode, utterances), strict=True):
            if isinstance(samples, AudioError):
                warn(f"{utterance.audio}: {samples}; left out of training")
                continue
            pieces.append(samples)
            kept.append(utterance)
    if not kept:
        raise ManifestError("none of the recordings in the manifests can be read")
    offsets = (0, *np.cumsum([len(piece) for piece in pieces]).tolist())
    corpus = Corpus(tuple(kept), np.concatenate(pieces), offsets)
    if cache is None:
        return corpus
    _write_cache(utterances, corpus, cache)
    return _open_cache(utterances, cache, lambda known: None) or corpus


def _decode(utterance: Utterance) -> NDArray[np.int16] | AudioError:
    try:
        samples = audio.read(utterance.audio)
    except AudioError as error:
        return error
    return (samples.clip(-1, 1) * 32767).round().astype(np.int16)


def _cache_file(utterances: list[Utterance], cache: Path) -> Path:
    names = "\n".join(f"{u.audio.resolve()} {_version(u.audio)}" for u in utterances)
    return cache / f"waveforms-{hashlib.sha256(names.encode()).hexdigest()[:16]}.s16"


def _version(path: Path) -> str:
    """What changes when a recording is replaced."""
    try:
        status = path.stat()
    except OSError:
        return "missing"
    return f"{status.st_size} {status.st_mtime_ns}"


def _open_cache(
    utterances: list[Utterance], cache: Path, warn: Callable[[str], None]
) -> Corpus | None:
    path = _cache_file(utterances, cache)
    index = path.with_suffix(".json")
    if not (path.exists() and index.exists()):
        return None
    try:
        lengths = json.loads(index.read_text(encoding="utf-8"))  # -1: could not be read
    except ValueError:
        return None
    for utterance, length in zip(utterances, lengths, strict=True):
        if length < 0:
            warn(f"{utterance.audio}: could not be read; left out of training")
    kept = tuple(u for u, n in zip(utterances, lengths, strict=True) if n >= 0)
    offsets = (0, *np.cumsum([n for n in lengths if n >= 0]).tolist())
    return Corpus(kept, np.memmap(path, dtype=np.int16, mode="r"), offsets)


def _write_cache(utterances: list[Utterance], corpus: Corpus, cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    path = _cache_file(utterances, cache)
    partial = path.with_suffix(f".{os.getpid()}.partial")  # workers may all write it
    corpus.samples.tofile(partial)
    partial.replace(path)
    sizes = dict(zip(map(id, corpus.utterances), np.diff(corpus.offsets).tolist(), strict=True))
    index = json.dumps([sizes.get(id(utterance), -1) for utterance in utterances])
    partial.write_text(index, encoding="utf-8")
    partial.replace(path.with_suffix(".json"))


def plan_epoch(
    corpus: Corpus,
    chosen: list[int],
    config: TrainConfig,
    epoch: int,
    *,
    speeds: tuple[float, ...] = (1.0,),
    background_share: float = 0.0,
    joined_share: float = 0.0,
    gain_range: float = 0.0,
) -> list[list[Pick]]:
    """One pass over the `chosen` utterances and some background: batches of like lengths.

    Every batch but the last of the longest has as many utterances as its padded length allows;
    what is left over moves up to the next length, so there are few shapes in all.
    """
    rng = np.random.default_rng([config.seed, epoch])
    factors = rng.choice(speeds, size=len(chosen))
    gains = 10 ** (rng.uniform(-gain_range, gain_range, len(chosen)) / 20)
    picks = [
        Pick(i, float(speed), corpus.utterances[i].duration / float(speed), float(gain))
        for i, speed, gain in zip(chosen, factors, gains, strict=True)
    ]
    if joined_share:
        rng.shuffle(picks)  # type: ignore[arg-type]
        picks = list(_join(picks, joined_share, config.max_joined, rng))
    longest = min(16.0, config.max_utterance)
    for _ in range(round(background_share * len(chosen))):
        picks.append(
            Pick(-int(rng.integers(1, 2**31)), 1.0, float(rng.uniform(min(0.5, longest), longest)))
        )
    rng.shuffle(picks)  # type: ignore[arg-type]
    by_length: dict[float, list[Pick]] = {}
    for pick in picks:
        by_length.setdefault(padded_length(pick.duration, config.length_step), []).append(pick)
    batches: list[list[Pick]] = []
    left: list[Pick] = []
    for padded, members in sorted(by_length.items()):
        left += members
        room = min(max(1, int(config.batch_seconds / padded)), config.max_batch)
        whole = len(left) // room * room
        batches += [left[start : start + room] for start in range(0, whole, room)]
        left = left[whole:]
    if left:
        batches.append(left)
    order = rng.permutation(len(batches))
    return [batches[i] for i in order]


def _join(
    picks: list[Pick], share: float, longest: float, rng: np.random.Generator
) -> Iterator[Pick]:
    """The same utterances; a `share` of the recordings go on with the next, up to `longest`."""
    waiting = iter(picks)
    for first in waiting:
        limit = rng.uniform(0.0, longest) if rng.random() < share else 0.0
        duration, then = first.duration, []
        while duration < limit and (following := next(waiting, None)) is not None:
            pause = float(rng.uniform(*PAUSES))
            if duration + pause + following.duration > longest:
                yield following
                break
            then.append(replace(following, pause=pause))
            duration += pause + following.duration
        yield replace(first, duration=duration, then=tuple(then))


def place(plan: list[list[Pick]], config: TrainConfig, epoch: int) -> list[list[Pick]]:
    """The same recordings; shares of them sound in a room, or have noise behind them."""
    if not config.room_share and not config.noise_share:
        return plan
    rng = np.random.default_rng([config.seed, epoch, 1])

    def placed(pick: Pick) -> Pick:
        room, noise = rng.random(2) < (config.room_share, config.noise_share)
        seeds = rng.integers(1, 2**31, 2)
        return replace(pick, room=int(room * seeds[0]), noise=int(noise * seeds[1]))

    return [[placed(pick) if pick.index >= 0 else pick for pick in batch] for batch in plan]


def padded_length(duration: float, step: float) -> float:
    """`duration` rounded up to a multiple of `step`, seconds."""
    return max(1, int(np.ceil(duration / step - 1e-6))) * step


def make_batch(
    corpus: Corpus,
    picks: list[Pick],
    tokens: Tokens,
    step: float,
    workers: Workers | None = None,
    pronunciations: Pronunciations | None = None,
) -> Batch:
    """Cut out a worker's share of `picks`, change speeds, pad to a multiple of `step` seconds."""
    workers = workers or Workers()
    texts = [_text(corpus, pick) for pick in picks]
    ids = [tokens.encode(text) for text in texts]
    count = max(len(picks), sum(map(len, ids)))  # background has none
    mine = range(workers.rank, len(picks), workers.count)
    weight = 1 / count if mine else 0.0  # a worker without work joins in with no weight
    mine = mine or range(1)
    waveforms = [_waveform(corpus, picks[i]) for i in mine]
    longest = max(len(waveform) for waveform in waveforms) / audio.SAMPLE_RATE
    padded = torch.zeros(len(mine), round(padded_length(longest, step) * audio.SAMPLE_RATE))
    for row, waveform in zip(padded, waveforms, strict=True):
        row[: len(waveform)] = waveform
    phones = None
    if pronunciations is not None:
        spoken = [
            torch.tensor(pronunciations.encode(texts[i]) or [], dtype=torch.int64) for i in mine
        ]
        phones = torch.cat(spoken), torch.tensor([len(one) for one in spoken])
    return Batch(
        waveforms=padded,
        lengths=torch.tensor([len(waveform) for waveform in waveforms]),
        targets=torch.tensor([token for i in mine for token in ids[i]], dtype=torch.int64),
        target_lengths=torch.tensor([len(ids[i]) for i in mine]),
        weight=weight,
        tokens_each=count / len(picks),
        phones=phones,
    )


def _text(corpus: Corpus, pick: Pick) -> str:
    spoken = [part.index for part in (pick, *pick.then) if part.index >= 0]
    return " ".join(corpus.utterances[index].text for index in spoken)


def _waveform(corpus: Corpus, pick: Pick) -> Tensor:
    """(N,) of an utterance and of what follows it."""
    if pick.index < 0:
        return background(round(pick.duration * audio.SAMPLE_RATE), -pick.index)
    parts = [pick.gain * change_speed(corpus.waveform(pick.index), pick.speed)]
    for following in pick.then:
        silence = room_noise(parts[-1], round(following.pause * audio.SAMPLE_RATE), pick.index)
        parts += [silence, _waveform(corpus, following)]
    waveform = torch.cat(parts)
    waveform = reverberate(waveform, pick.room) if pick.room else waveform
    return add_background(waveform, pick.noise) if pick.noise else waveform


def prefetch(batches: Iterator[Batch], ahead: int = 4) -> Generator[Batch, None, None]:
    """The same batches, made in a thread while the ones before are trained on; close it."""
    ready: queue.Queue[Batch | BaseException | None] = queue.Queue(ahead)
    stop = threading.Event()

    def offer(item: Batch | BaseException | None) -> None:
        while not stop.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for batch in batches:
                offer(batch)
                if stop.is_set():
                    return
            offer(None)
        except BaseException as error:  # raised again in the thread that trains
            offer(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()
