"""Scores follow nnU-Net's conventions."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays

import autoseg
from autoseg.core.errors import EvaluationError
from autoseg.data.geometry import Grid
from autoseg.data.images import LabelMap
from autoseg.data.labels import Labels
from autoseg.evaluation.metrics import overlap
from autoseg.evaluation.scores import Evaluation, Score, evaluate, score_case
from autoseg.prediction.inference import Prediction

LABELS = Labels({"background": 0, "a": 1, "b": 2})
masks = arrays.arrays(bool, (4, 5))


def label_map(values, labels=LABELS):
    array = np.array(values)
    return LabelMap(array, Grid.of(array.shape), labels)


@given(masks, masks)
def test_counts_add_up_and_dice_follows_from_iou(predicted, reference):
    o = overlap(predicted, reference)
    assert o.true_positive + o.false_positive + o.false_negative + o.true_negative == predicted.size
    if o.predicted + o.present:
        assert o.dice == pytest.approx(2 * o.iou / (1 + o.iou))
        assert 0 <= o.iou <= o.dice <= 1


@given(masks)
def test_a_mask_agrees_with_itself(mask):
    assert overlap(mask, mask).dice == 1 or not mask.any()


def test_a_label_in_neither_is_not_a_number_and_in_one_is_zero():
    first, second = score_case("x", label_map([[0, 1]]), label_map([[0, 0]]))
    assert first.dice == 0
    assert math.isnan(second.dice)


def test_ignored_voxels_do_not_count():
    labels = Labels({"background": 0, "a": 1}, ignore=2)
    (score,) = score_case("x", label_map([[1, 1, 1]], labels), label_map([[1, 2, 0]], labels))
    assert (score.overlap.true_positive, score.overlap.false_positive, score.overlap.predicted) == (1, 1, 2)


def test_regions_are_judged_as_unions():
    labels = Labels({"background": 0, "whole": (1, 2), "core": 2}, region_order=(1, 2))
    whole, core = score_case("x", label_map([[1, 2]], labels), label_map([[2, 2]], labels))
    assert (whole.label, whole.dice) == ("whole", 1)
    assert core.dice == pytest.approx(2 / 3)


def test_the_mean_is_over_labels_of_means_over_cases():
    def score(case, label, predicted, reference):
        return Score(case, label, overlap(np.array(predicted, bool), np.array(reference, bool)))

    evaluation = Evaluation(
        (score("x", "a", [1], [1]), score("y", "a", [1], [0]), score("x", "b", [1], [1]), score("y", "b", [0], [0]))
    )
    assert evaluation.by_label == {"a": 0.5, "b": 1.0}
    assert evaluation.mean == 0.75
    assert evaluation.worst(1) == ("y",)
    assert list(evaluation.table().columns[:4]) == ["case", "label", "dice", "iou"]


def test_a_prediction_on_another_grid_is_refused():
    with pytest.raises(EvaluationError, match="'x': the prediction is 1x2 voxels but the reference 1x3"):
        score_case("x", label_map([[0, 1]]), label_map([[0, 1, 0]]))


def test_a_single_prediction_is_evaluated_as_one():
    case = autoseg.sample_dataset()[0]
    found = evaluate(Prediction(case=case, label_map=case.label()), autoseg.sample_dataset())
    assert (found.mean, found.cases) == (1.0, (case.name,))


def test_two_predictions_of_one_case_are_not_averaged():
    case = autoseg.sample_dataset()[0]
    with pytest.raises(EvaluationError, match=f"case '{case.name}' has 2 predictions"):
        evaluate([Prediction(case=case, label_map=case.label())] * 2, autoseg.sample_dataset())


@pytest.mark.parametrize("what", [label_map([[0, 1]]), [label_map([[0, 1]])], [np.zeros((1, 2))], np.zeros((2, 2))])
def test_what_does_not_say_its_case_is_named(what):
    with pytest.raises(EvaluationError, match="does not say which case it predicts. Give what predict"):
        evaluate(what, None)


@pytest.mark.parametrize(("wrong", "named"), [(7, "7"), (np.nan, "nan")])
def test_predicted_values_that_no_label_has_are_named(wrong, named):
    predicted = replace(label_map([[0, 1, 0]]), array=np.array([[0, wrong, 0]]))
    with pytest.raises(EvaluationError, match=rf"'x': 1 voxels of the prediction hold values .* \({named}\)"):
        score_case("x", predicted, label_map([[0, 1, 0]]))


def test_nothing_to_evaluate_is_said():
    with pytest.raises(EvaluationError, match="no predictions"):
        evaluate([], None)


def test_what_holds_no_predictions_cannot_be_written_as_a_summary(tmp_path):
    with pytest.raises(EvaluationError, match="holds no predictions"):
        Evaluation(()).to_json(tmp_path / "summary.json")
