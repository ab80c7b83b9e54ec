"""What a check-up finds: each fault with its cases, its numbers, what to do, and a fix where there is one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, overload

from autoseg.core.errors import DatasetError, did_you_mean
from autoseg.core.shown import Shown, ask_display
from autoseg.core.types import LabelArray
from autoseg.data.dataset import Dataset
from autoseg.data.images import Image

if TYPE_CHECKING:
    import pandas as pd

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """A correction in memory: what it does, in words, and the verb that does it.

    A fix is `safe` where it follows from the data; `Findings.apply` makes those. Others are a choice between several
    ways, or leave something out: only you can know.
    """

    text: str
    change: Callable[[Dataset], Dataset] = field(compare=False, repr=False)
    safe: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """What a display draws of a finding: one channel of a case, and labels (or marked voxels) over it."""

    title: str
    image: Image
    labels: LabelArray | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding(Shown):
    """One thing that is wrong, or worth knowing.

    Args:
        check: the name of what was looked for.
        severity: ``error``: cannot be used, or the result would be wrong; ``warning``: look at it before training;
            ``note``: good to know.
        cases: the cases it concerns; none where it is the whole dataset.
        message: what is wrong, with the numbers, and where.
        advice: what to do.
        worst: the case to look at.
        fix: a correction in memory, where there is one.
        draw: makes the pictures of the worst case, reading it again; by default the case as it is.
        dataset: the dataset that was checked.
    """

    check: str
    severity: Severity
    cases: tuple[str, ...]
    message: str
    advice: str = ""
    worst: str | None = None
    fix: Fix | None = None
    draw: Callable[[Dataset], tuple[Picture, ...]] | None = field(default=None, repr=False, compare=False)
    dataset: Dataset | None = field(default=None, repr=False, compare=False)

    def apply(self) -> Dataset:
        """The dataset with this fix; files stay as they are. Raises `DatasetError` where there is none."""
        if self.fix is None or self.dataset is None:
            raise DatasetError(f"no fix is known for this finding ({self.check}): {self.message} {self.advice}".strip())
        return self.fix.change(self.dataset)

    def pictures(self) -> tuple[Picture, ...]:
        """Pictures of the worst case, read now; nothing where there is nothing to see, or nothing that can be read."""
        if self.dataset is None or self.worst is None:
            return ()
        try:
            return self.draw(self.dataset) if self.draw else _as_it_is(self.dataset, self.worst)
        except DatasetError:
            return ()

    def show(self) -> Any:
        """Draw the worst case in a notebook."""
        return ask_display("findings", "show_worst", self)

    def __repr__(self) -> str:
        lines = [f"{self.severity}: {self.message} {self.advice}".rstrip()]
        if self.fix is not None:
            lines.append(f"  fix: {self.fix.text}{'' if self.fix.safe else ' (your decision)'}")
        return "\n".join(lines)


def _as_it_is(dataset: Dataset, name: str) -> tuple[Picture, ...]:
    case = dataset[name]
    image = case.image()
    try:
        label_map = case.label()
    except DatasetError:
        return (Picture(title=name, image=image),)
    same = label_map.grid.shape == image.grid.shape
    return (Picture(title=name, image=image, labels=label_map.array if same else None),)


def channels_of(name: str, *numbers: int) -> Callable[[Dataset], tuple[Picture, ...]]:
    """What draws some channels of a case beside each other, with its labels."""

    def drawn(dataset: Dataset) -> tuple[Picture, ...]:
        (whole,) = _as_it_is(dataset, name)
        return tuple(
            replace(whole, title=channel, image=Image(whole.image.array[n : n + 1], whole.image.grid, (channel,)))
            for n, channel in ((n, whole.image.channels[n]) for n in numbers)
        )

    return drawn


@dataclass(frozen=True, slots=True)
class Findings(Shown, Sequence[Finding]):
    """Everything that a check-up found, the worst first; ``findings["duplicates"]`` are those of one check."""

    items: tuple[Finding, ...]
    dataset: Dataset = field(repr=False)

    @overload
    def __getitem__(self, index: int) -> Finding: ...
    @overload
    def __getitem__(self, index: slice | str) -> Findings: ...
    def __getitem__(self, index: int | slice | str) -> Finding | Findings:
        if isinstance(index, int):
            return self.items[index]
        if isinstance(index, slice):
            return Findings(self.items[index], self.dataset)
        return Findings(tuple(f for f in self.items if f.check == index), self.dataset)

    def __len__(self) -> int:
        return len(self.items)

    def of(self, severity: Severity) -> Findings:
        """The findings of one severity."""
        return Findings(tuple(f for f in self.items if f.severity == severity), self.dataset)

    @property
    def errors(self) -> Findings:
        """What makes cases unusable, or results wrong."""
        return self.of("error")

    @property
    def warnings(self) -> Findings:
        """What to look at before training."""
        return self.of("warning")

    @property
    def notes(self) -> Findings:
        """What is good to know."""
        return self.of("note")

    def apply(self, *also: str) -> Dataset:
        """The dataset with all safe fixes, and with those of the checks that you name after looking at them.

        Raises `DatasetError` for a check that found nothing, or has no fix.
        """
        fixable = {f.check for f in self.items if f.fix}
        for name in also:
            if name not in fixable:
                raise DatasetError(f"no finding with a fix is called {name!r}. {did_you_mean(name, fixable)}")
        dataset = self.dataset
        for finding in self.items:
            if finding.fix and (finding.fix.safe or finding.check in also):
                dataset = finding.fix.change(dataset)
        return dataset

    def table(self) -> pd.DataFrame:
        """One row a finding: check, severity, number of cases, the worst of them, message, advice, fix."""
        import pandas as pd

        rows = [
            {
                "check": f.check,
                "severity": f.severity,
                "cases": len(f.cases),
                "worst": f.worst,
                "message": f.message,
                "advice": f.advice,
                "fix": f.fix.text if f.fix else None,
                "safe": f.fix.safe if f.fix else None,
            }
            for f in self.items
        ]
        columns = ["check", "severity", "cases", "worst", "message", "advice", "fix", "safe"]
        return pd.DataFrame(rows, columns=columns)

    def __repr__(self) -> str:
        counts = [f"{len(self.of(s))} {s}{'s' * (len(self.of(s)) != 1)}" for s in SEVERITIES if self.of(s)]
        lines = [f"Findings({self.dataset.name!r}: {', '.join(counts) or 'nothing found'})"]
        lines += [f"  {f.severity}: {_short(f.message)}" for f in self.items[:4]]
        return "\n".join(lines[:4] + ([f"  and {len(self) - 3} more"] if len(self) > 4 else lines[4:]))


def _short(message: str, most: int = 110) -> str:
    return message if len(message) <= most else message[: most - 3].rstrip() + "..."
