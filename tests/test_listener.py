"""What goes into one batch, and that everybody gets what is theirs."""

from threading import Event

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperasr.encoder import Encoder, EncoderConfig
from hyperasr.features import FeatureConfig, LogMel
from hyperasr.listener import GRID, Listener, fit_together, on_grid, padded_samples
from hyperasr.windows import FRAME


@given(st.integers(1, 400 * FRAME))
def test_a_batch_holds_its_waveforms_and_its_frames_are_on_the_grid(samples):
    padded = padded_samples(samples)
    assert padded >= samples
    assert padded - samples <= GRID * FRAME
    frames = -(-(padded // 160 + 1) // 4)
    assert frames == on_grid(samples)
    assert frames % GRID == 0


@pytest.mark.parametrize(
    ("frames", "others", "together"),
    [
        (48, 48, True),
        (48, 64, False),  # a quarter of it would be padding
        (112, 128, True),
        (128, 144, False),  # other kernels
        (320, 384, True),
        (384, 400, False),
        (400, 416, False),
        (496, 496, True),
    ],
)
def test_what_fits_together(frames, others, together):
    assert fit_together(frames, others) is fit_together(others, frames) is together


class Recorder(Listener):
    """Says how long each waveform is, and remembers what came together."""

    def __init__(self, batch_size: int, workers: int):
        config = EncoderConfig(n_mels=8, d_model=16, n_layers=1, n_heads=4, d_ffn=32)
        features = LogMel(FeatureConfig(n_mels=8))
        super().__init__(features, Encoder(config), batch_size, workers)
        self.batches: list[list[int]] = []
        self.go = Event()

    def hear(self, waveforms):
        self.go.wait()
        self.batches.append([len(waveform) for waveform in waveforms])
        if any(waveform[0] < 0 for waveform in waveforms):
            raise ValueError("broken")
        return [np.full((1, 1), len(waveform)) for waveform in waveforms]


def waveforms_of(*sizes: int) -> list[np.ndarray]:
    return [np.ones(size, np.float32) for size in sizes]


@given(st.lists(st.integers(1, 200_000), max_size=40), st.integers(1, 5), st.integers(1, 3))
def test_everybody_gets_what_was_heard_in_their_own(sizes, batch_size, workers):
    listener = Recorder(batch_size, workers)
    listener.go.set()
    heard = listener.submit(waveforms_of(*sizes))
    assert [int(future.result(30)[0, 0]) for future in heard] == sizes
    assert sorted(size for batch in listener.batches for size in batch) == sorted(sizes)
    for batch in listener.batches:
        assert len(batch) <= batch_size
        assert all(fit_together(on_grid(batch[0]), on_grid(size)) for size in batch)


def test_what_is_alike_goes_together_whoever_brought_it():
    listener = Recorder(batch_size=4, workers=1)
    first = listener.submit(waveforms_of(100_000))  # taken by itself while nothing else waits
    more = [listener.submit(waveforms_of(160_000, 30_000)) for _ in range(3)]
    listener.go.set()
    for future in [*first, *(future for futures in more for future in futures)]:
        future.result(30)
    assert [160_000] * 3 in listener.batches
    assert [30_000] * 3 in listener.batches


def test_an_error_reaches_those_in_the_batch_and_nobody_else():
    listener = Recorder(batch_size=2, workers=1)
    bad = listener.submit([np.full(50_000, -1, np.float32), np.ones(50_000, np.float32)])
    good = listener.submit(waveforms_of(5_000))
    listener.go.set()
    for future in bad:
        with pytest.raises(ValueError, match="broken"):
            future.result(30)
    assert good[0].result(30)[0, 0] == 5_000


def test_what_nobody_asks_for_any_more_is_not_heard():
    listener = Recorder(batch_size=1, workers=1)
    first, *others = listener.submit(waveforms_of(10_000, 20_000, 30_000))
    assert all(future.cancel() for future in others)
    last = listener.submit(waveforms_of(40_000))
    listener.go.set()
    assert first.result(30)[0, 0] == 10_000
    assert last[0].result(30)[0, 0] == 40_000
    assert listener.batches == [[10_000], [40_000]]
