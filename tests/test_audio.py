"""Every kind of file and every kind of damage, made here: nothing is recorded or downloaded."""

import errno
import os
import shutil
import struct
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hyperasr import audio
from hyperasr.audio import SAMPLE_RATE, blocks, duration, read, resample
from hyperasr.errors import AudioError

RATES = [8000, 11025, 12000, 22050, 24000, 32000, 44100, 48000, 96000]
ODD_RATES = [44099, 16001, 11127, 47952]  # they share few factors with 16000

needs_ffmpeg = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs the ffmpeg program")


def examples(count: int) -> settings:
    """Try so many; without a deadline, as the machine is shared."""
    shared_folder = [HealthCheck.function_scoped_fixture]
    return settings(max_examples=count, deadline=None, suppress_health_check=shared_folder)


def tone(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype("f4")


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype("f4")


def record(path: Path, samples: np.ndarray, rate: int = SAMPLE_RATE, **kind: str) -> Path:
    soundfile.write(path, samples, rate, **kind)
    return path


def ffmpeg(*arguments: str | Path) -> None:
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", *map(str, arguments)], check=True)


def complaint(path: Path | str) -> str:
    """What `read` says about a file that it cannot read: one line, without the path."""
    with pytest.raises(AudioError) as caught:
        read(path)
    message = str(caught.value)
    assert message
    assert "\n" not in message
    assert str(path) not in message
    return message


@pytest.fixture
def without_ffmpeg(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path / "nothing is here"))


@pytest.fixture
def fake_ffmpeg(monkeypatch, tmp_path):
    """Put a shell script in ffmpeg's place."""

    def install(script: str) -> None:
        program = tmp_path / "bin" / "ffmpeg"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    return install


@pytest.fixture(scope="module")
def talk_m4a(tmp_path_factory):
    folder = tmp_path_factory.mktemp("talk")
    ffmpeg("-i", record(folder / "talk.wav", tone(1, SAMPLE_RATE)), folder / "talk.m4a")
    return folder / "talk.m4a"


@pytest.fixture
def unknown(tmp_path):
    """A file that libsndfile does not know and that ffmpeg is therefore asked to read."""
    path = tmp_path / "talk.m4a"
    path.write_bytes(b"not known to libsndfile")
    return path


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


def torchaudio_resample(samples: np.ndarray, rate: int) -> np.ndarray:
    wide = torch.from_numpy(samples).double()  # in float32 its kernel is only good to 1e-5
    return torchaudio.functional.resample(wide, rate, SAMPLE_RATE).numpy()


@pytest.mark.parametrize("rate", RATES)
def test_resampling_is_torchaudios(rate):
    samples = noise((rate + 17,))
    expected = torchaudio_resample(samples, rate)
    heard = np.concatenate(list(resample([samples], rate)))
    assert heard.dtype == np.float32
    assert len(heard) == len(expected)
    np.testing.assert_allclose(heard, expected, atol=1e-5)


@examples(60)
@given(rate=st.sampled_from(RATES + ODD_RATES), data=st.data())
def test_how_the_stream_is_cut_does_not_matter(rate, data):
    samples = noise((data.draw(st.integers(1, 60_000), label="samples"),))
    places = st.lists(st.integers(0, len(samples)), max_size=8).map(sorted)
    pieces = np.split(samples, data.draw(places, label="cut at"))
    whole = np.concatenate(list(resample([samples], rate)))
    assert len(whole) == -(-len(samples) * SAMPLE_RATE // rate)
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


# Headers that do not know the length


def set_sizes(path: Path, riff: int | None, data: int) -> Path:
    """Overwrite the sizes in the header of a plain WAV file."""
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = struct.pack("<I", data)
    if riff is not None:
        content[4:8] = struct.pack("<I", riff)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize(
    ("riff", "data"),
    [
        pytest.param(0xFFFFFFFF, 0xFFFFFFFF, id="ffmpeg"),
        pytest.param(0x7FFFF024, 0x7FFFF000, id="sox"),
        pytest.param(0x80000024, 0x80000000, id="arecord"),
        pytest.param(0xFFFFFFFF, 0xFFFFFFFF - 36, id="4 GiB less the header"),
        pytest.param(0, 0, id="zeros"),
        pytest.param(36, 0, id="header of an empty file"),
        pytest.param(None, 0, id="only the data size is missing"),
    ],
)
def test_a_streamed_wav_is_read_in_full(tmp_path, without_ffmpeg, riff, data, subtype):
    samples = noise((12_345, 2))
    path = record(tmp_path / "a.wav", samples, subtype=subtype)
    expected = read(path)
    np.testing.assert_array_equal(read(set_sizes(path, riff, data)), expected)
    assert duration(path) == pytest.approx(12_345 / SAMPLE_RATE)


@needs_ffmpeg
@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_what_ffmpeg_pipes_is_read_in_full(tmp_path, kind):
    path = record(tmp_path / "a.wav", noise((50_000, 2)))
    piped = tmp_path / f"piped.{kind}"
    with piped.open("wb") as file:
        command = ["ffmpeg", "-nostdin", "-v", "error", "-i", path, "-f", kind, "-"]
        subprocess.run(command, stdout=file, check=True)
    np.testing.assert_array_equal(read(piped), read(path))


def test_a_flac_of_unknown_length_is_read_in_full(tmp_path, without_ffmpeg):
    path = record(tmp_path / "a.flac", noise((200_000,)))
    expected = read(path)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the number of samples: 36 bits
    content[22:26] = bytes(4)
    path.write_bytes(content)
    np.testing.assert_array_equal(read(path), expected)
    assert duration(path) is None


def quiet_end_mp3(path: Path) -> Path:
    """An MP3 whose second half has far smaller frames: its first frames mislead a guess."""
    with soundfile.SoundFile(path, "w", 44_100, 1, bitrate_mode="VARIABLE") as file:
        file.write(noise((6 * 44_100,)))
        file.write(np.zeros(6 * 44_100, np.float32))
    return path


def untagged(path: Path) -> Path:
    content = path.read_bytes()
    assert content.count(b"Xing") + content.count(b"Info") == 1
    path.write_bytes(content.replace(b"Xing", bytes(4)).replace(b"Info", bytes(4)))
    return path


def test_a_tagged_mp3_needs_no_ffmpeg(tmp_path, without_ffmpeg):
    path = quiet_end_mp3(tmp_path / "a.mp3")
    assert len(read(path)) / SAMPLE_RATE == pytest.approx(12, abs=0.1)
    picture = b"ID3\x04\0\0\0\0" + bytes([62, 64]) + bytes(62 * 128 + 64)  # 7 bits to a byte
    path.write_bytes(picture + path.read_bytes() + b"TAG" + bytes(125))
    assert len(read(path)) / SAMPLE_RATE == pytest.approx(12, abs=0.1)


@needs_ffmpeg
def test_an_mp3_that_does_not_state_its_length_is_read_in_full(tmp_path):
    path = untagged(quiet_end_mp3(tmp_path / "a.mp3"))
    assert len(read(path)) / SAMPLE_RATE == pytest.approx(12, abs=0.1)
    assert duration(path) is None


@needs_ffmpeg
def test_mp3_files_joined_end_to_end_are_read_in_full(tmp_path):
    path = quiet_end_mp3(tmp_path / "a.mp3")
    path.write_bytes(path.read_bytes() * 2)
    assert len(read(path)) / SAMPLE_RATE == pytest.approx(24, abs=0.2)


@pytest.mark.parametrize("joined", [False, True])
def test_without_ffmpeg_such_an_mp3_is_refused_rather_than_cut(tmp_path, without_ffmpeg, joined):
    path = quiet_end_mp3(tmp_path / "a.mp3")
    if joined:
        path.write_bytes(path.read_bytes() * 2)
    else:
        untagged(path)
    assert "install ffmpeg" in complaint(path)


# Damage


def test_a_missing_file(tmp_path):
    assert complaint(tmp_path / "nowhere.wav") == "no such file"
    assert complaint(str(tmp_path / "nowhere.wav")) == "no such file"


def test_a_folder(tmp_path):
    assert complaint(tmp_path) == "a folder, not an audio file"


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "a.wav")
    assert "save the sound to a file first" in complaint(tmp_path / "a.wav")


@pytest.mark.parametrize("name", ["a\0b.wav", "x" * 300, "a.wav/b.wav"])
def test_an_impossible_name(tmp_path, name):
    record(tmp_path / "a.wav", tone(1, 8000))
    assert complaint(tmp_path / name).startswith("cannot be opened: ")


def test_no_permission(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    path = record(tmp_path / "a.wav", tone(1, 8000))
    monkeypatch.setattr(Path, "open", refuse)  # chmod does not stop root, who runs many tests
    assert complaint(path) == "no permission to read it"


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.m4a", "a.raw", "a"])
def test_an_empty_file(tmp_path, name):
    (tmp_path / name).touch()
    assert "empty file (0 bytes)" in complaint(tmp_path / name)


@pytest.mark.parametrize("name", ["a.wav", "a.raw", "a.txt", "a"])
def test_text_is_not_audio(tmp_path, name):
    (tmp_path / name).write_text("These are the notes of the meeting.\n" * 9)
    message = complaint(tmp_path / name)
    if not shutil.which("ffmpeg"):
        assert "install ffmpeg" in message
    else:  # ffmpeg takes a .raw file for a video
        assert message.startswith("not audio") or message == "no audio track in it"


@pytest.mark.parametrize("kind", ["wav", "aiff", "caf"])
def test_a_file_without_samples(tmp_path, kind):
    path = record(tmp_path / f"a.{kind}", np.zeros((0, 1)))
    assert "no samples" in complaint(path)


def test_an_empty_wav_with_a_comment_after_it_stays_empty(tmp_path):
    path = record(tmp_path / "a.wav", np.zeros((0, 1)))
    comment = b"LIST" + struct.pack("<I", 20) + b"INFOICMT" + struct.pack("<I", 8) + b"nothing\0"
    content = path.read_bytes() + comment
    path.write_bytes(content[:4] + struct.pack("<I", len(content) - 8) + content[8:])
    assert "no samples" in complaint(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_samples_that_are_no_numbers(tmp_path, value, rate):
    samples = np.zeros((4 * rate, 2))
    samples[3 * rate, 1] = value
    path = record(tmp_path / "a.wav", samples, rate, subtype="DOUBLE")
    assert "NaN or infinite samples at 3.0 s" in complaint(path)


def test_infinities_that_cancel_are_no_silence(tmp_path):
    samples = np.array([[0, 0], [np.inf, -np.inf]])
    path = record(tmp_path / "a.wav", samples, subtype="FLOAT")
    assert "NaN or infinite" in complaint(path)


@pytest.mark.parametrize("rate", [1, 500, 1_000_000, 2**31 - 1])
def test_a_sample_rate_that_cannot_be(tmp_path, rate):
    path = record(tmp_path / "a.wav", tone(1, 8000))
    content = path.read_bytes()
    path.write_bytes(content[:24] + struct.pack("<I", rate) + content[28:])
    assert f"a sample rate of {rate} Hz" in complaint(path)


def shorten(path: Path, share: float = 0.4) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param({"format": "WAV", "subtype": "PCM_16"}, id="wav"),
        pytest.param({"format": "WAV", "subtype": "FLOAT"}, id="float wav"),
        pytest.param({"format": "WAV", "subtype": "IMA_ADPCM"}, id="adpcm"),
        pytest.param({"format": "RF64"}, id="rf64"),
        pytest.param({"format": "W64"}, id="w64"),
        pytest.param({"format": "AIFF"}, id="aiff"),
        pytest.param({"format": "AU"}, id="au"),
        pytest.param({"format": "FLAC"}, id="flac"),
        pytest.param({"format": "MP3"}, id="mp3"),
    ],
)
def test_a_file_that_was_cut_off_says_how_much_is_there(tmp_path, kind, channels, capfd):
    if channels > 2 and (kind["format"] == "MP3" or "ADPCM" in kind.get("subtype", "")):
        pytest.skip("has at most 2 channels")
    path = record(tmp_path / "a", noise((240_000, channels)), 24_000, **kind)
    message = complaint(shorten(path))
    assert "cut off after" in message
    assert " s of 10." in message
    assert message.endswith("copy the file again")
    assert 2 < float(message.split("after ")[1].split(" s")[0]) < 4.5
    capfd.readouterr()  # libmpg123 says its part on stderr, past python


def test_a_wav_header_that_promises_gigabytes(tmp_path):
    path = set_sizes(record(tmp_path / "a.wav", tone(2, 8000), 8000), None, 3_000_000_000)
    assert "cut off after 2.0 s of 187500.0 s" in complaint(path)


def test_a_header_that_counts_its_own_bytes_as_data_is_forgiven(tmp_path):
    path = record(tmp_path / "a.wav", tone(2, SAMPLE_RATE))
    set_sizes(path, None, path.stat().st_size)
    assert len(read(path)) == 2 * SAMPLE_RATE


def test_the_blocks_before_the_damage_arrive(tmp_path):
    path = shorten(record(tmp_path / "a.flac", noise((10 * SAMPLE_RATE,))), 0.9)
    arrived = []
    with pytest.raises(AudioError, match="cut off after"):
        arrived.extend(blocks(path, 1.0))
    whole = [len(block) for block in arrived]
    assert whole == [SAMPLE_RATE] * len(whole)


@examples(60)
@given(
    kind=st.sampled_from(["wav", "flac", "ogg", "aiff"]),
    changes=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=8),
    keep=st.integers(1, 4000),
)
def test_damaged_headers_give_samples_or_one_clear_line(
    tmp_path, without_ffmpeg, kind, changes, keep
):
    good = tmp_path / f"good.{kind}"
    if not good.exists():
        record(good, noise((4000, 2)))
    content = bytearray(good.read_bytes()[:keep])
    for at, value in changes:
        if at < len(content):
            content[at] = value
    path = tmp_path / f"bad.{kind}"
    path.write_bytes(content)
    try:
        heard = read(path)
    except AudioError:
        complaint(path)
    else:
        assert np.isfinite(heard).all()


# What needs ffmpeg


@needs_ffmpeg
@pytest.mark.parametrize("name", ["a.m4a", "a.mp4", "a.mkv", "a.webm", "a.aac", "a.wma", "a.ac3"])
def test_kinds_that_need_ffmpeg(tmp_path, name):
    wav = record(tmp_path / "a.wav", np.stack([tone(3, 44_100)] * 2, 1), 44_100)
    codec = ["-c:a", "libopus"] if name == "a.webm" else []
    ffmpeg("-i", wav, *codec, "-b:a", "128k", tmp_path / name)
    heard = read(tmp_path / name)
    assert heard.dtype == np.float32
    assert heard.flags.writeable
    assert len(heard) == pytest.approx(3 * SAMPLE_RATE, abs=0.1 * SAMPLE_RATE)
    spectrum = np.abs(np.fft.rfft(heard[8000:24_000]))
    assert np.argmax(spectrum) == 440
    assert heard[8000:40_000].std() == pytest.approx(0.5 / np.sqrt(2), rel=0.03)
    stated = duration(tmp_path / name)
    assert stated is None if name in ("a.aac", "a.ac3") else stated == pytest.approx(3, abs=0.1)
    assert [len(block) for block in blocks(tmp_path / name, 1)][:2] == [SAMPLE_RATE] * 2


@needs_ffmpeg
def test_two_channels_are_averaged_by_ffmpeg_too(tmp_path):
    left, right = tone(1, SAMPLE_RATE, 300), tone(1, SAMPLE_RATE, 500)
    wav = record(tmp_path / "a.wav", np.stack([left, right], 1))
    ffmpeg("-i", wav, "-c:a", "alac", tmp_path / "a.m4a")
    np.testing.assert_allclose(read(tmp_path / "a.m4a"), read(wav), atol=1e-4)


@needs_ffmpeg
def test_a_video_without_sound(tmp_path):
    ffmpeg("-f", "lavfi", "-i", "testsrc=d=0.2:s=32x32", tmp_path / "a.mp4")
    assert complaint(tmp_path / "a.mp4") == "no audio track in it"


@needs_ffmpeg
def test_the_sound_of_a_video(tmp_path):
    wav = record(tmp_path / "a.wav", tone(1, SAMPLE_RATE))
    ffmpeg("-f", "lavfi", "-i", "testsrc=d=1:s=32x32", "-i", wav, tmp_path / "a.mp4")
    assert len(read(tmp_path / "a.mp4")) == pytest.approx(SAMPLE_RATE, abs=2000)


@needs_ffmpeg
@pytest.mark.parametrize("name", ["a.m4a", "a.mkv"])
def test_a_cut_off_download_that_ffmpeg_would_accept(tmp_path, name):
    wav = record(tmp_path / "a.wav", noise((5 * SAMPLE_RATE,)))
    ffmpeg("-i", wav, "-movflags", "faststart", tmp_path / name)
    message = complaint(shorten(tmp_path / name, 0.5))
    assert message.startswith("cut off after 2.")
    assert message.endswith("copy the file again")


AWKWARD = [
    "-",
    "-i",
    "-a.X",
    "a b.X",
    "a:b.X",
    "http:a.X",
    "file:a.X",
    "été 日本.X",
    "a\nb.X",
    "%d.X",
]


@pytest.mark.parametrize("name", [name.replace("X", "wav") for name in AWKWARD])
def test_awkward_names(tmp_path, monkeypatch, without_ffmpeg, name):
    monkeypatch.chdir(tmp_path)
    record(tmp_path / "plain.wav", tone(1, SAMPLE_RATE)).rename(tmp_path / name)
    assert len(read(name)) == len(read(Path(name))) == SAMPLE_RATE
    assert duration(name) == 1


@needs_ffmpeg
@pytest.mark.parametrize("name", [name.replace("X", "m4a") for name in AWKWARD])
def test_awkward_names_for_ffmpeg(tmp_path, talk_m4a, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(talk_m4a, name)
    assert len(read(name)) == pytest.approx(SAMPLE_RATE, abs=2000)
    assert duration(name) == pytest.approx(1, abs=0.1)
    Path(name).write_text("not audio")
    assert "not audio" in complaint(name)


@pytest.mark.skipif(sys.platform != "linux", reason="needs file names that are any bytes")
def test_a_name_that_is_not_utf8(tmp_path):
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav")
    record(tmp_path / "plain.wav", tone(1, SAMPLE_RATE)).rename(name)
    assert len(read(name)) == SAMPLE_RATE
    if shutil.which("ffmpeg"):
        Path(name).write_text("not audio")
        assert "not audio" in complaint(name)


def test_without_ffmpeg(unknown, without_ffmpeg):
    assert "install ffmpeg to read this kind of file" in complaint(unknown)
    assert duration(unknown) is None


def test_ffmpeg_killed_on_the_way(unknown, fake_ffmpeg):
    fake_ffmpeg("head -c 128003 /dev/zero; kill -9 $$")
    assert complaint(unknown) == "ffmpeg was stopped by signal 9 after 2.0 s: try again"


def test_ffmpeg_failing_without_a_word(unknown, fake_ffmpeg):
    fake_ffmpeg("exit 3")
    assert complaint(unknown).endswith("exit code 3")


def test_ffmpeg_with_very_much_to_say(unknown, fake_ffmpeg):
    fake_ffmpeg("head -c 300000 /dev/zero >&2; head -c 64000 /dev/zero")
    assert len(read(unknown)) == SAMPLE_RATE


def test_ffmpeg_decoding_nothing(unknown, fake_ffmpeg):
    fake_ffmpeg("exit 0")
    assert "no samples" in complaint(unknown)


def test_ffmpeg_may_take_its_time_to_end(unknown, fake_ffmpeg):
    fake_ffmpeg("head -c 64000 /dev/zero; exec >&-; sleep 0.3")
    assert len(read(unknown)) == SAMPLE_RATE


def test_ffmpeg_ends_when_nobody_listens_any_more(unknown, tmp_path, fake_ffmpeg):
    fake_ffmpeg(f"echo $$ > '{tmp_path}/pid'; head -c 300000 /dev/zero; exec sleep 5")
    stream = blocks(unknown, 1)
    assert len(next(stream)) == SAMPLE_RATE
    start = time.monotonic()
    stream.close()
    assert time.monotonic() - start < 3
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@needs_ffmpeg
def test_ffmpeg_leaves_standard_input_alone(tmp_path):
    ffmpeg("-i", record(tmp_path / "a.wav", noise((60 * SAMPLE_RATE,))), tmp_path / "a.m4a")
    code = (
        "import sys; from hyperasr import audio; audio.read(sys.argv[1]); sys.stdin.read(1) or 1/0"
    )
    command = [sys.executable, "-c", code, tmp_path / "a.m4a"]
    assert subprocess.run(command, input=b"q", check=False).returncode == 0


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
