"""What long audio costs: the same utterances alone and joined to long recordings.

    python benchmarks/seams.py --manifest dev.jsonl

Joins the utterances of a manifest, in its order and again shuffled, with pauses of 0.3 to 1 s, to
recordings of about two minutes. A pause is noise as quiet as the quietest tenth of the utterance
before it. Prints the word error rate of the utterances one by one and of the long recordings, as a
table and as one JSON line.
"""

import argparse
import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from hyperasr import audio, runtime
from hyperasr.checkpoint import load_checkpoint
from hyperasr.decoding import DecodingOptions
from hyperasr.manifest import Utterance, read_manifest
from hyperasr.score.wer import word_errors
from hyperasr.stretches import HearingOptions
from hyperasr.transcribe import Transcriber
from hyperasr.transcript import Transcript

LONG = 120.0  # seconds
PAUSES = 0.3, 1.0  # seconds


def joined(utterances: list[Utterance], folder: Path, seed: int) -> Iterator[tuple[Path, str]]:
    """Utterances -> long recordings (16-bit FLAC) and what is said in them."""
    rng = np.random.default_rng(seed)
    parts: list[NDArray[np.float32]] = []
    texts: list[str] = []
    for number, utterance in enumerate(utterances):
        samples = np.concatenate(list(audio.blocks(utterance.audio)))
        parts += [samples, pause(samples, rng)]
        texts.append(utterance.text)
        last = number == len(utterances) - 1
        if last or sum(map(len, parts)) > LONG * audio.SAMPLE_RATE:
            path = folder / f"{seed}-{number}.flac"
            soundfile.write(path, np.concatenate(parts).clip(-1, 1), audio.SAMPLE_RATE)
            yield path, " ".join(texts)
            parts, texts = [], []


def pause(samples: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Noise of a random length, as loud as the quietest tenth of `samples`."""
    frames = samples[: len(samples) // 160 * 160].reshape(-1, 160)
    level = np.quantile(np.sqrt((frames**2).mean(axis=1)), 0.1)
    length = int(rng.uniform(*PAUSES) * audio.SAMPLE_RATE)
    return (level * rng.standard_normal(length)).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="hyperconformer-en")
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--greedy", action="store_true", help="without the n-gram only")
    parser.add_argument("--vad-filter", action="store_true", help="hear only speech")
    arguments = parser.parse_args()
    hearing = HearingOptions(vad_filter=arguments.vad_filter)
    runtime.settle()
    spell = load_checkpoint(arguments.model).tokens.normalise
    utterances = read_manifest(arguments.manifest)
    shuffled = random.Random(1).sample(utterances, len(utterances))
    table = Table(title=arguments.model)
    for heading in ("decoding", "recordings", "WER", "worse by"):
        table.add_column(heading, justify="right")
    rates: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        recordings = {
            "alone": [(utterance.audio, utterance.text) for utterance in utterances],
            "joined": list(joined(utterances, Path(folder), 0)),
            "joined, shuffled": list(joined(shuffled, Path(folder), 1)),
        }
        decodings = {"greedy": DecodingOptions(beam_size=1), "n-gram": DecodingOptions()}
        for decoding, options in list(decodings.items())[: 1 if arguments.greedy else 2]:
            transcriber = Transcriber.load(arguments.model, decoding=options, hearing=hearing)
            for kind, pairs in recordings.items():
                found = list(transcriber.each([path for path, _ in pairs]))
                heard = [item.text for item in found if isinstance(item, Transcript)]
                expected = [spell(text) for _, text in pairs]
                rate = word_errors(zip(expected, heard, strict=True)).rate
                rates.setdefault(decoding, {})[kind] = round(rate, 4)
                worse = rate - rates[decoding]["alone"]
                table.add_row(decoding, kind, f"{rate:.2%}", f"{100 * worse:+.2f} points")
    Console().print(table)
    print(json.dumps({"benchmark": "seams", "model": arguments.model, "wer": rates}))


if __name__ == "__main__":
    main()
