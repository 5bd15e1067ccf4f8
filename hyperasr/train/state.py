"""What a resumed run needs, in one file that is whole or not there: state.pt; its settings beside.

state.pt        weights, their averages, the optimiser, counts
settings.json   what was asked for
"""

import dataclasses
import errno
import json
import os
import shutil
from collections.abc import Container, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol

import torch

from hyperasr.checkpoint import check_replaceable, tidy
from hyperasr.errors import ConfigError
from hyperasr.files import replacing
from hyperasr.tokens import SENTENCEPIECE_FILE
from hyperasr.train.best import FOLDER as KEPT_FOLDER
from hyperasr.train.config import TrainConfig

STATE_FILE = "state.pt"
SETTINGS_FILE = "settings.json"
LOCK_FILE = ".lock"
CHECKPOINTS = "checkpoint", "best"
SHOWN = 40
"""Characters of a setting that are told; paths may be long."""
SIZES = (
    *("model", "vocab_size", "letters", "init", "phones", "optimizer"),
    *("ctc_weight", "decoder_layers"),
)
"""Settings that decide what a state holds."""
_BROKEN = (
    *(EOFError, LookupError, TypeError, ValueError, AttributeError),
    *(UnpicklingError, OSError, RuntimeError),
)


class Part(Protocol):
    """A model or an optimiser."""

    def state_dict(self) -> dict[str, Any]:
        """What it remembers."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Remember what another one did."""


def take_folder(folder: Path) -> int:
    """Lock a run's folder and tidy what a killed process left; os.close the result to unlock it.

    Raises ConfigError when another run is at work in it, OutputError when something else is there.
    """
    for name in CHECKPOINTS:
        check_replaceable(folder / name)
    lock = os.open(folder / LOCK_FILE, os.O_WRONLY | os.O_CREAT)
    _lock(lock, folder)
    for name in CHECKPOINTS:
        tidy(folder / name)
    for partial in folder.glob(".hyperasr-*.part"):
        partial.unlink()
    for partial in (folder / KEPT_FOLDER).glob(".step-*"):
        shutil.rmtree(partial)
    return lock


def _lock(file: int, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # on Windows two runs in one folder are not noticed
        return
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):  # others: this disk knows no locks
            os.close(file)
            raise ConfigError(
                f"{folder}: another run is at work in this folder: end it or choose another"
            ) from error


def save_state(folder: Path, numbers: Mapping[str, Any], parts: Mapping[str, Part]) -> None:
    """Replace the state in `folder`; if that fails, the one before stays.

    Raises OutputError when there is no room.
    """
    state = {**numbers, **{name: part.state_dict() for name, part in parts.items()}}
    blob = BytesIO()  # torch would hide what is wrong with the disk
    torch.save(state, blob)
    with replacing(folder / STATE_FILE) as partial:
        partial.write_bytes(blob.getbuffer())


def resume(
    folder: Path,
    parts: Mapping[str, Part],
    device: torch.device,
    labels: Sequence[str],
    config: TrainConfig,
) -> dict[str, Any]:
    """Fill `parts` from the state in `folder`; returns its numbers, none if there is no state.

    Raises ConfigError when it is damaged or of another model, its tokens are not `labels`, or it
    began from another checkpoint.
    """
    try:
        numbers = _load_state(folder, parts, device, labels)
    except ConfigError as error:
        others = changed_settings(folder, config, SIZES)
        if not others:
            raise
        raise ConfigError(f"{error}, or set back what is not as it was: {others}") from error
    if numbers and (began := changed_settings(folder, config, ("init",))):
        raise ConfigError(
            f"{folder} began otherwise: {began}: set it back or choose another folder"
        )
    return numbers


def _load_state(
    folder: Path, parts: Mapping[str, Part], device: torch.device, labels: Sequence[str]
) -> dict[str, Any]:
    path = folder / STATE_FILE
    if not path.exists():
        return {}
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        if list(labels) != state.pop("labels", list(labels)):
            raise ConfigError(
                f"{path} is of other tokens: set letters back, put its {SENTENCEPIECE_FILE} back, "
                "or choose another folder"
            )
        for name, part in parts.items():
            part.load_state_dict(state.pop(name))
        if type(state["step"]) is not int:
            raise TypeError("it counts no steps")
        return {"evaluated": state["step"], "skipped": 0, **state}  # of runs before there were
    except _BROKEN as error:
        reason = str(error).splitlines()[0] if str(error) else "it is empty"
        raise ConfigError(
            f"{path} is damaged or of a model of other sizes ({reason[:100]}): "
            "choose another folder"
        ) from error


def save_settings(folder: Path, config: TrainConfig) -> None:
    """Write what a run is asked for; raises OutputError when there is no room."""
    with replacing(folder / SETTINGS_FILE) as partial:
        partial.write_text(config.to_json(), encoding="utf-8")


def changed_settings(folder: Path, config: TrainConfig, names: Container[str] | None = None) -> str:
    """Which settings, or which of `names`, are not those of the run in `folder`, "" if all are."""
    try:
        before = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # it is there for people; a run can do without
        return ""
    now = json.loads(config.to_json())
    known = {f.name: f.default for f in dataclasses.fields(config)}
    missing = {name: list(d) if isinstance(d, tuple) else d for name, d in known.items()}
    before = missing | before if isinstance(before, dict) else now
    changes = [
        f"{name} {_short(now[name])} (was {_short(before[name])})"
        for name in now
        if now[name] != before[name] and (names is None or name in names)
    ]
    return ", ".join(changes)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 4]} ..."
