"""Every setting of a training run, as a frozen dataclass that reads TOML."""

import dataclasses
import json
import sys
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hyperasr.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """What is trained, on what, how long. Lengths are seconds, times are optimiser steps."""

    manifests: tuple[str, ...] = ()
    dev: str = ""

    init: str = ""
    """Checkpoint to go on from, by folder or name: its sizes, vocabulary and feature statistics."""
    letters: str = ""
    """Letters that the texts are spelled with beyond a-z, or beyond those of `init`."""
    model: str = "hyperconformer-8m"
    """Sizes of a new model."""
    dropout: float = 0.1
    decoder_layers: int = 4
    """Of the attention decoder, which is there when ctc_weight is below 1."""
    vocab_size: int = 0
    """Sentencepiece tokens, learnt from the texts of the manifests; 0: one token per character."""

    epochs: int = 0
    """Passes over the data; when given, `steps` is about what so many passes take."""
    steps: int = 20_000
    warmup_steps: int = 500
    decay_steps: int = 2_000
    """The last steps, over which the learning rate falls to zero in a straight line."""
    schedule: str = "linear"
    """Of the learning rate after the warm-up: "linear" stays and then falls as above, "noam" falls
    with the square root of the step from the start (arXiv:1706.03762)."""
    optimizer: str = "adamw"
    """Or "muon" for the linear layers of blocks and AdamW for all else."""
    learning_rate: float = 1.5e-3
    """The highest."""
    adam_epsilon: float = 1e-8
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    average_decay: float = 0.999
    """Of the exponential average of the weights, which is what gets evaluated and saved."""
    average_best: int = 1
    """How many of the weights that were evaluated, the best on dev, `best` is the mean of."""
    ctc_weight: float = 1.0
    """Share of the CTC loss; the attention decoder has the rest."""
    label_smoothing: float = 0.0
    """Share of a token that the attention decoder is told to spread over all others."""
    loss_per: str = "token"
    """Losses of a batch are divided by its "token" or "utterance" number: what is clipped."""
    middle_loss: float = 0.3
    """Share of the CTC loss that is taken on the middle block (arXiv:2102.03216)."""
    phones: str = ""
    """A pronouncing dictionary: the middle block's loss is on the phones of the texts then."""
    consistency: float = 0.0
    """Weight of the disagreement between two hearings of every utterance, masked differently, as in
    CR-CTC (arXiv:2410.05101); 0 hears it once. A step then computes twice its batch."""

    batch_seconds: float = 120.0
    max_batch: int = 1000
    """Utterances of a batch, at most."""
    length_step: float = 1.6
    """Batches are padded to a multiple of this: few shapes, so that kernels are made once."""
    max_utterance: float = 25.0
    first_speakers: tuple[str, ...] = ()
    """CTC finds the alignment sooner on a few clear speakers: train on these alone ..."""
    first_steps: int = 0
    """... for this many steps, without augmentation."""

    speeds: tuple[float, ...] = (0.9, 1.0, 1.1)
    frequency_masks: int = 2
    frequency_width: int = 20
    time_masks: int = 4
    time_share: float = 0.05
    """Each time mask hides at most this share of the utterance ..."""
    time_width: int = 10_000
    """... and at most this many feature frames (10 ms)."""

    background_share: float = 0.02
    """Utterances of noise, music or silence with no text that are added: nobody speaks there."""

    joined_share: float = 0.0
    """Share of the recordings that go on with further utterances, after a pause ..."""
    max_joined: float = 20.0
    """... up to this length: long audio is heard in windows that hold several."""
    gain_range: float = 0.0
    """Utterances are made louder or quieter by up to this, dB."""
    warp_range: float = 0.0
    """Frequencies are multiplied or divided by up to 1 and this, as by another length of throat."""
    room_share: float = 0.0
    """Share of the recordings that a made-up room gives back."""
    noise_share: float = 0.0
    """Share of the recordings that have noise or music behind them, 5 to 30 dB quieter."""

    epoch_steps: int = 0
    """Steps between evaluations on dev; 0: once per pass over the data."""
    save_steps: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that cannot train anything."""
        if not self.manifests:
            raise ConfigError("train: name at least one manifest of training speech")
        for name, low, high in _RANGES:
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"train: {name} must lie between {low:g} and {high:g}")
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ConfigError(f"train: {name} must be {' or '.join(known)}")
        if not self.speeds or not all(0.5 <= speed <= 2.0 for speed in self.speeds):
            raise ConfigError("train: speeds must lie between 0.5 and 2")
        self._check_together()

    def _check_together(self) -> None:
        """Refuse settings that contradict each other."""
        if self.average_best > 1 and not self.dev:
            raise ConfigError("train: average_best needs dev, a manifest to tell which are best")
        if self.phones and not self.middle_loss:
            raise ConfigError("train: phones are what the middle block learns: give middle_loss")
        if self.epochs and self.first_steps:
            raise ConfigError("train: first_steps needs steps: leave epochs away")
        if self.max_utterance > self.batch_seconds:
            raise ConfigError("train: batch_seconds must hold an utterance of max_utterance")
        if self.joined_share and self.max_joined > self.batch_seconds:
            raise ConfigError("train: batch_seconds must hold a recording of max_joined")

    def to_json(self) -> str:
        """Every setting, for the run's folder."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"


_CHOICES = {
    "schedule": ("linear", "noam"),
    "optimizer": ("adamw", "muon"),
    "loss_per": ("token", "utterance"),
}
_KINDS = {float: "a number", int: "a whole number", str: "text", tuple: "a list"}
_TINY, _BELOW_ONE = 1e-9, 1.0 - 1e-9
_RANGES: tuple[tuple[str, float, float], ...] = (
    ("dropout", 0, _BELOW_ONE),
    ("decoder_layers", 1, 100),
    ("vocab_size", 0, 1e6),
    ("epochs", 0, 1e6),
    ("steps", 1, 1e9),
    ("warmup_steps", 0, 1e9),
    ("decay_steps", 0, 1e9),
    ("learning_rate", _TINY, 1e3),
    ("adam_epsilon", 0, 1),
    ("weight_decay", 0, 1e3),
    ("max_grad_norm", _TINY, 1e9),
    ("average_decay", 0, _BELOW_ONE),
    ("average_best", 1, 100),
    ("ctc_weight", _TINY, 1),
    ("label_smoothing", 0, _BELOW_ONE),
    ("middle_loss", 0, _BELOW_ONE),
    ("consistency", 0, 100),
    ("batch_seconds", _TINY, 1e6),
    ("max_batch", 1, 1e9),
    ("length_step", _TINY, 1e6),
    ("max_utterance", _TINY, 1e6),
    ("first_steps", 0, 1e9),
    ("frequency_masks", 0, 100),
    ("frequency_width", 0, 1e4),
    ("time_masks", 0, 100),
    ("time_share", 0, 1),
    ("time_width", 0, 1e6),
    ("background_share", 0, 1),
    ("joined_share", 0, 1),
    ("max_joined", _TINY, 1e6),
    ("gain_range", 0, 60),
    ("warp_range", 0, 0.5),
    ("room_share", 0, 1),
    ("noise_share", 0, 1),
    ("epoch_steps", 0, 1e9),
    ("save_steps", 1, 1e9),
    ("seed", 0, 1e9),
)


def load_config(
    path: Path | None, overrides: dict[str, Any], recipe: str | None = None
) -> TrainConfig:
    """Settings of a recipe, then of a TOML file, then `overrides` on top of both.

    Paths in the file are relative to it. Raises ConfigError for a recipe that does not exist, a
    file that cannot be read, an unknown name or a value of another type.
    """
    values: dict[str, Any] = {}
    if recipe is not None:
        if recipe not in recipes():
            raise ConfigError(f"train: no recipe {recipe!r}; known: {', '.join(recipes())}")
        values |= _read_toml(RECIPES / f"{recipe}.toml")
    if path is not None:
        values |= {n: _beside(path, n, value) for n, value in _read_toml(path).items()}
    if "steps" in overrides and "epochs" not in overrides:
        values["epochs"] = 0
    values |= overrides
    kinds = {f.name: type(f.default) for f in fields(TrainConfig)}
    for name, value in values.items():
        if name not in kinds:
            meant = get_close_matches(name, kinds, n=1) or kinds
            raise ConfigError(f"train: unknown setting {name!r}; known: {', '.join(meant)}")
        values[name] = _as(kinds[name], name, value)
    return TrainConfig(**values)


def recipes() -> list[str]:
    """The names of the recipes that come with the package."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise ConfigError(f"{path}: cannot read these settings: {reason}") from error


def parse_setting(text: str) -> tuple[str, Any]:
    """'name=value' -> its name and its value, spelled as in TOML; quotes may be left out.

    Raises ConfigError when there is no "=".
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"train: {text!r} is not of the form name=value")
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value.strip()


def _beside(path: Path, name: str, value: Any) -> Any:
    """A path in the file `path`, or a list of them, as seen from here; anything else as it is."""
    if name == "manifests" and isinstance(value, list):
        return [str(path.parent / one) if isinstance(one, str) else one for one in value]
    if name == "init" and isinstance(value, str) and "/" in value:  # else it may be a name
        return str(path.parent / value)
    if name in ("dev", "phones") and isinstance(value, str) and value:
        return str(path.parent / value)
    return value


def _as(kind: type, name: str, value: Any) -> Any:
    if kind is tuple and isinstance(value, list | tuple):
        member = float if name == "speeds" else str
        return tuple(_as(member, name, one) for one in value)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if type(value) is kind:
        return value
    raise ConfigError(f"train: {name} must be {_KINDS[kind]}, not {value!r}")
