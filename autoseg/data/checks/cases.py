"""Cases beside each other: the same one twice, one patient on both sides of a fold, too few for five folds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from autoseg.core.errors import DatasetError
from autoseg.data import fixes
from autoseg.data.checks.finding import Finding, Fix
from autoseg.data.checks.survey import Check, Survey, cases_of, few, grouped
from autoseg.data.dataset import Dataset
from autoseg.data.splits import FOLDS, Split


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


def splits(survey: Survey) -> Iterator[Finding]:
    """The dataset's own folds: a case that trains and validates, and cases that are in none."""
    folds = [(set(split.training), set(split.validation)) for split in survey.dataset.splits]
    both = [c.name for c in survey.dataset if any(c.name in t and c.name in v for t, v in folds)]
    if both:
        yield Finding(
            check="splits",
            severity="error",
            cases=tuple(both),
            message=f"{cases_of(both, len(survey.training))}: in training and in validation of the same fold of "
            "splits_final.json. Scores would be too good.",
            advice="nnU-Net says nothing of it.",
            worst=both[0],
            fix=Fix(text="takes them out of the training of that fold", change=_validated_only, safe=True),
        )
    absent = [c.name for c in survey.dataset if folds and all(c.name not in t | v for t, v in folds)]
    if absent:
        yield Finding(
            check="splits",
            severity="note",
            cases=tuple(absent),
            message=f"{cases_of(absent, len(survey.training))}: in no fold of splits_final.json, so never used.",
            fix=Fix(text="splits anew, as nnU-Net does", change=fixes.split_anew),
        )


def broken_splits(survey: Survey) -> Iterator[Finding]:
    """The dataset's own folds: one that trains on nothing or validates nothing, and cases named twice on one side."""
    splits = survey.dataset.splits
    for what, empty in (
        ("train on no case", [k for k, split in enumerate(splits) if not split.training]),
        ("validate no case", [k for k, split in enumerate(splits) if not split.validation]),
    ):
        if empty:
            yield Finding(
                check="splits",
                severity="error",
                cases=(),
                message=f"splits_final.json: {len(empty)} of {len(splits)} folds (fold {few(empty)}) {what}.",
                advice="Such a fold cannot be used.",
                fix=Fix(text="splits anew, as nnU-Net does", change=fixes.split_anew),
            )
    sides = [side for split in splits for side in (split.training, split.validation) if len(set(side)) < len(side)]
    twice = sorted({name for side in sides for name in side if side.count(name) > 1})
    if twice:
        yield Finding(
            check="splits",
            severity="warning",
            cases=tuple(twice),
            message=f"{cases_of(twice, len(survey.training))}: named more than once on one side of a fold of "
            "splits_final.json. Training would see it more often, and scores count it as often.",
            worst=twice[0],
            fix=Fix(text="names each case once", change=_each_once, safe=True),
        )


def _each_once(dataset: Dataset) -> Dataset:
    splits = (Split(tuple(dict.fromkeys(s.training)), tuple(dict.fromkeys(s.validation))) for s in dataset.splits)
    return replace(dataset, splits=tuple(splits))


def _validated_only(dataset: Dataset) -> Dataset:
    splits = (Split(tuple(n for n in s.training if n not in s.validation), s.validation) for s in dataset.splits)
    return replace(dataset, splits=tuple(splits))


CASES: tuple[Check, ...] = (duplicates, leakage, splits, broken_splits, number)
