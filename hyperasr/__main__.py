"""`python -m hyperasr` is the same as `hyperasr`."""

from hyperasr.cli import main

main()
