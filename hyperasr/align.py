"""Tokens that were said, log-probabilities -> the frames in which each was said. No torch here."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BLANK = 0


def align(
    log_probs: NDArray[np.float32], tokens: Sequence[int]
) -> tuple[NDArray[np.intp], NDArray[np.intp]] | None:
    """The likeliest CTC path that spells `tokens`: the first and last frame (L,) of each.

    Takes (S, V) log-probabilities. None when there are too few frames for so many tokens.
    Source: Viterbi over the tokens with blanks between, Graves et al. 2006, section 4.
    """
    S, L = len(log_probs), len(tokens)
    if L == 0:
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    states = np.full(2 * L + 1, BLANK)
    states[1::2] = tokens
    may_skip = np.zeros(2 * L + 1, bool)  # from one token to the next without a blank
    may_skip[3::2] = states[3::2] != states[1:-2:2]
    if L + int((~may_skip[3::2]).sum()) > S:
        return None
    emitted = log_probs[:, states]  # (S, 2 L + 1)
    steps = np.zeros((S, 2 * L + 1), np.int8)  # how many states back the best path came from
    score = np.full(2 * L + 1, -np.inf, np.float32)
    score[:2] = emitted[0, :2]
    for s in range(1, S):
        one = np.concatenate([[-np.inf], score[:-1]])
        two = np.where(may_skip, np.concatenate([[-np.inf, -np.inf], score[:-2]]), -np.inf)
        best = np.maximum(score, one)
        steps[s] = one > score
        steps[s][two > best] = 2
        score = np.maximum(best, two) + emitted[s]
    state = 2 * L if score[-1] > score[-2] else 2 * L - 1
    path = np.empty(S, np.intp)
    for s in range(S - 1, -1, -1):
        path[s] = state
        state -= steps[s, state]
    said = np.flatnonzero(path % 2)  # frames of tokens
    which = path[said] // 2
    first = said[np.searchsorted(which, np.arange(L))]
    last = said[np.searchsorted(which, np.arange(L), side="right") - 1]
    return first, last
