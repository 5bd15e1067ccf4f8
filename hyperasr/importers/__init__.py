"""Models trained with other toolkits, turned into hyperasr checkpoints; one file per toolkit."""
