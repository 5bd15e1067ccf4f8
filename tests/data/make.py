"""Writes the text and the models beside it: python tests/data/make.py PATH_OF_LMPLZ.

The sentences come from a small grammar of our own, the models from KenLM's lmplz.
"""

import gzip
import random
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent

GRAMMAR = {
    "S": "T V | T V | T V and T V | when T V T V | W said that T V | Q | yes | no",
    "T": "the N | the N | the A N | her N | a A N of N | W | we | the N P",
    "V": "sailed P | came home | waited P until M | lost the N | was A | saw T | turned P",
    "Q": "where is T | who saw T P | did T come home | what a A M",
    "P": "at sea | near the harbour | off L | to L | in the fog | with W | past L | by T",
    "M": "morning | evening | the tide turned | midnight | summer",
    "W": "anna | jonas | the old pilot | the pilot of L | nobody | o'hara of L",
    "A": "cold | grey | little | old | quiet | broken | second | long | white | bitter | northern",
    "N": """boat | ship | harbour | sail | rope | wind | storm | captain | crew | anchor | mast
        | lantern | island | gull | wave | letter | net | barrel | chart | compass | pilot | shore
        | widow | keeper""",
}
FIRST, LAST = "tor brae skol un hal myr fen gra", "wick ness holm by dale vik mouth sand fjord moor"
GRAMMAR["L"] = " | ".join(first + last for first in FIRST.split() for last in LAST.split())

MODELS = {
    "harbour.1": "-o 1",
    "harbour.2": "-o 2",
    "harbour.3": "-o 3",
    "harbour.4": "-o 4",
    "harbour.3.prune-0-0-1": "-o 3 --prune 0 0 1",
    "harbour.4.prune-0-1-1-2": "-o 4 --prune 0 1 1 2",
    "harbour.3.prune-1": "-o 3 --prune 1",
    "tiny.3": "-o 3 --discount_fallback",
}


def sentence(dice: random.Random, symbol: str = "S") -> str:
    """One sentence; early alternatives are more likely, as words are in real text."""
    choices = GRAMMAR[symbol].split("|")
    chosen = choices[int(len(choices) * dice.random() ** 1.4)]
    return " ".join(sentence(dice, part) if part in GRAMMAR else part for part in chosen.split())


def main() -> None:
    """Write everything."""
    dice = random.Random(0)
    texts = {"harbour": "".join(sentence(dice) + "\n" for _ in range(400))}
    texts["tiny"] = "the boat came home\n\nthe boat was old\nno\n"
    for name, text in texts.items():
        (HERE / f"{name}.txt").write_text(text)
    for name, options in MODELS.items():
        text = texts[name.split(".")[0]].encode()
        command = [sys.argv[1], *options.split(), "-S", "100M"]
        arpa = subprocess.run(command, input=text, capture_output=True, check=True).stdout
        (HERE / f"{name}.arpa.gz").write_bytes(gzip.compress(arpa, mtime=0))


if __name__ == "__main__":
    main()
