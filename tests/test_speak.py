"""scripts/speak.py: text in, a manifest of recordings that say it out."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hyperasr import audio
from hyperasr.manifest import read_manifest

SCRIPT = Path(__file__).parents[1] / "scripts" / "speak.py"
READ = (
    "The boat left the harbour at nine.",
    "Then I went home, and I'll stay.",
    '"Come in," said Mister O\u2019Brien--he was old.',
    "Ann saw the lights of the town before the storm.",
)
NOT_READ = ("Call 911 or the NASA now.", "Too short.", "- - - -", "-w out of here my friend", "")

pytestmark = pytest.mark.skipif(
    not (shutil.which("flite") and shutil.which("espeak-ng")), reason="needs flite and espeak-ng"
)


def speak(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, folder / "text.txt", "-o", folder / "spoken", *more]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_what_can_be_read_out_is_and_the_manifest_says_what_is_said(tmp_path):
    (tmp_path / "text.txt").write_text("\n".join(READ + NOT_READ), encoding="utf-8")
    found = speak(tmp_path)
    assert (found.returncode, found.stderr) == (0, "")
    assert "4 sentences" in found.stdout
    utterances = read_manifest(tmp_path / "spoken" / "spoken.jsonl")
    assert {u.text for u in utterances} == {
        "the boat left the harbour at nine",
        "then i went home and i'll stay",
        "come in said mister o'brien he was old",
        "ann saw the lights of the town before the storm",
    }
    for utterance in utterances:
        samples = audio.read(utterance.audio)
        assert len(samples) / audio.SAMPLE_RATE == pytest.approx(utterance.duration, abs=1e-3)
        assert 1.0 < utterance.duration < 10.0
        assert np.abs(samples).max() > 0.01
    assert not list((tmp_path / "spoken").glob("*.wav")), "nothing is left behind"
    again = speak(tmp_path)
    assert again.returncode == 2
    assert "is there already: choose another folder" in again.stderr


@pytest.mark.parametrize(
    ("text", "more", "reason"),
    [
        (b"Too short.\n", (), "no sentence of 4 to 18 plain words"),
        (b"", (), "no sentence"),
        (b"\xff\xfe is no UTF-8 at all\n", (), "can't decode"),
        (b"The boat left the harbour.\n", ("--hours", "nan"), "--hours must be positive"),
        (b"The boat left the harbour.\n", ("--seed", "-1"), "--seed not negative"),
    ],
)
def test_bad_input_is_one_line_of_reason(tmp_path, text, more, reason):
    (tmp_path / "text.txt").write_bytes(text)
    found = speak(tmp_path, *more)
    assert found.returncode == 2
    assert reason in found.stderr.splitlines()[-1]
    assert "Traceback" not in found.stderr
