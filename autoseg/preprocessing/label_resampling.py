"""Label maps on another grid: at each new voxel the label that weighs most, whatever the number of labels.

Between voxels that agree there is nothing to decide, so only the others are looked at.
Source: nnU-Net 2.8 with batchgenerators 0.25.5, ``resize_segmentation``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from autoseg.core.types import LabelArray, Shape, Spacing
from autoseg.planning.configuration import Resampling
from autoseg.preprocessing.resampling import (
    DEFAULT,
    axis_matrices,
    axis_matrix,
    check_axes,
    coarse_axis,
    multiply_axes,
    pick_nearest,
    resize_first_axis,
)

MIXED_AT_ONCE = 1 << 15  # voxels between labels decided together: their corners then stay in the processor's cache
SLAB = 1 << 21  # new voxels looked at together, for the same reason
CERTAIN = 0.500001  # a label with more than half of the weight has won; the rest is far above rounding


def resample_labels(
    array: LabelArray, shape: Shape, *, spacing_from: Spacing, spacing_to: Spacing, settings: Resampling = DEFAULT
) -> LabelArray:
    """A label map (*space) on another number of voxels: at each the label whose indicator, resized, is highest.

    Where several are equally high, the nearest voxel's label wins if it is among them, else the smallest. Linear
    weights are multiplied and added in scipy's order, so that ties fall as they do in nnU-Net.

    >>> resample_labels(np.array([[0, 0, 7, 7]]), (1, 8), spacing_from=(1.0, 1.0), spacing_to=(1.0, 0.5))
    array([[0, 0, 0, 0, 7, 7, 7, 7]])
    """
    check_axes(array.shape, shape)
    if array.shape == tuple(shape):
        return array
    axis = coarse_axis(spacing_from, spacing_to, settings)
    if axis is None:
        return _resize_labels(array, shape, settings.label_order)
    plane = tuple(n for a, n in enumerate(shape) if a != axis)
    slices = np.stack([_resize_labels(s, plane, settings.label_order) for s in np.moveaxis(array, axis, 0)])
    return np.moveaxis(_resize_coarse(slices, shape[axis], settings.coarse_axis_order), 0, axis)


def _resize_coarse(slices: LabelArray, new: int, order: int) -> LabelArray:
    """The first axis on its own; above order 0 the highest label that covers more than half wins, as in nnU-Net."""
    if order == 0 or len(slices) == new:
        return np.asarray(resize_first_axis(slices, new, 0))
    result = np.zeros((new, *slices.shape[1:]), slices.dtype)
    for label in np.unique(slices):
        result[resize_first_axis((slices == label).astype(np.float64), new, order) > 0.5] = label
    return result


def _resize_labels(array: LabelArray, shape: Shape, order: int) -> LabelArray:
    nearest = np.ascontiguousarray(pick_nearest(array[None], shape)[0])
    if order == 0 or array.shape == nearest.shape:
        return nearest
    return _linear_labels(array, shape) if order == 1 else _spline_labels(array, nearest, order)


def _spline_labels(array: LabelArray, nearest: LabelArray, order: int) -> LabelArray:
    best = np.full(nearest.shape, -np.inf)
    result = np.zeros_like(nearest)
    matrices = axis_matrices(array.shape, nearest.shape, [order] * array.ndim)
    for label in np.unique(array):
        score = np.clip(multiply_axes((array == label).astype(np.float64)[None], matrices)[0], 0, 1)
        wins = (score > best) | ((score == best) & (nearest == label) & (score > 0))
        result[wins] = label
        np.maximum(best, score, out=best)
    return result


def _linear_labels(array: LabelArray, shape: Shape) -> LabelArray:
    """Order 1: the nearest label, but where the voxels around a new voxel disagree they are weighed."""
    shrunk = tuple(1 if old == 1 else new for old, new in zip(array.shape, shape, strict=True))
    result = np.ascontiguousarray(pick_nearest(array[None], shrunk)[0])
    pairs = [None if old == new else _neighbours(old, new) for old, new in zip(array.shape, shrunk, strict=True)]
    thickness = max(1, SLAB // int(np.prod(shrunk[1:])))
    for start in range(0, shrunk[0], thickness):
        rows = slice(start, min(start + thickness, shrunk[0]))
        columns, first = rows, pairs[0]
        if first is not None:
            columns = slice(int(first.lower[rows][0]), int(first.lower[rows][-1]) + 2)
            first = Neighbours(first.lower[rows] - columns.start, tuple(w[rows] for w in first.weights))
        _settle(np.ascontiguousarray(array[columns]), result[rows], [first, *pairs[1:]])
    return np.broadcast_to(result, shape).copy() if shrunk != tuple(shape) else result


class Neighbours(NamedTuple):
    """For each new voxel of an axis the lower of the two old voxels around it, and the weights of both."""

    lower: np.ndarray
    weights: tuple[np.ndarray, ...]


@lru_cache(maxsize=128)
def _neighbours(old: int, new: int) -> Neighbours:
    matrix = axis_matrix(old, new, 1)  # exactly scipy's weights
    lower = np.minimum((matrix != 0).argmax(axis=1), old - 2)
    rows = np.arange(new)
    return Neighbours(lower, (matrix[rows, lower], matrix[rows, lower + 1]))


def _settle(array: LabelArray, nearest: LabelArray, pairs: Sequence[Neighbours | None]) -> None:
    """Write the winning labels into `nearest` where the voxels around hold several."""
    mixed, result = np.flatnonzero(_mixed(array, pairs)), nearest.reshape(-1)
    for start in range(0, len(mixed), MIXED_AT_ONCE):
        chosen = mixed[start : start + MIXED_AT_ONCE]
        labels, weights = _corners(array, np.unravel_index(chosen, nearest.shape), pairs)
        result[chosen] = _heaviest(labels, weights, result[chosen])


def _mixed(array: LabelArray, pairs: Sequence[Neighbours | None]) -> np.ndarray:
    """Whether the voxels around each new voxel hold more than one label."""
    low = high = array
    for axis, pair in enumerate(pairs):
        if pair is not None:
            before, after = ((slice(None),) * axis + (s,) for s in (slice(None, -1), slice(1, None)))
            low, high = np.minimum(low[before], low[after]), np.maximum(high[before], high[after])
    mixed = low != high
    for axis, pair in reversed(list(enumerate(pairs))):
        if pair is not None:
            mixed = np.take(mixed, pair.lower, axis=axis)
    return np.asarray(mixed)


def _corners(
    array: LabelArray, where: tuple[np.ndarray, ...], pairs: Sequence[Neighbours | None]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Label and weight of each of the voxels around some new voxels, the last axis running fastest as in scipy."""
    strides = [stride // array.itemsize for stride in array.strides]
    first = np.zeros(len(where[0]), np.intp)
    corners: list[tuple[int, Any]] = [(0, 1.0)]
    for at, stride, pair in zip(where, strides, pairs, strict=True):
        first += at * stride if pair is None else np.take(pair.lower * stride, at)
        if pair is not None:
            parts = [np.take(w, at) for w in pair.weights]
            corners = [(step + end * stride, w * parts[end]) for step, w in corners for end in (0, 1)]
    flat = array.reshape(-1)
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
