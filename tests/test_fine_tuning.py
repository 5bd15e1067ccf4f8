"""Training that goes on from a checkpoint: vocabulary kept or extended, statistics kept."""

import json

import pytest
import torch
from stand_ins import tiny_checkpoint
from training import PLAIN, check_same, config_of, evaluations
from training import tiny_models as tiny_models
from training import tones as tones
from typer.testing import CliRunner

from hyperasr.attention_decoder import AttentionDecoder, AttentionDecoderConfig
from hyperasr.checkpoint import load_checkpoint, save_checkpoint
from hyperasr.cli import app
from hyperasr.errors import CheckpointError, ConfigError
from hyperasr.tokens import ENGLISH, CharTokens, SentencePieceTokens
from hyperasr.train.config import TrainConfig, load_config
from hyperasr.train.evaluate import Evaluation
from hyperasr.train.loop import Trainer
from hyperasr.train.vocabulary import add_letters, extend, learn

DECODER = AttentionDecoderConfig(29, 16, n_layers=1, n_heads=2, d_ffn=32, bos=0, eos=0)


@pytest.fixture
def base(tmp_path):
    """A checkpoint whose weights and statistics are like no new model's."""
    torch.manual_seed(1)
    folder = tiny_checkpoint(tmp_path / "base", decoder=AttentionDecoder(DECODER))
    found = load_checkpoint(folder)
    found.features.mean.fill_(-30.0)
    found.features.std.fill_(12.0)
    save_checkpoint(folder, found.encoder, found.features, found.tokens, decoder=found.decoder)
    return folder


def test_a_run_begins_with_all_of_the_checkpoint(tones, tmp_path, base):
    known = load_checkpoint(base)
    config = config_of(tones, init=str(base), model="huge", ctc_weight=0.3, dropout=0.2)
    learner = Trainer(config, tmp_path / "run").learner
    assert learner.encoder.config.dropout == learner.decoder.config.dropout == 0.2
    assert torch.equal(learner.features.mean, known.features.mean)
    assert torch.equal(learner.features.std, known.features.std)
    for ours, theirs in ((learner.encoder, known.encoder), (learner.decoder, known.decoder)):
        assert all(
            torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True)
        )
        assert all(p.requires_grad for p in ours.parameters())


def test_more_letters_get_rows_behind_the_known_ones(tones, tmp_path, base):
    known = load_checkpoint(base)
    config = config_of(tones, init=str(base), letters="äÖa", ctc_weight=0.3, steps=1)
    said = []
    trainer = Trainer(config, tmp_path / "run", say=said.append)
    assert trainer.tokens.labels == (*known.tokens.labels, "ä", "ö")
    assert "its 29 tokens and 2 more" in said[-1]
    for ours, theirs in (
        (trainer.learner.encoder.ctc, known.encoder.ctc),
        (trainer.learner.decoder.output, known.decoder.output),
        (trainer.learner.decoder.embedding, known.decoder.embedding),
    ):
        assert ours.weight.shape == (31, 16)
        assert torch.equal(ours.weight[:29], theirs.weight)
        assert ours.weight[29:].abs().amax() > 0
    trainer.run()
    saved = load_checkpoint(tmp_path / "run" / "checkpoint")
    assert saved.tokens.encode("Öä") == [30, 29]


def test_the_checkpoint_is_evaluated_first_and_kept_if_nothing_is_better(tones, tmp_path, base):
    config = config_of(tones, init=str(base), dev=str(tones), steps=4, first_speakers=())
    trainer = Trainer(config, tmp_path / "run")
    wers = iter([0.3, 0.5, 0.4, 0.6])
    trainer._score_dev = lambda encoder, dev: Evaluation(trainer.step, next(wers), {})
    trainer.run()
    assert evaluations(tmp_path / "run")[0] == (0, 0.3)
    best, first = load_checkpoint(tmp_path / "run" / "best"), load_checkpoint(base)
    assert torch.equal(best.encoder.ctc.weight, first.encoder.ctc.weight.half().float())


def test_a_run_that_is_stopped_and_resumed_ends_as_if_it_was_not(tones, tmp_path, base):
    config = config_of(tones, init=str(base), dev=str(tones), letters="é", **PLAIN)
    Trainer(config, tmp_path / "whole").run()
    for stop in (2, 7):
        trainer = Trainer(config, tmp_path / "cut")
        trainer.run(stop=lambda trainer=trainer, stop=stop: trainer.step == stop)
    Trainer(config, tmp_path / "cut").run()
    check_same(tmp_path / "cut", tmp_path / "whole")
    assert evaluations(tmp_path / "cut") == evaluations(tmp_path / "whole")


def test_a_decoder_that_is_left_behind_is_told(tones, tmp_path, base):
    said = []
    trainer = Trainer(config_of(tones, init=str(base)), tmp_path / "run", say=said.append)
    assert trainer.learner.decoder is None
    assert "attention decoder is left behind" in said[-1]


def test_what_does_not_fit_the_checkpoint_is_refused(tones, tmp_path, base):
    with pytest.raises(ConfigError, match="has 29 tokens: leave vocab_size away"):
        Trainer(config_of(tones, init=str(base), vocab_size=100), tmp_path / "run")
    with pytest.raises(CheckpointError):
        Trainer(config_of(tones, init=str(tmp_path / "none")), tmp_path / "run")


def test_a_path_in_a_settings_file_is_relative_to_it_and_a_name_is_a_name(tmp_path):
    path = tmp_path / "mine.toml"
    for value, expected in (("../a/b", str(tmp_path / "../a/b")), ("ours", "ours")):
        path.write_text(f'manifests = ["m"]\ninit = "{value}"')
        assert load_config(path, {}).init == expected


# -- vocabularies -------------------------------------------------------------------------


def test_letters_are_added_once_and_in_the_alphabets_case():
    assert add_letters(ENGLISH, " Äab\u0061\u0308 ß") == f"{ENGLISH}äß"
    assert add_letters("AB ", "äc") == "AB äc"
    with pytest.raises(ConfigError, match="letters"):
        add_letters(ENGLISH, "a\u0301\u0000")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ärger", "ärger"),
        ("A\u0308rger", "ärger"),
        ("Éclair", "eclair"),
        ("Straße, ™", "straße tm"),
    ],
)
def test_a_letter_that_was_added_keeps_its_accent_and_others_lose_theirs(text, expected):
    tokens = CharTokens(add_letters(ENGLISH, "äß"))
    assert tokens.decode(tokens.encode(text)) == expected


def test_subwords_cannot_be_extended_but_may_be_kept():
    tokens = SentencePieceTokens(learn(31, ["the quick brown fox", "jumps over the lazy dog"]))
    config = TrainConfig(manifests=("m",), init="x", letters="abc")
    assert extend(tokens, config) is tokens
    for letters in "1ßäÉ":  # also those that a text would lose an accent of
        with pytest.raises(ConfigError, match="subwords of x cannot be extended"):
            extend(tokens, TrainConfig(manifests=("m",), init="x", letters=letters))


def test_new_subwords_can_spell_more_letters():
    tokens = SentencePieceTokens(learn(33, ["über den fluß"], add_letters(ENGLISH, "üß")))
    assert tokens.decode(tokens.encode("Über Flüße")) == "über flüße"


def test_the_command_takes_settings_that_suit_a_known_model(tones, tmp_path, base):
    command = ["train", "--init", base, "--manifest", tones, "-o", tmp_path / "run", "--steps", "1"]
    result = CliRunner().invoke(app, [str(part) for part in command])
    assert result.exit_code == 0, result.output
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    expected = load_config(None, {"manifests": ["m"]}, "fine-tune")
    assert settings["learning_rate"] == expected.learning_rate
    other = CliRunner().invoke(app, [*map(str, command), "--model", "tiny"])
    assert other.exit_code == 2
