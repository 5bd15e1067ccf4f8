"""The vocabulary of a new model: characters, or subwords learnt from the texts it trains on."""

import re
import unicodedata
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import sentencepiece

from hyperasr.errors import ConfigError
from hyperasr.files import replacing
from hyperasr.tokens import (
    ENGLISH,
    SENTENCEPIECE_FILE,
    CharTokens,
    SentencePieceTokens,
    Tokens,
    normalise,
)
from hyperasr.train.config import TrainConfig
from hyperasr.train.parallel import Workers
from hyperasr.train.state import STATE_FILE

MARKS = 3
"""Tokens that are no letters: the blank, and those that begin and end a text."""
LONGEST_TEXT = 1_000_000
"""Bytes; sentencepiece would leave out texts above 4,192 without being told."""


def build_tokens(
    config: TrainConfig,
    texts: Iterable[str],
    folder: Path,
    workers: Workers,
    base: Tokens | None = None,
) -> Tokens:
    """Characters, or the subwords of this run, learnt once; with `base` those, and more letters.

    Raises ConfigError when the texts or `base` do not give them.
    """
    vocab_size, alphabet = config.vocab_size, add_letters(ENGLISH, config.letters)
    if base is not None:
        return extend(base, config)
    if not vocab_size:
        return CharTokens(alphabet)
    path = folder / SENTENCEPIECE_FILE
    model: bytes | str = b""
    if workers.leads:
        try:
            if not path.exists() and (folder / STATE_FILE).exists():
                raise ConfigError(
                    f"{path} is not there, whose subwords the run learnt: put it back, or set "
                    "vocab_size back"
                )
            model = path.read_bytes() if path.exists() else learn(vocab_size, texts, alphabet)
        except ConfigError as error:  # which the others wait to hear
            model = str(error)
    model = workers.gather(model)[0]
    if isinstance(model, str):
        raise ConfigError(model)
    tokens = SentencePieceTokens(model, path)
    if len(tokens.labels) != vocab_size:
        raise ConfigError(
            f"{path} has {len(tokens.labels)} tokens, not vocab_size={vocab_size}: "
            "choose another folder"
        )
    if workers.leads:
        with replacing(path) as partial:
            partial.write_bytes(model)
    return tokens


def extend(base: Tokens, config: TrainConfig) -> Tokens:
    """The vocabulary of a checkpoint with the letters of `config` behind its own.

    Raises ConfigError when it is another one or cannot be extended.
    """
    if config.vocab_size not in (0, len(base.labels)):
        raise ConfigError(
            f"train: {config.init} has {len(base.labels)} tokens: leave vocab_size away"
        )
    if isinstance(base, CharTokens):
        return CharTokens(add_letters(base.alphabet, config.letters))
    letters = "".join(config.letters.split()).lower()
    if any(base.normalise(letter).lower() != letter for letter in letters):
        raise ConfigError(
            f"train: the subwords of {config.init} cannot be extended: leave letters away"
        )
    return base


def add_letters(alphabet: str, letters: str) -> str:
    """`alphabet` with the letters that it lacks behind its own, in its case.

    Raises ConfigError for what separates words.
    """
    composed = unicodedata.normalize("NFC", "".join(letters.split()))
    if alphabet == alphabet.lower():
        composed = composed.lower()
    strange = [c for c in composed if not c.isprintable() or unicodedata.combining(c)]
    if strange:
        raise ConfigError(f"train: letters has {strange[0]!r}, which is none")
    return "".join(dict.fromkeys(alphabet + composed))


def learn(vocab_size: int, texts: Iterable[str], alphabet: str = ENGLISH) -> bytes:
    """A sentencepiece unigram model (arXiv:1804.10959) of `texts` spelled in `alphabet`.

    Its ids 0, 1 and 2 are the unknown piece, which serves as the CTC blank, <s> and </s>.
    """
    least = len(alphabet) + MARKS
    if vocab_size < least:
        raise ConfigError(f"train: vocab_size={vocab_size} is too small: letters take {least}")
    spelled = (normalise(text, alphabet) for text in texts)
    model = BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(text for text in spelled if text),
            model_writer=model,
            model_type="unigram",
            vocab_size=vocab_size,
            character_coverage=1.0,
            required_chars=alphabet.replace(" ", ""),
            normalization_rule_name="identity",
            max_sentence_length=LONGEST_TEXT,
            minloglevel=3,
        )
    except RuntimeError as error:
        most = re.search(r"<= (\d+)", str(error))
        advice = f"they give at most {most[1]}" if most else "there are none"
        raise ConfigError(
            f"train: the texts give no vocabulary of vocab_size={vocab_size}: {advice}"
        ) from error
    return model.getvalue()
