"""A report as a picture: time, memory and what HyperConformer saves, against the length."""

from typing import TYPE_CHECKING

from matplotlib.ticker import LogLocator

from hyperasr import picture
from hyperasr.bench.lengths import Comparison, Length

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAPER_PERCENT = (38, 56)
"""How much faster than the equivalent Conformer: middle lengths, long ones (arXiv:2305.18281)."""
COLOURS = {"hyperconformer": "#0b6e4f", "conformer": "#c1440e"}
NAMES = {"hyperconformer": "HyperConformer", "conformer": "Conformer"}


def draw(comparison: Comparison, title: str, suffix: str) -> bytes:
    """The picture as the bytes of a file of that suffix, "png" or "svg"."""
    figure = picture.blank(11, 3.6)
    time, memory, saved = figure.subplots(1, 3)
    figure.suptitle(title, fontsize=10)
    _both(time, comparison, "seconds", "time of one pass, s")
    _both(memory, comparison, "peak_mib", "peak memory above the model, MiB")
    _saved(saved, comparison.lengths)
    for axes in (time, memory, saved):
        axes.set_xscale("log")
        axes.set_xlabel("length of the recording, s")
        ticks = [row.audio_seconds for row in comparison.lengths]
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, frameon=False)
    return picture.encode(figure, suffix)


def _both(axes: "Axes", comparison: Comparison, quantity: str, label: str) -> None:
    for model, name in NAMES.items():
        rows = [(row.audio_seconds, getattr(row, model)) for row in comparison.lengths]
        points = [(n, getattr(found, quantity)) for n, found in rows if found is not None]
        exponent = comparison.exponent(model, quantity)
        growth = "" if exponent is None else f", grows as length^{exponent:.2f}"
        lengths, values = zip(*points, strict=True) if points else ((), ())
        axes.plot(lengths, values, "o-", ms=4, color=COLOURS[model], label=f"{name}{growth}")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_title(label, fontsize=10)


def _saved(axes: "Axes", lengths: tuple[Length, ...]) -> None:
    points = [(r.audio_seconds, p) for r in lengths if (p := r.time_saved_percent) is not None]
    xs, percents = zip(*points, strict=True) if points else ((), ())
    axes.plot(xs, percents, "o-", ms=4, color=COLOURS["hyperconformer"], label="measured")
    axes.axhspan(
        *PAPER_PERCENT, color="#888888", alpha=0.25, lw=0, label="paper: 38 to 56 % faster"
    )
    axes.set_ylim(min(0.0, *percents) if percents else 0.0, 100)
    axes.set_title("time that HyperConformer saves, %", fontsize=10)
