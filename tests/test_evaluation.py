"""Surfaces in mm, intervals over cases, and nnU-Net's summary."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import ball, make_dataset

import autoseg
from autoseg.core.errors import EvaluationError
from autoseg.data.labels import Labels
from autoseg.evaluation.intervals import bootstrap, compare_evaluations, intervals
from autoseg.evaluation.metrics import Overlap
from autoseg.evaluation.scores import Evaluation, Score
from autoseg.evaluation.summary import summary_of
from autoseg.evaluation.surfaces import surface_distance
from autoseg.prediction.inference import Prediction


def box(start, stop, shape=(20, 20, 20)):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = True
    return mask


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 0.5, 0.7)])
def test_plates_that_are_moved_are_as_far_apart_as_they_were_moved(spacing):
    first, second = box((5, 2, 2), (6, 18, 18)), box((9, 2, 2), (10, 18, 18))
    found = surface_distance(first, second, spacing, tolerance=4 * spacing[0])
    assert found.hd95 == pytest.approx(4 * spacing[0])
    assert found.average == pytest.approx(4 * spacing[0])
    assert found.surface_dice == 1
    assert surface_distance(first, second, spacing, tolerance=3.9 * spacing[0]).surface_dice == 0


def test_the_same_mask_has_no_distance():
    found = surface_distance(ball() > 0, ball() > 0, (1.0, 1.0, 1.0))
    assert (found.hd95, found.average, found.surface_dice) == (0, 0, 1)


def test_empty_masks_follow_the_convention():
    nothing, something = box((0, 0, 0), (0, 0, 0)), box((1, 1, 1), (3, 3, 3))
    assert math.isnan(surface_distance(nothing, nothing, (1, 1, 1)).hd95)
    assert surface_distance(nothing, something, (1, 1, 1)).hd95 == math.inf
    assert surface_distance(something, nothing, (1, 1, 1)).surface_dice == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_the_mean_lies_in_its_interval(values):
    found = bootstrap(values)
    assert found.low - 1e-9 <= found.mean <= found.high + 1e-9
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9


def evaluation(dice):
    """One label; Dice of about these values."""
    scores = [
        Score(n, "organ", Overlap(round(1000 * d), 1000 - round(1000 * d), 1000 - round(1000 * d), 0))
        for n, d in dice.items()
    ]
    return Evaluation(tuple(scores))


def test_two_models_are_compared_case_by_case():
    first = evaluation({f"c{i}": 0.5 + i / 100 for i in range(20)})
    better = evaluation({f"c{i}": 0.6 + i / 100 for i in range(20)})
    found = compare_evaluations(first, better)
    assert found.interval.mean == pytest.approx(0.1, abs=1e-6)
    assert "the second is better" in found.conclusion
    assert "do not tell" in compare_evaluations(first, first).conclusion
    assert intervals(first)["organ"].low < first.mean < intervals(first)["organ"].high
    with pytest.raises(EvaluationError, match="no case in common"):
        compare_evaluations(first, evaluation({"other": 0.5}))


def test_spacings_may_be_whole_numbers():
    cube = np.zeros((12, 12, 12), bool)
    cube[2:6, 2:6, 2:6] = True
    assert surface_distance(cube, np.roll(cube, 3, 0), (2.5, 1, 1)).hd95 == 7.5


@pytest.mark.parametrize("count", [6, 10])
def test_intervals_of_few_cases_hold_the_true_mean_as_often_as_they_say(count):
    random = np.random.RandomState(0)
    found = [bootstrap(random.normal(0.85, 0.05, count)) for _ in range(300)]
    assert np.mean([interval.low <= 0.85 <= interval.high for interval in found]) > 0.92


def test_the_summary_has_nnunets_keys_and_means():
    labels = Labels({"background": 0, "organ": 1})
    found = summary_of(evaluation({"a": 0.5, "b": 1.0}), labels)
    assert found["foreground_mean"]["Dice"] == 0.75
    assert found["mean"]["1"]["Dice"] == 0.75
    assert sorted(found["metric_per_case"][0]["metrics"]["1"]) == [
        "Dice",
        "FN",
        "FP",
        "IoU",
        "TN",
        "TP",
        "n_pred",
        "n_ref",
    ]
    regions = Labels({"background": 0, "whole": (1, 2), "core": 2}, region_order=(1, 2))
    scores = (Score("a", "whole", Overlap(1, 0, 0, 1)), Score("a", "core", Overlap(0, 0, 0, 2)))
    summary = summary_of(Evaluation(scores), regions)
    assert list(summary["mean"]) == ["(1, 2)", "2"]
    assert math.isnan(summary["foreground_mean"]["Dice"]), "as nnU-Net: a label that no case has"


def test_surfaces_and_volumes_of_all_cases_are_one_table(tmp_path):
    dataset = autoseg.open_dataset(make_dataset(tmp_path, cases=2, shape=(16, 20, 24)))
    perfect = [Prediction(case=case, label_map=case.label()) for case in dataset]
    moved = replace(perfect[1].label_map, array=np.roll(perfect[1].label_map.array, 2, axis=2))
    table = autoseg.surface_table([perfect[0], replace(perfect[1], label_map=moved)], dataset)
    assert table["hd95"].tolist()[:2] == [0, 0]
    assert table["surface_dice"].tolist()[:2] == [1, 1]
    assert all(1 < d <= 2 for d in table["hd95"].tolist()[2:])
    assert table["difference_ml"].abs().max() == 0
    assert table["reference_ml"][0] == pytest.approx((dataset[0].label().array == 1).sum() / 1000)


def test_a_picture_has_an_area_and_no_volume():
    dataset = autoseg.dataset_from_arrays([np.zeros((9, 8))] * 2, [np.eye(9, 8, dtype=int)] * 2, spacing=(2, 3))
    table = autoseg.surface_table([Prediction(case=case, label_map=case.label()) for case in dataset], dataset)
    assert table["reference_mm2"].tolist() == [48, 48]
    assert not [column for column in table if column.endswith("_ml")]


@pytest.fixture
def judged(tmp_path):
    dataset = autoseg.open_dataset(make_dataset(tmp_path, cases=2, shape=(16, 20, 24)))
    return dataset, [Prediction(case=case, label_map=case.label()) for case in dataset]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"background": 0, "organ": 2, "lesion": 1}, "'organ' is 2 against 1"),
        ({"background": 0, "organ": 2}, "'organ' is 2 against 1"),
        ({"background": 0, "other": 1}, r"other are \(1,\) against organ, lesion, \(1, 2\)"),
    ],
)
def test_labels_that_mean_something_else_are_not_compared(judged, names, message):
    dataset, perfect = judged
    wrong = [replace(p, label_map=replace(p.label_map, labels=Labels(names))) for p in perfect]
    for judge in (autoseg.evaluate, autoseg.surface_table, autoseg.lesion_table):
        with pytest.raises(EvaluationError, match=message):
            judge(wrong, dataset)


def test_values_of_files_may_differ_and_a_shared_label_is_compared(judged):
    dataset, perfect = judged
    stored = Labels({"background": 0, "organ": 1, "lesion": 2}, file_values=((255, 1),))
    fewer = Labels({"background": 0, "organ": 1})
    for labels in (stored, fewer):
        same = [replace(p, label_map=replace(p.label_map, labels=labels)) for p in perfect]
        assert autoseg.evaluate(same, dataset).by_label["organ"] == 1


def test_a_prediction_that_lies_the_other_way_round_is_not_compared(judged):
    dataset, perfect = judged
    turned = [replace(p, label_map=replace(p.label_map, grid=p.label_map.grid.flip((0,)))) for p in perfect]
    with pytest.raises(EvaluationError, match="lie otherwise in the world, .*lay_labels_on_images"):
        autoseg.evaluate(turned, dataset)


def test_millimetres_need_the_spacing_of_both(judged):
    dataset, perfect = judged
    coarse = [
        replace(p, label_map=replace(p.label_map, grid=replace(p.label_map.grid, spacing=(5.0, 2.0, 2.0))))
        for p in perfect
    ]
    assert autoseg.evaluate(coarse, dataset).mean == 1
    with pytest.raises(EvaluationError, match="lie otherwise in the world, spacing"):
        autoseg.surface_table(coarse, dataset)


def test_arrays_know_no_direction_and_are_compared(judged):
    dataset, perfect = judged
    arrays = autoseg.dataset_from_arrays(
        [case.image().array for case in dataset],
        [case.label().array for case in dataset],
        names=[case.name for case in dataset],
        label_names=dict(dataset.labels.names),
    )
    assert autoseg.evaluate(perfect, arrays).mean == 1
