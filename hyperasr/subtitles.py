"""Transcript -> cues: the words of each segment cut to what a viewer can read at once.

The limits are those of Netflix's Timed Text Style Guides: two lines and seven seconds in general
(https://partnerhelp.netflixstudios.com/hc/en-us/articles/215758617), 42 characters in English
(https://partnerhelp.netflixstudios.com/hc/en-us/articles/217350977).

How a cue is spelled (SubRip, WebVTT) is the business of `writers.py`.

Reading order: the limits, the cue, cutting segments into cues, cutting cues into lines.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hyperasr.transcript import Segment, Transcript, Word

LINE_WIDTH = 42  # characters
CUE_LINES = 2
CUE_SECONDS = 7.0


@dataclass(frozen=True, slots=True)
class Cue:
    """One subtitle: the lines on screen from `start` to `end`, in whole milliseconds."""

    start: int
    end: int
    lines: tuple[str, ...]


def cues(transcript: Transcript) -> list[Cue]:
    """Cues of at most CUE_LINES lines of LINE_WIDTH characters and CUE_SECONDS, never overlapping.

    A cue lasts from its first word to its last, but leaves when the next one comes, and stays a
    millisecond at least. Words are never broken: one longer than LINE_WIDTH has a line to itself.

    Raises ValueError or OverflowError for a time that is NaN or infinite.
    """
    groups = [group for segment in transcript.segments for group in split(visible(segment))]
    starts = [milliseconds(group[0].start) for group in groups]
    result = []
    free = 0  # the millisecond from which the screen is empty
    for number, group in enumerate(groups):
        start = max(starts[number], free)
        latest = start + milliseconds(CUE_SECONDS)
        end = min([milliseconds(group[-1].end), latest, *starts[number + 1 : number + 2]])
        free = max(end, start + 1)
        result.append(Cue(start, free, tuple(wrap(group))))
    return result


def visible(segment: Segment) -> list[Word]:
    """The words that put ink on the screen; a blank or a line end inside one would end its cue."""
    words = (replace(word, text=" ".join(word.text.split())) for word in segment.words)
    return [word for word in words if word.text]


def split(words: Sequence[Word]) -> list[Sequence[Word]]:
    """Cut the words of one segment into cues: few, evenly filled, apart where the speaker pauses.

    Finds the cheapest of all ways to cut, from left to right: `best[end]` holds the least cost of
    showing `words[:end]`, and where the last of those cues starts.
    """
    if not words:
        return []
    if fits(words):
        return [words]
    best = [(0.0, 0)]
    for end in range(1, len(words) + 1):
        options = []
        for start in range(end - 1, -1, -1):
            if not fits(words[start:end]):
                break
            options.append((best[start][0] + cost(words, start, end), start))
        best.append(min(options))
    groups, end = [], len(words)
    while end:
        start = best[end][1]
        groups.append(words[start:end])
        end = start
    return groups[::-1]


def fits(words: Sequence[Word]) -> bool:
    """Whether the words go into one cue; a single word always does."""
    if len(words) == 1:
        return True
    in_time = words[-1].end - words[0].start <= CUE_SECONDS
    return in_time and len(fill(words, LINE_WIDTH)) <= CUE_LINES


def cost(words: Sequence[Word], start: int, end: int) -> float:
    """The price of a cue that shows `words[start:end]`.

    1 for being there, so that cues are few; fullness squared, so that they are even; and up to 0.5
    back if a pause of up to one second comes before it.
    """
    characters = sum(len(word.text) + 1 for word in words[start:end]) - 1
    seconds = words[end - 1].end - words[start].start
    full = max(characters / (CUE_LINES * LINE_WIDTH), seconds / CUE_SECONDS)
    pause = words[start].start - words[start - 1].end if start else 0.0
    return 1 + full**2 - 0.5 * min(max(pause, 0.0), 1.0)


def wrap(words: Sequence[Word]) -> list[str]:
    """The lines of one cue, as few as will do and about equally long."""
    characters = sum(len(word.text) + 1 for word in words) - 1
    lines = fill(words, LINE_WIDTH)
    for width in range(characters // len(lines), LINE_WIDTH):
        narrower = fill(words, width)
        if len(narrower) == len(lines):
            return narrower
    return lines


def fill(words: Sequence[Word], width: int) -> list[str]:
    """Lines of at most `width` characters, each as full as it gets; longer words stand alone."""
    lines = [words[0].text]
    for word in words[1:]:
        if len(lines[-1]) + 1 + len(word.text) <= width:
            lines[-1] += " " + word.text
        else:
            lines.append(word.text)
    return lines


def milliseconds(seconds: float) -> int:
    """Seconds to the nearest whole millisecond; before the start of the file is 0."""
    return max(0, round(seconds * 1000))
