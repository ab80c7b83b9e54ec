"""One voxel is followed from the file to the augmented patch, and labels come back to the scan."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autoseg
from autoseg.core.errors import PreprocessingError
from autoseg.data.opening import open_dataset

DATASET = autoseg.sample_dataset()
PLAN = autoseg.make_plan(autoseg.extract_fingerprint(DATASET, show_progress=False))
CASE = DATASET["seahorse_001"]
EXACT = ("scan", "axes in order", "cropped", "normalized", "resampled", "patch")


def seen(name="3d_fullres", **options):
    return autoseg.microscope(CASE, PLAN[name], **options)


@given(place=st.tuples(*(st.floats(0, 0.999) for _ in range(3))), name=st.sampled_from(["2d", "3d_fullres"]))
@settings(max_examples=8, deadline=None)
def test_every_stage_has_the_voxel_at_the_same_place_of_the_world(place, name):
    shape = CASE.image().grid.shape
    voxel = tuple(int(p * n) for p, n in zip(place, shape, strict=True))
    stages = seen(name, voxel=voxel, seeds=[])
    start = stages["scan"].grid.to_world(voxel)
    for stage in EXACT:
        away = stages[stage].grid.to_world(stages[stage].voxel) - start
        assert np.abs(away).max() <= max(stages[stage].grid.spacing) / 2 + 1e-6, stage


def test_the_voxel_keeps_its_intensity_until_it_is_normalized_and_its_label_throughout():
    stages = seen()
    raw = stages["scan"].values
    assert stages["axes in order"].values == stages["cropped"].values == raw
    assert stages["resampled"].values == stages["patch"].values
    assert {stage.label_name for stage in stages} == {"head"}


def test_augmented_patches_have_the_networks_size_and_the_mark_follows_the_mirroring():
    stages = seen(seeds=range(6))
    inside = [stages[f"augmented {seed}"] for seed in range(6)]
    assert {stage.array.shape[1:] for stage in inside} == {tuple(PLAN["3d_fullres"].patch_size)}
    assert [stage.label_name for stage in inside if stage.voxel] == ["head"] * 6


def test_labels_come_back_to_the_scan_and_what_was_lost_is_told(shared_data):
    dataset = open_dataset(shared_data / "SunnybrookLV3D")
    plan = autoseg.make_plan(autoseg.extract_fingerprint(dataset, show_progress=False))
    case = next(iter(dataset))
    stages = autoseg.microscope(case, plan["3d_fullres"])
    assert stages["back on the scan"].label.shape == case.label().array.shape
    assert all(dice > 0.95 for dice in stages.kept.values())


@pytest.mark.parametrize("voxel", [(-1, 0, 0), (0, 0, 900), (1, 2)])
def test_a_voxel_outside_the_scan_is_refused(voxel):
    with pytest.raises(PreprocessingError, match=r"case 'seahorse_001': the voxel .* is not on the scan"):
        seen(voxel=voxel)


def test_a_misspelt_stage_is_corrected():
    with pytest.raises(KeyError, match="resampled"):
        seen(seeds=[])["resample"]


def test_another_voxel_is_marked_without_computing_the_stages_again():
    stages = seen(seeds=[1])
    moved = stages.at((10, 20, 12), seeds=[2])
    assert moved["resampled"].array is stages["resampled"].array
    fresh = seen(voxel=(10, 20, 12), seeds=[2])
    assert [s.voxel for s in moved] == [s.voxel for s in fresh]
    assert all(np.array_equal(a.array, b.array) for a, b in zip(moved, fresh, strict=True))


def test_a_voxel_in_the_border_that_is_cut_away_is_refused():
    array = np.zeros((1, 20, 24, 24), np.float32)
    array[:, 4:-4, 4:-4, 4:-4] = 5 + np.random.default_rng(0).random((12, 16, 16))
    label = (array[0] > 5.9).astype(np.int16)
    dataset = autoseg.dataset_from_arrays([array, array + 1 * (array > 0)], [label, label], spacing=(1, 1, 1))
    plan = autoseg.make_plan(autoseg.extract_fingerprint(dataset, show_progress=False))
    with pytest.raises(PreprocessingError, match=r"\(1, 12, 12\) lies in the empty border that is cut away"):
        autoseg.microscope(dataset.training[0], plan["3d_fullres"], voxel=(1, 12, 12))


def test_a_picture_is_said_to_become_a_slice():
    dataset = autoseg.dataset_from_arrays([np.eye(20)] * 5, [np.eye(20, dtype=int)] * 5)
    plan = autoseg.make_plan(autoseg.extract_fingerprint(dataset, show_progress=False))
    assert "becomes a single slice" in autoseg.microscope(dataset[0], plan["2d"])["axes in order"].what
