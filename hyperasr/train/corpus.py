"""Manifests -> waveforms in memory.

Compressed audio is decoded once, into 16-bit samples in RAM or in a file that is mapped into
memory; after that an utterance costs a copy.
"""

import hashlib
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperasr import audio
from hyperasr.errors import AudioError, ConfigError, ManifestError
from hyperasr.manifest import Utterance, read_manifest


@dataclass(frozen=True, slots=True)
class Corpus:
    """Utterances and their samples, all in one 16-bit array."""

    utterances: tuple[Utterance, ...]
    samples: NDArray[np.int16]
    offsets: tuple[int, ...]
    """Where each utterance starts, and the end of the last one."""

    def waveform(self, index: int) -> Tensor:
        """One utterance, (N,) float32 in [-1, 1]."""
        samples = self.samples[self.offsets[index] : self.offsets[index + 1]]
        return torch.from_numpy(samples.astype(np.float32) / 32768.0)


def load_corpus(
    utterances: list[Utterance], cache: Path | None, warn: Callable[[str], None]
) -> Corpus:
    """Decode every recording once, into RAM or into a file in the folder `cache`.

    A recording that cannot be read is reported through `warn` and left out. Raises
    ManifestError when none is left.
    """
    if cache is not None:
        found = _open_cache(utterances, cache, warn)
        if found is not None:
            return found
    pieces: list[NDArray[np.int16]] = []
    kept: list[Utterance] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # libsndfile works outside the GIL
        for utterance, samples in zip(utterances, pool.map(_decode, utterances), strict=True):
            if isinstance(samples, AudioError):
                warn(f"{utterance.audio}: {samples}; left out of training")
                continue
            pieces.append(samples)
            kept.append(utterance)
    if not kept:
        raise ManifestError("none of the recordings in the manifests can be read")
    offsets = (0, *np.cumsum([len(piece) for piece in pieces]).tolist())
    corpus = Corpus(tuple(kept), np.concatenate(pieces), offsets)
    if cache is None:
        return corpus
    _write_cache(utterances, corpus, cache)
    return _open_cache(utterances, cache, lambda known: None) or corpus


def load_dev(manifest: Path, cache: Path | None, warn: Callable[[str], None]) -> Corpus:
    """The corpus of a manifest that word errors are measured on.

    Raises ConfigError when it has no texts, and what `load_corpus` does.
    """
    utterances = read_manifest(manifest)
    if not any(utterance.text.strip() for utterance in utterances):
        raise ConfigError(f"{manifest}: no texts to measure word errors against")
    return load_corpus(utterances, cache, warn)


def _decode(utterance: Utterance) -> NDArray[np.int16] | AudioError:
    try:
        samples = audio.read(utterance.audio)
    except AudioError as error:
        return error
    return (samples.clip(-1, 1) * 32767).round().astype(np.int16)


def _cache_file(utterances: list[Utterance], cache: Path) -> Path:
    names = "\n".join(f"{u.audio.resolve()} {_version(u.audio)}" for u in utterances)
    return cache / f"waveforms-{hashlib.sha256(names.encode()).hexdigest()[:16]}.s16"


def _version(path: Path) -> str:
    """What changes when a recording is replaced."""
    try:
        status = path.stat()
    except OSError:
        return "missing"
    return f"{status.st_size} {status.st_mtime_ns}"


def _open_cache(
    utterances: list[Utterance], cache: Path, warn: Callable[[str], None]
) -> Corpus | None:
    path = _cache_file(utterances, cache)
    index = path.with_suffix(".json")
    if not (path.exists() and index.exists()):
        return None
    try:
        lengths = json.loads(index.read_text(encoding="utf-8"))  # -1: could not be read
    except ValueError:
        return None
    for utterance, length in zip(utterances, lengths, strict=True):
        if length < 0:
            warn(f"{utterance.audio}: could not be read; left out of training")
    kept = tuple(u for u, n in zip(utterances, lengths, strict=True) if n >= 0)
    offsets = (0, *np.cumsum([n for n in lengths if n >= 0]).tolist())
    return Corpus(kept, np.memmap(path, dtype=np.int16, mode="r"), offsets)


def _write_cache(utterances: list[Utterance], corpus: Corpus, cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    path = _cache_file(utterances, cache)
    partial = path.with_suffix(f".{os.getpid()}.partial")  # workers may all write it
    corpus.samples.tofile(partial)
    partial.replace(path)
    sizes = dict(zip(map(id, corpus.utterances), np.diff(corpus.offsets).tolist(), strict=True))
    index = json.dumps([sizes.get(id(utterance), -1) for utterance in utterances])
    partial.write_text(index, encoding="utf-8")
    partial.replace(path.with_suffix(".json"))
