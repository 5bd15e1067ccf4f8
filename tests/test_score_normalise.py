"""What counts as an error and what is a way of writing."""

import builtins
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperasr.errors import ConfigError
from hyperasr.score.normalise import NAMES, basic, librispeech, normaliser


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("Don't — 'STOP'!", "don't stop"),
        ("twenty-one\tcats,\n3.5", "twenty one cats 3 5"),
        ("O\u2019Brien`s rock \u2019n\u2019 roll", "o'brien's rock n roll"),
        ("\uff21\uff22 ﬁne soft\u00adly ze\u0301ro", "ab fine softly zéro"),
        ("हिन्दी में", "हिन्दी में"),
        ("كـتـب،", "كتب"),
        ("?! …", ""),
        ("", ""),
    ],
)
def test_basic(written, expected):
    assert basic(written) == unicodedata.normalize("NFKC", expected)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("'Tis the café\u2019s.", "'TIS THE CAFE'S"),
        ("the dogs' bowl - '", "THE DOGS' BOWL"),
        ("Straße 9", "STRASSE 9"),
    ],
)
def test_librispeech(written, expected):
    assert librispeech(written) == expected


@given(st.text())
def test_normalising_twice_changes_nothing_and_leaves_single_spaces(text):
    for spell in (basic, librispeech):
        once = spell(text)
        assert spell(once) == once
        assert once == " ".join(once.split())


@given(st.text(st.characters(categories=["L", "N"], max_codepoint=0x24F), min_size=1))
def test_no_letter_or_digit_is_lost(text):
    assert basic(text)
    assert librispeech(text)


def test_none_leaves_all_but_the_spaces():
    assert normaliser("none")(" A,  b\n") == ["A,", "b"]


def test_whispers_own_is_named_with_the_version_of_its_package():
    whisper = normaliser("whisper")
    assert whisper("Mr. Smith's twenty-one colours") == ["mister", "smith", "is", "21", "colors"]
    assert str(whisper).startswith("whisper 0.")


def test_a_normaliser_that_is_not_there_is_told_with_the_remedy(monkeypatch):
    with pytest.raises(ConfigError, match="known: none, basic, librispeech, whisper"):
        normaliser("wisper")
    assert {normaliser(name).name for name in NAMES} == set(NAMES)

    real = builtins.__import__

    def absent(name, *rest):
        if name.startswith("whisper_normalizer"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ConfigError, match=r"pip install 'hyperasr\[whisper\]'"):
        normaliser("whisper")
