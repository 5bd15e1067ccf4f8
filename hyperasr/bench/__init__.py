"""What this machine does with a model: speed and memory of every stage, and how they grow.

    measure.py -> stages.py, lengths.py -> report.py -> plot.py

Nothing here prints: the functions return frozen dataclasses whose field names carry the units.
"""
