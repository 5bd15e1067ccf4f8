"""The steps of a training run: batch in, better weights out, a state that survives a kill.

A run is a folder:

    settings.json     what was asked for
    metrics.jsonl     one line per report and per evaluation
    state.pt          everything a resumed run needs; written atomically
    checkpoint/       the averaged weights of the last evaluation, ready to transcribe with
    best/             those of the evaluation with the lowest WER on dev

Every random choice follows from the seed, the epoch and the step, so a run that is killed and
resumed computes what an uninterrupted one would have.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from hyperasr.checkpoint import save_checkpoint
from hyperasr.encoder import CONFIGS, Encoder
from hyperasr.errors import ConfigError, HyperAsrError
from hyperasr.features import LogMel
from hyperasr.manifest import Utterance, read_manifest
from hyperasr.tokens import BLANK, CharTokens
from hyperasr.train.augment import spec_augment
from hyperasr.train.config import TrainConfig
from hyperasr.train.data import Batch, Corpus, Pick, load_corpus, make_batch, plan_epoch, prefetch
from hyperasr.train.evaluate import Evaluation, Listener, score
from hyperasr.train.parallel import Workers

REPORT_STEPS = 20
_BROKEN_STATE = (EOFError, KeyError, TypeError, ValueError, UnpicklingError)
PATIENCE = 50
"""Steps in a row that may end in a loss that is no number before the run gives up."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How a run stands, for whoever watches; rates are over the steps since the last report."""

    step: int
    steps: int
    epoch: int
    loss: float
    learning_rate: float
    audio_seconds_per_second: float
    waiting: float
    """Share of the time that the encoder waited for data."""
    seconds_left: float


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
    ):
        if config.model not in CONFIGS:
            raise ConfigError(f"train: no model {config.model!r}; known: {', '.join(CONFIGS)}")
        self.workers = Workers.join(device)
        self.config, self.folder = config, folder
        self.say = say if say and self.workers.leads else _say_nothing
        self.device, self.bfloat16 = torch.device(device), bfloat16
        self.tokens = CharTokens()
        utterances = [u for m in config.manifests for u in read_manifest(Path(m))]
        self.dev = _decode_dev(config, cache, self.say)
        self.corpus = load_corpus(self._usable(utterances), cache, self.say)
        self.first = self._first_speakers()

        torch.manual_seed(config.seed)
        sizes = replace(
            CONFIGS[config.model], vocab_size=len(self.tokens.labels), dropout=config.dropout
        )
        self.features = LogMel().to(self.device)
        self.encoder = Encoder(sizes).to(self.device)
        self.average = AveragedModel(self.encoder, multi_avg_fn=self._average)
        self.optimizer = torch.optim.AdamW(
            self.encoder.parameters(),
            lr=config.learning_rate,
            betas=(0.9, 0.98),
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.step = self.epoch = self.position = 0  # position: batches done of this epoch
        self.evaluated = 0  # the step of the last evaluation
        self.best_wer = float("inf")
        self.failures = 0
        folder.mkdir(parents=True, exist_ok=True)
        if not self._load_state():
            self._measure_features()
        if self.workers.leads:
            (folder / "settings.json").write_text(config.to_json(), encoding="utf-8")

    # -- the flow -------------------------------------------------------------------------

    def run(
        self,
        report: Callable[[Progress | Evaluation], None] = lambda progress: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Evaluation | None:
        """Train to the last step, or until `stop()` is true; the state is saved either way."""
        last: Evaluation | None = None
        self.stopped = False
        while not self.stopped:
            if self._due():
                last = self._evaluate(report)
            if self.step >= self.config.steps:
                break
            for progress in self._steps(self._plan(), stop):
                self._log(asdict(progress))
                report(progress)
        self.save_state()
        return last

    def _due(self) -> bool:
        """Whether the weights are to be evaluated before the next step."""
        if self.step in (0, self.evaluated):
            return False
        every = self.config.epoch_steps
        return self.step == self.config.steps or (
            self.step % every == 0 if every else self.position == 0
        )

    def _steps(self, plan: list[list[Pick]], stop: Callable[[], bool]) -> Iterator[Progress]:
        """Train on the batches that are left of this epoch, until the next evaluation."""
        config = self.config
        if self.position >= len(plan):  # the plan got shorter: the settings changed
            self.epoch, self.position = self.epoch + 1, 0
            return
        left = plan[self.position :]
        left = left[: config.steps - self.step]
        if self._warming():
            left = left[: config.first_steps - self.step]
        if config.epoch_steps:
            left = left[: config.epoch_steps - self.step % config.epoch_steps]
        batches = prefetch(
            make_batch(self.corpus, picks, self.tokens, config.length_step, self.workers)
            for picks in left
        )
        since, waited, heard, losses = time.perf_counter(), 0.0, 0.0, []
        for number in range(len(left)):
            asked = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - asked
            losses.append(self.train_step(batch, stop()))
            heard += sum(pick.duration for pick in left[number])
            self._advance(len(plan))
            if self.step % config.save_steps == 0:
                self.save_state()
            if self.step % REPORT_STEPS == 0 or number == len(left) - 1:
                spent = time.perf_counter() - since
                yield Progress(
                    step=self.step,
                    steps=config.steps,
                    epoch=self.epoch,
                    loss=float(np.mean(losses)),
                    learning_rate=self.learning_rate(),
                    audio_seconds_per_second=heard / spent,
                    waiting=waited / spent,
                    seconds_left=(config.steps - self.step) * spent / len(losses),
                )
                since, waited, heard, losses = time.perf_counter(), 0.0, 0.0, []
            if self.stopped:
                return

    def _advance(self, batches: int) -> None:
        """Count the step just made; a pass, or the warming phase, may have ended with it."""
        warming = self._warming()
        self.step, self.position = self.step + 1, self.position + 1
        if self.position == batches or self._warming() != warming:
            self.epoch, self.position = self.epoch + 1, 0

    def train_step(self, batch: Batch, stop: bool = False) -> float:
        """One optimiser step; returns the CTC loss per character (nats) over all workers.

        When any worker was told to `stop`, all of them agree to after this step.
        """
        config = self.config
        seed = (config.seed * 1_000_003 + self.step) * 1_009 + self.workers.rank
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        self.encoder.train()
        lengths = batch.lengths.to(self.device, non_blocking=True)
        with torch.no_grad():
            features, frames = self.features(batch.waveforms.to(self.device), lengths)
            if not self._warming():
                features = spec_augment(features, frames, config, generator)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            outputs = list(self.encoder.hidden(features, frames))
        final = self._ctc_loss(outputs[-1], frames, batch)
        loss = final
        if config.middle_loss:
            middle = self._ctc_loss(outputs[(len(outputs) - 1) // 2], frames, batch)
            loss = (1 - config.middle_loss) * final + config.middle_loss * middle
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        told = self.workers.sum_gradients(self.encoder.parameters(), final.item(), float(stop))
        self.stopped = told[1] > 0
        norm = torch.nn.utils.clip_grad_norm_(self.encoder.parameters(), config.max_grad_norm)
        if not torch.isfinite(norm):
            self.failures += 1
            if self.failures >= PATIENCE:
                raise HyperAsrError(
                    f"the loss was no number for {PATIENCE} steps in a row: lower learning_rate"
                )
            return float("nan")
        self.failures = 0
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.optimizer.step()
        self.average.update_parameters(self.encoder)
        return told[0]

    def _ctc_loss(self, x: Tensor, frames: Tensor, batch: Batch) -> Tensor:
        """This worker's part of the CTC loss per character, of a block's output (B, S, D)."""
        loss = F.ctc_loss(
            self.encoder.log_probs(x).transpose(0, 1),
            batch.targets.to(self.device),
            self.encoder.output_lengths(frames),
            batch.target_lengths.to(self.device),
            blank=BLANK,
            reduction="sum",
            zero_infinity=True,
        )
        return loss * batch.weight

    def learning_rate(self) -> float:
        """Linear warm-up, a plateau, then a straight line to zero over the last steps."""
        config = self.config
        up = (self.step + 1) / max(1, config.warmup_steps)
        down = (config.steps - self.step) / max(1, config.decay_steps)
        return config.learning_rate * max(0.0, min(1.0, up, down))

    # -- evaluation -----------------------------------------------------------------------

    def _evaluate(self, report: Callable[[Progress | Evaluation], None]) -> Evaluation | None:
        """WER of the averaged weights on dev; writes checkpoint/ and, when better, best/."""
        encoder = self.averaged.eval()
        result = None
        if self.dev is not None:
            result = self._score_dev(encoder, self.dev)
            self._log(asdict(result))
            report(result)
        if self.workers.leads:
            names = ["checkpoint"]
            if result is not None and result.wer < self.best_wer:
                names.append("best")
            for name in names:  # half precision: the state keeps the whole
                save_checkpoint(self.folder / name, encoder, self.features, self.tokens, half=True)
        if result is not None:
            self.best_wer = min(self.best_wer, result.wer)
        self.evaluated = self.step
        self.save_state()
        return result

    @property
    def averaged(self) -> Encoder:
        """The encoder with the averaged weights."""
        return cast(Encoder, self.average.module)

    def _score_dev(self, encoder: Encoder, dev: Corpus) -> Evaluation:
        listener = Listener(encoder, self.features, self.tokens, self.device)
        return score(listener, dev, self.workers, self.config.length_step, self.step)

    # -- state ----------------------------------------------------------------------------

    def save_state(self) -> None:
        """Write state.pt under a temporary name and move it into place."""
        if not self.workers.leads:
            return
        state = {
            "step": self.step,
            "epoch": self.epoch,
            "position": self.position,
            "evaluated": self.evaluated,
            "best_wer": self.best_wer,
            "features": self.features.state_dict(),
            "encoder": self.encoder.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        partial = self.folder / "state.pt.partial"
        torch.save(state, partial)
        partial.replace(self.folder / "state.pt")

    def _load_state(self) -> bool:
        path = self.folder / "state.pt"
        if path.exists():
            try:
                state = torch.load(path, map_location=self.device, weights_only=True)
                self.encoder.load_state_dict(state["encoder"])
                self.features.load_state_dict(state["features"])
                self.average.load_state_dict(state["average"])
                self.optimizer.load_state_dict(state["optimizer"])
                self.step, self.epoch = state["step"], state["epoch"]
                self.position, self.best_wer = state["position"], state["best_wer"]
                self.evaluated = state.get("evaluated", state["step"])
            except (*_BROKEN_STATE, OSError, RuntimeError) as error:
                reason = str(error).splitlines()[0] if str(error) else "it is empty"
                raise ConfigError(
                    f"{path} is damaged or of another model than {self.config.model} "
                    f"({reason[:100]}): choose another folder"
                ) from error
            self.say(f"{self.folder}: resuming at step {self.step}")
        if self.workers.leads:
            self._forget_later_metrics()
        return path.exists()

    def _forget_later_metrics(self) -> None:
        """Drop what was logged after the state that is resumed: it will be logged again."""
        path = self.folder / "metrics.jsonl"
        if not path.exists():
            return
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            try:
                entry = json.loads(line)
                last = self.evaluated if "wer" in entry else self.step
                if line.endswith("\n") and entry["step"] <= last:
                    kept.append(line)
            except (ValueError, KeyError, TypeError):  # cut off while it was written
                continue
        path.write_text("".join(kept), encoding="utf-8")

    def _log(self, entry: dict[str, Any]) -> None:
        if not self.workers.leads:
            return
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            # JSON has no NaN, which a step that was skipped has for a loss.
            finite = {k: None if v != v else v for k, v in entry.items()}
            file.write(json.dumps(finite, allow_nan=False) + "\n")

    # -- data -----------------------------------------------------------------------------

    def _warming(self) -> bool:
        return bool(self.first) and self.step < self.config.first_steps

    def _plan(self) -> list[list[Pick]]:
        config = self.config
        if self._warming():
            return plan_epoch(self.corpus, self.first, config, self.epoch)
        return plan_epoch(
            self.corpus,
            list(range(len(self.corpus.utterances))),
            config,
            self.epoch,
            speeds=config.speeds,
            background_share=config.background_share,
        )

    def _first_speakers(self) -> list[int]:
        names = set(self.config.first_speakers)
        speakers = {utterance.speaker for utterance in self.corpus.utterances}
        if names - speakers:
            raise ConfigError(
                f"train: first_speakers not in the manifests: {', '.join(sorted(names - speakers))}"
            )
        return [i for i, u in enumerate(self.corpus.utterances) if u.speaker in names]

    def _usable(self, utterances: list[Utterance]) -> list[Utterance]:
        """Those that have a text and fit a batch; says how many were left out and why."""
        usable = [
            u
            for u in utterances
            if u.duration <= self.config.max_utterance and self.tokens.encode(u.text)
        ]
        if len(usable) < len(utterances):
            self.say(
                f"{len(utterances) - len(usable)} of {len(utterances)} utterances left out: "
                f"no text, or longer than {self.config.max_utterance:g} s"
            )
        return usable

    @torch.no_grad()
    def _measure_features(self) -> None:
        """Mean and standard deviation of every mel band over up to 500 utterances."""
        count = len(self.corpus.utterances)
        total = torch.zeros(3, self.features.config.n_mels, dtype=torch.float64)
        for index in range(0, count, max(1, count // 500)):
            waveform = self.corpus.waveform(index)[None].to(self.device)
            lengths = torch.tensor([waveform.shape[1]], device=self.device)
            frames = self.features.decibels(waveform, lengths)[0][0].double().cpu()  # (T, M)
            ones = torch.ones_like(frames)
            total += torch.stack([ones.sum(0), frames.sum(0), frames.square().sum(0)])
        mean = total[1] / total[0]
        std = (total[2] / total[0] - mean.square()).clamp(min=1e-6).sqrt()
        self.features.mean.copy_(mean)
        self.features.std.copy_(std)

    def _average(self, averaged: Any, current: Any, count: Any) -> None:
        """Exponential average whose memory grows to `average_decay` with the steps taken."""
        taken = int(count)
        decay = min(self.config.average_decay, (1 + taken) / (10 + taken))
        for kept, new in zip(averaged, current, strict=True):
            kept.lerp_(new, 1 - decay)


def _decode_dev(
    config: TrainConfig, cache: Path | None, say: Callable[[str], None]
) -> Corpus | None:
    if not config.dev:
        return None
    utterances = read_manifest(Path(config.dev))
    if not any(utterance.text.strip() for utterance in utterances):
        raise ConfigError(f"{config.dev}: no texts to measure word errors against")
    return load_corpus(utterances, cache, say)


def _say_nothing(message: str) -> None:
    """For workers that do not lead."""
