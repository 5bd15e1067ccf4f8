"""A figure -> the bytes of a picture.

Through matplotlib's objects, not pyplot: nothing global changes and no window is ever opened.
matplotlib is imported here and in the files that draw alone: not everybody needs it.
"""

from io import BytesIO

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def blank(width: float, height: float) -> Figure:
    """An empty figure of so many inches, whose parts find their places by themselves."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def encode(figure: Figure, suffix: str) -> bytes:
    """The bytes of a file of that suffix, "png" or "svg"; the same figure gives the same file."""
    file = BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "hyperasr"}):  # text stays text
        metadata = {"Date": None} if suffix == "svg" else None
        figure.savefig(file, format=suffix, dpi=150, metadata=metadata)
    return file.getvalue()
