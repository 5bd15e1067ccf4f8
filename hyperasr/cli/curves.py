"""`hyperasr curves`: how a training run went, or goes, as a picture."""

from pathlib import Path
from typing import Annotated

import typer

from hyperasr.cli.options import check_picture
from hyperasr.cli.terminal import NOTHING, say
from hyperasr.files import replacing


def curves(
    run: Annotated[
        Path,
        typer.Argument(
            help="Folder of a training run, also one that goes on.",
            exists=True,
            file_okay=False,
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The picture: FILE.png or .svg.", show_default="RUN/curves.svg"
        ),
    ] = None,
) -> None:
    """Draw loss, word error rates on dev by source, and learning rate of a training run.

    Example: hyperasr curves runs/first -o curves.png
    """
    path = output or run / "curves.svg"
    check_picture(path, "-o")

    from hyperasr.train.metrics import METRICS_FILE, read_metrics

    entries = read_metrics(run)
    if not entries:
        say(f"{run}: nothing to draw yet: hyperasr train reports every 20 steps in {METRICS_FILE}")
        raise typer.Exit(NOTHING)

    from hyperasr.train.curves import draw

    image = draw(entries, str(run), path.suffix.lower().lstrip("."))
    with replacing(path) as partial:
        partial.write_bytes(image)
    typer.echo(f"{path}: {entries[-1]['step']} steps")
