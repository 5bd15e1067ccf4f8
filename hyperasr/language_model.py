"""An n-gram language model, as the decoder asks it: KenLM behind four questions.

Reads ARPA (also .gz) and KenLM's binary formats. No torch here.
"""

import gzip
import os
import tempfile
import zlib
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hyperasr.errors import LanguageModelError

LOG_10 = 2.302585092994046
MAGIC = b"mmap lm http://kheafield.com/code"
VOCABULARY_FILE = "unigrams.txt"


class NGram:
    """A loaded model; log-probabilities are natural."""

    def __init__(self, model: Any, words: Sequence[str]):
        self._model = model
        self.words = sorted(words)
        """The vocabulary in alphabetical order; empty when it is not known."""
        self._known = frozenset(words)

    @property
    def order(self) -> int:
        """How many words back a probability looks, its own included."""
        return self._model.order

    @property
    def has_vocabulary(self) -> bool:
        """Whether its words are known, so that a beginning which no word has can be told."""
        return bool(self.words)

    def start(self) -> Any:
        """The state before the first word of a sentence."""
        state = _kenlm().State()
        self._model.BeginSentenceWrite(state)
        return state

    def score(self, state: Any, word: str) -> tuple[float, Any]:
        """Log-probability of a word after a text in this state, and the state then."""
        following = _kenlm().State()
        return self._model.BaseScore(state, word, following) * LOG_10, following

    def end(self, state: Any) -> float:
        """Log-probability that the sentence ends after a text in this state."""
        return self.score(state, "</s>")[0]

    def knows(self, word: str) -> bool:
        """Whether the model has the word."""
        return word in self._known if self._known else word in self._model

    def begins(self, letters: str) -> bool:
        """Whether a word of the vocabulary begins so; True when the vocabulary is not known."""
        at = bisect_left(self.words, letters)
        return not self.words or (at < len(self.words) and self.words[at].startswith(letters))


def load_ngram(path: Path, letters: str = "") -> NGram:
    """Open an ARPA file or a KenLM binary; the words of a binary stand in unigrams.txt beside it.

    `letters` are those that the acoustic model can write. Raises LanguageModelError when the file
    is missing, damaged or of an unknown format, when kenlm is not installed, or when hardly a
    word can be written with these letters.
    """
    kenlm = _kenlm()
    try:
        with path.open("rb") as file:
            head = file.read(len(MAGIC))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise LanguageModelError(
            f"{path}: {reason}: name an ARPA file, a KenLM binary or none"
        ) from error
    if head.startswith(MAGIC):
        words, model = _vocabulary(path.with_name(VOCABULARY_FILE)), _open(kenlm, path, path)
    elif head.startswith(b"\x1f\x8b"):
        with tempfile.TemporaryDirectory() as folder:
            plain = Path(folder) / "lm.arpa"
            try:
                plain.write_bytes(gzip.decompress(path.read_bytes()))
            except (OSError, EOFError, zlib.error) as error:
                raise LanguageModelError(f"{path} is damaged: copy it again ({error})") from error
            words, model = _unigrams(plain, path), _open(kenlm, plain, path)
    else:
        words, model = _unigrams(path, path), _open(kenlm, path, path)
    if letters and words:
        _check_spelling(words, letters, path)
    return NGram(model, words)


def _kenlm() -> Any:
    try:
        import kenlm
    except ImportError as error:
        raise LanguageModelError(
            "language models need the package kenlm: pip install kenlm, or use --lm none"
        ) from error
    return kenlm


def _open(kenlm: Any, path: Path, name: Path) -> Any:
    config = kenlm.Config()
    config.show_progress = False
    config.arpa_complain = kenlm.ARPALoadComplain.NONE
    try:
        return kenlm.Model(os.fspath(path), config)
    except (OSError, RuntimeError) as error:
        reason = str(error).replace(os.fspath(path), name.name)
        raise LanguageModelError(
            f"{name}: KenLM cannot read it: {' '.join(reason.split())}: copy or build it again"
        ) from error


def _vocabulary(path: Path) -> list[str]:
    """The words of a binary, where they stand beside it."""
    try:
        return path.read_text(encoding="utf-8").split() if path.is_file() else []
    except (OSError, UnicodeDecodeError) as error:
        raise LanguageModelError(f"{path} is no list of words in UTF-8: {error}") from error


def _unigrams(path: Path, name: Path) -> list[str]:
    """The words of an ARPA file, without the markers <s>, </s> and <unk>."""
    words: list[str] = []
    inside = False
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file):
                if number == 20 and not inside and not words:
                    break
                line = line.strip()
                if line.startswith("\\"):
                    if inside:
                        break
                    inside = line == "\\1-grams:"
                elif inside and line:
                    words.append(line.split("\t")[1])
    except (OSError, UnicodeDecodeError, IndexError) as error:
        raise LanguageModelError(f"{name} is no ARPA file in UTF-8: {error}") from error
    if not words:
        raise LanguageModelError(f"{name} is neither an ARPA file nor a KenLM binary")
    return [word for word in words if not word.startswith("<")]


def _check_spelling(words: Sequence[str], letters: str, path: Path) -> None:
    """Refuse a model whose words the acoustic model cannot write, as in the other case."""
    allowed = set(letters)
    foreign = [word for word in words if not allowed.issuperset(word)]
    if 2 * len(foreign) > len(words):
        raise LanguageModelError(
            f"{path}: most of its words, as {foreign[0]!r}, cannot be spelled with the model's "
            f"letters {''.join(sorted(allowed))!r}: build it from text in the model's spelling"
        )
