"""Spline resizing as small dense matrices: the same numbers as nnU-Net's resampling, at the speed of matrix products.

Resizing with splines is linear and separable, so each axis is one matrix of shape (new, old) with the spline's
prefilter folded in. An image is resized by one product an axis. Images and logits may be numpy arrays, or torch tensors
on any device, and come back as what they were.
Source: Isensee et al. 2021, Methods, 'Resampling'; nnU-Net 2.8 calls ``skimage.transform.resize``, that is
``scipy.ndimage.zoom(mode='nearest', grid_mode=True)`` clipped to the range of the input.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
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
NEGLIGIBLE = 1e-9  # weights below this cannot be seen in float32, and as subnormal numbers they cost a factor of 20
MIXED_AT_ONCE = 1 << 15  # voxels between labels decided together: their corners then stay in the processor's cache
CERTAIN = 0.500001  # a label with more than half of the weight has won; the rest is far above rounding


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
    return xp.moveaxis(_along(slices, shape[apart], orders[1]), 0, apart)


def _resize(stack: Voxels, shape: Shape, order: int, out: Any = None) -> Any:
    """Each entry of a stack (n, *space) resized on its own and clipped to its own range, into `out` if given."""
    xp, space = _library(stack), tuple(range(1, stack.ndim))
    if order == 0:
        resized = _nearest(stack, shape)
    else:
        low, high = (xp.asarray(f(stack, axis=space, keepdims=True), dtype=xp.float32) for f in (xp.amin, xp.amax))
        values = xp.asarray(stack, dtype=xp.float32) - low  # float32 then keeps its digits for the contrast
        resized = _products(values, shape, order, out if out is not None and out.dtype == xp.float32 else None)
        if order > 1:  # only higher splines overshoot
            xp.clip(resized, 0 * low, high - low, out=resized)
        resized += low
    if out is not None and resized is not out:
        out[...] = resized
    return resized


def _products(values: Voxels, shape: Shape, order: int, out: Any = None) -> Any:
    """One product an axis, the last axis first. Each puts its axis in front, so that after all every axis is in place.

    The transposed operand costs the matrix library nothing, and one large product an axis is all there is to do.
    The last product of a single entry is written into `out`.
    """
    xp = _library(values)
    for axis, new in reversed(list(enumerate(shape))):
        *before, old = values.shape
        matrix = _like(axis_matrix(old, new, order), values)
        target = out.reshape(new, -1) if out is not None and axis == 0 and before[-1] == 1 else None
        values = xp.matmul(matrix, values.reshape(-1, old).T, out=target).reshape(new, *before)
    return xp.moveaxis(values, -1, 0) if out is None else out


def _along(array: Voxels, new: int, order: int) -> Any:
    """Resize the first axis."""
    old, *after = array.shape
    if order == 0 or old == new:
        return _take_nearest(array, new, 0)
    matrix = _like(axis_matrix(old, new, order), array)
    return (matrix @ array.reshape(old, -1)).reshape(new, *after)


def _nearest(stack: Voxels, shape: Shape) -> Any:
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
    return np if isinstance(array, np.ndarray) else sys.modules["torch"]


def _on(array: Voxels) -> dict[str, Any]:
    return {} if isinstance(array, np.ndarray) else {"device": array.device}


def _like(matrix: np.ndarray, array: Voxels) -> Any:
    """The matrix in the type, and on the device, of the array it multiplies."""
    matrix = np.where(abs(matrix) < NEGLIGIBLE, 0, matrix)
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
        return np.asarray(_along(slices, new, 0))
    result = np.zeros((new, *slices.shape[1:]), slices.dtype)
    for label in np.unique(slices):
        result[_along((slices == label).astype(np.float64), new, order) > 0.5] = label
    return result


def _resize_labels(stack: LabelArray, shape: Shape, order: int) -> LabelArray:
    """Each entry of a stack (n, *space) resized on its own."""
    nearest = np.ascontiguousarray(_nearest(stack, shape))
    if order == 0 or stack.shape == nearest.shape:
        return nearest
    return _linear_labels(stack, nearest) if order == 1 else _spline_labels(stack, nearest, order)


def _spline_labels(stack: LabelArray, nearest: LabelArray, order: int) -> LabelArray:
    best = np.full(nearest.shape, -np.inf)
    result = np.zeros_like(nearest)
    for label in np.unique(stack):
        score = np.clip(_products((stack == label).astype(np.float64), nearest.shape[1:], order), 0, 1)
        wins = (score > best) | ((score == best) & (nearest == label) & (score > 0))
        result[wins] = label
        np.maximum(best, score, out=best)
    return result


def _linear_labels(stack: LabelArray, nearest: LabelArray) -> LabelArray:
    """Order 1: the nearest label, but where the voxels around a new voxel disagree they are weighed."""
    axes = [a for a in range(1, stack.ndim) if stack.shape[a] != nearest.shape[a] and stack.shape[a] > 1]
    neighbours = {a: _neighbours(stack.shape[a], nearest.shape[a]) for a in axes}
    stack, result = np.ascontiguousarray(stack), nearest.copy()
    mixed = np.flatnonzero(_mixed(stack, nearest.shape, neighbours))
    for start in range(0, len(mixed), MIXED_AT_ONCE):
        chosen = mixed[start : start + MIXED_AT_ONCE]
        labels, weights = _corners(stack, np.unravel_index(chosen, nearest.shape), neighbours)
        result.reshape(-1)[chosen] = _heaviest(labels, weights, nearest.reshape(-1)[chosen])
    return result


@lru_cache(maxsize=128)
def _neighbours(old: int, new: int) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """For each new voxel of an axis the lower of its two neighbours, and the weights of both, exactly scipy's."""
    matrix = axis_matrix(old, new, 1)
    lower = np.minimum((matrix != 0).argmax(axis=1), old - 2)
    rows = np.arange(new)
    return lower, (matrix[rows, lower], matrix[rows, lower + 1])


Neighbours: TypeAlias = Mapping[int, tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]]


def _mixed(stack: LabelArray, shape: Shape, neighbours: Neighbours) -> np.ndarray:
    """Whether the voxels around each new voxel hold more than one label."""
    low = high = stack
    for axis in neighbours:
        before, after = ((slice(None),) * axis + (s,) for s in (slice(None, -1), slice(1, None)))
        low, high = np.minimum(low[before], low[after]), np.maximum(high[before], high[after])
    mixed = low != high
    for axis, (lower, _) in neighbours.items():
        mixed = np.take(mixed, lower, axis=axis)
    for axis, new in enumerate(shape):
        if mixed.shape[axis] != new:  # a single voxel, stretched
            mixed = np.repeat(mixed, new, axis=axis)
    return np.asarray(mixed)


def _corners(
    stack: LabelArray, where: tuple[np.ndarray, ...], neighbours: Neighbours
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Label and weight of each of the voxels around some new voxels, the last axis running fastest as in scipy."""
    strides = [stride // stack.itemsize for stride in stack.strides]
    first = np.zeros(len(where[0]), np.intp)
    corners: list[tuple[int, Any]] = [(0, 1.0)]
    for axis, at in enumerate(where):
        if axis in neighbours:
            lower, weights = neighbours[axis]
            first += np.take(lower * strides[axis], at)
            parts = [np.take(w, at) for w in weights]
            corners = [(s + end * strides[axis], w * parts[end]) for s, w in corners for end in (0, 1)]
        elif stack.shape[axis] > 1:
            first += at * strides[axis]
    flat = stack.reshape(-1)
    return [np.take(flat, first + step) for step, _ in corners], [w for _, w in corners]


def _heaviest(labels: list[np.ndarray], weights: list[np.ndarray], favourite: np.ndarray) -> np.ndarray:
    """At each position the label with the largest sum of weights; ties go to the favourite, else to the smallest."""
    winner, best = favourite.copy(), _weigh(labels, weights, favourite)
    contested = np.flatnonzero(best < CERTAIN)
    labels, weights = [v[contested] for v in labels], [w[contested] for w in weights]
    winner[contested] = _contest(labels, weights, favourite[contested])
    return winner


def _contest(labels: list[np.ndarray], weights: list[np.ndarray], favourite: np.ndarray) -> np.ndarray:
    winner, best = favourite, _weigh(labels, weights, favourite)
    for label in labels:
        score = _weigh(labels, weights, label)
        wins = (score > best) | ((score == best) & (winner != favourite) & (label < winner))
        winner, best = np.where(wins, label, winner), np.maximum(best, score)
    return winner


def _weigh(labels: list[np.ndarray], weights: list[np.ndarray], label: np.ndarray) -> np.ndarray:
    return np.asarray(sum(w * (other == label) for other, w in zip(labels, weights, strict=True)))


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
