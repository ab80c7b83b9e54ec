"""Empirical decisions: which configuration or pair of them, and whether small islands are taken away.

Source: Isensee et al. 2021, Methods, 'Empirical parameters'; nnU-Net 2.8 ``find_best_configuration`` and
``determine_postprocessing``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from autoseg.core.decisions import Attempt, Decision
from autoseg.core.errors import EvaluationError
from autoseg.core.shown import Shown
from autoseg.core.types import PathLike
from autoseg.data.dataset import Dataset
from autoseg.evaluation.scores import Evaluation, evaluate
from autoseg.planning.plan import Plan
from autoseg.prediction.inference import Prediction, Predictions, predict
from autoseg.prediction.postprocessing import Postprocessing
from autoseg.preprocessing.cases import label_map_of
from autoseg.preprocessing.store import preprocess
from autoseg.training.blueprint import Blueprint
from autoseg.training.model import TrainedModel
from autoseg.training.running import train

FOLDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossValidation(Shown):
    """One configuration: a model for each fold, and their predictions of the cases they never saw."""

    configuration: str
    folds: tuple[int, ...]
    models: tuple[TrainedModel, ...]
    predictions: Predictions
    evaluation: Evaluation

    def __repr__(self) -> str:
        weak = "" if len(self.folds) >= FOLDS else f"; {len(self.folds)} of {FOLDS} folds: this estimate is weak"
        return f"CrossValidation({self.configuration!r}: mean Dice {self.evaluation.mean:.4f}{weak})"


def cross_validate(
    dataset: Dataset,
    plan: Plan,
    configurations: Sequence[str] = ("2d", "3d_fullres"),
    *,
    folds: Sequence[int] = range(FOLDS),
    blueprint: Blueprint | None = None,
    folder: PathLike | None = None,
    show_progress: bool = True,
) -> tuple[CrossValidation, ...]:
    """Train each configuration on each fold, and predict the cases that each model never saw.

    With a `folder`, what is finished there is not computed again, so a stopped call goes on.
    """
    runs = []
    for name in configurations:
        prepared = preprocess(dataset, plan[name], folder=folder, show_progress=show_progress)
        models: list[TrainedModel] = []
        predictions: list[Prediction] = []
        for fold in folds:
            training = train(prepared, fold=fold, blueprint=blueprint, folder=folder, show_progress=show_progress)
            models.append(training.model)
            held_out = dataset.fold(fold).validation
            predictions += predict(training.model, held_out, show_progress=show_progress)
        found = Predictions(tuple(predictions))
        runs.append(
            CrossValidation(
                configuration=name,
                folds=tuple(folds),
                models=tuple(models),
                predictions=found,
                evaluation=evaluate(found, dataset),
            )
        )
    return tuple(runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice(Shown):
    """What to predict with: the models of one configuration or two, and the postprocessing; each with its reason."""

    configurations: tuple[str, ...]
    models: tuple[tuple[TrainedModel, ...], ...]
    postprocessing: Postprocessing
    evaluation: Evaluation
    decisions: tuple[Decision, ...]

    def predict(self, what: Any, **options: Any) -> Predictions:
        """Predict new images with all models, averaged, and postprocess."""
        return self.postprocessing(predict_together(self.models, what, **options))

    def __repr__(self) -> str:
        return f"Choice({' + '.join(self.configurations)}: mean Dice {self.evaluation.mean:.4f})\n" + "\n".join(
            f"  {d.name}: {d.reason}" for d in self.decisions
        )


def choose_best(runs: Sequence[CrossValidation], dataset: Dataset, *, show_progress: bool = True) -> Choice:
    """The configuration, or the pair of them, with the highest mean Dice; then nnU-Net's rule for postprocessing.

    Pairs average the probabilities of the models that did not see a case, computed here again. Raises
    `EvaluationError` where the runs do not cover the same cases.
    """
    if not runs:
        raise EvaluationError("there are no runs to choose from. Pass what cross_validate returned.")
    if len({frozenset(run.evaluation.cases) for run in runs}) > 1:
        raise EvaluationError("the runs were judged on different cases. Train all configurations on the same folds.")
    candidates: list[tuple[tuple[CrossValidation, ...], Predictions, Evaluation]] = [
        ((run,), run.predictions, run.evaluation) for run in runs
    ]
    for pair in combinations(runs, 2):
        found = Predictions(tuple(_held_out(pair, dataset, show_progress=show_progress)))
        candidates.append((pair, found, evaluate(found, dataset)))
    best = max(candidates, key=lambda candidate: candidate[2].mean)  # of equals the first, a single one
    folds = len(runs[0].folds)
    weak = "" if folds >= FOLDS else f"; from {folds} of {FOLDS} folds, so this is weak"
    which = Decision(
        name="configuration",
        value=_names(best[0]),
        kind="empirical",
        reason=f"{' + '.join(_names(best[0]))} has the highest mean Dice, {best[2].mean:.4f}{weak}",
        tried=tuple(
            Attempt(" + ".join(_names(c)), "highest" if c is best[0] else "lower", {"mean Dice": e.mean}, c is best[0])
            for c, _, e in candidates
        ),
        source="Isensee et al. 2021, Methods, 'Empirical parameters'",
    )
    rule, decision = choose_postprocessing(best[1], dataset)
    return Choice(
        configurations=_names(best[0]),
        models=tuple(run.models for run in best[0]),
        postprocessing=rule,
        evaluation=evaluate(rule(best[1]), dataset),
        decisions=(which, decision),
    )


def _names(runs: Iterable[CrossValidation]) -> tuple[str, ...]:
    return tuple(run.configuration for run in runs)


def _held_out(runs: Sequence[CrossValidation], dataset: Dataset, *, show_progress: bool) -> Iterator[Prediction]:
    """Each validation case, predicted by the models of all runs that did not see it."""
    for number, fold in enumerate(runs[0].folds):
        models = [(run.models[number],) for run in runs]
        yield from predict_together(models, dataset.fold(fold).validation, show_progress=show_progress)


def predict_together(models: Sequence[Sequence[TrainedModel]], what: Any, **options: Any) -> Predictions:
    """The mean probabilities of several configurations, decoded; the models of each are averaged as logits first.

    One case is held at a time. Source: nnU-Net 2.8 ``ensemble_folders``.
    """
    if len(models) == 1:
        return predict(list(models[0]), what, **options)
    cases = what if isinstance(what, list | tuple) else [what]
    done = []
    for case in what.test if isinstance(what, Dataset) else cases:
        each = [predict(list(group), case, probabilities=True, **options)[0] for group in models]
        mean = np.mean([p.probabilities for p in each if p.probabilities is not None], axis=0)
        label_map = label_map_of(mean, each[0].label_map.grid, each[0].label_map.labels)
        done.append(replace(each[0], label_map=label_map, probabilities=mean, seconds=sum(p.seconds for p in each)))
    return Predictions(tuple(done))


def choose_postprocessing(predictions: Predictions, dataset: Dataset) -> tuple[Postprocessing, Decision]:
    """Keep only the largest component, of all foreground and then of each label, where that raises the Dice."""
    labels = dataset.labels
    rule, before = Postprocessing(), evaluate(predictions, dataset)
    start, tried = before.mean, []
    whole = Postprocessing((labels.foreground,))
    after = evaluate(whole(predictions), dataset)
    kept = after.mean > before.mean and not any(after.by_label[n] < before.by_label[n] for n in before.by_label)
    tried.append(_attempt("all foreground", before.mean, after.mean, kept=kept))
    if kept:
        rule, before = whole, after
    for name, values in labels.regions.items() if len(labels.regions) > 1 else ():
        more = Postprocessing((*rule.steps, values))
        after = evaluate(more(predictions), dataset)
        kept = after.by_label[name] > before.by_label[name]
        tried.append(_attempt(name, before.by_label[name], after.by_label[name], kept=kept))
        if kept:
            rule, before = more, after
    helped = [a.value for a in tried if a.accepted]
    reason = (
        f"keeping only the largest component of {', '.join(helped)} raises the mean Dice "
        f"from {start:.4f} to {before.mean:.4f}"
        if helped
        else "keeping only the largest component of anything raises no Dice"
    )
    return rule, Decision(
        name="postprocessing",
        value=rule.steps,
        kind="empirical",
        reason=reason,
        tried=tuple(tried),
        source="nnU-Net determine_postprocessing",
    )


def _attempt(name: str, before: float, after: float, *, kept: bool) -> Attempt:
    return Attempt(name, "raises the Dice" if kept else "does not help", {"before": before, "after": after}, kept)
