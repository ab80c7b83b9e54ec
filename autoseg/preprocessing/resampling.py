"""Spline resizing as small dense matrices: the same numbers as nnU-Net's resampling, at the speed of matrix products.

Resizing with splines is linear and separable, so each axis is one matrix of shape (new, old) with the spline's
prefilter folded in. An image is resized by one product an axis. Images and logits may be numpy arrays, or torch tensors
on any device, and come back as what they were.
Source: Isensee et al. 2021, Methods, 'Resampling'; nnU-Net 2.8 calls ``skimage.transform.resize``, that is
``scipy.ndimage.zoom(mode='nearest', grid_mode=True)`` clipped to the range of the input.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
from scipy import ndimage

from autoseg.core.errors import PreprocessingError
from autoseg.core.types import Shape, Spacing
from autoseg.planning.configuration import Resampling

if TYPE_CHECKING:
    import torch

    Voxels: TypeAlias = np.ndarray | torch.Tensor
else:
    Voxels: TypeAlias = Any

DEFAULT = Resampling()
NEGLIGIBLE = 1e-9  # weights below this cannot be seen in float32, and as subnormal numbers they cost a factor of 20
BLOCK = 256  # rows of a matrix multiplied together: beyond it the zeros far from the diagonal cost half of the time
SLAB = 1 << 22  # voxels of the finished grid that the running arg-max looks at together


def new_shape(shape: Sequence[int], spacing_from: Spacing, spacing_to: Spacing) -> Shape:
    """The shape at another spacing, rounded half to even as nnU-Net does; no axis vanishes.

    >>> new_shape((20, 100), (3.0, 0.5), (1.0, 0.8))
    (60, 62)
    """
    return tuple(max(1, round(old / new * n)) for n, old, new in zip(shape, spacing_from, spacing_to, strict=True))


def coarse_axis(spacing_from: Spacing, spacing_to: Spacing, settings: Resampling = DEFAULT) -> int | None:
    """The axis to resample apart from the others, or None: the coarsest one, where spacings differ enough.

    The current spacing is asked first, then the new one. Where two axes are equally coarse, none is treated apart.

    >>> coarse_axis((3.01, 1.0, 1.0), (1.0, 1.0, 1.0)), coarse_axis((3.0, 1.0, 1.0), (1.0, 1.0, 1.0))
    (0, None)
    >>> coarse_axis((1.0, 1.0, 1.0), (5.0, 1.0, 1.0)), coarse_axis((0.2, 1.2, 1.2), (0.2, 1.2, 1.2))
    (0, None)
    """
    if settings.separate_axis is False:
        return None
    if settings.separate_axis:
        deciding = spacing_from
    else:
        deciding = next((s for s in (spacing_from, spacing_to) if max(s) / min(s) > settings.anisotropy), ())
    coarsest = [axis for axis, spacing in enumerate(deciding) if spacing == max(deciding)]
    return coarsest[0] if len(coarsest) == 1 else None


@lru_cache(maxsize=128)
def axis_matrix(old: int, new: int, order: int) -> np.ndarray:
    """The matrix (new, old), float64, that resizes one axis with a spline of that order; order 0 picks the nearest.

    >>> axis_matrix(2, 4, 1)
    array([[1.  , 0.  ],
           [0.75, 0.25],
           [0.25, 0.75],
           [0.  , 1.  ]])
    """
    resized: Any = ndimage.zoom(np.eye(old), (new / old, 1.0), order=cast(Any, order), mode="nearest", grid_mode=True)
    matrix: np.ndarray = resized
    matrix.flags.writeable = False
    return matrix


def resample_image(
    array: Voxels, shape: Shape, *, spacing_from: Spacing, spacing_to: Spacing, settings: Resampling = DEFAULT
) -> Any:
    """An image (channel, *space) on another number of voxels over the same extent, in its own type.

    Raises `PreprocessingError` where array and shape do not have the same axes.
    """
    axis = coarse_axis(spacing_from, spacing_to, settings)
    return _resample(array, shape, order=settings.image_order, apart=axis, apart_order=settings.coarse_axis_order)


def resample_probabilities(
    array: Voxels, shape: Shape, *, spacing_from: Spacing, spacing_to: Spacing, settings: Resampling = DEFAULT
) -> Any:
    """Logits or probabilities (class, *space) on another number of voxels, in their own type."""
    axis = coarse_axis(spacing_from, spacing_to, settings)
    order = settings.probability_order
    return _resample(array, shape, order=order, apart=axis, apart_order=settings.coarse_axis_order)


def _resample(array: Voxels, shape: Shape, *, order: int, apart: int | None, apart_order: int) -> Any:
    check_axes(array.shape[1:], shape)
    if tuple(array.shape[1:]) == tuple(shape):
        return array
    xp = _library(array)
    result = xp.empty((array.shape[0], *shape), dtype=array.dtype, **_on(array))
    for channel, values in enumerate(array):
        if apart is None:
            _resize(values[None], shape, order, result[channel][None])
        else:
            result[channel] = _resize_apart(values, shape, apart, (order, apart_order))
    return result


def _resize_apart(values: Voxels, shape: Shape, apart: int, orders: tuple[int, int]) -> Any:
    """Slice by slice in the plane, then along the coarse axis; each with its order."""
    xp = _library(values)
    plane = tuple(n for axis, n in enumerate(shape) if axis != apart)
    slices = _resize(xp.moveaxis(values, apart, 0), plane, orders[0])
    return xp.moveaxis(resize_first_axis(slices, shape[apart], orders[1]), 0, apart)


def _resize(stack: Voxels, shape: Shape, order: int, out: Any = None) -> Any:
    """Each entry of a stack (n, *space) resized on its own and clipped to its own range, into `out` if given."""
    xp, space = _library(stack), tuple(range(1, stack.ndim))
    if order == 0:
        resized = pick_nearest(stack, shape)
    else:
        low, high = (xp.asarray(f(stack, axis=space, keepdims=True), dtype=xp.float32) for f in (xp.amin, xp.amax))
        values = xp.asarray(stack, dtype=xp.float32) - low  # float32 then keeps its digits for the contrast
        direct = out if out is not None and out.dtype == xp.float32 else None
        resized = multiply_axes(values, axis_matrices(stack.shape[1:], shape, [order] * len(shape)), direct)
        if order > 1:  # only higher splines overshoot
            xp.clip(resized, 0 * low, high - low, out=resized)
        resized += low
    if out is not None and resized is not out:
        out[...] = resized
    return resized


def multiply_axes(values: Voxels, matrices: Sequence[np.ndarray | None], out: Any = None) -> Any:
    """One product an axis of (n, *space), the last first; None leaves an axis as it is. Into `out` for a single entry.

    Each product puts its axis in front, so that after all of them every axis is in place. The transposed operand costs
    the matrix library nothing.
    """
    if isinstance(values, np.ndarray) and all(m is None or _is_linear(m) for m in matrices):
        return _multiply_linear(values, matrices, out)
    for axis, matrix in reversed(list(enumerate(matrices))):
        *before, old = values.shape
        columns = values.reshape(-1, old).T
        target = out.reshape(len(out[0]), -1) if out is not None and axis == 0 else None
        if matrix is not None:
            columns = _product(matrix, columns, target)
        elif target is not None:
            target[...] = columns
        values = columns.reshape(-1, *before)
    return _library(values).moveaxis(values, -1, 0) if out is None else out


def _product(matrix: np.ndarray, columns: Voxels, out: Any = None) -> Any:
    xp = _library(columns)
    if out is None:
        out = xp.empty((len(matrix), columns.shape[1]), dtype=columns.dtype, **_on(columns))
    for rows, band, weights in _bands(matrix):
        xp.matmul(_like(weights, columns), columns[band], out=out[rows])
    return out


def _bands(matrix: np.ndarray) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Some rows at a time, the columns that they use, and the weights: far from the diagonal they are nothing."""
    matrix = np.where(abs(matrix) < NEGLIGIBLE, 0, matrix)
    for start in range(0, len(matrix), BLOCK):
        rows = slice(start, start + BLOCK)
        used = np.flatnonzero(matrix[rows].any(axis=0))
        band = slice(int(used[0]), int(used[-1]) + 1)
        yield rows, band, matrix[rows, band]


def _is_linear(matrix: np.ndarray) -> bool:
    return bool(np.count_nonzero(matrix, axis=1).max() <= 2)


def _multiply_linear(values: np.ndarray, matrices: Sequence[np.ndarray | None], out: Any = None) -> np.ndarray:
    """With two weights a row, sparse products take two thirds of the time of dense ones, and one thread.

    They need the axis in front of contiguous rows, so the last axis is multiplied densely while the array is small.
    """
    from scipy import sparse

    for axis in (values.ndim - 1, *range(1, values.ndim - 1)):
        matrix, shape = matrices[axis - 1], values.shape
        if matrix is None:
            continue
        stack = values.reshape(int(np.prod(shape[:axis])), shape[axis], -1)
        shape = (*shape[:axis], len(matrix), *shape[axis + 1 :])
        last = out is not None and axis == values.ndim - 2
        values = out if last else np.empty(shape, values.dtype)
        result = values.reshape(len(stack), len(matrix), -1)
        if axis == len(shape) - 1:
            for rows, band, weights in _bands(matrix):
                np.matmul(stack[:, band, 0], _like(weights, values).T, out=result[:, rows, 0])
        else:
            thin = sparse.csr_array(matrix.astype(values.dtype))
            for entry, target in zip(stack, result, strict=True):
                target[...] = thin @ entry
    if out is not None and values is not out:
        out[...] = values
    return values if out is None else np.asarray(out)


def axis_matrices(old: Sequence[int], new: Sequence[int], orders: Sequence[int]) -> list[np.ndarray | None]:
    return [None if o == n else axis_matrix(o, n, order) for o, n, order in zip(old, new, orders, strict=True)]


def resize_first_axis(array: Voxels, new: int, order: int) -> Any:
    """Resize the first axis."""
    old, *after = array.shape
    if order == 0 or old == new:
        return _take_nearest(array, new, 0)
    return _product(axis_matrix(old, new, order), array.reshape(old, -1)).reshape(new, *after)


def pick_nearest(stack: Voxels, shape: Shape) -> Any:
    """The nearest voxel along every axis but the first."""
    for axis, new in reversed(list(enumerate(shape, start=1))):  # rows are copied fast, so they come last
        stack = _take_nearest(stack, new, axis)
    return stack


def _take_nearest(array: Voxels, new: int, axis: int) -> Any:
    old = array.shape[axis]
    if old == new:
        return array
    if isinstance(array, np.ndarray):
        return np.take(array, nearest_index(old, new), axis=axis)  # 15 times faster than array[..., index]
    return array.index_select(axis, sys.modules["torch"].tensor(nearest_index(old, new), device=array.device))


@lru_cache(maxsize=128)
def nearest_index(old: int, new: int) -> np.ndarray:
    """Which voxel of an axis each new voxel is nearest to.

    >>> nearest_index(10, 5)
    array([1, 3, 5, 7, 9])
    """
    return np.asarray(axis_matrix(old, new, 0).argmax(axis=1))


def _library(array: Voxels) -> Any:
    """numpy, or torch for a tensor; torch is never imported here, a tensor has done that."""
    return sys.modules["torch"] if _is_tensor(array) else np


def _is_tensor(array: Voxels) -> bool:
    return "torch" in sys.modules and isinstance(array, sys.modules["torch"].Tensor)


def _on(array: Voxels) -> dict[str, Any]:
    return {"device": array.device} if _is_tensor(array) else {}


def _like(matrix: np.ndarray, array: Voxels) -> Any:
    """The matrix in the type, and on the device, of the array it multiplies."""
    if isinstance(array, np.ndarray):
        return matrix.astype(array.dtype)
    return sys.modules["torch"].tensor(matrix, dtype=array.dtype, device=array.device)


def check_axes(old: Sequence[int], new: Sequence[int]) -> None:
    if len(old) != len(new) or min(new, default=0) < 1:
        raise PreprocessingError(
            f"voxels of shape {tuple(old)} cannot be resampled to {tuple(new)}: "
            "both need the same number of axes, each of at least one voxel."
        )


def resampled_slabs(
    logits: Voxels, shape: Shape, *, spacing_from: Spacing, spacing_to: Spacing, settings: Resampling = DEFAULT
) -> Iterator[tuple[slice, Iterator[Any]]]:
    """What `resample_probabilities` gives, a few slices of the finished grid at a time: the slices, and each class.

    A hundred classes on a large CT then need no more memory than one. `logits` may be anything that is sliced like an
    array, such as a memory map or a blosc2 array: only what a slab needs is read.
    """
    check_axes(logits.shape[1:], shape)
    apart = coarse_axis(spacing_from, spacing_to, settings)
    if settings.probability_order > 1:  # such splines are clipped to the range of a whole class or slice
        spacings = {"spacing_from": spacing_from, "spacing_to": spacing_to}
        classes = (logits[c : c + 1] for c in range(len(logits)))
        yield slice(0, shape[0]), (resample_probabilities(c, shape, **spacings, settings=settings)[0] for c in classes)
        return
    orders = [settings.coarse_axis_order if a == apart else settings.probability_order for a in range(len(shape))]
    matrices = axis_matrices(logits.shape[1:], shape, orders)
    thickness = max(1, SLAB // int(np.prod(shape[1:])))
    for start in range(0, shape[0], thickness):
        rows = slice(start, min(start + thickness, shape[0]))
        yield rows, (_slab(logits, number, rows, matrices) for number in range(len(logits)))


def _slab(logits: Voxels, number: int, rows: slice, matrices: Sequence[np.ndarray | None]) -> Any:
    """Some slices of one class; only the slices they come from are read."""
    first, *others = matrices
    columns = rows
    if first is not None:
        used = np.flatnonzero(first[rows].any(axis=0))
        columns = slice(int(used[0]), int(used[-1]) + 1)
        first = first[rows, columns]
    values = logits[number, columns]
    if first is None and not any(m is not None for m in others):
        return values
    xp = _library(values)
    return xp.asarray(
        multiply_axes(xp.asarray(values, dtype=xp.float32)[None], [first, *others])[0], dtype=values.dtype
    )


def argmax_resampled(
    logits: Voxels, shape: Shape, *, spacing_from: Spacing, spacing_to: Spacing, settings: Resampling = DEFAULT
) -> Any:
    """The class (*space) with the highest resampled logit at each voxel, the first where several are equal.

    The same as ``resample_probabilities(...).argmax(0)``, slab by slab and class by class.
    """
    xp = sys.modules["torch"] if _is_tensor(logits) else np
    winner = xp.zeros(tuple(shape), dtype=xp.uint8 if len(logits) <= 256 else xp.int32, **_on(logits))
    spacings = {"spacing_from": spacing_from, "spacing_to": spacing_to}
    for rows, scores in resampled_slabs(logits, shape, **spacings, settings=settings):
        best = xp.full_like(winner[rows], -np.inf, dtype=xp.float32)
        for number, score in enumerate(xp.asarray(score, dtype=xp.float32) for score in scores):
            ahead = xp.asarray(score > best, dtype=winner.dtype) * number  # numbers grow, so the maximum is the latest
            xp.maximum(winner[rows], ahead, out=winner[rows])
            xp.maximum(best, score, out=best)
    return winner
