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
TEXT = "The boat left the harbour at nine.\nCall 911 or NASA.\nToo short.\n" + "".join(
    f"{name} saw the lights of the town before the storm.\n" for name in ("Ann", "Bob", "Tom")
)

pytestmark = pytest.mark.skipif(
    not (shutil.which("flite") and shutil.which("espeak-ng")), reason="needs flite and espeak-ng"
)


def speak(folder: Path, *more: str) -> str:
    command = [sys.executable, SCRIPT, folder / "text.txt", "-o", folder / "spoken", *more]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_what_can_be_read_out_is_and_the_manifest_says_what_is_said(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    said = speak(tmp_path)
    utterances = read_manifest(tmp_path / "spoken" / "spoken.jsonl")
    assert f"{len(utterances)} sentences" in said
    assert {u.text.split()[0] for u in utterances} == {"the", "ann", "bob", "tom"}
    assert all(u.text == u.text.lower().strip(".") for u in utterances)
    for utterance in utterances:
        samples = audio.read(utterance.audio)
        assert len(samples) / audio.SAMPLE_RATE == pytest.approx(utterance.duration, abs=1e-3)
        assert 1.0 < utterance.duration < 10.0
        assert np.abs(samples).max() > 0.01
    assert not list((tmp_path / "spoken").glob("*.wav")), "nothing is left behind"
