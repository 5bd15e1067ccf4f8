"""The flow from file to transcript, with a real but tiny model."""

import gc
import weakref
from copy import copy

import numpy as np
import pytest
import soundfile
import torch
from stand_ins import noise, tiny_checkpoint

from hyperasr import audio
from hyperasr.checkpoint import Checkpoint
from hyperasr.decoding import DecodingOptions
from hyperasr.encoder import Encoder, EncoderConfig
from hyperasr.errors import AudioError, BrokenOffError, CheckpointError, ConfigError
from hyperasr.features import LogMel
from hyperasr.stretches import HearingOptions, Piece, parse_clips, stretches
from hyperasr.tokens import CharTokens
from hyperasr.transcribe import Transcriber
from hyperasr.windows import FRAME, WHOLE, WINDOW


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
    together = transcriber.listener.hear(waveforms)
    for waveform, rows in zip(waveforms, together, strict=True):
        np.testing.assert_allclose(transcriber.listener.hear([waveform])[0], rows, atol=1e-4)
        assert rows.dtype == np.float32


@pytest.mark.parametrize("samples", [1, 100, FRAME, FRAME + 1])
def test_a_blink_of_sound_is_no_error(transcriber, samples):
    rows = transcriber.listener.hear([np.zeros(samples, np.float32)])[0]
    assert np.isfinite(rows).all()


def test_what_cannot_be_read_is_an_audio_error(transcriber, tmp_path):
    with pytest.raises(AudioError):
        transcriber(tmp_path / "missing.wav")


def test_a_transcriber_that_nobody_uses_any_more_goes_at_once(tmp_path):
    """Not when the garbage collector comes by: its processes would keep a program waiting."""
    transcriber = Transcriber.load(tiny_checkpoint(tmp_path / "tiny"), "cpu")
    transcriber(noise(tmp_path / "a.wav", seconds=1.0))
    left = weakref.ref(transcriber.decoders)
    gc.disable()
    try:
        del transcriber
        assert left() is None
    finally:
        gc.enable()


def test_an_unknown_model_or_device_is_said(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere"):
        Transcriber.load("nowhere")
    with pytest.raises(ConfigError, match="warp"):
        Transcriber.load(tiny_checkpoint(tmp_path / "tiny"), "warp")


def test_listening_leaves_no_gradients(transcriber):
    rows = transcriber.listener.hear([np.zeros(16_000, np.float32)])[0]
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
    path = noise(tmp_path / "a.wav", seconds=2.0)
    heard = []
    for _ in transcriber.each([path] * 200, heard.append):
        break
    assert sum(heard) < 200
    assert transcriber(path).duration == pytest.approx(2.0)


def test_what_was_heard_before_a_file_broke_off_is_kept(transcriber, tmp_path):
    path = noise(tmp_path / "a.flac", seconds=30.0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    with pytest.raises(BrokenOffError, match="cut off after") as caught:
        transcriber(path)
    part = caught.value.heard
    assert 15 < part.duration < 23
    assert part.words == transcriber(shortened(path, part.duration)).words
    (found,) = transcriber.each([path])
    assert isinstance(found, BrokenOffError)
    assert found.heard == part


def shortened(path, seconds):
    """The beginning of a file, as another."""
    with soundfile.SoundFile(path) as file:
        samples = file.read(round(seconds * 16_000))
    soundfile.write(path.with_suffix(".wav"), samples, 16_000)
    return path.with_suffix(".wav")


def hearing(transcriber, clips, vad=None):
    """The same model, hearing only some of a recording."""
    other = copy(transcriber)
    other.hearing, other.vad = HearingOptions(parse_clips(clips) if clips else ()), vad
    return other


def test_only_clips_are_heard_and_times_stay_those_of_the_file(transcriber, tmp_path):
    path = noise(tmp_path / "a.wav", seconds=40.0)
    heard = []
    transcript = hearing(transcriber, "4,6,20,30")(path, heard.append)
    assert transcript.words
    for word in transcript.words:
        assert 3.9 <= word.start <= 6.1 or 19.9 <= word.start <= 30.1
    assert transcript.duration == heard[-1] == 40.0
    assert hearing(transcriber, "0")(path).words == transcriber(path).words


def test_a_clip_alone_is_heard_as_a_file_of_its_own(transcriber, tmp_path):
    path = noise(tmp_path / "a.wav", seconds=40.0)
    samples, _ = soundfile.read(path, dtype="float32")
    soundfile.write(tmp_path / "part.wav", samples[30 * 16_000 :], 16_000)
    mine, alone = hearing(transcriber, "30")(path), transcriber(tmp_path / "part.wav")
    assert [word.text for word in mine.words] == [word.text for word in alone.words]
    assert [word.start for word in mine.words] == pytest.approx(
        [word.start + 30 for word in alone.words], abs=0.021
    )


def test_a_recording_that_ends_before_the_clips_is_told(transcriber, tmp_path):
    with pytest.raises(AudioError, match=r"^lasts 2\.0 s and ends before --clip-timestamps begin$"):
        hearing(transcriber, "10,20")(noise(tmp_path / "a.wav", seconds=2.0))


def test_the_voice_activity_filter_hears_each_clip(transcriber, tmp_path):
    class Second:
        """Finds speech in the second second of every stretch, and in nothing else."""

        def speech(self, pieces):
            for start, blocks in stretches(pieces):
                samples = np.concatenate(list(blocks))[16_000:32_000]
                yield Piece(start + 16_000, samples)

    path = noise(tmp_path / "a.wav", seconds=40.0)
    transcript = hearing(transcriber, "4,8,20,30", Second())(path)
    assert {int(word.start + 0.1) for word in transcript.words} == {5, 21}
    assert transcript.duration == 40.0


def test_perfect_silence_has_no_words_whatever_the_model(transcriber, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(50 * 16_000), 16_000)
    transcript = transcriber(tmp_path / "a.wav")
    assert (transcript.words, transcript.duration) == ((), 50.0)


@pytest.mark.parametrize("compute_type", ["float32", "bfloat16", "int8"])
def test_a_file_gives_the_same_bits_in_any_batch_and_order(compute_type):
    """With the sizes that people use: tiles of a matrix product are not those of a tiny one."""
    encoder = Encoder(EncoderConfig(n_layers=2)).eval()
    checkpoint = Checkpoint("whole", "", encoder, LogMel(), CharTokens())
    rng = np.random.default_rng(0)
    sizes = [100_003, 99_000, 240_000, *[WINDOW] * 3, 100_001, 700, WHOLE, 35_217, 35_218, WHOLE]
    waveforms = [rng.normal(0, 0.1, n).astype(np.float32) for n in sizes]
    heard = []
    for batch_size, step in ((1, 1), (2, 1), (4, -1), (8, 1)):
        options = DecodingOptions(beam_size=1)
        transcriber = Transcriber(checkpoint, "cpu", batch_size, compute_type, options)
        futures = transcriber.listener.submit(waveforms[::step])
        heard.append([future.result() for future in futures][::step])
    for other in heard[1:]:
        for mine, theirs in zip(heard[0], other, strict=True):
            np.testing.assert_array_equal(mine, theirs)
