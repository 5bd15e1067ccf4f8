"""The options of the search at the command line, with a model that hears one sentence."""

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from heard import spelled
from stand_ins import noise, tiny_checkpoint

from hyperasr import cli
from hyperasr.listener import Listener
from hyperasr.tokens import CharTokens
from hyperasr.transcript import Segment, Transcript, Word
from hyperasr.writers import mark_doubtful

DATA = Path(__file__).parent / "data"
ARPA = DATA / "harbour.3.arpa.gz"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    return noise(tmp_path_factory.mktemp("audio") / "a.wav", seconds=2.0)


@pytest.fixture
def hyperasr(model, audio, monkeypatch, capfd):
    """Run `hyperasr transcribe` on a sound that may be "ancher" or "anchor"."""
    said = spelled("who saw the ancher", CharTokens().labels, {16: ("o", 0.4)})
    monkeypatch.setattr(Listener, "hear", lambda self, waveforms: [said for _ in waveforms])

    def run(*options):
        arguments = ["transcribe", audio, "-m", model, "--device", "cpu", *options]
        monkeypatch.setattr(sys, "argv", ["hyperasr", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        result = capfd.readouterr()
        return end.value.code or 0, result.out, result.err

    return run


def test_a_language_model_is_listened_to(hyperasr):
    assert hyperasr() == (0, "who saw the ancher\n", "")
    assert hyperasr("--lm", ARPA) == (0, "who saw the anchor\n", "")
    assert hyperasr("--lm", "none") == (0, "who saw the ancher\n", "")


def test_language_and_search_can_be_weighed(hyperasr):
    weightless = hyperasr("--lm", ARPA, "--alpha", 0, "--beta", 0, "--beam-size", 8)
    assert weightless == (0, "who saw the anchor\n", "")  # unknown words still cost
    assert hyperasr("--beam-size", 1) == (0, "who saw the ancher\n", "")


def test_hotwords_are_typed_with_commas_or_repeated_or_read_from_a_file(hyperasr, tmp_path):
    (tmp_path / "names.txt").write_text("\ufeffThe Anchor\n\n  saw \n", encoding="utf-8")
    for options in (
        ["--hotwords", "the anchor,saw"],
        ["--hotwords", "the anchor", "--hotwords", "saw"],
        ["--hotwords-file", tmp_path / "names.txt"],
        ["--hotwords", "Saw", "--hotwords-file", tmp_path / "names.txt"],
    ):
        code, out, err = hyperasr(*options)
        assert (code, out) == (0, "who saw the anchor\n")
        assert err.endswith("a.wav: hotwords heard: saw (1), the anchor (1)\n")


def test_hotwords_that_are_not_heard_or_weigh_nothing(hyperasr):
    assert hyperasr("--hotwords", "zebra")[2].endswith("a.wav: no hotword heard\n")
    code, out, _ = hyperasr("--hotwords", "anchor", "--hotword-weight", 0)
    assert (code, out) == (0, "who saw the ancher\n")
    assert hyperasr("--hotwords", "anchor", "--quiet")[2] == ""
    assert hyperasr("--hotwords", " , ") == (0, "who saw the ancher\n", "")


def test_json_has_alternatives_and_hotwords_where_asked(hyperasr):
    document = json.loads(hyperasr("-f", "json", "--nbest", 3, "--hotwords", "saw")[1])
    (segment,) = document["segments"]
    texts = [found["text"] for found in segment["nbest"]]
    assert texts[0] == segment["text"] == "who saw the ancher"
    assert "who saw the anchor" in texts
    scores = [found["score"] for found in segment["nbest"]]
    assert scores == sorted(scores, reverse=True)
    assert segment["hotwords"] == ["saw"]
    assert all(0 <= word["probability"] <= 1 for word in segment["words"])
    (segment,) = json.loads(hyperasr("-f", "json")[1])["segments"]
    assert not {"nbest", "hotwords"} & segment.keys()


def test_words_have_times_with_a_language_model_too(hyperasr):
    plain, corrected = (
        [
            (word["start"], word["end"])
            for word in json.loads(hyperasr("-f", "json", *lm)[1])["segments"][0]["words"]
        ]
        for lm in ([], ["--lm", ARPA])
    )
    assert plain == corrected
    assert np.diff(plain).min() > 0


@pytest.mark.parametrize("content", [None, b"", b"hello", b"\x1f\x8b\x08broken"])
def test_a_language_model_that_cannot_be_loaded_exits_3(hyperasr, tmp_path, content):
    path = tmp_path / "lm.arpa"
    if content is not None:
        path.write_bytes(content)
    code, out, err = hyperasr("--lm", path)
    assert (code, out) == (3, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("hyperasr: ")
    assert "lm.arpa" in err


@pytest.mark.parametrize(
    "options",
    [
        ["--beam-size", "1", "--lm", str(ARPA)],
        ["--beam-size", "1", "--hotwords", "ann"],
        ["--beam-size", "1", "--nbest", "2"],
        ["--alpha", "inf"],
        ["--beta", "inf"],
        ["--hotwords", "ann", "--hotword-weight", "inf"],
        ["--hotwords", "mp3"],
    ],
)
def test_options_that_contradict_each_other_are_one_line_and_exit_2(hyperasr, options):
    code, out, err = hyperasr(*options)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("hyperasr: ")


@pytest.mark.parametrize(
    "options",
    [
        ["--beam-size", "0"],
        ["--beam-size", "many"],
        ["--nbest", "0"],
        ["--alpha", "-1"],
        ["--beta", "x"],
        ["--hotword-weight", "-2"],
        ["--hotwords-file", "none.txt"],
        ["--hotwords-file", "."],
        ["--hotwords-file", "latin.txt"],
    ],
)
def test_options_that_are_mistyped_exit_2_and_are_named(hyperasr, tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin.txt").write_bytes("größe".encode("latin-1"))
    code, out, err = hyperasr(*options)
    assert (code, out) == (2, "")
    assert options[0] in err
    assert "Traceback" not in err


def test_doubtful_words_are_marked_for_people_and_not_in_json():
    words = (Word("sure", 0.0, 0.5, 0.9), Word("perhaps", 0.5, 1.0, 0.4))
    transcript = Transcript("a.wav", 1.0, (Segment(0.0, 1.0, words),))
    marked = mark_doubtful(transcript, 0.5)
    assert marked.text == "sure [perhaps?]"
    assert mark_doubtful(transcript, 0.0) is transcript


def test_help_shows_how_doubtful_words_are_marked(hyperasr):
    assert "[word?]" in hyperasr("--help")[1]


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("gone.arpa", "no such file or directory: name an ARPA file, a KenLM binary or none"),
        ("half.arpa", "copy or build it again"),
    ],
)
def test_a_language_model_that_cannot_be_opened_says_what_to_do(
    hyperasr, tmp_path, name, complaint
):
    whole = gzip.decompress(ARPA.read_bytes())
    (tmp_path / "half.arpa").write_bytes(whole[: len(whole) // 2])
    code, out, err = hyperasr("--lm", tmp_path / name)
    assert (code, out) == (3, "")
    assert name in err
    assert err.endswith(f"{complaint}\n")
