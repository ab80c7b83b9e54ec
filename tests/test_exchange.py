"""Images go to other libraries and come back with every voxel where it was."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

import autoseg
from autoseg.core.errors import ImageError
from autoseg.data.exchange import affine_of, voxels_from
from autoseg.data.geometry import Grid
from autoseg.data.images import Image

ANGLES = st.tuples(*[st.floats(-180, 180)] * 3)
SPACINGS = st.tuples(*[st.floats(0.1, 8)] * 3)
ORIGINS = st.tuples(*[st.floats(-300, 300)] * 3)


def _image(angles: tuple[float, ...], spacing: tuple[float, ...], origin: tuple[float, ...], channels: int) -> Image:
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    grid = Grid((3, 4, 5), spacing, origin, tuple(map(tuple, turn.tolist())))
    array = np.arange(60 * channels, dtype=np.float32).reshape(channels, 3, 4, 5)
    return Image(array, grid, tuple(f"c{i}" for i in range(channels)))


@settings(max_examples=25, deadline=None)
@given(ANGLES, SPACINGS, ORIGINS, st.sampled_from((1, 2, 3)))
def test_a_voxel_keeps_its_value_and_its_place_in_the_world_in_every_library(
    angles: tuple[float, ...], spacing: tuple[float, ...], origin: tuple[float, ...], channels: int
) -> None:
    image = _image(angles, spacing, origin, channels)
    index = (2, 1, 3)
    place = image.grid.to_world(index)
    theirs = image.to_sitk().TransformContinuousIndexToPhysicalPoint([float(i) for i in index[::-1]])
    assert np.allclose(theirs, place, atol=1e-6)
    seen = nib.affines.apply_affine(image.to_nibabel().affine, index[::-1]) * (-1, -1, 1)
    assert np.allclose(seen, place, atol=1e-6)
    for other in (image.to_sitk(), image.to_nibabel()):
        back = Image.of(other, channels=image.channels)
        assert np.array_equal(back.array, image.array)
        assert np.allclose(back.grid.to_world(index), place, atol=1e-4)
        assert np.allclose(back.grid.spacing, spacing, rtol=1e-5)


def test_a_slice_becomes_a_volume_of_one_slice_for_libraries_without_2d() -> None:
    image = Image.of(np.arange(20.0).reshape(4, 5), spacing=(0.5, 2.0))
    assert image.to_nibabel().shape == (5, 4, 1)
    assert image.to_sitk().GetSpacing() == (2.0, 0.5)
    assert np.allclose(np.abs(np.diag(affine_of(image.grid)))[:2], (2.0, 0.5))


def test_a_tensor_is_an_array_whatever_its_type_and_whether_it_wants_a_gradient() -> None:
    tensor = torch.arange(12.0).reshape(2, 3, 2)
    for each in (tensor, tensor.bfloat16(), tensor.half(), tensor.clone().requires_grad_(), torch.nn.Parameter(tensor)):
        image = Image.of(each)
        assert image.array.dtype == np.float32
        assert np.array_equal(image.array[0], tensor.numpy())
        label_map = autoseg.dataset_from_arrays([tensor], [each])[0].label()
        assert np.array_equal(label_map.array, tensor.numpy())
    with pytest.raises(ImageError, match="type complex64 is no image"):
        Image.of(torch.complex(tensor, tensor))


def test_torchio_images_keep_value_and_place() -> None:
    pytest.importorskip("torchio")
    image = _image((10, 20, 30), (3, 1, 2), (5, -6, 7), 2)
    back = Image.of(image.to_torchio(), channels=image.channels)
    assert np.array_equal(back.array, image.array)
    assert np.allclose(back.grid.to_world((2, 1, 3)), image.grid.to_world((2, 1, 3)), atol=1e-4)


def test_a_subject_of_torchio_is_no_image() -> None:
    torchio = pytest.importorskip("torchio")
    image = _image((10, 20, 30), (3, 1, 2), (5, -6, 7), 1).to_torchio()
    with pytest.raises(ImageError, match="a Subject is no image"):
        voxels_from(torchio.Subject(t1=image))


def test_a_slice_of_nibabel_is_an_image() -> None:
    array, grid = voxels_from(nib.Nifti1Image(np.arange(20.0).reshape(4, 5), np.diag([2.0, 3.0, 4.0, 1.0])))
    assert (array.shape, grid.spacing) == ((1, 1, 5, 4), (4.0, 3.0, 2.0))


def test_bytes_with_three_values_last_are_colours() -> None:
    assert voxels_from(np.zeros((6, 7, 3), np.uint8))[0].shape == (3, 6, 7)
    assert voxels_from(sitk.Image(7, 6, sitk.sitkUInt8))[0].shape == (1, 6, 7)


@pytest.mark.parametrize(
    ("what", "spacing", "message"),
    [
        ({"a": 1}, None, r"a dict is no image\. Give a path"),
        (np.zeros(4), None, r"shape \(4,\).*is no image\. The axes are"),
        (np.array([["a"]]), None, "the values numbers"),
        (np.zeros((4, 5)), (1, 1, 1), r"spacing has 3 number\(s\).*has 2 axes"),
    ],
)
def test_what_is_no_image_is_named(what: object, spacing: tuple[float, ...] | None, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        voxels_from(what, spacing=spacing)


def test_a_sheared_affine_is_refused() -> None:
    sheared = np.eye(4)
    sheared[0, 1] = 0.3
    with pytest.raises(ImageError, match="shears: its axes are not at right angles"):
        voxels_from(nib.Nifti1Image(np.zeros((4, 5, 6), np.float32), sheared))


def test_complex_voxels_of_nibabel_are_refused() -> None:
    with pytest.raises(ImageError, match="real numbers"):
        voxels_from(nib.Nifti1Image(np.zeros((4, 5, 6), np.complex64), np.eye(4)))
