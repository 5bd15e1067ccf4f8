"""What a resumed run needs, in one file that is whole or not there: state.pt."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol

import torch

from hyperasr.errors import ConfigError
from hyperasr.files import replacing

STATE_FILE = "state.pt"
_BROKEN = (EOFError, KeyError, TypeError, ValueError, UnpicklingError, OSError, RuntimeError)


class Part(Protocol):
    """A model or an optimiser."""

    def state_dict(self) -> dict[str, Any]:
        """What it remembers."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Remember what another one did."""


def save_state(folder: Path, numbers: Mapping[str, Any], parts: Mapping[str, Part]) -> None:
    """Replace the state in `folder`; if that fails, the one before stays.

    Raises OutputError when there is no room.
    """
    state = {**numbers, **{name: part.state_dict() for name, part in parts.items()}}
    blob = BytesIO()  # torch would hide what is wrong with the disk
    torch.save(state, blob)
    with replacing(folder / STATE_FILE) as partial:
        partial.write_bytes(blob.getbuffer())


def load_state(folder: Path, parts: Mapping[str, Part], device: torch.device) -> dict[str, Any]:
    """Fill `parts` from the state in `folder`; returns its numbers, none if there is no state.

    Raises ConfigError when it is damaged or of another model.
    """
    path = folder / STATE_FILE
    if not path.exists():
        return {}
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state.pop(name))
        return {"evaluated": state["step"], **state}
    except _BROKEN as error:
        reason = str(error).splitlines()[0] if str(error) else "it is empty"
        raise ConfigError(
            f"{path} is damaged or of a model of other sizes ({reason[:100]}): "
            "choose another folder"
        ) from error
