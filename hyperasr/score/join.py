"""References + hypotheses -> pairs, by id and never by line number.

Words with times are joined to the segments of an STM file by time.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from hyperasr.errors import TextError
from hyperasr.score.texts import Text, Texts, TimedWord

SUFFIX = re.compile(
    r"\.(aac|flac|m4a|mkv|mp3|mp4|ogg|opus|sph|wav|webm|wma|json|srt|txt|vtt)$", re.IGNORECASE
)

Place = tuple[str, str]
"""An id, or a recording, and the channel where some recording has several, else ""."""


@dataclass(frozen=True, slots=True)
class Joined:
    """Every reference with its hypothesis, in the order of the references."""

    pairs: tuple[tuple[Text, Text | None], ...]
    """None where there is no hypothesis."""
    extra: tuple[str, ...]
    """Ids of hypotheses without a reference."""


def join(references: Texts, hypotheses: Texts) -> Joined:
    """Which hypothesis belongs to which reference.

    Ids are compared as they stand, without the suffix of an audio or text file, or without folders
    too: whichever finds most. Two files of one text each belong together whatever their names.

    Raises TextError when there are no references or when no id is found on both sides.
    """
    nothing = references.single and not references.texts[0].text and len(hypotheses.texts) > 1
    if nothing or all(text.ignored for text in references):
        raise TextError(f"{references.name}: holds no references: give a file with texts")
    if references.single and len(hypotheses.texts) == 1:
        return Joined(((references.texts[0], hypotheses.texts[0]),), ())
    heard = list(hypotheses)
    if hypotheses.single and not heard[0].text:
        heard = []  # an empty file: nothing was heard of anything
    segmented = any(text.recording for text in references)
    split = _several_channels(references.texts, heard)
    known = _recordings(references, split)
    found = _recordings(heard, split)
    name = _naming(references, hypotheses, list(known), list(found))
    hypothesis = {name(place): _whole(place, texts) for place, texts in found.items()}
    pairs: list[tuple[Text, Text | None]] = []
    for place, texts in known.items():
        whole = hypothesis.pop(name(place), None)
        if not segmented or not _is_timed(heard):
            pairs.append((_whole(place, texts), whole))
        elif whole is None:
            pairs += [(text, None) for text, _ in by_time(texts, ())]
        else:
            pairs += by_time(texts, whole.words)
    return Joined(tuple(pairs), tuple(text.id for text in hypothesis.values()))


def by_time(segments: Sequence[Text], words: Sequence[TimedWord]) -> list[tuple[Text, Text | None]]:
    """Segments of a recording -> each with the words heard in it, their times from its start.

    As sclite does it, a word belongs to the first segment that does not end before the word's
    middle, what comes after all of them to the last. What falls into an ignored segment is left
    out.
    """
    segments = sorted(segments, key=lambda segment: segment.offset)
    ends = list(accumulate((s.offset + (s.duration or 0.0) for s in segments), max))
    shares: list[list[TimedWord]] = [[] for _ in segments]
    for word in words:
        start, end = word.start or 0.0, word.end or word.start or 0.0
        number = min(bisect_left(ends, (start + end) / 2), len(segments) - 1)
        begin = segments[number].offset
        shares[number].append(replace(word, start=start - begin, end=end - begin))
    return [
        (segment, Text(segment.id, " ".join(word.text for word in share), tuple(share)))
        for segment, share in zip(segments, shares, strict=True)
        if not segment.ignored
    ]


def _is_timed(texts: Sequence[Text]) -> bool:
    """Whether every word that was heard has its time."""
    return all(
        bool(text.words) == bool(text.text.split())
        and all(word.start is not None for word in text.words)
        for text in texts
    )


def _several_channels(known: Sequence[Text], heard: Sequence[Text]) -> bool:
    """Whether some recording has several channels, and the channel of every text is known."""
    if not all(text.channel for text in (*known, *heard)):
        return False
    sides = [
        {(text.recording or text.id, text.channel) for text in side} for side in (known, heard)
    ]
    return any(len({name for name, _ in side}) < len(side) for side in sides)


def _recordings(texts: Iterable[Text], split: bool) -> dict[Place, list[Text]]:
    """The texts of each recording, or of each of its channels; others by their id."""
    found: dict[Place, list[Text]] = {}
    for text in texts:
        place = text.recording or text.id, text.channel if split else ""
        found.setdefault(place, []).append(text)
    return found


def _whole(place: Place, texts: Sequence[Text]) -> Text:
    """What is said in a recording, one segment after the other."""
    id = _spelled(place)
    if len(texts) == 1 and not texts[0].ignored and not texts[0].recording:
        return replace(texts[0], id=id)
    texts = sorted(texts, key=lambda text: text.offset)
    speakers = {text.speaker for text in texts}
    return Text(
        id,
        " ".join(text.text for text in texts),
        tuple(word for text in texts for word in text.words),
        speaker=speakers.pop() if len(speakers) == 1 else "",
    )


NAMINGS: tuple[Callable[[str], str], ...] = (
    str,
    lambda id: SUFFIX.sub("", id),
    lambda id: SUFFIX.sub("", id).replace("\\", "/").rpartition("/")[2],
)


def _naming(
    references: Texts, hypotheses: Texts, known: Sequence[Place], heard: Sequence[Place]
) -> Callable[[Place], Place]:
    """Under which names most references find a hypothesis; each name must be there once."""
    best, most = NAMINGS[0], 0
    for naming in NAMINGS:
        ours, theirs = ([(naming(id), channel) for id, channel in side] for side in (known, heard))
        common = len(set(ours) & set(theirs))
        if common > most and len(set(ours)) == len(ours) and len(set(theirs)) == len(theirs):
            best, most = naming, common
    if heard and not most:
        raise TextError(
            f"no id is in both {references.name} ({references.format}: {_examples(known)}) and "
            f"{hypotheses.name} ({hypotheses.format}: {_examples(heard)}): "
            "give the utterances the same ids"
        )
    return lambda place: (best(place[0]), place[1])


def _examples(places: Sequence[Place]) -> str:
    return ", ".join(map(_spelled, places[:2])) + (", ..." if len(places) > 2 else "")


def _spelled(place: Place) -> str:
    """('talk', 'A') -> 'talk/A'."""
    return "/".join(filter(None, place))
