"""What a run did -> report.json and a few lines for a person. No torch here."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperasr import __version__
from hyperasr.batch.plan import Failure
from hyperasr.batch.run import Outcome
from hyperasr.writers import save

NAME = "report.json"
SCHEMA_VERSION = 1
SLOWEST = 3


@dataclass(frozen=True, slots=True)
class Report:
    """One run over a plan; hours and seconds are those of this run alone."""

    model: str
    model_sha256: str
    settings: dict[str, Any]
    planned: int
    """Recordings of the plan."""
    done_before: int
    """Of these, what earlier runs had done, or what was skipped because its results exist."""
    outcomes: tuple[Outcome, ...]
    unlisted: tuple[Failure, ...]
    seconds: float
    """The run took so long, loading the model left out."""
    interrupted: bool = False

    @property
    def failures(self) -> list[Failure]:
        """Everything that was not done, and why."""
        failed = [Failure(o.item.path, str(o.error)) for o in self.outcomes if o.error]
        return [*self.unlisted, *failed]

    @property
    def done(self) -> list[Outcome]:
        """What this run did."""
        return [outcome for outcome in self.outcomes if outcome.error is None]

    @property
    def left(self) -> int:
        """How many recordings were not come to."""
        return self.planned - self.done_before - len(self.outcomes)

    @property
    def audio_seconds(self) -> float:
        """Of the recordings that this run did."""
        return sum(outcome.seconds for outcome in self.done)

    @property
    def slowest(self) -> list[Outcome]:
        """The recordings that the run waited for longest."""
        return sorted(self.done, key=lambda outcome: -outcome.waited)[:SLOWEST]

    def as_json(self) -> dict[str, Any]:
        """The whole report; `null` for a speed where nothing was heard."""
        failed = sum(1 for outcome in self.outcomes if outcome.error)
        return {
            "schema_version": SCHEMA_VERSION,
            "version": __version__,
            "model": {"name": self.model, "sha256": self.model_sha256},
            "settings": self.settings,
            "interrupted": self.interrupted,
            "files": {
                "planned": self.planned,
                "done_before": self.done_before,
                "done": len(self.done),
                "without_speech": sum(1 for outcome in self.done if not outcome.words),
                "failed": failed,
                "left": self.left,
            },
            "audio_hours": round(self.audio_seconds / 3600, 4),
            "seconds": round(self.seconds, 3),
            "rtfx": round(self.audio_seconds / self.seconds, 2) if self.audio_seconds else None,
            "slowest": [
                {
                    "path": str(outcome.item.path),
                    "duration": round(outcome.seconds, 3),
                    "waited": round(outcome.waited, 3),
                }
                for outcome in self.slowest
            ],
            "failures": [{"path": str(f.path), "reason": f.reason} for f in self.failures],
        }

    def lines(self) -> list[str]:
        """What a person wants to know at the end."""
        lines = []
        if self.done:
            speed = self.audio_seconds / self.seconds
            lines.append(
                f"{counted(len(self.done), 'file')}, {length(self.audio_seconds)} of sound in "
                f"{length(self.seconds)}: {speed:.0f} times real time"
            )
        if len(self.done) > SLOWEST:
            named = (f"{o.item.path} ({o.waited:.1f} s)" for o in self.slowest)
            lines.append(f"waited longest for {', '.join(named)}")
        silent = sum(1 for outcome in self.done if not outcome.words)
        if silent:
            lines.append(f"no speech heard in {counted(silent, 'file')}")
        return lines

    def write(self, folder: Path) -> None:
        """Write report.json. Raises OutputError."""
        save(json.dumps(self.as_json(), indent=2) + "\n", folder / NAME)


def counted(number: int, one: str) -> str:
    """(2, "file") -> '2 files'."""
    return f"{number} {one}" if number == 1 else f"{number} {one}s"


def length(seconds: float) -> str:
    """4000 -> '1.11 hours', 90 -> '1.5 minutes', 9 -> '9.0 s'."""
    if seconds >= 3600:
        return f"{seconds / 3600:.2f} hours"
    return f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.1f} s"
