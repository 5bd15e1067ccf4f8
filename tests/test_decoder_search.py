"""Beam search: what language and expected words make of a sound, and what they must not."""

import gc
import time
import weakref
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from heard import spelled
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperasr import decoder as module
from hyperasr.decoder import Decoder, DecoderSettings, greedy, lengthened, timed_words
from hyperasr.errors import ConfigError
from hyperasr.hotwords import Hotwords
from hyperasr.language_model import load_ngram
from hyperasr.tokens import CharTokens, SentencePieceTokens
from hyperasr.transcript import Word

DATA = Path(__file__).parent / "data"
TOKENS = CharTokens()
LABELS = TOKENS.labels
PIECES = ("", "<unk>", "<s>", "</s>", "▁", "▁a", "▁the", "a", "b", "ing")


@pytest.fixture(scope="module")
def ngram():
    return load_ngram(DATA / "harbour.3.arpa.gz")


def decoder(ngram=None, hotwords=(), weight=4.0, **settings):
    expected = Hotwords(hotwords, weight) if hotwords else None
    return Decoder(LABELS, TOKENS.encode, DecoderSettings(**settings), ngram, expected)


def softmax(logits):
    return np.float32(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))


def sound(text, doubts=None, **how):
    return spelled(text, LABELS, doubts, **how)


def peaky(frames, seed):
    """A random path as a trained model hears: most frames surely blank, some letters in doubt."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0.0, 1.0, (frames, len(LABELS)))
    logits[:, 0] += 12.0
    for frame in rng.choice(frames, size=frames // 3, replace=False):
        for letter in rng.choice(len(LABELS), size=rng.integers(1, 4), replace=False):
            logits[frame, letter] += rng.uniform(9.0, 14.0)
    return softmax(logits)


def test_without_language_a_sure_sound_is_what_the_best_path_says():
    log_probs = sound("who saw the anchor")
    best = greedy(log_probs, LABELS)
    segment = decoder()(log_probs)
    assert segment.text == "who saw the anchor" == " ".join(word.text for word in best)
    assert [(w.start, w.end) for w in segment.words] == [(w.start, w.end) for w in best]
    assert [w.confidence for w in segment.words] == pytest.approx([w.confidence for w in best])
    assert (segment.start, segment.end) == (best[0].start, best[-1].end)
    assert segment.alternatives == segment.hotwords == ()


def test_one_beam_is_the_best_path():
    log_probs = peaky(60, seed=3)
    segment = decoder(beam_size=1)(log_probs)
    assert segment.text == " ".join(word.text for word in greedy(log_probs, LABELS)) != ""


def test_language_corrects_a_letter_where_the_sound_is_in_doubt(ngram):
    doubtful = sound("who saw the ancher off myrmouth", {16: ("o", 0.4)})
    assert decoder()(doubtful).text == "who saw the ancher off myrmouth"
    assert decoder(ngram)(doubtful).text == "who saw the anchor off myrmouth"


def test_a_sure_sound_is_not_overruled(ngram):
    assert decoder(ngram)(sound("who saw the zebra", sure=0.9999)).text == "who saw the zebra"


def test_alpha_beta_and_unknown_weigh(ngram, monkeypatch):
    monkeypatch.setattr(module, "BEHIND", -30.0)  # every path counts
    doubtful = sound("the ancher", {8: ("o", 0.4)})
    assert decoder(ngram, alpha=0.0, unknown=0.0)(doubtful).text == "the ancher"
    assert decoder(ngram, alpha=0.0, unknown=-12.0)(doubtful).text == "the anchor"
    together = sound("no one", {2: ("'", 0.49)}, sure=0.9)
    less, more = (
        next(
            a.score
            for a in decoder(ngram, beta=beta, nbest=9, unknown=0.0)(together).alternatives
            if a.text == "no one"
        )
        for beta in (0.0, 3.0)
    )
    assert more - less == pytest.approx(2 * 3.0, abs=1e-3)  # two words


def test_a_hotword_appears_that_the_language_does_not_have(ngram):
    doubtful = sound("who saw the zibra", {13: ("e", 0.3)})
    assert "zebra" not in decoder(ngram)(doubtful).text
    segment = decoder(ngram, ["zebra"], 8.0)(doubtful)
    assert segment.text == "who saw the zebra"
    assert segment.hotwords == ("zebra",)
    assert decoder(None, ["zebra"], 8.0)(doubtful).text == "who saw the zebra"


def test_hotwords_heard_are_named_in_order_and_each_time():
    segment = decoder(None, ["new york", "ann"])(sound("ann in new york met ann"))
    assert segment.hotwords == ("ann", "new york", "ann")
    assert decoder(None, ["bob"])(sound("ann")).hotwords == ()


def test_hotwords_are_not_written_where_nothing_sounds_like_them(ngram):
    text = "who saw the anchor off myrmouth"
    names = ["zebra", "new york", "quixotic"]
    assert decoder(ngram, names)(sound(text, sure=0.9999)).text == text
    assert decoder(ngram, names)(sound(" ")).words == ()


def test_alternatives_are_sorted_and_distinct_and_the_first_is_the_text(ngram):
    doubts = {4: ("m", 0.4), 10: ("t", 0.3), 16: ("o", 0.4)}
    segment = decoder(ngram, nbest=8, unknown=-1.0)(sound("who saw the ancher", doubts))
    scores = [found.score for found in segment.alternatives]
    texts = [found.text for found in segment.alternatives]
    assert 2 <= len(texts) <= 8
    assert texts[0] == segment.text
    assert scores == sorted(scores, reverse=True)
    assert len(set(texts)) == len(texts)


def test_silence_has_no_words(ngram):
    silence = sound(" ", frames=40)
    for search in (decoder(), decoder(ngram), decoder(ngram, ["ann"]), decoder(beam_size=1)):
        segment = search(silence, first_frame=100)
        assert segment.words == ()
        assert (segment.start, segment.end) == pytest.approx((4.0, 5.6))


def test_no_frames_have_no_words(ngram):
    nothing = np.zeros((0, len(LABELS)), np.float32)
    for search in (decoder(), decoder(ngram, nbest=3), decoder(beam_size=1)):
        assert search(nothing, 25).words == ()
        assert (search(nothing, 25).start, search(nothing, 25).end) == (1.0, 1.0)


def test_half_precision_is_heard_the_same(ngram):
    log_probs = sound("who saw the ancher off myrmouth", {16: ("o", 0.4)})
    half, full = (decoder(ngram)(x, 50) for x in (log_probs.astype(np.float16), log_probs))
    assert half.text == full.text
    assert [w.start for w in half.words] == [w.start for w in full.words]
    assert [w.confidence for w in half.words] == pytest.approx(
        [w.confidence for w in full.words], abs=2e-3
    )


@settings(max_examples=15)
@given(
    frames=st.integers(1, 60),
    first_frame=st.sampled_from([0, 1000]),
    sharpness=st.sampled_from([0.5, 3.0, 20.0]),
    seed=st.integers(0, 1000),
    language=st.booleans(),
)
def test_any_sound_gives_words_in_order_inside_the_utterance(
    ngram, frames, first_frame, sharpness, seed, language
):
    logits = sharpness * np.random.default_rng(seed).standard_normal((frames, len(LABELS)))
    expected = ["ann", "the sea"] if seed % 2 else []
    search = decoder(ngram if language else None, expected, beam_size=8, nbest=1 + seed % 3)
    segment = search(softmax(logits), first_frame)
    times = [max(0.0, (first_frame - 0.5) * 0.04)]
    for word in segment.words:
        assert word.text
        assert 0.0 <= word.confidence <= 1.0
        assert word.start < word.end
        times += [word.start, word.end]
    assert times == sorted(times)
    assert times[-1] <= (first_frame + frames) * 0.04
    assert not segment.alternatives or segment.alternatives[0].text == segment.text


@settings(max_examples=15)
@given(frames=st.integers(1, 90), seed=st.integers(0, 1000), language=st.booleans())
def test_leaving_out_sure_blanks_and_unlikely_tokens_changes_no_text(ngram, frames, seed, language):
    search = decoder(ngram if language else None, beam_size=16)
    log_probs = peaky(frames, seed)
    with pytest.MonkeyPatch.context() as patch:
        fast = search(log_probs)
        patch.setattr(module, "MAX_TOKENS", len(LABELS))
        patch.setattr(module, "SURE_BLANK", 1.0)  # log-probabilities do not get there
        assert search(log_probs) == fast


def test_sure_blanks_still_part_a_letter_from_the_same_again():
    assert decoder()(sound("aab", frames=6)).text == "aab"
    assert decoder()(sound("aab", frames=1)).text == "ab"


@pytest.mark.parametrize("language", [False, True])
def test_fifteen_seconds_of_which_nothing_is_known_come_to_an_end(ngram, language):
    """Every letter as likely as every other: the search must not follow all of them for minutes."""
    flat = np.full((375, len(LABELS)), -np.log(len(LABELS)), np.float32)
    flat += np.float32(1e-3 * np.random.default_rng(0).standard_normal(flat.shape))
    before = time.process_time()
    decoder(ngram if language else None)(flat)
    assert time.process_time() - before < 30


def say(pieces, frames=2):
    """Log-probabilities of pieces, each followed by blanks."""
    rows = np.full((len(pieces) * frames, len(PIECES)), np.log(1e-4), np.float32)
    rows[:, 0] = np.log(0.99)
    for number, piece in enumerate(pieces):
        rows[number * frames, 0] = np.log(1e-4)
        rows[number * frames, PIECES.index(piece)] = np.log(0.99)
    return rows


def shortest(word):
    """A stand-in for a subword tokenizer: the longest piece first."""
    ids, rest = [], f"▁{word}"
    while rest:
        piece = max((p for p in PIECES if p and rest.startswith(p)), key=len)
        ids.append(PIECES.index(piece))
        rest = rest[len(piece) :]
    return ids


@pytest.mark.parametrize("beam_size", [1, 16])
@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (["▁the", "▁", "b", "ing", "▁a", "b"], "the bing ab"),
        (["▁", "a", "▁", "▁", "▁the"], "a the"),
        (["b", "ing"], "bing"),
        (["▁", "▁"], ""),
        (["<s>", "▁a", "<unk>", "▁the", "</s>"], "a the"),  # markers are never written
    ],
)
def test_subword_pieces_are_put_together_and_markers_left_out(pieces, text, beam_size):
    search = Decoder(PIECES, shortest, DecoderSettings(beam_size=beam_size))
    segment = search(say(pieces))
    assert segment.text == text
    times = [t for word in segment.words for t in (word.start, word.end)]
    assert times == sorted(times)


def test_a_word_that_its_tokens_do_not_fit_into_has_its_share_of_the_time():
    """The tokenizer may spell a word with more pieces than the search did."""
    one_frame_each = say(["▁a", "b", "▁the"], frames=1)
    words = timed_words(["a", "b", "the"], one_frame_each, lambda word: [4, 7, 8, 7], PIECES, 100)
    assert [word.text for word in words] == ["a", "b", "the"]
    assert [word.start for word in words] == pytest.approx([3.98, 4.02, 4.06])
    assert [word.end for word in words] == pytest.approx([4.02, 4.06, 4.1])
    assert all(word.confidence == pytest.approx(0.99) for word in words)
    (word,) = timed_words(["a"], one_frame_each, lambda word: [], PIECES)
    assert (word.start, word.end) == (0.0, pytest.approx(0.1))


def test_a_sentencepiece_vocabulary_decodes_what_it_encoded(tmp_path):
    text = (DATA / "harbour.txt").read_text(encoding="utf-8").splitlines()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(text),
        model_prefix=str(tmp_path / "pieces"),
        vocab_size=60,
        minloglevel=2,
    )
    tokens = SentencePieceTokens((tmp_path / "pieces.model").read_bytes())
    search = Decoder(tokens.labels, tokens.encode, DecoderSettings(), None, Hotwords(["pilot"], 2))
    ids = tokens.encode("the broken pilot waited")
    rows = np.full((2 * len(ids), len(tokens.labels)), np.log(1e-5), np.float32)
    rows[1::2, 0] = rows[range(0, 2 * len(ids), 2), ids] = np.log(0.99)
    segment = search(rows)
    assert segment.text == "the broken pilot waited"
    assert segment.hotwords == ("pilot",)


def test_confidences_are_calibrated_and_stay_within_zero_and_one():
    log_probs = sound("ann", sure=0.9)
    (plain,), (calibrated,) = (
        decoder(**settings)(log_probs).words for settings in ({}, {"sure": 0.5, "doubt": 0.3})
    )
    odds = 0.5 * np.log(plain.confidence / (1 - plain.confidence)) - 0.3
    assert calibrated.confidence == pytest.approx(1 / (1 + np.exp(-odds)))
    for extreme in (-1000.0, 1000.0):
        (word,) = decoder(sure=1000.0, doubt=extreme)(log_probs).words
        assert 0.0 <= word.confidence <= 1.0
        (word,) = decoder(sure=-1000.0, doubt=extreme)(log_probs).words
        assert 0.0 <= word.confidence <= 1.0


def test_frames_that_are_no_numbers_are_nothing_that_was_heard_for_sure():
    log_probs = sound("who saw the anchor")
    log_probs[len(log_probs) // 2 :] = np.nan
    for search in (decoder(), decoder(beam_size=1)):
        segment = search(log_probs)
        assert segment.text.startswith("who saw")
        assert all(0.0 <= word.confidence <= 1.0 for word in segment.words)
    assert decoder()(np.full_like(log_probs, np.nan)).words == ()


@pytest.mark.parametrize(
    "wrong",
    [
        {"beam_size": 0},
        {"unknown": 1.0},
        {"nbest": 0},
        {"alpha": float("nan")},
        {"beta": float("inf")},
    ],
)
def test_settings_that_search_for_nothing_are_refused(wrong):
    with pytest.raises(ConfigError):
        DecoderSettings(**wrong)


def test_a_decoder_that_is_gone_leaves_no_language_model_in_memory():
    model = load_ngram(DATA / "tiny.3.arpa.gz")
    gone, search = weakref.ref(model), decoder(model)
    search(sound("the boat"))
    del model, search
    gc.collect()
    assert gone() is None


@given(st.lists(st.floats(0.0, 0.5), min_size=2, max_size=12), st.floats(0, 0.2), st.floats(0, 0.2))
def test_words_grow_into_the_silence_around_them_and_never_into_each_other(steps, lead, tail):
    times = np.cumsum(steps).tolist()
    words = [Word("w", start, end, 1.0) for start, end in pairwise(times)][::2]
    longer = lengthened(words, lead, tail)
    assert len(longer) == len(words)
    for before, after in zip(words, longer, strict=True):
        assert 0 <= after.start <= before.start + 1e-9
        assert before.end - 1e-9 <= after.end <= before.end + tail + 1e-9
    for one, two in pairwise(longer):
        assert one.end <= two.start + 1e-9
