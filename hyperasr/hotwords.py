"""Words and phrases that a user expects: what each is worth while a text is being heard.

A phrase is a path in a trie of words. Each word that goes on along a path earns the weight at
once, so that the phrase survives in the beam; what an unfinished phrase has earned is taken back
when the text leaves its path. The cost of a word does not depend on how many phrases there are.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(eq=False, slots=True)
class Node:
    """A place in the trie."""

    next: dict[str, "Node"] = field(default_factory=dict)
    ends: bool = False
    """Whether a phrase ends here."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a text stands: its place in the trie and what it has earned on credit."""

    node: Node
    credit: float = 0.0


class Hotwords:
    """Phrases, as they are spelled by the model, and their weight in natural log-probability."""

    def __init__(self, phrases: Iterable[str], weight: float):
        self.weight = weight
        self.root = Node()
        self.longest = 0
        self.start = Place(self.root)
        """Where a text begins."""
        self._shortest: dict[str, int] = {}  # beginning of a word -> letters of the shortest such
        self.words: set[str] = set()
        for phrase in phrases:
            words = phrase.split()
            node = self.root
            for word in words:
                node = node.next.setdefault(word, Node())
            node.ends = bool(words)
            self.words.update(words)
            self.longest = max(self.longest, len(words))
        for word in self.words:
            for length in range(1, len(word) + 1):
                start = word[:length]
                self._shortest[start] = min(len(word), self._shortest.get(start, len(word)))

    def step(self, place: Place, word: str) -> tuple[float, Place]:
        """What `word` earns after a text that stands at `place`, and where it stands then."""
        earned = 0.0
        node = place.node.next.get(word)
        credit = place.credit
        if node is None:
            earned, credit = -credit, 0.0
            node = self.root.next.get(word)
            if node is None:
                return earned, self.start
        earned += self.weight
        credit = 0.0 if node.ends else credit + self.weight
        return earned, Place(node if node.next else self.root, credit)

    def finish(self, place: Place) -> float:
        """What the end of the text earns: an unfinished phrase gives its credit back."""
        return -place.credit

    def partial(self, letters: str) -> float:
        """What the beginning of a word earns while it may still become a hotword."""
        shortest = self._shortest.get(letters)
        return self.weight * len(letters) / shortest if shortest else 0.0

    def heard(self, words: Sequence[str]) -> tuple[str, ...]:
        """The phrases that occur in a text, each time they occur, the longest first match."""
        found: list[str] = []
        at = 0
        while at < len(words):
            node, end = self.root, 0
            for number, word in enumerate(words[at:], start=1):
                following = node.next.get(word)
                if following is None:
                    break
                node = following
                end = number if node.ends else end
            if end:
                found.append(" ".join(words[at : at + end]))
            at += max(1, end)
        return tuple(found)
