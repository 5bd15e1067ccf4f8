"""Training: config.py (settings), data.py (batches), augment.py, loop.py (the steps)."""
