"""Recordings are decoded once, into memory or into a cache, and no bad one stops the others."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import ctc_loss

from hyperasr import audio
from hyperasr.errors import ConfigError, ManifestError, OutputError
from hyperasr.manifest import Utterance
from hyperasr.tokens import CharTokens
from hyperasr.train.config import TrainConfig
from hyperasr.train.corpus import Corpus, load_corpus, load_dev
from hyperasr.train.usable import frames, learnable, worth_reading

RATE = audio.SAMPLE_RATE


def silent(message: str) -> None:
    raise AssertionError(f"nothing should be said, but: {message}")


@pytest.fixture
def recordings(tmp_path) -> list[Utterance]:
    rng = np.random.default_rng(0)
    for i, count in enumerate([1000, 3000, 2000]):
        soundfile.write(tmp_path / f"{i}.wav", rng.uniform(-0.9, 0.9, count), RATE)
    return [
        Utterance(tmp_path / f"{i}.wav", seconds, f"text {i}")
        for i, seconds in enumerate([0.0625, 0.1875, 0.125])
    ]


def waveforms(corpus: Corpus) -> list[list[float]]:
    return [corpus.waveform(i).tolist() for i in range(len(corpus.utterances))]


def test_a_corpus_holds_what_the_files_hold(recordings):
    corpus = load_corpus(recordings, None, silent)
    assert corpus.utterances == tuple(recordings)
    for i, utterance in enumerate(recordings):
        assert corpus.waveform(i).numpy() == pytest.approx(audio.read(utterance.audio), abs=1e-4)


def test_samples_beyond_full_scale_are_clipped_not_wrapped(tmp_path):
    loud = np.array([0.0, 1.5, -1.5, 1.0, -1.0] * 200, "f4")
    soundfile.write(tmp_path / "loud.wav", loud, RATE, subtype="FLOAT")
    corpus = load_corpus([Utterance(tmp_path / "loud.wav", 0.1, "")], None, silent)
    assert corpus.waveform(0).numpy() == pytest.approx(loud.clip(-1, 1), abs=1e-4)


def test_the_cache_equals_ram_and_is_used_again(recordings, tmp_path, monkeypatch):
    in_ram = load_corpus(recordings, None, silent)
    fresh = load_corpus(recordings, tmp_path / "new" / "cache", silent)
    monkeypatch.setattr(audio, "read", lambda path: pytest.fail("decoded a second time"))
    again = load_corpus(recordings, tmp_path / "new" / "cache", silent)
    assert isinstance(again.samples, np.memmap)
    for corpus in (fresh, again):
        assert corpus.utterances == in_ram.utterances
        assert waveforms(corpus) == waveforms(in_ram)
        assert corpus.spans == in_ram.spans == ((0, 1000), (1000, 4000), (4000, 6000))
    names = [path.suffix for path in (tmp_path / "new" / "cache").iterdir()]
    assert sorted(names) == [".json", ".s16"]


def test_a_cache_belongs_to_a_list_of_recordings_not_to_their_texts(recordings, tmp_path):
    load_corpus(recordings, tmp_path, silent)
    fewer = load_corpus(recordings[1:], tmp_path, silent)
    assert waveforms(fewer) == waveforms(load_corpus(recordings[1:], None, silent))
    corrected = [replace(utterance, text="corrected") for utterance in recordings]
    assert load_corpus(corrected, tmp_path, silent).utterances == tuple(corrected)


def test_two_workers_may_fill_the_cache_at_once(recordings, tmp_path, monkeypatch):
    rename, other = Path.replace, iter(["a worker that comes between writing and renaming"])

    def late(partial: Path, target: Path) -> Path:
        for _ in other:
            load_corpus(recordings, tmp_path / "cache", silent)
        return rename(partial, target)

    monkeypatch.setattr(Path, "replace", late)
    ours, expected = (load_corpus(recordings, x, silent) for x in (tmp_path / "cache", None))
    assert waveforms(ours) == waveforms(expected)


def test_a_full_disk_names_the_cache_and_leaves_nothing_behind(recordings, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("hyperasr.train.corpus._decode_into", full)
    with pytest.raises(OutputError, match=r"cache/waveforms-.*no space left.*free some disk"):
        load_corpus(recordings, tmp_path / "cache", silent)
    assert list((tmp_path / "cache").iterdir()) == []


def test_pieces_in_any_order_of_files(recordings, tmp_path):
    """What stands in the cache is in the order of the files."""
    first, second, _ = recordings
    parts = [
        replace(one, offset=start, duration=0.02, piece=True)
        for one, start in ((first, 0.0), (second, 0.1), (first, 0.03), (second, 0.0))
    ]
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        found = load_corpus(parts, cache, silent)
        for index, part in enumerate(parts):
            whole = load_corpus([first if part.audio == first.audio else second], None, silent)
            begin = round(part.offset * RATE)
            assert torch.equal(found.waveform(index), whole.waveform(0)[begin : begin + 320])


def test_half_a_cache_is_made_again(recordings, tmp_path):
    cache = tmp_path / "cache"
    expected = waveforms(load_corpus(recordings, cache, silent))
    next(cache.glob("*.json")).unlink()
    assert waveforms(load_corpus(recordings, cache, silent)) == expected


def test_an_unreadable_recording_is_reported_and_left_out(recordings, tmp_path):
    good = (recordings[0], recordings[2])
    expected = waveforms(load_corpus(list(good), None, silent))
    recordings[1].audio.write_bytes(b"")
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        said = []
        found = load_corpus(recordings, cache, said.append)
        assert found.utterances == good
        assert waveforms(found) == expected
        assert len(said) == 1, "every run says it, also one that finds the cache"
        assert str(recordings[1].audio) in said[0]


def test_a_recording_that_was_replaced_is_decoded_again(recordings, tmp_path):
    load_corpus(recordings, tmp_path, silent)
    soundfile.write(recordings[1].audio, np.full(2500, 0.25), RATE)
    corpus = load_corpus(recordings, tmp_path, silent)
    assert waveforms(corpus) == waveforms(load_corpus(recordings, None, silent))


def test_without_any_readable_recording_there_is_nothing_to_train_on(recordings):
    recordings[0].audio.unlink()
    for utterance in recordings[1:]:
        utterance.audio.write_bytes(b"")
    said = []
    with pytest.raises(ManifestError, match="none of the recordings"):
        load_corpus(recordings, None, said.append)
    assert len(said) == 3


def test_pieces_of_a_file_are_cut_out_of_it_and_cached_as_such(recordings, tmp_path):
    whole = recordings[1]  # 3,000 samples
    samples = load_corpus([whole], None, silent).waveform(0)
    spans = [(0, 1600), (1600, 800), (2400, 600), (160, 320)]
    pieces = [
        replace(whole, offset=start / RATE, duration=count / RATE, text=str(start), piece=True)
        for start, count in spans
    ]
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        corpus = load_corpus([recordings[0], *pieces], cache, silent)
        assert corpus.utterances[1:] == tuple(pieces)
        for index, (start, count) in enumerate(spans, start=1):
            assert torch.equal(corpus.waveform(index), samples[start : start + count])
    others = [replace(piece, duration=320 / RATE) for piece in pieces]
    found = load_corpus([recordings[0], *others], tmp_path / "cache", silent)
    assert [len(found.waveform(index)) for index in range(5)] == [1000, 320, 320, 320, 320]


def test_a_piece_that_begins_after_the_end_is_left_out(recordings):
    beyond = replace(recordings[0], offset=5.0, piece=True)
    said = []
    corpus = load_corpus([beyond, recordings[1]], None, said.append)
    assert corpus.utterances == (recordings[1],)
    assert said == [f"{beyond.audio}: lasts 0.1 s, so nothing begins at 5 s; left out"]


def test_a_recording_named_twice_is_there_twice_and_whole(recordings):
    corpus = load_corpus([recordings[0], recordings[0]], None, silent)
    assert [len(corpus.waveform(index)) for index in (0, 1)] == [1000, 1000]


def test_what_a_recording_holds_counts_not_what_is_stated(recordings, tmp_path):
    stated = [replace(u, duration=d) for u, d in zip(recordings, (50.0, 0.19, 0.01), strict=True)]
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        said = []
        assert load_corpus(stated, cache, said.append).utterances == tuple(recordings)
        assert said == [
            f"{recordings[0].audio} lasts 0.06 s, not 50.00 s, as its manifest says, and 1 more "
            "are wrong about theirs: what they hold counts"
        ]


@pytest.mark.parametrize(
    "damage",
    [
        lambda index, samples: index.write_text("[1, 2]"),
        lambda index, samples: index.write_text("null"),
        lambda index, samples: index.write_text('[1000, "3000", 2000]'),
        lambda index, samples: samples.write_bytes(samples.read_bytes()[:4000]),
        lambda index, samples: samples.write_bytes(b""),
    ],
)
def test_a_damaged_cache_is_made_again(recordings, tmp_path, damage):
    expected = waveforms(load_corpus(recordings, tmp_path / "cache", silent))
    (index,), (samples,) = ((tmp_path / "cache").glob(name) for name in ("*.json", "*.s16"))
    damage(index, samples)
    assert waveforms(load_corpus(recordings, tmp_path / "cache", silent)) == expected
    assert samples.stat().st_size == 2 * 6000


def test_many_unreadable_recordings_are_counted(recordings, tmp_path):
    missing = [Utterance(tmp_path / f"none-{i}.wav", 1.0, "") for i in range(25)]
    said = []
    load_corpus([*missing, *recordings], None, said.append)
    assert len(said) == 11
    assert said[-1] == "15 more recordings cannot be read; left out"


def test_texts_to_measure_on_are_in_the_letters_of_the_model(recordings, tmp_path):
    entry = {"audio_filepath": str(recordings[0].audio), "duration": 0.0625}
    (tmp_path / "dev.jsonl").write_text(json.dumps(entry | {"text": "привет"}))
    with pytest.raises(ConfigError, match=r"dev\.jsonl: no texts to measure"):
        load_dev(tmp_path / "dev.jsonl", None, silent, CharTokens().normalise)
    (tmp_path / "dev.jsonl").write_text(json.dumps(entry | {"text": "hello"}))
    assert len(load_dev(tmp_path / "dev.jsonl", None, silent, CharTokens().normalise).spans) == 1


# -- what a run can learn from ------------------------------------------------------------


def config_for(**changes) -> TrainConfig:
    return TrainConfig(manifests=("unused",), **changes)


def corpus_of(*pairs: tuple[float, str]) -> Corpus:
    utterances = tuple(Utterance(Path(f"{i}.wav"), d, t) for i, (d, t) in enumerate(pairs))
    return Corpus(utterances, np.zeros(0, np.int16), ((0, 0),) * len(pairs))


def test_what_cannot_be_learnt_from_is_counted_with_the_reason():
    utterances = corpus_of((1.0, "hello"), (2.0, "..."), (3.0, "")).utterances
    said = []
    assert worth_reading(utterances, CharTokens(), said.append) == [utterances[0]]
    assert said == [
        "2 of 3 utterances left out: 2 without text in the model's letters (letters adds some)"
    ]
    with pytest.raises(ManifestError, match="none of 2 utterances can be learnt from: 2 without"):
        worth_reading(utterances[1:], CharTokens(), said.append)


def test_a_recording_too_short_for_its_text_or_too_long_is_left_out_by_its_own_length():
    corpus = corpus_of((0.19, "hello"), (0.2, "hello"), (0.24, "hello"), (26.0, "long"))
    said = []
    found = learnable(corpus, config_for(), CharTokens(), said.append)
    assert [u.duration for u in found.utterances] == [0.2, 0.24]  # 6 frames: a blank between l, l
    assert said == [
        "2 of 4 utterances left out: 1 longer than 25 s (max_utterance), 1 too short for the "
        "text, such as 0.wav"
    ]
    assert learnable(found, config_for(), CharTokens(), silent) is found
    with pytest.raises(ManifestError, match="none of 1 utterances"):
        learnable(corpus.only([0]), config_for(), CharTokens(), silent)


@given(st.lists(st.integers(1, 3), max_size=12))
def test_frames_are_what_ctc_needs(ids):
    """One frame fewer, and no path spells them: the loss is infinite."""
    need = frames(ids)
    for count, possible in ((need, True), (need - 1, False)):
        if count > 0 and ids:
            log_probs = torch.full((count, 1, 4), 0.25).log()
            loss = ctc_loss(log_probs, torch.tensor([ids]), [count], [len(ids)], reduction="sum")
            assert bool(torch.isfinite(loss)) is possible
