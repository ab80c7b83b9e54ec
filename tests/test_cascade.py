"""The cascade from end to end: what its second stage learns from and predicts with comes from the first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import autoseg
from autoseg.core.errors import PredictionError

FOLDS = (0, 1)


@pytest.fixture(scope="module")
def dataset():
    return autoseg.sample_dataset("huge")


@pytest.fixture(scope="module")
def plan(dataset):
    fingerprint = autoseg.extract_fingerprint(dataset, show_progress=False)
    return autoseg.make_plan(fingerprint, autoseg.Budget(memory_gb=0.25))


@pytest.fixture(scope="module")
def runs(dataset, plan):
    blueprint = autoseg.Blueprint.quick(minutes=1).changed(
        epochs=1, minutes=None, iterations_per_epoch=12, validation_iterations=1, base_features=4, precision="float32"
    )
    names = ["3d_cascade_fullres", "3d_lowres"]
    return autoseg.cross_validate(dataset, plan, names, folds=FOLDS, blueprint=blueprint, show_progress=False)


def test_both_stages_are_judged_on_cases_that_neither_saw(dataset, runs):
    cascade, lowres = runs
    unseen = [case.name for fold in FOLDS for case in dataset.fold(fold).validation]
    assert [p.case.name for p in cascade.predictions] == unseen
    assert [m.fold for m in cascade.previous] == [m.fold for m in cascade.models] == list(FOLDS)
    assert all(a is b for a, b in zip(cascade.previous, lowres.models, strict=True)), "the first stage is trained once"


def test_one_call_predicts_through_both_stages(dataset, runs):
    cascade, _ = runs
    case = dataset.fold(0).validation[0]
    (found,) = autoseg.predict(cascade.of_fold(0), case, mirroring=False, show_progress=False)
    assert found.label_map.grid == case.image().grid
    assert set(np.unique(found.label_map.array)) <= {0, 1}


def test_the_second_stage_depends_on_the_first(dataset, runs):
    cascade, _ = runs
    first, second = cascade.of_fold(0)
    case = dataset.fold(0).validation[0]
    blind = replace(first, weights={n: 0 * w for n, w in first.weights.items()})  # finds nothing
    options = {"mirroring": False, "probabilities": True, "show_progress": False}
    (seen,), (unseen,) = (autoseg.predict([stage, second], case, **options) for stage in (first, blind))
    assert not np.allclose(seen.probabilities, unseen.probabilities)


def test_the_cascade_is_chosen_from_like_any_other(dataset, runs):
    choice = autoseg.choose_best(runs, dataset, show_progress=False)
    assert {a.value for a in choice.decisions[0].tried} == {
        "3d_cascade_fullres",
        "3d_lowres",
        "3d_cascade_fullres + 3d_lowres",
    }
    (found,) = choice.predict(dataset[0], mirroring=False, show_progress=False)
    assert found.label_map.array.shape == dataset[0].image().grid.shape


def test_a_stage_without_the_other_is_refused(dataset, plan, runs):
    first, second = runs[0].of_fold(0)
    with pytest.raises(PredictionError, match=r"refines what '3d_lowres' predicts, and no model of that was given"):
        autoseg.predict(second, dataset[0])
    other = replace(first, configuration=replace(first.configuration, name="2d"))
    with pytest.raises(PredictionError, match="there are models of '2d' was given|models of '2d'"):
        autoseg.predict([other, second], dataset[0])


def test_only_one_fold_still_trains_the_first_stage_on_all(dataset, plan, tmp_path):
    blueprint = autoseg.Blueprint.quick(minutes=1).changed(
        epochs=1, minutes=None, iterations_per_epoch=1, validation_iterations=1, base_features=2
    )
    options = {"folds": [0], "blueprint": blueprint, "folder": tmp_path, "show_progress": False}
    (run,) = autoseg.cross_validate(dataset, plan, ["3d_cascade_fullres"], **options)
    assert len(run.models) == len(run.previous) == 1
    assert sorted(p.name for p in (tmp_path / "runs/3d_lowres").iterdir()) == ["fold_0", "fold_1"]
    written = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.nii.gz")}
    assert len(written) == 3
    autoseg.cross_validate(dataset, plan, ["3d_cascade_fullres"], **options)
    assert {p: p.stat().st_mtime_ns for p in written} == written, "nothing is computed twice"
