"""ARPA files <-> models: the text format of n-gram models that every toolkit reads.

Read strictly: what a damaged or half-written file holds is refused with the line that shows it.
Numbers and words are handled in blocks of lines; the only Python objects that live long are the
words of the vocabulary.
"""

import gzip
import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice, repeat
from pathlib import Path
from typing import IO, NoReturn

import numpy as np
from numpy.typing import NDArray

from hyperasr.errors import LanguageModelError
from hyperasr.files import replacing
from hyperasr.lm.model import (
    HIGHEST_ORDER,
    NOWHERE,
    SPECIAL,
    Grams,
    Keys,
    NGramModel,
    Rows,
    Words,
    pack,
)

BLOCK_LINES = 50_000

DECIMALS = 7
"""Digits after the point that are written: what float32 tells apart near -1."""

BINARY = b"mmap lm http://kheafield.com/code"
"""How a file of KenLM's build_binary begins."""

CUT = "the file ends here, before \\end\\: copy or build it again"
MISCOUNTED = "the counts at the top are wrong, or lines are missing or damaged: build it again"
DOUBLED = "take one of them out, or build the model again"
REBUILD = "build the model again"
SPECIAL_ADVICE = "build the model again with it (with SRILM: ngram-count -unk)"
LONGEST_LINE = 1 << 16
"""Bytes of a heading; more is another kind of file."""

SHOWN = 60
"""Characters of a line that a message repeats."""

COUNT = re.compile(rb"ngram ([0-9]+) ?= ?([0-9]+)\s*")


def read_arpa(path: Path) -> NGramModel:
    """Read an ARPA file, plain or .gz; <unk>, <s> and </s> become words 0, 1 and 2.

    Raises LanguageModelError naming file, line and remedy when it is damaged in any way.
    """
    try:
        with _open(path) as file:
            return _Reader(path, file).read()
    except FileNotFoundError:
        raise LanguageModelError(f"{path}: no such file: give the path of an ARPA file") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise LanguageModelError(
            f"{path}: damaged gzip data ({error}): copy or build it again"
        ) from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise LanguageModelError(f"{path}: {reason}: give the path of an ARPA file") from error


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return io.BufferedReader(gzip.GzipFile(path)) if zipped else path.open("rb")


class _Reader:
    """One pass through a file, counting lines."""

    def __init__(self, path: Path, file: IO[bytes]):
        self._path, self._file = path, file
        self._number = 0  # of the line read last

    def read(self) -> NGramModel:
        counts = self._header()
        self._expect(b"\\1-grams:")
        model, numbers = self._unigrams(counts[0], highest=len(counts) == 1)
        for order, size in enumerate(counts[1:], start=2):
            self._expect(b"\\%d-grams:" % order)
            grams = self._ngrams(model, numbers, size, highest=order == len(counts))
            model = NGramModel(model.vocabulary, (*model.grams, grams))
        self._expect(b"\\end\\")
        return model

    def _header(self) -> list[int]:
        line = self._line()
        while line.lstrip().startswith(b"#") or line.isspace():
            line = self._line()
        if line.startswith(BINARY):
            self._fail("this is a model of build_binary: give the ARPA file that it was made of")
        if line.rstrip() != b"\\data\\":
            self._fail("\\data\\ should stand here: this is no ARPA file")
        counts: list[int] = []
        while not (line := self._line()).isspace():
            match = COUNT.fullmatch(line)
            if match is None or int(match[1]) != len(counts) + 1:
                self._fail(f"'ngram {len(counts) + 1}=' and a number should stand here")
            counts.append(int(match[2]))
        if not 1 <= len(counts) <= HIGHEST_ORDER:
            self._fail(f"this model has order {len(counts)}: 1 to {HIGHEST_ORDER} can be used")
        return counts

    def _line(self) -> bytes:
        self._number += 1
        line = self._file.readline(LONGEST_LINE)
        if not line:
            self._fail(CUT)
        return line

    def _expect(self, heading: bytes) -> None:
        line = self._line()
        while line.isspace():
            line = self._line()
        if line.rstrip() != heading:
            self._fail(f"{heading.decode()} should stand here: {MISCOUNTED}")

    def _unigrams(self, size: int, highest: bool) -> tuple[NGramModel, dict[bytes, int]]:
        """The first order, and the number of each word."""
        blocks = list(self._blocks(1, size, highest))
        spelled = [word for block in blocks for word in block.words[:, 0]]
        numbers = {word.encode(): number for number, word in enumerate(SPECIAL)}
        seen: set[bytes] = set()
        for line, word in enumerate(spelled, start=self._number - size + 1):
            if word in seen:
                self._fail(f"{show(word)} is there twice: {DOUBLED}", line)
            if not is_utf8(word):
                self._fail(f"{show(word)} is not UTF-8: convert the file with iconv", line)
            seen.add(word)
            numbers.setdefault(word, len(numbers))
        for special in SPECIAL:
            if special.encode() not in seen:
                self._fail(f"no {special} among the 1-grams above: {SPECIAL_ADVICE}")
        keys = np.fromiter(map(numbers.__getitem__, spelled), np.uint64, size)
        vocabulary = tuple(word.decode() for word in numbers)
        return NGramModel(vocabulary, (self._grams(keys, blocks),)), numbers

    def _ngrams(
        self, model: NGramModel, numbers: dict[bytes, int], size: int, highest: bool
    ) -> Grams:
        """The next order of `model`."""
        blocks, keys = [], [np.empty(0, np.uint64)]
        for block in self._blocks(model.order + 1, size, highest):
            known = map(numbers.get, block.words.ravel().tolist(), repeat(NOWHERE))
            ids = np.fromiter(known, np.int64, block.words.size).reshape(block.words.shape)
            strange = np.argwhere(ids == NOWHERE)
            if len(strange):
                row, column = strange[0]
                word = show(block.words[row, column])
                self._fail(f"{word} is not among the 1-grams: {REBUILD}", block.first + int(row))
            contexts = model.locate(ids[:, :-1].astype(np.uint32))
            lost = np.flatnonzero(contexts == NOWHERE)
            if len(lost):
                words = show(b" ".join(block.words[lost[0], :-1]))
                line = block.first + int(lost[0])
                self._fail(f"{words} is not among the {model.order}-grams: {REBUILD}", line)
            keys.append(pack(contexts, ids[:, -1]))
            blocks.append(block.without_words())
        return self._grams(np.concatenate(keys), blocks)

    def _grams(self, keys: Keys, blocks: list["_Block"]) -> Grams:
        """One order, just read, sorted by key."""
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        twice = np.flatnonzero(ordered[1:] == ordered[:-1])
        if len(twice):
            line = self._number - len(keys) + 1 + int(order[twice + 1].min())
            self._fail(f"this n-gram is there twice: {DOUBLED}", line)
        none = np.empty(0, np.float32)
        log_prob = np.concatenate([none, *(block.log_prob for block in blocks)])[order]
        backoff = np.concatenate([none, *(block.backoff for block in blocks)])[order]
        return Grams(ordered, log_prob, backoff)

    def _blocks(self, order: int, size: int, highest: bool) -> Iterator["_Block"]:
        """The next `size` lines, in blocks."""
        while size:
            lines = list(islice(self._file, min(size, BLOCK_LINES)))
            if not lines or not lines[-1].endswith(b"\n"):
                self._fail(CUT, self._number + max(len(lines), 1))
            yield self._block(lines, order, highest)
            size -= len(lines)
            self._number += len(lines)

    def _block(self, lines: list[bytes], order: int, highest: bool) -> "_Block":
        first = self._number + 1
        flat, fields = split(lines)
        odd = np.flatnonzero((fields < order + 1) | (fields > order + 2))
        if len(odd):
            line, problem = lines[odd[0]], f"no line of a {order}-gram: {MISCOUNTED}"
            self._fail(f"{show(line)} is {problem}", first + int(odd[0]))
        begins = np.cumsum(fields) - fields
        weighted = np.flatnonzero(fields == order + 2)
        log_prob = self._numbers(flat[begins], first, np.arange(len(lines)))
        backoff = np.zeros(len(lines), np.float32)
        ends = begins[weighted] + order + 1
        backoff[weighted] = self._numbers(flat[ends], first, weighted)
        for bad, problem in (
            (log_prob > 0, "a log-probability above 0"),
            (highest & (backoff != 0), "a back-off weight at the highest order"),
        ):
            if bad.any():
                at = int(np.flatnonzero(bad)[0])
                self._fail(f"{problem} in {show(lines[at])}: {REBUILD}", first + at)
        words = flat[begins[:, None] + np.arange(1, order + 1)]  # (m, order)
        return _Block(first, words, log_prob, backoff)

    def _numbers(self, texts: NDArray[np.object_], first: int, at: Rows) -> NDArray[np.float32]:
        """Numbers as written -> float32; the lines they stand in are `first + at`."""
        try:
            values = texts.astype(np.float64).astype(np.float32)
        except ValueError:
            values = np.fromiter(map(number, texts), np.float32, len(texts))
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            text = show(texts[bad[0]])
            self._fail(f"{text} is no number: {REBUILD}", first + int(at[bad[0]]))
        return values

    def _fail(self, message: str, line: int | None = None) -> NoReturn:
        raise LanguageModelError(f"{self._path}, line {line or self._number}: {message}")


@dataclass(frozen=True, slots=True)
class _Block:
    """Some lines of one order as they stand in the file; `first` is the number of the first."""

    first: int
    words: NDArray[np.object_]  # (m, order)
    log_prob: NDArray[np.float32]
    backoff: NDArray[np.float32]

    def without_words(self) -> "_Block":
        return replace(self, words=np.empty((0, 0), object))


def split(lines: list[bytes]) -> tuple[NDArray[np.object_], Rows]:
    """Lines -> all their fields in a row, and how many each line has."""
    text = b"".join(lines)
    flat = text.split()
    letters = np.frombuffer(text, np.uint8)
    separators = np.flatnonzero((letters == ord("\t")) | (letters == ord(" ")))
    ends = np.flatnonzero(letters == ord("\n"))
    fields = np.diff(np.searchsorted(separators, ends), prepend=0) + 1
    if fields.sum() != len(flat):  # several blanks in a row, or at an end
        fields = np.fromiter((len(line.split()) for line in lines), np.int64, len(lines))
    return np.array(flat, object), fields


def is_utf8(text: bytes) -> bool:
    """Whether `text` can be decoded."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def number(text: bytes) -> float:
    """What a field says; NaN if it says nothing."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def show(line: bytes) -> str:
    """A piece of a file as it can stand in a message."""
    text = " ".join(line.decode("utf-8", "backslashreplace").split())
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "...")


def write_arpa(model: NGramModel, path: Path) -> None:
    """Write a model as ARPA, compressed if the name ends in .gz; nobody sees half a file.

    Raises OutputError if the file cannot be written.
    """
    with replacing(path) as partial:
        if path.suffix == ".gz":
            # No name and no time inside: the same model gives the same file.
            with (
                partial.open("xb") as plain,
                gzip.GzipFile("", "wb", compresslevel=6, fileobj=plain, mtime=0) as file,
            ):
                file.writelines(arpa_blocks(model))
        else:
            with partial.open("xb") as file:
                file.writelines(arpa_blocks(model))


def arpa_blocks(model: NGramModel) -> Iterator[bytes]:
    """The text of an ARPA file, in blocks of lines."""
    header = [f"ngram {order}={size}\n" for order, size in enumerate(model.counts, start=1)]
    yield "".join(["\\data\\\n", *header]).encode()
    spelled = Pool.of([word.encode() + b" " for word in model.vocabulary])
    for order, grams in enumerate(model.grams, start=1):
        yield b"\n\\%d-grams:\n" % order
        for start in range(0, len(grams.keys), BLOCK_LINES):
            rows = np.arange(start, min(start + BLOCK_LINES, len(grams.keys)))
            log_prob, backoff = numerals(grams.log_prob[rows]), numerals(grams.backoff[rows])
            yield _lines(spelled, model.ids(order, rows), log_prob, backoff, order == model.order)
    yield b"\n\\end\\\n"


@dataclass(frozen=True)
class Pool:
    """Texts end to end: `letters[begins[i] : begins[i] + lengths[i]]` is the i-th."""

    letters: NDArray[np.uint8]
    begins: Rows
    lengths: Rows

    @classmethod
    def of(cls, texts: list[bytes]) -> "Pool":
        """Lay texts end to end."""
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        letters = np.frombuffer(b"".join(texts), np.uint8)
        return cls(letters, np.cumsum(lengths) - lengths, lengths)


def numerals(values: NDArray[np.float32]) -> Pool:
    """Numbers below 1000 as text: -1.25 -> '-1.2500000', 0 -> '0'; one byte is left after each."""
    size = len(values)
    scaled = np.rint(np.abs(values.astype(np.float64)) * 10**DECIMALS).astype(np.int64)
    powers = 10 ** np.arange(DECIMALS + 2, -1, -1)
    digits = (scaled[:, None] // powers % 10 + ord("0")).astype(np.uint8)
    letters = np.full((size, DECIMALS + 6), ord("."), np.uint8)  # sign, 3 digits, point, the rest
    letters[:, 1:4], letters[:, 5:-1] = digits[:, :3], digits[:, 3:]
    whole = scaled // 10**DECIMALS
    begins = 3 - (whole >= 10).astype(np.int64) - (whole >= 100)
    negative = np.flatnonzero((values < 0) & (scaled > 0))
    begins[negative] -= 1
    letters[negative, begins[negative]] = ord("-")
    width = letters.shape[1]
    begins[scaled == 0] = width - 2  # a lone 0, the last digit
    return Pool(letters.ravel(), begins + width * np.arange(size), width - begins)


def _lines(spelled: Pool, ids: Words, log_prob: Pool, backoff: Pool, highest: bool) -> bytes:
    """Lines of one order: the log-probability, the words, and a back-off below the highest."""
    pools = [spelled, log_prob, backoff]
    offsets = np.cumsum([0, *(len(pool.letters) for pool in pools)])
    columns = [
        (log_prob.begins + offsets[1], log_prob.lengths),
        *((spelled.begins[column], spelled.lengths[column]) for column in ids.T),
        (backoff.begins + offsets[2], backoff.lengths),
    ]
    after = b"\t" + b" " * (ids.shape[1] - 1) + b"\t\n"
    if highest:
        columns, after = columns[:-1], after[:-2] + b"\n"
    begins = np.stack([begins for begins, _ in columns], axis=1).ravel()
    lengths = np.stack([lengths for _, lengths in columns], axis=1).ravel()
    ends = np.cumsum(lengths)
    places = np.arange(ends[-1]) + np.repeat(begins - (ends - lengths), lengths)
    text = np.concatenate([pool.letters for pool in pools])[places]
    text[ends - 1] = np.tile(np.frombuffer(after, np.uint8), len(ids))
    return text.tobytes()
