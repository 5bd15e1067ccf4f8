"""Sounds and files that the tests of audio.py are made of."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, settings

from hyperasr.audio import SAMPLE_RATE, read
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


def record_tree(folder: Path, files: int, long: tuple[int, ...]) -> None:
    """Noise of 0.3 to 3 s in three folders; of 45 s, several windows, where the number is long."""
    chance = np.random.default_rng(0)
    for number in range(files):
        seconds = 45.0 if number in long else chance.uniform(0.3, 3.0)
        samples = chance.normal(0, 0.1, round(SAMPLE_RATE * seconds)).clip(-1, 1)
        path = folder / f"{number % 3}" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        record(path, samples)


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


def shorten(path: Path, share: float = 0.4) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path
