"""References + hypotheses -> word errors."""
