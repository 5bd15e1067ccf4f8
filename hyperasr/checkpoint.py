"""A folder on disk <-> encoder, features and tokens, ready to run.

    config.json         sizes, vocabulary, the digest of the weights
    model.safetensors   encoder.* and features.*, float32 or float16
    tokenizer.model     only for subword vocabularies
    README.md           the model card

Nothing in a checkpoint is code: opening one never runs anything.
"""

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load, save_file
from torch import Tensor

from hyperasr.encoder import Encoder, EncoderConfig
from hyperasr.errors import CheckpointError, ConfigError
from hyperasr.features import FeatureConfig, LogMel
from hyperasr.tokens import Tokens, load_tokens

FORMAT = 1
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
DEFAULT_MODEL = "hyperconformer-en"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model in evaluation mode, in float32, on the CPU."""

    name: str
    sha256: str
    encoder: Encoder
    features: LogMel
    tokens: Tokens


def find_checkpoint(name: str | Path) -> Path:
    """The folder of a checkpoint: a path, or the name of one that came with hyperasr.

    Raises CheckpointError that lists the names when there is neither.
    """
    if (Path(name) / CONFIG_FILE).is_file():
        return Path(name)
    here = Path(__file__).parent
    known: dict[str, Path] = {}
    for home in (here.parent / "checkpoints", here / "checkpoints"):  # source tree, installed
        known |= {found.parent.name: found.parent for found in home.glob(f"*/{CONFIG_FILE}")}
    if str(name) in known:
        return known[str(name)]
    what = f"no {CONFIG_FILE} in it" if Path(name).is_dir() else "no such checkpoint folder"
    raise CheckpointError(f"{name}: {what}; bundled models: {', '.join(sorted(known)) or 'none'}")


def load_checkpoint(name: str | Path) -> Checkpoint:
    """Open a checkpoint by folder or name; every tensor must be there, once and in shape.

    Raises CheckpointError that names what is missing, unexpected or mis-shaped.
    """
    folder = find_checkpoint(name)
    config = _read_config(folder)
    try:
        blob = (folder / WEIGHTS_FILE).read_bytes()
        weights = load(blob)
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} lacks {WEIGHTS_FILE}: copy the folder again") from error
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{folder}/{WEIGHTS_FILE} cannot be read: {error}") from error
    try:
        sizes = dict(config["encoder"])
        sizes["channels"] = tuple(sizes["channels"])
        encoder = Encoder(EncoderConfig(**sizes))
        features = LogMel(FeatureConfig(**config["features"]))
        tokens = load_tokens(config["tokens"], folder)
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise CheckpointError(
            f"{folder}/{CONFIG_FILE} does not describe a model: {error}"
        ) from error
    if len(tokens.labels) != encoder.config.vocab_size:
        raise CheckpointError(
            f"{folder}: the vocabulary has {len(tokens.labels)} tokens, "
            f"the encoder {encoder.config.vocab_size}"
        )
    model = torch.nn.ModuleDict({"encoder": encoder, "features": features})
    _check_names_and_shapes(model.state_dict(), weights, folder)
    sha256 = hashlib.sha256(blob).hexdigest()
    if sha256 != config.get("weights_sha256"):
        raise CheckpointError(
            f"{folder}: {WEIGHTS_FILE} is not the file that {CONFIG_FILE} was written with: "
            "copy the folder again"
        )
    model.load_state_dict(weights)
    model.eval().requires_grad_(False)
    return Checkpoint(folder.resolve().name, sha256, encoder, features, tokens)


def save_checkpoint(
    folder: Path,
    encoder: Encoder,
    features: LogMel,
    tokens: Tokens,
    *,
    half: bool = False,
    card: str | None = None,
) -> None:
    """Write a checkpoint folder under a temporary name and move it into place.

    `half` stores float16; `card` becomes README.md. What else an older checkpoint of that name
    held (a model card, a language model) is kept. Raises CheckpointError when `folder` exists
    and is something else.
    """
    if folder.exists() and not (folder / CONFIG_FILE).is_file() and any(folder.iterdir()):
        raise CheckpointError(f"{folder} exists and is no checkpoint: choose another folder")
    partial = folder.parent / f".{folder.name}.{os.getpid()}.partial"
    partial.mkdir(parents=True)
    try:
        model = torch.nn.ModuleDict({"encoder": encoder, "features": features})
        dtype = torch.float16 if half else torch.float32
        weights = {
            n: t.detach().to("cpu", dtype).contiguous() for n, t in model.state_dict().items()
        }
        save_file(weights, partial / WEIGHTS_FILE)
        tokens.save(partial)
        config = {
            "format": FORMAT,
            "weights_sha256": hashlib.sha256((partial / WEIGHTS_FILE).read_bytes()).hexdigest(),
            "encoder": asdict(encoder.config),
            "features": asdict(features.config),
            "tokens": tokens.config(),
        }
        (partial / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        if card is not None:
            (partial / "README.md").write_text(card, encoding="utf-8")
        _replace_folder(folder, partial)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _replace_folder(folder: Path, partial: Path) -> None:
    if not folder.exists():
        partial.rename(folder)
        return
    for path in folder.iterdir():
        if path.is_file() and not (partial / path.name).exists():
            shutil.copy2(path, partial / path.name)
    old = folder.parent / f".{folder.name}.{os.getpid()}.old"
    folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old)


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}/{CONFIG_FILE} cannot be read: {error}") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise CheckpointError(f"{folder}/{CONFIG_FILE} is not of checkpoint format {FORMAT}")
    return config


def _check_names_and_shapes(
    expected: dict[str, Tensor], found: dict[str, Tensor], folder: Path
) -> None:
    missing = sorted(expected.keys() - found.keys())
    unexpected = sorted(found.keys() - expected.keys())
    misshaped = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in sorted(expected.keys() & found.keys())
        if expected[name].shape != found[name].shape
    ]
    problems = [
        f"{what}: {', '.join(names)}"
        for what, names in [
            ("missing", missing),
            ("unexpected", unexpected),
            ("of the wrong shape", misshaped),
        ]
        if names
    ]
    if problems:
        raise CheckpointError(f"{folder}/{WEIGHTS_FILE} does not fit: {'; '.join(problems)}")
