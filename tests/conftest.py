"""What every test shares: one torch thread, patient hypothesis, the corpora where present."""

from pathlib import Path

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)

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
