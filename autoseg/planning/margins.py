"""How close a plan is to another one: the distance of each input from its threshold, and the case that would tip it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from autoseg.core.decisions import Decision, Threshold, Trace
from autoseg.core.shown import Shown
from autoseg.core.types import Spacing
from autoseg.data.fingerprint import Fingerprint
from autoseg.planning.facts import FINE_PERCENTILE, Facts, is_planar
from autoseg.planning.network_rules import STOPPING
from autoseg.planning.rules import resampled_shapes, target_spacing

if TYPE_CHECKING:
    import pandas as pd

    from autoseg.planning.plan import Plan

Statistic = Callable[[np.ndarray], Any]
NEAR = 3  # ranks from a percentile: it is read from the two next to it, and one is missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Margin:
    """One comparison of a plan, how far it is from turning over, and the cases that, left out alone, do it."""

    decision: str
    threshold: Threshold
    tipping_cases: tuple[str, ...] = ()

    @property
    def distance(self) -> float:
        """How far the value is from the limit, in the threshold's unit."""
        return self.threshold.margin

    @property
    def relative(self) -> float:
        """The distance as a share of the limit."""
        return self.distance / abs(self.threshold.limit) if self.threshold.limit else self.distance

    def __str__(self) -> str:
        tipping = ""
        if self.tipping_cases:
            others = f" or one of {len(self.tipping_cases) - 1} others" if len(self.tipping_cases) > 1 else ""
            tipping = f"; without case {self.tipping_cases[0]}{others} it would be decided otherwise"
        return f"{self.decision}: {self.threshold}, {self.threshold.written(self.distance)} away{tipping}"


@dataclass(frozen=True, slots=True)
class Margins(Shown):
    """All comparisons of a plan; iterating gives them in the order of the decisions."""

    margins: tuple[Margin, ...]

    def __iter__(self) -> Iterator[Margin]:
        return iter(self.margins)

    def __len__(self) -> int:
        return len(self.margins)

    @property
    def closest(self) -> tuple[Margin, ...]:
        """The same, those nearest to their limit first."""
        return tuple(sorted(self.margins, key=lambda margin: margin.relative))

    @property
    def fragile(self) -> tuple[Margin, ...]:
        """Those that a single case decides."""
        return tuple(margin for margin in self.closest if margin.tipping_cases)

    def table(self) -> pd.DataFrame:
        """One row a comparison."""
        import pandas as pd

        rows = [
            {
                "decision": m.decision,
                "quantity": m.threshold.quantity,
                "value": m.threshold.value,
                "relation": m.threshold.relation,
                "limit": m.threshold.limit,
                "unit": m.threshold.unit,
                "holds": m.threshold.holds,
                "margin": m.distance,
                "tipping_cases": ", ".join(m.tipping_cases),
            }
            for m in self.margins
        ]
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        hang = "hangs" if len(self.fragile) == 1 else "hang"
        lines = [f"{len(self)} comparisons, {len(self.fragile)} of them {hang} on a single case; the closest:"]
        return "\n".join(lines + [f"  {margin}" for margin in (self.fragile or self.closest)[:4]])


def margins_of(plan: Plan) -> Margins:
    """Every thresholded decision of a plan with its margin; plans again without each case, in turn.

    That pictures have a single slice is no comparison: they cannot have more.
    """
    pictures = all(map(is_planar, plan.fingerprint.cases))
    without = list(_plans_without_one(plan))
    return Margins(
        tuple(
            Margin(
                decision=decision.name,
                threshold=threshold,
                tipping_cases=tuple(case for case, other in without if _tipped(other.trace, decision, threshold)),
            )
            for decision in plan.trace
            if not (pictures and decision.name == "dimensions")
            for threshold in decision.thresholds
        )
    )


def _tipped(trace: Trace, decision: Decision, threshold: Threshold) -> bool:
    """Whether a comparison turns over in another trace, and something else is decided there for it."""
    if decision.name not in trace:
        return True
    other = trace[decision.name]
    if other.branch == decision.branch and other.value == decision.value:
        return False
    if decision.short_name == "patch_size" or threshold.quantity.startswith(STOPPING):
        return True  # these hold, or do not, for whatever is chosen
    there = [t.holds for t in other.thresholds if t.quantity == threshold.quantity]
    return there != [threshold.holds] if there else other.branch != decision.branch


def _plans_without_one(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """The plan without each case; cases whose absence leaves the same facts share one."""
    from autoseg.planning.planner import make_plan

    fingerprint = plan.fingerprint
    if len(fingerprint.cases) < 3:  # a plan needs two
        return
    made: dict[Any, Plan] = {}
    for index, facts in enumerate(_facts_without_one(plan)):
        if facts not in made:
            made[facts] = make_plan(_without(fingerprint, index), plan.budget, given=plan.given)
        yield fingerprint.cases[index].name, made[facts]


def _without(fingerprint: Fingerprint, index: int) -> Fingerprint:
    declared = fingerprint.declared_cases
    return replace(
        fingerprint,
        cases=fingerprint.cases[:index] + fingerprint.cases[index + 1 :],
        declared_cases=None if declared is None else max(declared - 1, 1),
    )


def _facts_without_one(plan: Plan) -> Iterator[tuple[Facts, tuple[float, ...]]]:
    """All that a plan reads of the cases, without each of them."""
    fingerprint = plan.fingerprint
    spacings, shapes = fingerprint.spacings, fingerprint.shapes
    middle, fine, shape = (
        _columns_without_each(columns, partial(np.percentile, q=q), q)
        for columns, q in ((spacings, 50), (spacings, FINE_PERCENTILE), (shapes, 50))
    )
    left = _columns_without_each(np.array([[c.relative_size] for c in fingerprint.cases]), np.median, 50)
    given = plan.given.get("target_spacing")
    resampled: dict[Any, list[tuple[float, ...]]] = {}
    for index in range(len(fingerprint.cases)):
        facts = Facts(
            cases=max(fingerprint.case_count - 1, 1),
            median_spacing=middle[index],
            fine_spacing=fine[index],
            median_shape=shape[index],
            relative_size=left[index][0],
        )
        target = given or _target(facts.median_spacing, facts.fine_spacing, facts.median_shape)
        if target not in resampled:
            resampled[target] = _columns_without_each(resampled_shapes(spacings, shapes, target), np.median, 50)
        yield facts, resampled[target][index]


def _target(median_spacing: Spacing, fine_spacing: Spacing, median_shape: tuple[float, ...]) -> Spacing:
    return target_spacing(median_spacing=median_spacing, fine_spacing=fine_spacing, median_shape=median_shape).value


def _columns_without_each(columns: np.ndarray, statistic: Statistic, q: float) -> list[tuple[float, ...]]:
    """Percentile q of each column (case, column) without each case, in turn."""
    found = np.stack([_without_each(column, statistic, q) for column in columns.T], axis=1)
    return [tuple(row) for row in found.tolist()]


def _without_each(column: np.ndarray, statistic: Statistic, q: float) -> np.ndarray:
    """Percentile q without each value: which of those below it is missing makes no difference, nor of those above."""
    ordered, ranks = np.sort(column), np.argsort(np.argsort(column, kind="stable"), kind="stable")
    place = round(q / 100 * (len(ordered) - 1))
    low, high = max(place - NEAR, 0), min(place + NEAR, len(ordered) - 1)
    without = [float(statistic(np.delete(ordered, rank))) for rank in range(low, high + 1)]
    return np.array(without)[np.clip(ranks, low, high) - low]
