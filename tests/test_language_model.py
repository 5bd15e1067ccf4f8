"""The n-gram as the decoder asks it: the answers of KenLM, and bad files told in one line."""

import gzip
import shutil
import subprocess
import sys
from pathlib import Path

import kenlm
import pytest

from hyperasr.errors import LanguageModelError
from hyperasr.language_model import LOG_10, load_ngram

DATA = Path(__file__).parent / "data"
LETTERS = "'abcdefghijklmnopqrstuvwxyz"
SENTENCES = (DATA / "harbour.txt").read_text(encoding="utf-8").splitlines()[:40]


@pytest.fixture(scope="module")
def arpa(tmp_path_factory):
    path = tmp_path_factory.mktemp("lm") / "harbour.arpa"
    path.write_bytes(gzip.decompress((DATA / "harbour.3.arpa.gz").read_bytes()))
    return path


@pytest.fixture(scope="module")
def binary(arpa, tmp_path_factory):
    """A KenLM binary, in a folder without its words."""
    program = shutil.which("build_binary")
    if program is None:
        pytest.skip("needs KenLM's build_binary on the PATH")
    path = tmp_path_factory.mktemp("binary") / "lm.binary"
    subprocess.run([program, "trie", arpa, path], check=True, capture_output=True)
    return path


def score(ngram, sentence):
    """Log-probability of a sentence, its end included."""
    state, total = ngram.start(), 0.0
    for word in sentence.split():
        gain, state = ngram.score(state, word)
        total += gain
    return total + ngram.end(state)


def check_scores(ngram, path):
    judge = kenlm.Model(str(path))
    for sentence in [*SENTENCES, "", "the zebra", "zebra zebra"]:
        assert score(ngram, sentence) == pytest.approx(judge.score(sentence) * LOG_10, abs=1e-4)


def refusal(path, letters=LETTERS):
    """What is said about a file that cannot be used; always one line that names it."""
    with pytest.raises(LanguageModelError) as caught:
        load_ngram(path, letters)
    message = str(caught.value)
    assert path.name in message
    assert len(message.splitlines()) == 1
    return message


def test_an_arpa_file_is_scored_as_kenlm_scores_it(arpa):
    ngram = load_ngram(arpa, LETTERS)
    assert ngram.order == 3
    check_scores(ngram, arpa)


def test_a_compressed_arpa_file_is_the_same_and_leaves_nothing_behind(arpa, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    check_scores(load_ngram(DATA / "harbour.3.arpa.gz", LETTERS), arpa)
    assert list(tmp_path.iterdir()) == []


def test_a_text_can_be_scored_from_one_state_in_two_ways(arpa):
    """The beams share states: a score must not change the one that it starts from."""
    ngram = load_ngram(arpa)
    _, state = ngram.score(ngram.start(), "the")
    first = ngram.score(state, "harbour")[0]
    ngram.score(state, "boat")
    assert ngram.score(state, "harbour")[0] == first


def test_the_vocabulary_is_that_of_the_file_without_markers(arpa):
    ngram = load_ngram(arpa, LETTERS)
    assert ngram.has_vocabulary
    assert ngram.knows("harbour")
    assert not any(ngram.knows(word) for word in ("zebra", "<s>", "</s>", "<unk>", ""))


def test_beginnings_of_words_are_told_from_letters_that_begin_none(arpa):
    ngram = load_ngram(arpa)
    assert all(ngram.begins("harbour"[:n]) for n in range(8))
    assert not any(ngram.begins(letters) for letters in ("harbourx", "hx", "zzz", "<"))


def test_a_binary_is_scored_as_kenlm_scores_it(binary):
    check_scores(load_ngram(binary, LETTERS), binary)


def test_a_binary_without_its_words_knows_them_but_not_their_beginnings(binary):
    ngram = load_ngram(binary, LETTERS)
    assert not ngram.has_vocabulary
    assert ngram.knows("harbour")
    assert not ngram.knows("zebra")
    assert ngram.begins("zzz")


def test_the_words_of_a_binary_stand_beside_it(binary, tmp_path):
    path = shutil.copy(binary, tmp_path / "lm.binary")
    (tmp_path / "unigrams.txt").write_text("harbour\nthe\nboat\n", encoding="utf-8")
    ngram = load_ngram(path, LETTERS)
    assert ngram.has_vocabulary
    assert ngram.begins("harb")
    assert not ngram.begins("zzz")
    (tmp_path / "unigrams.txt").write_bytes("größe\n".encode("latin-1"))
    with pytest.raises(LanguageModelError, match=r"unigrams\.txt is no list of words in UTF-8"):
        load_ngram(path, LETTERS)


def test_half_a_binary_is_refused(binary, tmp_path):
    blob = binary.read_bytes()
    for size in (40, 100, len(blob) // 2):
        (tmp_path / "half.binary").write_bytes(blob[:size])
        assert "KenLM cannot read it" in refusal(tmp_path / "half.binary")


@pytest.mark.parametrize("share", [0.01, 0.04, 0.3, 0.6, 0.99])
def test_half_an_arpa_file_is_refused(arpa, tmp_path, share):
    blob = arpa.read_bytes()
    (tmp_path / "half.arpa").write_bytes(blob[: int(share * len(blob))])
    assert "KenLM cannot read it" in refusal(tmp_path / "half.arpa")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello, I am a letter\n" * 50,
        bytes(range(256)) * 50,
        b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(1000),
        "\\data\\\n\\1-grams:\n-1.0\tgröße\n".encode("latin-1"),
        b"\\data\\\nngram 1=1\n\n\\1-grams:\nno tab here\n",
        b"\\data\\\nngram 1=0\n\n\\1-grams:\n\n\\end\\\n",
    ],
    ids=["empty", "text", "bytes", "sound", "latin-1", "no tab", "no words"],
)
def test_what_is_no_model_is_refused(tmp_path, content):
    (tmp_path / "lm.arpa").write_bytes(content)
    refusal(tmp_path / "lm.arpa")


def test_a_missing_file_or_a_folder_is_refused(tmp_path):
    assert "no such file" in refusal(tmp_path / "none.arpa")
    assert "is a directory" in refusal(tmp_path)


@pytest.mark.parametrize("at", [2, 12, 50, 10_000, -5, -1])
def test_a_damaged_gzip_is_refused(tmp_path, at):
    blob = bytearray((DATA / "harbour.3.arpa.gz").read_bytes())
    blob[at] ^= 255
    (tmp_path / "lm.arpa.gz").write_bytes(blob)
    assert "damaged" in refusal(tmp_path / "lm.arpa.gz")


def test_half_a_gzip_is_refused(tmp_path):
    blob = (DATA / "harbour.3.arpa.gz").read_bytes()
    (tmp_path / "lm.arpa.gz").write_bytes(blob[: len(blob) // 2])
    assert "damaged" in refusal(tmp_path / "lm.arpa.gz")


def test_a_gzip_of_something_else_is_refused(tmp_path):
    (tmp_path / "lm.arpa.gz").write_bytes(gzip.compress(b"hello\n"))
    assert "neither an ARPA file nor a KenLM binary" in refusal(tmp_path / "lm.arpa.gz")


def test_a_model_in_the_other_case_is_refused(arpa, tmp_path):
    upper = arpa.read_text(encoding="utf-8").upper()
    for marker in ("<S>", "</S>", "<UNK>"):
        upper = upper.replace(marker, marker.lower())
    upper = upper.replace("\\DATA\\", "\\data\\").replace("-GRAMS", "-grams")
    upper = upper.replace("\\END\\", "\\end\\").replace("NGRAM", "ngram")
    (tmp_path / "upper.arpa").write_text(upper, encoding="utf-8")
    assert "cannot be spelled with the model's letters" in refusal(tmp_path / "upper.arpa")
    assert load_ngram(tmp_path / "upper.arpa", LETTERS.upper()).knows("HARBOUR")
    assert load_ngram(tmp_path / "upper.arpa").knows("HARBOUR")  # where no letters are given


def test_a_few_words_that_cannot_be_spelled_are_no_reason(arpa):
    assert load_ngram(arpa, LETTERS.replace("'", "")).knows("harbour")


def test_without_kenlm_it_is_said_how_to_get_it(arpa, monkeypatch):
    monkeypatch.setitem(sys.modules, "kenlm", None)
    with pytest.raises(LanguageModelError, match="pip install kenlm"):
        load_ngram(arpa)
