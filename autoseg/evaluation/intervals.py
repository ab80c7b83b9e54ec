"""How far a mean over few cases carries: bootstrap intervals, and two models compared case by case."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats

from autoseg.core.errors import EvaluationError
from autoseg.core.kinds import require
from autoseg.core.shown import Shown
from autoseg.evaluation.scores import Evaluation

DRAWS = 5000
AT_ONCE = 1_000_000  # values drawn at a time
ENOUGH = 6  # cases below which an interval over them says nothing
SEED = 0


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean, and the range in which 95% of the means of redrawn cases lie."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"


def bootstrap(values: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """The mean of some values with its bootstrap interval; NaN is left out.

    Cases are drawn with replacement, always by the same seed. Plain percentiles of few cases are too narrow (of 8 cases
    87% of the intervals hold the true mean, not 95%), so they are taken further out by what Student's t is wider than
    a normal distribution. Source: Hesterberg 2015, 'What teachers should know about the bootstrap'
    (expanded percentiles).

    >>> print(bootstrap([0.8, 0.9, 0.85, 0.7]))
    0.812 (0.700 to 0.900)
    """
    return _bootstrap(tuple(v for v in values if not math.isnan(v)), confidence)


@lru_cache(maxsize=64)  # a result card asks for the same intervals several times
def _bootstrap(values: tuple[float, ...], confidence: float) -> Interval:
    if not values:
        return Interval(float("nan"), float("nan"), float("nan"))
    known, random = np.array(values), np.random.default_rng(SEED)
    rows = max(min(AT_ONCE // len(known), DRAWS), 1)  # all draws of 10,000 cases would take a third of a GB
    drawn = (random.integers(len(known), size=(min(rows, DRAWS - i), len(known))) for i in range(0, DRAWS, rows))
    means = np.concatenate([known[places].mean(axis=1) for places in drawn])
    tail = _tail(len(known), (1 - confidence) / 2)
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(known.mean()), float(low), float(high))


def _tail(count: int, tail: float) -> float:
    """The share of bootstrap means on either side that makes up for so few cases."""
    wider = stats.t.ppf(tail, count - 1) * np.sqrt(count / (count - 1)) if count > 1 else 0.0
    return float(stats.norm.cdf(wider))


def intervals(evaluation: Evaluation) -> dict[str, Interval]:
    """The mean Dice of each label with its interval over cases."""
    return {name: bootstrap([s.dice for s in evaluation.scores if s.label == name]) for name in evaluation.labels}


@dataclass(frozen=True, slots=True)
class ModelComparison(Shown):
    """Second minus first, case by case: `differences` of the mean Dice, their mean with its interval."""

    differences: dict[str, float]
    interval: Interval

    @property
    def conclusion(self) -> str:
        """What the interval allows to say."""
        if len(self.differences) < ENOUGH:
            return f"{len(self.differences)} cases are too few to tell which is better"
        if self.interval.low > 0:
            return "the second is better on these cases, beyond what the choice of cases explains"
        if self.interval.high < 0:
            return "the first is better on these cases, beyond what the choice of cases explains"
        return "these cases do not tell which is better"

    def __repr__(self) -> str:
        better = sum(d > 0 for d in self.differences.values())
        return (
            f"ModelComparison({len(self.differences)} cases, the second is better in {better})\n"
            f"  mean difference {self.interval.mean:+.4f} ({self.interval.low:+.4f} to {self.interval.high:+.4f}): "
            f"{self.conclusion}"
        )


def compare_evaluations(first: Evaluation, second: Evaluation) -> ModelComparison:
    """Two models on the same cases. Raises `EvaluationError` where they share none.

    >>> autoseg.compare_evaluations(evaluation, evaluation)
    ModelComparison(6 cases, the second is better in 0)
      mean difference +0.0000 (+0.0000 to +0.0000): these cases do not tell which is better
    """
    require(first, Evaluation, EvaluationError)
    require(second, Evaluation, EvaluationError)
    ours, theirs = first.by_case, second.by_case
    shared = [n for n in ours if n in theirs and not np.isnan(ours[n]) and not np.isnan(theirs[n])]
    if not shared:
        raise EvaluationError("the two evaluations have no case in common; evaluate both on the same cases.")
    differences = {name: theirs[name] - ours[name] for name in shared}
    return ModelComparison(differences, bootstrap(list(differences.values())))
