"""What every command says to the person at the keyboard and to the shell."""

import typer
from rich.console import Console

FAILED, USAGE, NO_MODEL, INTERRUPTED = 1, 2, 3, 130
"""Exit codes; 0: all done."""

console = Console(stderr=True, soft_wrap=True)


def say(message: str) -> None:
    """Speak to the person at the keyboard, never into the results; always one line."""
    line = " ".join(message.splitlines()).encode("utf-8", "backslashreplace").decode()
    typer.echo(f"hyperasr: {line}", err=True)


def nobody(message: str) -> None:
    """Who listens with --quiet."""
