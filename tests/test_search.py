"""The beam search against every path there is, and against pyctcdecode's own search."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyctcdecode.alphabet import Alphabet
from pyctcdecode.decoder import BeamSearchDecoderCTC

from hyperasr.hotwords import Hotwords
from hyperasr.language_model import load_ngram
from hyperasr.search import Fusion, Search

DATA = Path(__file__).parent / "data"
LETTERS = ("", " ", "a", "b")
PIECES = ("", "▁a", "▁", "b")
LONG = ("", " ", "'", *"abcdefghijklmnopqrstuvwxyz")
EVERYTHING = {"behind": -1e9, "unlikely": -1e9, "prune_history": False}


@pytest.fixture(scope="module")
def ngram():
    return load_ngram(DATA / "harbour.3.arpa.gz")


def random_sound(frames: int, labels: tuple[str, ...], seed: int, sharpness: float = 2.0):
    logits = sharpness * np.random.default_rng(seed).standard_normal((frames, len(labels)))
    return np.float32(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))


def written(path: tuple[int, ...], labels: tuple[str, ...]) -> str:
    """What a path of tokens says."""
    said = "".join(labels[token] for token, _ in itertools.groupby(path))
    return " ".join(said.replace("▁", " ").split())


def every_text(log_probs, labels) -> dict[str, float]:
    """The log-probability of every text, from every path."""
    frames = range(len(log_probs))
    found: dict[str, float] = {}
    for path in itertools.product(range(len(labels)), repeat=len(log_probs)):
        sound = float(sum(log_probs[frame, path[frame]] for frame in frames))
        text = written(path, labels)
        found[text] = float(np.logaddexp(found.get(text, -math.inf), sound))
    return found


def worth(fusion: Fusion, text: str) -> float:
    """What a whole text earns, asked word by word."""
    total, state = 0.0, fusion.get_start_state()
    for word in text.split():
        earned, state = fusion.score(state, word)
        total += earned
    return total + fusion.score(state, "", is_last_word=True)[0]


@settings(max_examples=40)
@given(
    frames=st.integers(1, 5),
    seed=st.integers(0, 10_000),
    labels=st.sampled_from([LETTERS, PIECES]),
    language=st.booleans(),
)
def test_without_limits_it_finds_every_text_with_all_its_paths(
    ngram, frames, seed, labels, language
):
    log_probs = random_sound(frames, labels, seed)
    fusion = Fusion(0.5, 0.7, -3.0, ngram, Hotwords(["ab", "a b"], 1.5)) if language else None
    search = Search(Alphabet(list(labels), labels is PIECES), fusion)
    heard = {
        text: (sound, total)
        for text, _, _, sound, total in search.run(log_probs, 10_000, **EVERYTHING)
    }
    expected = every_text(log_probs, labels)
    assert heard.keys() == expected.keys()
    for text, (sound, total) in heard.items():
        assert sound == pytest.approx(expected[text], abs=1e-4)
        earned = worth(fusion, text) if fusion else 0.0
        assert total == pytest.approx(expected[text] + earned, abs=1e-4)
    totals = [total for _, total in heard.values()]
    assert totals == sorted(totals, reverse=True)


@pytest.mark.parametrize("language", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_it_finds_what_pyctcdecode_finds_with_a_wide_beam(ngram, seed, language):
    log_probs = random_sound(20, LONG, seed, sharpness=5.0)
    fusion = Fusion(0.5, 0.5, -4.0, ngram, None) if language else None
    alphabet = Alphabet(list(LONG), False)
    ours = Search(alphabet, fusion).run(log_probs, 100, -20.0, -8.0, prune_history=False)
    theirs = BeamSearchDecoderCTC(alphabet, fusion).decode_beams(
        log_probs, beam_width=200, beam_prune_logp=-20.0, token_min_logp=-8.0
    )
    assert ours[0][0] == theirs[0][0]
    assert ours[0][-1] == pytest.approx(theirs[0][-1], abs=0.1)  # each gives up other paths


@pytest.mark.parametrize("weight", [9.9, 12.0, 20.0])
@pytest.mark.parametrize("word", ["jo", "o"])
def test_a_short_hotword_is_followed_until_it_has_earned_its_weight(word, weight):
    """Its letters are unlikely, and the word that is likelier has no worth."""
    spoken = [{"t": -0.01}, {"b": -0.02, " ": -4.9}, {"": -0.02, "j": -4.5}, {"": -0.02, "o": -0.3}]
    spoken = spoken if word == "jo" else [*spoken[:2], {"": -0.02, "o": -4.5}, {"": -0.01}]
    log_probs = np.full((4, len(LONG)), -15.0, np.float32)
    for row, sounds in zip(log_probs, spoken, strict=True):
        for letter, sound in sounds.items():
            row[LONG.index(letter)] = sound
    fusion = Fusion(0.5, 0.5, -12.0, None, Hotwords([word], weight))
    search = Search(Alphabet(list(LONG), False), fusion)
    (best, *_), *_ = search.run(log_probs, 48, -8.0, -6.0, prune_history=True)
    assert best == f"t {word}"


@pytest.mark.parametrize("hotwords", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_what_is_not_followed_is_not_missed(ngram, seed, hotwords):
    """Steps that cannot come near the best one, and texts that go on alike."""
    log_probs = random_sound(4 + 3 * seed, LONG, seed, sharpness=5.0)
    expected = Hotwords(["abba", "the sea"], 6.0) if hotwords else None
    search = Search(Alphabet(list(LONG), False), Fusion(0.5, 0.5, -12.0, ngram, expected))
    (best, *_), (thorough, *_) = (
        search.run(log_probs, 60, behind, -9.0, prune_history)
        for behind, prune_history in ((-14.0, True), (-30.0, False))
    )
    assert best[-1] >= thorough[-1] - 0.05


def test_texts_that_go_on_alike_leave_room_for_others(ngram):
    """Two doubtful letters long ago must not fill the beam when a third comes."""
    words = "the boat and the anchor and the boat and the sea"
    rows = np.full((2 * len(words), len(LONG)), -12.0, np.float32)
    rows[:, 0] = -0.01
    for number, letter in enumerate(words):
        rows[2 * number, 0] = -6.0
        rows[2 * number, LONG.index(letter)] = -0.1
    for early in (4, 8, 17):
        rows[2 * early, LONG.index("z")] = -0.2
    fusion = Fusion(0.5, 0.5, -0.1, ngram, None)
    search = Search(Alphabet(list(LONG), False), fusion)
    alike = search.run(rows, 4, -50.0, -20.0, prune_history=True)
    apart = search.run(rows, 4, -50.0, -20.0, prune_history=False)
    assert len({text for text, *_ in apart}) == 4
    assert alike[0][-1] >= apart[0][-1] - 1e-6


def test_a_frame_of_which_nothing_is_known_changes_nothing():
    log_probs = random_sound(6, LETTERS, 3)
    gap = np.full((1, len(LETTERS)), -np.inf, np.float32)
    search = Search(Alphabet(list(LETTERS), False), None)
    plain, holed = (
        search.run(rows, 20, **EVERYTHING)
        for rows in (log_probs, np.concatenate([log_probs[:3], gap, log_probs[3:]]))
    )
    assert holed == plain
