"""Text as written -> words to compare: what does not count as an error.

The normalisers are functions of the text alone, named together with a version that is raised when
one of them changes its answers, because error rates under different normalisers do not compare.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

from hyperasr.errors import ConfigError

VERSION = "1"
"""Of `none`, `basic` and `librispeech`; raised when an answer of theirs changes."""
NAMES = ("none", "basic", "librispeech", "whisper")

APOSTROPHES = re.compile("[\u2018\u2019\u02bc\uff07`\u00b4]")
TATWEEL = "\u0640"
"""Makes an Arabic word longer on paper, not in speech."""
INNER_APOSTROPHE = re.compile(r"(?<=\w)'(?=\w)")


@dataclass(frozen=True, slots=True)
class Normaliser:
    """A text -> its words."""

    name: str
    version: str
    spell: Callable[[str], str]

    def __call__(self, text: str) -> list[str]:
        """The words of a text as they are compared."""
        return self.spell(text).split()

    def __str__(self) -> str:
        """Name and version, as a report gives them."""
        return f"{self.name} {self.version}"


def normaliser(name: str) -> Normaliser:
    """The normaliser of that name.

    Raises ConfigError when there is none, or when what it needs is not installed.
    """
    if name == "whisper":
        return _whisper()
    spellings: dict[str, Callable[[str], str]] = {
        "none": str,
        "basic": basic,
        "librispeech": librispeech,
    }
    if name not in spellings:
        raise ConfigError(f"no normalizer {name!r}; known: {', '.join(NAMES)}")
    return Normaliser(name, VERSION, spellings[name])


def basic(text: str) -> str:
    """Lower case, without punctuation: "Don't — 'STOP'!" -> "don't stop".

    Letters, digits and the marks on them stay, and an apostrophe between two of them; everything
    else separates words. Characters that look the same are made the same (Unicode NFKC).
    """
    return " ".join(_bare(_folded(text).lower(), inner_only=True).split())


def librispeech(text: str) -> str:
    """As LibriSpeech writes: upper case, every apostrophe kept, accents folded.

    "'Tis the café’s." -> "'TIS THE CAFE'S"
    """
    letters = unicodedata.normalize("NFKD", _folded(text).upper())
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    words = _bare(plain, inner_only=False).split()
    return " ".join(word for word in words if word.strip("'"))


def _folded(text: str) -> str:
    """One character for each that looks the same, one apostrophe, nothing invisible."""
    text = APOSTROPHES.sub("'", text)
    if text.isascii():
        return text
    text = APOSTROPHES.sub("'", unicodedata.normalize("NFKC", text))
    return "".join(c for c in text if unicodedata.category(c) != "Cf" and c != TATWEEL)


def _bare(text: str, inner_only: bool) -> str:
    """Letters, marks, digits and apostrophes; everything else becomes a space."""
    spaced = text.translate(SPACED)
    if not inner_only or "'" not in spaced:
        return spaced
    return INNER_APOSTROPHE.sub("\0", spaced).replace("'", " ").replace("\0", "'")


class _Spaced(dict[int, str]):
    """For `str.translate`: what every character met so far becomes."""

    def __missing__(self, letter: int) -> str:
        character = chr(letter)
        stays = character == "'" or unicodedata.category(character)[0] in "LMN"
        self[letter] = character if stays else " "
        return self[letter]


SPACED = _Spaced()


def _whisper() -> Normaliser:
    """OpenAI's normaliser for English, as the package whisper-normalizer has it."""
    try:
        from whisper_normalizer.english import EnglishTextNormalizer
    except ImportError as error:
        raise ConfigError(
            "the normalizer whisper needs a package: pip install 'hyperasr[whisper]'"
        ) from error
    spell: Callable[[str], str] = EnglishTextNormalizer()
    return Normaliser("whisper", version("whisper-normalizer"), spell)
