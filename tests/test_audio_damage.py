"""Headers that lie, files that are damaged: samples or one clear line."""

import errno
import os
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from sounds import complaint, examples, ffmpeg, needs_ffmpeg, noise, record, shorten, tone

from hyperasr.audio import SAMPLE_RATE, blocks, duration, read
from hyperasr.errors import AudioError

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


# What comes after a FLAC


@needs_ffmpeg
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_flac_files_joined_packet_by_packet_are_read_in_full(tmp_path, rate):
    parts = [record(tmp_path / f"{n}.flac", noise((n * 50_000,), n), rate) for n in (3, 1, 2)]
    (tmp_path / "list").write_text("".join(f"file '{part.name}'\n" for part in parts))
    joined = tmp_path / "joined.flac"
    ffmpeg("-f", "concat", "-i", tmp_path / "list", "-c", "copy", joined)
    assert soundfile.info(joined).frames == 150_000  # the first part's: that is all it states
    samples = np.concatenate([noise((n * 50_000,), n) for n in (3, 1, 2)])
    whole = read(record(tmp_path / "whole.flac", samples, rate))
    np.testing.assert_array_equal(read(joined), whole)
    with pytest.raises(AudioError, match=r"damaged or cut off after|cannot be read"):
        read(shorten(joined, 0.8))


@pytest.mark.parametrize("tag", [b"TAG" + bytes(125), bytes(5000), b"APETAGEX" + bytes(9000)])
def test_a_label_after_a_flac_is_no_damage(tmp_path, tag):
    path = record(tmp_path / "a.flac", noise((100_000,)))
    expected = read(path)
    path.write_bytes(path.read_bytes() + tag)
    np.testing.assert_array_equal(read(path), expected)
    assert duration(path) == 100_000 / SAMPLE_RATE


def test_much_that_cannot_be_read_after_a_flac_is_told(tmp_path):
    path = record(tmp_path / "a.flac", noise((80_000,)))
    path.write_bytes(2 * path.read_bytes())  # the second header stands in the way
    said = "what follows after 5.0 s cannot be read: export the recording again"
    assert complaint(path) == said


# Damage


def test_a_missing_file(tmp_path):
    assert complaint(tmp_path / "nowhere.wav") == "no such file: check the name"
    assert complaint(str(tmp_path / "nowhere.wav")) == "no such file: check the name"


def test_a_folder(tmp_path):
    assert complaint(tmp_path) == "a folder, not an audio file: name the files in it"


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
    assert complaint(path) == "no permission to read it: change it or ask its owner"


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


def test_samples_of_16_bits_in_a_float_file(tmp_path):
    """Nothing could be understood of them; what is merely too loud can."""
    path = record(tmp_path / "a.wav", 20_000 * tone(1, 16_000), subtype="FLOAT")
    assert "where 1 is full scale: divide them, as by 32,768" in complaint(path)
    path = record(tmp_path / "a.wav", 20 * tone(1, 16_000), subtype="FLOAT")
    assert abs(read(path)).max() > 5


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
    *whole, _ = [len(block) for block in arrived]  # the last as far as it goes
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
