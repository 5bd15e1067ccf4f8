"""What a user asks for and what a checkpoint brings -> a decoder."""

import gzip
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from heard import spelled
from stand_ins import tiny_checkpoint

from hyperasr.checkpoint import load_checkpoint
from hyperasr.decoder import DecoderSettings
from hyperasr.decoding import DecodingOptions, build_decoder
from hyperasr.errors import CheckpointError, ConfigError, LanguageModelError
from hyperasr.tokens import CharTokens

DATA = Path(__file__).parent / "data"
ARPA = str(DATA / "harbour.3.arpa.gz")
DOUBTFUL = {16: ("o", 0.4)}
"""Which letter of "who saw the ancher" may be another."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A checkpoint without a language model."""
    return load_checkpoint(tiny_checkpoint(tmp_path_factory.mktemp("plain") / "tiny"))


@pytest.fixture(scope="module")
def with_ngram(plain):
    """One that has its own and says how to search."""
    return replace(plain, ngram=Path(ARPA), decoding=DecoderSettings(32, 0.7, 1.5, -9.0))


@pytest.fixture
def said():
    return []


def text(decoder):
    log_probs = spelled("who saw the ancher", decoder.labels, DOUBTFUL)
    return decoder(log_probs).text


def test_a_checkpoint_without_a_language_model_is_searched_without(plain, said):
    decoder = build_decoder(plain, DecodingOptions(), said.append)
    assert decoder.settings == DecoderSettings()
    assert text(decoder) == "who saw the ancher"
    assert said == []


def test_the_checkpoints_own_language_model_and_weights_are_taken(with_ngram, said):
    decoder = build_decoder(with_ngram, DecodingOptions(), said.append)
    assert decoder.settings == DecoderSettings(32, 0.7, 1.5, -9.0)
    assert text(decoder) == "who saw the anchor"
    assert said == []


def test_what_a_user_asks_for_goes_before_what_the_checkpoint_says(with_ngram, said):
    options = DecodingOptions(beam_size=8, alpha=0.0, beta=-1.0, nbest=4)
    decoder = build_decoder(with_ngram, options, said.append)
    assert decoder.settings == DecoderSettings(8, 0.0, -1.0, -9.0, 4)
    assert text(build_decoder(with_ngram, DecodingOptions(lm="none"), said.append)).endswith("er")
    assert said == []


def test_a_language_model_can_be_named(plain, said):
    assert text(build_decoder(plain, DecodingOptions(lm=ARPA), said.append)).endswith("anchor")
    assert said == []


def test_a_binary_without_its_words_is_said_to_be_one(plain, said, monkeypatch):
    loaded = type("Binary", (), {"has_vocabulary": False})
    monkeypatch.setattr("hyperasr.decoding.load_ngram", lambda *_: loaded())
    build_decoder(plain, DecodingOptions(lm="big.binary"), said.append)
    assert "unigrams.txt" in said[0]


def test_without_kenlm_the_checkpoints_own_model_is_left_out_and_one_asked_for_refused(
    with_ngram, said, monkeypatch
):
    monkeypatch.setitem(sys.modules, "kenlm", None)
    assert text(build_decoder(with_ngram, DecodingOptions(), said.append)).endswith("ancher")
    assert len(said) == 1
    assert "pip install kenlm" in said[0]
    with pytest.raises(LanguageModelError, match="pip install kenlm"):
        build_decoder(with_ngram, DecodingOptions(lm=ARPA), said.append)
    build_decoder(with_ngram, DecodingOptions(lm="none"), said.append)
    assert len(said) == 1


def test_a_damaged_model_of_the_checkpoint_is_not_passed_over(plain, said, tmp_path):
    (tmp_path / "lm.arpa").write_text("half a file")
    with pytest.raises(LanguageModelError, match=r"lm\.arpa"):
        build_decoder(replace(plain, ngram=tmp_path / "lm.arpa"), DecodingOptions(), said.append)


@pytest.mark.parametrize(
    "options",
    [
        DecodingOptions(beam_size=1, lm=ARPA),
        DecodingOptions(beam_size=1, hotwords=("ann",)),
        DecodingOptions(beam_size=1, nbest=2),
    ],
)
def test_what_needs_a_beam_is_refused_without_one(plain, said, options):
    with pytest.raises(ConfigError, match="beam"):
        build_decoder(plain, options, said.append)


def test_the_best_path_alone_needs_no_language_model(with_ngram, said):
    decoder = build_decoder(with_ngram, DecodingOptions(lm="none", beam_size=1), said.append)
    assert text(decoder) == "who saw the ancher"
    assert text(build_decoder(with_ngram, DecodingOptions(beam_size=1), said.append)).endswith("er")


@pytest.mark.parametrize(
    ("typed", "written"),
    [
        ("Ann", "ann"),
        ("O\u2019Brien", "o'brien"),
        ("Zo\u00eb", "zoe"),
        ("rock-n-roll", "rock n roll"),
        ("Rhein / Main", "rhein main"),
    ],
)
def test_hotwords_are_spelled_as_the_model_writes(plain, said, typed, written):
    decoder = build_decoder(plain, DecodingOptions(hotwords=(typed,)), said.append)
    assert decoder.hotwords.heard(written.split()) == (written,)


@pytest.mark.parametrize(
    ("typed", "named"),
    [("mp3", "'3'"), ("Straße", "'ß'"), ("\u6771\u4eac", "\u6771"), ("---", "none of its letters")],
)
def test_hotwords_that_cannot_be_spelled_are_refused_by_name(plain, said, typed, named):
    with pytest.raises(ConfigError, match=named) as caught:
        build_decoder(plain, DecodingOptions(hotwords=("ann", typed)), said.append)
    assert repr(typed) in str(caught.value)


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_a_hotword_weight_that_is_no_number_is_refused(weight):
    with pytest.raises(ConfigError, match="hotword_weight"):
        DecodingOptions(hotword_weight=weight)


@pytest.mark.parametrize("wrong", [{"beam_size": 0}, {"alpha": float("nan")}, {"nbest": 0}])
def test_settings_that_search_for_nothing_are_refused(plain, said, wrong):
    with pytest.raises(ConfigError):
        build_decoder(plain, DecodingOptions(**wrong), said.append)


def with_decoding(folder, decoding):
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["decoding"] = decoding
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def test_a_checkpoint_folder_holds_a_language_model_and_settings(tmp_path, said):
    folder = with_decoding(tiny_checkpoint(tmp_path / "tiny"), {"alpha": 0.4, "beam_size": 16})
    shutil.copy(ARPA, folder / "lm.arpa.gz")
    checkpoint = load_checkpoint(folder)
    assert checkpoint.ngram == folder / "lm.arpa.gz"
    assert checkpoint.decoding == DecoderSettings(beam_size=16, alpha=0.4)
    assert text(build_decoder(checkpoint, DecodingOptions(), said.append)).endswith("anchor")
    (folder / "lm.arpa").write_bytes(gzip.decompress(Path(ARPA).read_bytes()))
    assert load_checkpoint(folder).ngram == folder / "lm.arpa"  # it opens faster


@pytest.mark.parametrize("decoding", [{"beam": 3}, {"beam_size": 0}, {"alpha": "much"}, [1], None])
def test_settings_of_a_checkpoint_that_are_not_understood_are_refused(tmp_path, decoding):
    folder = with_decoding(tiny_checkpoint(tmp_path / "tiny"), decoding)
    with pytest.raises(CheckpointError, match="decoding"):
        load_checkpoint(folder)


def test_labels_of_the_stand_in_are_those_of_the_model(plain):
    assert plain.tokens.labels == CharTokens().labels
