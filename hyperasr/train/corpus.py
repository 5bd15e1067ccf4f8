"""Manifests -> waveforms in memory.

Compressed audio is decoded once, into 16-bit samples in RAM or in a file that is mapped into
memory; after that an utterance costs a copy. A manifest may name pieces of a file, by `offset` and
`duration`; of a whole recording what it holds counts, not the duration that is stated.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperasr import audio
from hyperasr.errors import AudioError, ConfigError, ManifestError
from hyperasr.files import replacing
from hyperasr.manifest import Utterance, read_manifest

TOLD = 10
"""Recordings of which is said that they cannot be read; the rest is counted."""
TOLERANCE = 0.1
"""Seconds, or share, that a recording may be longer or shorter than its manifest says."""

Samples = NDArray[np.int16]
_NOTHING: Samples = np.zeros(0, np.int16)


@dataclass(frozen=True, slots=True)
class Corpus:
    """Utterances and their samples, all in one 16-bit array."""

    utterances: tuple[Utterance, ...]
    samples: Samples
    spans: tuple[tuple[int, int], ...]
    """Where each utterance begins and ends."""

    def waveform(self, index: int) -> Tensor:
        """One utterance, (N,) float32 in [-1, 1]."""
        begin, end = self.spans[index]
        return torch.from_numpy(self.samples[begin:end].astype(np.float32) / 32768.0)

    def only(self, indices: Sequence[int]) -> "Corpus":
        """Some of the utterances, in this order; the samples stay where they are."""
        utterances = tuple(self.utterances[index] for index in indices)
        return replace(self, utterances=utterances, spans=tuple(self.spans[i] for i in indices))


def load_corpus(
    utterances: Sequence[Utterance],
    cache: Path | None,
    warn: Callable[[str], None],
    manifest: str = "the manifests",
) -> Corpus:
    """Decode every recording once, into RAM or into a file in the folder `cache`.

    Recordings that cannot be read, or are not as long as stated, are reported through `warn`;
    the former are left out. Raises ManifestError when none is left.
    """
    held = _open_cache(utterances, cache) if cache else None
    if held is None:
        held = _fill_cache(utterances, cache) if cache else _decode_into_memory(utterances)
    for failure in held.failures[:TOLD]:
        warn(f"{failure}; left out")
    if len(held.failures) > TOLD:
        warn(f"{len(held.failures) - TOLD} more recordings cannot be read; left out")
    if len(held.failures) == len(utterances):
        raise ManifestError(f"{manifest}: none of the recordings can be read")
    return _corpus(utterances, held, warn)


@dataclass(frozen=True, slots=True)
class _Held:
    """What a list of recordings holds."""

    samples: Samples
    """Of all files, each in turn as the first utterance names it."""
    lengths: list[int]
    """Samples of each utterance; -1 where it could not be read."""
    failures: list[str]
    """A line about each of those."""


def _corpus(utterances: Sequence[Utterance], held: _Held, warn: Callable[[str], None]) -> Corpus:
    """The utterances that could be read, each as long as it is."""
    spans: dict[int, tuple[int, int]] = {}
    wrong: list[str] = []
    begin = 0
    for index in chain.from_iterable(_by_file(utterances)):
        utterance, length = utterances[index], held.lengths[index]
        if length < 0:
            continue
        stated, seconds = utterance.duration, length / audio.SAMPLE_RATE
        if abs(seconds - stated) > TOLERANCE * max(1.0, stated):
            piece = f", from {utterance.offset:g} s on," if utterance.piece else ""
            wrong.append(f"{utterance.audio}{piece} lasts {seconds:.2f} s, not {stated:.2f} s")
        spans[index] = (begin, begin + length)
        begin += length
    kept = [
        replace(utterances[index], duration=(end - begin) / audio.SAMPLE_RATE)
        for index, (begin, end) in sorted(spans.items())
    ]
    if wrong:
        more = f", and {len(wrong) - 1} more are wrong about theirs" if len(wrong) > 1 else ""
        warn(f"{wrong[0]}, as its manifest says{more}: what they hold counts")
    return Corpus(tuple(kept), held.samples, tuple(spans[index] for index in sorted(spans)))


def load_dev(
    manifest: Path,
    cache: Path | None,
    warn: Callable[[str], None],
    normalise: Callable[[str], str],
) -> Corpus:
    """The corpus of a manifest that word errors are measured on.

    Raises ConfigError when it has no word in the letters of the model (`normalise`), and what
    `load_corpus` does.
    """
    found = load_corpus(read_manifest(manifest), cache, warn, str(manifest))
    if not any(normalise(utterance.text) for utterance in found.utterances):
        raise ConfigError(f"{manifest}: no texts to measure word errors against")
    return found


def _by_file(utterances: Sequence[Utterance]) -> list[list[int]]:
    """Which utterances are of one file, in the order in which the files are named."""
    found: dict[Path, list[int]] = {}
    for index, utterance in enumerate(utterances):
        found.setdefault(utterance.audio, []).append(index)
    return list(found.values())


def _decode_into(file: IO[bytes], utterances: Sequence[Utterance]) -> tuple[list[int], list[str]]:
    """Write the samples of every recording; returns the lengths and failures of `_Held`."""
    lengths, failures = [-1] * len(utterances), {}
    files = _by_file(utterances)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # libsndfile works outside the GIL
        decoded = pool.map(_decode, ([utterances[index] for index in one] for one in files))
        for one, pieces in zip(files, decoded, strict=True):
            for index, piece in zip(one, pieces, strict=True):
                if isinstance(piece, AudioError):
                    failures[index] = f"{utterances[index].audio}: {piece}"
                else:
                    lengths[index] = len(piece)
                    file.write(piece.data)
    return lengths, [failures[index] for index in sorted(failures)]


def _decode_into_memory(utterances: Sequence[Utterance]) -> _Held:
    memory = BytesIO()
    lengths, failures = _decode_into(memory, utterances)
    return _Held(np.frombuffer(memory.getbuffer(), np.int16), lengths, failures)


def _decode(members: list[Utterance]) -> Sequence[Samples | AudioError]:
    """The utterances of one file: all of it, or the pieces that offsets state."""
    try:
        blocks = audio.blocks(members[0].audio)
        samples = np.concatenate([(b.clip(-1, 1) * 32767).round().astype(np.int16) for b in blocks])
    except AudioError as error:
        return [error] * len(members)
    return [_piece(samples, utterance) if utterance.piece else samples for utterance in members]


def _piece(samples: Samples, utterance: Utterance) -> Samples | AudioError:
    begin = round(utterance.offset * audio.SAMPLE_RATE)
    piece = samples[begin : begin + max(1, round(utterance.duration * audio.SAMPLE_RATE))]
    if len(piece):
        return piece
    seconds = len(samples) / audio.SAMPLE_RATE
    return AudioError(f"lasts {seconds:.1f} s, so nothing begins at {utterance.offset:g} s")


def _cache_file(utterances: Sequence[Utterance], cache: Path) -> Path:
    pieces = (f"{u.audio.resolve()} {_version(u.audio)} {_place(u)}" for u in utterances)
    digest = hashlib.sha256("\n".join(pieces).encode()).hexdigest()
    return cache / f"waveforms-{digest[:16]}.s16"


def _place(utterance: Utterance) -> str:
    return f"{utterance.offset} {utterance.duration}" if utterance.piece else "whole"


def _version(path: Path) -> str:
    """What changes when a recording is replaced."""
    try:
        status = path.stat()
    except OSError:
        return "missing"
    return f"{status.st_size} {status.st_mtime_ns}"


def _open_cache(utterances: Sequence[Utterance], cache: Path) -> _Held | None:
    """What was written there, or None if it is not whole."""
    path = _cache_file(utterances, cache)
    try:
        lengths = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        size = path.stat().st_size
    except (OSError, ValueError):
        return None
    if not isinstance(lengths, list) or not all(type(length) is int for length in lengths):
        return None
    count = sum(max(0, length) for length in lengths)
    if len(lengths) != len(utterances) or size != 2 * count or not count:
        return None
    failures = [
        f"{utterance.audio}: could not be read"
        for utterance, length in zip(utterances, lengths, strict=True)
        if length < 0
    ]
    return _Held(np.memmap(path, dtype=np.int16, mode="r"), lengths, failures)


def _fill_cache(utterances: Sequence[Utterance], cache: Path) -> _Held:
    """Decode into the cache, one file after the other: it may be larger than memory.

    Raises OutputError when there is no room.
    """
    path = _cache_file(utterances, cache)
    with replacing(path) as partial, partial.open("wb") as file:  # workers may all write it
        lengths, failures = _decode_into(file, utterances)
    with replacing(path.with_suffix(".json")) as partial:
        partial.write_text(json.dumps(lengths), encoding="utf-8")
    found = _open_cache(utterances, cache)
    return replace(found, failures=failures) if found else _Held(_NOTHING, lengths, failures)
