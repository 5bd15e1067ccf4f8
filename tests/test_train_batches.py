"""From waveforms to batches: every random choice follows a seed."""

import itertools
import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperasr import audio
from hyperasr.errors import ManifestError
from hyperasr.manifest import Utterance
from hyperasr.tokens import CharTokens
from hyperasr.train.augment import background
from hyperasr.train.batches import (
    Pick,
    make_batch,
    padded_length,
    place,
    plan_epoch,
    prefetch,
)
from hyperasr.train.config import TrainConfig
from hyperasr.train.corpus import Corpus
from hyperasr.train.parallel import Workers

RATE = audio.SAMPLE_RATE
TOKENS = CharTokens()


def settings_for(**changes) -> TrainConfig:
    return TrainConfig(manifests=("unused",), **changes)


def silent(message: str) -> None:
    raise AssertionError(f"nothing should be said, but: {message}")


# -- the plan of an epoch -----------------------------------------------------------------


def corpus_of(durations: list[float]) -> Corpus:
    """A corpus of which only the durations are known: nothing else is needed to plan."""
    utterances = tuple(Utterance(Path(f"{i}.wav"), d, "a") for i, d in enumerate(durations))
    return Corpus(utterances, np.zeros(0, np.int16), ((0, 0),) * len(durations))


def seconds(picks: list[Pick], config: TrainConfig) -> float:
    """How long the padded utterances of a batch are together."""
    return len(picks) * padded_length(max(p.duration for p in picks), config.length_step)


durations = st.lists(st.floats(0.05, 25.0), min_size=1, max_size=150)
configs = st.builds(
    settings_for,
    seed=st.integers(0, 1000),
    batch_seconds=st.floats(25.0, 200.0),
    length_step=st.sampled_from([0.3, 1.0, 1.6, 4.0]),
)
speed_sets = st.sampled_from([(1.0,), (0.9, 1.0, 1.1), (0.5, 2.0)])


@given(durations, configs, st.integers(0, 9), speed_sets, st.data())
def test_an_epoch_has_every_chosen_utterance_once(durations, config, epoch, speeds, data):
    chosen = data.draw(st.lists(st.sampled_from(range(len(durations))), min_size=1, unique=True))
    plan = plan_epoch(corpus_of(durations), chosen, config, epoch, speeds=speeds)
    picks = [pick for batch in plan for pick in batch]
    assert sorted(pick.index for pick in picks) == sorted(chosen)
    assert all(plan)
    for pick in picks:
        assert pick.speed in speeds
        assert pick.duration == durations[pick.index] / pick.speed


@given(durations, configs, st.integers(0, 9), speed_sets)
def test_a_batch_holds_no_more_than_batch_seconds(durations, config, epoch, speeds):
    everyone = list(range(len(durations)))
    for batch in plan_epoch(corpus_of(durations), everyone, config, epoch, speeds=speeds):
        assert len(batch) == 1 or seconds(batch, config) <= config.batch_seconds + 1e-6


@given(durations, configs, st.integers(0, 9), speed_sets)
def test_the_same_seed_and_epoch_give_the_same_plan(durations, config, epoch, speeds):
    everyone = list(range(len(durations)))
    corpus, changes = corpus_of(durations), {"speeds": speeds, "background_share": 0.2}
    plans = [plan_epoch(corpus, everyone, config, epoch, **changes) for _ in range(2)]
    assert plans[0] == plans[1]


@given(durations, configs, st.floats(0.0, 1.0))
def test_background_is_added_to_the_utterances(durations, config, share):
    corpus, everyone = corpus_of(durations), list(range(len(durations)))
    plan = plan_epoch(corpus, everyone, config, 0, background_share=share)
    picks = [pick for batch in plan for pick in batch]
    assert sorted(pick.index for pick in picks if pick.index >= 0) == everyone
    added = [pick for pick in picks if pick.index < 0]
    assert len(added) == len({pick.index for pick in added}) == round(share * len(everyone))
    assert all(pick.speed == 1.0 and pick.duration >= 0.5 for pick in added)


def test_background_is_no_longer_than_an_utterance_may_be():
    config = settings_for(max_utterance=2.0, batch_seconds=4.0)
    plan = plan_epoch(corpus_of([1.0] * 50), list(range(50)), config, 0, background_share=1.0)
    assert all(pick.duration <= 2.0 for batch in plan for pick in batch)


@given(durations, configs, st.floats(0.0, 1.0))
def test_joined_recordings_hold_every_utterance_once_and_are_no_longer_than_allowed(
    durations, config, share
):
    corpus, everyone = corpus_of(durations), list(range(len(durations)))
    plan = plan_epoch(corpus, everyone, config, 0, joined_share=share, gain_range=6.0)
    recordings = [pick for batch in plan for pick in batch]
    parts = [part for first in recordings for part in (first, *first.then)]
    assert sorted(part.index for part in parts) == everyone
    assert all(0.5 < part.gain < 2.0 for part in parts)
    for first in recordings:
        seconds_of = [durations[part.index] + part.pause for part in (first, *first.then)]
        assert first.duration == pytest.approx(sum(seconds_of))
        assert not first.then or first.duration <= config.max_joined


def test_half_of_the_recordings_go_on_with_other_utterances():
    corpus, everyone = corpus_of([2.0] * 400), list(range(400))
    plan = plan_epoch(corpus, everyone, settings_for(), 0, joined_share=0.5)
    lengths = [1 + len(first.then) for batch in plan for first in batch]
    alone = lengths.count(1) / len(lengths)
    assert 0.4 < alone < 0.7
    assert max(lengths) in (6, 7, 8)  # of 2 s and a pause each in 20 s


def test_a_joined_recording_is_its_utterances_with_a_quiet_pause_between():
    corpus = spoken([1600, 3200])
    second = Pick(1, 1.0, 0.2, gain=0.5, pause=0.1)
    ((samples, target),) = rows(
        make_batch(corpus, [Pick(0, 1.0, 0.4, gain=2.0, then=(second,))], TOKENS, step=0.1)
    )
    first = torch.from_numpy(np.float32(samples[:1600]))
    assert torch.equal(first, 2 * corpus.waveform(0))
    assert samples[3200:] == (0.5 * corpus.waveform(1)).tolist()
    pause = np.float32(samples[1600:3200])
    assert 0 < np.sqrt((pause**2).mean()) < float(first.square().mean().sqrt()) * 1.05
    assert TOKENS.decode(target) == "a ab"


def test_other_seeds_and_epochs_give_other_plans():
    corpus, everyone = corpus_of([1 + i / 10 for i in range(100)]), list(range(100))
    plans = [
        plan_epoch(corpus, everyone, settings_for(seed=seed), epoch)
        for seed in range(3)
        for epoch in range(3)
    ]
    assert all(a != b for a, b in itertools.combinations(plans, 2))
    batches = [{frozenset(p.index for p in batch) for batch in plan} for plan in plans]
    assert all(a != b for a, b in itertools.combinations(batches, 2)), "only their order differs"


def test_long_and_short_batches_come_in_random_order():
    corpus, everyone = corpus_of([1 + i / 10 for i in range(200)]), list(range(200))
    plan = plan_epoch(corpus, everyone, settings_for(batch_seconds=40.0), 0)
    sizes = [len(batch) for batch in plan]
    assert sizes not in (sorted(sizes), sorted(sizes, reverse=True))


@settings(max_examples=20)
@given(st.integers(0, 1000), configs, speed_sets)
def test_the_number_of_shapes_does_not_grow_with_the_corpus(seed, config, speeds):
    lengths = np.random.default_rng(seed).uniform(0.1, 25.0, 1500).tolist()
    plan = plan_epoch(corpus_of(lengths), list(range(1500)), config, 0, speeds=speeds)
    widths = {padded_length(p.duration, config.length_step) for batch in plan for p in batch}
    shapes = {(len(batch), seconds(batch, config)) for batch in plan}
    assert len(shapes) <= 2 * len(widths) + 1
    rooms = {max(1, int(config.batch_seconds / width)) for width in widths}
    assert sum(len(batch) not in rooms for batch in plan) <= 1, "all but the last are full"


@given(st.integers(1, 40), st.sampled_from([0.1, 0.5, 1.6, 3.0]))
def test_a_length_that_is_a_multiple_is_not_padded_further(count, step):
    assert padded_length(count * step, step) == pytest.approx(count * step)
    assert padded_length(count * step + 0.001, step) == pytest.approx((count + 1) * step)
    assert padded_length(0.0001, step) == step


# -- batches ------------------------------------------------------------------------------


def spoken(counts: list[int]) -> Corpus:
    """A corpus of so many samples each, all different; the texts have 1, 2, 3, ... letters."""
    samples = np.arange(1, sum(counts) + 1).astype(np.int16)
    utterances = tuple(
        Utterance(Path(f"{i}.wav"), n / RATE, "abcdefghij"[: i % 10 + 1])
        for i, n in enumerate(counts)
    )
    edges = [0, *np.cumsum(counts).tolist()]
    return Corpus(utterances, samples, tuple(pairwise(edges)))


def picks_of(corpus: Corpus, speed: float = 1.0) -> list[Pick]:
    return [Pick(i, speed, u.duration / speed) for i, u in enumerate(corpus.utterances)]


def rows(batch) -> list[tuple[list[float], list[int]]]:
    """The samples without padding and the target ids of each utterance."""
    samples = [x[:n].tolist() for x, n in zip(batch.waveforms, batch.lengths, strict=True)]
    assert not any(x[n:].any() for x, n in zip(batch.waveforms, batch.lengths, strict=True))
    targets = batch.targets.split(batch.target_lengths.tolist())
    return list(zip(samples, [t.tolist() for t in targets], strict=True))


def test_background_among_utterances_has_no_text():
    corpus = spoken([1000, 1200])
    picks = [Pick(0, 1.0, 0.1), Pick(-7, 1.0, 0.05), Pick(1, 1.0, 0.1)]
    (_, first), (noise, none), (_, second) = rows(make_batch(corpus, picks, TOKENS, step=0.1))
    assert (TOKENS.decode(first), none, TOKENS.decode(second)) == ("a", [], "ab")
    assert noise == background(800, 7).tolist()


def test_a_batch_is_the_waveforms_and_their_texts_padded_to_the_step():
    corpus = spoken([800, 2000, 1601])
    batch = make_batch(corpus, picks_of(corpus), TOKENS, step=0.1)
    assert batch.waveforms.shape == (3, 3200)
    assert batch.lengths.tolist() == [800, 2000, 1601]
    for i, (samples, target) in enumerate(rows(batch)):
        assert samples == corpus.waveform(i).tolist()
        assert TOKENS.decode(target) == corpus.utterances[i].text
    assert batch.weight == 1 / (1 + 2 + 3)


@given(st.lists(st.integers(100, 3000), min_size=1, max_size=9), st.integers(1, 4))
def test_the_shares_of_all_workers_are_the_whole_batch(counts, workers):
    corpus = spoken(counts)
    whole = make_batch(corpus, picks_of(corpus), TOKENS, step=0.1)
    shares = [
        make_batch(corpus, picks_of(corpus), TOKENS, 0.1, Workers(rank, workers))
        for rank in range(workers)
    ]
    idle = [share for share in shares if share.weight == 0.0]
    busy = [share for share in shares if share.weight]
    assert len(idle) == max(0, workers - len(counts))
    assert all(len(share.lengths) == 1 for share in idle), "takes part in the sums all the same"
    assert all(share.weight == whole.weight for share in busy)
    assert sorted(row for share in busy for row in rows(share)) == sorted(rows(whole))
    assert all(share.waveforms.shape[1] % 1600 == 0 for share in shares)


def test_speed_changes_the_length_in_the_batch():
    corpus = spoken([9000, 4500])
    batch = make_batch(corpus, picks_of(corpus, speed=0.9), TOKENS, step=0.25)
    assert batch.lengths.tolist() == [10_000, 5_000]
    assert batch.waveforms.shape == (2, 12_000)


def test_a_batch_of_nothing_but_background():
    corpus = spoken([1000])
    batch = make_batch(corpus, [Pick(-7, 1.0, 0.5), Pick(-8, 1.0, 0.75)], TOKENS, step=0.5)
    assert batch.lengths.tolist() == [8000, 12_000]
    assert batch.target_lengths.tolist() == [0, 0]
    assert (batch.targets.shape, batch.targets.dtype) == ((0,), torch.int64)


# -- prefetch -----------------------------------------------------------------------------


def test_prefetch_gives_the_same_items_in_order():
    assert list(prefetch(iter(range(50)), ahead=3)) == list(range(50))
    assert list(prefetch(iter(()))) == []


def test_prefetch_works_ahead_but_not_too_far():
    made = [threading.Event() for _ in range(20)]

    def items():
        for number, event in enumerate(made):
            event.set()
            yield number

    batches = prefetch(items(), ahead=3)
    assert next(batches) == 0
    assert made[3].wait(10), "nothing was made while nobody asked"
    assert not made[6].wait(0.2), "three are ready and one waits: the next should not be made"
    batches.close()


def test_prefetch_passes_an_exception_on_after_what_came_before_it():
    def items():
        yield 1
        yield 2
        raise ManifestError("the third")

    batches = prefetch(items())
    assert [next(batches), next(batches)] == [1, 2]
    with pytest.raises(ManifestError, match="the third"):
        next(batches)


def test_the_thread_ends_when_the_consumer_stops_early():
    before = set(threading.enumerate())
    batches = prefetch(itertools.count(), ahead=2)
    assert list(itertools.islice(batches, 5)) == list(range(5))
    assert set(threading.enumerate()) > before
    batches.close()
    assert set(threading.enumerate()) <= before


def test_shares_of_the_recordings_are_placed_in_rooms_and_noise():
    config = settings_for(room_share=0.3, noise_share=0.6)
    plan = plan_epoch(corpus_of([2.0] * 500), list(range(500)), config, 0, background_share=0.1)
    placed = place(plan, config, 0)
    picks = [pick for batch in placed for pick in batch if pick.index >= 0]
    assert 0.2 < sum(pick.room > 0 for pick in picks) / 500 < 0.4
    assert 0.5 < sum(pick.noise > 0 for pick in picks) / 500 < 0.7
    assert not any(p.room or p.noise for batch in placed for p in batch if p.index < 0)
    bare = [[replace(pick, room=0, noise=0) for pick in batch] for batch in placed]
    assert bare == plan, "nothing else changes"
    assert place(plan, config, 0) == placed != place(plan, config, 1)
    assert place(plan, settings_for(), 0) is plan


def test_a_recording_in_a_room_with_noise_sounds_otherwise_and_lasts_as_long():
    corpus = spoken([32_000])
    dry, wet = (
        make_batch(corpus, [Pick(0, 1.0, 2.0, room=seed, noise=seed)], TOKENS, 1.6)
        for seed in (0, 7)
    )
    assert torch.equal(dry.lengths, wet.lengths)
    assert dry.waveforms.shape == wet.waveforms.shape
    assert torch.equal(dry.targets, wet.targets)
    assert not torch.equal(dry.waveforms, wet.waveforms)
