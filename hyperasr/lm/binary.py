"""ARPA -> KenLM's binary format, by its own program."""

import shutil
import subprocess
from pathlib import Path

from hyperasr.errors import LanguageModelError, OutputError
from hyperasr.files import replacing

PROGRAM = "build_binary"
ADVICE = (
    f"{PROGRAM} is not on the PATH. The model works without it; a binary one opens at once "
    "and takes less memory. Build it from KenLM's source (https://kheafield.com/code/kenlm)"
)


def binarize(arpa: Path, output: Path, structure: str = "trie") -> None:
    """Write a binary model; `structure` is trie (small) or probing (fast).

    Raises OutputError where the program is missing or the file cannot be written,
    LanguageModelError where it refuses the model.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise OutputError(ADVICE)
    if not arpa.is_file():
        raise LanguageModelError(f"{arpa}: no such file: give the path of an ARPA file")
    with replacing(output) as partial:
        command = [program, structure, str(arpa), str(partial)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip(" *-\t") != "ERROR"]
            reason = lines[-1].strip() if lines else f"exit code {done.returncode}"
            raise LanguageModelError(f"{arpa}: {PROGRAM} refuses it: {reason}")
