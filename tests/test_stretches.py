"""Parts of a recording: the right samples, in their place, and nothing else."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperasr.errors import ConfigError
from hyperasr.stretches import (
    RATE,
    HearingOptions,
    Piece,
    clipped,
    parse_clips,
    placed,
    stretches,
    windows,
)
from hyperasr.windows import FRAME, WINDOW

SECOND = RATE


def numbered(samples: int) -> np.ndarray:
    """A recording whose samples say where they are; the first is no silence."""
    return 1 + np.arange(samples, dtype=np.float32)


def in_blocks(samples: np.ndarray, size: int) -> list[np.ndarray]:
    return [samples[at : at + size] for at in range(0, len(samples), size)]


# Clips as typed


@pytest.mark.parametrize(
    ("typed", "clips"),
    [
        ("0", ((0, math.inf),)),
        ("0,10", ((0, 10),)),
        (" 0, 10.5 ,60 ", ((0, 10.5), (60, math.inf))),
        ("0,5,5,7", ((0, 5), (5, 7))),
        ("1e1,2e1", ((10, 20),)),
    ],
)
def test_clips_are_typed_as_whispers_are(typed, clips):
    assert parse_clips(typed) == clips


@pytest.mark.parametrize(
    "typed", ["", ",", "a", "1,", "0:10", "5,3", "5,5", "0,5,4,6", "-1", "nan", "0,inf", "1e999"]
)
def test_what_is_no_clip_is_one_line(typed):
    with pytest.raises(ConfigError, match=r"^--clip-timestamps: [^\n]+$"):
        parse_clips(typed)


@given(st.text(alphabet="0123456789.,-e infa", max_size=12))
def test_anything_typed_is_clips_in_order_or_one_line(typed):
    try:
        clips = parse_clips(typed)
    except ConfigError:
        return
    edges = [seconds for clip in clips for seconds in clip]
    assert edges == sorted(edges)
    assert all(0 <= begin < end for begin, end in clips)


@pytest.mark.parametrize(
    "wrong",
    [
        {"vad_threshold": 0},
        {"vad_threshold": 1.5},
        {"vad_threshold": math.nan},
        {"vad_min_silence": 0},
        {"vad_min_silence": math.nan},
        {"vad_min_silence": 1e9},
    ],
)
def test_settings_that_cannot_be_name_their_option(wrong):
    option = "--" + next(iter(wrong)).replace("_", "-")
    with pytest.raises(ConfigError, match=f"^{option} "):
        HearingOptions(**wrong)


def test_a_transcript_tells_what_was_asked_for():
    assert HearingOptions().told() == {}
    asked = HearingOptions(parse_clips("0,5,10"), vad_filter=True, vad_threshold=0.3)
    assert asked.told() == {
        "clip_timestamps": "0,5,10",
        "vad_threshold": 0.3,
        "vad_min_silence": 2.0,
    }


# What they cut out

EDGES = st.lists(st.integers(0, 60 * 25), min_size=1, max_size=6, unique=True).map(sorted)


@given(st.integers(1, 40 * SECOND), EDGES, st.integers(5_000, 700_000))
def test_clips_are_those_samples_whatever_the_blocks(length, edges, size):
    seconds = [frame * FRAME / RATE for frame in edges]
    clips = parse_clips(",".join(str(second) for second in seconds))
    samples = numbered(length)
    pieces = list(clipped(in_blocks(samples, size), clips))
    for piece in pieces:
        end = piece.start + len(piece.samples)
        np.testing.assert_array_equal(piece.samples, samples[piece.start : end])
    frames = [*edges, math.inf] if len(edges) % 2 else edges
    wanted = np.zeros(length, bool)
    for begin, end in zip(frames[::2], frames[1::2], strict=True):
        wanted[begin * FRAME : length if end == math.inf else end * FRAME] = True
    given_back = np.concatenate([np.zeros(0, np.float32), *(piece.samples for piece in pieces)])
    np.testing.assert_array_equal(given_back, samples[wanted])


def test_after_the_last_clip_nothing_is_read():
    def blocks():
        yield numbered(SECOND)
        yield numbered(SECOND)
        raise AssertionError("read on")

    assert sum(len(piece.samples) for piece in clipped(blocks(), ((0.4, 2.0),))) == 1.6 * SECOND


def test_a_clip_that_ends_far_away_ends_with_the_recording():
    (piece,) = clipped([numbered(SECOND)], ((0.0, 1e300),))
    assert len(piece.samples) == SECOND


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 50)), max_size=12))
def test_stretches_begin_after_gaps(plan):
    pieces, at = [], 0
    for gap, length in plan:
        at += gap
        pieces.append(Piece(at, np.arange(at, at + length, dtype=np.float32)))
        at += length
    found = [(start, np.concatenate(list(blocks))) for start, blocks in stretches(pieces)]
    for start, samples in found:
        np.testing.assert_array_equal(samples, np.arange(start, start + len(samples)))
    gaps = sum(gap > 0 for gap, _ in plan[1:])
    assert len(found) == (gaps + 1 if plan else 0)
    assert sum(len(samples) for _, samples in found) == sum(length for _, length in plan)


def test_each_stretch_has_windows_of_its_own():
    pieces = clipped([numbered(100 * SECOND)], ((10.0, 15.0), (40.0, 90.0)))
    found = list(windows(pieces))
    assert (found[0].start, found[0].end) == (10 * SECOND, 15 * SECOND)
    assert found[1].start == 40 * SECOND
    assert found[-1].end == 90 * SECOND
    for window in found:
        assert window.samples[0] == 1 + window.start


def test_windows_in_which_there_is_nothing_are_left_out():
    sound = 0.1 * np.random.default_rng(0).standard_normal(5 * WINDOW).astype(np.float32)
    sound[WINDOW:-WINDOW] = 2**-16  # as a sound card that is off may sound
    found = list(windows(placed(in_blocks(sound, 480_000))))
    assert 2 <= len(found) <= 4
    assert found[0].start == 0
    assert found[-1].end == len(sound)
    assert list(windows(placed([np.zeros(3 * WINDOW, np.float32)]))) == []
