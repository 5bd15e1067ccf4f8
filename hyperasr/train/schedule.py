"""The learning rate of every step."""

from hyperasr.train.config import TrainConfig


def learning_rate(config: TrainConfig, step: int) -> float:
    """What the step that follows `step` others is made at: the first one is at the lowest.

    After a linear warm-up either a plateau and a straight line to zero over the last
    `decay_steps`, or ("noam") a fall with the square root of the step.
    """
    number, warmup = step + 1, max(1, config.warmup_steps)
    up = number / warmup
    if config.schedule == "noam":
        return config.learning_rate * min(up, (warmup / number) ** 0.5)
    down = (config.steps - step) / max(1, config.decay_steps)
    return config.learning_rate * max(0.0, min(1.0, up, down))
