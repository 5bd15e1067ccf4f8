"""Training speech from text: flite and espeak-ng read sentences, a manifest says what was read.

    python scripts/speak.py books.txt.xz -o spoken --hours 3

The text has one sentence a line (.txt or .xz); those of 4 to 18 words are read in random order, but
for lines with figures, abbreviations in capitals or other signs. Voice, speed and pitch are drawn
for each sentence; "speaker" in the manifest is the voice. Ctrl-C writes the manifest of what was
read. Needs the programs flite and espeak-ng (apt-get install flite espeak-ng).
"""

import argparse
import json
import lzma
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from hyperasr import audio
from hyperasr.errors import AudioError
from hyperasr.files import replacing
from hyperasr.tokens import ENGLISH, normalise

FLITE = ("slt", "rms", "awb", "kal16")
ESPEAK = ("en-us", "en-us+f3", "en-us+m3", "en-gb", "en-gb+f2", "en-gb-scotland", "en-us+klatt4")
WORD = re.compile(r"[\"'(]*(?:I(?:'[a-z]+)?|(?:O'|Mc)?[A-Z]?[a-z][a-z'-]*|A)[\"',;:.!?)-]*")
ASCII = str.maketrans("’‘“”—", "''\"\"-")  # noqa: RUF001  # what they are read as
AT_ONCE = 16


def sentences(path: Path, rng: np.random.Generator) -> list[str]:
    """Those that can be read as they are spelled, in random order."""
    with (
        lzma.open(path, "rt", encoding="utf-8")
        if path.suffix == ".xz"
        else path.open(encoding="utf-8") as text
    ):
        lines = [" ".join(line.translate(ASCII).replace("--", ", ").split()) for line in text]
    fit = [line for line in lines if _can_be_read(line)]
    rng.shuffle(fit)
    return fit


def _can_be_read(line: str) -> bool:
    words = line.split()
    return 4 <= len(words) <= 18 and line[0] != "-" and all(map(WORD.fullmatch, words))


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
    return f"espeak-{voice}", ["espeak-ng", "-v", voice, *numbers, "-w", str(path), "--", text]


def read(folder: Path, number: int, seed: int, text: str) -> dict[str, Any] | None:
    """Have `text` read into a FLAC file of 16 kHz; its line of the manifest, none if it failed."""
    rng = np.random.default_rng([seed, number])
    raw = folder / f"{seed}-{number:05d}.wav"
    voice, command = commands(rng, text, raw)
    try:
        subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)
        samples = audio.read(raw)
    except (subprocess.CalledProcessError, AudioError) as error:
        print(f"left out, {voice} cannot read it: {text} ({error})", file=sys.stderr)
        return None
    finally:
        raw.unlink(missing_ok=True)
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


def read_all(folder: Path, chosen: list[str], seconds: float, seed: int) -> list[dict[str, Any]]:
    """The lines of the manifest, until `seconds` are read, all is read or Ctrl-C is pressed."""
    lines: list[dict[str, Any]] = []
    heard = 0.0
    with ThreadPoolExecutor() as pool:
        try:
            for start in range(0, len(chosen), AT_ONCE):
                numbers = range(start, min(start + AT_ONCE, len(chosen)))
                for line in pool.map(lambda n: read(folder, n, seed, chosen[n]), numbers):
                    if line is not None and heard < seconds:
                        lines.append(line)
                        heard += line["duration"]
                if heard >= seconds:
                    break
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            print("interrupted; the manifest is that of what was read", file=sys.stderr)
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("text", type=Path, help="one sentence a line, .txt or .xz")
    parser.add_argument("-o", "--output", type=Path, required=True, help="a folder")
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=0, help="another one reads other sentences")
    arguments = parser.parse_args()
    for program in ("flite", "espeak-ng"):
        if shutil.which(program) is None:
            parser.error(f"{program} is not installed: apt-get install flite espeak-ng")
    if not 0 < arguments.hours < 1e6 or arguments.seed < 0:
        parser.error("--hours must be positive, --seed not negative")
    manifest = arguments.output / "spoken.jsonl"
    if manifest.exists():
        parser.error(f"{manifest} is there already: choose another folder")
    try:
        chosen = sentences(arguments.text, np.random.default_rng(arguments.seed))
        arguments.output.mkdir(parents=True, exist_ok=True)
    except (OSError, UnicodeDecodeError, lzma.LZMAError) as error:
        parser.error(f"{getattr(error, 'filename', None) or arguments.text}: {error}")
    lines = read_all(arguments.output, chosen, 3600 * arguments.hours, arguments.seed)
    if not lines:
        parser.error(f"{arguments.text}: no sentence of 4 to 18 plain words was read")
    with replacing(manifest) as partial:
        partial.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    minutes = sum(line["duration"] for line in lines) / 60
    print(f"{manifest}: {len(lines)} sentences, {minutes:.1f} minutes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
