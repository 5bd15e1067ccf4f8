"""What every command says to the person at the keyboard and to the shell."""

import unicodedata

import typer
from rich.console import Console

FAILED, USAGE, NO_MODEL, NOTHING, EXCEEDED, INTERRUPTED = 1, 2, 3, 4, 5, 130
"""Exit codes; 0: all done."""

console = Console(stderr=True, soft_wrap=True)


def say(message: str) -> None:
    """Speak to the person at the keyboard, never into the results; always one line."""
    line = " ".join(message.splitlines()).encode("utf-8", "backslashreplace").decode()
    typer.echo(f"hyperasr: {harmless(line)}", err=True)


def harmless(text: str) -> str:
    """Names and words of others without what steers a terminal."""
    kinds = zip(text, map(unicodedata.category, text), strict=True)
    return "".join("\ufffd" if kind in ("Cc", "Cs") and c != "\n" else c for c, kind in kinds)


def nobody(message: str) -> None:
    """Who listens with --quiet."""
