"""Between the values that label files hold and the classes they stand for: 255 for 1, gaps, colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from autoseg.core.errors import ImageError
from autoseg.core.types import LabelArray
from autoseg.data.labels import FileValue, Labels

TABLE = 1 << 16  # integers up to here are counted and replaced through a table, in one pass over the voxels
FEW = 20  # label values that nobody takes for intensities
APART = 32  # label values that a JPEG can smear and still be told apart
SMEAR = 8  # how far from its label most of what a JPEG smears lies,
MOSTLY = 0.8  # namely this share of all voxels
RARE = 0.001  # share of the voxels of a label that is guessed from a JPEG
FLAT = 0.6  # share of equal neighbours below which more than a few values are intensities and not labels


def count_values(stored: np.ndarray) -> dict[int | float, int]:
    """How often each value occurs, in increasing order.

    >>> count_values(np.array([[0, 255], [0, 0]], np.uint8))
    {0: 3, 255: 1}
    """
    if stored.dtype.kind in "bui" and stored.size and stored.min() >= 0 and stored.max() < TABLE:
        counts = np.bincount(stored.ravel())
        return {int(v): int(counts[v]) for v in np.flatnonzero(counts)}
    found, often = np.unique(stored, return_counts=True)
    return dict(zip(found.tolist(), often.tolist(), strict=True))


def count_colours(stored: np.ndarray) -> dict[FileValue, int]:
    """How often each colour occurs in (channel, *space), 8 or 16 bits a channel; what follows the third is left out.

    >>> count_colours(np.array([[255, 0], [0, 0], [0, 0]], np.uint8))
    {(0, 0, 0): 1, (255, 0, 0): 1}
    """
    red, green, blue = (channel.astype(np.int64) for channel in stored[:3])
    packed, counts = np.unique((red << 32) | (green << 16) | blue, return_counts=True)  # faster than rows
    colours = zip(*((packed >> bits) & 0xFFFF for bits in (32, 16, 0)), strict=True)
    return {tuple(map(int, colour)): int(n) for colour, n in zip(colours, counts, strict=True)}


def flatness(values: np.ndarray) -> float:
    """The share of neighbours, at least one of them not zero, that are equal: near 1 for labels, near 0 for images.

    >>> flatness(np.array([[0, 1, 1], [0, 1, 1]]))
    0.6666666666666666
    """
    same = pairs = 0
    for axis in range(values.ndim):
        first, second = (np.take(values, range(a, values.shape[axis] - 1 + a), axis) for a in (0, 1))
        inside = (first != 0) | (second != 0)
        pairs += int(inside.sum())
        same += int((inside & (first == second)).sum())
    return same / pairs if pairs else 1.0


def smeared_from(stored: np.ndarray) -> list[int]:
    """The few values that a lossy format made many of, as JPEG does; none where they are few still, or intensities.

    >>> smeared_from(np.array([[0, 0, 2, 0, 253, 255, 255, 0, 0]], np.uint8))
    [0, 255]
    >>> smeared_from(np.array([[0, 255, 128]], np.uint8))
    []
    """
    found = {int(value): often for value, often in count_values(stored).items()}
    if all(high - low >= APART for low, high in pairwise(found)):
        return []
    meant: list[int] = []
    for value in sorted(found, key=lambda v: -found[v]):
        if found[value] > RARE * stored.size and all(abs(value - other) >= APART for other in meant):
            meant.append(value)
    return sorted(meant) if mostly_near(found, meant) else []


def mostly_near(found: Mapping[int, int], meant: Sequence[int]) -> bool:
    """Whether nearly all voxels of some values, each with its voxels, lie as near to a label as a JPEG leaves them.

    >>> mostly_near({0: 50, 3: 10, 255: 30, 128: 2}, (0, 255)), mostly_near({0: 10, 90: 10, 200: 10}, (0, 255))
    (True, False)
    """
    near = sum(often for value, often in found.items() if any(abs(value - other) <= SMEAR for other in meant))
    return near > MOSTLY * sum(found.values())


def nearest_value(stored: np.ndarray, values: Sequence[FileValue]) -> np.ndarray:
    """Voxels of a file, (channel, *space), each with the nearest of some values or colours.

    >>> nearest_value(np.array([[3, 250, 0]], np.uint8), (0, 255))
    array([[  0, 255,   0]])
    """
    table = np.array(values).reshape(len(values), -1)  # (value, channel)
    columns = table.reshape(*table.shape, *(1,) * (stored.ndim - 1))
    away = [np.abs(stored[: table.shape[1]].astype(float) - column).sum(axis=0) for column in columns]
    return np.moveaxis(table[np.argmin(away, axis=0)], -1, 0)


def meant_by(stored: np.ndarray, labels: Labels) -> np.ndarray:
    """Voxels of a file, (channel, *space), with the values that theirs stand for; colours become one channel.

    Raises `ImageError` for a value without a meaning whose place another one has taken: a 2 where 4 is read as 2.

    >>> cells = Labels({"background": 0, "cell": 1}, file_values=((255, 1),))
    >>> meant_by(np.array([[0, 255, 0]], np.uint8), cells)
    array([[0, 1, 0]], dtype=int32)
    """
    colours = {key: value for key, value in labels.file_values if isinstance(key, tuple)}
    if colours:
        return _classes_of(stored, colours)
    if not labels.file_values:
        return stored
    found = list(count_values(stored))
    meant = dict(labels.file_values)
    for value in found:
        if value not in meant and value in labels.in_files:
            raise ImageError(
                f"the label file holds the value {value:g}, but in this dataset's files {labels.name_of(int(value))!r} "
                f"is {labels.in_files[int(value)]}. Say what {value:g} stands for: autoseg.data.fixes.relabel."
            )
    return _replaced(stored, found, [meant.get(value, value) for value in found])


def _replaced(stored: np.ndarray, old: list[int | float], new: list[int | float]) -> np.ndarray:
    if stored.dtype.kind in "bui" and old and old[0] >= 0 and old[-1] < TABLE:
        table = np.zeros(int(old[-1]) + 1, np.int32)
        table[np.array(old, int)] = new
        return np.asarray(table[stored])
    return np.array(new)[np.searchsorted(old, stored.ravel())].reshape(stored.shape)


def _classes_of(stored: np.ndarray, meant: dict[tuple[int, ...], int]) -> np.ndarray:
    """The class of each colour; a colour that nobody named becomes -1, which no label can have."""
    classes = np.full(stored.shape[1:], -1, np.int32)
    for colour, value in meant.items():
        column = np.reshape(colour, (-1, *(1,) * (stored.ndim - 1)))
        classes[(stored[: len(colour)] == column).all(axis=0)] = value
    return classes[None]


def as_stored(classes: LabelArray, labels: Labels) -> np.ndarray:
    """The values that the dataset's own files have for these classes, in the smallest type; colours as the last axis.

    >>> as_stored(np.array([0, 1, 0]), Labels({"background": 0, "cell": 1}, file_values=((255, 1),)))
    array([  0, 255,   0], dtype=uint8)
    """
    in_files = labels.in_files
    if not in_files:
        return classes.astype(np.uint8 if classes.max(initial=0) < 255 else np.uint16)
    found = [int(v) for v in count_values(classes)]
    values: list[FileValue] = [in_files.get(v, v) for v in found]
    width = max(len(v) if isinstance(v, tuple) else 0 for v in in_files.values())
    if width:
        values = [v if isinstance(v, tuple) else (0,) * width for v in values]
    table = np.array(values)
    stored: np.ndarray = table.astype(_smallest(table))[np.searchsorted(found, classes.ravel())]
    return stored.reshape(*classes.shape, *table.shape[1:])


def _smallest(values: np.ndarray) -> np.dtype[np.generic]:
    whole = values.dtype.kind != "f" or bool((values == np.round(values)).all())
    kinds = [np.min_scalar_type(int(v)) for v in (values.min(initial=0), values.max(initial=0))]
    return np.result_type(*kinds) if whole else np.dtype(np.float32)
