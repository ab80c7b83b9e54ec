"""Members that agree give no doubt; what they disagree about is measured and drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from models import random_model

import autoseg
from autoseg.core.errors import PredictionError
from autoseg.data.geometry import Grid
from autoseg.data.images import Image
from autoseg.data.labels import Labels
from autoseg.evaluation.doubt import entropy_of, neighbourhood, pairwise_dice

LABELS = Labels({"background": 0, "a": 1, "b": 2})
REGIONS = Labels({"background": 0, "whole": (1, 2), "core": 2}, region_order=(1, 2))
maps = arrays.arrays(np.uint8, (3, 4, 5), elements=st.integers(0, 2))


@pytest.fixture(scope="module")
def model():
    return random_model(mirroring=True)


@pytest.fixture(scope="module")
def image():
    random = np.random.RandomState(0)
    array = random.normal(size=(1, 20, 22, 24)).astype(np.float32)
    return Image(array, Grid.of((20, 22, 24)), random_model().configuration.channels)


def other(model):
    """The same network, with other weights."""
    random = np.random.RandomState(1)
    moved = {n: w + 0.3 * float(random.normal()) * w.abs().mean() for n, w in model.weights.items()}
    return replace(model, weights=moved, fold=1)


@given(maps)
def test_members_that_draw_the_same_do_not_disagree(drawn):
    assert pairwise_dice([drawn] * 3, LABELS) == pytest.approx(1)


@given(maps, maps, maps)
def test_disagreement_does_not_depend_on_the_order_and_is_a_share(first, second, third):
    drawn = [first, second, third]
    found = pairwise_dice(drawn, LABELS)
    assert found == pytest.approx(pairwise_dice(drawn[::-1], LABELS))
    assert 0 <= found <= 1


def test_one_member_has_nobody_to_disagree_with():
    assert np.isnan(pairwise_dice([np.ones((2, 2), int)], LABELS))


def test_entropy_is_zero_where_sure_and_one_for_a_guess():
    sure = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    assert entropy_of(sure, LABELS).tolist() == [[0, 0]]
    assert entropy_of(np.full((3, 2), 1 / 3), LABELS) == pytest.approx(1)
    assert entropy_of(np.array([[0.5], [1.0]]), REGIONS).tolist() == [[1], [0]]


def test_the_neighbourhood_has_a_rim_and_is_everything_where_nothing_is():
    mask = np.zeros((9, 9), bool)
    assert neighbourhood(mask).all()
    mask[4, 4] = True
    assert neighbourhood(mask, 2).sum() == 25


def test_the_same_model_twice_does_not_disagree(model, image):
    (found,) = autoseg.uncertainty([model, model], image, show_progress=False)
    assert found.disagreement == pytest.approx(0, abs=1e-6)
    assert found.mutual_information == pytest.approx(0, abs=1e-5)
    assert found.entropy > 0


def test_the_map_is_on_the_cases_grid_and_other_weights_disagree(model, image):
    (found,) = autoseg.uncertainty([model, other(model)], image, show_progress=False)
    assert found.map.shape == image.grid.shape == found.label_map.array.shape
    assert found.map.min() >= 0 and found.map.max() <= 1.001
    assert found.members == ("fold 0", "fold 1")
    assert found.value == found.disagreement > 0
    predicted = autoseg.predict([model, model], image, show_progress=False)[0]
    (same,) = autoseg.uncertainty([model, model], image, show_progress=False)
    assert (same.label_map.array == predicted.label_map.array).mean() > 0.999


def test_members_can_be_mirror_images_or_all_apart(model, image):
    (mirrored,) = autoseg.uncertainty(model, image, show_progress=False)
    assert len(mirrored.members) == 8 and mirrored.disagreement > 0
    assert "mirrored along the first and second axis" in mirrored.members
    (both,) = autoseg.uncertainty([model, other(model)], image, members="both", show_progress=False)
    assert len(both.members) == len(set(both.members)) == 16
    mean = autoseg.predict(model, image, show_progress=False)[0].label_map.array
    assert (mirrored.label_map.array == mean).mean() > 0.95  # mean of probabilities here, of logits there


def test_a_model_that_may_not_be_mirrored_says_what_the_number_then_is(image):
    (alone,) = autoseg.uncertainty(random_model(mirroring=False), image, show_progress=False)
    assert np.isnan(alone.disagreement) and alone.value == alone.entropy
    assert "nobody to disagree with" in alone.meaning


def test_cases_are_ranked(model, image):
    quiet = Image(np.zeros_like(image.array), image.grid, image.channels)
    found = autoseg.uncertainty([model, other(model)], [image, quiet], show_progress=False)
    values = [found.by_case[name] for name in found.most()]
    assert values == sorted(values, reverse=True)
    assert found.table()["case"].tolist() == list(found.most())
    assert "Look at these first" in found._repr_html_()
    assert "a guess among all classes" in found[0]._repr_html_()


def test_bad_input_is_named(model, image):
    with pytest.raises(PredictionError, match="members='folds' is not known"):
        autoseg.uncertainty(model, image, members="folds")
    with pytest.raises(PredictionError, match="there are no cases"):
        autoseg.uncertainty(model, [])
    with pytest.raises(PredictionError, match="no model was given"):
        autoseg.uncertainty([], image)
    stage = replace(model, configuration=replace(model.configuration, name="3d_cascade", previous_stage="3d_fullres"))
    with pytest.raises(PredictionError, match="stages of a cascade"):
        autoseg.uncertainty(
            [replace(model, configuration=replace(model.configuration, name="3d_fullres")), stage], image
        )
