"""Scores of predictions against the reference label maps, case by case and label by label."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autoseg.core.errors import EvaluationError
from autoseg.core.kinds import require
from autoseg.core.serialization import write_text
from autoseg.core.shown import Shown, ask_display
from autoseg.core.types import Mask, PathLike, by, count, listed
from autoseg.data.dataset import Dataset
from autoseg.data.geometry import Grid
from autoseg.data.images import LabelMap
from autoseg.data.labels import Labels
from autoseg.evaluation.metrics import Overlap, known_mean, overlap
from autoseg.prediction.inference import Prediction

TURNED = 0.1  # of a unit: beyond rounding, and beyond what an oblique scan is registered by

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Score:
    """One case and one label or region."""

    case: str
    label: str
    overlap: Overlap

    @property
    def dice(self) -> float:
        """NaN where the label is in neither the prediction nor the reference."""
        return self.overlap.dice

    @property
    def iou(self) -> float:
        """NaN where the label is in neither the prediction nor the reference."""
        return self.overlap.iou


@dataclass(frozen=True, slots=True)
class Evaluation(Shown):
    """All scores, with the predictions they are of.

    A case in which a label is neither present nor predicted does not count for it; present or predicted alone is 0.

    >>> evaluation.worst(1), sorted(evaluation.by_label)
    ((...,), ['head', 'tail'])
    """

    scores: tuple[Score, ...]
    predictions: tuple[Prediction, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels or regions, in the order of the dataset."""
        return tuple(dict.fromkeys(s.label for s in self.scores))

    @property
    def cases(self) -> tuple[str, ...]:
        """Evaluated cases, in order."""
        return tuple(dict.fromkeys(s.case for s in self.scores))

    @property
    def by_label(self) -> dict[str, float]:
        """Mean Dice of each label over the cases that have it."""
        return {name: known_mean(s.dice for s in self.scores if s.label == name) for name in self.labels}

    @property
    def by_case(self) -> dict[str, float]:
        """Mean Dice of each case over its labels."""
        dice: dict[str, list[float]] = {}
        for s in self.scores:
            dice.setdefault(s.case, []).append(s.dice)
        return {name: known_mean(values) for name, values in dice.items()}

    @property
    def mean(self) -> float:
        """Mean foreground Dice: the mean over labels of their means over cases, as nnU-Net reports it.

        A label that no case has is left out, where nnU-Net would return NaN.
        """
        return known_mean(self.by_label.values())

    def worst(self, count: int = 5) -> tuple[str, ...]:
        """Names of the cases with the lowest mean Dice, the worst first."""
        known = {name: value for name, value in self.by_case.items() if not np.isnan(value)}
        return tuple(sorted(known, key=lambda name: known[name])[:count])

    def table(self) -> pd.DataFrame:
        """One row a case and label: Dice, IoU, and the voxel counts they are made of."""
        import pandas as pd

        rows = [
            {
                "case": s.case,
                "label": s.label,
                "dice": s.dice,
                "iou": s.iou,
                "predicted_voxels": s.overlap.predicted,
                "reference_voxels": s.overlap.present,
                "true_positive": s.overlap.true_positive,
                "false_positive": s.overlap.false_positive,
                "false_negative": s.overlap.false_negative,
            }
            for s in self.scores
        ]
        return pd.DataFrame(rows)

    def explore(self) -> Any:
        """A widget: a dot and a row for each case; a click on one shows the case."""
        return ask_display("explorers", "EvaluationExplorer", self)

    def to_csv(self, path: PathLike) -> Path:
        """Write the table in one step."""
        return write_text(path, self.table().to_csv(index=False))

    def to_json(self, path: PathLike) -> Path:
        """Write ``summary.json`` as nnU-Net does, in one step. Raises `EvaluationError` without predictions."""
        from autoseg.evaluation.summary import write_summary

        if not self.predictions:
            raise EvaluationError("this evaluation holds no predictions, which say what the labels mean.")
        return write_summary(self, self.predictions[0].label_map.labels, path)

    def __repr__(self) -> str:
        means = listed(f"{name} {value:.3f}" for name, value in self.by_label.items())
        by_case = self.by_case
        worst = ", ".join(f"{name} {by_case[name]:.3f}" for name in self.worst(3))
        return f"Evaluation({count(len(self.cases), 'case')}, mean Dice {self.mean:.4f})\n  {means}\n  worst: {worst}"


def evaluate(predictions: Prediction | Iterable[Prediction], dataset: Dataset) -> Evaluation:
    """Compare predictions with the dataset's reference label maps, on the scan's own grid.

    Raises `EvaluationError` for a prediction on another grid or with values that no label has, and for two of one case;
    `DatasetError` for a case without reference.

    >>> autoseg.evaluate(predictions, dataset)
    Evaluation(6 cases, mean Dice ...)
    ...
    """
    given = predictions_of(predictions)
    _require_one_a_case(given)
    require(dataset, Dataset, EvaluationError)
    kept = tuple(replace(p, case=dataset[p.case.name]) for p in given)  # what judged them is what is shown
    scores = []
    for prediction in kept:
        scores.extend(score_case(prediction.case.name, prediction.label_map, prediction.case.label()))
    return Evaluation(tuple(scores), kept)


def predictions_of(given: Any) -> tuple[Prediction, ...]:
    """One prediction or several as a tuple. Raises `EvaluationError` for none, and for anything else among them."""
    several = isinstance(given, Iterable) and not isinstance(given, str | LabelMap)
    found = tuple(given) if several else (given,)
    if not found:
        raise EvaluationError("there are no predictions to evaluate.")
    for other in (p for p in found if not isinstance(p, Prediction)):
        raise EvaluationError(
            f"a {type(other).__name__} does not say which case it predicts. Give what predict() returned, or "
            "autoseg.Prediction(case=dataset['name'], label_map=autoseg.LabelMap(array, grid, dataset.labels))."
        )
    return found


def _require_one_a_case(predictions: tuple[Prediction, ...]) -> None:
    names = [p.case.name for p in predictions]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise EvaluationError(
            f"case {twice[0]!r} has {names.count(twice[0])} predictions, which would be averaged as two cases. "
            "Evaluate those of each model apart."
        )


def score_case(name: str, predicted: LabelMap, reference: LabelMap) -> list[Score]:
    """The overlap of each label or region of one case; voxels with the ignore label do not count."""
    require_comparable(name, predicted, reference)
    labels = reference.labels
    annotated = None if labels.ignore is None else reference.array != labels.ignore
    return [
        Score(name, label, overlap(np.isin(predicted.array, values), np.isin(reference.array, values), annotated))
        for label, values in labels.regions.items()
    ]


def require_comparable(name: str, predicted: LabelMap, reference: LabelMap, *, in_millimetres: bool = False) -> None:
    """Raise `EvaluationError` where voxels of the two maps, or their values, do not stand for the same.

    Where they lie only matters as far as axes go, unless one was an array that knows of none; `in_millimetres` their
    spacing does, too.
    """
    if predicted.array.shape != reference.array.shape:
        raise EvaluationError(
            f"case {name!r}: the prediction is {by(predicted.array.shape)} voxels but the reference "
            f"{by(reference.array.shape)}. Predict on the image that belongs to this reference."
        )
    if difference := predicted.labels.difference(reference.labels):
        raise EvaluationError(
            f"case {name!r}: the prediction's labels are not the reference's, {difference}. Evaluate with the dataset "
            "that was trained on, such as what check().apply() returned."
        )
    _require_declared(name, predicted, reference.labels)
    ours, theirs = predicted.grid, reference.grid
    known = not (_is_silent(ours) or _is_silent(theirs))
    turned = known and np.abs(np.subtract(ours.direction, theirs.direction)).max() > TURNED
    if turned or (in_millimetres and not np.allclose(ours.spacing, theirs.spacing, rtol=0.01)):
        raise EvaluationError(
            f"case {name!r}: prediction and reference lie otherwise in the world, {ours.difference(theirs)}. Where the "
            "label map's header is wrong, autoseg.data.fixes.lay_labels_on_images(dataset) leaves it out."
        )


def _require_declared(name: str, predicted: LabelMap, reference: Labels) -> None:
    declared = [v for labels in (predicted.labels, reference) for v in (*labels.permitted, *labels.region_order)]
    known = np.isin(predicted.array, declared)
    if not known.all():
        found = ", ".join(f"{value:g}" for value in np.unique(predicted.array[~known])[:5])
        raise EvaluationError(
            f"case {name!r}: {int((~known).sum()):,} voxels of the prediction hold values that no label has ({found}); "
            f"the labels are {reference!r}. They would only count as missed: correct the prediction."
        )


def masks_of(predicted: LabelMap, reference: LabelMap) -> Iterator[tuple[str, Mask, Mask]]:
    """Each label or region with where it is predicted and where it is; nowhere where a voxel has the ignore label."""
    labels = reference.labels
    annotated = True if labels.ignore is None else reference.array != labels.ignore
    for label, values in labels.regions.items():
        yield label, np.isin(predicted.array, values) & annotated, np.isin(reference.array, values) & annotated


def _is_silent(grid: Grid) -> bool:
    """Whether a grid is that of an array, which says nothing of its place in the world."""
    return grid == Grid.of(grid.shape, grid.spacing)
