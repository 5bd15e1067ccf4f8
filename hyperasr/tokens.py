"""Text <-> token ids, and the labels the decoder shows.

Id 0 is the CTC blank in every vocabulary. No torch here.
"""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import sentencepiece

from hyperasr.errors import CheckpointError

BLANK = 0
ENGLISH = " 'abcdefghijklmnopqrstuvwxyz"
SENTENCEPIECE_FILE = "tokenizer.model"


class Tokens(Protocol):
    """What a checkpoint needs to know about its vocabulary."""

    @property
    def labels(self) -> tuple[str, ...]:
        """One label per id, "" for the blank; a word starts at " " or at a leading "▁"."""

    def encode(self, text: str) -> list[int]:
        """Normalise `text` and turn it into ids, blank never among them."""

    def decode(self, ids: Sequence[int]) -> str:
        """Ids (blanks and repeats already removed) -> text."""

    def normalise(self, text: str) -> str:
        """`text` as this vocabulary can spell it."""

    def config(self) -> dict[str, Any]:
        """What goes into the checkpoint's config.json."""

    def save(self, folder: Path) -> None:
        """Write whatever config.json does not hold."""


class CharTokens:
    """One token per character: blank, then the letters of `alphabet` in order."""

    def __init__(self, alphabet: str = ENGLISH):
        if len(set(alphabet)) != len(alphabet) or " " not in alphabet:
            raise CheckpointError(
                f"a vocabulary has distinct letters and a space, not {alphabet!r}"
            )
        self.alphabet = alphabet
        self._ids = {letter: number for number, letter in enumerate(alphabet, start=1)}

    @property
    def labels(self) -> tuple[str, ...]:
        """One label per id, "" for the blank."""
        return ("", *self.alphabet)

    def normalise(self, text: str) -> str:
        """Lower case if the alphabet has no capitals, accents folded, the rest into spaces."""
        return normalise(text, self.alphabet)

    def encode(self, text: str) -> list[int]:
        """Normalise `text` and turn it into ids."""
        return [self._ids[letter] for letter in self.normalise(text)]

    def decode(self, ids: Sequence[int]) -> str:
        """Ids -> text with single spaces."""
        return " ".join("".join(self.labels[i] for i in ids).split())

    def config(self) -> dict[str, Any]:
        """What goes into the checkpoint's config.json."""
        return {"type": "characters", "alphabet": self.alphabet}

    def save(self, folder: Path) -> None:
        """Nothing to write: config.json holds the alphabet."""


class SentencePieceTokens:
    """Subwords of a sentencepiece model whose id 0 (unk or pad) serves as the CTC blank.

    `name` is the file, for messages.
    """

    def __init__(self, model: bytes, name: Path | str = SENTENCEPIECE_FILE):
        self._model = model
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(model)
        except RuntimeError as error:
            raise CheckpointError(
                f"{name} is not a sentencepiece model: put the right one there"
            ) from error
        pieces = [self._processor.IdToPiece(i) for i in range(len(self._processor))]
        self._labels = ("", *pieces[1:])
        letters = {c for i, piece in enumerate(pieces) if self._spells(i) for c in piece}
        self._alphabet = "".join(sorted(letters - {"▁"} | {" "}))

    @property
    def labels(self) -> tuple[str, ...]:
        """One label per id, "" for the blank."""
        return self._labels

    def normalise(self, text: str) -> str:
        """`text` in the case and the letters that the pieces are made of."""
        return normalise(text, self._alphabet)

    def encode(self, text: str) -> list[int]:
        """Normalise `text` and turn it into ids; pieces unknown to the model are left out."""
        return [i for i in self._processor.EncodeAsIds(self.normalise(text)) if self._spells(i)]

    def _spells(self, token: int) -> bool:
        """Whether a piece stands for letters: not the blank, <s>, </s> or <unk>."""
        special = self._processor.IsControl(token) or self._processor.IsUnknown(token)
        return token != BLANK and not special

    def decode(self, ids: Sequence[int]) -> str:
        """Ids -> text with single spaces."""
        return " ".join("".join(self._labels[i] for i in ids).replace("▁", " ").split())

    def config(self) -> dict[str, Any]:
        """What goes into the checkpoint's config.json."""
        return {"type": "sentencepiece", "file": SENTENCEPIECE_FILE}

    def save(self, folder: Path) -> None:
        """Write the sentencepiece model beside config.json."""
        (folder / SENTENCEPIECE_FILE).write_bytes(self._model)


def normalise(text: str, alphabet: str) -> str:
    """Spell `text` with the letters of `alphabet` only, words separated by single spaces.

    Accents that it does not have are dropped, typographic apostrophes become ', the case follows
    the alphabet, and what cannot be spelled separates words.
    """
    if not text.isascii():
        text = _fold(re.sub("[\u2018\u2019]", "'", text), alphabet)
    if "a" in alphabet and "A" not in alphabet:
        text = text.lower()
    elif "A" in alphabet and "a" not in alphabet:
        text = text.upper()
    return " ".join(re.sub(f"[^{re.escape(alphabet)}]", " ", text).split())


def _fold(text: str, alphabet: str) -> str:
    """`text` without the accents and the typography that `alphabet` does not have."""
    if alphabet.isascii():
        return _plain(text)
    cases = set(alphabet) | set(alphabet.lower()) | set(alphabet.upper())
    composed = unicodedata.normalize("NFC", text)
    return "".join(c if c in cases else _plain(c) for c in composed)


def _plain(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def load_tokens(config: dict[str, Any], folder: Path) -> Tokens:
    """The vocabulary that config.json in `folder` describes.

    Raises CheckpointError when the description is unknown or its file is missing.
    """
    kind = config.get("type") if isinstance(config, dict) else None
    if kind == "characters" and isinstance(config.get("alphabet"), str):
        try:
            return CharTokens(config["alphabet"])
        except CheckpointError as error:
            raise CheckpointError(f"{folder}/config.json: {error}") from error
    if kind == "sentencepiece":
        path = folder / SENTENCEPIECE_FILE
        if not path.is_file():
            raise CheckpointError(f"{folder} lacks {SENTENCEPIECE_FILE}")
        return SentencePieceTokens(path.read_bytes(), path)
    raise CheckpointError(f"{folder}/config.json describes no known vocabulary: {config!r}")
