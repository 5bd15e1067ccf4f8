"""An attention decoder trained beside CTC, and subword vocabularies learnt from the texts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from training import (
    HERTZ,
    PLAIN,
    TEXTS,
    batch_of,
    check_same,
    config_of,
    metrics,
)
from training import tiny_models as tiny_models
from training import tones as tones

from hyperasr.attention_decoder import AttentionDecoder, AttentionDecoderConfig
from hyperasr.checkpoint import load_checkpoint
from hyperasr.decoding import DecodingOptions
from hyperasr.encoder import CONFIGS, Encoder, EncoderConfig
from hyperasr.errors import ConfigError
from hyperasr.manifest import read_manifest
from hyperasr.tokens import CharTokens, SentencePieceTokens
from hyperasr.train import learner as train_learner
from hyperasr.train import losses
from hyperasr.train.batches import Batch
from hyperasr.train.config import TrainConfig
from hyperasr.train.learner import Learner
from hyperasr.train.loop import Trainer
from hyperasr.train.schedule import learning_rate
from hyperasr.train.vocabulary import learn
from hyperasr.transcribe import Transcriber

JOINT = {"ctc_weight": 0.3, "decoder_layers": 2}
TINY = EncoderConfig(d_model=16, n_layers=3, n_heads=2, d_ffn=32, channels=(4, 4))


# -- the losses ---------------------------------------------------------------------------


def heard(texts: list[list[int]], bos: int = 0, eos: int = 0) -> tuple:
    """Models of 29 tokens, and a batch in which these texts are said in two seconds each."""
    torch.manual_seed(0)
    encoder = Encoder(replace(TINY, dropout=0.0))
    sizes = {"d_model": 16, "n_layers": 2, "n_heads": 2, "d_ffn": 32, "dropout": 0.0}
    decoder = AttentionDecoder(AttentionDecoderConfig(29, **sizes, bos=bos, eos=eos))
    frames = torch.randint(120, 201, (len(texts),))
    lengths = torch.tensor([len(text) for text in texts])
    count = max(len(texts), int(lengths.sum()))
    targets = torch.tensor([token for text in texts for token in text], dtype=torch.int64)
    none = torch.zeros(0)
    batch = Batch(none, none, targets, lengths, 1 / count, count / len(texts))
    return encoder, decoder, torch.randn(len(texts), 200, 80), frames, batch


texts_of_ids = st.lists(st.lists(st.integers(3, 28), max_size=20), min_size=1, max_size=4)


@given(texts_of_ids, st.sampled_from([(0, 0), (1, 2)]))
def test_the_attention_loss_is_what_the_decoder_thinks_of_the_texts(texts, marks):
    encoder, decoder, features, frames, batch = heard(texts, *marks)
    config = TrainConfig(manifests=("m",), ctc_weight=0.3)
    found = losses.compute(encoder, decoder, features, frames, batch, config)
    with torch.no_grad():
        encoded, sizes = encoder.encode(features.clone(), frames)
        rows = zip(encoded, sizes, texts, strict=True)
        scores = [decoder.score(row[None], size[None], [text]) for row, size, text in rows]
    torch.testing.assert_close(found.attention, -torch.cat(scores).sum() * batch.weight)
    alone = losses.compute(encoder, None, features, frames, batch, config)
    assert alone.attention == 0
    torch.testing.assert_close(found.ctc, alone.ctc)
    torch.testing.assert_close(found.total, 0.3 * alone.total + 0.7 * found.attention)


def test_losses_per_utterance_are_those_per_token_times_the_tokens_of_one():
    parts = heard([[3, 4, 5], [], [6, 7]])
    config = TrainConfig(manifests=("m",), ctc_weight=0.3)
    per_token, per_utterance = (
        losses.compute(*parts, replace(config, loss_per=unit)) for unit in ("token", "utterance")
    )
    torch.testing.assert_close(per_utterance.total, per_token.total * 5 / 3)
    assert torch.equal(per_utterance.ctc, per_token.ctc), "reports stay comparable"


def test_label_smoothing_is_torchs():
    texts = [[3, 4, 5, 6], [7, 8]]
    encoder, decoder, features, frames, batch = heard(texts)
    config = TrainConfig(manifests=("m",), ctc_weight=0.3, label_smoothing=0.1)
    found = losses.compute(encoder, decoder, features, frames, batch, config)
    with torch.no_grad():
        encoded, sizes = encoder.encode(features.clone(), frames)
        said = torch.tensor([[0, 3, 4, 5, 6], [0, 7, 8, 0, 0]])
        log_probs = decoder(encoded, sizes, said, torch.tensor([5, 3]))
    following = torch.tensor([[3, 4, 5, 6, 0], [7, 8, 0, -1, -1]])
    expected = F.cross_entropy(
        log_probs.flatten(0, 1),
        following.flatten(),
        ignore_index=-1,
        label_smoothing=0.1,
        reduction="sum",
    )
    torch.testing.assert_close(found.attention, expected / 6)


def test_both_losses_teach_the_encoder():
    encoder, decoder, features, frames, batch = heard([[3, 4, 5, 6], [7, 8]])
    gradients = []
    for weight in (1e-9, 1.0):
        encoder.zero_grad(set_to_none=True)
        config = TrainConfig(manifests=("m",), ctc_weight=weight)
        losses.compute(encoder, decoder, features.clone(), frames, batch, config).total.backward()
        gradients.append(encoder.front_end.project.weight.grad.clone())
    assert all(gradient.norm() > 1e-4 for gradient in gradients)
    assert F.cosine_similarity(*(g.flatten() for g in gradients), dim=0) < 0.9


# -- joint runs ---------------------------------------------------------------------------


def test_a_joint_run_learns_and_its_checkpoint_rescores(tones, tmp_path):
    long = {"steps": 60, "learning_rate": 2e-2, "batch_seconds": 4.0, "first_speakers": ()}
    config = config_of(tones, manifests=(str(tones),) * 5, dev=str(tones), **long, **PLAIN, **JOINT)
    last = Trainer(config, tmp_path).run()
    found = [entry["attention_loss"] for entry in metrics(tmp_path) if "loss" in entry]
    assert np.mean(found[-10:]) < 0.7 * np.mean(found[:10])
    assert last.wer <= 0.6

    model = load_checkpoint(tmp_path / "checkpoint")
    assert model.decoder.config.n_layers == 2
    assert (model.decoder.config.bos, model.decoder.config.eos) == (0, 0)
    options = DecodingOptions(rescore="attention", beam_size=8)
    transcriber = Transcriber.load(tmp_path / "checkpoint", decoding=options)
    words = transcriber(tones.parent / "0.wav").text
    assert set(words) <= set(HERTZ)


def test_a_joint_run_that_is_stopped_and_resumed_ends_as_if_it_was_not(tones, tmp_path):
    config = config_of(tones, **JOINT)
    Trainer(config, tmp_path / "whole").run()
    first = Trainer(config, tmp_path / "cut")
    first.run(stop=lambda: first.step == 6)
    Trainer(config, tmp_path / "cut").run()
    check_same(tmp_path / "cut", tmp_path / "whole")


def test_a_run_of_ctc_alone_is_not_resumed_with_a_decoder(tones, tmp_path):
    Trainer(config_of(tones, steps=2), tmp_path).run()
    with pytest.raises(ConfigError, match=r"state\.pt.*decoder"):
        Trainer(config_of(tones, steps=2, **JOINT), tmp_path)


def test_settings_of_the_optimiser_may_change_in_a_resumed_run(tones, tmp_path):
    Trainer(config_of(tones, steps=2), tmp_path).run()
    trainer = Trainer(config_of(tones, steps=3, weight_decay=0.5, adam_epsilon=1e-9), tmp_path)
    trainer.run()
    (group,) = trainer.learner.optimizers["optimizer"].param_groups
    assert (group["weight_decay"], group["eps"]) == (0.5, 1e-9)


@given(st.integers(1, 100), st.integers(0, 300))
def test_noams_rate_rises_to_the_peak_and_falls_with_the_root_of_the_step(warmup, step):
    config = TrainConfig(
        manifests=("m",), schedule="noam", warmup_steps=warmup, learning_rate=1e-3, steps=1000
    )
    number = step + 1  # the first update is at the lowest rate, not at the highest
    expected = 1e-3 * warmup**0.5 * min(number**-0.5, number * warmup**-1.5)
    assert learning_rate(config, step) == pytest.approx(expected)
    assert learning_rate(config, warmup - 1) == pytest.approx(1e-3)


# -- subwords -----------------------------------------------------------------------------

EXAMPLES = Path(__file__).parents[1] / "examples"
SENTENCES = (EXAMPLES / "bulletins.txt").read_text(encoding="utf-8").splitlines()
PIECES = SentencePieceTokens(learn(60, SENTENCES))


@given(st.text(alphabet=st.sampled_from("abcdefghijklmnopqrstuvwxyz' ABCÉ,."), max_size=40))
def test_whatever_letters_can_spell_subwords_can(text):
    assert PIECES.decode(PIECES.encode(text)) == CharTokens().normalise(text)


def test_subwords_are_fewer_than_letters_and_leave_the_marks_alone():
    ids = PIECES.encode(SENTENCES[0])
    assert len(ids) < len(SENTENCES[0])
    assert min(ids) > 2
    assert PIECES.labels[:3] == ("", "<s>", "</s>")
    assert len(PIECES.labels) == 60


@pytest.mark.parametrize(
    ("size", "texts", "reason"),
    [
        (1, SENTENCES, "letters take 31"),
        (30, SENTENCES, "letters take 31"),
        (5000, SENTENCES, r"they give at most \d+"),
        (40, ["12", ""], "there are none"),
    ],
)
def test_a_vocabulary_that_the_texts_do_not_give(size, texts, reason):
    with pytest.raises(ConfigError, match=f"vocab_size={size}.*: {reason}"):
        learn(size, texts)


@pytest.fixture
def subword_run(tones, tmp_path) -> Path:
    Trainer(config_of(tones, steps=2, vocab_size=33, **JOINT), tmp_path).run()
    return tmp_path


def test_a_run_learns_its_subwords_once_and_saves_them(tones, subword_run):
    before = (subword_run / "tokenizer.model").read_bytes()
    model = load_checkpoint(subword_run / "checkpoint")
    assert model.encoder.config.vocab_size == len(model.tokens.labels) == 33
    assert (model.decoder.config.bos, model.decoder.config.eos) == (1, 2)
    assert (subword_run / "checkpoint" / "tokenizer.model").read_bytes() == before
    for utterance, text in zip(read_manifest(tones), TEXTS, strict=True):
        assert model.tokens.decode(model.tokens.encode(utterance.text)) == text

    said = tones.parent / "other.jsonl"
    said.write_text(tones.read_text().replace('"text": "ab"', '"text": "ab ab ab ab"'))
    trainer = Trainer(config_of(said, steps=3, vocab_size=33, **JOINT), subword_run)
    trainer.run()
    assert trainer.tokens.labels == model.tokens.labels, "other texts change nothing any more"
    assert trainer.step == 3


def test_another_vocabulary_needs_another_folder(tones, subword_run):
    with pytest.raises(ConfigError, match="33 tokens, not vocab_size=34"):
        Trainer(config_of(tones, vocab_size=34, **JOINT), subword_run)
    with pytest.raises(ConfigError, match=r"state\.pt"):
        Trainer(config_of(tones, **JOINT), subword_run)


def test_a_joint_model_of_the_published_size_is_as_large_as_the_published_one(monkeypatch):
    monkeypatch.setattr(train_learner, "CONFIGS", CONFIGS)
    tokens = SentencePieceTokens(learn(60, SENTENCES))
    config = TrainConfig(manifests=("m",), ctc_weight=0.3)
    learner = Learner(config, tokens, torch.device("cpu"))
    V, D = 5000 - 60, 144  # embedding, CTC head and output grow with the vocabulary
    assert sum(p.numel() for p in learner.parameters) + V * D + 2 * V * (D + 1) == 7_924_832


def test_what_a_batch_says_is_the_same_for_ctc_and_attention(tones, tmp_path):
    trainer = Trainer(config_of(tones, **JOINT), tmp_path)
    batch = batch_of(trainer)
    said, following, lengths = losses._texts(batch, 0, 0)
    assert said.shape == following.shape == (8, losses.TEXT_STEP)
    for row, then, length, text in zip(said, following, lengths, TEXTS, strict=True):
        ids = trainer.tokens.encode(text)
        assert row[:length].tolist() == [0, *ids]
        assert then[:length].tolist() == [*ids, 0]
