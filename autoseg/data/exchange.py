"""Images of other libraries: taken as voxels with their grid, and given back with the geometry intact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from autoseg.core.errors import ImageError
from autoseg.data.formats import require_numbers, voxels_of_sitk
from autoseg.data.geometry import Grid

TO_LPS = np.diag([-1.0, -1.0, 1.0])  # nibabel and TorchIO count x to the right and y to the front


def voxels_from(what: Any, *, spacing: Sequence[float] | None = None) -> tuple[np.ndarray, Grid]:
    """Voxels (channel, *space) and grid of a SimpleITK, nibabel or TorchIO image, or of an array.

    Arrays are (y, x), (z, y, x) or (channel, z, y, x); whole numbers of 8 bits with a last axis of 3 or 4 are colours.
    `spacing`, in mm and array order, is for arrays, which know none.

    Raises `ImageError` for anything else.

    >>> voxels_from(np.zeros((4, 5)), spacing=(0.5, 0.5))[1].extent
    (2.0, 2.5)
    """
    library = library_of(what)
    if library == "SimpleITK":
        return voxels_of_sitk(what)
    if library == "nibabel":
        require_numbers(what.get_data_dtype(), "this image of nibabel")
        return _from_affine(np.asanyarray(what.dataobj), np.asarray(what.affine), channels_first=False)
    if library == "torchio" and hasattr(what, "data"):  # a Subject has none
        return _from_affine(_as_array(what.data), np.asarray(what.affine), channels_first=True)
    if not (hasattr(what, "__array__") or hasattr(what, "__array_interface__")):  # PIL has only the second
        raise ImageError(
            f"a {type(what).__name__} is no image. Give a path, a numpy array (with spacing=), or an image of "
            "SimpleITK, nibabel or TorchIO."
        )
    return _from_array(_as_array(what), spacing)


def library_of(what: Any) -> str:
    """Whose image this is: ``SimpleITK``, ``nibabel``, ``torchio``, or ``numpy`` for every array."""
    library = type(what).__module__.partition(".")[0]
    return library if library in ("SimpleITK", "nibabel", "torchio") else "numpy"


def _as_array(what: Any) -> np.ndarray:
    """The array that something offers; a tensor may want a gradient, be on a GPU, or of a type numpy does not have.

    Raises `ImageError` for an array with voxels masked out, whose values mean nothing.
    """
    if np.ma.is_masked(what):
        raise ImageError(
            f"{int(np.sum(what.mask)):,} voxels of this array are masked. Say what they are: array.filled(0)."
        )
    if not hasattr(what, "detach"):
        return np.asarray(what)
    small = what.is_floating_point() and what.element_size() < 4  # bfloat16, and halves of it
    return np.asarray((what.float() if small else what).numpy(force=True))


def _from_array(array: np.ndarray, spacing: Sequence[float] | None) -> tuple[np.ndarray, Grid]:
    if array.dtype.kind not in "buif" or array.ndim not in (2, 3, 4) or not array.size:
        raise ImageError(
            f"an array of shape {array.shape} and type {array.dtype} is no image. The axes are (y, x), (z, y, x) or "
            "(channel, z, y, x), none of them empty, and the values numbers."
        )
    if array.dtype == np.uint8 and array.ndim > 2 and array.shape[-1] in (3, 4):
        array = np.moveaxis(array, -1, 0)
    elif array.ndim < 4:
        array = array[None]
    array = array.astype(np.uint8) if array.dtype.kind == "b" else array
    dimensions = array.ndim - 1
    spacing = None if spacing is None else spacing_of(spacing)
    if spacing is not None and len(spacing) != dimensions:
        raise ImageError(
            f"spacing has {len(spacing)} number(s), {spacing}, but the image of shape {array.shape[1:]} has "
            f"{dimensions} axes. Give one for each, in mm, in the array's order."
        )
    return array, Grid.of(array.shape[1:], spacing)


def spacing_of(given: Any) -> tuple[float, ...]:
    """A spacing as numbers. Raises `ImageError` where it is anything but a number an axis."""
    try:
        return tuple(float(value) for value in np.atleast_1d(given))
    except (TypeError, ValueError) as error:
        raise ImageError(
            f"spacing={given!r:.80} is not one number for each axis, in mm, in the array's order, which all arrays "
            "share. Images whose spacings differ: give them as images of SimpleITK or nibabel, or as files."
        ) from error


def _from_affine(array: np.ndarray, affine: np.ndarray, *, channels_first: bool) -> tuple[np.ndarray, Grid]:
    """Voxels that count x first, with an affine in the frame of NIfTI."""
    array = array[..., None] if array.ndim == 2 else array  # a picture is a volume of one slice
    if not channels_first:
        array = np.moveaxis(array, 3, 0) if array.ndim == 4 else array[None]
    array = np.ascontiguousarray(array.transpose(0, *range(array.ndim - 1, 0, -1)))
    columns = TO_LPS @ affine[:3, :3]
    spacing = np.linalg.norm(columns, axis=0)
    direction = (columns / spacing)[:, ::-1]
    if not np.allclose(direction.T @ direction, np.eye(3), atol=1e-3):
        raise ImageError(
            f"the affine {np.round(affine[:3, :3], 4).tolist()} shears: its axes are not at right angles. Resample the "
            "image to a grid without shear first."
        )
    return array, Grid.from_numbers(array.shape[1:], spacing[::-1], TO_LPS @ affine[:3, 3], direction)


def affine_of(grid: Grid) -> np.ndarray:
    """The 4x4 affine of NIfTI for voxels that count x first; a 2D grid as its one slice.

    >>> affine_of(Grid.of((2, 3, 4), (3.0, 1.0, 2.0))).diagonal()
    array([-2., -1.,  3.,  1.])
    """
    grid = grid.as_3d()
    affine = np.eye(4)
    affine[:3, :3] = (TO_LPS @ np.asarray(grid.direction) * np.asarray(grid.spacing))[:, ::-1]
    affine[:3, 3] = TO_LPS @ np.asarray(grid.origin)
    return affine


def to_sitk(array: np.ndarray, grid: Grid) -> Any:
    """A SimpleITK image of an array without channel axis, or with colours as its last, with its geometry."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(array, isVector=array.ndim > grid.dimensions)
    image.SetSpacing(grid.spacing[::-1])
    image.SetOrigin(grid.origin)
    image.SetDirection(np.asarray(grid.direction)[:, ::-1].ravel().tolist())
    return image


def to_nibabel(array: np.ndarray, grid: Grid) -> Any:
    """A nibabel image of an array (*space), or (*space, channel)."""
    import nibabel as nib

    array = array.reshape(*grid.as_3d().shape, *array.shape[grid.dimensions :])
    return nib.Nifti1Image(np.ascontiguousarray(array.transpose(2, 1, 0, *range(3, array.ndim))), affine_of(grid))


def to_torchio(array: np.ndarray, grid: Grid, *, labels: bool) -> Any:
    """A TorchIO image of an array (channel, *space)."""
    import torchio

    array = array.reshape(len(array), *grid.as_3d().shape).transpose(0, 3, 2, 1)
    kind = torchio.LabelMap if labels else torchio.ScalarImage
    return kind(tensor=np.ascontiguousarray(array), affine=affine_of(grid))
