"""What a run writes down about itself: metrics.jsonl, a line per report and per evaluation."""

import json
import math
from pathlib import Path
from typing import Any

from hyperasr.files import replacing

METRICS_FILE = "metrics.jsonl"


def log(folder: Path, entry: dict[str, Any]) -> None:
    """Add a line; JSON has no NaN, which the loss is where all steps were skipped."""
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in entry.items()
    }
    with (folder / METRICS_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(finite, allow_nan=False) + "\n")


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The entries of a run, without those that were cut off while they were written."""
    path = folder / METRICS_FILE
    entries: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and isinstance(entry.get("step"), int):
            entries.append(entry)
    return entries


def forget_later(folder: Path, step: int, evaluated: int) -> None:
    """Drop what was logged after the state that is resumed: it will be logged again.

    Raises OutputError when there is no room; the lines stay.
    """
    if not (folder / METRICS_FILE).exists():
        return
    kept = [
        json.dumps(entry) + "\n"
        for entry in read_metrics(folder)
        if entry["step"] <= (evaluated if "wer" in entry else step)
    ]
    with replacing(folder / METRICS_FILE) as partial:
        partial.write_text("".join(kept), encoding="utf-8")
