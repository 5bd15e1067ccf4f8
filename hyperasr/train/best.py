"""The best checkpoints of a run by WER on dev, and the mean of their weights."""

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from hyperasr.train.average import average

FOLDER = "kept"


@dataclass(frozen=True, slots=True, order=True)
class Kept:
    """A checkpoint worth keeping; the best comes first."""

    wer: float
    step: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{FOLDER}/step-{self.step}"


class Best:
    """Which checkpoints are the best `count` so far; those of the rest are deleted."""

    def __init__(self, folder: Path, count: int):
        self.folder, self.count = folder, count
        self.kept: list[Kept] = []

    def go_on(self, kept: Iterable[Kept]) -> None:
        """Take over those of a run that is resumed, without what somebody has deleted since."""
        self.kept = [one for one in kept if (self.folder / one.name).is_dir()]

    def offer(self, found: Kept, save: Callable[[Path], None] | None) -> bool:
        """Keep a checkpoint if it is among the best; `save`, where this worker leads, writes it."""
        ranking = sorted([*(kept for kept in self.kept if kept.step != found.step), found])
        self.kept = ranking[: self.count]
        if save is not None and found in self.kept:
            save(self.folder / found.name)
        return found in self.kept

    def forget_others(self) -> None:
        """Delete the checkpoints that are not among the best any more."""
        names = {kept.name for kept in self.kept}
        for path in (self.folder / FOLDER).glob("step-*"):
            if f"{FOLDER}/{path.name}" not in names:
                shutil.rmtree(path)

    def write_mean(self, folder: Path) -> None:
        """Write a checkpoint whose weights are the means of those of the best."""
        average([self.folder / kept.name for kept in self.kept], folder)

    def write_first(self, folder: Path) -> None:
        """Write the best of them alone."""
        average([self.folder / self.kept[0].name], folder)
