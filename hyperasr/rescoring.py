"""The n-best list of the beam search, read again by the attention decoder of the same model."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from hyperasr.attention_decoder import AttentionDecoder
from hyperasr.transcript import Alternative

CTC_WEIGHT = 0.4
"""Of the recipe (arXiv:2305.18281): the decoder has the rest."""


class Rescorer:
    """An attention decoder that ranks texts."""

    def __init__(
        self,
        decoder: AttentionDecoder,
        encode: Callable[[str], Sequence[int]],
        device: torch.device,
        ctc_weight: float = CTC_WEIGHT,
    ):
        self.decoder = decoder.to(device)
        self.encode = encode
        self.device = device
        self.ctc_weight = ctc_weight

    @torch.inference_mode()
    def __call__(
        self, candidates: Sequence[Alternative], encoded: NDArray[np.float32]
    ) -> list[Alternative]:
        """Texts of an utterance, encoded as (S, D) -> them with new scores, best first.

        A score is the search's and the decoder's, weighted; all texts are read in one batch.
        """
        frames = torch.from_numpy(encoded).to(self.device)[None]  # (1, S, D)
        lengths = torch.tensor([frames.shape[1]], device=self.device)
        tokens = [self.encode(candidate.text) for candidate in candidates]
        second = self.decoder.score(frames, lengths, tokens).tolist()
        rescored = [
            replace(
                candidate,
                score=self.ctc_weight * candidate.score + (1 - self.ctc_weight) * decoder_score,
            )
            for candidate, decoder_score in zip(candidates, second, strict=True)
        ]
        return sorted(rescored, key=lambda candidate: -candidate.score)
