"""Many files, resumable: what is the work, what is done of it, how it is done."""
