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
from itertools import product
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
from scipy import ndimage

from autoseg.core.errors import PreprocessingError
from autoseg.core.types import LabelArray, Shape, Spacing
from autoseg.planning.configuration import Resampling

if TYPE_CHECKING:
    import torch

    Voxels: TypeAlias = np.ndarray | torch.Tensor
else:
    Voxels: TypeAlias = Any

DEFAULT = Resampling()
NEGLIGIBLE = 1e-9  # spline weights below this cannot be seen in float32
MIXED_AT_ONCE = 1 << 18  # voxels between labels decided together, so that memory stays small


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
    _check_axes(array.shape[1:], shape)
    if tuple(array.shape[1:]) == tuple(shape):
        return array
    xp = _library(array)
    result = xp.empty((array.shape[0], *shape), dtype=array.dtype, **_on(array))
    for channel, values in enumerate(array):
        result[channel] = _resample_channel(values, shape, order=order, apart=apart, apart_order=apart_order)
    return result


def _resample_channel(values: Voxels, shape: Shape, *, order: int, apart: int | None, apart_order: int) -> Any:
    """One channel; with `apart`, slice by slice in the plane and then along that axis."""
    if apart is None:
        return _resize(values[None], shape, order)[0]
    xp = _library(values)
    plane = tuple(n for axis, n in enumerate(shape) if axis != apart)
    slices = _resize(xp.moveaxis(values, apart, 0), plane, order)
    return xp.moveaxis(_along(slices, shape[apart], 0, apart_order), 0, apart)


def _resize(stack: Voxels, shape: Shape, order: int) -> Any:
    """Each entry of a stack (n, *space) resized on its own and clipped to its own range."""
    if order == 0:
        for axis, new in enumerate(shape, start=1):
            stack = _along(stack, new, axis, 0)
        return stack
    xp = _library(stack)
    space = tuple(range(1, stack.ndim))
    values = xp.asarray(stack, dtype=xp.float32)
    low, high = (f(values, axis=space, keepdims=True) for f in (xp.amin, xp.amax))
    values = values - low  # weights sum to one; without the offset float32 keeps all its digits for the contrast
    for axis in sorted(space, key=lambda a: shape[a - 1] / stack.shape[a]):  # shrink first: fewer products
        values = _along(values, shape[axis - 1], axis, order)
    return xp.clip(values, 0 * low, high - low) + low


def _along(array: Voxels, new: int, axis: int, order: int) -> Any:
    """Resize one axis: a gather for order 0, else one matrix product."""
    old = array.shape[axis]
    if old == new:
        return array
    if order == 0:
        return array[(slice(None),) * axis + (nearest_index(old, new),)]
    return _product(_like(axis_matrix(old, new, order), array), array, axis)


def _product(matrix: Any, array: Voxels, axis: int) -> Any:
    before, after = array.shape[:axis], array.shape[axis + 1 :]
    rows, columns = matrix.shape
    if not after:
        return (array.reshape(-1, columns) @ matrix.T).reshape(*before, rows)
    flat = array.reshape(int(np.prod(before)), columns, int(np.prod(after)))
    return (matrix @ flat).reshape(*before, rows, *after)


@lru_cache(maxsize=128)
def nearest_index(old: int, new: int) -> np.ndarray:
    """Which voxel of an axis each new voxel is nearest to.

    >>> nearest_index(10, 5)
    array([1, 3, 5, 7, 9])
    """
    return np.asarray(axis_matrix(old, new, 0).argmax(axis=1))


def _library(array: Voxels) -> Any:
    """numpy, or torch for a tensor; torch is never imported here, a tensor has done that."""
    return np if isinstance(array, np.ndarray) else sys.modules["torch"]


def _on(array: Voxels) -> dict[str, Any]:
    return {} if isinstance(array, np.ndarray) else {"device": array.device}


def _like(matrix: np.ndarray, array: Voxels) -> Any:
    """The matrix in the type, and on the device, of the array it multiplies."""
    if isinstance(array, np.ndarray):
        return matrix.astype(array.dtype)
    return sys.modules["torch"].tensor(matrix, dtype=array.dtype, device=array.device)


def _check_axes(old: Sequence[int], new: Sequence[int]) -> None:
    if len(old) != len(new) or min(new, default=0) < 1:
        raise PreprocessingError(
            f"voxels of shape {tuple(old)} cannot be resampled to {tuple(new)}: "
            "both need the same number of axes, each of at least one voxel."
        )


def resample_labels(
    array: LabelArray, shape: Shape, *, spacing_from: Spacing, spacing_to: Spacing, settings: Resampling = DEFAULT
) -> LabelArray:
    """A label map (*space) on another number of voxels: at each the label whose indicator, resized, is highest.

    Where several are equally high, the nearest voxel's label wins if it is among them, else the smallest. Linear
    weights are multiplied and added in scipy's order, so that ties fall as they do in nnU-Net.

    >>> resample_labels(np.array([[0, 0, 7, 7]]), (1, 8), spacing_from=(1.0, 1.0), spacing_to=(1.0, 0.5))
    array([[0, 0, 0, 0, 7, 7, 7, 7]])
    """
    _check_axes(array.shape, shape)
    if array.shape == tuple(shape):
        return array
    order: int = settings.label_order
    axis = coarse_axis(spacing_from, spacing_to, settings)
    if axis is None:
        return np.asarray(_resize_labels(array[None], shape, order)[0])
    plane = tuple(n for a, n in enumerate(shape) if a != axis)
    slices = _resize_labels(np.moveaxis(array, axis, 0), plane, order)
    return np.asarray(np.moveaxis(_labels_along(slices, shape[axis], settings.coarse_axis_order), 0, axis))


def _labels_along(slices: LabelArray, new: int, order: int) -> LabelArray:
    """The coarse axis, first of `slices`; above order 0 the highest label that covers more than half wins."""
    if order == 0 or len(slices) == new:
        return np.asarray(_along(slices, new, 0, 0))
    result = np.zeros((new, *slices.shape[1:]), slices.dtype)
    for label in np.unique(slices):
        result[_along((slices == label).astype(np.float64), new, 0, order) > 0.5] = label
    return result


def _resize_labels(stack: LabelArray, shape: Shape, order: int) -> LabelArray:
    """Each entry of a stack (n, *space) resized on its own."""
    nearest: LabelArray = stack
    for axis, new in enumerate(shape, start=1):
        nearest = _along(nearest, new, axis, 0)
    if order == 0 or stack.shape[1:] == tuple(shape):
        return nearest
    return _linear_labels(stack, nearest) if order == 1 else _spline_labels(stack, nearest, order)


def _spline_labels(stack: LabelArray, nearest: LabelArray, order: int) -> LabelArray:
    best = np.full(nearest.shape, -np.inf)
    result = np.zeros_like(nearest)
    for label in np.unique(stack):
        score = (stack == label).astype(np.float64)
        for axis, new in enumerate(nearest.shape):
            score = _along(score, new, axis, order if axis else 0)
        np.clip(score, 0, 1, out=score)
        wins = (score > best) | ((score == best) & (nearest == label) & (score > 0))
        result[wins] = label
        np.maximum(best, score, out=best)
    return result


def _linear_labels(stack: LabelArray, nearest: LabelArray) -> LabelArray:
    """Order 1, decided only where the voxels around a new voxel disagree; elsewhere the nearest has the answer."""
    axes = [a for a in range(1, stack.ndim) if stack.shape[a] != nearest.shape[a]]
    pairs = {axis: _linear_pair(stack.shape[axis], nearest.shape[axis]) for axis in axes}
    flat_mixed = np.flatnonzero(_mixed(stack, nearest.shape, pairs))
    result = np.array(nearest, order="C")
    for start in range(0, len(flat_mixed), MIXED_AT_ONCE):
        chosen = flat_mixed[start : start + MIXED_AT_ONCE]
        result.reshape(-1)[chosen] = _decide(stack, nearest, np.unravel_index(chosen, nearest.shape), pairs)
    return result


Pair: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@lru_cache(maxsize=128)
def _linear_pair(old: int, new: int) -> Pair:
    """For each new voxel of an axis: the lower and the upper neighbour and their weights, exactly scipy's."""
    matrix = axis_matrix(old, new, 1)
    lower = np.minimum((matrix != 0).argmax(axis=1), max(old - 2, 0))
    upper = np.minimum(lower + 1, old - 1)
    rows = np.arange(new)
    return lower, upper, matrix[rows, lower], matrix[rows, upper] * (upper != lower)


def _mixed(stack: LabelArray, shape: Shape, pairs: dict[int, Pair]) -> np.ndarray:
    """Whether the neighbours of each new voxel hold more than one label."""
    low = high = stack
    for axis in pairs:
        if stack.shape[axis] > 1:
            before, after = ((slice(None),) * axis + (s,) for s in (slice(None, -1), slice(1, None)))
            low, high = np.minimum(low[before], low[after]), np.maximum(high[before], high[after])
    mixed = low != high
    for axis, (lower, _, _, _) in pairs.items():
        mixed = mixed[(slice(None),) * axis + (lower,)]
    return np.asarray(mixed)


def _decide(
    stack: LabelArray, nearest: LabelArray, where: tuple[np.ndarray, ...], pairs: dict[int, Pair]
) -> np.ndarray:
    """The winning label at some new voxels, given by their indices."""
    labels, weights = zip(*_corners(stack, where, pairs), strict=True)
    favourite = nearest[where]
    best = np.zeros(len(favourite))
    winner = np.full(len(favourite), np.iinfo(stack.dtype).max, stack.dtype)
    for label in labels:
        score = sum(w * (other == label) for other, w in zip(labels, weights, strict=True))
        tied = score == best
        first = np.where(winner == favourite, winner, np.where(label == favourite, label, np.minimum(winner, label)))
        winner = np.where(score > best, label, np.where(tied, first, winner))
        best = np.maximum(best, score)
    return winner


def _corners(
    stack: LabelArray, where: tuple[np.ndarray, ...], pairs: dict[int, Pair]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Label and weight of each of the surrounding voxels, the last axis running fastest."""
    for ends in product((0, 1), repeat=len(pairs)):
        index = list(where)
        weight = np.ones(len(where[0]))
        for (axis, pair), end in zip(pairs.items(), ends, strict=True):
            index[axis] = pair[end][where[axis]]
            weight = weight * pair[2 + end][where[axis]]
        yield stack[tuple(index)], weight


def argmax_resampled(
    logits: Voxels, shape: Shape, *, spacing_from: Spacing, spacing_to: Spacing, settings: Resampling = DEFAULT
) -> Any:
    """The class (*space) with the highest resampled logit at each voxel, the first where several are equal.

    The same as ``resample_probabilities(...).argmax(0)`` without ever holding all classes: class after class, so that
    a hundred classes on a large CT fit into an ordinary computer.
    """
    xp = _library(logits)
    winner = xp.zeros(tuple(shape), dtype=xp.uint8 if len(logits) <= 256 else xp.int32, **_on(logits))
    best = None
    for number in range(len(logits)):
        score = resample_probabilities(
            logits[number : number + 1], shape, spacing_from=spacing_from, spacing_to=spacing_to, settings=settings
        )[0]
        if best is None:
            best = score + 0  # logits that need no resampling are not ours to write on
            continue
        wins = score > best
        winner[wins] = number
        best[wins] = score[wins]
    return winner
