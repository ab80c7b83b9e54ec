"""Grids keep every voxel at its place in the world, whatever is done to the array."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from autoseg.core.errors import ImageError
from autoseg.data.geometry import PLANAR_SPACING, Box, Grid
from autoseg.data.images import Image
from autoseg.planning.configuration import Resampling
from autoseg.preprocessing.resampling import resample_image

spacings = st.tuples(*[st.floats(0.1, 10)] * 3)
shapes = st.tuples(*[st.integers(1, 40)] * 3)
indices = st.tuples(*[st.floats(-3, 40)] * 3)
axis_orders = st.permutations(range(3)).map(tuple)


@st.composite
def grids(draw):
    """Any grid with three axes, rotated and perhaps mirrored."""
    direction = Rotation.random(random_state=draw(st.integers(0, 1000))).as_matrix() * draw(st.sampled_from([1, -1]))
    origin = draw(st.tuples(*[st.floats(-500, 500)] * 3))
    return Grid(draw(shapes), draw(spacings), origin, tuple(map(tuple, direction.tolist())))


@given(grid=grids(), index=indices)
def test_world_and_index_are_inverse(grid, index):
    assert np.allclose(grid.to_index(grid.to_world(index)), index, atol=1e-6)


@given(grid=grids(), index=indices, axes=axis_orders)
def test_transposing_moves_no_voxel(grid, index, axes):
    moved = grid.transpose(axes)
    assert np.allclose(moved.to_world([index[a] for a in axes]), grid.to_world(index), atol=1e-6)
    assert moved.transpose(tuple(np.argsort(axes).tolist())) == grid


@given(grid=grids(), data=st.data())
def test_cropping_moves_no_voxel(grid, data):
    start = tuple(data.draw(st.integers(0, n - 1)) for n in grid.shape)
    box = Box(start, tuple(data.draw(st.integers(a + 1, n)) for a, n in zip(start, grid.shape, strict=True)))
    cropped = grid.crop(box)
    assert cropped.shape == box.shape == np.empty(grid.shape)[box.slices].shape
    assert np.allclose(cropped.to_world((0, 0, 0)), grid.to_world(start), atol=1e-6)


@given(grid=grids(), shape=shapes)
def test_resampling_keeps_the_extent_and_its_corners(grid, shape):
    resampled = grid.resample(shape)
    assert np.allclose(resampled.extent, grid.extent)
    first, last = (-0.5,) * 3, lambda g: np.subtract(g.shape, 0.5)
    assert np.allclose(resampled.to_world(first), grid.to_world(first), atol=1e-6)
    assert np.allclose(resampled.to_world(last(resampled)), grid.to_world(last(grid)), atol=1e-6)


@given(grid=grids(), shape=shapes)
@settings(max_examples=30)
def test_resampling_back_gives_the_grid_again(grid, shape):
    assert grid.resample(shape).resample(grid.shape).difference(grid) == ""


def test_a_resampled_value_stays_where_it_was_in_the_world():
    """The value of a linear image is its place: resampling must agree with the grid about where voxels are."""
    grid, shape = Grid.of((12, 10, 14), (1.0, 2.0, 0.5)), (18, 10, 7)
    ramp = np.stack([grid.to_world(index) for index in np.ndindex(grid.shape)]).reshape(*grid.shape, 3)
    array = np.moveaxis(ramp, -1, 0).astype(np.float32)
    linear = Resampling(image_order=1)
    resized = resample_image(array, shape, spacing_from=(1.0,) * 3, spacing_to=(1.0,) * 3, settings=linear)
    for index in [(4, 5, 3), (9, 2, 2), (16, 7, 5)]:  # not at the border, where edges are repeated
        assert np.allclose(resized[(slice(None), *index)], grid.resample(shape).to_world(index), atol=1e-5)


def test_a_2d_grid_becomes_one_slice_far_from_any_other():
    assert Grid.of((5, 6)).as_3d().spacing == (PLANAR_SPACING, 1.0, 1.0)
    assert Grid.of((5, 6), (2.0, 3.0)).as_3d().spacing == (PLANAR_SPACING * 3, 2.0, 3.0)
    three = Grid.of((1, 5, 6))
    assert three.as_3d() is three


def test_orientation_is_told_in_letters():
    assert Grid.of((3, 4, 5)).orientation == "SPL"
    assert Grid.of((3, 4, 5)).transpose((2, 1, 0)).orientation == "LPS"
    assert Grid.of((3, 4)).orientation == ""


@pytest.mark.parametrize(
    ("shape", "spacing", "message"),
    [
        ((3, 4, 5, 6), (1.0,) * 4, "2 or 3 axes, this one has 4"),
        ((3, 4, 5), (1.0, 1.0), "3 axes need 3 spacings, got 2"),
        ((3, 4, 5), (1.0, 0.0, 1.0), "not a positive number of millimetres"),
        ((3, 4, 5), (1.0, float("nan"), 1.0), "not a positive number of millimetres"),
    ],
)
def test_impossible_grids_are_refused(shape, spacing, message):
    with pytest.raises(ImageError, match=message):
        Grid.of(shape, spacing)


@pytest.mark.parametrize("unit", [1.0, 1e-3, 1e-6])
def test_a_grid_of_small_voxels_differs_by_as_many_of_them_as_one_of_large_voxels(unit):
    grid = Grid.of((30, 40, 40), (40 * unit, 4 * unit, 4 * unit))
    shifted, wider = replace(grid, origin=(20 * unit, 0.0, 0.0)), replace(grid, spacing=(40 * unit, 8 * unit, 8 * unit))
    assert shifted.difference(grid).startswith(f"origin [{20 * unit:g}")
    assert wider.difference(grid).startswith("spacing")
    assert replace(grid, spacing=tuple(s * (1 + 1e-7) for s in grid.spacing)).difference(grid) == ""


def test_millimetres_differ_by_rounding_as_far_as_nnunet_takes_them_for_equal():
    grid = replace(Grid.of((3, 4, 5), (1.0, 0.2, 0.2)), origin=(500.0, 0.0, 0.0))
    assert replace(grid, origin=(500.005, 0.0009, 0.0)).difference(grid) == ""


@pytest.mark.parametrize("wrong", [{"origin": (0.0, float("nan"), 0.0)}, {"direction": ((float("inf"), 0, 0),) * 3}])
def test_a_grid_that_lies_nowhere_is_refused(wrong):
    with pytest.raises(ImageError, match="a value that is not a number, so nothing says where the voxels lie"):
        replace(Grid.of((3, 4, 5)), **wrong)


def test_a_grid_that_is_turned_differs_in_direction_though_its_origin_moves_too():
    grid = Grid.of((3, 4, 5))
    assert grid.flip((1, 2)).difference(grid).startswith("direction")


def test_differences_are_named_beyond_rounding():
    grid = Grid.of((3, 4, 5), (1.0, 2.0, 3.0))
    assert grid.difference(Grid.of((3, 4, 5), (1.0, 2.0, 3.000001))) == ""
    assert grid.difference(Grid.of((3, 4, 6), (1.0, 2.0, 3.0))) == "shape 3x4x5 against 3x4x6"
    assert grid.difference(Grid.of((3, 4, 5), (1.0, 2.0, 3.5))).startswith("spacing")
    assert grid.difference(grid.crop(Box((1, 0, 0), (3, 4, 5))).crop(Box((0, 0, 0), (2, 4, 5)))).startswith("shape")


@pytest.mark.parametrize("axes", [(0,), (0, 1), (0, 1, 2)])
def test_no_zero_of_a_grid_is_negative(axes):
    flipped = Grid.of((4, 5, 6)).flip(axes)
    read = Image.of(Image(np.zeros((1, 4, 5, 6), np.float32), flipped, ("MRI",)).to_nibabel()).grid
    assert "-0.0" not in f"{flipped} {read}"
