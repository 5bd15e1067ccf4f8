"""Speed of the beam search in one process, and what hotwords cost.

    python benchmarks/decoder.py [--model hyperconformer-en]

Made-up log-probabilities of utterances of 10 s over the words of the model's own n-gram: peaky
ones, as a well-trained model gives them (each letter in one frame at 0.97, blanks at 0.995
between), flat ones, as a weak model gives them (0.6 a letter), and those that the model itself
gives for white noise. Rates are audio seconds per second of one process. Prints a table and one
JSON line.
"""

import argparse
import json
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from hyperasr import runtime
from hyperasr.checkpoint import Checkpoint, load_checkpoint
from hyperasr.compute import prepare
from hyperasr.decoder import Decoder
from hyperasr.decoding import DecodingOptions, build_decoder

FRAMES = 250
SECONDS = 10.0


def utterance(words: Sequence[str], checkpoint: Checkpoint, sure: float, seed: int) -> NDArray:
    """(FRAMES, V): words at 12 letters a second, then silence."""
    random = np.random.default_rng(seed)
    text = " ".join(random.choice(words, 40))
    vocabulary = len(checkpoint.tokens.labels)
    shares = random.dirichlet(np.full(vocabulary, 0.3), FRAMES)
    tokens = np.zeros(FRAMES, int)
    ids = checkpoint.tokens.encode(text)[: FRAMES // 2]
    tokens[0 : 2 * len(ids) : 2] = ids
    own = np.where(tokens == 0, max(sure, 0.995 if sure > 0.9 else sure), sure)[:, None]
    shares *= 1 - own
    shares[np.arange(FRAMES), tokens] += own[:, 0]
    return np.log(shares + 1e-12).astype(np.float32)


def noise(checkpoint: Checkpoint) -> list[NDArray]:
    """What the model hears in white noise."""
    import torch

    encoder, _ = prepare(checkpoint.encoder)
    samples = torch.randn(4, int(SECONDS * 16_000), generator=torch.Generator().manual_seed(0))
    lengths = torch.full((4,), samples.shape[1])
    with torch.inference_mode():
        log_probs, _ = encoder(*checkpoint.features(0.05 * samples, lengths))
    return list(log_probs.numpy())


def rate(decoder: Decoder, utterances: Sequence[NDArray]) -> float:
    """Audio seconds per second, the better of two rounds."""
    times = []
    for _ in range(2):
        started = time.process_time()
        for log_probs in utterances:
            decoder(log_probs)
        times.append(time.process_time() - started)
    return len(utterances) * SECONDS / min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="hyperconformer-en")
    parser.add_argument("--hotwords", type=int, default=1000)
    arguments = parser.parse_args()
    runtime.settle(1)
    checkpoint = load_checkpoint(arguments.model)

    def decoder(*hotwords: str) -> Decoder:
        return build_decoder(checkpoint, DecodingOptions(hotwords=hotwords), print)

    plain = decoder()
    words = [word for word in plain.ngram.words if 2 < len(word) < 10 and word.isalpha()]
    random = np.random.default_rng(1)
    phrases = [" ".join(random.choice(words, 1 + n % 3)) for n in range(arguments.hotwords)]
    expecting = decoder(*phrases)
    kinds = {
        "peaky": [utterance(words, checkpoint, 0.97, seed) for seed in range(30)],
        "flat": [utterance(words, checkpoint, 0.6, seed) for seed in range(10)],
        "white noise": noise(checkpoint),
    }
    table = Table(title=f"{arguments.model}, beam {plain.settings.beam_size}, audio s per s")
    for heading in ("log-probabilities", "plain", f"{arguments.hotwords} hotwords", "cost"):
        table.add_column(heading, justify="right")
    rows = {}
    for name, utterances in kinds.items():
        found = rate(plain, utterances), rate(expecting, utterances)
        rows[name] = {"plain": round(found[0]), "hotwords": round(found[1])}
        table.add_row(name, f"{found[0]:.0f}", f"{found[1]:.0f}", f"{found[0] / found[1]:.2f}")
    Console().print(table)
    print(json.dumps({"benchmark": "decoder", "model": arguments.model, "rates": rows}))


if __name__ == "__main__":
    main()
