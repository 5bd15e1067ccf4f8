"""Greedy word error rate of a checkpoint on a manifest, in all and by source.

    python benchmarks/accuracy.py --model hyperconformer-en --manifest dev.jsonl

Transcribes every recording as `hyperasr transcribe` does. References are spelled with the
model's own alphabet. Prints a table and one JSON line.
"""

import argparse
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hyperasr import runtime
from hyperasr.checkpoint import load_checkpoint
from hyperasr.manifest import read_manifest
from hyperasr.score.wer import word_errors
from hyperasr.transcribe import Transcriber


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="hyperconformer-en")
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    runtime.settle()
    tokens = load_checkpoint(arguments.model).tokens
    transcriber = Transcriber.load(arguments.model, arguments.device)
    pairs: dict[str, list[tuple[str, str]]] = {}
    for utterance in read_manifest(arguments.manifest):
        expected = tokens.normalise(utterance.text)
        heard = transcriber(utterance.audio).text
        pairs.setdefault(utterance.source or "unnamed", []).append((expected, heard))
    pairs["all"] = [pair for found in pairs.values() for pair in found]

    table = Table(title=f"{arguments.model}, greedy")
    for heading in ("source", "utterances", "words", "errors", "WER"):
        table.add_column(heading, justify="left" if heading == "source" else "right")
    rows = {}
    for source, found in pairs.items():
        count = word_errors(found)
        rows[source] = round(count.rate, 4)
        figures = (len(found), count.reference, count.errors, f"{count.rate:.1%}")
        table.add_row(source, *map(str, figures))
    Console().print(table)
    print(json.dumps({"benchmark": "accuracy", "model": arguments.model, "wer": rows}))


if __name__ == "__main__":
    main()
