"""Speech found: as silero-vad finds it, in any blocks, and none of it lost."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperasr import audio, vad
from hyperasr.errors import ConfigError
from hyperasr.stretches import HearingOptions, Piece, placed
from hyperasr.vad import CHUNK, PADDING, Vad, spoken
from hyperasr.windows import FRAME

EXAMPLE = Path(__file__).parents[1] / "examples" / "morning.flac"
RATE = audio.SAMPLE_RATE
PAD = round(PADDING * RATE)

silero_vad = pytest.importorskip("silero_vad")


@pytest.fixture(scope="module")
def detector():
    return Vad(HearingOptions(vad_filter=True))


@pytest.fixture(scope="module")
def talk():
    """Ten seconds of speech, ten of hiss, ten of speech."""
    hiss = np.random.default_rng(0).normal(0, 0.003, 10 * RATE).astype(np.float32)
    speech = audio.read(EXAMPLE)
    return np.concatenate([speech, hiss, speech])


def blocks(samples: np.ndarray, size: int) -> list[np.ndarray]:
    return [samples[at : at + size] for at in range(0, len(samples), size)]


@pytest.mark.parametrize("size", [480_000, 10_007, 300])
def test_the_numbers_are_those_of_silero_vad(detector, talk, size):
    import torch

    sample = talk[8 * RATE : 13 * RATE + 100]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = silero_vad.load_silero_vad()
    filled = np.pad(sample, (0, -len(sample) % CHUNK)).reshape(-1, CHUNK)
    expected = [reference(torch.from_numpy(chunk), RATE).item() for chunk in filled]
    found = list(detector.judge(blocks(sample, size)))
    np.testing.assert_allclose([p for _, answers in found for p in answers], expected, atol=1e-4)
    np.testing.assert_array_equal(np.concatenate([samples for samples, _ in found]), sample)


@pytest.mark.parametrize("size", [480_000, 50_001])
def test_where_nobody_speaks_nothing_is_heard(detector, talk, size):
    pieces = list(detector.speech(placed(blocks(talk, size))))
    heard = np.zeros(len(talk), bool)
    for piece in pieces:
        end = piece.start + len(piece.samples)
        np.testing.assert_array_equal(piece.samples, talk[piece.start : end])
        assert not heard[piece.start : end].any()
        heard[piece.start : end] = True
    assert heard[: 9 * RATE].all()
    assert not heard[11 * RATE : 19 * RATE].any()
    assert heard[21 * RATE : -RATE].all()


def test_pieces_apart_are_recordings_apart(detector, talk):
    later = [Piece(piece.start + 10**6, piece.samples) for piece in placed([talk])]
    both = list(detector.speech([*placed([talk]), *later]))
    half = len(both) // 2
    assert [piece.start + 10**6 for piece in both[:half]] == [p.start for p in both[half:]]


def test_noise_and_silence_are_no_speech(detector):
    rng = np.random.default_rng(0)
    for level in (0.0, 0.001, 0.1):
        samples = (level * rng.standard_normal(20 * RATE)).astype(np.float32)
        assert list(detector.speech(placed([samples]))) == []


CHANCES = st.lists(
    st.sampled_from([0.0, 0.3, 0.45, 0.9]) | st.floats(0, 1), min_size=1, max_size=200
)


@given(CHANCES, st.integers(1, 70), st.integers(1, 60), st.integers(0, CHUNK - 1))
def test_speech_is_kept_with_its_surroundings_and_long_silence_is_not(chances, size, wait, less):
    length = len(chances) * CHUNK - less
    samples = np.arange(length, dtype=np.float32)
    judged = [
        (samples[at * CHUNK : (at + size) * CHUNK], chances[at : at + size])
        for at in range(0, len(chances), size)
    ]
    pieces = list(spoken(judged, 0.5, wait * CHUNK))
    for piece in pieces:
        end = piece.start + len(piece.samples)
        np.testing.assert_array_equal(piece.samples, samples[piece.start : end])
    given_back = np.concatenate([samples[:0], *(piece.samples for piece in pieces)])
    np.testing.assert_array_equal(given_back, samples[kept(chances, wait * CHUNK, length)])


def kept(chances: list[float], silence: int, length: int) -> np.ndarray:
    """The same with all of it in sight: from 0.5 on it is speech, until it falls below 0.35."""
    runs: list[list[int]] = []
    speaking = False
    for number, chance in enumerate(chances):
        speaking = chance >= 0.5 or (speaking and chance >= 0.35)
        if speaking and (not runs or number * CHUNK - runs[-1][1] >= silence):
            runs.append([number * CHUNK, 0])
        if speaking:
            runs[-1][1] = (number + 1) * CHUNK
    mask = np.zeros(length, bool)
    pad = min(PAD, silence // 2)
    for begin, end in runs:
        mask[max(0, (begin - pad) // FRAME * FRAME) : end + pad] = True
    return mask


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(vad, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'^--vad-filter needs .* pip install "hyperasr\[vad\]"$'):
        Vad(HearingOptions(vad_filter=True))


def test_another_network_than_expected_is_one_line(monkeypatch, tmp_path):
    class Package:
        origin = str(tmp_path / "__init__.py")

    monkeypatch.setattr(vad, "find_spec", lambda name: Package)
    with pytest.raises(ConfigError, match="another than expected"):
        Vad(HearingOptions(vad_filter=True))


def test_loading_leaves_the_number_of_threads_alone(monkeypatch):
    import torch

    torch.set_num_threads(2)
    try:
        Vad(HearingOptions(vad_filter=True))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
