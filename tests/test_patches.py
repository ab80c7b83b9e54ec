"""Patches are drawn and cut as nnU-Net does."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.training.patches import ANNOTATED, PatchLocation, PatchRequest, Volume, cut_patches, draw_patches
from autoseg.training.spatial import OUTSIDE


def numbered(shape):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(1, *shape) + 1


def volume(shape=(6, 8, 10), locations=None):
    return Volume.in_memory(numbered(shape), np.ones(shape, np.int16), locations or {})


def request(batch_size=4, cut=(4, 4, 4), patch=None, foreground=0.33):
    return PatchRequest(cut_size=cut, patch_size=patch or cut, batch_size=batch_size, foreground_fraction=foreground)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("batch", "forced"), [(2, 1), (3, 1), (4, 1), (5, 2), (6, 2), (8, 3), (9, 3), (12, 4)])
def test_forced_foreground_counts_equal_nnunets(batch, forced):
    assert sum(request(batch).forced(seeded())) == forced


def test_of_batches_of_one_a_third_is_forced():
    random = seeded()
    assert 300 < sum(sum(request(1).forced(random)) for _ in range(1000)) < 360
    assert not any(sum(request(1, foreground=0.0).forced(random)) for _ in range(100))


def test_forced_patches_hold_a_voxel_of_a_label():
    voxel = np.array([[5, 7, 9]])
    volumes = {"a": volume(locations={"rare": voxel})}
    for seed in range(20):
        locations = draw_patches(volumes, request(batch_size=2), seeded(seed))
        corner = np.array(locations[1].corner)
        assert ((corner <= voxel[0]) & (voxel[0] < corner + 4)).all()


def test_every_label_is_drawn_equally_often_however_rare():
    places = {"common": np.zeros((1000, 3), int), "rare": np.full((1, 3), 5)}
    volumes = {"a": volume(locations=places)}
    drawn = Counter(
        draw_patches(volumes, request(batch_size=1, foreground=1.0), random)[0].corner[0]
        for random in [seeded(1)]
        for _ in range(400)
    )
    assert drawn[0] == pytest.approx(200, abs=50)


def test_unforced_patches_of_partly_annotated_cases_are_centred_on_annotated_voxels():
    volumes = {"a": volume(locations={"organ": np.array([[0, 0, 0]]), ANNOTATED: np.array([[3, 4, 5]])})}
    first, *_ = draw_patches(volumes, request(batch_size=3), seeded())
    assert first.corner == (1, 2, 3)


@settings(max_examples=50)
@given(st.tuples(*[st.integers(1, 12)] * 3), st.integers(0, 99))
def test_random_patches_stay_on_the_image_or_cover_it(shape, seed):
    for location in draw_patches(
        {"a": volume(shape)}, request(batch_size=3, cut=(4, 6, 8), foreground=0.0), seeded(seed)
    ):
        for corner, cut, size in zip(location.corner, (4, 6, 8), shape, strict=True):
            assert (0 <= corner <= size - cut) if size >= cut else (corner <= 0 and corner + cut >= size)


def test_larger_cuts_may_reach_out_by_half_of_what_rotation_needs():
    corners = {
        draw_patches({"a": volume((10, 10, 10))}, request(cut=(8, 8, 8), patch=(4, 4, 4)), seeded(s))[0].corner[0]
        for s in range(60)
    }
    assert min(corners) == -2
    assert max(corners) == 4


def test_a_patch_inside_is_a_copy_of_the_image():
    images, labels = cut_patches({"a": volume()}, [PatchLocation("a", (1, 2, 3))], request())
    assert torch.equal(images[0], torch.from_numpy(numbered((6, 8, 10))[:, 1:5, 2:6, 3:7]))
    assert labels.unique().tolist() == [1]


def test_outside_of_the_image_is_zero_and_labelled_outside():
    images, labels = cut_patches({"a": volume()}, [PatchLocation("a", (-2, 6, 0))], request())
    assert images[0, 0, :2].eq(0).all()
    assert labels[0, :2].eq(OUTSIDE).all()
    assert labels[0, 2:, :2].eq(1).all()
    assert labels[0, 2:, 2:].eq(OUTSIDE).all()


def test_flat_patches_are_single_slices():
    volumes = {"a": volume((6, 8, 10), {"organ": np.array([[4, 3, 3]])})}
    flat = PatchRequest(cut_size=(4, 4), patch_size=(4, 4), batch_size=2, foreground_fraction=0.33)
    locations = draw_patches(volumes, flat, seeded())
    assert locations[1].corner == (4, 1, 1)
    images, labels = cut_patches(volumes, locations, flat)
    assert images.shape == (2, 1, 4, 4)
    assert labels.shape == (2, 4, 4)


def test_the_same_seed_draws_the_same_patches():
    volumes = {"a": volume(), "b": volume((9, 9, 9))}
    assert draw_patches(volumes, request(), seeded(3)) == draw_patches(volumes, request(), seeded(3))
    assert draw_patches(volumes, request(), seeded(3)) != draw_patches(volumes, request(), seeded(4))
