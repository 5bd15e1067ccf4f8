"""Sound from standard input: a pipe, a redirected file, nothing at all."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sounds import ffmpeg, needs_ffmpeg, noise, record, tone

from hyperasr import audio
from hyperasr.audio import SAMPLE_RATE

READ = """
import sys
from hyperasr import audio
try:
    seconds = audio.duration("-")
    count = sum(map(len, audio.blocks("-")))
    print(count, seconds)
except audio.AudioError as error:
    print(error)
"""


def through_a_pipe(content: bytes) -> str:
    """What is said about sound that comes through a pipe: how many samples, or the complaint."""
    command = [sys.executable, "-c", READ]
    return subprocess.run(command, input=content, capture_output=True, check=True).stdout.decode()


@needs_ffmpeg
@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "ogg"])
def test_a_pipe(tmp_path, kind):
    path = record(tmp_path / f"a.{kind}", noise((3 * SAMPLE_RATE,)))
    count, seconds = through_a_pipe(path.read_bytes()).split()
    assert int(count) == pytest.approx(3 * SAMPLE_RATE, abs=2000)  # mp3 fills up its last frame
    assert seconds == "None"


def test_a_pipe_without_ffmpeg(tmp_path, without_ffmpeg):
    for kind in ("wav", "flac", "mp3", "ogg"):
        path = record(tmp_path / f"a.{kind}", noise((SAMPLE_RATE,)))
        assert through_a_pipe(path.read_bytes()).split() == ["16000", "None"]
    assert "install ffmpeg" in through_a_pipe(b"no sound")
    assert "an empty file" in through_a_pipe(b"")


@needs_ffmpeg
@pytest.mark.parametrize("content", [b"", b"no sound", bytes(100_000)])
def test_a_pipe_with_no_sound_in_it(content):
    said = through_a_pipe(content)
    assert said.startswith("nothing came that ffmpeg can read through a pipe: ")
    assert said.count("\n") == 1


@needs_ffmpeg
def test_what_ffmpeg_cannot_read_through_a_pipe_says_so(tmp_path):
    wav = record(tmp_path / "a.wav", noise((60 * SAMPLE_RATE,)))
    ffmpeg("-i", wav, tmp_path / "a.m4a")  # its index stands at its end
    assert "save it to a file first" in through_a_pipe((tmp_path / "a.m4a").read_bytes())


@needs_ffmpeg
def test_the_sound_is_heard_while_it_comes():
    """The sender waits until some has been decoded before it sends the rest."""
    code = (
        "import sys; from hyperasr import audio; stream = audio.blocks('-', 1.0)\n"
        "for block in stream: print(len(block), flush=True)"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        part = (20_000 * noise((20 * SAMPLE_RATE,))).astype("<i2").tobytes()
        header = (
            b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\1\0\1\0\x80\x3e\0\0\0\x7d\0\0\2\0\x10\0data"
        )
        process.stdin.write(header + b"\xff\xff\xff\xff" + part)
        process.stdin.flush()
        assert process.stdout.readline() == b"16000\n"
        process.stdin.write(part)
        process.stdin.close()
        assert process.stdout.read().splitlines() == [b"16000"] * 39


@pytest.mark.skipif(not Path("/dev/stdin").exists(), reason="needs /dev/stdin")
def test_a_redirected_file_is_read_as_that_file(tmp_path, without_ffmpeg):
    path = record(tmp_path / "a.wav", tone(1.5, 44_100), 44_100)
    with path.open("rb") as stdin:
        done = subprocess.run(
            [sys.executable, "-c", READ], stdin=stdin, capture_output=True, check=True
        )
    assert done.stdout.split() == [b"24000", b"1.5"]


def test_a_keyboard_and_a_closed_stdin_are_no_sound(monkeypatch):
    monkeypatch.setattr(os, "isatty", lambda number: True)
    with pytest.raises(audio.AudioError, match="the keyboard is no sound: pipe"):
        audio.read("-")
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(audio.AudioError, match="closed: pipe"):
        audio.duration("-")


def test_a_file_may_be_called_by_a_path_that_ends_like_it(tmp_path):
    record(tmp_path / "a.wav", tone(1, SAMPLE_RATE)).rename(tmp_path / "-")
    np.testing.assert_allclose(audio.read(tmp_path / "-"), tone(1, SAMPLE_RATE), atol=1e-4)
