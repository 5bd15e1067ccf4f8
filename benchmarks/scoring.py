"""Scoring a million words: as utterances, and as one line.

    python benchmarks/scoring.py [--words 1000000] [--wer 0.1]

Words are drawn from a made-up vocabulary with Zipf's frequencies, and spoiled. Times are seconds of
one core, of one run after a warm-up on fewer words. "align" is the edit distance and what it makes
of the words; "score" is everything from texts in memory to the finished score, with characters,
intervals and tables. Prints a table and one JSON line.
"""

import argparse
import json
import time

import numpy as np
from rich.console import Console
from rich.table import Table

from hyperasr.score.align import align_words
from hyperasr.score.normalise import normaliser
from hyperasr.score.scoring import score
from hyperasr.score.texts import Text, Texts, TimedWord

VOCABULARY = 20_000
WARM_UP = 20_000


def made_up(words: int, length: int, wer: float) -> tuple[Texts, Texts]:
    """Utterances of that length, and the same with errors: six in ten of them substitutions."""
    random = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrst"))
    known = ["".join(random.choice(letters, random.integers(2, 9))) for _ in range(VOCABULARY)]
    said, heard = [], []
    for number in range(words // length):
        spoken = [known[place % VOCABULARY] for place in random.zipf(1.2, length)]
        fate = random.random(length)
        others = random.integers(0, VOCABULARY, length)
        kept = [
            known[other] if share < 0.6 * wer else word
            for word, share, other in zip(spoken, fate, others, strict=True)
            if not 0.6 * wer <= share < wer
        ]
        said.append(Text(f"u-{number}", " ".join(spoken)))
        heard.append(Text(f"u-{number}", " ".join(kept)))
    return tuple(Texts("made up", "Kaldi text", tuple(side)) for side in (said, heard))


def seconds(references: Texts, hypotheses: Texts) -> dict[str, float]:
    """Of aligning alone, and of the whole score; and the WER that was found."""
    started = time.process_time()
    for said, heard in zip(references, hypotheses, strict=True):
        align_words(said.text.split(), [TimedWord(word) for word in heard.text.split()])
    aligned = time.process_time()
    found = score(references, hypotheses, normaliser("basic"))
    finished = time.process_time()
    return {
        "words": found.total.words.reference,
        "wer": round(found.total.words.rate or 0.0, 4),
        "align_s": round(aligned - started, 2),
        "score_s": round(finished - aligned, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--words", type=int, default=1_000_000)
    parser.add_argument("--wer", type=float, default=0.1)
    options = parser.parse_args()
    seconds(*made_up(WARM_UP, 20, options.wer))
    table = Table("", "words", "WER", "align s", "score s")
    results: dict[str, object] = {"benchmark": "scoring"}
    for name, length in (("utterances of 20 words", 20), ("one line", options.words)):
        found = seconds(*made_up(options.words, length, options.wer))
        results[name.replace(" ", "_")] = found
        table.add_row(
            name, f"{found['words']:,}", f"{found['wer']:.1%}", *map(str, list(found.values())[2:])
        )
    Console().print(table)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
