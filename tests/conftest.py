"""What every test shares: one torch thread, patient hypothesis, the corpora where present."""

import os
import signal
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from sounds import SAMPLE_RATE, ffmpeg, record, tone

torch.set_num_threads(1)
# Started with "&" by a script, these tests and what they start would not hear Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Shared machines stall; pytest-timeout, not hypothesis, ends a test that hangs.
settings.register_profile("hyperasr", deadline=None, max_examples=40)
settings.load_profile("hyperasr")

SPEECH = Path(__file__).parents[2] / "shared" / "data" / "speech"


@pytest.fixture(scope="session")
def speech() -> Path:
    """The folder of the development corpora; tests that need it are skipped without it."""
    if not (SPEECH / "dev.jsonl").exists():
        pytest.skip(f"needs the speech corpora at {SPEECH.parent}")
    return SPEECH


@pytest.fixture(autouse=True)
def ctrl_c_stays_what_it_was():
    """A command that was interrupted leaves Ctrl-C to end the program at once."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


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
