"""Long audio in pieces: nothing lost, nothing doubled, every frame where it belongs."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hyperasr.transcript import Word
from hyperasr.windows import FRAME, STEP, WINDOW, Window, cut, segments, stitch


def frames_of(samples: int) -> int:
    """How many encoder frames the model makes of this many samples."""
    return math.ceil(math.ceil((samples // 160 + 1) / 2) / 2)


def listen(window: Window) -> np.ndarray:
    """A stand-in for the encoder: each frame says which sample it is centred on."""
    positions = window.start + FRAME * np.arange(frames_of(len(window.samples)))
    return positions[:, None].astype(np.float64)


def spans(windows: list[Window]) -> list[tuple[int, int]]:
    return [(window.start, window.end) for window in windows]


def in_blocks(samples: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    blocks, start, turn = [], 0, 0
    while start < len(samples):
        blocks.append(samples[start : start + sizes[turn % len(sizes)]])
        start += len(blocks[-1])
        turn += 1
    return blocks


LENGTHS = st.integers(1, 5 * WINDOW) | st.sampled_from(
    [WINDOW - 1, WINDOW, WINDOW + 1, STEP + WINDOW - 1, STEP + WINDOW, STEP + WINDOW + 1]
)


@given(LENGTHS, st.lists(st.integers(20_000, 700_000), min_size=1, max_size=3))
def test_the_stitched_stream_is_that_of_the_whole_recording(length, sizes):
    samples = np.arange(length, dtype=np.float32)
    windows = list(cut(in_blocks(samples, sizes)))
    stream = stitch(spans(windows), [listen(window) for window in windows])
    np.testing.assert_array_equal(stream[:, 0], FRAME * np.arange(frames_of(length)))


@given(LENGTHS)
def test_windows_hold_the_samples_they_say_and_are_full_if_they_can_be(length):
    samples = np.arange(length, dtype=np.float32)
    windows = list(cut(in_blocks(samples, [480_000])))
    for window in windows:
        np.testing.assert_array_equal(window.samples, samples[window.start : window.end])
        assert window.start % FRAME == 0
        assert len(window.samples) <= WINDOW
        assert len(window.samples) > min(length, WINDOW) - FRAME
    assert windows[-1].end == length


@given(st.integers(WINDOW + 1, 5 * WINDOW))
def test_what_is_kept_at_a_seam_lies_away_from_the_edges_of_its_window(length):
    windows = list(cut(in_blocks(np.zeros(length, np.float32), [480_000])))
    numbered = [np.full((frames_of(len(w.samples)), 1), i) for i, w in enumerate(windows)]
    owner = stitch(spans(windows), numbered)[:, 0]
    for frame in np.flatnonzero(np.diff(owner)) + 1:  # the first frame of the next window
        before, after = windows[int(owner[frame - 1])], windows[int(owner[frame])]
        margin = min(before.end - frame * FRAME, frame * FRAME - after.start)
        assert margin >= min(50 * FRAME, (before.end - after.start) // 2) - FRAME


def test_no_blocks_give_no_windows():
    assert list(cut([])) == []


def test_a_new_segment_starts_after_a_pause():
    words = [
        Word("one", 0.0, 0.4, 1.0),
        Word("two", 0.5, 0.9, 1.0),
        Word("three", 2.0, 2.5, 1.0),
    ]
    found = segments(words, pause=0.7)
    assert [segment.text for segment in found] == ["one two", "three"]
    assert (found[0].start, found[0].end, found[1].start) == (0.0, 0.9, 2.0)
    assert segments([]) == ()


@given(st.lists(st.floats(0.0, 0.6), min_size=1, max_size=200))
def test_no_segment_is_longer_than_half_a_minute_and_no_word_is_lost(pauses):
    words, time = [], 0.0
    for pause in pauses:
        time += pause
        words.append(Word("word", time, time + 0.4, 1.0))
        time += 0.4
    found = segments(words)
    assert [word for segment in found for word in segment.words] == words
    assert all(segment.end - segment.start <= 30.0 for segment in found)
    assert len(found) <= 1 + 2 * time // 15
