"""Probabilities that are true have no error; a temperature mends those that are too sure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import make_dataset
from scipy import special

import autoseg
from autoseg.core.errors import EvaluationError
from autoseg.data.labels import Labels
from autoseg.evaluation.calibration import (
    fit_temperature,
    negative_log_likelihood,
    reliability,
    sample,
    tempered,
    truer_temperature,
)
from autoseg.prediction.inference import Prediction

LABELS = Labels({"background": 0, "a": 1, "b": 2})
REGIONS = Labels({"background": 0, "whole": (1, 2), "core": 2}, region_order=(1, 2))


def true_to_their_word(seed, voxels=20_000, classes=3):
    """Logits, and classes drawn with just these probabilities."""
    random = np.random.default_rng(seed)
    logits = 2 * random.normal(size=(voxels, classes))
    cumulated = special.softmax(logits, axis=1).cumsum(axis=1)
    truth = (random.random((voxels, 1)) > cumulated).sum(axis=1)
    return special.log_softmax(logits, axis=1), np.minimum(truth, classes - 1)


@given(st.integers(0, 10**6))
def test_true_probabilities_have_hardly_any_error(seed):
    assert reliability(*true_to_their_word(seed)).ece < 0.02


@given(st.integers(0, 10**6), st.floats(0.3, 3))
def test_the_temperature_that_was_put_in_is_found(seed, factor):
    logarithms, truth = true_to_their_word(seed, voxels=5000)
    sharpened = special.log_softmax(logarithms * factor, axis=1)
    found = fit_temperature(sharpened, truth)
    assert found == pytest.approx(factor, rel=0.12)
    assert negative_log_likelihood(sharpened, truth, found) <= negative_log_likelihood(sharpened, truth) + 1e-6


def test_a_network_that_is_too_sure_is_mended_on_others():
    logarithms, truth = true_to_their_word(0)
    sure = special.log_softmax(3 * logarithms, axis=1)
    before, after = (reliability(sure[::2], truth[::2], temperature=t) for t in (1.0, fit_temperature(sure, truth)))
    assert before.ece > 0.1 and after.ece < 0.02
    assert sum(before.voxels) == len(truth) / 2


def test_a_few_voxels_far_off_do_not_spoil_what_is_well_calibrated():
    fair = np.log([[0.8, 0.2]] * 1000), np.array([0] * 800 + [1] * 200)
    wrong = np.log([[1 - 1e-12, 1e-12]] * 10), np.ones(10, int)
    both = tuple(np.concatenate(pair) for pair in zip(fair, wrong, strict=True))
    assert fit_temperature(*both) > 1.1
    assert truer_temperature(*both) == 1
    sure = np.log([[0.99, 0.01]] * 1000), fair[1]
    assert truer_temperature(*sure) == fit_temperature(*sure) > 1


@pytest.mark.parametrize("labels", [LABELS, REGIONS])
def test_temperature_one_changes_nothing_and_none_changes_the_winner(labels):
    random = np.random.default_rng(0)
    logits = random.normal(size=(labels.outputs, 4, 5, 6))
    probabilities = (special.expit(logits) if labels.has_regions else special.softmax(logits, axis=0)).astype("float32")
    assert tempered(probabilities, labels, 1.0) == pytest.approx(probabilities, abs=1e-6)
    softened = tempered(probabilities, labels, 2.5)
    if labels.has_regions:
        assert ((softened > 0.5) == (probabilities > 0.5)).all()
    else:
        assert (softened.argmax(axis=0) == probabilities.argmax(axis=0)).all()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return autoseg.open_dataset(make_dataset(tmp_path_factory.mktemp("data"), cases=4, shape=(16, 20, 24)))


def sure_of(case, probability=0.9):
    """A prediction that gives the reference this probability everywhere."""
    truth = case.label()
    probabilities = np.full((3, *truth.array.shape), (1 - probability) / 2, np.float32)
    np.put_along_axis(probabilities, truth.array[None].astype(int), probability, axis=0)
    return Prediction(case=case, label_map=truth, probabilities=probabilities)


def test_only_voxels_around_the_foreground_that_somebody_annotated_count(dataset):
    prediction = sure_of(dataset[0])
    logarithms, truth = sample(prediction, np.random.default_rng(0))
    assert 0 < len(truth) < prediction.label_map.array.size
    assert logarithms.shape == (len(truth), 3)
    assert reliability(logarithms, truth).ece == pytest.approx(0.1, abs=1e-5)
    assert (truth > 0).sum() == (prediction.label_map.array > 0).sum()


def test_regions_count_one_by_one(dataset):
    case = replace(dataset[0], labels=REGIONS)
    truth = case.label()
    regions = np.stack([np.isin(truth.array, v) for v in REGIONS.regions.values()]).astype(np.float32)
    made = Prediction(case=case, label_map=truth, probabilities=0.8 * regions + 0.1)
    logarithms, inside = sample(made, np.random.default_rng(0))
    assert logarithms.shape == (len(inside), 2)
    assert reliability(logarithms, inside).ece == pytest.approx(0.1, abs=1e-5)


@pytest.fixture(scope="module")
def model(dataset):
    plan = autoseg.make_plan(autoseg.extract_fingerprint(dataset, show_progress=False))
    prepared = autoseg.preprocess(dataset, plan["3d_fullres"], show_progress=False)
    blueprint = autoseg.Blueprint.quick(minutes=1).changed(
        epochs=2, minutes=None, iterations_per_epoch=4, validation_iterations=1, base_features=4
    )
    return autoseg.train(prepared, blueprint=blueprint, show_progress=False).model


def test_half_of_the_cases_fit_and_the_others_judge(dataset, model):
    found = autoseg.calibrate(model, dataset.training, show_progress=False)
    assert len(found.fitted_on) == len(found.judged_on) == 2
    assert not set(found.fitted_on) & set(found.judged_on)
    again = autoseg.calibrate(model, dataset.training, show_progress=False)
    assert (again.temperature, again.fitted_on) == (found.temperature, found.fitted_on), "drawn by a seed"
    assert found.likelihood_after <= found.likelihood_before + 0.05
    html = found._repr_html_()
    assert html.count("reliability ") == 2 and "fitted on 2 cases, judged on 2 others" in html
    softened = found(sure_of(dataset[0]))
    assert softened.probabilities.sum(axis=0) == pytest.approx(1, abs=1e-5)


def test_bad_input_is_named(dataset, model):
    with pytest.raises(EvaluationError, match=r"1 case\(s\) to fit a temperature and 0 to judge"):
        autoseg.calibrate(model, dataset.training[:1])
    with pytest.raises(EvaluationError, match="'case_0' would fit the temperature and judge it"):
        autoseg.calibrate(model, dataset.training, judge_on=dataset.training[:1])
    with pytest.raises(EvaluationError, match="has no probabilities"):
        sample(replace(sure_of(dataset[0]), probabilities=None), np.random.default_rng(0))
