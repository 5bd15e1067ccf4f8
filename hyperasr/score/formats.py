"""Lines of a file -> texts: NeMo JSON lines, Kaldi, CTM, STM, TRN. One function per format.

Each gets the numbered lines that are not blank and raises ValueError, with the number of the line
in front, where one of them is not of its format. No file is opened here.
"""

import json
import math
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from hyperasr.score.texts import Text, TimedWord

Line = tuple[int, str]

IGNORED = "ignore_time_segment_in_scoring"
"""What sclite's STM files put for speech that does not count."""
IDS = ("id", "utt_id", "utterance_id")
"""Keys of a manifest that name an utterance; without one its path does."""
ALTERNATIVES = re.compile(r"(?<!\S)[{}](?!\S)|<ALT")
TRN = re.compile(r"(?P<text>.*)\((?P<id>[^()\s]+)\)\s*")
LABEL = re.compile(r"<[^<>\s]*>\s*")
READER = re.compile(r"(\d+)-\d+-\d+")
"""An id of LibriSpeech: reader, chapter, utterance."""


def nemo(lines: Sequence[Line], heard: bool) -> list[Text]:
    """NeMo JSON lines: `text` is the reference, `pred_text` what was heard.

    A hypothesis is `pred_text` where any line has one, else `text`.
    """
    entries = [(number, _object(number, line)) for number, line in lines]
    predicted = heard and any("pred_text" in entry for _, entry in entries)
    key = "pred_text" if predicted else "text"
    found = []
    for number, entry in entries:
        if predicted and entry.get(key) is None:
            continue  # nothing was heard of it: the hypothesis is missing
        text = entry.get(key)
        if not isinstance(text, str):
            raise ValueError(f'{number}: "{key}" is missing or no string')
        try:
            found.append(_utterance(entry, plain(text)))
        except ValueError as error:
            raise ValueError(f"{number}: {error}") from error
    return found


def _object(number: int, line: str) -> dict[str, Any]:
    try:
        entry: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", None) or str(error)
        raise ValueError(f"{number}: not a JSON object: {reason}") from error
    if not isinstance(entry, dict):
        raise ValueError(f"{number}: not a JSON object")
    return entry


def _utterance(entry: dict[str, Any], text: str) -> Text:
    """A line of a manifest; its id is one of `IDS`, else the path, with the offset if any."""
    audio = entry.get("audio_filepath")
    offset = seconds(entry.get("offset")) or 0.0
    name = next((entry[key] for key in IDS if key in entry), audio)
    if isinstance(name, bool) or not isinstance(name, str | int) or not str(name).strip():
        raise ValueError('no "audio_filepath" or "id" to tell the utterance by')
    if name is audio and offset:
        name = f"{name}@{offset:g}"
    return Text(
        plain(str(name)),
        text,
        alternatives=alternatives([entry]),
        speaker=_label(entry.get("speaker")),
        source=_label(entry.get("source")),
        duration=seconds(entry.get("duration")),
        audio=audio if isinstance(audio, str) else "",
        offset=offset,
    )


def _label(value: object) -> str:
    return plain(str(value)) if isinstance(value, str | int) and value != "" else ""


def seconds(value: object) -> float | None:
    """A number of seconds from 0; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= sys.float_info.max else None  # JSON's integers have no end


def alternatives(segments: Sequence[dict[str, Any]]) -> tuple[tuple[str, ...], ...]:
    """The n-best list of every segment: strings, or objects with a "text"."""
    lists = []
    for segment in segments:
        found = segment.get("nbest") or []
        listed = found if isinstance(found, list) else [found]
        texts = [t.get("text") if isinstance(t, dict) else t for t in listed]
        if listed is not found or not all(isinstance(text, str) for text in texts):
            raise ValueError('"nbest" must be a list of texts')
        lists.append(tuple(plain(str(text)) for text in texts))
    return tuple(lists) if any(lists) else ()


def kaldi(lines: Sequence[Line], heard: bool = False) -> list[Text]:
    """`id words`: Kaldi's text and LibriSpeech's .trans.txt."""
    found = []
    for _, line in lines:
        name, *rest = line.split(maxsplit=1)
        reader = READER.fullmatch(name)
        text = rest[0].strip() if rest else ""
        found.append(Text(name, text, speaker=reader[1] if reader else ""))
    return found


def trn(lines: Sequence[Line], heard: bool = False) -> list[Text]:
    """`words (id)`."""
    found = []
    for number, line in lines:
        match = TRN.fullmatch(line)
        if match is None:
            raise ValueError(f'{number}: not "words (id)"')
        _refuse_alternatives(number, match["text"])
        found.append(Text(match["id"], match["text"].strip()))
    return found


def ctm(lines: Sequence[Line], heard: bool = False) -> list[Text]:
    """`file channel begin duration word [confidence]`: one text per file and channel."""
    words: dict[tuple[str, str], list[TimedWord]] = {}
    for number, line in lines:
        _refuse_alternatives(number, line)
        columns = line.split()
        times = [_float(column) for column in columns[2:4]]
        if len(columns) < 5 or None in times:
            raise ValueError(f'{number}: not "file channel begin duration word [confidence]"')
        begin, duration = (time or 0.0 for time in times)
        sure = _float(columns[5]) if len(columns) > 5 else None
        if sure is not None and not 0 <= sure <= 1:
            raise ValueError(f"{number}: the confidence {columns[5]} is not between 0 and 1")
        word = TimedWord(columns[4], begin, begin + duration, sure)
        words.setdefault((columns[0], columns[1]), []).append(word)
    found = []
    for (name, channel), of_it in words.items():
        of_it.sort(key=lambda word: word.start or 0.0)
        text = " ".join(word.text for word in of_it)
        found.append(Text(name, text, tuple(of_it), channel=channel))
    return found


def stm(lines: Sequence[Line], heard: bool = False) -> list[Text]:
    """`file channel speaker begin end [<label>] words`: one text per segment."""
    found = []
    for number, line in lines:
        columns = line.split(maxsplit=5)
        times = [_float(column) for column in columns[3:5]]
        if len(columns) < 5 or None in times:
            raise ValueError(f'{number}: not "file channel speaker begin end [<label>] words"')
        begin, end = (time or 0.0 for time in times)
        if end < begin:
            raise ValueError(f"{number}: the segment ends before it begins")
        text = columns[5] if len(columns) > 5 else ""
        text = LABEL.sub("", text, count=1) if text.startswith("<") else text
        ignored = text.strip().lower() == IGNORED
        if not ignored:
            _refuse_alternatives(number, text)
        name, channel, speaker = columns[:3]
        found.append(
            Text(
                f"{name}-{channel}-{begin:.3f}-{end:.3f}",
                "" if ignored else text.strip(),
                speaker=speaker,
                duration=end - begin,
                offset=begin,
                recording=name,
                channel=channel,
                ignored=ignored,
            )
        )
    return found


def _float(column: str) -> float | None:
    try:
        value = float(column)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _refuse_alternatives(number: int, text: str) -> None:
    """Taking all of { a / b } for words would be a wrong number."""
    if ALTERNATIVES.search(text):
        raise ValueError(
            f"{number}: alternatives as in {{ a / b }} are not known: keep one of them"
        )


def plain(text: str) -> str:
    """Without what UTF-8 cannot hold: JSON can spell half a surrogate pair."""
    return text.encode("utf-8", "replace").decode()


LINES: dict[str, Callable[[Sequence[Line], bool], list[Text]]] = {
    "NeMo JSON lines": nemo,
    "STM": stm,
    "CTM": ctm,
    "TRN": trn,
    "Kaldi text": kaldi,
}


def recognise(lines: Sequence[Line], name: str) -> str | None:
    """Which of `LINES` these are, by their content; None for text without ids.

    A file name that says it (.ctm, .stm, .trn, .jsonl, .trans.txt, Kaldi's text) is believed, so
    that a damaged line is told as such.
    """
    suffix = name.rpartition(".")[2].upper()
    if suffix in ("CTM", "STM", "TRN"):
        return suffix
    if suffix == "JSONL":
        return "NeMo JSON lines"
    if name == "text" or name.endswith(".trans.txt"):
        return "Kaldi text"
    if all(TRN.fullmatch(line) for _, line in lines):
        return "TRN"
    if lines[0][1].lstrip().startswith("{"):
        return "NeMo JSON lines"
    columns = [line.split(maxsplit=6) for _, line in lines]
    if _timed(columns, 3):
        return "STM"
    if _timed(columns, 2):
        return "CTM"
    return "Kaldi text" if _ids([row[0] for row in columns]) else None


def _ids(names: Sequence[str]) -> bool:
    """Whether the first words of all lines are ids rather than the beginnings of sentences."""
    if len(names) == 1:
        return bool(re.search(r"\d", names[0]) and re.search(r"[-_./]", names[0]))
    return all(re.search(r"[\d_./-]", name) for name in names)


def _timed(columns: Sequence[Sequence[str]], first: int) -> bool:
    """Whether two columns hold times: numbers in every line, and some with a decimal point.

    Lines about alternatives have stars there.
    """
    times = [row[first : first + 2] for row in columns if row[first : first + 2] != ["*", "*"]]
    numbers = all(len(pair) == 2 and None not in map(_float, pair) for pair in times)
    return numbers and any("." in time for pair in times for time in pair)
