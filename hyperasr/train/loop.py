"""The steps of a training run: batch in, better weights out, a state that survives a kill.

A run is a folder:

    settings.json     what was asked for
    metrics.jsonl     one line per report and per evaluation
    events.out...     the same for TensorBoard, if asked for
    state.pt          everything a resumed run needs; written atomically
    checkpoint/       the averaged weights of the last evaluation, ready to transcribe with
    best/             those of the evaluation with the lowest WER on dev, or the mean of the best
    kept/             the best, where `best` is the mean of several

Every random choice follows from the seed, the epoch and the step, so a run that is killed and
resumed computes what an uninterrupted one would have.
"""

import os
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from hyperasr.checkpoint import Checkpoint, load_checkpoint
from hyperasr.encoder import Encoder
from hyperasr.errors import ConfigError, HyperAsrError, OutputError
from hyperasr.manifest import read_manifest
from hyperasr.train import metrics
from hyperasr.train.augment import spec_augment, warp
from hyperasr.train.batches import (
    Batch,
    Pick,
    make_batch,
    place,
    plan_epoch,
    prefetch,
)
from hyperasr.train.best import Best, Kept
from hyperasr.train.board import Board, check_tensorboard
from hyperasr.train.config import TrainConfig
from hyperasr.train.corpus import Corpus, load_corpus, load_dev
from hyperasr.train.evaluate import Evaluation, Listener, score
from hyperasr.train.learner import Learner
from hyperasr.train.parallel import Workers
from hyperasr.train.phones import Pronunciations
from hyperasr.train.schedule import learning_rate
from hyperasr.train.state import (
    changed_settings,
    resume,
    save_settings,
    save_state,
    take_folder,
)
from hyperasr.train.usable import learnable, of_speakers, worth_reading
from hyperasr.train.vocabulary import build_tokens

REPORT_STEPS = 20
NUMBERS = ("step", "epoch", "position", "evaluated", "best_wer", "skipped")
"""What a run counts."""
PATIENCE = 50
"""Steps in a row that may end in a loss that is no number before the run gives up."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How a run stands, for whoever watches; rates are over the steps since the last report."""

    step: int
    steps: int
    epoch: int
    loss: float
    """CTC, nats per token; no number if all steps since the last report were skipped."""
    attention_loss: float
    """Of the attention decoder, nats per token; 0 without one."""
    learning_rate: float
    audio_seconds_per_second: float
    waiting: float
    """Share of the time that the encoder waited for data."""
    seconds_left: float
    skipped: int = 0
    """Steps of the whole run that ended in a loss that is no number, and changed nothing."""


@dataclass(frozen=True, slots=True)
class StepLosses:
    """Nats per token, over all workers; no number if the step was skipped."""

    ctc: float
    attention: float


class Trainer:
    """One training run in one folder."""

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        *,
        device: str = "cpu",
        bfloat16: bool = False,
        cache: Path | None = None,
        say: Callable[[str], None] | None = None,
        tensorboard: bool = False,
    ):
        if tensorboard:
            check_tensorboard()
        self.workers = Workers.join(device)
        self.config, self.folder = config, folder
        self.say = say if say and self.workers.leads else _say_nothing
        self.device = torch.device(device)
        utterances = [u for m in config.manifests for u in read_manifest(Path(m))]
        folder.mkdir(parents=True, exist_ok=True)
        self.unlock: Callable[[], object] = lambda: None
        if self.workers.leads:
            self.unlock = weakref.finalize(self, os.close, take_folder(folder))
        texts = (utterance.text for utterance in utterances)
        base = load_checkpoint(config.init) if config.init else None
        known = base.tokens if base else None
        self.tokens = build_tokens(config, texts, folder, self.workers, known)
        worth = worth_reading(utterances, self.tokens, self.say)

        def decode() -> tuple[Corpus | None, Corpus]:
            dev, normalise = config.dev and Path(config.dev), self.tokens.normalise
            return (
                load_dev(dev, cache, self.say, normalise) if dev else None,
                load_corpus(worth, cache, self.say),
            )

        self.dev, corpus = self.workers.in_turn(decode) if cache else decode()
        self.corpus = learnable(corpus, config, self.tokens, self.say)
        self.first = of_speakers(self.corpus, config.first_speakers)
        self.phones = Pronunciations(Path(config.phones)) if config.phones else None
        phones = len(self.phones.ids) if self.phones else 0
        self.learner = Learner(
            config, self.tokens, self.device, bfloat16=bfloat16, base=base, phones=phones
        )
        self.step = self.epoch = self.position = 0  # position: batches done of this epoch
        self.evaluated = -1 if base else 0  # the step of the last evaluation; base needs one
        self.best, self.best_wer = Best(folder, config.average_best), float("inf")
        self.failures = self.skipped = 0  # in a row, in all
        if config.epochs:
            self.config = replace(config, steps=config.epochs * len(self._plan()))
        if not self._resume():
            self._begin(base)
        if self.workers.leads:
            save_settings(folder, self.config)
        self.board = Board(folder) if tensorboard and self.workers.leads else None

    # -- the flow -------------------------------------------------------------------------

    def run(
        self,
        report: Callable[[Progress | Evaluation], None] = lambda progress: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Evaluation | None:
        """Train to the last step, or until `stop()` is true; the state is saved either way."""
        last: Evaluation | None = None
        self.stopped = False
        try:
            while not self.stopped:
                if self._due():
                    last = self._evaluate(report)
                if self.finished():
                    break
                for progress in self._steps(self._plan(), stop):
                    self._log(asdict(progress))
                    report(progress)
            self.save_state()
        finally:
            if self.board is not None:
                self.board.close()
            self.unlock()
        return last

    def finished(self) -> bool:
        """Whether all steps, or all passes over the data, are made."""
        config = self.config
        return self.epoch >= config.epochs if config.epochs else self.step >= config.steps

    def _due(self) -> bool:
        """Whether the weights are to be evaluated before the next step."""
        if self.step == self.evaluated:
            return False
        every = self.config.epoch_steps
        return self.finished() or (self.step % every == 0 if every else self.position == 0)

    def _steps(self, plan: list[list[Pick]], stop: Callable[[], bool]) -> Iterator[Progress]:
        """Train on the batches that are left of this epoch, until the next evaluation."""
        config = self.config
        if self.position >= len(plan):  # the plan got shorter: the settings changed
            self.epoch, self.position = self.epoch + 1, 0
            return
        left = plan[self.position :]
        if not config.epochs:
            left = left[: config.steps - self.step]
        if self._warming():
            left = left[: config.first_steps - self.step]
        if config.epoch_steps:
            left = left[: config.epoch_steps - self.step % config.epoch_steps]
        batches = prefetch(
            make_batch(
                self.corpus, picks, self.tokens, config.length_step, self.workers, self.phones
            )
            for picks in left
        )
        with closing(batches):  # also when a step raises: its thread must not outlive the run
            yield from self._train_on(batches, left, len(plan), stop)

    def _train_on(
        self,
        batches: Iterator[Batch],
        left: list[list[Pick]],
        whole: int,
        stop: Callable[[], bool],
    ) -> Iterator[Progress]:
        """A step on each of the batches that are `left` of a pass of `whole`; tells how it goes."""
        config = self.config
        since, waited, heard, found = time.perf_counter(), 0.0, 0.0, []
        for number in range(len(left)):
            asked = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - asked
            found.append(self.train_step(batch, stop()))
            heard += sum(pick.duration for pick in left[number])
            self._advance(whole)
            if self.step % config.save_steps == 0:
                self.save_state()
            if self.step % REPORT_STEPS == 0 or number == len(left) - 1:
                spent = time.perf_counter() - since
                yield Progress(
                    step=self.step,
                    steps=config.steps,
                    epoch=self.epoch,
                    loss=_mean([step.ctc for step in found]),
                    attention_loss=_mean([step.attention for step in found]),
                    learning_rate=learning_rate(config, self.step),
                    audio_seconds_per_second=heard / spent,
                    waiting=waited / spent,
                    seconds_left=max(0, config.steps - self.step) * spent / len(found),
                    skipped=self.skipped,
                )
                since, waited, heard, found = time.perf_counter(), 0.0, 0.0, []
            if self.stopped:
                return

    def _advance(self, batches: int) -> None:
        """Count the step just made; a pass, or the warming phase, may have ended with it."""
        warming = self._warming()
        self.step, self.position = self.step + 1, self.position + 1
        if self.position == batches or self._warming() != warming:
            self.epoch, self.position = self.epoch + 1, 0

    def train_step(self, batch: Batch, stop: bool = False) -> StepLosses:
        """One optimiser step; returns its losses over all workers.

        When any worker was told to `stop`, all of them agree to after this step.
        """
        config = self.config
        seed = (config.seed * 1_000_003 + self.step) * 1_009 + self.workers.rank
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        lengths = batch.lengths.to(self.device, non_blocking=True)
        with torch.no_grad():
            waveforms = batch.waveforms.to(self.device)
            features, frames = self.learner.features(waveforms, lengths)
            if not self._warming():
                if config.warp_range:
                    features = warp(features, self.learner.features, config.warp_range, generator)
                if config.consistency:  # the same features twice, which the masks tell apart
                    batch = batch.twice()
                    features, frames = features.repeat(2, 1, 1), frames.repeat(2)
                features = spec_augment(features, frames, config, generator)
        found = self.learner.losses(features, frames, batch)
        self.learner.forget_gradients()
        found.total.backward()  # type: ignore[no-untyped-call]
        *told, stopped = self.workers.sum_gradients(
            self.learner.parameters, found.ctc.item(), found.attention.item(), float(stop)
        )
        self.stopped = stopped > 0
        norm = torch.nn.utils.clip_grad_norm_(self.learner.parameters, config.max_grad_norm)
        if not (torch.isfinite(norm) and np.isfinite(told).all()):
            self.failures, self.skipped = self.failures + 1, self.skipped + 1
            if self.failures >= PATIENCE:
                raise HyperAsrError(
                    f"the loss was no number for {PATIENCE} steps in a row: lower learning_rate"
                )
            return StepLosses(float("nan"), float("nan"))
        self.failures = 0
        self.learner.update(learning_rate(config, self.step))
        return StepLosses(*told)

    # -- evaluation -----------------------------------------------------------------------

    def _evaluate(self, report: Callable[[Progress | Evaluation], None]) -> Evaluation | None:
        """WER of the averaged weights on dev; writes checkpoint/ and, when better, best/."""
        found = None
        if self.dev is not None:
            found = self._score_dev(self.learner.averaged.eval(), self.dev)
            self._tell(found, report)
        try:
            if self.workers.leads:
                self.learner.save(self.folder / "checkpoint")
            if found is not None:
                self._keep(found)
                if self.finished() and len(self.best.kept) > 1:
                    found = self._evaluate_mean(report)
        except (HyperAsrError, OSError):
            with suppress(OutputError):
                self.save_state()  # the steps are not lost where a checkpoint cannot be written
            raise
        self.evaluated = self.step
        self.save_state()
        if self.workers.leads:
            self.best.forget_others()  # only now, as the state before knows them
        return found

    def _keep(self, found: Evaluation) -> None:
        """Write best/ anew if this is among the best."""
        better, self.best_wer = found.wer < self.best_wer, min(found.wer, self.best_wer)
        if self.config.average_best == 1:
            if better and self.workers.leads:
                self.learner.save(self.folder / "best")
            return
        save = self.learner.save if self.workers.leads else None
        if self.best.offer(Kept(found.wer, found.step), save) and self.workers.leads:
            self.best.write_mean(self.folder / "best")

    def _evaluate_mean(self, report: Callable[[Progress | Evaluation], None]) -> Evaluation:
        """WER of best/, the mean of several."""
        if self.workers.leads:  # once more: best/ may be damaged, or one of the kept gone
            self.best.write_mean(self.folder / "best")
        self.workers.gather(None)  # the others wait until it is written
        encoder = load_checkpoint(self.folder / "best").encoder.to(self.device)
        found = self._score_dev(encoder, cast(Corpus, self.dev))
        found = replace(found, averaged=len(self.best.kept))
        self._tell(found, report)
        if found.wer > self.best.kept[0].wer and self.workers.leads:
            self.best.write_first(self.folder / "best")
        self.best_wer = min(found.wer, self.best.kept[0].wer)
        return found

    def _tell(self, found: Evaluation, report: Callable[[Progress | Evaluation], None]) -> None:
        self._log(asdict(found))
        report(found)

    def _score_dev(self, encoder: Encoder, dev: Corpus) -> Evaluation:
        listener = Listener(encoder, self.learner.features, self.tokens, self.device)
        return score(listener, dev, self.workers, self.config.length_step, self.step)

    # -- state ----------------------------------------------------------------------------

    def save_state(self) -> None:
        """Write what a resumed run needs."""
        if self.workers.leads:
            numbers = {name: getattr(self, name) for name in NUMBERS}
            kept = [(kept.wer, kept.step) for kept in self.best.kept]
            numbers |= {"kept": kept, "labels": list(self.tokens.labels)}
            save_state(self.folder, numbers, self.learner.parts())

    def _begin(self, base: Checkpoint | None) -> None:
        """Learn how loud each mel band is, or say what a checkpoint brings along."""
        if base is None:
            count = len(self.corpus.utterances)
            some = range(0, count, max(1, count // 500))
            self.learner.measure_features([self.corpus.waveform(index) for index in some])
            return
        sizes, had = base.encoder.config, len(base.tokens.labels)
        added = len(self.tokens.labels) - had
        more = f" and {added} more" if added else ""
        self.say(
            f"from {self.config.init}: {sizes.n_layers} blocks of width {sizes.d_model}, "
            f"its {had} tokens{more}"
        )
        if base.decoder is not None and self.learner.decoder is None:
            self.say("its attention decoder is left behind: set ctc_weight=0.3 to train it too")

    def _resume(self) -> bool:
        """Go on from the state in the folder, if there is one."""
        changes = changed_settings(self.folder, self.config)
        labels = self.tokens.labels
        numbers = resume(self.folder, self.learner.parts(), self.device, labels, self.config)
        for name in NUMBERS if numbers else ():
            setattr(self, name, numbers[name])
        if numbers:
            self._go_on(numbers.get("kept", ()))
            self.say(f"{self.folder}: resuming at step {self.step}")
        if numbers and changes:
            self.say(f"{self.folder}: goes on with other settings: {changes}")
        if self.workers.leads:
            metrics.forget_later(self.folder, self.step, self.evaluated)
        return bool(numbers)

    def _go_on(self, kept: Sequence[tuple[float, int]]) -> None:
        """See which weights are still the best."""
        several = self.config.average_best > 1
        if several:
            self.best.go_on(Kept(*one) for one in kept)
        gone = not (self.folder / "best").exists() or (several and kept and not self.best.kept)
        if gone or changed_settings(self.folder, self.config, ("dev",)):
            self.best.kept, self.best_wer = [], float("inf")  # other figures do not compare
        if several and not self.best.kept and self.best_wer < float("inf"):
            raise ConfigError(
                f"{self.folder / 'best'} is of a run with average_best 1: set it back or choose "
                "another folder"
            )

    def _log(self, entry: dict[str, Any]) -> None:
        if self.workers.leads:
            metrics.log(self.folder, entry)
        if self.board is not None:
            self.board.add(entry)

    # -- data -----------------------------------------------------------------------------

    def _warming(self) -> bool:
        return bool(self.first) and self.step < self.config.first_steps

    def _plan(self) -> list[list[Pick]]:
        config = self.config
        if self._warming():
            return plan_epoch(self.corpus, self.first, config, self.epoch)
        plan = plan_epoch(
            self.corpus,
            list(range(len(self.corpus.utterances))),
            config,
            self.epoch,
            speeds=config.speeds,
            background_share=config.background_share,
            joined_share=config.joined_share,
            gain_range=config.gain_range,
        )
        return place(plan, config, self.epoch)


def _mean(values: list[float]) -> float:
    """Of those that are numbers; none is of no number."""
    numbers = [value for value in values if np.isfinite(value)]
    return float(np.mean(numbers)) if numbers else float("nan")


def _say_nothing(message: str) -> None:
    """For workers that do not lead."""
