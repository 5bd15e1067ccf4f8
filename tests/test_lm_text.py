"""Texts become the sentences of the recogniser, and no word goes missing untold."""

import gzip
import json
import lzma
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperasr.errors import TextError
from hyperasr.lm import text as reading
from hyperasr.lm.text import Speller, Tally, sentences
from hyperasr.tokens import CharTokens

NORMALISE = CharTokens().normalise


def read(*paths, normalise=NORMALISE, tally=None):
    blocks = sentences(paths, normalise, tally or Tally())
    return b"".join(blocks).decode().splitlines()


@pytest.mark.parametrize(
    ("written", "spelled"),
    [
        ("“Don\u2019t”, she said.", "don't she said"),
        ("A well-known café — of course!", "a well known cafe of course"),
        ("In 1865 they met", "in <unk> they met"),
        ("the 2nd of May", "the <unk> of may"),
        ("das Straßenfest", "das <unk>"),
        ("cost £5, not $ 6", "cost <unk> not <unk>"),
        ("rock & roll", "rock roll"),
        ("a <unk> b", "a <unk> b"),
        ("1865", ""),
        ("* * *", ""),
        ("", ""),
    ],
)
def test_how_a_line_is_spelled(written, spelled):
    assert Speller(NORMALISE, Tally())(written) == spelled


@given(st.text())
def test_what_is_spelled_has_only_letters_of_the_alphabet_and_gaps(line):
    spelled = Speller(NORMALISE, Tally())(line)
    words = spelled.split()
    assert spelled == " ".join(words)
    assert all(word == "<unk>" or set(word) <= set(CharTokens().alphabet) for word in words)
    if line.isascii() and line.replace(" ", "").isalpha():
        assert spelled == line.lower().strip() or "  " in line


def test_the_tally_says_what_could_not_be_written(tmp_path):
    (tmp_path / "a.txt").write_text("In 1865\n\n***\n2 men and 2 <s> boats 1 2 3 4 5 6\n")
    tally = Tally()
    assert read(tmp_path / "a.txt", tally=tally) == [
        "in <unk>",
        "<unk> men and <unk> boats" + 6 * " <unk>",
    ]
    assert str(tally) == (
        "9 words cannot be written with these letters (1865, 2, 1, 3, 4, ...); "
        "2 of 4 lines have no words; 1 <s> or </s> in the text were read as blanks"
    )
    assert str(Tally(lines=3)) == ""


def test_words_stay_as_they_stand_without_normalising(tmp_path):
    (tmp_path / "a.txt").write_bytes("Été 1865\n\n<unk> </s>\0Bye\n".encode())
    assert read(tmp_path / "a.txt", normalise=None) == ["Été 1865", "", "<unk>   Bye"]


def test_every_kind_of_file(tmp_path, monkeypatch):
    text = b"one two\nthree\n"
    manifest = "".join(json.dumps({"text": line}) + "\n" for line in ("one\ntwo", "three"))
    files = {
        "a.txt": text,
        "bom.txt": b"\xef\xbb\xbf" + text,
        "crlf.txt": text.replace(b"\n", b"\r\n"),
        "no newline.txt": text[:-1],
        "a.txt.gz": gzip.compress(text),
        "a.xz": lzma.compress(text),
        "a.jsonl": manifest.encode(),
        "a.jsonl.gz": gzip.compress(manifest.encode() + b"\n"),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        assert read(tmp_path / name) == ["one two", "three"], name
    with (tmp_path / "a.txt").open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert read(Path("-")) == ["one two", "three"]


def test_the_length_of_blocks_changes_nothing(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("".join(f"line {'x' * n}\n" for n in range(30)) + "end")
    whole = read(tmp_path / "a.txt")
    monkeypatch.setattr(reading, "BLOCK", 7)
    assert read(tmp_path / "a.txt") == whole
    assert whole[-1] == "end"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("latin.txt", b"one\ntwo\ncaf\xe9\n", r"latin\.txt, line 3: not UTF-8: convert the file"),
        ("half.gz", gzip.compress(b"one\n" * 99)[:-9], r"half\.gz: damaged compressed data"),
        ("no.gz", b"one\n", r"no\.gz: damaged compressed data"),
        ("half.xz", lzma.compress(b"one\n" * 99)[:-9], r"half\.xz: damaged compressed data"),
        ("no.xz", b"one\n", r"no\.xz: damaged compressed data"),
        ("a.jsonl", b'{"text": "a"}\n{"text": 3}\n', r'a\.jsonl, line 2: "text" is missing or no'),
        ("b.jsonl", b'{"text": "a"}\n\n{"text"\n', r"b\.jsonl, line 3: not a JSON object"),
        ("c.jsonl", b"\xff\n", r"c\.jsonl, line 1: not a JSON object"),
        ("d.jsonl", b"[" * 5000 + b"\n", r"d\.jsonl, line 1: not a JSON object"),
    ],
)
def test_damage_is_named(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(TextError, match=message):
        read(tmp_path / name)


def test_files_that_cannot_be_opened_are_named(tmp_path):
    with pytest.raises(TextError, match=r"nowhere\.txt: no such file: give a text file"):
        read(tmp_path / "nowhere.txt")
    with pytest.raises(TextError, match="is a directory: give a text file"):
        read(tmp_path)
