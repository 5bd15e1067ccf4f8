"""What was said and what was heard, before they are compared."""

from collections.abc import Iterator
from dataclasses import dataclass

from hyperasr.errors import TextError

SHOWN = 5
"""Ids that a message names; it counts the others."""


@dataclass(frozen=True, slots=True)
class TimedWord:
    """One word of a hypothesis, as its file has it."""

    text: str
    start: float | None = None
    """Seconds from the start of the recording, where known."""
    end: float | None = None
    confidence: float | None = None
    """0 to 1, where known."""


@dataclass(frozen=True, slots=True)
class Text:
    """The reference or the hypothesis of one utterance."""

    id: str
    text: str
    words: tuple[TimedWord, ...] = ()
    """Those of `text`, where their times or confidences are known."""
    alternatives: tuple[tuple[str, ...], ...] = ()
    """N-best list of every segment, in order, where there are such."""
    speaker: str = ""
    source: str = ""
    duration: float | None = None
    audio: str = ""
    """Path of its recording, where known."""
    offset: float = 0.0
    """Seconds from the start of the recording."""
    recording: str = ""
    """Of which this is a stretch, `offset` to `offset + duration`: a segment of an STM file."""
    channel: str = ""
    """Of the recording, in CTM and STM files."""
    ignored: bool = False
    """A stretch that is not to be scored, nor what was heard in it."""


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of one file or folder, each id once."""

    name: str
    """Of the file or folder."""
    format: str
    """As which it was read."""
    texts: tuple[Text, ...]
    repeated: tuple[str, ...] = ()
    """Ids that stood there more than once, with the same text every time."""

    def __iter__(self) -> Iterator[Text]:
        """The texts, in order."""
        return iter(self.texts)

    @property
    def single(self) -> bool:
        """Whether this is one text that no id tells from others, such as a plain .txt file."""
        return self.format in SINGLE and len(self.texts) == 1


SINGLE = ("plain text", "SRT", "VTT", "JSON")
"""Formats in which one file holds one text; its id is the file's name."""


def unique(texts: Texts) -> Texts:
    """The same with every id once: who says the same thing twice is counted once.

    Raises TextError where an id has two different texts.
    """
    kept: dict[tuple[str, str], Text] = {}
    repeated: dict[str, None] = {}
    differing: dict[str, None] = {}
    for text in texts.texts:
        before = kept.setdefault((text.id, text.channel), text)
        if before is text:
            continue
        (repeated if before.text == text.text else differing)[text.id] = None
    if differing:
        raise TextError(
            f"{texts.name}: more than one text for the same id: {shown(tuple(differing))}: "
            "leave one of each"
        )
    return Texts(texts.name, texts.format, tuple(kept.values()), tuple(repeated))


def shown(ids: tuple[str, ...]) -> str:
    """The first few ids, and how many there are more."""
    more = f" and {len(ids) - SHOWN:,} more" if len(ids) > SHOWN else ""
    return ", ".join(ids[:SHOWN]) + more
