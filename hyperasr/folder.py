"""The name of a checkpoint -> its folder, and what config.json there says. No torch here."""

import json
from pathlib import Path
from typing import Any

from hyperasr.errors import CheckpointError

FORMAT = 1
CONFIG_FILE = "config.json"
DEFAULT_MODEL = "hyperconformer-en"


def find_checkpoint(name: str | Path) -> Path:
    """The folder of a checkpoint: a path, or the name of one that came with hyperasr.

    Raises CheckpointError that lists the names when there is neither.
    """
    try:
        if (Path(name) / CONFIG_FILE).is_file():
            return Path(name)
    except OSError as error:
        raise CheckpointError(f"{name}: {(error.strerror or str(error)).lower()}") from error
    here = Path(__file__).parent
    known: dict[str, Path] = {}
    for home in (here.parent / "checkpoints", here / "checkpoints"):  # source tree, installed
        known |= {found.parent.name: found.parent for found in home.glob(f"*/{CONFIG_FILE}")}
    if str(name) in known:
        return known[str(name)]
    what = f"no {CONFIG_FILE} in it" if Path(name).is_dir() else "no such checkpoint folder"
    raise CheckpointError(f"{name}: {what}; bundled models: {', '.join(sorted(known)) or 'none'}")


def read_config(folder: Path) -> dict[str, Any]:
    """What config.json of a checkpoint says; CheckpointError if it cannot be read."""
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}/{CONFIG_FILE} cannot be read: {error}") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise CheckpointError(f"{folder}/{CONFIG_FILE} is not of checkpoint format {FORMAT}")
    return config
