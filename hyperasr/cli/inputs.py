"""What is named on a command line -> recordings, and complaints about what leads to none."""

from collections.abc import Sequence

import typer

from hyperasr.batch.plan import Found, find
from hyperasr.cli.terminal import NOTHING, say
from hyperasr.errors import ManifestError


def recordings(inputs: Sequence[str]) -> Found:
    """What the inputs lead to; complains about those that lead nowhere, ends if all do."""
    try:
        found = find(inputs)
    except ManifestError as error:
        raise typer.BadParameter(str(error), param_hint="INPUT") from error
    for failure in found.unlisted:
        say(f"{failure.path}: cannot be looked into: {failure.reason}")
    for text in found.barren:
        say(f"{text}: no recordings found")
    if not found.recordings:
        say("nothing to do")
        raise typer.Exit(NOTHING)
    return found
