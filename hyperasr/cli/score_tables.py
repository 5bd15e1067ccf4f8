"""A score -> the tables that `hyperasr score` prints."""

from collections.abc import Callable, Iterator

from rich import markup
from rich.box import SIMPLE
from rich.console import RenderableType
from rich.table import Table

from hyperasr.cli.terminal import harmless
from hyperasr.score.result import Calibration, Comparison, Counts, Group, Interval, Score

Tell = Callable[[str], None]
WIDTH = 100
"""Columns; what is narrower wraps, rather than that digits are left out."""
SHOWN = 10
"""Rows of confusions, and of groups of one kind."""


def tables(score: Score, formats: str) -> Iterator[RenderableType]:
    """The rates, then what goes wrong most often, then the rest where there is any."""
    yield escape(f"{formats}\nnormalizer {score.normaliser}")
    yield _rates(score)
    if score.total.words.errors:
        yield _most_frequent(score)
    if score.comparison is not None:
        yield escape(_compared(score.system, score.comparison))
    if score.oracle is not None:
        yield f"oracle WER of the n-best lists: {_rate(score.oracle)}"
    if score.calibration is not None:
        error = score.calibration.ece
        yield f"confidence against accuracy; expected calibration error {error:.3f}"
        yield reliability(score.calibration)
    if score.total.words.rate is None:
        inserted = score.total.words.insertions
        words = "1 word was" if inserted == 1 else f"{inserted:,} words were"
        yield f"The references have no words: no WER is defined; {words} inserted."


def escape(text: str) -> str:
    """Words of others as they stand: neither markup nor what steers a terminal."""
    return markup.escape(harmless(text))


def _rates(score: Score) -> Table:
    table = Table("", box=SIMPLE, padding=0, show_edge=False)
    for heading in ("WER", "95 %", "CER", "SER", "sub", "del", "ins", "words", "utt."):
        table.add_column(heading, justify="right", no_wrap=True)
    _add(table, score.total)
    for by, groups in score.groups.items():
        if len(groups) == 1:
            continue  # the same as the total
        table.add_section()
        few = len(groups) <= SHOWN
        heading = f"by {by}" if few else f"by {by}, the {SHOWN} worst of {len(groups)}"
        table.add_row(f"[dim]{heading}[/dim]")
        worst = sorted(groups, key=lambda group: -(group.words.rate or 0.0))
        for group in groups if few else worst[:SHOWN]:
            _add(table, group)
    return table


def _add(table: Table, group: Group) -> None:
    words = group.words
    ser = f"{group.wrong / group.utterances:.1%}" if group.utterances else "-"
    table.add_row(
        escape(group.name),
        f"[bold]{_rate(words)}[/bold]",
        _interval(group.interval),
        _rate(group.characters),
        ser,
        *(f"{n:,}" for n in (words.substitutions, words.deletions, words.insertions)),
        f"{words.reference:,}",
        f"{group.utterances:,}",
    )


def _rate(counts: Counts) -> str:
    return "-" if counts.rate is None else f"{counts.rate:.2%}"


def _interval(interval: Interval | None) -> str:
    return "-" if interval is None else f"{100 * interval.low:.1f} to {interval.high:.1%}"


def _most_frequent(score: Score) -> Table:
    headings = "substituted", "left out", "put in"
    table = Table(
        *headings,
        title="most frequent errors",
        title_justify="left",
        box=SIMPLE,
        show_edge=False,
        padding=(0, 2, 0, 0),
    )
    columns = (
        [f"{c.count:,}  {c.reference} → {c.hypothesis}" for c in score.confusions[:SHOWN]],
        [f"{c.count:,}  {c.reference}" for c in score.deletions[:SHOWN]],
        [f"{c.count:,}  {c.hypothesis}" for c in score.insertions[:SHOWN]],
    )
    for row in range(max(map(len, columns))):
        table.add_row(*(escape(column[row]) if row < len(column) else "" for column in columns))
    return table


def _compared(system: str, found: Comparison) -> str:
    """One sentence for each question: which is better, by how much, how sure is that."""
    low, high = (f"{100 * value:+.2f}" for value in (found.interval.low, found.interval.high))
    return (
        f"{found.other}: WER {_rate(found.total.words)}; {system} minus that: "
        f"{100 * found.difference:+.2f} points (95 %: {low} to {high}), "
        f"better in {found.better:.1%} of the resamples"
    )


def reliability(calibration: Calibration) -> Table:
    """Confidences against how many of such words are right, for `hyperasr lm tune` too."""
    table = Table(box=SIMPLE, show_edge=False)
    for heading in ("from", "to", "words", "confidence", "accuracy"):
        table.add_column(heading, justify="right")
    for found in calibration.bins:
        if found.count:
            edges = f"{found.low:.1f}", f"{found.high:.1f}"
            rates = f"{found.confidence:.2f}", f"{found.accuracy:.2f}"
            table.add_row(*edges, f"{found.count:,}", *rates)
    return table
