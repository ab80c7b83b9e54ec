"""What a folder of an experiment holds: every stage that was reached, read back for a report."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoseg.core.errors import AutosegError, StorageError
from autoseg.core.types import PathLike

if TYPE_CHECKING:
    from autoseg.data.dataset import Dataset
    from autoseg.evaluation.scores import Evaluation
    from autoseg.prediction.inference import Predictions


def stages_in(folder: PathLike, dataset: Dataset | None = None) -> dict[str, Any]:
    """The stages that `autoseg demo` or the single verbs left in a folder, by the names that `report` takes.

    With the `dataset`, the predictions are shown on their images. Raises `StorageError` where nothing is there.
    """
    from autoseg.data.fingerprint import Fingerprint
    from autoseg.planning.plan import Plan

    folder = Path(folder)
    readers = {
        "fingerprint": lambda: Fingerprint.load(folder / "fingerprint.json"),
        "plan": lambda: Plan.load(folder / "plan.json"),
    }
    found = {name: stage for name, read in readers.items() if (stage := _there(read)) is not None}
    found |= _run_in(folder)
    found |= _results_in(folder, dataset)
    if not found:
        raise StorageError(
            f"{folder} holds no experiment: neither fingerprint.json nor plan.json, runs or predictions. "
            "Give the folder that `autoseg demo --out` or `preprocess(folder=...)` wrote to."
        )
    return found if dataset is None else {"dataset": dataset, **found}


def _there(read: Any) -> Any:
    """A stage, or None where it was not reached or cannot be read back: a report tells what there is."""
    try:
        return read()
    except (AutosegError, OSError):
        return None


def _run_in(folder: Path) -> dict[str, Any]:
    """The latest training of any configuration and fold, and the data it was trained on."""
    from autoseg.training.checkpoints import Run
    from autoseg.training.model import TrainedModel

    runs = sorted(folder.glob("runs/*/fold_*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in runs:
        model = _there(lambda path=path: TrainedModel.load(path))
        if model is None:
            continue
        run = _there(lambda path=path: Run.read(path, None))
        prepared = None if run is None else _there(partial(run.prepared.open, folder))
        return {"training": model} if prepared is None else {"prepared": prepared, "training": model}
    return {}


def _results_in(folder: Path, dataset: Dataset | None) -> dict[str, Any]:
    """Predictions of the dataset's cases and their scores; without the dataset the scores that were kept."""
    if dataset is None:
        scores = _there(lambda: _kept_scores(folder / "evaluation.csv"))
        return {} if scores is None else {"evaluation": scores}
    predictions = _predictions_in(folder / "predictions", dataset)
    if not predictions:
        return {}
    from autoseg.evaluation.scores import evaluate

    judged = [p for p in predictions if p.case in dataset.training]
    found: dict[str, Any] = {"predictions": predictions}
    return found | {"evaluation": evaluate(judged, dataset)} if judged else found


def _predictions_in(folder: Path, dataset: Dataset) -> Predictions:
    from autoseg.data.images import read_label_map
    from autoseg.prediction.inference import Prediction, Predictions

    paths = {case: folder / f"{case.name}{case.file_ending}" for case in (*dataset.training, *dataset.test)}
    maps = {case: _there(lambda path=path: read_label_map(path, dataset.labels)) for case, path in paths.items()}
    return Predictions(tuple(Prediction(case=c, label_map=m) for c, m in maps.items() if m is not None))


def _kept_scores(path: Path) -> Evaluation:
    """What `Evaluation.to_csv` wrote."""
    import pandas as pd

    from autoseg.evaluation.metrics import Overlap
    from autoseg.evaluation.scores import Evaluation, Score

    table = pd.read_csv(path, dtype={"case": str, "label": str})
    counts = ("true_positive", "false_positive", "false_negative")
    if not {"case", "label", *counts} <= set(table.columns):
        raise StorageError(
            f"{path} was not written by Evaluation.to_csv: it has the columns {', '.join(table.columns)}."
        )
    rows = zip(*(table[name] for name in ("case", "label", *counts)), strict=True)
    return Evaluation(tuple(Score(c, label, Overlap(int(tp), int(fp), int(fn), 0)) for c, label, tp, fp, fn in rows))
