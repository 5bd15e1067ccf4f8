"""What learns: the encoder, perhaps an attention decoder, their averages and the optimiser."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from hyperasr.attention_decoder import AttentionDecoder, AttentionDecoderConfig
from hyperasr.checkpoint import Checkpoint, save_checkpoint
from hyperasr.encoder import CONFIGS, Encoder
from hyperasr.errors import ConfigError
from hyperasr.features import LogMel
from hyperasr.tokens import BLANK, Tokens
from hyperasr.train import losses
from hyperasr.train.batches import Batch
from hyperasr.train.config import TrainConfig
from hyperasr.train.losses import Losses
from hyperasr.train.state import Part


class Learner:
    """A model in training, beside the average of its weights, which is what gets saved."""

    def __init__(
        self,
        config: TrainConfig,
        tokens: Tokens,
        device: torch.device,
        *,
        bfloat16: bool = False,
        base: Checkpoint | None = None,
        phones: int = 0,
    ):
        """A new model, or with `base` one that goes on from there, with the tokens added since.

        With `phones`, the middle block learns to hear so many, through a head of its own that no
        checkpoint keeps.
        """
        if base is None and config.model not in CONFIGS:
            raise ConfigError(f"train: no model {config.model!r}; known: {', '.join(CONFIGS)}")
        self.config, self.tokens, self.bfloat16 = config, tokens, bfloat16
        torch.manual_seed(config.seed)
        sizes = base.encoder.config if base else CONFIGS[config.model]
        sizes = replace(sizes, vocab_size=len(tokens.labels), dropout=config.dropout)
        self.features = LogMel(base.features.config if base else None).to(device)
        self.encoder = Encoder(sizes).to(device)
        self.decoder: AttentionDecoder | None = None
        models: list[nn.Module] = [self.encoder]
        if config.ctc_weight < 1:
            known = base.decoder.config if base and base.decoder else None
            self.decoder = AttentionDecoder(self._decoder_sizes(known)).to(device)
            models.append(self.decoder)
        self.phone_head = nn.Linear(sizes.d_model, phones + 1).to(device) if phones else None
        if base is not None:
            _take_over(self.features, base.features)
            _take_over(self.encoder, base.encoder)
            if self.decoder is not None and base.decoder is not None:
                _take_over(self.decoder, base.decoder)
        self.averages = [AveragedModel(model, multi_avg_fn=self._average) for model in models]
        models += [self.phone_head] if self.phone_head else []
        self.parameters = [p for model in models for p in model.parameters()]
        self.optimizers = _optimizers(config.optimizer, models)

    def _decoder_sizes(self, known: AttentionDecoderConfig | None) -> AttentionDecoderConfig:
        """As wide as the encoder; characters have no marks, so the blank begins and ends texts."""
        sizes, labels = self.encoder.config, self.tokens.labels
        if known is not None:
            return replace(known, vocab_size=sizes.vocab_size, dropout=sizes.dropout)
        marked = "<s>" in labels and "</s>" in labels
        return AttentionDecoderConfig(
            vocab_size=sizes.vocab_size,
            d_model=sizes.d_model,
            n_layers=self.config.decoder_layers,
            n_heads=sizes.n_heads,
            d_ffn=sizes.d_ffn,
            dropout=sizes.dropout,
            bos=labels.index("<s>") if marked else BLANK,
            eos=labels.index("</s>") if marked else BLANK,
        )

    def losses(self, features: Tensor, frames: Tensor, batch: Batch) -> Losses:
        """What normalised features (B, T, M) with their frames (B,) say about the weights."""
        self.encoder.train()
        return losses.compute(
            self.encoder,
            self.decoder,
            features,
            frames,
            batch,
            self.config,
            bfloat16=self.bfloat16,
            phone_head=self.phone_head,
        )

    def forget_gradients(self) -> None:
        """Before the next step."""
        for parameter in self.parameters:
            parameter.grad = None

    def update(self, learning_rate: float) -> None:
        """Follow the gradients, and the averages the weights."""
        config = self.config
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:  # a resumed run may have changed its settings
                group["lr"], group["weight_decay"] = learning_rate, config.weight_decay
                if name == "optimizer":
                    group["eps"] = config.adam_epsilon
            optimizer.step()
        self.averages[0].update_parameters(self.encoder)
        if self.decoder is not None:
            self.averages[1].update_parameters(self.decoder)

    @property
    def averaged(self) -> Encoder:
        """The encoder with the averaged weights."""
        return cast(Encoder, self.averages[0].module)

    @property
    def averaged_decoder(self) -> AttentionDecoder | None:
        """The attention decoder with the averaged weights."""
        return cast(AttentionDecoder, self.averages[1].module) if self.decoder else None

    def save(self, folder: Path) -> None:
        """Write the averaged weights as a checkpoint; in half, the run's state has the whole."""
        save_checkpoint(
            folder,
            self.averaged,
            self.features,
            self.tokens,
            half=True,
            decoder=self.averaged_decoder,
        )

    def parts(self) -> dict[str, Part]:
        """What a resumed run needs of all this, by name."""
        parts: dict[str, Part] = {
            "features": self.features,
            "encoder": self.encoder,
            "average": self.averages[0],
        }
        if self.decoder is not None:
            parts |= {"decoder": self.decoder, "decoder_average": self.averages[1]}
        if self.phone_head is not None:
            parts["phone_head"] = self.phone_head
        return {**parts, **self.optimizers}

    @torch.no_grad()
    def measure_features(self, waveforms: Sequence[Tensor]) -> None:
        """Set mean and standard deviation of every mel band to those of `waveforms`, (N,) each."""
        total = torch.zeros(3, self.features.config.n_mels, dtype=torch.float64)
        device = self.features.mean.device
        for waveform in waveforms:
            lengths = torch.tensor([len(waveform)], device=device)
            decibels, _ = self.features.decibels(waveform[None].to(device), lengths)
            frames = decibels[0].double().cpu()  # (T, M)
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


def _optimizers(kind: str, models: Sequence[nn.Module]) -> dict[str, torch.optim.Optimizer]:
    """AdamW for everything, or for all but the matrices of linear layers inside of blocks.

    Muon makes the singular values of an update equal; what maps from or to features, tokens and
    single frames is left to AdamW (Jordan et al. 2024; step sizes as in arXiv:2502.16982).
    """
    matrices = [
        module.weight
        for model in models
        for name, module in model.named_modules()
        if kind == "muon" and isinstance(module, nn.Linear) and name.startswith("blocks.")
    ]
    known = set(map(id, matrices))
    others = [p for model in models for p in model.parameters() if id(p) not in known]
    found: dict[str, torch.optim.Optimizer] = {
        "optimizer": torch.optim.AdamW(others, betas=(0.9, 0.98), fused=True)
    }
    if matrices:
        found["muon"] = torch.optim.Muon(matrices, adjust_lr_fn="match_rms_adamw")
    return found


@torch.no_grad()
def _take_over(model: nn.Module, base: nn.Module) -> None:
    """Fill `model` from `base`; rows of tokens that `base` does not have stay as they are."""
    known = base.state_dict()
    for name, tensor in model.state_dict().items():
        tensor[tuple(slice(size) for size in known[name].shape)] = known[name]
