"""Attention decoder: encoded frames and the tokens so far in, log-probabilities of the next out.

One alphabet names every axis below:

    B  hypotheses in the batch      D  model width
    U  tokens, `bos` first          H  attention heads, each E = D / H wide
    S  encoder frames (40 ms)       V  vocabulary

`encoded` is what the encoder's CTC head reads: the last block's output after `Encoder.norm`. Its
first axis is B, or 1 when all B hypotheses are guesses at the same utterance. What stands behind
an utterance's or a hypothesis's own length never changes an answer.

Source: the decoder of the HyperConformer recipe (arXiv:2305.18281), a Transformer decoder
(arXiv:1706.03762) that normalises before each sublayer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hyperasr.dropout import Dropout
from hyperasr.encoder import sinusoids
from hyperasr.errors import ConfigError


@dataclass(frozen=True, slots=True)
class AttentionDecoderConfig:
    """Sizes of one decoder. The defaults are the paper's 8M model's."""

    vocab_size: int = 5000
    d_model: int = 144
    n_layers: int = 4
    n_heads: int = 8
    d_ffn: int = 576
    dropout: float = 0.1
    bos: int = 1
    eos: int = 2

    def __post_init__(self) -> None:
        """Reject sizes that cannot be built, before any memory is spent."""
        for name in ("vocab_size", "d_model", "n_layers", "n_heads", "d_ffn"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be positive")
        if self.d_model % self.n_heads:
            raise ConfigError(f"n_heads={self.n_heads} must divide d_model={self.d_model}")
        if self.d_model % 2:
            raise ConfigError(f"d_model={self.d_model} must be even, for pairs of sine and cosine")
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"dropout={self.dropout} must be at least 0 and below 1")
        if not (0 <= self.bos < self.vocab_size and 0 <= self.eos < self.vocab_size):
            raise ConfigError(
                f"bos={self.bos} and eos={self.eos} must be tokens of the {self.vocab_size}"
            )


class Attention(nn.Module):
    """Multi-head attention of tokens to the tokens before them, or to encoded frames."""

    def __init__(self, config: AttentionDecoderConfig):
        super().__init__()
        D = config.d_model
        self.n_heads, self.dropout = config.n_heads, config.dropout
        self.query = nn.Linear(D, D)
        self.key_value = nn.Linear(D, 2 * D)
        self.out = nn.Linear(D, D)

    def forward(self, x: Tensor, source: Tensor, real: Tensor | None = None) -> Tensor:
        """(B, U, D) looks into (B or 1, S, D) -> (B, U, D).

        Where `real` (B or 1, 1, 1, S) is true; without it, at itself and what stands before it.
        """
        B, U, D = x.shape
        q = self.split(self.query(x))  # (B, H, U, E)
        k, v = self.split(self.key_value(source)).chunk(2, dim=1)  # (B or 1, H, S, E) each
        x = F.scaled_dot_product_attention(
            q,
            k.expand(B, -1, -1, -1),
            v.expand(B, -1, -1, -1),
            attn_mask=real,
            is_causal=real is None,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.out(x.transpose(1, 2).reshape(B, U, D))

    def split(self, x: Tensor) -> Tensor:
        """(B, S, n D) -> (B, n H, S, E)."""
        B, S, width = x.shape
        E = self.query.out_features // self.n_heads
        return x.view(B, S, width // E, E).transpose(1, 2)


class Layer(nn.Module):
    """Look back at the tokens, listen to the frames, think."""

    def __init__(self, config: AttentionDecoderConfig):
        super().__init__()
        D = config.d_model
        self.look_back_norm = nn.LayerNorm(D, eps=1e-6)
        self.look_back = Attention(config)
        self.listen_norm = nn.LayerNorm(D, eps=1e-6)
        self.listen = Attention(config)
        self.ffn_norm = nn.LayerNorm(D, eps=1e-6)
        self.ffn = nn.Sequential(
            nn.Linear(D, config.d_ffn),
            nn.GELU(),
            Dropout(config.dropout),
            nn.Linear(config.d_ffn, D),
        )
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, encoded: Tensor, real: Tensor) -> Tensor:
        """(B, U, D), (B or 1, S, D) and (B or 1, 1, 1, S) -> (B, U, D)."""
        tokens = self.look_back_norm(x)
        x = x + self.dropout(self.look_back(tokens, tokens))
        x = x + self.dropout(self.listen(self.listen_norm(x), encoded, real))
        return x + self.dropout(self.ffn(self.ffn_norm(x)))


class AttentionDecoder(nn.Module):
    """The whole decoder: embedding, layers, output."""

    def __init__(self, config: AttentionDecoderConfig):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(config.d_model, eps=1e-6)
        for weight in self.parameters():
            if weight.dim() > 1:
                nn.init.xavier_normal_(weight)
        self.output = nn.Linear(config.d_model, config.vocab_size)

    def forward(
        self, encoded: Tensor, encoded_lengths: Tensor, tokens: Tensor, token_lengths: Tensor
    ) -> Tensor:
        """Log-probabilities (B, U, V) of the token that follows each given one, in float32.

        Takes (B or 1, S, D) and (B or 1,), token ids (B, U) that start with `bos` and their
        numbers (B,). Behind its length a row of ids may hold anything. Every length must be
        at least 1.
        """
        U, D = tokens.shape[1], self.config.d_model
        behind = torch.arange(U, device=tokens.device) >= token_lengths[:, None]  # (B, U)
        x = self.embedding(tokens.masked_fill(behind, self.config.eos)) * D**0.5  # (B, U, D)
        x = x + sinusoids(U, D, x.device).to(x.dtype)
        frame = torch.arange(encoded.shape[1], device=encoded.device)
        real = (frame < encoded_lengths[:, None])[:, None, None]  # (B or 1, 1, 1, S)
        for layer in self.layers:
            x = layer(x, encoded, real)
        return F.log_softmax(self.output(self.norm(x)).float(), dim=-1)

    def score(
        self, encoded: Tensor, encoded_lengths: Tensor, hypotheses: Sequence[Sequence[int]]
    ) -> Tensor:
        """Log-probability (B,) of each hypothesis, its end included, to rank n-best lists by.

        A hypothesis is token ids without `bos` and `eos`; it may be empty.
        """
        lengths = torch.tensor([len(tokens) + 1 for tokens in hypotheses], device=encoded.device)
        B, U = len(hypotheses), max((len(tokens) + 1 for tokens in hypotheses), default=1)
        said = torch.full((B, U + 1), self.config.eos, device=encoded.device)
        said[:, 0] = self.config.bos
        for row, tokens in zip(said, hypotheses, strict=True):
            row[1 : len(tokens) + 1] = torch.tensor(tokens, dtype=said.dtype)
        log_probs = self(encoded, encoded_lengths, said[:, :-1], lengths)  # (B, U, V)
        each = log_probs.gather(2, said[:, 1:, None]).squeeze(2)  # (B, U)
        behind = torch.arange(U, device=encoded.device) >= lengths[:, None]  # (B, U)
        return each.masked_fill(behind, 0.0).sum(dim=1)
