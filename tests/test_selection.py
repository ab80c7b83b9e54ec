"""Configurations are compared on cases their models never saw; islands go where that helps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from making import make_dataset

import autoseg
from autoseg.core.errors import EvaluationError
from autoseg.data.images import LabelMap, read_label_map
from autoseg.evaluation.selection import choose_postprocessing
from autoseg.prediction.inference import Prediction, Predictions
from autoseg.prediction.postprocessing import Postprocessing, keep_largest

SHAPE = (16, 20, 24)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return autoseg.open_dataset(make_dataset(tmp_path_factory.mktemp("data"), cases=5, shape=SHAPE))


def with_islands(dataset, island):
    """The reference of every case, with a small extra piece of a label."""
    made = []
    for case in dataset:
        truth = case.label()
        array = truth.array.copy()
        array[0, 0, 0:2] = island
        made.append(Prediction(case=case, label_map=LabelMap(array, truth.grid, truth.labels)))
    return Predictions(tuple(made))


def test_islands_of_the_foreground_go_and_the_reason_says_so(dataset):
    predictions = with_islands(dataset, island=2)
    rule, decision = choose_postprocessing(predictions, dataset)
    assert rule.steps == ((1, 2),)
    assert decision.kind == "empirical"
    assert [a.accepted for a in decision.tried] == [True, False, False]
    assert "largest component of all foreground raises the mean Dice from 0." in decision.reason
    assert autoseg.evaluate(rule(predictions), dataset).mean == 1


def test_nothing_is_done_where_nothing_helps(dataset):
    perfect = Predictions(tuple(Prediction(case=c, label_map=c.label()) for c in dataset))
    rule, decision = choose_postprocessing(perfect, dataset)
    assert rule.steps == ()
    assert "raises no Dice" in decision.reason


def test_a_label_alone_is_cleaned_where_it_touches_another(dataset):
    made = []
    for prediction in with_islands(dataset, island=0):
        array = prediction.label_map.array.copy()
        outer = np.argwhere(array == 1)[0]
        array[tuple(outer)] = 2  # an island of the lesion on the organ's surface: part of the whole foreground
        made.append(replace(prediction, label_map=replace(prediction.label_map, array=array)))
    rule, decision = choose_postprocessing(Predictions(tuple(made)), dataset)
    assert rule.steps == ((2,),)
    assert [a.value for a in decision.tried if a.accepted] == ["lesion"]


def test_components_that_touch_at_a_corner_are_one_and_equal_ones_all_stay():
    corner = np.array([[1, 0], [0, 1]])
    assert (keep_largest(corner, [1]) == corner).all()
    equal = np.array([[1, 0, 1]])
    assert (keep_largest(equal, [1]) == equal).all()


@pytest.fixture(scope="module")
def runs(dataset):
    plan = autoseg.make_plan(autoseg.extract_fingerprint(dataset, show_progress=False))
    blueprint = autoseg.Blueprint.quick(minutes=1).changed(
        epochs=2, minutes=None, iterations_per_epoch=4, validation_iterations=1, base_features=4
    )
    return autoseg.cross_validate(
        dataset, plan, ["2d", "3d_fullres"], folds=[0, 1], blueprint=blueprint, show_progress=False
    )


def test_each_case_is_judged_by_a_model_that_did_not_see_it(dataset, runs):
    expected = [c.name for fold in (0, 1) for c in dataset.fold(fold).validation]
    assert [run.configuration for run in runs] == ["2d", "3d_fullres"]
    assert all([p.case.name for p in run.predictions] == expected for run in runs)
    assert "2 of 5 folds: this estimate is weak" in repr(runs[0])


def test_the_best_is_chosen_among_single_ones_and_their_pair_and_can_predict(dataset, runs):
    choice = autoseg.choose_best(runs, dataset, show_progress=False)
    configuration, postprocessing = choice.decisions
    scores = {a.value: a.numbers["mean Dice"] for a in configuration.tried}
    assert list(scores) == ["2d", "3d_fullres", "2d + 3d_fullres"]
    assert [a.value for a in configuration.tried if a.accepted] == [" + ".join(choice.configurations)]
    assert max(scores.values()) == scores[" + ".join(choice.configurations)]
    assert choice.evaluation.mean >= max(scores.values()) or not postprocessing.value
    (prediction,) = choice.predict(dataset[0], show_progress=False)
    assert prediction.label_map.array.shape == SHAPE


def test_runs_know_what_they_were_judged_on(dataset, runs):
    choice, same = (autoseg.choose_best(runs, *given, show_progress=False) for given in ((), (dataset,)))
    assert choice.decisions == same.decisions


def test_what_is_written_is_postprocessed_too(dataset, runs, tmp_path):
    choice = autoseg.choose_best(runs, dataset, show_progress=False)
    rule = Postprocessing((dataset.labels.foreground,))
    choice = replace(choice, postprocessing=rule)
    (found,) = choice.predict(dataset[0], folder=tmp_path, show_progress=False)
    written = read_label_map(tmp_path / f"{dataset[0].name}.nii.gz", dataset.labels)
    (plain,) = replace(choice, postprocessing=Postprocessing()).predict(dataset[0], show_progress=False)
    assert (written.array == found.label_map.array).all()
    assert (rule.of(plain.label_map).array == written.array).all()


def test_runs_on_different_cases_are_refused(dataset, runs):
    fewer = replace(runs[0], evaluation=autoseg.evaluate(list(runs[0].predictions)[:1], dataset))
    with pytest.raises(EvaluationError, match="judged on different cases"):
        autoseg.choose_best([fewer, runs[1]], dataset)
    with pytest.raises(EvaluationError, match="no runs to choose from"):
        autoseg.choose_best([], dataset)


def few_cases():
    dataset = autoseg.sample_dataset("few_cases")
    return dataset, autoseg.make_plan(autoseg.extract_fingerprint(dataset, show_progress=False))


def test_all_folds_of_four_cases_are_four():
    tiny = autoseg.Blueprint.quick(minutes=1).changed(
        epochs=1, minutes=None, iterations_per_epoch=1, validation_iterations=1, base_features=4, batch_size=2
    )
    (run,) = autoseg.cross_validate(*few_cases(), ["2d"], blueprint=tiny, show_progress=False)
    assert (run.folds, run.covered) == ((0, 1, 2, 3), "")
    assert "weak" not in repr(run)
    assert "from" not in autoseg.choose_best([run], show_progress=False).decisions[0].reason


@pytest.mark.parametrize("folds", [[9], [0, 4], 7, [], [0, 0], ["0"], "all"])
def test_folds_that_are_not_there_are_named_before_anything_is_trained(folds, monkeypatch):
    monkeypatch.delattr("autoseg.evaluation.selection.preprocess")
    with pytest.raises(EvaluationError, match=r"folds=.*: the dataset has 4 folds, 0 to 3\. Give some of them"):
        autoseg.cross_validate(*few_cases(), ["2d"], folds=folds, show_progress=False)
