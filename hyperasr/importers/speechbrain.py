"""A SpeechBrain training or release folder -> a hyperasr checkpoint.

For the recipes hyperconformer_8M and _22M, and for the Conformers of the same layout (relative
positions: conformer_small, conformer_large). Sizes come from the shapes of the weights, not from
hyperparams.yaml, which can run code: it is read as text, only to refuse a model that hyperasr
does not compute. Nothing in the folder is ever run.
"""

import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hyperasr.attention_decoder import AttentionDecoder
from hyperasr.checkpoint import save_checkpoint
from hyperasr.encoder import Encoder
from hyperasr.errors import CheckpointError
from hyperasr.features import FeatureConfig, LogMel
from hyperasr.importers.speechbrain_names import rename
from hyperasr.tokens import SentencePieceTokens

WEIGHTS = ("model.ckpt", "asr.ckpt")  # as training and as releases call it
NORMALIZER = "normalizer.ckpt"
TOKENIZER = "tokenizer.ckpt"
HYPERPARAMS = "hyperparams.yaml"


def import_folder(
    folder: Path, target: Path, say: Callable[[str], None] = lambda line: None
) -> None:
    """Write the model in `folder` as the checkpoint folder `target`; tell `say` what was found.

    Raises CheckpointError that names what is missing, unknown, mis-shaped or not to be trusted.
    """
    files = find_files(folder)
    say(f"weights: {files.weights}{files.why}")
    if files.hyperparams:
        check_hyperparams(files.hyperparams)
    encoder, decoder = rename(read_weights(files.weights), files.weights)
    features = read_normalizer(files.normalizer, encoder.config.n_mels)
    tokens = read_tokenizer(files.tokenizer, encoder.config.vocab_size)
    about = describe(encoder, decoder)
    say(f"model: {about}")
    card = CARD.format(name=target.name, about=about, source=f"{files.weights}{files.why}")
    save_checkpoint(target, encoder, features, tokens, card=card, decoder=decoder)
    say(f"written: {target}")


CARD = """# {name}

{about}.

Imported by `hyperasr import-speechbrain` from `{source}`, which was trained with SpeechBrain.
What it was trained on, how well it does and under which licence it may be used is not written in
those files: ask whoever published them, and note it here.
"""


def describe(encoder: Encoder, decoder: AttentionDecoder) -> str:
    """Kind and sizes of a model in one line."""
    sizes = encoder.config
    kind = "HyperConformer" if sizes.mixer == "hypermixing" else "Conformer"
    count = sum(p.numel() for part in (encoder, decoder) for p in part.parameters())
    return (
        f"{kind} with {count / 1e6:.1f} million parameters: {sizes.n_layers} blocks of width "
        f"{sizes.d_model} with {sizes.n_heads} heads, a decoder of {decoder.config.n_layers} "
        f"layers, {sizes.vocab_size} tokens"
    )


# The folder


@dataclass(frozen=True, slots=True)
class Files:
    """What an import reads, and why these weights."""

    weights: Path
    why: str
    normalizer: Path
    tokenizer: Path
    hyperparams: Path | None


def find_files(folder: Path) -> Files:
    """The files of a release folder, a training folder, its save/ or one CKPT+ folder in it.

    Raises CheckpointError that lists what is not there.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder")
    direct = [folder / name for name in WEIGHTS if (folder / name).is_file()]
    saved = [
        path
        for where in (folder / "save", folder)
        for path in sorted(where.glob(f"CKPT+*/{WEIGHTS[0]}"))
    ]
    if not direct and not saved:
        raise CheckpointError(
            f"{folder} holds no model of SpeechBrain: no {' or '.join(WEIGHTS)}, here or in "
            "save/CKPT+*/"
        )
    weights, why = (direct[0], "") if direct else best(saved)
    places, saved_in = [weights.parent], weights.parent.resolve()
    if saved_in.name.startswith("CKPT+"):
        places += saved_in.parents[:2]  # save/ and the training folder
    found = {
        name: next((place / name for place in places if (place / name).is_file()), None)
        for name in (NORMALIZER, TOKENIZER, HYPERPARAMS)
    }
    normalizer, tokenizer = found[NORMALIZER], found[TOKENIZER]
    if normalizer is None or tokenizer is None:
        lacking = [name for name in (NORMALIZER, TOKENIZER) if found[name] is None]
        raise CheckpointError(
            f"{' and '.join(lacking)} not found in {', '.join(map(str, places))}: "
            "copy it there, the model cannot be used without it"
        )
    return Files(weights, why, normalizer, tokenizer, found[HYPERPARAMS])


def best(saved: list[Path]) -> tuple[Path, str]:
    """Of several saved models the most accurate one, else the newest, and a word about why.

    The recipe marks the average of its best models, written after its test, with ACC 1.1.
    """
    notes = {path: read_notes(path.parent / "CKPT.yaml") for path in saved}
    newest = sorted(saved, key=lambda path: (notes[path].get("unixtime", 0.0), path.parent.name))
    for key, sign in (("ACC", 1.0), ("WER", -1.0)):
        scored = [path for path in newest if key in notes[path]]
        if scored:
            winner = max(reversed(scored), key=lambda path: sign * notes[path][key])
            return winner, f" ({key} {notes[winner][key]:g}, the best of {len(saved)})"
    return newest[-1], f" (the newest of {len(saved)})"


def read_notes(path: Path) -> dict[str, float]:
    """The numbers in a CKPT.yaml, read as lines of text."""
    if not path.is_file():
        return {}
    number = r"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?"
    text = path.read_text(encoding="utf-8", errors="replace")
    return {key: float(value) for key, value in re.findall(rf"(?m)^(\w+): *({number}) *$", text)}


SETTINGS = {  # at the margin of hyperparams.yaml, if there at all: the value computed here
    "sample_rate": "16000",
    "n_fft": "400",
    "activation": r".*\bGELU",
    "blank_index": "0",
    "bos_index": "1",
    "eos_index": "2",
}
TRANSFORMER = {"normalize_before": "[Tt]rue", "causal": "[Ff]alse"}  # in its section


def check_hyperparams(path: Path) -> None:
    """Refuse settings that no shape betrays and that would silently give another function."""
    text = re.sub(r"(?m)\s+#.*$", "", path.read_text(encoding="utf-8", errors="replace"))
    for section, settings in (
        (r"", SETTINGS),
        (r"Transformer:.*\n(?:[ \t].*\n)*?[ \t]+", TRANSFORMER),
    ):
        for name, value in settings.items():
            line = re.search(rf"(?m)^{section}{name}:[ \t]*(.*?)[ \t]*$", text)
            if line and not re.fullmatch(value, line[1]):
                raise CheckpointError(f"{path}: hyperasr does not compute {name}: {line[1]}")


# The files


def unpickle(path: Path) -> Any:
    """What torch.save wrote, if it is only tensors, numbers and plain containers of them."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL (\S+)", str(error))
        why = f"it asks to run {code[1]}" if code else "it is damaged or something else"
        raise CheckpointError(f"{path} is not a file of plain tensors: {why}") from error
    except (OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError) as error:
        why = str(error).partition("\n")[0]
        raise CheckpointError(f"{path} is not a file of plain tensors: {why}") from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a model by name, under the names of today."""
    state = unpickle(path)
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items()
    ):
        raise CheckpointError(f"{path} holds something else than named tensors")
    # Releases before 1.0 spell it thus.
    return {name.replace(".mutihead_attn.", ".multihead_attn."): t for name, t in state.items()}


def read_normalizer(path: Path, n_mels: int) -> LogMel:
    """Features normalised by the mean and deviation that a training run saved.

    Older releases keep statistics of single speakers beside them, which are left out.
    """
    found = unpickle(path)
    features = LogMel(FeatureConfig(n_mels=n_mels))
    for name, buffer in (("glob_mean", features.mean), ("glob_std", features.std)):
        values = found.get(name) if isinstance(found, dict) else None
        if not isinstance(values, Tensor) or values.numel() != n_mels:
            raise CheckpointError(f"{path} has no {name} of {n_mels} numbers: was it ever trained?")
        if not values.isfinite().all():
            raise CheckpointError(f"{path}: {name} holds numbers that are not finite")
        buffer.copy_(values.flatten())
    return features


def read_tokenizer(path: Path, vocab_size: int) -> SentencePieceTokens:
    """The subwords of a sentencepiece model, which is data and no pickle."""
    try:
        tokens = SentencePieceTokens(path.read_bytes())
    except (OSError, CheckpointError) as error:
        raise CheckpointError(f"{path} is not a sentencepiece model") from error
    if len(tokens.labels) != vocab_size:
        raise CheckpointError(f"{path} has {len(tokens.labels)} tokens, the model {vocab_size}")
    return tokens
