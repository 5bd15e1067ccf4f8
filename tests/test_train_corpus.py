"""Recordings are decoded once, into memory or into a cache, and no bad one stops the others."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hyperasr import audio
from hyperasr.errors import ManifestError
from hyperasr.manifest import Utterance
from hyperasr.train.corpus import Corpus, load_corpus


def silent(message: str) -> None:
    raise AssertionError(f"nothing should be said, but: {message}")


@pytest.fixture
def recordings(tmp_path) -> list[Utterance]:
    rng = np.random.default_rng(0)
    for i, count in enumerate([1000, 3000, 2000]):
        soundfile.write(tmp_path / f"{i}.wav", rng.uniform(-0.9, 0.9, count), audio.SAMPLE_RATE)
    return [Utterance(tmp_path / f"{i}.wav", 0.1, f"text {i}") for i in range(3)]


def waveforms(corpus: Corpus) -> list[list[float]]:
    return [corpus.waveform(i).tolist() for i in range(len(corpus.utterances))]


def test_a_corpus_holds_what_the_files_hold(recordings):
    corpus = load_corpus(recordings, None, silent)
    assert corpus.utterances == tuple(recordings)
    for i, utterance in enumerate(recordings):
        assert corpus.waveform(i).numpy() == pytest.approx(audio.read(utterance.audio), abs=1e-4)


def test_samples_beyond_full_scale_are_clipped_not_wrapped(tmp_path):
    loud = np.array([0.0, 1.5, -1.5, 1.0, -1.0] * 200, "f4")
    soundfile.write(tmp_path / "loud.wav", loud, audio.SAMPLE_RATE, subtype="FLOAT")
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
        assert corpus.offsets == in_ram.offsets
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
            monkeypatch.setattr(os, "getpid", lambda: 0)
            load_corpus(recordings, tmp_path / "cache", silent)
        return rename(partial, target)

    monkeypatch.setattr(Path, "replace", late)
    ours, expected = (load_corpus(recordings, x, silent) for x in (tmp_path / "cache", None))
    assert waveforms(ours) == waveforms(expected)


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
        corpus = load_corpus(recordings, cache, said.append)
        assert corpus.utterances == good
        assert waveforms(corpus) == expected
        assert len(said) == 1, "every run says it, also one that finds the cache"
        assert str(recordings[1].audio) in said[0]


def test_a_recording_that_was_replaced_is_decoded_again(recordings, tmp_path):
    load_corpus(recordings, tmp_path, silent)
    soundfile.write(recordings[1].audio, np.full(2500, 0.25), audio.SAMPLE_RATE)
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
