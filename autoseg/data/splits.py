"""Folds: which cases train a model and which judge it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autoseg.core.errors import DatasetError

FOLDS = 5
SEED = 12345  # nnU-Net's, so that a fold means the same cases there and here


@dataclass(frozen=True, slots=True)
class Split:
    """Names of the cases that train and of those that validate."""

    training: tuple[str, ...]
    validation: tuple[str, ...]


def make_splits(names: Sequence[str]) -> tuple[Split, ...]:
    """Five folds over the sorted names, the same as nnU-Net's; with fewer than five cases, leave one out.

    Source: scikit-learn's ``KFold(5, shuffle=True, random_state=12345)``, as nnU-Net calls it.

    >>> [split.validation for split in make_splits("abcdefghijkl")]
    [('a', 'd', 'i'), ('h', 'k', 'l'), ('g', 'j'), ('b', 'e'), ('c', 'f')]
    """
    names = sorted(names)
    if len(names) < 2:
        raise DatasetError(
            f"{len(names)} case(s) cannot be split into training and validation. "
            "Add a case, or train on everything with fold='all'."
        )
    order = np.arange(len(names))
    np.random.RandomState(SEED).shuffle(order)
    parts = [set(part.tolist()) for part in np.array_split(order, min(FOLDS, len(names)))]
    return tuple(
        Split(
            tuple(n for i, n in enumerate(names) if i not in part), tuple(n for i, n in enumerate(names) if i in part)
        )
        for part in parts
    )


def group_splits(groups: Mapping[str, str]) -> tuple[Split, ...]:
    """Five folds (or one a group, where there are fewer) that never part a group; `groups` maps case to group.

    Groups are shuffled with the same seed, then each, the largest first, joins the fold with the fewest cases.
    Raises `DatasetError` where all cases are of one group.

    >>> groups = {"a1": "a", "a2": "a", "b1": "b", "b2": "b", "c1": "c"}
    >>> [split.validation for split in group_splits(groups)]
    [('a1', 'a2'), ('b1', 'b2'), ('c1',)]
    """
    members: dict[str, list[str]] = {}
    for name in sorted(groups):
        members.setdefault(groups[name], []).append(name)
    if len(members) < 2:
        raise DatasetError(
            f"all {len(groups)} cases are of one group, {next(iter(members), '')!r}, and a group is never parted. "
            "Give finer groups, or train on everything with fold='all'."
        )
    order = sorted(members)
    np.random.RandomState(SEED).shuffle(order)
    parts: list[set[str]] = [set() for _ in range(min(FOLDS, len(members)))]
    for group in sorted(order, key=lambda g: -len(members[g])):
        min(parts, key=len).update(members[group])
    names = sorted(groups)
    return tuple(
        Split(tuple(n for n in names if n not in part), tuple(n for n in names if n in part)) for part in parts
    )
