"""The few numbers of a fingerprint that rules read, and whether a plan can be made from them at all."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np

from autoseg.core.errors import PlanError
from autoseg.core.kinds import require
from autoseg.core.numbers import is_number, is_positive
from autoseg.core.types import Spacing, by
from autoseg.data.case_facts import CaseFacts
from autoseg.data.fingerprint import Fingerprint
from autoseg.data.geometry import PLANAR_SPACING

FINE_PERCENTILE = 10  # of the spacings: what nnU-Net takes along a coarse axis


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Medians over all cases, in the files' axis order; shapes are after cropping, before resampling."""

    cases: int
    median_spacing: Spacing
    fine_spacing: Spacing
    median_shape: tuple[float, ...]
    relative_size: float

    @classmethod
    def of(cls, fingerprint: Fingerprint) -> Facts:
        """Read them from a fingerprint."""
        left = np.array([case.relative_size for case in fingerprint.cases])
        return cls.of_arrays(fingerprint.spacings, fingerprint.shapes, left, cases=fingerprint.case_count)

    @classmethod
    def of_arrays(cls, spacings: np.ndarray, shapes: np.ndarray, relative_sizes: np.ndarray, *, cases: int) -> Facts:
        """From one row a case. Percentiles interpolate linearly, as numpy's do."""
        fine, middle = np.percentile(spacings, (FINE_PERCENTILE, 50), axis=0)
        return cls(
            cases=cases,
            median_spacing=_floats(middle),
            fine_spacing=_floats(fine),
            median_shape=_floats(np.percentile(shapes, 50, axis=0)),
            relative_size=float(np.median(relative_sizes)),
        )


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


def check_fingerprint(fingerprint: Fingerprint) -> None:
    """Raise `PlanError` where no plan can be made from these facts."""
    require(fingerprint, Fingerprint, PlanError)
    if len(fingerprint.channels) != len(fingerprint.intensities):
        raise PlanError(
            f"{fingerprint.dataset_name!r} has {len(fingerprint.channels)} channels, but intensities of "
            f"{len(fingerprint.intensities)}. Extract its fingerprint again."
        )
    if not fingerprint.channels:
        raise PlanError(f"{fingerprint.dataset_name!r} has no channels. A plan needs at least one.")
    if not fingerprint.cases:
        raise PlanError(f"{fingerprint.dataset_name!r} has no cases. A plan is made from their shapes and spacings.")
    if len(fingerprint.cases) == 1:
        warnings.warn(
            f"{fingerprint.dataset_name!r} has one case, {fingerprint.cases[0].name!r}: the plan fits it, and says "
            "nothing of the next. No case is left to validate on, so train with fold='all', and believe no score.",
            stacklevel=3,
        )
    for case in fingerprint.cases:
        _check_case(case)
    planar = [case for case in fingerprint.cases if is_planar(case)]
    if planar and len(planar) < len(fingerprint.cases):
        solid = next(case for case in fingerprint.cases if not is_planar(case))
        raise PlanError(
            f"{len(planar)} of {len(fingerprint.cases)} cases are 2D (such as {planar[0].name!r}), the others 3D (such "
            f"as {solid.name!r}: {by(solid.cropped_shape)}). One plan cannot serve both: split the dataset in two, "
            "or cut the 3D images into slices."
        )


def _check_case(case: CaseFacts) -> None:
    for what, values, unit in (("spacing", case.spacing, "mm"), ("shape", case.cropped_shape, "voxels")):
        if len(values) != 3:
            raise PlanError(f"case {case.name!r}: the {what} {tuple(values)} has {len(values)} axes, not 3 (z, y, x).")
        if not all(is_positive(v) for v in values):
            raise PlanError(
                f"case {case.name!r}: the {what} {tuple(values)} has a value that is not a positive number of {unit}. "
                f"Correct the image's header, or leave the case out: dataset.without({case.name!r})."
            )
    if not (is_number(case.relative_size) and 0 < case.relative_size <= 1):
        raise PlanError(
            f"case {case.name!r}: cropping leaves a share of {case.relative_size!r} of the voxels; it must be above 0 "
            "and at most 1. Extract the fingerprint again."
        )


def is_planar(case: CaseFacts) -> bool:
    """Whether a case came from a 2D image: one slice, whose spacing is nnU-Net's mark for "none"."""
    marks = (PLANAR_SPACING, PLANAR_SPACING * max(case.spacing[1:]))
    return case.cropped_shape[0] == 1 and any(math.isclose(case.spacing[0], mark) for mark in marks)
