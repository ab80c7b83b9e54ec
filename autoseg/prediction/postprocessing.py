"""Largest components: what is left of a label map when small islands of a label are taken away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from autoseg.core.types import LabelArray
from autoseg.data.images import LabelMap
from autoseg.prediction.results import Prediction, Predictions


@dataclass(frozen=True, slots=True)
class Postprocessing:
    """Steps to take one after the other: the values of each are one mask, of which only the largest component stays."""

    steps: tuple[tuple[int, ...], ...] = ()

    def __call__(self, predictions: Predictions | Sequence[Prediction]) -> Predictions:
        """The same predictions without their islands; probabilities stay as they were."""
        items = tuple(replace(p, label_map=self.of(p.label_map)) for p in predictions)
        return replace(predictions, items=items) if isinstance(predictions, Predictions) else Predictions(items)

    def of(self, label_map: LabelMap) -> LabelMap:
        """One label map without its islands."""
        array = label_map.array
        for values in self.steps:
            array = keep_largest(array, values)
        return label_map if array is label_map.array else replace(label_map, array=array)


def keep_largest(labels: LabelArray, values: Sequence[int]) -> LabelArray:
    """Make background of all but the largest component of some labels together; several of equal size all stay.

    Voxels that touch at a corner belong together. Source: nnU-Net 2.8 ``remove_all_but_largest_component_from_...``.

    >>> keep_largest(np.array([[1, 0, 2], [1, 0, 0]]), [1, 2])
    array([[1, 0, 0],
           [1, 0, 0]])
    """
    mask = np.isin(labels, list(values))
    numbered, count = ndimage.label(mask, structure=np.ones((3,) * labels.ndim))
    if count < 2:
        return labels
    sizes = np.bincount(numbered.ravel())[1:]
    largest = np.flatnonzero(sizes == sizes.max()) + 1
    return np.where(mask & ~np.isin(numbered, largest), labels.dtype.type(0), labels)
