"""Labels that look wrong: training cases whose reference the models that did not see them contradict most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import numpy as np
from scipy import ndimage

from autoseg.core.errors import EvaluationError, did_you_mean
from autoseg.core.kinds import require
from autoseg.core.shown import Shown
from autoseg.core.types import Mask, Shape
from autoseg.data.geometry import Grid, bounding_box
from autoseg.evaluation.scores import Evaluation, masks_of
from autoseg.prediction.inference import Prediction

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE = 2.0  # voxels: what two people who draw the same border differ by


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Suspect(Shown):
    """One case, and the label of it that is contradicted most.

    `score` is the share of the label's voxels that lie far from what the models drew, or that they drew far from it: 0
    where only borders differ, 1 where the label and the prediction have nothing to do with each other.
    """

    prediction: Prediction
    label: str
    score: float
    reason: str
    voxel: Shape  # in the middle of the largest contradiction

    @property
    def case(self) -> str:
        """The name of the case."""
        return self.prediction.case.name

    def __repr__(self) -> str:
        return f"Suspect({self.case!r}: score {self.score:.3f}; {self.reason})"


@dataclass(frozen=True, slots=True)
class Suspects(Shown, Sequence[Suspect]):
    """Every judged case, the most suspicious first; ``suspects["name"]`` finds one."""

    items: tuple[Suspect, ...]

    @overload
    def __getitem__(self, index: int | str) -> Suspect: ...
    @overload
    def __getitem__(self, index: slice) -> Suspects: ...
    def __getitem__(self, index: int | str | slice) -> Suspect | Suspects:
        if isinstance(index, slice):
            return Suspects(self.items[index])
        if isinstance(index, int):
            return self.items[index]
        for item in self.items:
            if item.case == index:
                return item
        raise EvaluationError(f"no case {index!r} was judged. {did_you_mean(index, [s.case for s in self.items])}")

    def __len__(self) -> int:
        return len(self.items)

    def table(self) -> pd.DataFrame:
        """One row a case, the most suspicious first."""
        import pandas as pd

        return pd.DataFrame([{"case": s.case, "score": s.score, "label": s.label, "reason": s.reason} for s in self])

    def __repr__(self) -> str:
        return "\n".join([f"Suspects({len(self)} cases)", *(f"  {s!r}" for s in self.items[:3])])


def suspicious_labels(evaluation: Evaluation, *, tolerance: float = TOLERANCE) -> Suspects:
    """Rank the cases of an evaluation by how much of their reference the predictions contradict.

    A contradicted voxel is labelled but more than `tolerance` voxels from the prediction, or predicted but as far from
    the label: differences of the border do not count, a missing, moved, swapped or invented piece does. The predictions
    must come from models that did not see the case, as those of `cross_validate` do; a case that a model has seen is
    never suspicious. Voxels with the ignore label do not count.

    Raises `EvaluationError` where the evaluation holds no predictions, `DatasetError` for a case without reference.

    >>> autoseg.suspicious_labels(evaluation)
    Suspects(6 cases)
    ...
    """
    require(evaluation, Evaluation, EvaluationError)
    if not evaluation.predictions:
        raise EvaluationError(
            "this evaluation was made without predictions to look at. Use evaluate(predictions, dataset)."
        )
    if not tolerance >= 0:
        raise EvaluationError(f"a tolerance of {tolerance} voxels is not possible. Give 0 or more; 2 is the default.")
    found = [_judge(prediction, tolerance) for prediction in evaluation.predictions]
    return Suspects(tuple(sorted(found, key=lambda s: -s.score)))


def _judge(prediction: Prediction, tolerance: float) -> Suspect:
    """The most contradicted label of one case."""
    truth = prediction.case.label()
    judged = [
        _contradiction(prediction, label, (ours, theirs), truth.grid, tolerance)
        for label, ours, theirs in masks_of(prediction.label_map, truth)
    ]
    return max(judged, key=lambda s: s.score)


def _contradiction(
    prediction: Prediction, label: str, masks: tuple[Mask, Mask], grid: Grid, tolerance: float
) -> Suspect:
    ours, theirs = masks
    box = bounding_box(ours | theirs)
    ours, theirs = ours[box.slices], theirs[box.slices]
    missing, invented = _far(theirs, ours, tolerance), _far(ours, theirs, tolerance)
    unit, size = ("ml", float(np.prod(grid.spacing)) / 1000) if grid.dimensions == 3 else ("pixels", 1)
    reasons = [
        (missing, f"of {theirs.sum() * size:.3g} {unit} labelled, {{:.3g}} are far from what was predicted"),
        (invented, f"of {ours.sum() * size:.3g} {unit} predicted, {{:.3g}} are far from the label"),
    ]
    told = [sentence.format(where.sum() * size) for where, sentence in reasons if where.any()]
    centre = np.add(_middle(missing | invented), box.start)
    return Suspect(
        prediction=prediction,
        label=label,
        score=float((missing.sum() + invented.sum()) / max(theirs.sum() + ours.sum(), 1)),
        reason=f"{label}: {'; '.join(told) or 'only borders differ'}",
        voxel=tuple(int(c) for c in centre),
    )


def _far(mask: Mask, other: Mask, tolerance: float) -> Mask:
    """Voxels of one mask that are further than `tolerance` voxels from the other."""
    if not mask.any() or not other.any():
        return mask
    distance = np.asarray(ndimage.distance_transform_edt(~other))
    return np.asarray(mask & (distance > tolerance))


def _middle(mask: Mask) -> Shape:
    """A voxel deep in the largest component; the middle of the array where there is none."""
    if not mask.any():
        return tuple(n // 2 for n in mask.shape)
    numbered, _ = ndimage.label(mask)
    largest = numbered == np.bincount(numbered.ravel())[1:].argmax() + 1
    depth = np.asarray(ndimage.distance_transform_edt(np.pad(largest, 1)))
    return tuple(int(i) - 1 for i in np.unravel_index(int(depth.argmax()), depth.shape))
