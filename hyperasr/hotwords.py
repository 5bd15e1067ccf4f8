"""Words and phrases that a user expects: what each is worth while a text is being heard.

A phrase is a path in a trie of words. Each word that goes on along a path earns the weight at
once, so that the phrase survives in the beam; what an unfinished phrase has earned is taken back
when the text leaves its path, and its words are read again from the next one on: another phrase
may have begun there. So a text earns the weight for every word of the phrases that `Hotwords.heard`
finds in it. The cost of a word does not depend on how many phrases there are.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from hyperasr.errors import ConfigError

LONGEST = 50
"""Words of a phrase, at most: a longer one is a text."""


@dataclass(eq=False, slots=True)
class Node:
    """A place in the trie."""

    next: dict[str, "Node"] = field(default_factory=dict)
    ends: bool = False
    """Whether a phrase ends here."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a text stands: its place in the trie and the words that have earned on credit."""

    node: Node
    waiting: tuple[str, ...] = ()
    """Words on the path since its beginning, or since the last phrase that ended on it."""
    ended: bool = False
    """Whether a phrase ended on the path."""


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
            if len(words) > LONGEST:
                raise ConfigError(
                    f"a hotword of {len(words)} words ({phrase[:40]} ...): at most {LONGEST}"
                )
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

    def rise(self, letters: int) -> float:
        """What a token of up to so many letters adds to the beginning of a word at most."""
        gains = (
            self.partial(start) - self.partial(start[:-count])
            for start in self._shortest
            for count in range(1, min(letters, len(start)) + 1)
        )
        return max(gains, default=0.0)

    def step(self, place: Place, word: str) -> tuple[float, Place]:
        """What `word` earns after a text that stands at `place`, and where it stands then."""
        node = place.node.next.get(word)
        if node is None:
            if place.node is self.root:
                return 0.0, place
            return self._again(place, word)
        if not node.next:
            return self.weight, self.start
        waiting = () if node.ends else (*place.waiting, word)
        return self.weight, Place(node, waiting, node.ends or place.ended)

    def finish(self, place: Place) -> float:
        """What the end of the text earns: an unfinished phrase gives its credit back."""
        if not place.waiting:
            return 0.0
        earned, place = self._again(place)
        return earned + self.finish(place)

    def _again(self, place: Place, *words: str) -> tuple[float, Place]:
        """Give the credit back and read what waits, and `words`, from the next word on."""
        earned = -self.weight * len(place.waiting)
        waiting, place = place.waiting if place.ended else place.waiting[1:], self.start
        for word in (*waiting, *words):
            more, place = self.step(place, word)
            earned += more
        return earned, place

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
