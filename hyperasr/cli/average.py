"""`hyperasr average`: checkpoints -> one with the mean of their weights."""

from pathlib import Path
from typing import Annotated

import typer


def average(
    checkpoints: Annotated[
        list[str], typer.Argument(help="Checkpoint folders or names.", show_default=False)
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Checkpoint folder to write.", show_default=False)
    ],
    weights: Annotated[
        str | None,
        typer.Option(help="How much each counts: 0.7,0.3.", show_default="all the same"),
    ] = None,
) -> None:
    """Average checkpoints that come of one another: often the mean hears better than each.

    Example: hyperasr average runs/mine/best hyperconformer-en --weights 0.7,0.3 -o runs/mean
    """
    try:
        shares = [float(text) for text in weights.split(",")] if weights else None
    except ValueError as error:
        raise typer.BadParameter("numbers, with commas: 0.7,0.3", param_hint="--weights") from error

    from hyperasr.train.average import average as average_checkpoints

    average_checkpoints(checkpoints, output, shares)
