"""Long audio in pieces: nothing lost, nothing doubled, every frame where it belongs."""

import math
import tracemalloc
from itertools import chain, pairwise, repeat

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperasr.windows import (
    FRAME,
    LEAST,
    LONGEST,
    MARGIN,
    PAUSE,
    STEP,
    WHOLE,
    WINDOW,
    Window,
    cut,
    stitch,
    utterances,
)


def frames_of(samples: int) -> int:
    """How many encoder frames the model makes of this many samples."""
    return math.ceil(math.ceil((samples // 160 + 1) / 2) / 2)


def listen(window: Window) -> np.ndarray:
    """A stand-in for the encoder: each frame says which sample it is centred on."""
    positions = window.start + FRAME * np.arange(frames_of(len(window.samples)))
    return positions[:, None].astype(np.float64)


def stitched(heard) -> np.ndarray:
    return np.concatenate([np.zeros((0, 1)), *stitch(heard)])


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
    windows = cut(in_blocks(np.arange(length, dtype=np.float32), sizes))
    stream = stitched((window, listen(window)) for window in windows)
    np.testing.assert_array_equal(stream[:, 0], FRAME * np.arange(frames_of(length)))


@given(LENGTHS)
def test_windows_hold_the_samples_they_say_and_are_full_but_for_the_last(length):
    samples = np.arange(length, dtype=np.float32)
    windows = list(cut(in_blocks(samples, [480_000])))
    for window in windows:
        np.testing.assert_array_equal(window.samples, samples[window.start : window.end])
        assert window.start % FRAME == 0
        assert len(window.samples) <= WHOLE
        assert len(window.samples) >= min(length, LEAST)
    assert all(len(window.samples) == WINDOW for window in windows[:-1])  # it never pauses
    assert windows[-1].end == length


@given(st.integers(WINDOW + 1, 5 * WINDOW))
def test_what_is_kept_at_a_seam_lies_away_from_the_edges_of_its_window(length):
    windows = list(cut(in_blocks(np.zeros(length, np.float32), [480_000])))
    numbered = [(w, np.full((frames_of(len(w.samples)), 1), i)) for i, w in enumerate(windows)]
    owner = stitched(numbered)[:, 0]
    for frame in np.flatnonzero(np.diff(owner)) + 1:  # the first frame of the next window
        before, after = windows[int(owner[frame - 1])], windows[int(owner[frame])]
        margin = min(before.end - frame * FRAME, frame * FRAME - after.start)
        assert margin >= min(50 * FRAME, (before.end - after.start) // 2) - FRAME


def talk(*gaps: tuple[float, float], seconds: float) -> np.ndarray:
    """Noise like speech, with pauses from and to so many seconds in which there is only hiss."""
    rng = np.random.default_rng(0)
    samples = rng.normal(0, 0.1, round(seconds * 16_000)).astype(np.float32)
    for begin, end in gaps:
        samples[round(begin * 16_000) : round(end * 16_000)] *= 0.01
    return samples


def edges_of(samples: np.ndarray, sizes: tuple[int, ...] = (480_000,)) -> list[tuple[float, float]]:
    """Begin and end of each window, seconds."""
    windows = cut(in_blocks(samples, list(sizes)))
    return [(window.start / 16_000, window.end / 16_000) for window in windows]


def test_a_window_ends_in_the_middle_of_the_longest_pause():
    samples = talk((1, 2), (6, 6.5), (10, 10.8), (18, 19), seconds=40)
    (_, first), (again, second), *rest = edges_of(samples)
    assert first == again == pytest.approx(10.4, abs=0.05)
    assert second == rest[0][0] == pytest.approx(18.5, abs=0.05)


@pytest.mark.parametrize("gap", [0.3, 0.05])
def test_a_short_hush_within_a_word_or_between_two_is_no_pause(gap):
    (begin, end), (again, _), *_ = edges_of(talk((10, 10 + gap), seconds=40))
    assert (begin, end) == (0, 15.32)
    assert again < end  # they overlap


def test_pauses_in_a_recording_that_is_heard_whole_do_not_matter():
    assert edges_of(talk((9, 10), seconds=19.8)) == [(0, 19.8)]


def test_the_end_of_a_long_recording_is_heard_with_what_it_is_about():
    """Not as a second of sound by itself, whether anybody pauses or not."""
    for gaps in ([], [(20, 21)], [(10, 11), (21, 21.5)], [(8, 9), (21, 22)], [(15, 16)]):
        for seconds in (20.7, 22.0, 24.5, 26.0):
            *_, (_, before), (begin, end) = edges_of(talk(*gaps, seconds=seconds))
            assert end == seconds
            assert end - begin >= (2 if begin == before else 5)


@given(
    st.lists(st.tuples(st.floats(0, 60), st.floats(0.1, 2)), max_size=12),
    st.lists(st.integers(20_000, 700_000), min_size=1, max_size=3),
)
@settings(max_examples=20)
def test_where_windows_end_does_not_depend_on_the_blocks(gaps, sizes):
    samples = talk(*((begin, begin + length) for begin, length in gaps), seconds=60)
    assert edges_of(samples, tuple(sizes)) == edges_of(samples)


def test_between_windows_that_end_at_a_pause_stands_a_space():
    samples = talk((10, 11), seconds=30)
    heard = [(w, np.full((frames_of(len(w.samples)), 3), -1.0)) for w in cut([samples])]
    stream = np.concatenate(list(stitch(heard, space=2)))
    marked = np.flatnonzero(stream[:, 2] == 0)
    assert marked.tolist() == [heard[0][0].end // FRAME - 1]
    assert (stream[marked, :2] < -20).all()
    assert (heard[0][1] == -1).all()  # what the encoder gave is left as it was


@given(
    st.lists(st.tuples(st.integers(0, 30_000), st.integers(1, 400 * FRAME)), min_size=1, max_size=5)
)
def test_between_windows_that_do_not_meet_everything_is_blank(plan):
    """Every frame of what was heard stands where it was said, and nothing was said elsewhere."""
    heard, at = [], 0
    for gap, length in plan:
        at = -(-at // FRAME) * FRAME + gap * FRAME
        rows = np.full((frames_of(length), 4), -1.0, np.float32)
        rows[:, 3] = at // FRAME + np.arange(len(rows))  # encoded: what it hears is where it is
        heard.append((Window(at, np.zeros(length, np.float32)), rows))
        at += length
    parts = list(stitch(heard, vocabulary=3))
    assert max(map(len, parts)) <= 401
    stream = np.concatenate(parts)
    spoken = np.zeros(len(stream), bool)
    for window, _ in heard:
        spoken[window.start // FRAME : -(-window.end // FRAME)] = True
    spoken[-1] = True
    assert (stream[spoken, :3] == -1).all()
    np.testing.assert_array_equal(stream[spoken, 3], np.flatnonzero(spoken))
    np.testing.assert_array_equal(stream[~spoken][:, [0, 3]], 0)
    assert (stream[~spoken][:, 1:3] < -20).all()


def test_no_word_goes_on_over_a_gap():
    heard = [
        (Window(start * FRAME, np.zeros(10 * FRAME, np.float32)), np.full((10, 3), -1.0))
        for start in (5, 17)
    ]
    stream = np.concatenate(list(stitch(heard, space=2)))
    assert np.flatnonzero(stream[:, 2] == 0).tolist() == [14]
    assert np.flatnonzero(stream[:, 0] == 0).tolist() == [0, 1, 2, 3, 4, 15, 16]


def test_no_blocks_give_no_windows_and_no_windows_no_stream():
    assert list(cut([])) == []
    assert list(stitch([])) == []


def test_a_window_is_given_on_as_soon_as_the_next_is_there():
    """Nothing waits for the end of a recording, which may never come."""
    windows = cut(repeat(np.zeros(WINDOW, np.float32)))
    parts = stitch((window, listen(window)) for window in windows)
    assert [len(next(parts)) for _ in range(3)] == [359, 335, 335]


SILENT = np.array([True, True, False])  # blank, space, a letter


def heard(speech) -> np.ndarray:
    """Rows whose likeliest token is a letter where `speech`, else the blank or the space.

    The frame's number stands in the third column, so that it can be told what was cut where.
    """
    frames = np.arange(len(speech), dtype=np.float32)
    rows = np.zeros((len(speech), 3), np.float32)
    rows[:, 2] = -1.0 - frames
    rows[np.asarray(speech, bool), :2] = -1e9
    rows[(frames % 3 == 0) & ~np.asarray(speech, bool), 0] = -0.5
    return rows


def pieces_of(rows, sizes=(100,)):
    """The utterances as (first frame, end); each must hold the rows that it says it holds."""
    found = list(utterances(in_blocks(rows, list(sizes)), SILENT))
    for utterance in found:
        end = utterance.first + len(utterance.log_probs)
        np.testing.assert_array_equal(utterance.log_probs, rows[utterance.first : end])
    return [(u.first, u.first + len(u.log_probs)) for u in found]


@st.composite
def speech(draw):
    """Stretches of speech and of silence in turn, of lengths about the limits."""
    lengths = st.sampled_from([1, 2, MARGIN, PAUSE - 1, PAUSE, PAUSE + 1, 60, LONGEST, 2 * LONGEST])
    runs = draw(st.lists(lengths | st.integers(1, 40), max_size=12))
    spoken = draw(st.booleans())
    marks = [np.full(run, (number % 2 == 0) == spoken) for number, run in enumerate(runs)]
    return np.concatenate([np.zeros(0, bool), *marks])


@given(speech(), st.lists(st.integers(1, 500), min_size=1, max_size=4))
def test_where_speech_is_cut_does_not_depend_on_how_it_comes(spoken, sizes):
    rows = heard(spoken)
    assert pieces_of(rows, sizes) == pieces_of(rows, [max(1, len(rows))])


@given(speech())
def test_every_frame_of_speech_is_in_one_utterance_and_none_is_too_long(spoken):
    pieces = pieces_of(heard(spoken))
    times = [time for piece in pieces for time in piece]
    assert times == sorted(times)
    assert all(0 < end - begin <= LONGEST for begin, end in pieces)
    covered = np.zeros(len(spoken), bool)
    for begin, end in pieces:
        assert spoken[begin:end].any()
        covered[begin:end] = True
    assert covered[spoken].all()


@given(speech())
def test_no_utterance_has_a_pause_inside_and_silence_about_it_is_short(spoken):
    for begin, end in pieces_of(heard(spoken)):
        where = np.flatnonzero(spoken[begin:end])
        assert where[0] <= MARGIN or begin == 0 or not spoken[begin - 1]
        assert max((b - a - 1 for a, b in pairwise(where)), default=0) < PAUSE
        assert end - begin - where[-1] - 1 <= PAUSE


def marks(*runs):
    """(20, 0), (30, 1) -> twenty frames of silence and thirty of speech."""
    return np.repeat([mark for _, mark in runs], [length for length, _ in runs])


@pytest.mark.parametrize(
    ("runs", "pieces"),
    [
        ([(20, 0), (30, 1), (PAUSE, 0), (10, 1), (30, 0)], [(12, 58), (60, 86)]),
        ([(20, 0), (30, 1), (PAUSE - 1, 0), (10, 1), (30, 0)], [(12, 85)]),
        ([(3, 0), (5, 1)], [(0, 8)]),
        ([(5, 1), (3, 0)], [(0, 8)]),
        ([(900, 0), (1, 1), (900, 0)], [(892, 909)]),
        ([(LONGEST, 1)], [(0, LONGEST)]),
        ([(1000, 1)], [(0, 375), (375, 750), (750, 1000)]),  # not a moment to breathe
        ([(100, 1), (10, 0), (100, 1), (12, 0), (400, 1)], [(0, 216), (216, 591), (591, 622)]),
        ([(200, 1), (9, 0), (100, 1), (9, 0), (200, 1)], [(0, 313), (313, 518)]),  # the later
        ([(374, 1), (40, 0), (5, 1)], [(0, 375), (406, 419)]),
    ],
)
def test_speech_is_cut_at_pauses_or_where_it_is_quiet_longest(runs, pieces):
    assert pieces_of(heard(marks(*runs))) == pieces


@pytest.mark.parametrize("frames", [0, 1, MARGIN, MARGIN + 1, 5000])
def test_nothing_said_is_no_utterance(frames):
    assert pieces_of(heard(np.zeros(frames, bool))) == []


def test_an_utterance_is_given_when_its_pause_is_heard_and_not_at_the_end():
    talk = heard(marks((50, 1), (PAUSE, 0)))
    parts = chain([talk], repeat(heard(np.zeros(10, bool))))  # silence for ever after
    assert len(next(utterances(parts, SILENT)).log_probs) == 50 + MARGIN


@pytest.mark.parametrize("spoken", [0, 1])
def test_memory_does_not_grow_with_the_recording(spoken):
    """Six hours of silence, or of speech without a pause, in parts of 20 s."""
    part = heard(np.full(500, spoken))
    tracemalloc.start()
    count = sum(1 for _ in utterances(repeat(part, 1080), SILENT))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == spoken * 540_000 // LONGEST
    assert peak < 40 * part.nbytes
