"""The forced alignment against all paths there are, one by one."""

from itertools import groupby, pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperasr.align import align


def spelled(path):
    """What a CTC path spells: repeats merged, blanks removed."""
    return [token for token, _ in groupby(path) if token]


def best_score(log_probs, tokens):
    """The score of the likeliest of all V^S paths that spell `tokens`; None if there is none."""
    S, V = log_probs.shape
    scores = [
        sum(log_probs[s, token] for s, token in enumerate(path))
        for path in product(range(V), repeat=S)
        if spelled(path) == tokens
    ]
    return max(scores, default=None)


def written_out(first, last, tokens, frames):
    """The path that an alignment stands for: blank wherever no token is said."""
    path = [0] * frames
    for a, b, token in zip(first, last, tokens, strict=True):
        path[a : b + 1] = [token] * (b - a + 1)
    return path


def random_log_probs(frames, tokens, seed, sharpness=1.0):
    logits = sharpness * np.random.default_rng(seed).standard_normal((frames, tokens))
    return np.float32(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))


@given(
    frames=st.integers(1, 6),
    tokens=st.lists(st.integers(1, 2), max_size=4),
    sharpness=st.sampled_from([0.0, 1.0, 10.0]),
    seed=st.integers(0, 1000),
)
def test_no_other_path_that_spells_the_tokens_is_likelier(frames, tokens, sharpness, seed):
    log_probs = random_log_probs(frames, 3, seed, sharpness)
    best = best_score(log_probs, tokens)
    found = align(log_probs, tokens)
    if best is None:
        assert found is None
        return
    assert found is not None
    path = written_out(*found, tokens, frames)
    assert spelled(path) == tokens
    assert log_probs[range(frames), path].sum() == pytest.approx(best, abs=1e-4)


@given(
    frames=st.integers(1, 80),
    tokens=st.lists(st.integers(1, 5), min_size=1, max_size=20),
    seed=st.integers(0, 1000),
)
def test_tokens_come_in_order_and_share_no_frame(frames, tokens, seed):
    found = align(random_log_probs(frames, 6, seed, 3.0), tokens)
    blanks = sum(a == b for a, b in pairwise(tokens))
    assert (found is None) == (len(tokens) + blanks > frames)
    if found is None:
        return
    first, last = found
    assert len(first) == len(last) == len(tokens)
    assert (first <= last).all()
    assert (last[:-1] < first[1:]).all()
    assert first[0] >= 0
    assert last[-1] < frames


def test_a_repeated_token_needs_a_blank_between():
    log_probs = random_log_probs(3, 2, seed=0)
    first, last = align(log_probs, [1, 1])
    assert (first.tolist(), last.tolist()) == ([0, 2], [0, 2])
    assert align(log_probs[:2], [1, 1]) is None


def test_a_token_lasts_as_long_as_it_is_the_likeliest():
    sure = np.log(np.float32([0.98, 0.01, 0.01]))
    blank, a, b = sure[[0, 1, 2]], sure[[1, 0, 2]], sure[[1, 2, 0]]
    first, last = align(np.stack([blank, a, a, blank, b, blank]), [1, 2])
    assert (first.tolist(), last.tolist()) == ([1, 4], [2, 4])


@pytest.mark.parametrize("frames", [0, 1, 5])
def test_nothing_said_is_aligned_with_anything(frames):
    first, last = align(np.zeros((frames, 3), np.float32), [])
    assert len(first) == len(last) == 0


def test_what_is_said_does_not_fit_into_no_frames():
    assert align(np.zeros((0, 3), np.float32), [1]) is None
