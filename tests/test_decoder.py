"""Greedy decoding against a second opinion, written letter by letter."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperasr.decoder import greedy

LETTERS = ("", " ", "'", "a", "b", "c")
PIECES = ("", "▁", "▁a", "▁the", "a", "b", "ing")


def path(tokens, labels=LETTERS, sure=0.9):
    """Log-probabilities (S, V) whose best path is these labels; "-" is the blank."""
    ids = [0 if token == "-" else labels.index(token) for token in tokens]
    probabilities = np.full((len(ids), len(labels)), (1 - sure) / (len(labels) - 1), np.float32)
    probabilities[np.arange(len(ids)), ids] = sure
    return np.log(probabilities)


def read(tokens, labels=LETTERS):
    return [word.text for word in greedy(path(tokens, labels), labels)]


def naive_text(log_probs, labels):
    """The best path as plain text, one frame at a time."""
    text, previous = "", 0
    for row in log_probs:
        token = max(range(len(labels)), key=lambda i: row[i])
        if token not in (0, previous):
            text += labels[token].replace("▁", " ")
        previous = token
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        ("abc", ["abc"]),
        ("aabbbc", ["abc"]),
        ("aa-a", ["aa"]),
        ("a--b", ["ab"]),
        ("a b", ["a", "b"]),
        ("a - b", ["a", "b"]),
        ("  a  b  ", ["a", "b"]),
        ("a'b", ["a'b"]),
        ("---", []),
        ("   ", []),
        ("-", []),
        ("a", ["a"]),
    ],
)
def test_repeats_are_merged_and_blanks_keep_doubles_and_spaces_part_words(tokens, words):
    assert read(tokens) == words


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (["▁a", "b", "▁the"], ["ab", "the"]),
        (["▁a", "▁a", "-", "▁a"], ["a", "a"]),
        (["b", "ing", "▁", "b", "b", "ing"], ["bing", "bing"]),
        (["▁", "▁the", "▁", "-", "▁"], ["the"]),
    ],
)
def test_a_piece_with_the_mark_begins_a_word(tokens, words):
    assert read(tokens, PIECES) == words


def test_marks_of_begin_and_end_are_no_text():
    labels = ("", "<s>", "</s>", "▁a", "b")
    rows = np.eye(len(labels))[[1, 3, 4, 0, 2, 3, 2]]
    assert [word.text for word in greedy(np.log(rows + 1e-3), labels)] == ["ab", "a"]


def test_a_word_lasts_from_its_first_frame_to_its_last():
    first, second = greedy(path("--aab- -cc"), LETTERS, first_frame=250)
    assert (first.start, first.end) == pytest.approx((10 + 1.5 * 0.04, 10 + 4.5 * 0.04))
    assert (second.start, second.end) == pytest.approx((10 + 7.5 * 0.04, 10 + 9.5 * 0.04))


def test_a_word_in_the_first_frame_does_not_begin_before_the_audio():
    (word,) = greedy(path("a"), LETTERS)
    assert (word.start, word.end) == (0.0, pytest.approx(0.02))


def test_confidence_is_the_geometric_mean_of_the_best_probabilities_of_the_tokens():
    log_probs = np.concatenate([path("a", sure=0.5), path("a", sure=0.8), path("b", sure=0.4)])
    (word,) = greedy(log_probs, LETTERS)
    assert word.confidence == pytest.approx((0.8 * 0.4) ** 0.5)


def test_blanks_and_spaces_do_not_count_in_the_confidence():
    log_probs = np.concatenate(
        [path("-a", sure=0.9), path("- ", sure=0.3), path("b", sure=0.6), path("-", sure=0.2)]
    )
    assert [word.confidence for word in greedy(log_probs, LETTERS)] == pytest.approx([0.9, 0.6])


def test_no_frames_give_no_words():
    assert greedy(np.zeros((0, len(LETTERS)), np.float32), LETTERS) == ()


@given(
    labels=st.sampled_from([LETTERS, PIECES]),
    frames=st.integers(1, 60),
    first_frame=st.sampled_from([0, 308, 180_000]),
    sharpness=st.sampled_from([0.1, 1.0, 30.0]),
    seed=st.integers(0, 10_000),
)
def test_any_log_probabilities_give_the_naive_text_in_order_and_inside_the_audio(
    labels, frames, first_frame, sharpness, seed
):
    logits = sharpness * np.random.default_rng(seed).standard_normal((frames, len(labels)))
    logits[:, 0] += sharpness * (seed % 3)
    log_probs = np.float32(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))
    words = greedy(log_probs, labels, first_frame)
    assert " ".join(word.text for word in words) == naive_text(log_probs, labels)
    times = [max(0.0, (first_frame - 0.5) * 0.04)]
    for word in words:
        assert word.text
        assert " " not in word.text
        assert word.start < word.end
        assert 0.0 <= word.confidence <= 1.0
        times += [word.start, word.end]
    assert times == sorted(times)
    assert times[-1] <= (first_frame + frames) * 0.04


def test_confidence_stays_within_zero_and_one_at_the_ends():
    certain, hopeless = np.float32([[-9e9, 1e-6]]), np.float32([[-80.0, -70.0]])
    assert greedy(certain, ("", "a"))[0].confidence == 1.0
    assert 0.0 <= greedy(hopeless, ("", "a"))[0].confidence < 1e-30


def test_decoding_does_not_wait_for_torch():
    code = "import sys, hyperasr.decoder; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
