"""Lesions are matched one to one, and what is left over was missed or made up."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays
from making import make_dataset

import autoseg
from autoseg.core.errors import EvaluationError
from autoseg.data.geometry import Grid
from autoseg.data.images import LabelMap
from autoseg.evaluation.lesions import LesionCounts, count_lesions
from autoseg.prediction.inference import Prediction

masks = arrays.arrays(bool, (6, 7))


def boxes(*corners, size=3, shape=(30, 30)):
    mask = np.zeros(shape, bool)
    for row, column in corners:
        mask[row : row + size, column : column + size] = True
    return mask


@given(masks)
def test_a_mask_finds_all_of_its_own_lesions(mask):
    counts = count_lesions(mask, mask)
    assert (counts.missed, counts.false) == (0, 0)
    assert counts.f1 == 1 or not mask.any()


@given(masks, masks)
def test_exchanging_the_masks_exchanges_missed_and_false(first, second):
    one, two = count_lesions(first, second), count_lesions(second, first)
    assert (one.found, one.missed, one.false) == (two.found, two.false, two.missed)


@given(masks, masks)
def test_a_higher_threshold_never_finds_more(predicted, reference):
    found = [count_lesions(predicted, reference, iou=t).found for t in (0, 0.1, 0.5, 1)]
    assert found == sorted(found, reverse=True)


def test_shapes_are_counted():
    reference = boxes((2, 2), (2, 12), (20, 20))
    predicted = boxes((3, 3), (2, 12), (12, 2), (12, 22))
    counts = count_lesions(predicted, reference)
    assert counts == LesionCounts(found=2, missed=1, false=2)
    assert counts.sensitivity == pytest.approx(2 / 3)
    assert counts.precision == 0.5
    assert counts.f1 == pytest.approx(4 / 7)


def test_the_threshold_decides_about_a_corner():
    reference, predicted = boxes((2, 2)), boxes((4, 4))  # one voxel of 17
    assert count_lesions(predicted, reference).found == 0
    assert count_lesions(predicted, reference, iou=0).found == 1


def test_one_prediction_over_two_lesions_finds_one():
    assert count_lesions(boxes((2, 2), size=10), boxes((3, 3), (3, 8)), iou=0) == LesionCounts(
        found=1, missed=1, false=0
    )


def test_nothing_in_both_is_not_a_number():
    nothing = np.zeros((4, 4), bool)
    counts = count_lesions(nothing, nothing)
    assert math.isnan(counts.f1) and math.isnan(counts.sensitivity)
    assert count_lesions(boxes((2, 2)), boxes(), iou=0).false == 1
    with pytest.raises(EvaluationError, match="iou=1.5 is not between 0 and 1"):
        count_lesions(nothing, nothing, iou=1.5)


def test_all_cases_are_one_table_like_that_of_the_surfaces(tmp_path):
    dataset = autoseg.open_dataset(make_dataset(tmp_path, cases=2, shape=(16, 20, 24)))
    perfect = [Prediction(case=case, label_map=case.label()) for case in dataset]
    array = perfect[1].label_map.array.copy()
    array[:2, :2, :2] = 2
    table = autoseg.lesion_table(
        [perfect[0], replace(perfect[1], label_map=replace(perfect[1].label_map, array=array))], dataset
    )
    surfaces = autoseg.surface_table(perfect, dataset)
    assert table[["case", "label"]].equals(surfaces[["case", "label"]])
    assert table["false"].tolist() == [0, 0, 0, 1]
    assert table["sensitivity"].tolist() == [1, 1, 1, 1]
    other = LabelMap(np.zeros((3, 3, 3), np.uint8), Grid.of((3, 3, 3)), dataset.labels)
    with pytest.raises(EvaluationError, match="Predict on the image that belongs"):
        autoseg.lesion_table([replace(perfect[0], label_map=other)], dataset)
