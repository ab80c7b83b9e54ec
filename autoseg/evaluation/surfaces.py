"""How far the surfaces of prediction and reference are apart, in mm, by MONAI's metrics."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from autoseg.core.errors import EvaluationError
from autoseg.core.kinds import require
from autoseg.core.types import Mask, Spacing
from autoseg.data.dataset import Dataset
from autoseg.data.geometry import bounding_box
from autoseg.evaluation.scores import masks_of, predictions_of, require_comparable
from autoseg.prediction.inference import Prediction

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class SurfaceDistance:
    """One label of one case. Where both masks are empty all are NaN; where one is, distances are infinite.

    `hd95` is the 95th percentile of the Hausdorff distance, `average` the mean distance of both surfaces, in mm;
    `surface_dice` the share of both surfaces that lies within `tolerance` mm of the other.
    """

    hd95: float
    average: float
    surface_dice: float
    tolerance: float


def surface_distance(predicted: Mask, reference: Mask, spacing: Spacing, *, tolerance: float = 1.0) -> SurfaceDistance:
    """Compare the surfaces of two masks (*space) of one shape; `spacing` and `tolerance` in mm.

    Source: MONAI's ``compute_hausdorff_distance``, ``compute_average_surface_distance``, ``compute_surface_dice``.

    >>> square = np.zeros((20, 20), bool)
    >>> square[5:10, 5:10] = True
    >>> surface_distance(square, np.roll(square, 2, 1), (1.0, 1.5)).hd95
    3.0
    """
    if not predicted.any() and not reference.any():
        nothing = float("nan")
        return SurfaceDistance(hd95=nothing, average=nothing, surface_dice=nothing, tolerance=tolerance)
    if not predicted.any() or not reference.any():
        return SurfaceDistance(hd95=float("inf"), average=float("inf"), surface_dice=0.0, tolerance=tolerance)
    import torch
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice

    there = bounding_box(predicted | reference).grow(1).slices  # no surface on the border where it need not be
    first, second = (torch.from_numpy(np.ascontiguousarray(m[there]))[None, None] for m in (predicted, reference))
    common = {"include_background": True, "spacing": [float(s) for s in spacing]}
    return SurfaceDistance(
        hd95=float(compute_hausdorff_distance(first, second, percentile=95, **common)),
        average=float(compute_average_surface_distance(first, second, symmetric=True, **common)),
        surface_dice=float(compute_surface_dice(first, second, class_thresholds=[tolerance], **common)),
        tolerance=tolerance,
    )


def surface_table(predictions: Iterable[Prediction], dataset: Dataset, *, tolerance: float = 1.0) -> pd.DataFrame:
    """One row a case and label: surface distances in mm, and the volumes in ml with their difference.

    Pictures have areas in mm2 in place of volumes. Voxels with the ignore label do not count. Raises `EvaluationError`
    for a prediction on another grid than its reference.

    >>> autoseg.surface_table([predictions[0]], dataset)[["case", "label", "tolerance"]]
               case label  tolerance
    0  seahorse_004  head        1.0
    1  seahorse_004  tail        1.0
    """
    require(dataset, Dataset, EvaluationError)
    import pandas as pd

    rows = []
    for prediction in predictions_of(predictions):
        truth, found = dataset[prediction.case.name].label(), prediction.label_map
        require_comparable(prediction.case.name, found, truth, in_millimetres=True)
        voxel = float(np.prod(truth.grid.spacing))
        size, unit = (voxel / 1000, "ml") if truth.grid.dimensions == 3 else (voxel, "mm2")
        for label, ours, theirs in masks_of(found, truth):
            distance = surface_distance(ours, theirs, truth.grid.spacing, tolerance=tolerance)
            sizes = {"predicted": ours.sum() * size, "reference": theirs.sum() * size}
            sizes["difference"] = sizes["predicted"] - sizes["reference"]
            named = {f"{what}_{unit}": value for what, value in sizes.items()}
            rows.append({"case": prediction.case.name, "label": label, **asdict(distance), **named})
    return pd.DataFrame(rows)
