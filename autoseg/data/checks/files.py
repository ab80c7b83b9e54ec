"""Files: missing, damaged, of another kind than declared; and what dataset.json says beside what is there."""

from __future__ import annotations

import re
from collections.abc import Iterator

from autoseg.core.serialization import read_json
from autoseg.data.checks.finding import Finding, Fix
from autoseg.data.checks.survey import Check, Survey, few, grouped
from autoseg.data.opening import open_dataset


def unreadable(survey: Survey) -> Iterator[Finding]:
    """Images and label maps that cannot be read, those with the same fault together."""
    seen = (*survey.training, *survey.test)
    problems = {e.name: e.image_problem or e.label_problem for e in seen}
    for _, names in grouped((_kind(text), name) for name, text in problems.items() if text):
        more = f" So {'does' if len(names) == 2 else 'do'} {few(names[1:])}." if names[1:] else ""
        text = problems[names[0]]
        yield Finding(
            check="channels" if "channel" in text else "unreadable",
            severity="error",
            cases=tuple(names),
            message=text + more,
            worst=names[0],
            fix=leave_out(names) if {e.name for e in survey.training} - set(names) else None,
        )


def leave_out(names: list[str]) -> Fix:
    """The fix of last resort."""
    return Fix(
        text=f"leaves out {few(names)}",
        change=lambda dataset: dataset.without(*(n for n in names if n in {c.name for c in dataset})),
    )


def _kind(problem: str) -> str:
    """The message without what differs from case to case: names, paths and numbers."""
    return re.sub(r"'[^']*'|\S*[/\\]\S*|\S+\.\w+|\d+", "", problem)


def count(survey: Survey) -> Iterator[Finding]:
    """``numTraining`` of dataset.json beside the cases in its folder; nnU-Net refuses where they differ."""
    folder = survey.dataset.folder
    path = folder / "dataset.json" if folder else None
    if folder is None or path is None or not path.is_file():
        return
    declared = read_json(path).get("numTraining")
    if isinstance(declared, int) and declared != (there := len(open_dataset(folder))):
        yield Finding(
            check="count",
            severity="note",
            cases=(),
            message=f"dataset.json says {declared} training cases ('numTraining'), but its folder holds {there}.",
            advice="Nothing is lost here, but nnU-Net itself would refuse the folder.",
        )


FILES: tuple[Check, ...] = (unreadable, count)
