"""Empirical decisions: which configuration or pair of them, and whether small islands are taken away.

Source: Isensee et al. 2021, Methods, 'Empirical parameters'; nnU-Net 2.8 ``find_best_configuration`` and
``determine_postprocessing``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from autoseg.core.cluster import on_workers, shared_folder
from autoseg.core.decisions import Attempt, Decision
from autoseg.core.errors import EvaluationError, PredictionError
from autoseg.core.kinds import require
from autoseg.core.numbers import is_whole
from autoseg.core.shown import Shown
from autoseg.core.types import LabelArray, PathLike
from autoseg.data.dataset import Dataset
from autoseg.evaluation.scores import Evaluation, evaluate
from autoseg.planning.plan import Plan
from autoseg.prediction.inference import Prediction, Predictions, predict, predict_together
from autoseg.prediction.postprocessing import Postprocessing
from autoseg.preprocessing.store import PreprocessedDataset, preprocess
from autoseg.training.blueprint import Blueprint
from autoseg.training.cascade import previous_stage
from autoseg.training.model import TrainedModel
from autoseg.training.running import train


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossValidation(Shown):
    """One configuration: a model for each fold, and their predictions of the cases they never saw.

    Of a cascade, `previous` holds the models of its first stage, one for each fold too.
    """

    configuration: str
    folds: tuple[int, ...]
    models: tuple[TrainedModel, ...]
    predictions: Predictions
    evaluation: Evaluation
    dataset: Dataset
    previous: tuple[TrainedModel, ...] = ()

    @property
    def together(self) -> tuple[TrainedModel, ...]:
        """All models, to predict new cases with: ``autoseg.predict(run.together, case)``."""
        return (*self.previous, *self.models)

    def of_fold(self, fold: int) -> tuple[TrainedModel, ...]:
        """The models that did not see the validation cases of a fold."""
        number = self.folds.index(fold)
        return (*self.previous[number : number + 1], self.models[number])

    @property
    def covered(self) -> str:
        """How many of all folds there are, in words; empty where none is missing."""
        done, there = len(self.folds), len(self.dataset.folds)
        return "" if done >= there else f"{done} of {there} folds"

    def __repr__(self) -> str:
        weak = f"; {self.covered}: this estimate is weak" if self.covered else ""
        return f"CrossValidation({self.configuration!r}: mean Dice {self.evaluation.mean:.4f}{weak})"


def cross_validate(
    dataset: Dataset,
    plan: Plan,
    configurations: Sequence[str] = ("2d", "3d_fullres"),
    *,
    folds: Sequence[int] | None = None,
    blueprint: Blueprint | None = None,
    folder: PathLike | None = None,
    client: Any = None,
    show_progress: bool = True,
) -> tuple[CrossValidation, ...]:
    """Train each configuration on each fold, or on some `folds`, and predict the cases that each model never saw.

    With a `folder`, what is finished there is not computed again, so a stopped call goes on. A cascade learns from what
    its first stage predicts for cases that it did not see, so all folds of the first stage are trained for it.

    With a `client` of ``dask.distributed``, cases and folds are tasks for its workers, and the folder one that they all
    see. A training holds a GPU where workers declare some; one whose worker died goes on from its last checkpoint.

    >>> quick = training.blueprint
    >>> autoseg.cross_validate(dataset, plan, ["2d"], folds=[0], blueprint=quick, folder="work", show_progress=False)
    (CrossValidation('2d': mean Dice ...; 1 of 5 folds: this estimate is weak),)
    """
    require(dataset, Dataset, EvaluationError)
    require(plan, Plan, EvaluationError)
    folds = _numbers(folds, len(dataset.folds))
    if client is not None:
        folder = shared_folder(folder, "cross_validate")
    training = _Folds(dataset, plan, blueprint, folder, show_progress)
    if client is not None:
        training.ahead(client, configurations, folds)
        training = replace(training, show_progress=False)  # what is left is reading what the workers made
    return tuple(training.judged(name, folds) for name in configurations)


def _numbers(folds: Any, there: int) -> tuple[int, ...]:
    """The folds asked for, all of them where none is given. Raises `EvaluationError` for one that is not there."""
    found = tuple(range(there) if folds is None else folds if isinstance(folds, Iterable) else (folds,))
    wrong = [fold for fold in found if not is_whole(fold) or not 0 <= fold < there]
    if wrong or len(set(found)) < len(found) or not found:
        raise EvaluationError(
            f"folds={folds!r}: the dataset has {there} folds, 0 to {there - 1}. Give some of them, each once, such as "
            "folds=[0], or leave it out to train them all."
        )
    return tuple(int(fold) for fold in found)


def _train_fold(job: tuple[str, int], *, folds: _Folds) -> None:
    """A worker's task: train a fold and predict its cases, into the folder."""
    name, number = job
    folds.fold(name, number, *folds.ready(name))


@dataclass(frozen=True, slots=True)
class _Folds:
    """Trained folds with their predictions of the cases they did not see; each is computed once, whoever asks."""

    dataset: Dataset
    plan: Plan
    blueprint: Blueprint | None
    folder: PathLike | None
    show_progress: bool
    done: dict[tuple[str, int], tuple[TrainedModel, Predictions]] = field(default_factory=dict)

    def ahead(self, client: Any, configurations: Sequence[str], folds: tuple[int, ...]) -> None:
        """Train and predict all folds on the workers of a dask client; what they leave in the folder is found later."""
        from tqdm.auto import tqdm

        first = {stage for name in configurations if (stage := self.plan[name].previous_stage)}
        for name in dict.fromkeys((*sorted(first), *configurations)):
            preprocess(
                self.dataset, self.plan[name], folder=self.folder, client=client, show_progress=self.show_progress
            )
        begin = {(name, k): None for name in sorted(first) for k in range(len(self.dataset.folds))}
        begin |= {(name, k): None for name in configurations for k in folds if not self.plan[name].previous_stage}
        then = [(name, k) for name in configurations for k in folds if self.plan[name].previous_stage]
        quiet = replace(self, show_progress=False)
        for wave in (list(begin), then):  # a cascade waits for all folds of its first stage
            names = [f"train-{name}-fold_{k}" for name, k in wave]
            tasks = on_workers(client, _train_fold, wave, names=names, gpu=True, folds=quiet)
            for _ in tqdm(tasks, total=len(wave), desc="train", unit="fold", disable=not self.show_progress):
                pass

    def judged(self, name: str, folds: tuple[int, ...]) -> CrossValidation:
        """One configuration on some folds."""
        ready, first = self.ready(name), self.plan[name].previous_stage
        trained = [self.fold(name, k, *ready) for k in folds]
        found = Predictions(tuple(p for _, predictions in trained for p in predictions))
        return CrossValidation(
            configuration=name,
            folds=folds,
            models=tuple(model for model, _ in trained),
            predictions=found,
            evaluation=evaluate(found, self.dataset),
            dataset=self.dataset,
            previous=() if first is None else tuple(self.done[first, k][0] for k in folds),
        )

    def ready(self, name: str) -> tuple[PreprocessedDataset, dict[str, LabelArray] | None]:
        """What training reads: the prepared cases, and for a cascade the predictions of its first stage."""
        prepared = preprocess(self.dataset, self.plan[name], folder=self.folder, show_progress=self.show_progress)
        first = self.plan[name].previous_stage
        if first is None:
            return prepared, None
        ready = self.ready(first)
        found = [p for k in range(len(self.dataset.folds)) for p in self.fold(first, k, *ready)[1]]
        return prepared, previous_stage(prepared, {p.case.name: p.label_map for p in found})

    def fold(
        self, name: str, number: int, prepared: PreprocessedDataset, previous: dict[str, LabelArray] | None
    ) -> tuple[TrainedModel, Predictions]:
        """The model of a fold, and its predictions of the cases it did not see. Raises where one is missing."""
        if (name, number) in self.done:
            return self.done[name, number]
        training = train(
            prepared,
            fold=number,
            blueprint=self.blueprint,
            folder=self.folder,
            previous=previous,
            show_progress=self.show_progress,
        )
        if not training.finished and not training.stopped:  # interrupted: what is judged would be half-trained
            raise KeyboardInterrupt
        first = self.plan[name].previous_stage
        models = [training.model] if first is None else [self.done[first, number][0], training.model]
        held_out = self.dataset.fold(number).validation
        kept = None if self.folder is None else Path(self.folder) / "predictions" / name / f"fold_{number}"
        predictions = predict(models, held_out, folder=kept, show_progress=self.show_progress)
        self.done[name, number] = training.model, _complete(predictions)
        return self.done[name, number]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice(Shown):
    """What to predict with: the models of one configuration or two, and the postprocessing; each with its reason."""

    configurations: tuple[str, ...]
    models: tuple[tuple[TrainedModel, ...], ...]
    postprocessing: Postprocessing
    evaluation: Evaluation
    decisions: tuple[Decision, ...]
    covered: str = ""  # how many of all folds chose, where some were missing

    def predict(self, what: Any, **options: Any) -> Predictions:
        """Predict new images with all models, averaged, and postprocess."""
        return predict_together(self.models, what, postprocessing=self.postprocessing, **options)

    def __repr__(self) -> str:
        return f"Choice({' + '.join(self.configurations)}: mean Dice {self.evaluation.mean:.4f})\n" + "\n".join(
            f"  {d.name}: {d.reason}" for d in self.decisions
        )


def choose_best(
    runs: Sequence[CrossValidation], dataset: Dataset | None = None, *, show_progress: bool = True
) -> Choice:
    """The configuration, or the pair of them, with the highest mean Dice; then nnU-Net's rule for postprocessing.

    They are judged on the `dataset` that they were cross-validated on, where no other is given. Pairs average the
    probabilities of the models that did not see a case, computed here again. Raises `EvaluationError` where the runs do
    not cover the same cases.

    >>> quick = training.blueprint
    >>> runs = autoseg.cross_validate(
    ...     dataset, plan, ["2d"], folds=[0], blueprint=quick, folder="work", show_progress=False
    ... )
    >>> autoseg.choose_best(runs, show_progress=False)
    Choice(2d: mean Dice ...)
      configuration: 2d has the highest mean Dice, ...; from 1 of 5 folds, so this is weak
      postprocessing: ...
    """
    if not runs:
        raise EvaluationError("there are no runs to choose from. Pass what cross_validate returned.")
    for run in runs:
        require(run, CrossValidation, EvaluationError)
    dataset = runs[0].dataset if dataset is None else dataset
    if len({frozenset(run.evaluation.cases) for run in runs}) > 1:
        raise EvaluationError("the runs were judged on different cases. Train all configurations on the same folds.")
    candidates: list[tuple[tuple[CrossValidation, ...], Predictions, Evaluation]] = [
        ((run,), run.predictions, run.evaluation) for run in runs
    ]
    for pair in combinations(runs, 2):
        found = Predictions(tuple(_held_out(pair, dataset, show_progress=show_progress)))
        candidates.append((pair, found, evaluate(found, dataset)))
    best = max(candidates, key=lambda candidate: candidate[2].mean)  # of equals the first, a single one
    weak = f"; from {runs[0].covered}, so this is weak" if runs[0].covered else ""
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
        models=tuple(run.together for run in best[0]),
        postprocessing=rule,
        evaluation=evaluate(rule(best[1]), dataset),
        decisions=(which, decision),
        covered=runs[0].covered,
    )


def _names(runs: Iterable[CrossValidation]) -> tuple[str, ...]:
    return tuple(run.configuration for run in runs)


def _held_out(runs: Sequence[CrossValidation], dataset: Dataset, *, show_progress: bool) -> Iterator[Prediction]:
    """Each validation case, predicted by the models of all runs that did not see it."""
    for fold in runs[0].folds:
        models = [run.of_fold(fold) for run in runs]
        yield from _complete(predict_together(models, dataset.fold(fold).validation, show_progress=show_progress))


def _complete(predictions: Predictions) -> Predictions:
    """These predictions, if no case is missing: scores over fewer cases would not compare."""
    if predictions.stopped:
        raise KeyboardInterrupt
    if predictions.failed:
        raise PredictionError(next(iter(predictions.failed.values())))
    return predictions


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
