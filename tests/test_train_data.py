"""From manifests to batches, and what is done to a batch: every random choice follows a seed."""

import itertools
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperasr import audio
from hyperasr.errors import ManifestError
from hyperasr.manifest import Utterance
from hyperasr.tokens import CharTokens
from hyperasr.train.augment import change_speed, spec_augment
from hyperasr.train.config import TrainConfig
from hyperasr.train.data import (
    Corpus,
    Pick,
    load_corpus,
    make_batch,
    padded_length,
    plan_epoch,
    prefetch,
)
from hyperasr.train.parallel import Workers

RATE = audio.SAMPLE_RATE
TOKENS = CharTokens()

patient = settings(deadline=None, max_examples=60)


def settings_for(**changes) -> TrainConfig:
    return TrainConfig(manifests=("unused",), **changes)


def silent(message: str) -> None:
    raise AssertionError(f"nothing should be said, but: {message}")


# -- the plan of an epoch -----------------------------------------------------------------


def corpus_of(durations: list[float]) -> Corpus:
    """A corpus of which only the durations are known: nothing else is needed to plan."""
    utterances = tuple(Utterance(Path(f"{i}.wav"), d, "a") for i, d in enumerate(durations))
    return Corpus(utterances, np.zeros(0, np.int16), (0,) * (len(durations) + 1))


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


@patient
@given(durations, configs, st.integers(0, 9), speed_sets, st.data())
def test_an_epoch_has_every_chosen_utterance_once(durations, config, epoch, speeds, data):
    chosen = data.draw(st.lists(st.sampled_from(range(len(durations))), min_size=1, unique=True))
    plan = plan_epoch(corpus_of(durations), chosen, config, epoch, speeds)
    picks = [pick for batch in plan for pick in batch]
    assert sorted(pick.index for pick in picks) == sorted(chosen)
    assert all(plan)
    for pick in picks:
        assert pick.speed in speeds
        assert pick.duration == durations[pick.index] / pick.speed


@patient
@given(durations, configs, st.integers(0, 9), speed_sets)
def test_a_batch_holds_no_more_than_batch_seconds(durations, config, epoch, speeds):
    everyone = list(range(len(durations)))
    for batch in plan_epoch(corpus_of(durations), everyone, config, epoch, speeds):
        assert len(batch) == 1 or seconds(batch, config) <= config.batch_seconds + 1e-6


@patient
@given(durations, configs, st.integers(0, 9), speed_sets)
def test_the_same_seed_and_epoch_give_the_same_plan(durations, config, epoch, speeds):
    everyone = list(range(len(durations)))
    plans = [plan_epoch(corpus_of(durations), everyone, config, epoch, speeds) for _ in range(2)]
    assert plans[0] == plans[1]


def test_other_seeds_and_epochs_give_other_plans():
    corpus, everyone = corpus_of([1 + i / 10 for i in range(100)]), list(range(100))
    plans = [
        plan_epoch(corpus, everyone, settings_for(seed=seed), epoch, (1.0,))
        for seed in range(3)
        for epoch in range(3)
    ]
    assert all(a != b for a, b in itertools.combinations(plans, 2))
    batches = [{frozenset(p.index for p in batch) for batch in plan} for plan in plans]
    assert all(a != b for a, b in itertools.combinations(batches, 2)), "only their order differs"


def test_long_and_short_batches_come_in_random_order():
    corpus, everyone = corpus_of([1 + i / 10 for i in range(200)]), list(range(200))
    plan = plan_epoch(corpus, everyone, settings_for(batch_seconds=40.0), 0, (1.0,))
    longest = [max(pick.duration for pick in batch) for batch in plan]
    assert longest != sorted(longest)
    assert longest != sorted(longest, reverse=True)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), configs, speed_sets)
def test_the_number_of_shapes_does_not_grow_with_the_corpus(seed, config, speeds):
    lengths = np.random.default_rng(seed).uniform(0.1, 25.0, 1500).tolist()
    plan = plan_epoch(corpus_of(lengths), list(range(1500)), config, 0, speeds)
    widths = {padded_length(p.duration, config.length_step) for batch in plan for p in batch}
    shapes = {(len(batch), seconds(batch, config)) for batch in plan}
    assert len(shapes) <= 2 * len(widths) + 1


@patient
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
    return Corpus(utterances, samples, (0, *np.cumsum(counts).tolist()))


def picks_of(corpus: Corpus, speed: float = 1.0) -> list[Pick]:
    return [Pick(i, speed, u.duration / speed) for i, u in enumerate(corpus.utterances)]


def rows(batch) -> list[tuple[list[float], list[int]]]:
    """The samples without padding and the target ids of each utterance."""
    samples = [x[:n].tolist() for x, n in zip(batch.waveforms, batch.lengths, strict=True)]
    assert not any(x[n:].any() for x, n in zip(batch.waveforms, batch.lengths, strict=True))
    targets = batch.targets.split(batch.target_lengths.tolist())
    return list(zip(samples, [t.tolist() for t in targets], strict=True))


def test_a_batch_is_the_waveforms_and_their_texts_padded_to_the_step():
    corpus = spoken([800, 2000, 1601])
    batch = make_batch(corpus, picks_of(corpus), TOKENS, step=0.1)
    assert batch.waveforms.shape == (3, 3200)
    assert batch.lengths.tolist() == [800, 2000, 1601]
    for i, (samples, target) in enumerate(rows(batch)):
        assert samples == corpus.waveform(i).tolist()
        assert TOKENS.decode(target) == corpus.utterances[i].text
    assert batch.weight == 1 / (1 + 2 + 3)


@patient
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


@pytest.mark.parametrize("taken", [1, 5])
def test_the_thread_ends_when_the_consumer_stops_early(taken):
    before = set(threading.enumerate())
    batches = prefetch(itertools.count(), ahead=2)
    assert list(itertools.islice(batches, taken)) == list(range(taken))
    assert set(threading.enumerate()) > before
    batches.close()
    assert set(threading.enumerate()) <= before


# -- the corpus and its cache -------------------------------------------------------------


@pytest.fixture
def recordings(tmp_path) -> list[Utterance]:
    rng = np.random.default_rng(0)
    for i, count in enumerate([1000, 3000, 2000]):
        soundfile.write(tmp_path / f"{i}.wav", rng.uniform(-0.9, 0.9, count), RATE)
    return [Utterance(tmp_path / f"{i}.wav", 0.1, f"text {i}") for i in range(3)]


def waveforms(corpus: Corpus) -> list[list[float]]:
    return [corpus.waveform(i).tolist() for i in range(len(corpus.utterances))]


def test_a_corpus_holds_what_the_files_hold(recordings):
    corpus = load_corpus(recordings, None, silent)
    assert corpus.utterances == tuple(recordings)
    for i, utterance in enumerate(recordings):
        expected = torch.from_numpy(audio.read(utterance.audio))
        torch.testing.assert_close(corpus.waveform(i), expected, atol=1e-4, rtol=0)


def test_samples_beyond_full_scale_are_clipped_not_wrapped(tmp_path):
    loud = np.array([0.0, 1.5, -1.5, 1.0, -1.0] * 200, "f4")
    soundfile.write(tmp_path / "loud.wav", loud, RATE, subtype="FLOAT")
    corpus = load_corpus([Utterance(tmp_path / "loud.wav", 0.1, "")], None, silent)
    expected = torch.from_numpy(loud.clip(-1, 1))
    torch.testing.assert_close(corpus.waveform(0), expected, atol=1e-4, rtol=0)


def test_the_cache_equals_ram_and_is_used_again(recordings, tmp_path, monkeypatch):
    in_ram = load_corpus(recordings, None, silent)
    fresh = load_corpus(recordings, tmp_path / "new" / "cache", silent)
    monkeypatch.setattr(audio, "read", lambda path: pytest.fail("decoded a second time"))
    again = load_corpus(recordings, tmp_path / "new" / "cache", silent)
    assert isinstance(again.samples, np.memmap)
    for corpus in (fresh, again):
        assert corpus.utterances == in_ram.utterances
        assert waveforms(corpus) == waveforms(in_ram)
        assert corpus.offsets == in_ram.offsets
    names = [path.suffix for path in (tmp_path / "new" / "cache").iterdir()]
    assert sorted(names) == [".json", ".s16"]


def test_the_cache_holds_sound_and_the_texts_come_from_the_manifest(recordings, tmp_path):
    load_corpus(recordings, tmp_path, silent)
    corrected = [Utterance(u.audio, u.duration, "corrected") for u in recordings]
    assert load_corpus(corrected, tmp_path, silent).utterances == tuple(corrected)


def test_another_list_of_recordings_gets_another_cache(recordings, tmp_path):
    load_corpus(recordings, tmp_path, silent)
    fewer = load_corpus(recordings[1:], tmp_path, silent)
    assert waveforms(fewer) == waveforms(load_corpus(recordings[1:], None, silent))


def test_half_a_cache_is_made_again(recordings, tmp_path):
    cache = tmp_path / "cache"
    expected = waveforms(load_corpus(recordings, cache, silent))
    next(cache.glob("*.json")).unlink()
    next(cache.glob("*.s16")).write_bytes(b"\1\0")
    assert waveforms(load_corpus(recordings, cache, silent)) == expected


def test_an_unreadable_recording_is_reported_and_left_out(recordings, tmp_path):
    good = (recordings[0], recordings[2])
    expected = waveforms(load_corpus(list(good), None, silent))
    recordings[1].audio.write_bytes(b"")
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        said = []
        corpus = load_corpus(recordings, cache, said.append)
        assert corpus.utterances == good
        assert waveforms(corpus) == expected
        assert len(said) == 1, "every run says it, also one that finds the cache"
        assert str(recordings[1].audio) in said[0]


def test_a_recording_that_was_replaced_is_decoded_again(recordings, tmp_path):
    load_corpus(recordings, tmp_path, silent)
    soundfile.write(recordings[1].audio, np.full(2500, 0.25), RATE)
    corpus = load_corpus(recordings, tmp_path, silent)
    assert waveforms(corpus) == waveforms(load_corpus(recordings, None, silent))


@pytest.mark.parametrize("content", [None, b"no sound at all"], ids=repr)
def test_without_any_readable_recording_there_is_nothing_to_train_on(recordings, content):
    for utterance in recordings:
        utterance.audio.unlink()
        if content is not None:
            utterance.audio.write_bytes(content)
    said = []
    with pytest.raises(ManifestError, match="none of the recordings"):
        load_corpus(recordings, None, said.append)
    assert len(said) == 3


# -- augmentation -------------------------------------------------------------------------


@patient
@given(st.integers(1000, 20_000), st.sampled_from([0.5, 0.9, 0.95, 1.0, 1.1, 1.25, 2.0]))
def test_faster_is_shorter(count, speed):
    percent = round(speed * 100)
    assert change_speed(torch.ones(count), speed).shape == (-(-count * 100 // percent),)


@pytest.mark.parametrize("speed", [0.9, 1.0, 1.1])
def test_faster_is_higher(speed):
    tone = torch.sin(2 * torch.pi * 400 * torch.arange(RATE) / RATE)
    changed = change_speed(tone, speed)
    loudest = torch.fft.rfft(changed).abs().argmax() * RATE / len(changed)
    assert loudest == pytest.approx(400 * speed, abs=2)
    assert changed.abs().max() == pytest.approx(1.0, abs=0.05)


def masked(seed: int, lengths: list[int], n_mels: int = 80, **changes) -> torch.Tensor:
    """What SpecAugment hides of features that are nowhere 0, (B, T, M) booleans."""
    features = 1 + torch.rand(len(lengths), max(lengths), n_mels)
    before = features.clone()
    config = settings_for(**changes)
    out = spec_augment(features, torch.tensor(lengths), config, torch.Generator().manual_seed(seed))
    hidden = out == 0
    assert torch.equal(features, before), "its input is left alone"
    assert torch.equal(out[~hidden], features[~hidden])
    return hidden


@patient
@given(
    st.integers(0, 2**31),
    st.lists(st.integers(5, 300), min_size=1, max_size=4),
    st.integers(0, 3),
    st.integers(0, 25),
    st.integers(0, 5),
    st.floats(0.0, 0.2),
)
def test_masks_are_bands_and_stretches_of_bounded_width(
    seed, lengths, bands, band_width, stretches, share
):
    hidden = masked(
        seed,
        lengths,
        frequency_masks=bands,
        frequency_width=band_width,
        time_masks=stretches,
        time_share=share,
    )
    for x, length in zip(hidden, lengths, strict=True):
        in_time, in_frequency = x.all(dim=1), x[:length].all(dim=0)
        assert torch.equal(x, in_time[:, None] | in_frequency[None, :])
        assert in_frequency.sum() <= bands * band_width
        assert in_time.sum() <= stretches * np.ceil(share * length)
        assert not in_time[length:].any()
    if not (bands and band_width) and not (stretches and share):
        assert not hidden.any()


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**31))
def test_the_same_generator_state_hides_the_same(seed):
    lengths = [200, 150, 200, 120]
    assert torch.equal(masked(seed, lengths), masked(seed, lengths))
    assert not torch.equal(masked(seed, lengths), masked(seed + 1, lengths))
    first, *others = masked(seed, [200] * 4)
    assert not all(torch.equal(first, other) for other in others), "each utterance has its own"


def test_one_mask_is_one_stretch_anywhere_of_any_width_up_to_the_limit():
    changes = {"frequency_masks": 0, "time_masks": 1, "time_share": 0.2}
    hidden = masked(0, [200] * 400, n_mels=4, **changes).all(dim=2)
    widths = hidden.sum(dim=1)
    stretches = (hidden.int().diff(dim=1) == 1).sum(dim=1) + hidden[:, 0]
    assert torch.equal(stretches, (widths > 0).int())
    assert 17 < widths.float().mean() < 23, "uniform from 0 to 40"
    assert widths.max() > 36
    early, late = hidden[:, :100].sum().item(), hidden[:, 100:].sum().item()
    assert early == pytest.approx(late, rel=0.3)
