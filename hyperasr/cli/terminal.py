"""What every command says to the person at the keyboard and to the shell."""

import os
import signal
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

FAILED, USAGE, NO_MODEL, NOTHING, EXCEEDED, INTERRUPTED = 1, 2, 3, 4, 5, 130
"""Exit codes; 0: all done."""

console = Console(stderr=True, soft_wrap=True)


def say(message: str) -> None:
    """Speak to the person at the keyboard, never into the results; always one line."""
    line = " ".join(message.splitlines()).encode("utf-8", "backslashreplace").decode()
    typer.echo(f"hyperasr: {harmless(line)}", err=True)


def interrupted(and_so: str = "") -> None:
    """Say that Ctrl-C was heard; the next one ends the program at once, whatever is closing."""
    say(f"interrupted{and_so and '; '}{and_so}")
    end_at_next_interrupt()


def end_at_next_interrupt(last_words: str = "") -> None:
    """From here on Ctrl-C is no exception any more."""

    def end(*_: object) -> None:
        os.write(2, last_words.encode())
        os._exit(INTERRUPTED)

    signal.signal(signal.SIGINT, end)


@contextmanager
def sigterm_is_ctrl_c() -> Iterator[None]:
    """While there is nothing to save, SIGTERM ends a command as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def harmless(text: str) -> str:
    """Names and words of others without what steers a terminal."""
    kinds = zip(text, map(unicodedata.category, text), strict=True)
    return "".join("\ufffd" if kind in ("Cc", "Cs") and c != "\n" else c for c, kind in kinds)


def nobody(message: str) -> None:
    """Who listens with --quiet."""
