"""A checkpoint and what a user asked for -> a decoder: its n-gram, weights and hotwords."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from hyperasr.checkpoint import Checkpoint
from hyperasr.decoder import Decoder
from hyperasr.errors import ConfigError, LanguageModelError
from hyperasr.hotwords import Hotwords
from hyperasr.language_model import NGram, load_ngram

MAX_WEIGHT = 1000.0
"""Of a hotword; beyond it nothing else counts."""
CANDIDATES = 16
"""Texts of an utterance that an attention decoder reads again."""


@dataclass(frozen=True, slots=True)
class DecodingOptions:
    """What a user may choose; None leaves it to the checkpoint."""

    lm: str | None = None
    """Path of a language model, or "none"."""
    beam_size: int | None = None
    alpha: float | None = None
    beta: float | None = None
    nbest: int = 1
    rescore: str = "none"
    """"attention": the n-best list is read again by the checkpoint's attention decoder."""
    hotwords: tuple[str, ...] = ()
    hotword_weight: float = 4.0

    def __post_init__(self) -> None:
        """Refuse a weight that is none."""
        if not 0.0 <= self.hotword_weight <= MAX_WEIGHT:
            raise ConfigError(f"hotword_weight must lie between 0 and {MAX_WEIGHT:g}")


def build_decoder(
    checkpoint: Checkpoint, options: DecodingOptions, say: Callable[[str], None]
) -> Decoder:
    """The decoder for a checkpoint; `say` hears what a user should know and cannot see.

    Raises LanguageModelError when the language model cannot be used, ConfigError when a hotword
    cannot be spelled.
    """
    tokens = checkpoint.tokens
    rescores = _rescores(checkpoint, options)
    nbest = max(options.nbest, CANDIDATES) if rescores else options.nbest
    settings = replace(checkpoint.decoding, nbest=nbest)
    for name in ("beam_size", "alpha", "beta"):
        if getattr(options, name) is not None:
            settings = replace(settings, **{name: getattr(options, name)})
    hotwords = None
    if options.hotwords:
        phrases = [_spelled(phrase, checkpoint) for phrase in options.hotwords]
        hotwords = Hotwords(phrases, options.hotword_weight)
    if settings.beam_size == 1:
        if options.lm not in (None, "none") or hotwords or nbest > 1:
            raise ConfigError(
                "--lm, --hotwords, --nbest and --rescore need a beam: leave --beam-size 1 away"
            )
        return Decoder(tokens.labels, tokens.encode, settings)
    return Decoder(
        tokens.labels, tokens.encode, settings, _ngram(checkpoint, options.lm, say), hotwords
    )


def _rescores(checkpoint: Checkpoint, options: DecodingOptions) -> bool:
    if options.rescore not in ("none", "attention"):
        raise ConfigError(f"rescore {options.rescore!r} is not known: attention or none")
    if options.rescore == "attention" and checkpoint.decoder is None:
        raise ConfigError(
            f"{checkpoint.name} has no attention decoder to rescore with: leave --rescore away"
        )
    return options.rescore == "attention"


def _ngram(checkpoint: Checkpoint, asked: str | None, say: Callable[[str], None]) -> NGram | None:
    """The n-gram that was asked for, else the checkpoint's own if it has one and kenlm is there."""
    letters = "".join(sorted({c for label in checkpoint.tokens.labels for c in label} - {" ", "▁"}))
    if asked == "none":
        return None
    if asked is not None:
        ngram = load_ngram(Path(asked), letters)
        if not ngram.has_vocabulary:
            say(
                f"{asked}: its words are not known, so unlikely letters are given up later: put "
                "unigrams.txt, one word a line, beside it"
            )
        return ngram
    if checkpoint.ngram is None:
        return None
    try:
        return load_ngram(checkpoint.ngram, letters)
    except LanguageModelError as error:
        if "pip install" not in str(error):
            raise
        say(f"{error}; going on without the language model")
        return None


def _spelled(phrase: str, checkpoint: Checkpoint) -> str:
    """A hotword as the model writes it; letters that it does not have are refused by name."""
    spelled = checkpoint.tokens.normalise(phrase)
    lost = [c for c in phrase if c.isalnum() and not checkpoint.tokens.normalise(c)]
    if lost or not spelled:
        what = f"has no {lost[0]!r}" if lost else "has none of its letters"
        raise ConfigError(f"hotword {phrase!r}: the model {what}: spell it as it is spoken")
    return spelled


def told(options: DecodingOptions, decoder: Decoder) -> dict[str, str | float | None]:
    """How a decoder searches, for the record."""
    lm = None if decoder.ngram is None else options.lm or "the model's own"
    settings = decoder.settings
    weights = {} if lm is None else {"alpha": settings.alpha, "beta": settings.beta}
    expected: dict[str, str | float | None] = {
        "hotwords": ", ".join(options.hotwords),
        "hotword_weight": options.hotword_weight,
    }
    return {
        "beam_size": settings.beam_size,
        "lm": lm,
        **weights,
        "nbest": options.nbest,
        "rescore": options.rescore,
        **(expected if options.hotwords else {}),
    }
