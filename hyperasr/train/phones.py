"""Texts -> phones by a pronouncing dictionary: what a middle block may learn to hear."""

import re
from pathlib import Path

from hyperasr.errors import ConfigError

_ENTRY = re.compile(r"(?P<word>[^\s(]+)(?:\(\d+\)|\s+\d+)?\s+(?P<phones>\S.*)")
_STRESS = re.compile(r"\d")
_VOICELESS, _HISSING = {"P", "T", "K", "F", "TH"}, {"S", "Z", "SH", "ZH", "CH", "JH"}


class Pronunciations:
    """The first pronunciation of every word of a dictionary; stress is left out.

    Reads the CMU pronouncing dictionary in both of its forms: `tomato(2)  T AH0 M AA1 T OW2` and
    `TOMATO 2 T AH0 M AA1 T OW2`. Lines that begin with `;;;` are comments.
    """

    def __init__(self, path: Path):
        """Raises ConfigError when the file cannot be read or holds no pronunciations."""
        self._words: dict[str, tuple[str, ...]] = {}
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            raise ConfigError(f"{path}: {(error.strerror or str(error)).lower()}") from error
        for line in lines:
            entry = (
                None if line.startswith(";;;") else _ENTRY.fullmatch(line.partition("#")[0].strip())
            )
            if entry:
                phones = tuple(_STRESS.sub("", phone) for phone in entry["phones"].split())
                self._words.setdefault(entry["word"].lower(), phones)
        inventory = sorted({phone for phones in self._words.values() for phone in phones})
        if not 2 <= len(inventory) <= 500:
            raise ConfigError(f"{path}: no pronouncing dictionary: word, then phones, on each line")
        self.ids = {phone: number for number, phone in enumerate(inventory, start=1)}
        """Phone -> id; 0 is the CTC blank."""

    def encode(self, text: str) -> list[int] | None:
        """The phones of `text`, or None when a word of it is not in the dictionary."""
        found: list[int] = []
        for word in text.lower().split():
            phones = self._word(word)
            if phones is None:
                return None
            found += [self.ids[phone] for phone in phones]
        return found

    def _word(self, word: str) -> tuple[str, ...] | None:
        known = self._words.get(word)
        if known is None and word.endswith("'s") and {"S", "Z", "IH"} <= set(self.ids):
            noun = self._words.get(word[:-2])
            return None if noun is None else noun + _possessive(noun[-1])
        return known


def _possessive(last: str) -> tuple[str, ...]:
    """How an English 's sounds after this phone."""
    if last in _HISSING:
        return ("IH", "Z")
    return ("S",) if last in _VOICELESS else ("Z",)
