"""What a step makes smaller: CTC on the last and on a middle block, and the attention decoder's.

    B  utterances in the batch      D  model width
    U  tokens of a text             S  encoder frames
    V  vocabulary

All are per token of the whole batch, in nats, and of this worker's share of it.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from hyperasr.attention_decoder import AttentionDecoder
from hyperasr.encoder import Encoder
from hyperasr.tokens import BLANK
from hyperasr.train.batches import Batch
from hyperasr.train.config import TrainConfig

TEXT_STEP = 16
"""Texts are padded to a multiple of so many tokens: few shapes, as with the waveforms."""


@dataclass(frozen=True, slots=True)
class Losses:
    """What a step found, and their weighted sum, which is what it makes smaller."""

    total: Tensor
    ctc: Tensor
    """Of the last block."""
    attention: Tensor
    """Zero where there is no decoder."""


def compute(
    encoder: Encoder,
    decoder: AttentionDecoder | None,
    features: Tensor,
    frames: Tensor,
    batch: Batch,
    config: TrainConfig,
    *,
    bfloat16: bool = False,
    phone_head: nn.Module | None = None,
) -> Losses:
    """Losses of normalised features (B, T, M) with their numbers of frames (B,).

    With a `phone_head`, (B, S, D) -> (B, S, phones), the middle block is to hear phones.
    """
    device = features.device
    with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        blocks = list(encoder.hidden(features, frames))
    encoded = encoder.norm(blocks[-1].to(encoder.ctc.weight.dtype))  # (B, S, D)
    sizes = encoder.output_lengths(frames)
    log_probs = encoder.read(encoded)  # (B, S, V)
    final = ctc = _ctc(log_probs, sizes, batch)
    if config.middle_loss:
        block = blocks[(len(blocks) - 1) // 2]
        if phone_head is None or batch.phones is None:
            middle = _ctc(encoder.log_probs(block), sizes, batch)
        else:
            middle = _phone_ctc(phone_head(block.float()).log_softmax(2), sizes, batch.phones)
            middle = middle * batch.weight
        ctc = (1 - config.middle_loss) * final + config.middle_loss * middle
    attention = torch.zeros((), device=device)
    total = ctc
    if decoder is not None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            attention = _attention(decoder, encoded, sizes, batch, config.label_smoothing)
        total = config.ctc_weight * ctc + (1 - config.ctc_weight) * attention
    if batch.hearings == 2:
        total = total + config.consistency * _disagreement(log_probs, sizes, batch)
    if config.loss_per == "utterance":
        total = total * batch.tokens_each
    return Losses(total, final.detach(), attention.detach())


def _ctc(log_probs: Tensor, sizes: Tensor, batch: Batch) -> Tensor:
    """CTC loss of log-probabilities (B, S, V)."""
    losses = _ctc_each(log_probs, sizes, batch.targets, batch.target_lengths)  # (B,)
    return losses.sum() * batch.weight


def _phone_ctc(log_probs: Tensor, sizes: Tensor, phones: tuple[Tensor, Tensor]) -> Tensor:
    """CTC loss, not yet per token, of phones; those of unknown phones do not count."""
    losses = _ctc_each(log_probs, sizes, *phones)  # (B,)
    return losses[phones[1].to(losses.device) > 0].sum()


def _ctc_each(log_probs: Tensor, sizes: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
    """CTC loss of every utterance, (B,)."""
    return F.ctc_loss(
        log_probs.transpose(0, 1),
        targets.to(log_probs.device),
        sizes,
        lengths.to(log_probs.device),
        blank=BLANK,
        reduction="none",
        zero_infinity=True,
    )


def _disagreement(log_probs: Tensor, sizes: Tensor, batch: Batch) -> Tensor:
    """How far the two hearings of each frame are apart, (B, S, V) of the one, then of the other.

    Each learns from the other as it stands (CR-CTC, arXiv:2410.05101, equation 5).
    """
    one, other = log_probs.chunk(2)  # (B / 2, S, V) each
    frame = torch.arange(one.shape[1], device=one.device)
    behind = frame >= sizes[: len(one), None]  # (B / 2, S)
    apart = sum(
        (known.exp() * (known - learns)).sum(dim=2)
        for known, learns in ((one.detach(), other), (other.detach(), one))
    )
    return torch.as_tensor(apart).masked_fill(behind, 0.0).sum() * batch.weight


def _attention(
    decoder: AttentionDecoder, encoded: Tensor, sizes: Tensor, batch: Batch, smoothing: float
) -> Tensor:
    """Cross-entropy of every token, and of the end, given those before (teacher forcing)."""
    said, following, lengths = _texts(batch, decoder.config.bos, decoder.config.eos)
    device = encoded.device
    said, following, lengths = said.to(device), following.to(device), lengths.to(device)
    log_probs = decoder(encoded, sizes, said, lengths)  # (B, U, V)
    wrong = -log_probs.gather(2, following[..., None]).squeeze(2)  # (B, U)
    if smoothing:
        wrong = (1 - smoothing) * wrong - smoothing * log_probs.mean(dim=2)
    behind = torch.arange(said.shape[1], device=device) >= lengths[:, None]  # (B, U)
    return wrong.masked_fill(behind, 0.0).sum() * batch.weight


def _texts(batch: Batch, bos: int, eos: int) -> tuple[Tensor, Tensor, Tensor]:
    """Texts after `bos`, the same followed by `eos`, (B, U) each, and lengths (B,)."""
    texts = torch.split(batch.targets, batch.target_lengths.tolist())
    lengths = batch.target_lengths + 1
    U = -(-int(lengths.max()) // TEXT_STEP) * TEXT_STEP
    marks = torch.tensor([bos]), torch.tensor([eos])
    said = pad_sequence([torch.cat([marks[0], text]) for text in texts], True, eos)
    following = pad_sequence([torch.cat([text, marks[1]]) for text in texts], True, eos)
    missing = (0, U - said.shape[1])
    return F.pad(said, missing, value=eos), F.pad(following, missing, value=eos), lengths
