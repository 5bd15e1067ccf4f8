"""Text -> n-gram language model: estimate it, mix it with another, prune it, look at it."""
