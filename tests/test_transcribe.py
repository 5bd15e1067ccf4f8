"""The flow from file to transcript, with a real but tiny model."""

import numpy as np
import pytest
import torch
from stand_ins import noise, tiny_checkpoint

from hyperasr import audio
from hyperasr.errors import AudioError, CheckpointError, ConfigError
from hyperasr.transcribe import Transcriber
from hyperasr.windows import FRAME


@pytest.fixture(scope="module")
def transcriber(tmp_path_factory):
    return Transcriber.load(tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny"), "cpu")


def test_a_transcript_knows_its_source_its_length_and_its_model(transcriber, tmp_path):
    path = noise(tmp_path / "a.wav", seconds=1.5)
    transcript = transcriber(path)
    assert transcript.source == str(path)
    assert transcript.duration == pytest.approx(1.5)
    assert transcript.model == "tiny"
    times = [t for word in transcript.words for t in (word.start, word.end)]
    assert times == sorted(times)
    assert all(0 <= t <= 1.5 + 0.04 for t in times)


def test_a_long_recording_gets_one_row_per_40_ms(transcriber, tmp_path):
    heard = []
    transcript = transcriber(noise(tmp_path / "long.wav", seconds=50.3), heard.append)
    assert transcript.duration == pytest.approx(50.3)
    assert heard[-1] == pytest.approx(50.3)


def test_what_is_heard_does_not_depend_on_the_batch(transcriber):
    rng = np.random.default_rng(0)
    waveforms = [rng.normal(0, 0.1, n).astype(np.float32) for n in (16_000, 900, 40_321)]
    together = transcriber.listen(waveforms)
    for waveform, rows in zip(waveforms, together, strict=True):
        np.testing.assert_allclose(transcriber.listen([waveform])[0], rows, atol=1e-4)
        assert rows.dtype == np.float32


@pytest.mark.parametrize("samples", [1, 100, FRAME, FRAME + 1])
def test_a_blink_of_sound_is_no_error(transcriber, samples):
    rows = transcriber.listen([np.zeros(samples, np.float32)])[0]
    assert np.isfinite(rows).all()


def test_what_cannot_be_read_is_an_audio_error(transcriber, tmp_path):
    with pytest.raises(AudioError):
        transcriber(tmp_path / "missing.wav")


def test_an_unknown_model_or_device_is_said(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere"):
        Transcriber.load("nowhere")
    with pytest.raises(ConfigError, match="warp"):
        Transcriber.load(tiny_checkpoint(tmp_path / "tiny"), "warp")


def test_listening_leaves_no_gradients(transcriber):
    rows = transcriber.listen([np.zeros(16_000, np.float32)])[0]
    assert not any(p.requires_grad for p in transcriber.encoder.parameters())
    assert torch.from_numpy(rows).exp().sum(1).allclose(torch.ones(len(rows)), atol=1e-4)
    assert len(rows) == 26
    assert audio.SAMPLE_RATE / FRAME == 25


def test_files_come_in_order_each_as_it_would_alone_and_bad_ones_do_not_stop_them(
    transcriber, tmp_path
):
    paths = [noise(tmp_path / f"{n}.wav", seconds=1 + n) for n in range(4)]
    paths.insert(2, tmp_path / "missing.wav")
    heard = []
    found = list(transcriber.each(paths, heard.append))
    assert isinstance(found[2], AudioError)
    good = [path for path in paths if path.exists()]
    assert [t for t in found if not isinstance(t, AudioError)] == [transcriber(p) for p in good]
    assert sum(heard) == pytest.approx(1 + 2 + 3 + 4)


def test_who_stops_asking_for_files_does_not_wait_for_the_rest(transcriber, tmp_path):
    paths = [noise(tmp_path / f"{n}.wav", seconds=30.0) for n in range(3)]
    heard = []
    for _ in transcriber.each(paths, heard.append):
        break
    assert sum(heard) < 89
    assert transcriber(paths[0]).duration == pytest.approx(30.0)
