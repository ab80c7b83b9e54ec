"""The check-up itself: each case is read once, then every check looks at what was seen."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from autoseg.core.errors import DatasetError
from autoseg.core.kinds import require
from autoseg.core.serialization import component_name
from autoseg.data.checks.cases import CASES
from autoseg.data.checks.evidence import Evidence, look_at
from autoseg.data.checks.files import FILES
from autoseg.data.checks.finding import SEVERITIES, Finding, Findings
from autoseg.data.checks.geometry import GEOMETRY
from autoseg.data.checks.headers import HEADERS
from autoseg.data.checks.intensities import INTENSITIES
from autoseg.data.checks.labels import LABELS
from autoseg.data.checks.sides import SIDES
from autoseg.data.checks.survey import Check, Survey
from autoseg.data.dataset import Dataset

CHECKS: tuple[Check, ...] = (*FILES, *GEOMETRY, *HEADERS, *LABELS, *SIDES, *INTENSITIES, *CASES)


def check(
    dataset: Dataset,
    *,
    groups: str | Mapping[str, Any] | Callable[[str], Any] | None = None,
    also: Sequence[Check] = (),
    show_progress: bool = True,
) -> Findings:
    """Read every case once and report what is wrong with it, or worth knowing; the worst comes first.

    Args:
        groups: what tells that cases belong to one patient: a regular expression that is searched in the names (its
            first group counts, if it has one), a mapping or table column from name to patient, or a function of the
            name.
        also: checks of your own, which take a `Survey` and yield `Finding`.

    Raises `DatasetError` only where `groups` leaves a case without a group, or a check of your own fails.

    >>> import autoseg
    >>> findings = autoseg.check(autoseg.sample_dataset(), show_progress=False)
    >>> len(findings.errors), len(findings.warnings)
    (0, 0)
    """
    require(dataset, Dataset, DatasetError)
    from tqdm.auto import tqdm

    known = None if groups is None else groups_of(dataset, groups)
    todo = [*((case, True) for case in dataset.training), *((case, False) for case in dataset.test)]
    seen: list[Evidence] = []
    for case, labelled in tqdm(todo, desc="check", unit="case", disable=not show_progress, leave=False):
        seen.append(look_at(case, labelled=labelled))
    trained = len(dataset.training)
    survey = Survey(dataset=dataset, training=tuple(seen[:trained]), test=tuple(seen[trained:]), groups=known)
    found = [replace(f, dataset=dataset) for look in CHECKS for f in look(survey)]
    found += [replace(f, dataset=dataset) for look in also for f in _found_by(look, survey)]
    return Findings(tuple(sorted(found, key=lambda f: SEVERITIES.index(f.severity))), dataset)


def _found_by(own: Check, survey: Survey) -> list[Finding]:
    """The findings of a user's own check. Raises `DatasetError` where it fails or yields anything else."""
    what = f"your check {component_name(own)!r}"
    try:
        found = list(own(survey))
    except Exception as error:
        raise DatasetError(
            f"{what} failed: {type(error).__name__}: {error}. It gets a Survey and yields a Finding for each thing it "
            "finds, or nothing."
        ) from error
    for finding in found:
        if not isinstance(finding, Finding):
            raise DatasetError(f"{what} yields {finding!r}, of type {type(finding).__name__}; it must yield Finding.")
    return found


def groups_of(dataset: Dataset, groups: str | Mapping[str, Any] | Callable[[str], Any]) -> dict[str, str]:
    """The group of each training case. Raises `DatasetError` for one without.

    >>> import autoseg
    >>> groups_of(autoseg.sample_dataset(), r"_(\\d)")["seahorse_012"]
    '0'
    """
    if isinstance(groups, str):
        try:
            pattern = re.compile(groups)
        except re.error as error:
            raise DatasetError(f"groups={groups!r} is no regular expression: {error}.") from error
        matches = {case.name: pattern.search(case.name) for case in dataset}
        found = {name: m and (m[1] if pattern.groups else m[0]) for name, m in matches.items()}
    else:
        ask = groups if callable(groups) else groups.get
        found = {case.name: ask(case.name) for case in dataset}
    missing = [name for name, group in found.items() if group is None]
    if missing:
        how = f"the pattern {groups!r} is not found in its name" if isinstance(groups, str) else "it has none"
        raise DatasetError(
            f"{len(missing)} of {len(dataset)} cases have no group; of {missing[0]!r} {how}. Give each case one."
        )
    return {name: str(group) for name, group in found.items()}
