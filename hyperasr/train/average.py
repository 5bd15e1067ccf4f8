"""Checkpoints -> one whose weights are the mean of theirs.

Runs from the same checkpoint often meet in one valley of the loss, and the mean of their ends hears
better than each (model soups, arXiv:2203.05482); so does the mean of the last steps of one run.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from hyperasr.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from hyperasr.errors import ConfigError


def average(
    names: Sequence[str | Path], folder: Path, weights: Sequence[float] | None = None
) -> None:
    """Write the mean of checkpoints into `folder`, each counting by its weight, if there are any.

    The attention decoder is in it if all have one. Decoding weights and language models are not.
    Raises CheckpointError for one that cannot be opened, ConfigError for some that do not fit.
    """
    shares = [1.0] * len(names) if weights is None else list(weights)
    if len(shares) != len(names):
        raise ConfigError(f"average: {len(names)} checkpoints, but {len(shares)} weights")
    if not (min(shares) >= 0 and 0 < sum(shares) < math.inf):
        raise ConfigError("average: weights are finite, none is negative, and one is above 0")
    shares = [share / sum(shares) for share in shares]
    checkpoints = [load_checkpoint(name) for name in names]
    first, *others = checkpoints
    for name, other in zip(names[1:], others, strict=True):
        _check_fits(names[0], first, name, other)
    decoders = [checkpoint.decoder for checkpoint in checkpoints if checkpoint.decoder]
    whole = len(decoders) == len(checkpoints)
    _mean([checkpoint.encoder for checkpoint in checkpoints], shares)
    if whole:
        _mean(decoders, shares)
    save_checkpoint(
        folder,
        first.encoder,
        first.features,
        first.tokens,
        half=True,
        decoder=first.decoder if whole else None,
    )


def _check_fits(
    name: str | Path, first: Checkpoint, other_name: str | Path, other: Checkpoint
) -> None:
    same = {
        "sizes": first.encoder.config == other.encoder.config,
        "vocabularies": first.tokens.config() == other.tokens.config()
        and first.tokens.labels == other.tokens.labels,
        "feature statistics": all(
            torch.equal(mine, theirs)
            for mine, theirs in zip(
                first.features.state_dict().values(),
                other.features.state_dict().values(),
                strict=True,
            )
        ),
    }
    different = [what for what, agrees in same.items() if not agrees]
    if different:
        raise ConfigError(
            f"{name} and {other_name} have different {' and '.join(different)}: only checkpoints "
            "that come of one another (train --init) or of one run have a mean"
        )


@torch.no_grad()
def _mean(models: Sequence[nn.Module], shares: Sequence[float]) -> None:
    """Replace the weights of the first of `models` by the mean of those of all."""
    states = [model.state_dict() for model in models]
    for name, tensor in states[0].items():
        weighted = [share * state[name] for share, state in zip(shares, states, strict=True)]
        tensor.copy_(torch.stack(weighted).sum(dim=0))
