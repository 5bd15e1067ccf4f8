"""The values that travel between stages. Plain data: no torch, no files, no printing."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Word:
    """One recognised word; times are seconds from the start of the file."""

    text: str
    start: float
    end: float
    confidence: float
    """How sure the model is of this word, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """A text that an utterance may have been, and its score; a higher one is likelier."""

    text: str
    score: float
    """Natural logarithm, of sound and language together."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of speech and the words heard in it, in order; times are seconds."""

    start: float
    end: float
    words: tuple[Word, ...]
    alternatives: tuple[Alternative, ...] = ()
    """The best texts, the first of them this one, when more than one was asked for."""
    hotwords: tuple[str, ...] = ()
    """Phrases that the user expected and that were heard, in order."""

    @property
    def text(self) -> str:
        """The words joined by single spaces."""
        return " ".join(word.text for word in self.words)


@dataclass(frozen=True, slots=True)
class Transcript:
    """Everything known about one audio file after decoding."""

    source: str
    """The file's name as the user gave it."""
    duration: float
    """Length of the audio in seconds."""
    segments: tuple[Segment, ...]
    model: str = ""
    """Name of the checkpoint that heard it."""
    model_sha256: str = ""
    """Digest of its weights."""
    settings: Mapping[str, str | float | None] = field(default_factory=dict)
    """How it was decoded."""

    @property
    def text(self) -> str:
        """The whole transcript on one line."""
        return " ".join(segment.text for segment in self.segments if segment.words)

    @property
    def words(self) -> tuple[Word, ...]:
        """Every word of every segment, in order."""
        return tuple(word for segment in self.segments for word in segment.words)
