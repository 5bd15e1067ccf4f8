"""Transcript -> cues: the words of each segment cut to what a viewer can read at once.

The rules are those that subtitle editors know; `CueRules` holds them and their defaults. They
cannot always be met together, so they give way in a fixed order, the last first:

1. Every word is shown once, in order, and is never broken: one longer than a line has a line to
   itself.
2. Cues never overlap. `max_line_count`, `max_line_width`, `max_words_per_line`, `max_duration` and
   `min_gap` hold.
3. A cue comes with its first word; only a gap that would not fit otherwise makes it come later.
4. `min_duration`: a cue that is too short stays after its last word, until the next one comes.
5. `max_cps`: likewise. Who speaks faster than that without a pause is read faster than that.

How a cue is spelled (SubRip, WebVTT) is the business of `writers.py`.

Reading order: the rules, the cue, when cues come and go, cutting segments into cues, cutting cues
into lines, words in turn.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from hyperasr.errors import ConfigError
from hyperasr.transcript import Segment, Transcript, Word

LIMITS = {
    "max_line_count": (1, 100),
    "max_line_width": (1, 1000),
    "max_words_per_line": (1, 1000),
    "max_cps": (1, 1000),
    "min_duration": (0, 3600),
    "max_duration": (0.1, 3600),
    "min_gap": (0, 1),
}
"""What a rule may be, from and to."""


@dataclass(frozen=True, slots=True)
class CueRules:
    """What a subtitle has to keep to. Times are seconds.

    The defaults are those of Netflix's Timed Text Style Guides, a gap of two frames at 24 a second
    (https://partnerhelp.netflixstudios.com/hc/en-us/articles/215758617 in general,
    https://partnerhelp.netflixstudios.com/hc/en-us/articles/217350977 for English).
    """

    max_line_count: int = 2
    max_line_width: int = 42
    """Characters."""
    max_words_per_line: int | None = None
    max_cps: float = 20.0
    """Characters a second that a viewer has to read, blanks included."""
    min_duration: float = 0.833
    max_duration: float = 7.0
    min_gap: float = 0.083
    """Between the end of a cue and the next."""
    highlight_words: bool = False
    """Show every cue once for each of its words, with that word marked while it is said."""

    def __post_init__(self) -> None:
        """Refuse what no cue could keep to, naming the option of the command line."""
        for name, (least, most) in LIMITS.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                option = "--" + name.replace("_", "-")
                raise ConfigError(f"{option} {value:g} must be from {least} to {most}")
        if self.min_duration > self.max_duration:
            raise ConfigError(
                f"--min-duration {self.min_duration:g} is longer than --max-duration "
                f"{self.max_duration:g}: change one of them"
            )


DEFAULT_RULES = CueRules()


@dataclass(frozen=True, slots=True)
class Cue:
    """One subtitle: the words on screen from `start` to `end`, in whole milliseconds."""

    start: int
    end: int
    lines: tuple[tuple[str, ...], ...]
    spoken: int | None = None
    """Which of its words is to be marked, counted from 0 through all lines."""


def cues(transcript: Transcript, rules: CueRules = DEFAULT_RULES) -> list[Cue]:
    """The cues of a transcript, by the rules; a cue never holds words of two segments.

    Raises ValueError or OverflowError for a time that is NaN or infinite.
    """
    groups = cut(transcript, rules)
    starts = [milliseconds(group[0].start) for group in groups]
    gap, longest = milliseconds(rules.min_gap), milliseconds(rules.max_duration)
    result: list[Cue] = []
    free = 0  # the millisecond from which the next cue may come
    for number, group in enumerate(groups):
        start = max(starts[number], free)
        wanted = max(
            milliseconds(group[-1].end), start + milliseconds(needed(characters(group), rules))
        )
        latest = [start + longest, *(comes - gap for comes in starts[number + 1 : number + 2])]
        end = max(min(wanted, *latest), start + 1)
        free = end + gap
        cue = Cue(start, end, wrap(group, rules))
        result += in_turn(cue, group) if rules.highlight_words else [cue]
    return result


def needed(length: int, rules: CueRules) -> float:
    """Seconds that a viewer needs to read so many characters."""
    return max(rules.min_duration, length / rules.max_cps)


def characters(words: Sequence[Word]) -> int:
    """Length of the words with blanks between them."""
    return sum(len(word.text) + 1 for word in words) - 1


def visible(segment: Segment) -> list[Word]:
    """The words that put ink on the screen; a blank or a line end inside one would end its cue."""
    words = (replace(word, text=" ".join(word.text.split())) for word in segment.words)
    return [word for word in words if word.text]


def cut(transcript: Transcript, rules: CueRules) -> list[Sequence[Word]]:
    """The words of each cue, in order."""
    segments = [words for segment in transcript.segments if (words := visible(segment))]
    comes = [*(words[0].start for words in segments[1:]), math.inf]
    return [
        group
        for words, following in zip(segments, comes, strict=False)
        for group in split(words, following, rules)
    ]


def split(words: Sequence[Word], following: float, rules: CueRules) -> list[Sequence[Word]]:
    """Cut the words of one segment into cues: few, evenly filled, apart where the speaker pauses.

    `following` is when the next segment begins. Finds the cheapest of all ways to cut, from left to
    right: `best[end]` holds the least cost of showing `words[:end]`, and where the last of those
    cues starts.
    """
    *_, last = ends(words, 0, rules)
    if last == len(words):
        return [words]
    best = [(0.0, 0), *[(math.inf, 0)] * len(words)]
    for start in range(len(words)):
        for end in ends(words, start, rules):
            price = best[start][0] + cost(words, start, end, following, rules)
            best[end] = min(best[end], (price, start))
    groups, end = [], len(words)
    while end:
        start = best[end][1]
        groups.append(words[start:end])
        end = start
    return groups[::-1]


def ends(words: Sequence[Word], start: int, rules: CueRules) -> Iterator[int]:
    """Where a cue that begins with `words[start]` may end: after that word, and while more fit."""
    lines = line_numbers(words[start:], rules.max_line_width, rules)
    for end, line in enumerate(lines, start=start + 1):
        lasts = words[end - 1].end - words[start].start
        if end > start + 1 and (line >= rules.max_line_count or lasts > rules.max_duration):
            return
        yield end


def cost(words: Sequence[Word], start: int, end: int, following: float, rules: CueRules) -> float:
    """The price of a cue that shows `words[start:end]`.

    1 for being there, so that cues are few; fullness squared, so that they are even; up to 2 for
    leaving before it can be read; and up to 0.5 back if a pause of up to one second comes before.
    """
    shown = words[start:end]
    length = characters(shown)
    full = max(
        length / (rules.max_line_count * rules.max_line_width),
        (shown[-1].end - shown[0].start) / rules.max_duration,
        len(shown) / (rules.max_line_count * (rules.max_words_per_line or math.inf)),
    )
    comes = words[end].start if end < len(words) else following
    stays = min(comes - rules.min_gap - shown[0].start, rules.max_duration)
    hurry = 1 - max(stays, 0.0) / needed(length, rules)
    pause = shown[0].start - words[start - 1].end if start else 0.0
    return 1 + full**2 + 2 * max(hurry, 0.0) - 0.5 * min(max(pause, 0.0), 1.0)


def wrap(words: Sequence[Word], rules: CueRules) -> tuple[tuple[str, ...], ...]:
    """The lines of one cue, as few as will do and about equally long."""
    lines = fill(words, rules.max_line_width, rules)
    for width in range(characters(words) // len(lines), rules.max_line_width):
        narrower = fill(words, width, rules)
        if len(narrower) == len(lines):
            return narrower
    return lines


def fill(words: Sequence[Word], width: int, rules: CueRules) -> tuple[tuple[str, ...], ...]:
    """Lines of at most `width` characters, each as full as it gets; longer words stand alone."""
    lines: list[list[str]] = []
    for word, line in zip(words, line_numbers(words, width, rules), strict=True):
        if line == len(lines):
            lines.append([])
        lines[line].append(word.text)
    return tuple(map(tuple, lines))


def line_numbers(words: Iterable[Word], width: int, rules: CueRules) -> Iterator[int]:
    """The line, from 0, in which each word stands when lines are filled."""
    line, length, held = 0, -1, 0
    for word in words:
        length += 1 + len(word.text)
        held += 1
        if held > 1 and (length > width or held > (rules.max_words_per_line or held)):
            line, length, held = line + 1, len(word.text), 1
        yield line


def in_turn(cue: Cue, words: Sequence[Word]) -> Iterator[Cue]:
    """The cue, cut in time so that each of its words is marked while it is said."""
    now = cue.start
    for place, word in enumerate(words):
        start = min(max(milliseconds(word.start), now), cue.end)
        end = min(max(milliseconds(word.end), start), cue.end)
        if now < start:
            yield replace(cue, start=now, end=start)
        if start < end:
            yield replace(cue, start=start, end=end, spoken=place)
        now = end
    if now < cue.end:
        yield replace(cue, start=now)


def milliseconds(seconds: float) -> int:
    """Seconds to the nearest whole millisecond; before the start of the file is 0."""
    return max(0, round(seconds * 1000))
