"""What a scoring finds: frozen values that the readers, the measures and the reports share.

A rate is None where there is nothing to divide by: the WER of a reference without words is not
defined, however many words were put in.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["correct", "substitution", "deletion", "insertion"]


@dataclass(frozen=True, slots=True)
class AlignedWord:
    """One column of an alignment: a word of the reference against one of the hypothesis."""

    reference: str | None
    """None where the hypothesis has a word too many."""
    hypothesis: str | None
    """None where the hypothesis lacks a word."""
    start: float | None = None
    """Of the hypothesis' word, seconds from the start of its audio, where known."""
    end: float | None = None
    confidence: float | None = None
    """0 to 1, where the hypothesis has one."""

    @property
    def kind(self) -> Kind:
        """What happened here."""
        if self.hypothesis is None:
            return "deletion"
        if self.reference is None:
            return "insertion"
        return "correct" if self.reference == self.hypothesis else "substitution"


@dataclass(frozen=True, slots=True)
class Counts:
    """Words (or characters) of a reference and what became of them."""

    correct: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @classmethod
    def of(cls, words: Iterable[AlignedWord]) -> "Counts":
        """The counts of an alignment."""
        kinds = [word.kind for word in words]
        return cls(*(kinds.count(k) for k in ("correct", "substitution", "deletion", "insertion")))

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def reference(self) -> int:
        """How many units the reference has."""
        return self.correct + self.substitutions + self.deletions

    @property
    def rate(self) -> float | None:
        """Errors per unit of the reference; None where it has none."""
        return self.errors / self.reference if self.reference else None

    def __add__(self, other: "Counts") -> "Counts":
        """Of two texts together."""
        return Counts(
            self.correct + other.correct,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )


@dataclass(frozen=True, slots=True)
class ScoredUtterance:
    """One utterance, aligned."""

    id: str
    words: tuple[AlignedWord, ...]
    characters: Counts
    missing: bool = False
    """No hypothesis was given for it: all of its words are deletions."""
    speaker: str = ""
    source: str = ""
    duration: float | None = None
    """Seconds, where the manifest knows them."""
    audio: str = ""
    """Path of its recording, where known, for a player."""
    offset: float = 0.0
    """Seconds from the start of that recording."""

    @property
    def counts(self) -> Counts:
        """Of its words."""
        return Counts.of(self.words)


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a rate lies with 95 % confidence: bootstrap over utterances."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Group:
    """Rates over several utterances together: every word counts the same (micro average)."""

    name: str
    utterances: int
    words: Counts
    characters: Counts
    wrong: int
    """Utterances with an error, for the sentence error rate."""
    interval: Interval | None = None
    """Of the WER; None where it is not defined."""


@dataclass(frozen=True, slots=True)
class Confusion:
    """A word that was heard as another, left out (hypothesis "") or put in (reference "")."""

    reference: str
    hypothesis: str
    count: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two systems on the same utterances."""

    other: str
    """Name of the other system."""
    total: Group
    """Of the other one."""
    difference: float
    """WER of this one minus that of the other: negative when this one is better."""
    interval: Interval
    """Of the difference: paired bootstrap over utterances."""
    better: float
    """Share of the resamples in which this one is better; where both are the same, half counts."""
    missing: tuple[str, ...] = ()
    """Ids of the references without a hypothesis of the other."""


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The words whose confidence lies in a range."""

    low: float
    high: float
    count: int
    confidence: float
    """Mean of theirs; 0 where there are none."""
    accuracy: float
    """Share of them that are correct; 0 where there are none."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far confidences can be believed."""

    bins: tuple[ReliabilityBin, ...]
    ece: float
    """Expected calibration error: mean distance of confidence and accuracy, by words."""


@dataclass(frozen=True, slots=True)
class Score:
    """Everything a report shows."""

    normaliser: str
    """Its name and version: a WER without it means nothing."""
    system: str
    """What made the hypotheses, or the name of their file."""
    utterances: tuple[ScoredUtterance, ...]
    total: Group
    groups: Mapping[str, tuple[Group, ...]] = field(default_factory=dict)
    """By "speaker", "source", "duration", each where the references know it."""
    confusions: tuple[Confusion, ...] = ()
    deletions: tuple[Confusion, ...] = ()
    insertions: tuple[Confusion, ...] = ()
    missing: tuple[str, ...] = ()
    """Ids of the references without a hypothesis."""
    extra: tuple[str, ...] = ()
    """Ids of the hypotheses without a reference; they are not counted."""
    comparison: Comparison | None = None
    oracle: Counts | None = None
    """Of the best text of each n-best list."""
    calibration: Calibration | None = None
