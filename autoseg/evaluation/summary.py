"""Scores as nnU-Net writes them: ``summary.json``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autoseg.core.serialization import write_text
from autoseg.core.types import PathLike
from autoseg.data.labels import Labels
from autoseg.evaluation.metrics import known_mean
from autoseg.evaluation.scores import Evaluation, Score

METRICS = ("Dice", "FN", "FP", "IoU", "TN", "TP", "n_pred", "n_ref")


def summary_of(evaluation: Evaluation, labels: Labels) -> dict[str, Any]:
    """nnU-Net's dictionary: each case's metrics, their means, and the mean over the foreground.

    Keys are the labels' values, or their union for regions, as nnU-Net names them. Source: nnU-Net 2.8
    ``compute_metrics_on_folder``.
    """
    key = {name: str(values[0]) if len(values) == 1 else str(values) for name, values in labels.regions.items()}
    cases = {prediction.case.name: prediction.case for prediction in evaluation.predictions}
    per_case = []
    for name in evaluation.cases:
        metrics = {key[s.label]: _metrics(s) for s in evaluation.scores if s.case == name}
        files = (f"{name}{cases[name].file_ending}", str(cases[name].label_path)) if name in cases else (name, name)
        per_case.append({"metrics": metrics, "prediction_file": files[0], "reference_file": files[1]})
    mean = {
        key[label]: _mean([_metrics(s) for s in evaluation.scores if s.label == label]) for label in evaluation.labels
    }
    foreground = {metric: float(np.mean([values[metric] for values in mean.values()])) for metric in METRICS}
    return {"foreground_mean": foreground, "mean": mean, "metric_per_case": per_case}


def write_summary(evaluation: Evaluation, labels: Labels, path: PathLike) -> Path:
    """Write ``summary.json`` in one step; NaN stands bare, as nnU-Net has it."""
    import json

    return write_text(path, json.dumps(summary_of(evaluation, labels), indent=4, sort_keys=True))


def _metrics(score: Score) -> dict[str, float]:
    o = score.overlap
    return {
        "Dice": o.dice,
        "FN": o.false_negative,
        "FP": o.false_positive,
        "IoU": o.iou,
        "TN": o.true_negative,
        "TP": o.true_positive,
        "n_pred": o.predicted,
        "n_ref": o.present,
    }


def _mean(cases: Sequence[dict[str, float]]) -> dict[str, float]:
    """Over cases, each metric without its NaN."""
    return {metric: known_mean(case[metric] for case in cases) for metric in METRICS}
