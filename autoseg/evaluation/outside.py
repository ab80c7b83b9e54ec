"""Whether a scan is like those that a model was trained on, told from the fingerprint in plain sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoseg.core.errors import EvaluationError
from autoseg.core.kinds import require
from autoseg.core.shown import Shown
from autoseg.data.checks import Finding, load_image
from autoseg.data.dataset import Case
from autoseg.data.fingerprint import Fingerprint, IntensityFacts
from autoseg.data.geometry import bounding_box
from autoseg.data.images import Image
from autoseg.data.memory import case_from

SPACING, SIZE = 1.1, 1.25  # times beyond the smallest or largest training case that is still taken as alike
RARE = 0.1  # of the usual share of voxels with intensities of the labelled structures


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RangeCheck(Shown):
    """What of a case lies outside the range of the training cases, each with its numbers."""

    case: Case
    dataset_name: str
    training_cases: int
    findings: tuple[Finding, ...]

    @property
    def inside(self) -> bool:
        """Whether nothing was found; which does not say that the case is like the training cases in every way."""
        return not self.findings

    def __repr__(self) -> str:
        usual = ["  spacing, size, field of view and intensities as in training"]
        said = [f"  {f.message}" for f in self.findings] or usual
        where = "inside" if self.inside else "outside"
        return "\n".join([f"RangeCheck({self.case.name!r}: {where} the training range)", *said])


def outside_range(what: Any, fingerprint: Fingerprint, *, spacing: Sequence[float] | None = None) -> RangeCheck:
    """Compare a scan with the training cases: spacing, size, field of view, and intensities.

    Args:
        what: a case, a path, an array or an image: whatever `predict` takes one of.
        fingerprint: of the dataset that the model was trained on.
        spacing: of arrays, mm in the array's order.

    Spacings may be 10%, sizes and fields of view 25% beyond the smallest and largest training case. Raises
    `DatasetError` for an image that cannot be used or has other channels.

    >>> import autoseg
    >>> dataset = autoseg.sample_dataset()
    >>> fingerprint = autoseg.extract_fingerprint(dataset, show_progress=False)
    >>> autoseg.outside_range(dataset[0], fingerprint).inside
    True
    """
    require(fingerprint, Fingerprint, EvaluationError)
    case = case_from(what, channels=fingerprint.channels, labels=fingerprint.labels, spacing=spacing)
    image = load_image(case)
    return RangeCheck(
        case=case,
        dataset_name=fingerprint.dataset_name,
        training_cases=len(fingerprint.cases),
        findings=(*_geometry(case.name, image, fingerprint), *_intensities(case.name, image, fingerprint)),
    )


def _geometry(name: str, image: Image, fingerprint: Fingerprint) -> Iterator[Finding]:
    """Spacing, voxels and millimetres along each axis."""
    grid = image.grid.as_3d()
    shape = bounding_box((image.array.reshape(-1, *grid.shape) != 0).any(axis=0)).shape
    spacings, shapes = fingerprint.spacings, fingerprint.shapes
    measures = (
        ("spacing", "mm", np.array(grid.spacing), spacings, SPACING, "It is resampled; what is finer is lost."),
        ("size", "voxels", np.array(shape), shapes, SIZE, "Is the whole organ in it, and nothing else?"),
        ("field of view", "mm", shape * np.array(grid.spacing), shapes * spacings, SIZE, "Is it of the same region?"),
    )
    flat = image.grid.dimensions == 2
    for what, unit, values, known, room, advice in measures:
        for axis in range(1 if flat else 0, 3):
            value, low, high = float(values[axis]), float(known[:, axis].min()), float(known[:, axis].max())
            if low / room <= value <= high * room:
                continue
            span = f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
            message = f"{what} {value:.3g} {unit} along {'zyx'[axis]}; training {span} {unit}."
            yield _finding(name, what, message, advice)


def _intensities(name: str, image: Image, fingerprint: Fingerprint) -> Iterator[Finding]:
    """How much of each channel has the intensities of the labelled structures, against how much usually has."""
    for channel, values, known in zip(image.channels, image.array, fingerprint.intensities, strict=True):
        low, high = known.percentile_00_5, known.percentile_99_5
        share = float(((values >= low) & (values <= high)).mean())
        usual = _usual_share(known)
        middle = float(np.median(values[values != 0])) if values.any() else 0.0
        if share < RARE * usual:
            message = (
                f"{share:.1%} of {channel} has the intensities of the labelled structures, "
                f"{_plain(low)} to {_plain(high)}; in training {usual:.0%}. Its median is {_plain(middle)}."
            )
            yield _finding(name, "intensity", message, "Is it the same modality, sequence and unit?")


def _plain(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _usual_share(known: IntensityFacts) -> float:
    """Of all voxels of the training cases, those between the percentiles of the foreground; 1% where not known."""
    if not any(known.everywhere):
        return 0.01
    edges = np.linspace(known.minimum, known.maximum, len(known.everywhere) + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    inside = (centres >= known.percentile_00_5) & (centres <= known.percentile_99_5)
    return float(np.array(known.everywhere)[inside].sum())


def _finding(name: str, check: str, message: str, advice: str) -> Finding:
    return Finding(check=check, severity="warning", cases=(name,), message=message, advice=advice, worst=name)
