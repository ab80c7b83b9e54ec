"""Overlap of two masks, and means of what is known, in numpy."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from autoseg.core.types import Mask


@dataclass(frozen=True, slots=True)
class Overlap:
    """Voxels by where prediction and reference agree, and the ratios made of them.

    >>> o = overlap(np.array([True, True, False]), np.array([True, False, False]))
    >>> o.dice, o.iou
    (0.6666666666666666, 0.5)
    """

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def predicted(self) -> int:
        """Voxels of the prediction."""
        return self.true_positive + self.false_positive

    @property
    def present(self) -> int:
        """Voxels of the reference."""
        return self.true_positive + self.false_negative

    @property
    def dice(self) -> float:
        """2 TP / (2 TP + FP + FN); NaN where both masks are empty, 0 where one is. nnU-Net's convention."""
        return ratio(2 * self.true_positive, self.predicted + self.present)

    @property
    def iou(self) -> float:
        """TP / (TP + FP + FN); NaN where both masks are empty."""
        return ratio(self.true_positive, self.predicted + self.false_negative)


def overlap(predicted: Mask, reference: Mask, annotated: Mask | None = None) -> Overlap:
    """Count agreement of two boolean masks of one shape, only where `annotated` if given."""
    if annotated is not None:
        predicted, reference = predicted[annotated], reference[annotated]
    tp = int(np.count_nonzero(predicted & reference))
    fp, fn = int(np.count_nonzero(predicted)) - tp, int(np.count_nonzero(reference)) - tp
    return Overlap(tp, fp, fn, predicted.size - tp - fp - fn)


def ratio(part: int, whole: int) -> float:
    """A share; NaN of nothing."""
    return part / whole if whole else math.nan


def known_mean(values: Iterable[float]) -> float:
    """The mean of the values that are not NaN; NaN where all are.

    >>> known_mean([0.5, math.nan, 1.0]), known_mean([])
    (0.75, nan)
    """
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
