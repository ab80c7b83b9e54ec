"""Cases beside each other: the same one twice, one patient on both sides of a fold, too few for five folds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

from autoseg.core.errors import DatasetError
from autoseg.data import fixes
from autoseg.data.checks.finding import Finding, Fix
from autoseg.data.checks.survey import Check, Survey, few, grouped
from autoseg.data.dataset import Dataset
from autoseg.data.splits import FOLDS


def duplicates(survey: Survey) -> Iterator[Finding]:
    """Images with the same voxels under different names."""
    label_of = {e.name: e.label.content for e in survey.training if e.label}
    trained = {e.name for e in survey.training}
    seen = [(e.image.content, e.name) for e in (*survey.training, *survey.test) if e.image]
    for _, names in grouped(seen):
        if len(names) < 2:
            continue
        inside = [n for n in names if n in trained]
        contradict = len({label_of[n] for n in inside if n in label_of}) > 1
        tested = [n for n in names if n not in trained]
        words = "; their label maps differ" if contradict else ""
        words += f"; {few(tested)} is among the test cases" if tested else ""
        yield Finding(
            check="duplicates",
            severity="warning",
            cases=tuple(names),
            message=f"{few([repr(n) for n in names], 5)} are the same image, voxel for voxel{words}.",
            advice="In two folds, one would be judged by a model that was trained on the other.",
            worst=names[0],
            fix=Fix(
                text=f"keeps {inside[0]!r} and leaves out {few(inside[1:])}",
                change=partial(_without, names=tuple(inside[1:])),
                safe=not contradict,
            )
            if len(inside) > 1
            else None,
        )


def _without(dataset: Dataset, names: tuple[str, ...]) -> Dataset:
    return dataset.without(*names)


def leakage(survey: Survey) -> Iterator[Finding]:
    """Cases of one patient on both sides of a fold."""
    groups = survey.groups
    if groups is None:
        yield from _guessed(survey)
        return
    parted: dict[str, list[str]] = {}
    try:
        folds = [survey.dataset.fold(k) for k in range(len(survey.dataset.splits) or min(FOLDS, len(survey.dataset)))]
    except DatasetError:
        return  # too few cases, which is said elsewhere
    for fold in folds:
        training = {groups[c.name] for c in fold.training}
        for case in fold.validation:
            if groups[case.name] in training:
                parted.setdefault(groups[case.name], []).append(case.name)
    if parted:
        worst = max(parted, key=lambda g: len(parted[g]))
        yield Finding(
            check="leakage",
            severity="error",
            cases=tuple(n for names in parted.values() for n in names),
            message=f"{len(parted)} of {len(set(groups.values()))} groups lie in training and validation of one fold, "
            f"{worst!r} with {few(parted[worst])}. Scores would be too good.",
            advice="Cases of one patient belong on one side.",
            worst=parted[worst][0],
            fix=Fix(
                text="splits anew, no group parted",
                change=lambda dataset: fixes.split_by_group(dataset, groups),
                safe=True,
            ),
        )


def _guessed(survey: Survey) -> Iterator[Finding]:
    """Names that look as if several cases were of one patient: 'pat03_a', 'pat03_b'."""
    stems = {c.name: re.sub(r"[-_. ]+[^-_. ]+$", "", c.name) for c in survey.dataset}
    groups = [names for _, names in grouped((stem, name) for name, stem in stems.items())]
    several = [names for names in groups if len(names) > 1]
    if len(several) < 3 or sum(map(len, several)) < 0.6 * len(stems) or survey.dataset.splits:
        return
    example = several[0]
    yield Finding(
        check="leakage",
        severity="note",
        cases=tuple(n for names in several for n in names),
        message=f"names look as if {len(several)} patients had several cases, like {few([repr(n) for n in example])}.",
        advice="If they belong together, check(dataset, groups=r'(.*)[-_]') finds what folds they part, and mends it.",
        fix=Fix(
            text="splits anew, cases with a common beginning of their names on one side",
            change=lambda dataset: fixes.split_by_group(dataset, stems),
        ),
    )


def number(survey: Survey) -> Iterator[Finding]:
    """Too few cases for five folds."""
    cases = len(survey.dataset)
    if cases == 1:
        yield Finding(
            check="few",
            severity="warning",
            cases=(),
            message="there is one case: nothing is left to judge a model that was trained on it.",
            advice="Train with fold='all', and believe no score.",
        )
    elif cases < FOLDS and not survey.dataset.splits:
        yield Finding(
            check="few",
            severity="note",
            cases=(),
            message=f"{cases} cases are too few for {FOLDS} folds: each is left out once, which makes {cases} folds.",
            advice="Scores from so few cases say little.",
        )


CASES: tuple[Check, ...] = (duplicates, leakage, number)
