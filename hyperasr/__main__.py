"""The program itself: `hyperasr`, and `python -m hyperasr`."""

import sys


def main() -> None:
    """Entry point; Ctrl-C while the command line is still loading is no bug either."""
    try:
        from hyperasr.cli import main as command_line
    except KeyboardInterrupt:
        sys.stderr.write("hyperasr: interrupted\n")
        sys.exit(130)  # what hyperasr.cli.terminal calls INTERRUPTED
    command_line()


if __name__ == "__main__":
    main()
