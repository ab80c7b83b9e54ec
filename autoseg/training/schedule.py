"""How the learning rate follows the progress of training, which may be counted in epochs or in minutes."""

from __future__ import annotations

import math
from numbers import Real

from autoseg.core.errors import TrainingError
from autoseg.training.blueprint import Schedule

WARM_UP = 0.05


def learning_rate_factor(schedule: Schedule, progress: float) -> float:
    """The share of the initial learning rate at a progress of 0 to 1.

    ``polynomial`` is nnU-Net's (1 - progress)^0.9; ``one_cycle`` rises over the first 5% and falls as a cosine. A
    function of your own gets the progress and returns the share.

    >>> [round(learning_rate_factor("polynomial", p), 3) for p in (0, 0.5, 1)]
    [1.0, 0.536, 0.0]
    >>> [round(learning_rate_factor("one_cycle", p), 3) for p in (0, 0.05, 1)]
    [0.05, 1.0, 0.0]
    """
    progress = min(max(progress, 0.0), 1.0)
    if callable(schedule):
        factor = schedule(progress)
        if not (isinstance(factor, Real) and 0 <= float(factor) < math.inf):
            raise TrainingError(
                f"the schedule returned {factor!r:.80} at a progress of {progress:.3g}; it must return the share of "
                "the learning rate, a number of 0 or more."
            )
        return float(factor)
    if schedule == "polynomial":
        return float((1 - progress) ** 0.9)
    if progress < WARM_UP:
        return 0.05 + 0.95 * progress / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))
