"""Lesion by lesion: which pieces of the reference were found, and which predicted pieces are nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage, optimize

from autoseg.core.errors import EvaluationError
from autoseg.core.kinds import require
from autoseg.core.types import Mask
from autoseg.data.dataset import Dataset
from autoseg.evaluation.metrics import ratio
from autoseg.evaluation.scores import masks_of, predictions_of, require_comparable
from autoseg.prediction.inference import Prediction

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class LesionCounts:
    """The lesions of one label of one case: those of the reference that were `found` or `missed`, and `false` ones."""

    found: int
    missed: int
    false: int

    @property
    def sensitivity(self) -> float:
        """The share of the reference's lesions that were found; NaN where it has none."""
        return ratio(self.found, self.found + self.missed)

    @property
    def precision(self) -> float:
        """The share of the predicted lesions that are one; NaN where nothing is predicted."""
        return ratio(self.found, self.found + self.false)

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN); NaN where both masks are empty."""
        return ratio(2 * self.found, 2 * self.found + self.missed + self.false)


def count_lesions(predicted: Mask, reference: Mask, *, iou: float = 0.1) -> LesionCounts:
    """Match the connected components of two masks (*space) of one shape, one to one.

    A pair counts where the IoU of its components is at least `iou`; with 0, where they share a voxel. Voxels that touch
    at a corner belong together. Of all matchings the one with the highest sum of IoUs is taken. Sources: Maier-Hein et
    al. 2024, 'Metrics reloaded' (detection by IoU, one to one); Jaeger et al. 2020, 'Retina U-Net' (0.1 in 3D).

    >>> reference = np.array([1, 1, 0, 0, 1, 0, 0], bool)
    >>> count_lesions(np.array([1, 0, 0, 0, 0, 0, 1], bool), reference)
    LesionCounts(found=1, missed=1, false=1)
    """
    if not 0 <= iou <= 1:
        raise EvaluationError(f"iou={iou} is not between 0 and 1. Give 0.1, or 0 where any shared voxel is enough.")
    structure = np.ones((3,) * reference.ndim)
    ours, n_ours = ndimage.label(predicted, structure)
    theirs, n_theirs = ndimage.label(reference, structure)
    either = (ours > 0) | (theirs > 0)
    joint = theirs[either].astype(np.int64) * (n_ours + 1) + ours[either]
    shared = np.bincount(joint, minlength=(n_theirs + 1) * (n_ours + 1)).reshape(n_theirs + 1, n_ours + 1)
    overlap = shared[1:, 1:]
    union = shared.sum(axis=1)[1:, None] + shared.sum(axis=0)[None, 1:] - overlap
    ious = np.where(overlap > 0, overlap / np.maximum(union, 1), 0.0)
    ious[ious < iou] = 0
    found = int((ious[optimize.linear_sum_assignment(-ious)] > 0).sum())
    return LesionCounts(found=found, missed=n_theirs - found, false=n_ours - found)


def lesion_table(predictions: Iterable[Prediction], dataset: Dataset, *, iou: float = 0.1) -> pd.DataFrame:
    """One row a case and label: lesions that were found, missed and made up; sensitivity, precision and F1.

    False positives a case are ``table.groupby("label")["false"].mean()``. Voxels with the ignore label do not count.
    Raises `EvaluationError` for a prediction on another grid than its reference.

    >>> list(autoseg.lesion_table(predictions, dataset))
    ['case', 'label', 'found', 'missed', 'false', 'sensitivity', 'precision', 'f1']
    """
    require(dataset, Dataset, EvaluationError)
    import pandas as pd

    rows = []
    for prediction in predictions_of(predictions):
        name, found = prediction.case.name, prediction.label_map
        truth = dataset[name].label()
        require_comparable(name, found, truth)
        for label, ours, theirs in masks_of(found, truth):
            counts = count_lesions(ours, theirs, iou=iou)
            ratios = {"sensitivity": counts.sensitivity, "precision": counts.precision, "f1": counts.f1}
            rows.append({"case": name, "label": label, **asdict(counts), **ratios})
    return pd.DataFrame(rows)
