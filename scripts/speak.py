"""Training speech from text: flite and espeak-ng read sentences, a manifest says what was read.

    python scripts/speak.py books.txt.xz -o spoken --hours 3

Voice, speed, pitch and the room between the words are drawn per sentence from the seed. Needs the
programs flite and espeak-ng (apt-get install flite espeak-ng).
"""

import argparse
import json
import lzma
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from hyperasr import audio
from hyperasr.tokens import ENGLISH, normalise

FLITE = ("slt", "rms", "awb", "kal16")
ESPEAK = ("en-us", "en-us+f3", "en-us+m3", "en-gb", "en-gb+f2", "en-gb-scotland", "en-us+klatt4")


def sentences(path: Path, rng: np.random.Generator) -> list[str]:
    """Those of 4 to 18 words without a figure or a capital abbreviation, in random order."""
    with lzma.open(path, "rt") if path.suffix == ".xz" else path.open() as text:
        lines = [line.strip() for line in text]
    plain = re.compile(r"[A-Z]?[a-z ,;:.!?'\"-]+(?: [A-Z]?[a-z,;:.!?'\"-]+)*")
    fit = [line for line in lines if 4 <= len(line.split()) <= 18 and plain.fullmatch(line)]
    rng.shuffle(fit)
    return fit


def commands(rng: np.random.Generator, text: str, path: Path) -> tuple[str, list[str]]:
    """A voice's name, and what makes it read `text` into `path`."""
    if rng.random() < 0.5:
        voice = str(rng.choice(FLITE))
        slower, pitch = rng.uniform(0.8, 1.25), rng.uniform(85, 220)
        settings = [f"duration_stretch={slower:.2f}", f"int_f0_target_mean={pitch:.0f}"]
        given = [part for setting in settings for part in ("--setf", setting)]
        return f"flite-{voice}", ["flite", "-voice", voice, *given, "-t", text, "-o", str(path)]
    voice = str(rng.choice(ESPEAK))
    numbers = ["-s", f"{rng.uniform(120, 200):.0f}", "-p", f"{rng.uniform(20, 80):.0f}"]
    return f"espeak-{voice}", ["espeak-ng", "-v", voice, *numbers, "-w", str(path), text]


def read(folder: Path, number: int, seed: int, text: str) -> dict[str, Any]:
    """Have `text` read into a FLAC file of 16 kHz; its line of the manifest."""
    rng = np.random.default_rng([seed, number])
    raw = folder / f"{number:05d}.wav"
    voice, command = commands(rng, text, raw)
    subprocess.run(command, check=True, capture_output=True)
    samples = audio.read(raw)
    raw.unlink()
    quiet = 10 ** rng.uniform(-4, -2.5) * rng.standard_normal(len(samples))
    samples = (10 ** rng.uniform(-0.8, 0) * samples + quiet).clip(-1, 1)
    name = raw.with_suffix(".flac").name
    soundfile.write(folder / name, samples, audio.SAMPLE_RATE)
    return {
        "audio_filepath": name,
        "duration": round(len(samples) / audio.SAMPLE_RATE, 3),
        "text": normalise(text, ENGLISH),
        "speaker": voice,
        "source": "spoken",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("text", type=Path, help="one sentence a line; may be .xz")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for program in ("flite", "espeak-ng"):
        if shutil.which(program) is None:
            parser.error(f"{program} is not installed: apt-get install flite espeak-ng")
    if not arguments.text.is_file():
        parser.error(f"{arguments.text}: no such file")
    rng = np.random.default_rng(arguments.seed)
    arguments.output.mkdir(parents=True, exist_ok=True)
    chosen, heard, lines = sentences(arguments.text, rng), 0.0, []
    with ThreadPoolExecutor() as pool:
        while heard < 3600 * arguments.hours and len(lines) < len(chosen):
            numbers = range(len(lines), min(len(lines) + 64, len(chosen)))
            for line in pool.map(
                lambda n: read(arguments.output, n, arguments.seed, chosen[n]), numbers
            ):
                lines.append(line)
                heard += line["duration"]
    manifest = arguments.output / "spoken.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    print(f"{manifest}: {len(lines)} sentences, {heard / 3600:.1f} hours")


if __name__ == "__main__":
    main()
