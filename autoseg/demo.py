"""The whole method in one call: from a dataset to scores and a report, in one folder, a stage at a time.

Every stage keeps its result in the folder, so the same call goes on where an earlier one was stopped or killed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import autoseg
from autoseg.core.types import PathLike

if TYPE_CHECKING:
    from autoseg.data.dataset import Dataset
    from autoseg.evaluation.scores import Evaluation
    from autoseg.planning.configuration import Configuration
    from autoseg.planning.plan import Plan
    from autoseg.training.loop import Training

CHECKPOINT_SECONDS = 15.0  # a demo is minutes long: little may be lost
FOLD = 0


def run_demo(
    dataset: Dataset, folder: PathLike, *, minutes: float = 2.0, say: Callable[[str], None] = lambda text: None
) -> Evaluation:
    """Run every stage with `minutes` of training, and leave the results in a folder.

    The folder holds ``fingerprint.json``, ``plan.json``, ``preprocessed/``, ``runs/`` with the model,
    ``predictions/``, ``evaluation.csv`` and ``report.html``. `say` is told about each stage. Raises `KeyboardInterrupt`
    where training was interrupted, and what the stages raise.
    """
    folder = Path(folder)
    say(f"1/7 The dataset\n{dataset!r}")
    fingerprint = autoseg.extract_fingerprint(dataset, folder=folder)
    say(f"2/7 Its fingerprint\n{fingerprint!r}")
    plan = autoseg.make_plan(fingerprint)
    plan.save(folder / "plan.json")
    say(f"3/7 The plan\n{plan!r}")
    prepared = autoseg.preprocess(dataset, best_start(plan), folder=folder)
    say(f"4/7 Preprocessing\n{prepared!r}")
    training = autoseg.Training(prepared, fold=FOLD, blueprint=autoseg.Blueprint.quick(minutes=minutes))
    training.checkpoint_seconds = CHECKPOINT_SECONDS
    train_to_end(training)
    say(f"5/7 Training\n{training!r}")
    predictions = autoseg.predict(training.model, dataset.fold(FOLD).validation, folder=folder / "predictions")
    say(f"6/7 Predictions\n{predictions!r}")
    evaluation = autoseg.evaluate(predictions, dataset)
    evaluation.to_csv(folder / "evaluation.csv")
    autoseg.report(
        folder / "report.html",
        dataset=dataset,
        fingerprint=fingerprint,
        plan=plan,
        prepared=prepared,
        training=training,
        predictions=predictions,
        evaluation=evaluation,
    )
    say(f"7/7 Evaluation on the validation cases of fold {FOLD}\n{evaluation!r}")
    return evaluation


def best_start(plan: Plan) -> Configuration:
    """The configuration to begin with: full resolution in 3D where there is one, else 2D."""
    return plan["3d_fullres" if "3d_fullres" in plan else "2d"]


def train_to_end(training: Training) -> None:
    """Train with a progress bar. Ctrl-C keeps what was learned and is passed on: nothing may go on without the rest."""
    from autoseg.training.live import progress_bar

    with progress_bar(training, show_progress=training.team.leads) as show:
        for record in training:
            show(record)
