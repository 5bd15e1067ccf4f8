"""Word error rate of a checkpoint on a manifest, greedy and with its n-gram, by source.

    python benchmarks/accuracy.py --model hyperconformer-en --manifest dev.jsonl

Transcribes every recording as `hyperasr transcribe` does. References are spelled with the
model's own alphabet. The interval is that of 1,000 bootstrap samples of the utterances, 95 %,
seeded. Prints a table and one JSON line.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from hyperasr import runtime
from hyperasr.checkpoint import load_checkpoint
from hyperasr.decoding import DecodingOptions
from hyperasr.errors import AudioError
from hyperasr.manifest import read_manifest
from hyperasr.score import measure
from hyperasr.score.wer import word_errors
from hyperasr.transcribe import Transcriber


def interval(pairs: list[tuple[str, str]]) -> str:
    """Where the WER lies in 95 of 100 samples of the utterances."""
    counts = [word_errors([pair]) for pair in pairs]
    found = measure.interval(np.array([(count.errors, count.reference) for count in counts]))
    return "-" if found is None else f"{found.low:.1%} to {found.high:.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="hyperconformer-en")
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    runtime.settle()
    tokens = load_checkpoint(arguments.model).tokens
    utterances = read_manifest(arguments.manifest)
    table = Table(title=arguments.model)
    for heading in ("decoding", "source", "utterances", "words", "errors", "WER", "95 %"):
        table.add_column(heading, justify="left" if heading in ("decoding", "source") else "right")
    rows: dict[str, dict[str, float]] = {}
    for decoding, options in (("greedy", DecodingOptions(beam_size=1)), ("n-gram", None)):
        transcriber = Transcriber.load(arguments.model, arguments.device, decoding=options)
        pairs: dict[str, list[tuple[str, str]]] = {}
        transcripts = transcriber.each([utterance.audio for utterance in utterances])
        for utterance, heard in zip(utterances, transcripts, strict=True):
            if isinstance(heard, AudioError):
                raise heard
            pair = tokens.normalise(utterance.text), heard.text
            pairs.setdefault(utterance.source or "unnamed", []).append(pair)
        pairs["all"] = [pair for found in pairs.values() for pair in found]
        for source, found in pairs.items():
            count = word_errors(found)
            rows.setdefault(decoding, {})[source] = round(count.rate, 4)
            figures = (len(found), count.reference, count.errors, f"{count.rate:.1%}")
            table.add_row(decoding, source, *map(str, figures), interval(found))
    Console().print(table)
    print(json.dumps({"benchmark": "accuracy", "model": arguments.model, "wer": rows}))


if __name__ == "__main__":
    main()
