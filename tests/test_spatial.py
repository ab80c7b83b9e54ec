"""Patches turned, scaled and mirrored in one resampling: images linearly, labels by the largest share."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from autoseg.training import spatial


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(count=4, channels=1, shape=(16, 16, 16), labels=2):
    images = torch.rand((count, channels, *shape), generator=seeded())
    smooth = F.avg_pool3d(images[:, :1], 5, 1, 2) if len(shape) == 3 else F.avg_pool2d(images[:, :1], 5, 1, 2)
    levels = torch.quantile(smooth, torch.linspace(0, 1, labels + 1)[1:-1])
    return images, torch.bucketize(smooth[:, 0], levels).to(torch.int16)


def turned(source, matrices, patch):
    images, labels = source
    result = images.new_full((*images.shape[:2], *patch), torch.nan), labels.new_full((len(labels), *patch), -9)
    spatial.resample_affine(source, torch.arange(len(images)), matrices, patch, result)
    return result


def turn(angles=(0.0, 0.0, 0.0), factor=1.0, count=1, dimensions=3):
    return spatial.affine(torch.tensor([angles] * count), torch.full((count,), factor), dimensions, in_plane=False)


def by_grid_sample(source, matrices, patch):
    """The same through torch: each label's indicator is interpolated, what nothing claims is outside."""
    images, labels = source
    half = torch.tensor([s / 2 for s in labels.shape[1:]])
    axes = [torch.arange(p) - (p - 1) / 2 for p in patch]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(1, -1, len(patch))
    grid = ((points @ matrices.transpose(1, 2)) / half).flip(-1).reshape(len(images), *patch, len(patch))

    def sample(array):
        return F.grid_sample(array, grid, align_corners=False)

    shares = torch.stack([sample((labels == v)[:, None].float())[:, 0] for v in range(int(labels.max()) + 1)])
    return sample(images), shares


@settings(max_examples=25, deadline=None)
@given(
    angles=st.tuples(*(st.floats(-math.pi / 6, math.pi / 6) for _ in range(3))),
    factor=st.floats(0.7, 1.4),
    shape=st.sampled_from([(16, 16, 16), (9, 20, 14), (18, 22)]),
    channels=st.integers(1, 2),
)
def test_it_equals_torchs_grid_sample(angles, factor, shape, channels):
    source = batch(2, channels, shape, labels=3)
    matrices = turn(angles, factor, 2, len(shape))
    patch = tuple(n - (4 if factor == 1 else 3) for n in shape)  # whole voxels are not interpolated half a voxel on
    images, labels = turned(source, matrices, patch)
    expected, shares = by_grid_sample(source, matrices, patch)
    torch.testing.assert_close(images, expected, atol=2e-4, rtol=0)
    every = torch.cat([shares, 1 - shares.sum(0, keepdim=True)])
    clear = every.sort(0).values[-1] - every.sort(0).values[-2] > 1e-3
    winner = torch.where(every.argmax(0) == len(shares), spatial.OUTSIDE, every.argmax(0))
    assert torch.equal(labels[clear], winner[clear].to(labels.dtype))


def test_the_identity_is_the_centre():
    images, labels = batch()
    moved, winner = turned((images, labels), turn(count=4), (8, 8, 8))
    torch.testing.assert_close(moved, images[..., 4:12, 4:12, 4:12])
    assert torch.equal(winner, labels[..., 4:12, 4:12, 4:12])


def test_patches_too_large_to_be_read_at_once_are_read_in_slabs(monkeypatch):
    source, matrices = batch(3), turn((0.3, 0.2, 0.1), 1.1, 3)
    whole = turned(source, matrices, (10, 12, 14))
    monkeypatch.setattr(spatial, "AT_ONCE", 12 * 14 * 3)
    for part, same in zip(turned(source, matrices, (10, 12, 14)), whole, strict=True):
        assert torch.equal(part, same)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_quarter_turn_equals_numpys(axis):
    images, labels = batch(1)
    angles = [0.0, 0.0, 0.0]
    angles[axis] = math.pi / 2
    moved, winner = turned((images, labels), turn(tuple(angles)), (16,) * 3)
    plane = tuple(a for a in range(3) if a != axis)
    turns = [np.rot90(images[0, 0].numpy(), k, plane) for k in (1, 3)]
    k = int(np.argmin([np.abs(moved[0, 0].numpy() - t).max() for t in turns]))
    np.testing.assert_allclose(moved[0, 0].numpy(), turns[k], atol=1e-3)
    np.testing.assert_array_equal(winner[0].numpy(), np.rot90(labels[0].numpy(), (1, 3)[k], plane))


def test_a_factor_above_one_shrinks_what_is_seen():
    images = torch.zeros(1, 1, 16, 16, 16)
    images[..., 4:12, 4:12, 4:12] = 1
    moved, _ = turned((images, images[:, 0].to(torch.int16)), turn(factor=1.4), (16,) * 3)
    assert float(moved.sum()) == pytest.approx(8**3 / 1.4**3, rel=0.2)


def test_what_leaves_the_image_is_labelled_outside():
    _, winner = turned(batch(1), turn(factor=1.4), (16,) * 3)
    assert winner[0, 0, 0, 0] == spatial.OUTSIDE
    assert winner[0, 8, 8, 8] != spatial.OUTSIDE


def test_stacks_of_slices_turn_only_within_the_slice():
    matrices = spatial.affine(torch.ones(1, 3), torch.tensor([1.3]), 3, in_plane=True)
    assert matrices[0, 0].tolist() == [1, 0, 0]
    assert matrices[0, 1:, 0].tolist() == [0, 0]
    images, labels = batch(1, shape=(6, 16, 16))
    images[:, :, ::2] = 0
    moved, _ = turned((images, labels), matrices, (6, 6, 6))
    assert float(moved[:, :, ::2].abs().max()) == 0
    assert float(moved[:, :, 1::2].abs().min()) > 0


@settings(max_examples=20, deadline=None)
@given(shape=st.tuples(*(st.integers(1, 9) for _ in range(3))), seed=st.integers(0, 99))
def test_images_of_any_size_are_turned_without_reading_beyond_them(shape, seed):
    images = torch.rand((2, 1, *shape), generator=seeded(seed)) + 1
    labels = torch.ones((2, *shape), dtype=torch.int16)
    moved, winner = turned((images, labels), turn((0.4, 0.3, 0.2), 1.2, 2), shape)
    assert bool(torch.isfinite(moved).all())
    assert float(moved.max()) <= float(images.max()) + 1e-5
    assert set(winner.unique().tolist()) <= {1, spatial.OUTSIDE}
