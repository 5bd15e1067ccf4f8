"""The command line: read options, call the library, print, choose the exit code.

One file per command. No torch at the top of any: `--help` and mistyped options must answer at
once. Results go to stdout, everything said to a person goes to stderr.

Exit codes: 0 all done; 1 some files failed, the others were written; 2 wrong usage; 3 the model
or language model could not be loaded; 4 nothing to do; 5 `score --max-wer` exceeded; 130
interrupted, state saved.
"""

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from hyperasr import __version__
from hyperasr.cli import (
    average,
    batch,
    bench,
    curves,
    import_speechbrain,
    lm,
    prepare,
    score,
    train,
    transcribe,
    tune,
)
from hyperasr.cli.terminal import FAILED, INTERRUPTED, NO_MODEL, USAGE, interrupted, say
from hyperasr.errors import CheckpointError, ConfigError, HyperAsrError, LanguageModelError


class Commands(TyperGroup):
    """The commands; one that is interrupted where it has nothing to say of it still says so."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; typer itself would end with 130 and no word."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            interrupted()
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda name: name.replace("_", "-"),  # as whisper's users type it
    },
    help="Transcribe speech to text and subtitles; train the models that do it.",
)
for command in (
    transcribe.transcribe,
    batch.batch,
    score.score,
    train.train,
    curves.curves,
    average.average,
    import_speechbrain.import_speechbrain,
    bench.bench,
):
    app.command()(command)
lm.app.command()(tune.tune)
app.add_typer(lm.app, name="lm")
app.add_typer(prepare.app, name="prepare")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"hyperasr {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Hold the subcommands together."""


def main() -> None:
    """Entry point: a HyperAsrError becomes one line; a bug keeps its traceback."""
    try:
        app()
    except (CheckpointError, LanguageModelError) as error:
        say(str(error))
        sys.exit(NO_MODEL)
    except ConfigError as error:
        say(str(error))
        sys.exit(USAGE)
    except HyperAsrError as error:
        say(str(error))
        sys.exit(FAILED)
    except KeyboardInterrupt:
        interrupted()
        sys.exit(INTERRUPTED)
