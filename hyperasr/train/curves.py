"""metrics.jsonl as a picture: losses, word error rates and the learning rate, step by step."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hyperasr import picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOSSES = {"loss": ("CTC", "#0b6e4f"), "attention_loss": ("attention", "#c1440e")}
SOURCES = ("#0b6e4f", "#c1440e", "#3465a4", "#b8860b", "#75507b", "#008b8b", "#a0522d", "#708090")
SMOOTH = 50
"""A line is drawn through the medians of a fiftieth of the reports around each."""


def draw(entries: list[dict[str, Any]], title: str, suffix: str) -> bytes:
    """The picture of a run's entries, see `read_metrics`, as a file of suffix "png" or "svg"."""
    reports = [entry for entry in entries if "wer" not in entry]
    evaluations = [entry for entry in entries if "wer" in entry]
    figure = picture.blank(8, 7.5 if evaluations else 5)
    heights = (3, 3, 1) if evaluations else (3, 1)
    loss, *middle, rate = figure.subplots(
        len(heights), 1, sharex=True, gridspec_kw={"height_ratios": heights}
    )
    figure.suptitle(_plain(title), fontsize=10)
    _losses(loss, reports)
    for axes in middle:
        _word_errors(axes, evaluations)
    rate.plot(*_points(reports, "learning_rate"), color="#444444", lw=1.2)
    rate.set_title("learning rate", fontsize=10, loc="left")
    rate.yaxis.set_major_formatter("{x:g}")
    rate.set_ylim(bottom=0)
    rate.set_xlabel("step")
    rate.xaxis.set_major_formatter("{x:,.0f}")
    rate.set_xlim(0, max(1, *(entry["step"] for entry in entries)) if entries else 1)
    for axes in figure.axes:
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return picture.encode(figure, suffix)


def _losses(axes: "Axes", reports: list[dict[str, Any]]) -> None:
    """As reported, faint, and a line through them; the first steps may lie above the frame."""
    highest = 0.0
    for name, (label, colour) in LOSSES.items():
        steps, values = _points(reports, name)
        if not np.any(values > 0):  # there is no attention decoder
            continue
        smooth = _smooth(values)
        axes.plot(steps, values, color=colour, lw=0.8, alpha=0.3)
        axes.plot(steps, smooth, color=colour, lw=1.8, label=f"{label}, now {smooth[-1]:.3f}")
        highest = max(highest, float(np.nanpercentile(values, 98)))
    axes.set_ylim(0, 1.1 * highest or 1.0)
    axes.set_title("loss, nats per token", fontsize=10, loc="left")
    if axes.lines:
        axes.legend(fontsize=8, frameon=False, loc="best")


def _word_errors(axes: "Axes", evaluations: list[dict[str, Any]]) -> None:
    """All in black, sources in colours; a star is the mean of the best weights."""
    single = [entry for entry in evaluations if entry.get("averaged", 1) == 1]
    sources = sorted({source for entry in evaluations for source in entry.get("by_source", {})})
    for number, source in enumerate(sources if len(sources) > 1 else ()):
        found = [(e["step"], e["by_source"][source]) for e in single if source in e["by_source"]]
        steps, percents = [step for step, _ in found], [100 * rate for _, rate in found]
        colour = SOURCES[number % len(SOURCES)]
        now = f", now {percents[-1]:.1f} %" if percents else ""
        axes.plot(
            steps, percents, "o-", ms=2.5, lw=1.1, color=colour, label=_plain(f"{source}{now}")
        )
    steps = [entry["step"] for entry in single]
    percents = [100 * entry["wer"] for entry in single]
    best = min(evaluations, key=lambda entry: entry["wer"])
    label = f"all, best {100 * best['wer']:.1f} % at step {best['step']:,}"
    axes.plot(steps, percents, "o-", ms=3.5, lw=2, color="black", label=label)
    for entry in evaluations:
        if entry.get("averaged", 1) > 1:
            label = f"mean of the {entry['averaged']} best, {100 * entry['wer']:.1f} %"
            point = [entry["step"]], [100 * entry["wer"]]
            axes.plot(*point, "*", ms=11, ls="", color="black", clip_on=False, label=label)
    axes.set_ylim(bottom=0)
    axes.set_title("word error rate on dev, %", fontsize=10, loc="left")
    axes.legend(fontsize=8, frameon=False, loc="best")


def _plain(text: str) -> str:
    """Names of others, in which matplotlib must not see formulas."""
    return text.replace("$", r"\$")


def _points(
    entries: list[dict[str, Any]], name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps and values, (N,) each; a value that is not there is no number and leaves a gap."""
    steps = np.array([entry["step"] for entry in entries], float)
    values = [entry.get(name) for entry in entries]
    return steps, np.array([np.nan if value is None else value for value in values], float)


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The median around each of (N,) values, of those that are numbers."""
    half = len(values) // SMOOTH // 2
    around = (values[max(0, n - half) : n + half + 1] for n in range(len(values)))
    known = (piece[~np.isnan(piece)] for piece in around)
    return np.array([np.median(piece) if len(piece) else np.nan for piece in known])
