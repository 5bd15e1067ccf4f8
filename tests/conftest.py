"""What every test shares: one torch thread, and the corpora where they are present."""

from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)

SPEECH = Path(__file__).parents[2] / "shared" / "data" / "speech"


@pytest.fixture(scope="session")
def speech() -> Path:
    """The folder of the development corpora; tests that need it are skipped without it."""
    if not (SPEECH / "dev.jsonl").exists():
        pytest.skip(f"needs the speech corpora at {SPEECH.parent}")
    return SPEECH
