"""Label maps on another grid: at each new voxel the label that weighs most, whatever the number of labels.

Between voxels that agree there is nothing to decide, so only the others are looked at.
Source: nnU-Net 2.8 with batchgenerators 0.25.5, ``resize_segmentation``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeAlias

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
    order: int = settings.label_order
    axis = coarse_axis(spacing_from, spacing_to, settings)
    if axis is None:
        return np.asarray(_resize_labels(array[None], shape, order)[0])
    plane = tuple(n for a, n in enumerate(shape) if a != axis)
    slices = _resize_labels(np.moveaxis(array, axis, 0), plane, order)
    return np.asarray(np.moveaxis(_labelsalong(slices, shape[axis], settings.coarse_axis_order), 0, axis))


def _labelsalong(slices: LabelArray, new: int, order: int) -> LabelArray:
    """The coarse axis, first of `slices`; above order 0 the highest label that covers more than half wins."""
    if order == 0 or len(slices) == new:
        return np.asarray(resize_first_axis(slices, new, 0))
    result = np.zeros((new, *slices.shape[1:]), slices.dtype)
    for label in np.unique(slices):
        result[resize_first_axis((slices == label).astype(np.float64), new, order) > 0.5] = label
    return result


def _resize_labels(stack: LabelArray, shape: Shape, order: int) -> LabelArray:
    """Each entry of a stack (n, *space) resized on its own."""
    nearest = np.ascontiguousarray(pick_nearest(stack, shape))
    if order == 0 or stack.shape == nearest.shape:
        return nearest
    return _linear_labels(stack, nearest) if order == 1 else _spline_labels(stack, nearest, order)


def _spline_labels(stack: LabelArray, nearest: LabelArray, order: int) -> LabelArray:
    best = np.full(nearest.shape, -np.inf)
    result = np.zeros_like(nearest)
    matrices = axis_matrices(stack.shape[1:], nearest.shape[1:], [order] * (stack.ndim - 1))
    for label in np.unique(stack):
        score = np.clip(multiply_axes((stack == label).astype(np.float64), matrices), 0, 1)
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
