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
    found: dict[str, Any] = {}
    unread: list[str] = []
    for name, load in (("fingerprint", Fingerprint.load), ("plan", Plan.load)):
        path = folder / f"{name}.json"
        try:
            found |= {name: load(path)} if path.exists() else {}
        except (AutosegError, OSError) as error:  # a page that leaves a stage out says so
            unread.append(f"{path.name} is left out: {error}")
    found |= _run_in(folder)
    found |= _results_in(folder, dataset)
    if not found:
        raise StorageError(
            f"{folder} holds no experiment: neither fingerprint.json nor plan.json, runs or predictions. "
            "Give the folder that `autoseg demo --out` or `preprocess(folder=...)` wrote to."
            + "".join(f" {sentence}" for sentence in unread)
        )
    found["unread"] = tuple(unread)
    return found if dataset is None else {"dataset": dataset, **found}


def _there(read: Any) -> Any:
    """A stage, or None where it was not reached or cannot be read back: a report tells what there is."""
    try:
        return read()
    except (AutosegError, OSError):
        return None


def _run_in(folder: Path) -> dict[str, Any]:
    """The latest training of any configuration and fold, and the data it was trained on.

    Of one that is not finished the history, read from its checkpoint: another process may be at it.
    """
    from autoseg.training.checkpoints import Checkpoint, Run
    from autoseg.training.model import TrainedModel

    runs = sorted(folder.glob("runs/*/fold_*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in runs:
        run = _there(lambda path=path: Run.read(path))
        training: Any = _there(lambda path=path: TrainedModel.load(path))
        if training is None and run is not None:
            kept = _there(lambda path=path, run=run: Checkpoint.read(path, run.key))
            training = kept and kept.progress.history
        if training is None:
            continue
        prepared = None if run is None else _there(partial(run.prepared.open, folder))
        return {"training": training} if prepared is None else {"prepared": prepared, "training": training}
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
