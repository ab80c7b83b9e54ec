"""What if: the plan for other facts, another budget or other decisions, and what is different about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from autoseg.core.decisions import Decision
from autoseg.core.errors import PlanError, did_you_mean
from autoseg.core.numbers import is_whole
from autoseg.core.shown import Shown
from autoseg.data.fingerprint import Fingerprint
from autoseg.data.labels import Labels
from autoseg.planning.answers import in_words
from autoseg.planning.facts import Facts
from autoseg.planning.given import plain_values

if TYPE_CHECKING:
    from autoseg.planning.plan import Plan

BUDGET = ("memory_gb", "max_dataset_fraction", "preset")


def changed_plan(plan: Plan, changes: Mapping[str, Any]) -> Plan:
    """The plan with other facts, budget or decisions; see `Plan.what_if`."""
    from autoseg.planning.planner import make_plan

    budget, fingerprint, given = plan.budget, plan.fingerprint, dict(plan.given)
    for name, value in plain_values(changes).items():
        if name in BUDGET:
            budget = replace(budget, **{name: value})
        elif name in FACTS:
            fingerprint = FACTS[name](fingerprint, value)
        else:
            given.update({full: value for full in _decisions_called(plan, name, value)})
    return make_plan(fingerprint, budget, given=given)


def _decisions_called(plan: Plan, name: str, value: Any) -> list[str]:
    """The full names that a short one stands for; of patches and spacings those with as many axes as the value."""
    names = [d.name for d in plan.trace]
    if name in names:
        return [name]
    called = [d for d in plan.trace if d.name.endswith(f"/{name}")]
    if name == "normalization":  # of every channel
        called = [d for d in plan.trace if d.name.startswith("normalization/")]
    if isinstance(value, tuple | list) and called and all(_is_numbers(d.value) for d in called):
        called = [d for d in called if len(d.value) == len(value)] or called
    if called:
        return [d.name for d in called]
    if name in plan.given:  # of a configuration that these facts no longer have
        return [name]
    known = {*names, *BUDGET, *FACTS, *(d.short_name for d in plan.trace)}
    raise PlanError(f"nothing is called {name!r}. {did_you_mean(name, known)}")


def _is_numbers(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(item, int | float) for item in value)


def _with_spacing(fingerprint: Fingerprint, value: Any) -> Fingerprint:
    """Every case scaled so that the median becomes this."""
    wanted = _one_an_axis("spacing", value, np.percentile(fingerprint.spacings, 50, axis=0))
    cases = tuple(
        replace(case, spacing=tuple(float(s * f) for s, f in zip(case.spacing, wanted, strict=True)))
        for case in fingerprint.cases
    )
    return replace(fingerprint, cases=cases)


def _with_shape(fingerprint: Fingerprint, value: Any) -> Fingerprint:
    wanted = _one_an_axis("shape", value, np.percentile(fingerprint.shapes, 50, axis=0))

    def scaled(shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(max(1, round(n * f)) for n, f in zip(shape, wanted, strict=True))

    cases = tuple(
        replace(case, shape=scaled(case.shape), cropped_shape=scaled(case.cropped_shape)) for case in fingerprint.cases
    )
    return replace(fingerprint, cases=cases)


def _one_an_axis(name: str, value: Any, median: np.ndarray) -> list[float]:
    """The factor along each axis that brings the median to the value; two values are those within a slice."""
    values = [float(v) for v in value] if isinstance(value, tuple | list | np.ndarray) else []
    values = [float(median[0]), *values] if len(values) == 2 else values
    if len(values) != 3 or not all(np.isfinite(v) and v > 0 for v in values):
        raise PlanError(f"{name}={value!r} needs three positive numbers, in the files' axis order (z, y, x).")
    return [v / float(m) for v, m in zip(values, median, strict=True)]


def _with_cases(fingerprint: Fingerprint, value: Any) -> Fingerprint:
    """As many cases like these: medians stay."""
    if not is_whole(value) or value < 1:
        raise PlanError(f"cases={value!r} must be a whole number, 1 or more.")
    return replace(fingerprint, declared_cases=None if value == len(fingerprint.cases) else value)


def _with_channels(fingerprint: Fingerprint, value: Any) -> Fingerprint:
    """So many channels, further ones like the last; or these, by name."""
    known = list(zip(fingerprint.channels, fingerprint.intensities, strict=True))
    if is_whole(value) and value > 0:
        chosen = (known + [known[-1]] * value)[:value]
    elif isinstance(value, tuple | list) and value and all(isinstance(name, str) for name in value):
        chosen = [(name, known[min(i, len(known) - 1)][1]) for i, name in enumerate(value)]
    else:
        raise PlanError(f"channels={value!r} must be a number of channels, or their names, such as ('T1', 'T2').")
    return replace(fingerprint, channels=tuple(n for n, _ in chosen), intensities=tuple(i for _, i in chosen))


def _with_labels(fingerprint: Fingerprint, value: Any) -> Fingerprint:
    """So many foreground labels, or these."""
    if is_whole(value) and value > 0:
        value = Labels({"background": 0, **{f"label {i}": i for i in range(1, value + 1)}})
    if not isinstance(value, Labels):
        raise PlanError(f"labels={value!r} must be Labels(...), or the number of foreground labels.")
    return replace(fingerprint, labels=value)


def _with_relative_size(fingerprint: Fingerprint, value: Any) -> Fingerprint:
    """The share of voxels that cropping leaves, in every case."""
    if not isinstance(value, int | float) or not 0 < value <= 1:
        raise PlanError(f"relative_size={value!r} must be above 0 and at most 1.")
    return replace(fingerprint, cases=tuple(replace(case, relative_size=float(value)) for case in fingerprint.cases))


FACTS: dict[str, Callable[[Fingerprint, Any], Fingerprint]] = {
    "spacing": _with_spacing,
    "shape": _with_shape,
    "cases": _with_cases,
    "channels": _with_channels,
    "labels": _with_labels,
    "relative_size": _with_relative_size,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One decision that came out differently; None where only one of the plans makes it."""

    name: str
    before: Decision | None
    after: Decision | None
    flipped: str = ""  # the other branch it took, and the comparison that turned over

    def __str__(self) -> str:
        before, after = (in_words(d.value, d.name) if d else "not decided" for d in (self.before, self.after))
        return f"{self.name}: {before} -> {after}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison(Shown):
    """What differs between two plans: what was changed, and every decision that came out differently."""

    before: Plan
    after: Plan
    causes: tuple[str, ...]
    changes: tuple[Change, ...]

    @property
    def first(self) -> Change | None:
        """The first decision that took another branch; where none did, the first that changed."""
        flipped = [change for change in self.changes if change.flipped]
        return next(iter(flipped or self.changes), None)

    @property
    def earlier(self) -> str:
        """That another decision changed before the first that turned; nothing where none did."""
        begun = next(iter(self.changes), None)
        if begun is None or self.first is begun:
            return ""
        return f"{begun.name} changed before it, but took the same branch"

    @property
    def followers(self) -> tuple[Change, ...]:
        """The changes that depend on the first one."""
        if self.first is None:
            return ()
        names = {
            d.name
            for plan in (self.before, self.after)
            if self.first.name in plan.trace
            for d in plan.trace.downstream(self.first.name)
        }
        return tuple(change for change in self.changes if change.name in names)

    def __bool__(self) -> bool:
        return bool(self.changes)

    def __repr__(self) -> str:
        if not self.changes:
            return (
                f"the plans are the same ({', '.join(self.causes)} changed nothing)" if self.causes else "the same plan"
            )
        lines = [f"changed: {cause}" for cause in self.causes]
        if self.first is not None:
            turned = f"first to turn: {self.first}\n  {self.first.flipped}"
            lines.append(turned if self.first.flipped else f"first: {self.first}")
            pulled = len(self.followers)
            others = f"{pulled} other decision{'s' * (pulled > 1)}"
            lines.append(f"  which pulled {others} along" if pulled else "  and nothing else with it")
            lines += [f"  ({self.earlier})"] * bool(self.earlier)
        return "\n".join(lines + [f"  {change}" for change in self.changes])


def compare_plans(before: Plan, after: Plan) -> Comparison:
    """Every decision that two plans make differently; see `Plan.compare`."""
    if not hasattr(after, "trace"):
        raise PlanError(f"a plan is compared with another plan, not with a {type(after).__name__}.")
    ours, theirs = ({d.name: d for d in plan.trace} for plan in (before, after))
    changes = []
    for name in dict.fromkeys([*ours, *theirs]):
        mine, other = ours.get(name), theirs.get(name)
        if mine is None or other is None or mine.value != other.value:
            changes.append(Change(name=name, before=mine, after=other, flipped=flipped(mine, other)))
    return Comparison(before=before, after=after, causes=tuple(_causes(before, after)), changes=tuple(changes))


def flipped(before: Decision | None, after: Decision | None) -> str:
    """The other branch that was taken, and the comparison that turned over; nothing where it is the same."""
    if before is None or after is None:
        return ""
    if before.branch != after.branch:
        turned = [
            f": {one}; now {other}"
            for one, other in zip(before.thresholds, after.thresholds, strict=False)
            if one.holds != other.holds
        ]
        return f"{before.branch or before.kind} -> {after.branch or after.kind}{next(iter(turned), '')}"
    for first, second, words in ((before, after, "fitted, now it is"), (after, before, "fits now, it was")):
        for attempt in second.tried:
            if attempt.value == first.value and not attempt.accepted and "memory_gb" in attempt.numbers:
                return f"{in_words(attempt.value)} {words} too large: {attempt.numbers['memory_gb']:.3g} GB"
    return ""


def _causes(before: Plan, after: Plan) -> list[str]:
    """What was asked differently."""
    asked: dict[str, tuple[Any, Any]] = {
        "preset": (before.budget.preset, after.budget.preset),
        "GPU memory in GB": (before.budget.gpu_memory_gb, after.budget.gpu_memory_gb),
        "largest share of the dataset in a batch": (before.budget.dataset_fraction, after.budget.dataset_fraction),
        "dataset": (before.fingerprint.dataset_name, after.fingerprint.dataset_name),
        "channels": (before.fingerprint.channels, after.fingerprint.channels),
        "labels": (before.fingerprint.labels, after.fingerprint.labels),
    }
    facts = [{f.name: getattr(Facts.of(p.fingerprint), f.name) for f in fields(Facts)} for p in (before, after)]
    asked |= {name.replace("_", " "): (value, facts[1][name]) for name, value in facts[0].items()}
    for name in dict.fromkeys([*before.given, *after.given]):
        given = [p.given.get(name, "by its rule") for p in (before, after)]
        asked[name] = (given[0], given[1])
    changed = ((name, was, now) for name, (was, now) in asked.items() if was != now)
    return [f"{name}: {in_words(was, name)} -> {in_words(now, name)}" for name, was, now in changed]
