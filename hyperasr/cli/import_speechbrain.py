"""`hyperasr import-speechbrain`: a SpeechBrain folder -> a checkpoint."""

from pathlib import Path
from typing import Annotated

import typer

from hyperasr.cli.options import Quiet
from hyperasr.cli.terminal import nobody, say


def import_speechbrain(
    folder: Annotated[
        Path, typer.Argument(help="Training or release folder with model.ckpt.", show_default=False)
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Checkpoint folder to write.", show_default=False)
    ],
    quiet: Quiet = False,
) -> None:
    """Turn a SpeechBrain HyperConformer or Conformer into a checkpoint.

    Example: hyperasr import-speechbrain results/hyperconformer_8M/7775 -o checkpoints/published
    """
    from hyperasr.importers.speechbrain import import_folder

    import_folder(folder, output, nobody if quiet else say)
