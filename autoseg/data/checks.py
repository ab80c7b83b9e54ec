"""What is wrong with a dataset, how bad it is, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from autoseg.core.errors import DatasetError
from autoseg.core.shown import Shown
from autoseg.data.dataset import Case, Dataset
from autoseg.data.images import Image, LabelMap

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding(Shown):
    """One thing that is wrong, or worth knowing, with the cases it concerns."""

    check: str
    severity: Severity
    cases: tuple[str, ...]
    message: str

    def __repr__(self) -> str:
        return f"{self.severity}: {self.message}"


def load_pair(case: Case) -> tuple[Image, LabelMap]:
    """Read a training case and make sure that it can be used.

    Raises `DatasetError` where image and label map do not share a grid's shape and spacing, an intensity is not a
    finite number, or a label value is not declared.
    """
    image, label_map = case.image(), case.label()
    for sound in (_same_grid, _finite, _declared):
        sound(case, image, label_map)
    return image, label_map


def load_image(case: Case) -> Image:
    """Read an image to predict; intensities must be finite numbers."""
    image = case.image()
    _finite(case, image, None)
    return image


def _same_grid(case: Case, image: Image, label_map: LabelMap) -> None:
    ours, theirs = label_map.grid, image.grid
    if ours.shape != theirs.shape or not np.allclose(ours.spacing, theirs.spacing):
        size = ["x".join(map(str, g.shape)) for g in (ours, theirs)]
        spacing = ["x".join(f"{s:.4g}" for s in g.spacing) for g in (ours, theirs)]
        raise DatasetError(
            f"case {case.name!r}: the label map is {size[0]} voxels of {spacing[0]} mm but the image is "
            f"{size[1]} voxels of {spacing[1]} mm ({'zyx'[-ours.dimensions :]}). They must share a grid. "
            f"Look at dataset[{case.name!r}], or leave it out: dataset.without({case.name!r})."
        )


def _finite(case: Case, image: Image, label_map: LabelMap | None) -> None:
    wrong = ~np.isfinite(image.array)
    if wrong.any():
        first = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise DatasetError(
            f"case {case.name!r}: {int(wrong.sum())} voxels of the image are NaN or infinite, the first at "
            f"{first[1:]} of channel {image.channels[first[0]]!r}. "
            f"Replace them, or leave the case out: dataset.without({case.name!r})."
        )


def _declared(case: Case, image: Image, label_map: LabelMap) -> None:
    found = np.unique(label_map.array).tolist()
    unknown = [v for v in found if v not in label_map.labels.permitted]
    if unknown:
        shown = ", ".join(map(str, unknown[:5])) + (", ..." if len(unknown) > 5 else "")
        raise DatasetError(
            f"case {case.name!r}: the label map holds the value(s) {shown}, but dataset.json declares only "
            f"{', '.join(map(str, label_map.labels.permitted))}. Declare them under 'labels', or correct the file."
        )


def check(dataset: Dataset, *, progress: Callable[[str], None] | None = None) -> tuple[Finding, ...]:
    """Read every training case and report those that cannot be used; an empty result is a sound dataset."""
    findings = []
    for case in dataset:
        if progress:
            progress(case.name)
        try:
            load_pair(case)
        except DatasetError as error:
            findings.append(Finding(check="readable", severity="error", cases=(case.name,), message=str(error)))
    return tuple(findings)
