"""Left and right: labels that mirroring exchanges, and cases in which somebody exchanged them already."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from autoseg.data import fixes
from autoseg.data.checks.finding import Finding, Fix
from autoseg.data.checks.survey import ENOUGH, Check, Survey, cases_of, few
from autoseg.data.dataset import Dataset


def swapped(survey: Survey) -> Iterator[Finding]:
    """Cases whose left and right lie the other way round than in the rest."""
    for left, right in survey.dataset.labels.sides:
        away = {n: e.leftward[left] - e.leftward[right] for n, e in survey.labels if {left, right} <= set(e.leftward)}
        if len(away) < ENOUGH:
            continue
        usual = float(np.median(list(away.values())))
        odd = tuple(name for name, distance in away.items() if distance * usual < 0)
        if not odd:
            continue
        worst = max(odd, key=lambda n: abs(away[n]))
        to = ["right", "left"]
        yield Finding(
            check="swapped",
            severity="warning",
            cases=odd,
            message=f"in {cases_of(odd, len(survey.training))} {left!r} lies to the {to[usual < 0]} of {right!r} "
            f"({abs(away[worst]):.3g} mm in {worst!r}), in the others to the {to[usual > 0]}.",
            advice="Were the labels exchanged, or was the image mirrored and its header not? Look at something that "
            "lies on one side only.",
            worst=worst,
            fix=Fix(
                text=f"exchanges {left!r} and {right!r} in {few(odd)}",
                change=partial(_exchange, names=(left, right), cases=odd),
            )
            if all(len(survey.dataset.labels.regions[name]) == 1 for name in (left, right))
            else None,
        )


def _exchange(dataset: Dataset, names: tuple[str, str], cases: tuple[str, ...]) -> Dataset:
    for case in cases:
        labels = dataset[case].labels
        (left,), (right,) = (labels.regions[name] for name in names)
        stored = labels.in_files
        meaning = {stored.get(left, left): right, stored.get(right, right): left}
        dataset = fixes.relabel(dataset, meaning, case)
    return dataset


def sides(survey: Survey) -> Iterator[Finding]:
    """Left and right as labels of their own, which mirroring turns into each other."""
    pairs = survey.dataset.labels.sides
    if pairs:
        yield Finding(
            check="sides",
            severity="warning",
            cases=(),
            message=f"{few([f'{a!r} and {b!r}' for a, b in pairs])} differ only by the side, and mirroring puts one "
            "on the other's.",
            advice="Train without mirroring: blueprint.changed(mirroring=False).",
        )


SIDES: tuple[Check, ...] = (swapped, sides)
