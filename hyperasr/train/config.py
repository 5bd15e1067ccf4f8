"""Every setting of a training run, as a frozen dataclass that reads TOML."""

import dataclasses
import json
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hyperasr.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """What is trained, on what, how long. Lengths are seconds, times are optimiser steps."""

    manifests: tuple[str, ...] = ()
    dev: str = ""

    model: str = "hyperconformer-8m"
    dropout: float = 0.1

    steps: int = 20_000
    warmup_steps: int = 500
    decay_steps: int = 2_000
    """The last steps, over which the learning rate falls to zero in a straight line."""
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    average_decay: float = 0.999
    """Of the exponential average of the weights, which is what gets evaluated and saved."""
    middle_loss: float = 0.3
    """Share of a second CTC loss on the middle block (arXiv:2102.03216)."""

    batch_seconds: float = 120.0
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
    """Each time mask hides at most this share of the utterance."""

    background_share: float = 0.02
    """Utterances of noise or silence with no text that are added: there is nothing to hear."""

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
        if self.max_utterance > self.batch_seconds:
            raise ConfigError("train: batch_seconds must hold an utterance of max_utterance")
        if not self.speeds or not all(0.5 <= speed <= 2.0 for speed in self.speeds):
            raise ConfigError("train: speeds must lie between 0.5 and 2")

    def to_json(self) -> str:
        """Every setting, for the run's folder."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"


_TINY, _BELOW_ONE = 1e-9, 1.0 - 1e-9
_RANGES: tuple[tuple[str, float, float], ...] = (
    ("dropout", 0, _BELOW_ONE),
    ("steps", 1, 1e9),
    ("warmup_steps", 0, 1e9),
    ("decay_steps", 0, 1e9),
    ("learning_rate", _TINY, 1e3),
    ("weight_decay", 0, 1e3),
    ("max_grad_norm", _TINY, 1e9),
    ("average_decay", 0, _BELOW_ONE),
    ("middle_loss", 0, _BELOW_ONE),
    ("batch_seconds", _TINY, 1e6),
    ("length_step", _TINY, 1e6),
    ("max_utterance", _TINY, 1e6),
    ("first_steps", 0, 1e9),
    ("frequency_masks", 0, 100),
    ("frequency_width", 0, 1e4),
    ("time_masks", 0, 100),
    ("time_share", 0, 1),
    ("background_share", 0, 1),
    ("epoch_steps", 0, 1e9),
    ("save_steps", 1, 1e9),
    ("seed", 0, 1e9),
)


def load_config(path: Path | None, overrides: dict[str, Any]) -> TrainConfig:
    """Settings of a TOML file, then `overrides` on top; paths in it are relative to the file.

    Raises ConfigError for a file that cannot be read, an unknown name or a value of another type.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{path}: cannot read these settings: {error}") from error
        values = {name: _beside(path, name, value) for name, value in values.items()}
    values |= overrides
    kinds = {f.name: type(f.default) for f in fields(TrainConfig)}
    for name, value in values.items():
        if name not in kinds:
            raise ConfigError(f"train: unknown setting {name!r}; known: {', '.join(kinds)}")
        values[name] = _as(kinds[name], name, value)
    return TrainConfig(**values)


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
    if name == "dev" and isinstance(value, str) and value:
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
    raise ConfigError(f"train: {name} must be a {kind.__name__}, not {value!r}")
