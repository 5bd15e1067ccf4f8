"""Greedy word error rate on a development corpus, each worker hearing its share of it."""

from dataclasses import dataclass

import numpy as np
import torch

from hyperasr.decoder import greedy
from hyperasr.encoder import Encoder
from hyperasr.features import LogMel
from hyperasr.score.wer import word_errors
from hyperasr.tokens import Tokens
from hyperasr.train.batches import Pick, make_batch
from hyperasr.train.corpus import Corpus
from hyperasr.train.parallel import Workers

BATCH_SIZE = 8


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Greedy WER on dev after `step` steps, over all and by source, of those that have words."""

    step: int
    wer: float
    by_source: dict[str, float]
    averaged: int = 1
    """Checkpoints whose mean was evaluated."""


@dataclass(frozen=True, slots=True)
class Listener:
    """What turns waveforms into text."""

    encoder: Encoder
    features: LogMel
    tokens: Tokens
    device: torch.device


def score(
    listener: Listener, dev: Corpus, workers: Workers, length_step: float, step: int
) -> Evaluation:
    """Transcribe `dev` together with the other workers and count the errors of all."""
    texts: dict[int, str] = {}
    for found in workers.gather(_transcribe_share(listener, dev, workers, length_step)):
        texts |= found
    pairs: dict[str, list[tuple[str, str]]] = {}
    for index, utterance in enumerate(dev.utterances):
        expected = listener.tokens.normalise(utterance.text)
        pairs.setdefault(utterance.source, []).append((expected, texts[index]))
    counts = {source: word_errors(found) for source, found in pairs.items()}
    by_source = {source: count.rate for source, count in counts.items() if count.reference}
    everything = [pair for found in pairs.values() for pair in found]
    return Evaluation(step, word_errors(everything).rate, by_source)


@torch.inference_mode()
def _transcribe_share(
    listener: Listener, dev: Corpus, workers: Workers, length_step: float
) -> dict[int, str]:
    """The texts of this worker's utterances, by index; like lengths are heard together."""
    lengths = [end - begin for begin, end in dev.spans]
    order = np.argsort(lengths, kind="stable").tolist()[workers.rank :: workers.count]
    texts: dict[int, str] = {}
    for start in range(0, len(order), BATCH_SIZE):
        members = order[start : start + BATCH_SIZE]
        picks = [Pick(index, 1.0, dev.utterances[index].duration) for index in members]
        batch = make_batch(dev, picks, listener.tokens, length_step)
        features, frames = listener.features(
            batch.waveforms.to(listener.device), batch.lengths.to(listener.device)
        )
        log_probs, sizes = listener.encoder(features, frames)
        for index, rows, size in zip(members, log_probs.cpu(), sizes.tolist(), strict=True):
            words = greedy(rows[:size].numpy(), listener.tokens.labels)
            texts[index] = " ".join(word.text for word in words)
    return texts
