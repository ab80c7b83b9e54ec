"""Labels that the models contradict come first; differences of a border do not count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from making import make_dataset

import autoseg
from autoseg.core.errors import DatasetError, EvaluationError
from autoseg.data.dataset import Held
from autoseg.data.labels import Labels
from autoseg.prediction.inference import Prediction

SHAPE = (20, 24, 28)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return autoseg.open_dataset(make_dataset(tmp_path_factory.mktemp("data"), cases=6, shape=SHAPE))


def relabelled(case, change):
    """The case with another label map, in memory."""
    array = change(case.label().array.copy())
    return replace(case, image_paths=(), label_path=None, held=Held(case.image(), array[None]))


def moved(array):
    return np.roll(array, 8, axis=2)


def grown(array):
    array[np.roll(array, 1, axis=1) > 0] = np.maximum(array, np.roll(array, 1, axis=1))[np.roll(array, 1, axis=1) > 0]
    return array


def invented(array):
    array[1:6, 1:6, 1:6] = 2
    return array


def without_lesion(array):
    array[array == 2] = 1
    return array


def judged(dataset, changes):
    """All cases are predicted as their true label; some have another one by now."""
    cases = [relabelled(c, changes[c.name]) if c.name in changes else c for c in dataset]
    predictions = [Prediction(case=c, label_map=dataset[c.name].label()) for c in cases]
    return autoseg.evaluate(predictions, replace(dataset, training=tuple(cases)))


def test_every_fault_ranks_before_borders_and_borders_are_no_fault(dataset):
    faults = {"case_1": moved, "case_3": invented, "case_4": without_lesion}
    suspects = autoseg.suspicious_labels(judged(dataset, {**faults, "case_2": grown}))
    assert {s.case for s in suspects[:3]} == set(faults)
    assert suspects["case_2"].score == suspects["case_0"].score == 0
    assert "only borders differ" in suspects["case_2"].reason
    assert suspects.table()["score"].is_monotonic_decreasing


def test_the_reason_says_how_much_and_the_voxel_lies_in_the_contradiction(dataset):
    suspect = autoseg.suspicious_labels(judged(dataset, {"case_3": invented}))[0]
    assert (suspect.case, suspect.label) == ("case_3", "lesion")
    assert "lesion: of" in suspect.reason and "0.125 are far from what was predicted" in suspect.reason
    assert all(1 <= i < 6 for i in suspect.voxel)
    assert "case_3" in suspect._repr_html_()


def test_voxels_that_nobody_annotated_do_not_count(dataset):
    labels = Labels({"background": 0, "organ": 1, "lesion": 2}, ignore=3)
    ignored = replace(relabelled(dataset[0], lambda a: np.where(invented(a.copy()) != a, 3, a)), labels=labels)
    prediction = Prediction(case=ignored, label_map=replace(dataset[0].label(), labels=labels))
    evaluation = autoseg.evaluate([prediction], replace(dataset, training=(ignored,), labels=labels))
    assert autoseg.suspicious_labels(evaluation)[0].score == 0


def test_a_tolerance_of_nothing_counts_every_border(dataset):
    evaluation = judged(dataset, {"case_2": grown})
    assert autoseg.suspicious_labels(evaluation, tolerance=0)[0].case == "case_2"


def test_bad_input_is_named(dataset):
    evaluation = judged(dataset, {})
    with pytest.raises(EvaluationError, match="made without predictions"):
        autoseg.suspicious_labels(replace(evaluation, predictions=()))
    with pytest.raises(EvaluationError, match="tolerance of -1"):
        autoseg.suspicious_labels(evaluation, tolerance=-1)
    with pytest.raises(EvaluationError, match="Did you mean 'case_0'"):
        autoseg.suspicious_labels(evaluation)["case0"]
    unlabelled = replace(evaluation.predictions[0], case=replace(dataset[0], label_path=None))
    with pytest.raises(DatasetError, match="no label map"):
        autoseg.suspicious_labels(replace(evaluation, predictions=(unlabelled,)))


def test_the_labels_are_those_of_the_dataset_that_judged(dataset):
    """Predictions may have been made of another copy: labels that were mended since, or broken on purpose."""
    broken = replace(dataset, training=(relabelled(dataset[0], moved), *dataset.training[1:]))
    predictions = [Prediction(case=case, label_map=case.label()) for case in dataset]
    suspects = autoseg.suspicious_labels(autoseg.evaluate(predictions, broken))
    assert suspects[0].case == dataset[0].name
    assert suspects[0].score > 0 == suspects[1].score
