"""A folder on disk <-> encoder, features, tokens and perhaps a decoder, ready to run.

    config.json         sizes, vocabulary, the digest of the weights
    model.safetensors   encoder.* and features.*, float32 or float16
    decoder.safetensors the attention decoder, where the model has one
    tokenizer.model     only for subword vocabularies
    lm.binary           an n-gram in KenLM's format, or lm.arpa, lm.arpa.gz, where there is one
    unigrams.txt        the words of lm.binary
    README.md           the model card

Nothing in a checkpoint is code: opening one never runs anything.
"""

import hashlib
import json
import secrets
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load, save
from torch import Tensor

from hyperasr.attention_decoder import AttentionDecoder, AttentionDecoderConfig
from hyperasr.audio import SAMPLE_RATE
from hyperasr.decoder import DecoderSettings
from hyperasr.encoder import Encoder, EncoderConfig
from hyperasr.errors import CheckpointError, ConfigError, OutputError
from hyperasr.features import FeatureConfig, LogMel
from hyperasr.folder import CONFIG_FILE, FORMAT, find_checkpoint, read_config
from hyperasr.front_end import SUBSAMPLING
from hyperasr.tokens import Tokens, load_tokens
from hyperasr.windows import FRAME

WEIGHTS_FILE = "model.safetensors"
DECODER_FILE = "decoder.safetensors"
NGRAM_FILES = ("lm.binary", "lm.arpa", "lm.arpa.gz")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model in evaluation mode, in float32, on the CPU."""

    name: str
    sha256: str
    encoder: Encoder
    features: LogMel
    tokens: Tokens
    decoder: AttentionDecoder | None = None
    ngram: Path | None = None
    decoding: DecoderSettings = field(default_factory=DecoderSettings)


def load_checkpoint(name: str | Path) -> Checkpoint:
    """Open a checkpoint by folder or name; every tensor must be there, once and in shape.

    Raises CheckpointError that names what is missing, unexpected or mis-shaped.
    """
    folder = find_checkpoint(name)
    config = read_config(folder)
    weights, sha256 = _read_weights(folder / WEIGHTS_FILE)
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
    if (features.config.sample_rate, features.config.hop * SUBSAMPLING) != (SAMPLE_RATE, FRAME):
        raise CheckpointError(
            f"{folder}/{CONFIG_FILE}: features must be of {SAMPLE_RATE} Hz, {FRAME // SUBSAMPLING} "
            "samples apart"
        )
    if len(tokens.labels) != encoder.config.vocab_size:
        raise CheckpointError(
            f"{folder}: the vocabulary has {len(tokens.labels)} tokens, "
            f"the encoder {encoder.config.vocab_size}"
        )
    model = torch.nn.ModuleDict({"encoder": encoder, "features": features})
    _check_names_and_shapes(model.state_dict(), weights, folder / WEIGHTS_FILE)
    _check_digest(sha256, config.get("weights_sha256"), folder / WEIGHTS_FILE)
    model.load_state_dict(weights)
    model.eval().requires_grad_(False)
    decoder = _load_decoder(config, folder, encoder) if "decoder" in config else None
    ngrams = [folder / name for name in NGRAM_FILES if (folder / name).is_file()]
    return Checkpoint(
        folder.resolve().name,
        sha256,
        encoder,
        features,
        tokens,
        decoder,
        ngrams[0] if ngrams else None,
        _decoding(config.get("decoding", {}), folder / CONFIG_FILE),
    )


def _decoding(found: object, path: Path) -> DecoderSettings:
    try:
        return DecoderSettings(**found)  # type: ignore[arg-type]
    except (TypeError, ConfigError) as error:
        raise CheckpointError(f'{path}: "decoding" is not understood: {error}') from error


def _load_decoder(config: dict[str, Any], folder: Path, encoder: Encoder) -> AttentionDecoder:
    weights, sha256 = _read_weights(folder / DECODER_FILE)
    try:
        decoder = AttentionDecoder(AttentionDecoderConfig(**config["decoder"]))
    except (TypeError, ConfigError) as error:
        raise CheckpointError(
            f"{folder}/{CONFIG_FILE} does not describe a decoder: {error}"
        ) from error
    theirs, ours = decoder.config, encoder.config
    if (theirs.d_model, theirs.vocab_size) != (ours.d_model, ours.vocab_size):
        raise CheckpointError(f"{folder}: the decoder's width or vocabulary is not the encoder's")
    _check_names_and_shapes(decoder.state_dict(), weights, folder / DECODER_FILE)
    _check_digest(sha256, config.get("decoder_sha256"), folder / DECODER_FILE)
    decoder.load_state_dict(weights)
    return decoder.eval().requires_grad_(False)


def save_checkpoint(
    folder: Path,
    encoder: Encoder,
    features: LogMel,
    tokens: Tokens,
    *,
    half: bool = False,
    card: str | None = None,
    decoder: AttentionDecoder | None = None,
) -> None:
    """Write a checkpoint folder under a temporary name and move it into place.

    `half` stores float16; `card` becomes README.md. What else an older checkpoint of that name
    held (a model card, a language model) is kept, but no decoder: it belonged to that encoder.
    Raises OutputError when `folder` exists and is something else.
    """
    check_replaceable(folder)
    partial = folder.parent / f".{folder.name}.{secrets.token_hex(8)}.partial"
    partial.mkdir(parents=True)
    try:
        model = torch.nn.ModuleDict({"encoder": encoder, "features": features})
        dtype = torch.float16 if half else torch.float32
        tokens.save(partial)
        config = {
            "format": FORMAT,
            "weights_sha256": _write_weights(partial / WEIGHTS_FILE, model, dtype),
            "encoder": asdict(encoder.config),
            "features": asdict(features.config),
            "tokens": tokens.config(),
        }
        if decoder is not None:
            config["decoder_sha256"] = _write_weights(partial / DECODER_FILE, decoder, dtype)
            config["decoder"] = asdict(decoder.config)
        (partial / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        if card is not None:
            (partial / "README.md").write_text(card, encoding="utf-8")
        _replace_folder(folder, partial)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def tidy(folder: Path) -> None:
    """Put right what a process left that was killed while it replaced this checkpoint."""
    for old in folder.parent.glob(f".{folder.name}.*.old"):
        if folder.exists():
            shutil.rmtree(old)
        else:
            old.rename(folder)
    for partial in folder.parent.glob(f".{folder.name}.*.partial"):
        shutil.rmtree(partial)


def check_replaceable(folder: Path) -> None:
    """Raise OutputError when `folder` exists and is neither empty nor a checkpoint."""
    foreign = folder.exists() and not (folder / CONFIG_FILE).is_file()
    if foreign and not (folder.is_dir() and not any(folder.iterdir())):
        raise OutputError(f"{folder} exists and is no checkpoint: choose another folder")


def _write_weights(path: Path, model: torch.nn.Module, dtype: torch.dtype) -> str:
    blob = save(
        {n: t.detach().to("cpu", dtype).contiguous() for n, t in model.state_dict().items()}
    )
    path.write_bytes(blob)
    return hashlib.sha256(blob).hexdigest()


def _replace_folder(folder: Path, partial: Path) -> None:
    if not folder.exists():
        partial.rename(folder)
        return
    for path in folder.iterdir():
        if path.name != DECODER_FILE and not (partial / path.name).exists():
            copy = shutil.copytree if path.is_dir() else shutil.copy2
            copy(path, partial / path.name)
    old = folder.parent / f".{folder.name}.{secrets.token_hex(8)}.old"
    folder.rename(old)
    try:
        partial.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    shutil.rmtree(old)


def _read_weights(path: Path) -> tuple[dict[str, Tensor], str]:
    try:
        blob = path.read_bytes()
        return load(blob), hashlib.sha256(blob).hexdigest()
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.parent} lacks {path.name}: copy the folder again") from error
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def _check_digest(found: str, expected: object, path: Path) -> None:
    if found != expected:
        raise CheckpointError(
            f"{path.parent}: {path.name} is not the file that {CONFIG_FILE} was written with: "
            "copy the folder again"
        )


def _check_names_and_shapes(
    expected: dict[str, Tensor], found: dict[str, Tensor], path: Path
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
        raise CheckpointError(f"{path} does not fit: {'; '.join(problems)}")
