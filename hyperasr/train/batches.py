"""Waveforms in memory -> batches of a bounded number of shapes.

The order of the batches follows from the seed and the epoch alone, so a resumed run sees what an
uninterrupted one would have seen.
"""

import queue
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from hyperasr import audio
from hyperasr.tokens import Tokens
from hyperasr.train.augment import (
    add_background,
    background,
    change_speed,
    reverberate,
    room_noise,
)
from hyperasr.train.config import TrainConfig
from hyperasr.train.corpus import Corpus
from hyperasr.train.parallel import Workers
from hyperasr.train.phones import Pronunciations

PAUSES = 0.1, 1.0
"""Seconds between utterances that are joined, at least and at most."""


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
