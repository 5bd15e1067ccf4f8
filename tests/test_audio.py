"""What comes out of every kind of file: made here, nothing is recorded or downloaded."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sounds import ODD_RATES, RATES, examples, noise, record, tone

from hyperasr import audio
from hyperasr.audio import SAMPLE_RATE, blocks, duration, read, resample
from hyperasr.errors import AudioError

# What comes out


def test_importing_and_reading_never_imports_torch(tmp_path):
    path = record(tmp_path / "a.wav", noise((4800, 2)), 48_000)
    code = (
        "import sys; from hyperasr import audio; audio.read(sys.argv[1]); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == 0


def test_samples_at_16_khz_arrive_untouched(tmp_path):
    values = np.array([0, 1, -32768, 32767, 12345], np.int16)
    heard = read(record(tmp_path / "a.wav", values))
    assert heard.dtype == np.float32
    np.testing.assert_array_equal(heard, values / np.float32(32768))


def test_samples_beyond_full_scale_are_kept(tmp_path):
    loud = np.array([1.5, -3.0, 0.25], np.float32)
    np.testing.assert_array_equal(read(record(tmp_path / "a.wav", loud, subtype="FLOAT")), loud)


@examples(15)
@given(channels=st.integers(1, 9), frames=st.integers(1, 3000), rate=st.sampled_from([8000, 16000]))
def test_any_number_of_channels_becomes_their_mean(tmp_path, channels, frames, rate):
    samples = noise((frames, channels))
    path = record(tmp_path / "a.wav", samples, rate, subtype="FLOAT")
    mean = record(tmp_path / "mean.wav", samples.mean(axis=1), rate, subtype="FLOAT")
    np.testing.assert_allclose(read(path), read(mean), atol=1e-6)


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "ogg", "opus", "aiff", "w64", "au", "caf"])
def test_kinds_that_need_no_ffmpeg(tmp_path, without_ffmpeg, kind, rate):
    if kind == "opus":
        if rate == 44_100:
            pytest.skip("Opus has no 44.1 kHz")
        path = record(tmp_path / "a.opus", tone(2, rate), rate, format="OGG", subtype="OPUS")
    else:
        path = record(tmp_path / f"a.{kind}", tone(2, rate), rate)
    heard = read(path)
    assert duration(path) == pytest.approx(2, abs=0.001)
    assert len(heard) == pytest.approx(2 * SAMPLE_RATE, abs=16)
    inside = slice(1600, 30_400)  # codecs ring at the ends
    heard, played = heard[inside], tone(2, SAMPLE_RATE)[inside]
    assert heard.std() == pytest.approx(played.std(), rel=0.1)
    assert np.corrcoef(heard, played)[0, 1] > 0.99  # one sample late would be 0.985


def test_a_twentieth_of_a_second_is_enough(tmp_path):
    assert len(read(record(tmp_path / "a.wav", tone(0.05, 8000), 8000))) == 800


@pytest.mark.parametrize("rate", [44_100, 48_000, 192_000])
def test_less_than_one_sample_is_no_sound(tmp_path, rate):
    path = record(tmp_path / "a.wav", tone(1 / rate, rate), rate)
    with pytest.raises(AudioError, match="no samples"):
        read(path)


def test_the_extension_does_not_matter(tmp_path):
    record(tmp_path / "a.flac", tone(1, SAMPLE_RATE))
    (tmp_path / "a.flac").rename(tmp_path / "a.mp3")
    assert len(read(tmp_path / "a.mp3")) == SAMPLE_RATE


# Blocks


@examples(20)
@given(seconds=st.floats(0.001, 3), rate=st.sampled_from([16_000, 44_100, 48_000]))
def test_blocks_are_the_whole_file_in_order(tmp_path, seconds, rate):
    path = tmp_path / f"{rate}.wav"
    if not path.exists():
        record(path, noise((2 * rate + 123, 2)), rate)
    parts = list(blocks(path, seconds))
    assert {len(part) for part in parts[:-1]} <= {round(seconds * SAMPLE_RATE)}
    assert 0 < len(parts[-1]) <= round(seconds * SAMPLE_RATE)
    np.testing.assert_array_equal(np.concatenate(parts), read(path))


@pytest.mark.parametrize("seconds", [0, -1, 1e-9])
def test_an_empty_block_is_a_mistake_of_the_caller(tmp_path, seconds):
    with pytest.raises(ValueError, match="at least one sample"):
        next(blocks(record(tmp_path / "a.wav", tone(1, 8000), 8000), seconds))


@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_memory_does_not_grow_with_the_file(tmp_path, rate):
    path = record(tmp_path / "a.wav", np.zeros((rate * 120, 2), np.int16), rate)
    tracemalloc.start()
    try:
        assert sum(len(block) for block in blocks(path, 1.0)) == 120 * SAMPLE_RATE
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3_000_000  # all of it would be 7.7 MB


# Resampling


@pytest.mark.parametrize("rate", RATES + ODD_RATES)
def test_a_tone_keeps_its_pitch_its_loudness_and_its_place(rate):
    heard = np.concatenate(list(resample([tone(1.0, rate)], rate)))
    assert heard.dtype == np.float32
    inside = slice(800, -800)  # the ends hear the silence around the recording
    np.testing.assert_allclose(heard[inside], tone(1.0, SAMPLE_RATE)[inside], atol=2e-3)


@pytest.mark.parametrize("rate", [24000, 44100, 48000])
def test_what_16_khz_cannot_hold_does_not_come_back_as_another_tone(rate):
    heard = np.concatenate(list(resample([tone(1.0, rate, hertz=9500.0)], rate)))
    assert np.abs(heard[800:-800]).max() < 1e-3


@examples(60)
@given(rate=st.sampled_from(RATES + ODD_RATES), data=st.data())
def test_how_the_stream_is_cut_does_not_matter(rate, data):
    samples = noise((data.draw(st.integers(1, 60_000), label="samples"),))
    places = st.lists(st.integers(0, len(samples)), max_size=8).map(sorted)
    pieces = np.split(samples, data.draw(places, label="cut at"))
    whole = np.concatenate(list(resample([samples], rate)))
    assert abs(len(whole) - len(samples) * SAMPLE_RATE / rate) <= 1
    np.testing.assert_allclose(np.concatenate(list(resample(pieces, rate))), whole, atol=1e-6)


@pytest.mark.parametrize("rate", [*ODD_RATES, 44_100, 8000])
def test_no_drift_at_any_rate(rate):
    """A click late in the stream stays where it is: 1 ms in an hour would be 0.26 samples here."""
    late = 58.0
    t = np.arange(rate * 60) / rate
    clicks = np.exp(-(((t - late) * 1000) ** 2)).astype(np.float32)
    heard = np.concatenate(list(resample(np.array_split(clicks, 100), rate)))
    found = (heard * np.arange(len(heard))).sum(dtype=np.float64) / heard.sum(dtype=np.float64)
    assert len(heard) == 60 * SAMPLE_RATE
    assert found == pytest.approx(late * SAMPLE_RATE, abs=0.05)


# Lengths


def test_duration_costs_no_decoding(tmp_path, monkeypatch):
    path = record(tmp_path / "a.flac", noise((20_000,)), 8000)
    monkeypatch.setattr(audio, "_decode", None)
    assert duration(path) == 2.5


@pytest.mark.parametrize("name", ["missing.wav", "", "empty.wav"])
def test_duration_of_nothing(tmp_path, name):
    (tmp_path / "empty.wav").touch()
    with pytest.raises(AudioError):
        duration(tmp_path / name)


def test_duration_of_what_is_not_audio(unknown):
    assert duration(unknown) is None
