"""What libsndfile cannot read: through the real ffmpeg, and with strange ones in its place."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from sounds import complaint, ffmpeg, needs_ffmpeg, noise, record, shorten, tone

from hyperasr.audio import SAMPLE_RATE, blocks, duration, read

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
    "--",
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
