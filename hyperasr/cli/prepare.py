"""`hyperasr prepare`: the folder of a corpus -> manifests to train on, checked."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress

from hyperasr.cli.options import Quiet
from hyperasr.cli.terminal import FAILED, console, say, sigterm_is_ctrl_c
from hyperasr.errors import ConfigError, ManifestError
from hyperasr.files import replacing

if TYPE_CHECKING:
    from hyperasr.train.librispeech import Subset

SHOWN = 10
"""Problems that are told of each subset; problems.txt has them all."""

app = typer.Typer(no_args_is_help=True, help="Turn a corpus into manifests and check it.")


@app.callback()
def root() -> None:
    """Hold the corpora together."""


@app.command()
def librispeech(
    folder: Annotated[
        Path, typer.Argument(help="Where train-clean-100 and the others are.", show_default=False)
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to write the manifests into.")
    ] = Path("manifests"),
    subset: Annotated[
        list[str] | None,
        typer.Option(help="One of the subsets; repeatable.", show_default="all there are"),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Write a manifest of each subset of LibriSpeech; listen to every recording on the way.

    What cannot be trained on is named and left out: recordings that are missing, damaged or too
    short for their text, texts with letters outside the alphabet.

    Example: hyperasr prepare librispeech corpora/LibriSpeech -o manifests
    """
    with sigterm_is_ctrl_c():
        found = write_manifests(folder, output, subset, quiet)
    for part in (part for part in found if part.utterances):
        hours = part.seconds / 3600
        typer.echo(
            f"{part.manifest}: {part.utterances:,} utterances, {hours:.1f} h, "
            f"{part.speakers} speakers"
        )
    if any(part.problems for part in found):
        raise typer.Exit(FAILED)


def write_manifests(
    folder: Path, output: Path, names: Sequence[str] | None, quiet: bool
) -> "list[Subset]":
    """Manifests of the subsets of LibriSpeech that are asked for; says what was left out."""
    from hyperasr.train.librispeech import count_utterances, find_subsets, prepare

    subsets = find_subsets(folder)
    unknown = [name for name in names or () if name not in subsets]
    if unknown:
        raise ConfigError(f"{folder}: no {', '.join(unknown)}; there are {', '.join(subsets)}")
    subsets = {name: path for name, path in subsets.items() if not names or name in names}
    found = []
    with Progress(console=console, disable=quiet or not console.is_terminal) as progress:
        bar = progress.add_task("listening", total=count_utterances(subsets.values()))
        for part in prepare(subsets, output, lambda: progress.advance(bar)):
            for problem in part.problems[:SHOWN]:
                say(problem)
            found.append(part)
    problems = [problem for part in found for problem in part.problems]
    (output / "problems.txt").unlink(missing_ok=True)  # of before
    if problems:
        with replacing(output / "problems.txt") as partial:
            partial.write_text("\n".join([*problems, ""]), encoding="utf-8")
        say(f"{len(problems)} left out: see {output / 'problems.txt'}")
    if not any(part.utterances for part in found):
        raise ManifestError(f"{folder}: none of its recordings can be used")
    return found
