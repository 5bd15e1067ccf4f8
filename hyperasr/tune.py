"""Decoding weights and confidences that fit a model, chosen on a development set.

The recordings are heard once; every trial decodes the same log-probabilities.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from hyperasr.decoder import Decoder, DecoderSettings
from hyperasr.decoder_pool import DecoderPool
from hyperasr.manifest import read_manifest
from hyperasr.score.wer import ErrorCount, word_errors
from hyperasr.tokens import Tokens
from hyperasr.transcribe import Transcriber
from hyperasr.transcript import Segment, Word
from hyperasr.windows import Utterance


@dataclass(frozen=True, slots=True)
class Heard:
    """A recording of the development set."""

    expected: str
    """Its reference, as the model spells."""
    source: str
    utterances: tuple[Utterance, ...]


@dataclass(frozen=True, slots=True)
class Trial:
    """One choice of weights and how it went."""

    settings: DecoderSettings
    errors: ErrorCount
    by_source: dict[str, ErrorCount]
    words: tuple[tuple[str, tuple[Word, ...]], ...]
    """(reference, words heard) of every recording."""


def hear(transcriber: Transcriber, manifest: Path, tokens: Tokens) -> list[Heard]:
    """The recordings of a manifest.

    Raises ManifestError, and AudioError when a recording cannot be read.
    """
    found = []
    for entry in read_manifest(manifest):
        utterances = tuple(transcriber.hear(entry.audio))
        found.append(Heard(tokens.normalise(entry.text), entry.source or "unnamed", utterances))
    return found


def trials(
    decoder: Decoder,
    heard: Sequence[Heard],
    alphas: Sequence[float],
    betas: Sequence[float],
    beams: Sequence[int],
    processes: int,
) -> Iterator[Trial]:
    """Decode `heard` with every combination of weights, one after the other."""
    for beam, alpha, beta in product(beams, alphas, betas):
        settings = replace(decoder.settings, beam_size=beam, alpha=alpha, beta=beta)
        pool = DecoderPool(decoder.with_settings(settings), processes)
        promised: list[list[tuple[Utterance, Future[Segment]]]] = [
            [(utterance, pool.submit(utterance)) for utterance in recording.utterances]
            for recording in heard
        ]
        words = tuple(
            (
                recording.expected,
                tuple(w for utterance, later in of_it for w in pool.result(later, utterance).words),
            )
            for recording, of_it in zip(heard, promised, strict=True)
        )
        pool.close()
        pairs: dict[str, list[tuple[str, str]]] = {}
        for recording, (expected, found) in zip(heard, words, strict=True):
            text = " ".join(word.text for word in found)
            pairs.setdefault(recording.source, []).append((expected, text))
        everything = [pair for found_pairs in pairs.values() for pair in found_pairs]
        by_source = {source: word_errors(found_pairs) for source, found_pairs in pairs.items()}
        yield Trial(settings, word_errors(everything), by_source, words)


def rightness(trial: Trial) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Confidence of every word that was heard, and whether the alignment finds it right."""
    confidences: list[float] = []
    right: list[bool] = []
    for expected, words in trial.words:
        texts = [word.text for word in words]
        matched = np.zeros(len(texts), bool)
        for block in Levenshtein.opcodes(expected.split(), texts):
            if block.tag == "equal":
                matched[block.dest_start : block.dest_end] = True
        confidences += [word.confidence for word in words]
        right += matched.tolist()
    return np.array(confidences), np.array(right, bool)


def calibrated(confidences: NDArray[np.float64], sure: float, doubt: float) -> NDArray[np.float64]:
    """1 / (1 + exp(doubt - sure x log-odds)), as the decoder does it word by word."""
    return _likely(sure * _log_odds(confidences) - doubt)


def _likely(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-np.clip(log_odds, -60.0, 60.0)))


def _log_odds(confidences: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log(np.clip(confidences, 1e-9, 1)) - np.log(np.clip(1 - confidences, 1e-9, 1))


def calibrate(confidences: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[float, float]:
    """(sure, doubt) for which 1 / (1 + exp(doubt - sure x log-odds)) is likeliest to be right.

    Source: Platt 1999, with his smoothed targets, by Newton's method.
    """
    odds = _log_odds(confidences)
    inputs = np.stack([odds, -np.ones_like(odds)], axis=1)  # (N, 2)
    good, bad = int(right.sum()), int((~right).sum())
    targets = np.where(right, (good + 1) / (good + 2), 1 / (bad + 2))
    weights = np.array([1.0, 0.0])
    for _ in range(50):
        likely = _likely(inputs @ weights)
        slope = inputs.T @ (likely - targets)
        curve = (inputs * (likely * (1 - likely))[:, None]).T @ inputs + 1e-3 * np.eye(2)
        step = np.clip(np.linalg.solve(curve, slope), -1.0, 1.0)
        weights -= step
        if np.abs(step).max() < 1e-9:
            break
    return float(weights[0]), float(weights[1])
