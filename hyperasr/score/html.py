"""A score -> one HTML page that needs nothing beside it: no script, style or font from elsewhere.

Every word stands in the page as text, so that it can be read, searched and printed without its
script; the script sorts, filters and plays. The page is in `page/`: report.html.j2 is what it
says, macros.html.j2 the parts it says more than once, report.css how it looks, report.js what it
does.
"""

import os
from dataclasses import replace
from pathlib import Path, PurePath
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from hyperasr.score.result import AlignedWord, Group, Interval, Score, ScoredUtterance

UNDEFINED = "–"
"""Stands for a rate where there is nothing to divide by."""


def to_html(score: Score, audio_from: Path | None = None) -> str:
    """The whole page.

    `audio_from` is the folder that the page will lie in. With it the page has a player, and a
    click on a word with times plays the recording from there. Recordings are named relative to
    that folder, so that page and recordings can move together, to a web server too.
    """
    return _environment().get_template("report.html.j2").render(score=score, audio_from=audio_from)


def _environment() -> Environment:
    """Jinja2 with everything escaped, and how this page writes its numbers."""
    environment = Environment(
        loader=PackageLoader("hyperasr.score", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    formats = (percent, points, share, interval, count, ser, named, attributes)
    environment.filters |= {function.__name__: function for function in formats}
    environment.globals["audio_url"] = audio_url
    return environment


def percent(rate: float | None) -> str:
    """0.1234 -> '12.34 %', with a space that does not break."""
    return UNDEFINED if rate is None else f"{100 * rate:.2f}\N{NO-BREAK SPACE}%"


def points(difference: float) -> str:
    """-0.0123 -> '−1.23'."""
    return f"{100 * difference:+.2f}".replace("-", "\N{MINUS SIGN}")


def share(number: float) -> str:
    """0.8 -> '0.80'; some of these stand side by side."""
    return f"{number:.2f}"


def interval(between: Interval) -> str:
    """'11.20–13.50 %'."""
    return f"{100 * between.low:.2f}–{percent(between.high)}"


def count(number: int, one: str = "", many: str = "") -> str:
    """(5000, "word") -> '5,000 words'."""
    unit = one if number == 1 else many or f"{one}s"
    return f"{number:,}\N{NO-BREAK SPACE}{unit}" if one else f"{number:,}"


def ser(group: Group) -> float | None:
    """Sentence error rate."""
    return group.wrong / group.utterances if group.utterances else None


def named(group: Group, name: str) -> Group:
    """The same under another name."""
    return replace(group, name=name)


def attributes(word: AlignedWord, offset: float, url: str) -> Markup:
    """Of the element of a word: when it starts in its recording, how sure an error was."""
    found = ""
    if url and word.start is not None:
        found += f' data-t="{offset + word.start:.2f}"'
    if word.confidence is not None and word.kind != "correct":
        found += f' title="confidence {word.confidence:.2f}"'
    return Markup(found)  # numbers alone: nothing to escape


def audio_url(utterance: ScoredUtterance, folder: Path) -> str:
    """Where a page in `folder` finds the recording; empty where none is known."""
    if not utterance.audio:
        return ""
    try:
        path = PurePath(os.path.relpath(utterance.audio, folder))
    except ValueError:  # on another drive of Windows
        return Path(utterance.audio).absolute().as_uri()
    return quote(os.fsencode(path.as_posix()))
