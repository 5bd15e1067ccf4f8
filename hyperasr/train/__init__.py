"""Training: config.py (settings), corpus.py (waveforms), batches.py, loop.py (the steps)."""
