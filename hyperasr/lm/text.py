"""Text files -> sentences as the recogniser would write them, one a line.

Plain text, .gz, .xz, NeMo manifests (.jsonl, the field "text") and "-" for standard input are
read in blocks, so that their length does not matter.
"""

import gzip
import io
import json
import lzma
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from hyperasr.errors import TextError

BLOCK = 1 << 22
"""Bytes that are read at once."""

EXAMPLES = 5
"""Words that could not be written and are shown as examples."""

GAP = "<unk>"
"""What stands for a word that cannot be written; no n-gram reaches across it."""

SENTENCE_MARKS = re.compile(rb"(?<!\S)</?s>(?!\S)")


@dataclass
class Tally:
    """What was met on the way through the texts."""

    lines: int = 0
    empty: int = 0  # lines left out, because nothing in them can be written
    gaps: int = 0  # words that the alphabet cannot write
    marks: int = 0  # <s> and </s> in the text, read as blanks
    examples: dict[str, None] = field(default_factory=dict)  # of gaps, in order

    def __str__(self) -> str:
        """What is worth telling; "" if every word was kept."""
        parts = []
        if self.gaps:
            shown = ", ".join(self.examples) + (", ..." if self.gaps > len(self.examples) else "")
            parts.append(f"{self.gaps:,} words cannot be written with these letters ({shown})")
        if self.empty:
            parts.append(f"{self.empty:,} of {self.lines:,} lines have no words")
        if self.marks:
            parts.append(f"{self.marks:,} <s> or </s> in the text were read as blanks")
        return "; ".join(parts)


def sentences(
    paths: Iterable[Path], normalise: Callable[[str], str] | None, tally: Tally
) -> Iterator[bytes]:
    """Blocks of whole lines, UTF-8, one sentence each, words separated by blanks.

    `normalise` spells a text with the letters of the recogniser. A word with letters or digits
    that it cannot spell becomes <unk>: leaving it out would make neighbours of words that never
    stood together. Without `normalise` words stay as they are and empty lines are sentences
    without words, as lmplz has it.

    Raises TextError naming the file and, where it helps, the line.
    """
    speller = None if normalise is None else Speller(normalise, tally)
    for path in paths:
        for block in _lines(path):
            block = block.replace(b"\0", b" ")
            block, marks = SENTENCE_MARKS.subn(b" ", block) if b"s>" in block else (block, 0)
            tally.marks += marks
            if speller is None:
                tally.lines += block.count(b"\n")
                yield block
            else:
                spelled = map(speller, block.decode().split("\n")[:-1])
                yield "".join(line + "\n" for line in spelled if line).encode()


class Speller:
    """A line as written -> as the recogniser writes it, with gaps; "" if no word is left."""

    def __init__(self, normalise: Callable[[str], str], tally: Tally):
        self._normalise, self._tally = normalise, tally
        self._judged: set[str] = set()  # every character met so far
        self._strange: set[str] = set()  # letters and digits that cannot be written

    def __call__(self, line: str) -> str:
        """Spell one line."""
        self._tally.lines += 1
        letters = set(line)
        for letter in letters - self._judged:
            if letter.isalnum() and not self._normalise(letter):
                self._strange.add(letter)
            self._judged.add(letter)
        if letters.isdisjoint(self._strange) and GAP not in line:
            spelled = self._normalise(line)
        else:
            spelled = " ".join(filter(None, map(self._word, line.split())))
            if not spelled.replace(GAP, "").strip():
                spelled = ""
        self._tally.empty += not spelled
        return spelled

    def _word(self, word: str) -> str:
        if word != GAP and self._strange.isdisjoint(word):
            return self._normalise(word)
        self._tally.gaps += 1
        if len(self._tally.examples) < EXAMPLES:
            self._tally.examples[word] = None
        return GAP


def _lines(path: Path) -> Iterator[bytes]:
    """Whole lines of one file in blocks, UTF-8, without byte-order mark."""
    number = 0  # of the lines before
    try:
        with _open(path) as file:
            blocks = _manifest(path, file) if ".jsonl" in path.suffixes else _blocks(file)
            for block in blocks:
                _check(path, block, number)
                yield block.removeprefix("\ufeff".encode()) if not number else block
                number += block.count(b"\n")
    except FileNotFoundError:
        raise TextError(f"{path}: no such file: give a text file, or - for stdin") from None
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as error:
        raise TextError(f"{path}: damaged compressed data ({error}): copy it again") from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise TextError(f"{path}: {reason}: give a text file, or - for stdin") from error


def _open(path: Path) -> IO[bytes]:
    if str(path) == "-":
        return open(sys.stdin.fileno(), "rb", closefd=False)
    if path.suffix == ".gz":
        return io.BufferedReader(gzip.GzipFile(path))
    if path.suffix == ".xz":
        return io.BufferedReader(lzma.LZMAFile(path))
    return path.open("rb")


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    while block := file.read(BLOCK):
        if not block.endswith(b"\n"):
            block += file.readline()
        yield block if block.endswith(b"\n") else block + b"\n"


def _manifest(path: Path, file: IO[bytes]) -> Iterator[bytes]:
    """The texts of a manifest, as blocks of lines."""
    number = 0
    for block in _blocks(file):
        texts = []
        for line in block.splitlines():
            number += 1
            if not line.strip():
                continue
            try:
                entry: Any = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise TextError(f"{path}, line {number}: not a JSON object: {error}") from error
            if not isinstance(entry, dict) or not isinstance(entry.get("text"), str):
                raise TextError(f'{path}, line {number}: "text" is missing or no string')
            texts.append(" ".join(entry["text"].split()))
        yield "".join(f"{text}\n" for text in texts).encode("utf-8", "replace")


def _check(path: Path, block: bytes, before: int) -> None:
    try:
        block.decode()
    except UnicodeDecodeError as error:
        line = before + block.count(b"\n", 0, error.start) + 1
        raise TextError(
            f"{path}, line {line}: not UTF-8: convert the file, as with iconv -f latin1 -t utf-8"
        ) from error
