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
    """The entries of a run, without lines that are cut off or damaged."""
    path = folder / METRICS_FILE
    entries: list[dict[str, Any]] = []
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if _is_entry(entry):
            entries.append(entry)
    return entries


def _is_entry(entry: Any) -> bool:
    """Whether this is what `log` writes: a step, and numbers where numbers belong."""
    if not isinstance(entry, dict) or type(entry.get("step")) is not int:
        return False
    sources = entry.get("by_source", {})
    rates = [entry["step"], *([entry["wer"]] if "wer" in entry else [])]
    rates += sources.values() if isinstance(sources, dict) else [None]
    reported = [entry.get(name) for name in ("loss", "attention_loss", "learning_rate")]
    return all(map(_is_number, rates)) and all(v is None or _is_number(v) for v in reported)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15


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
