"""Where voxels are: the grid of an image, boxes on it, and what crop, transpose and resample do to it.

World coordinates are in millimetres and in SimpleITK's frame (x to the left, y to the back, z up).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from autoseg.core.errors import ImageError
from autoseg.core.types import Axes, Mask, Shape, Spacing, by

Matrix = tuple[tuple[float, ...], ...]
PAIRS = ("LR", "PA", "SI")  # letters of the world's axes, growing and shrinking
SMALL = 0.1  # mm between voxels, below which a difference of 0.001 mm is no rounding any more
PLANAR_SPACING = 999.0  # nnU-Net's mark for the slice axis of an image that has none


@dataclass(frozen=True, slots=True)
class Box:
    """A half-open box of voxels, ``start <= position < stop`` along each axis.

    >>> Box((1, 0), (3, 5)).shape
    (2, 5)
    """

    start: Shape
    stop: Shape

    @property
    def shape(self) -> Shape:
        """Voxels along each axis."""
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def slices(self) -> tuple[slice, ...]:
        """For indexing an array: ``array[(..., *box.slices)]``."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    def grow(self, voxels: int) -> Box:
        """The box with so many voxels around it; its end may lie beyond the array's, where a slice ends anyway."""
        return Box(tuple(max(a - voxels, 0) for a in self.start), tuple(b + voxels for b in self.stop))


@dataclass(frozen=True, slots=True)
class Grid:
    """Shape, spacing, origin and direction of an image with two or three axes.

    `direction` has one column an array axis: the world direction in which its index grows.

    >>> grid = Grid.of((10, 20, 20), spacing=(3.0, 1.0, 1.0))
    >>> grid.to_world((1, 0, 2))
    array([2., 0., 3.])
    """

    shape: Shape
    spacing: Spacing
    origin: tuple[float, ...]
    direction: Matrix

    def __post_init__(self) -> None:
        n = len(self.shape)
        if n not in (2, 3):
            raise ImageError(f"a grid has 2 or 3 axes, this one has {n}: shape {self.shape}.")
        if len(self.spacing) != n:
            raise ImageError(f"{n} axes need {n} spacings, got {len(self.spacing)}: {self.spacing}.")
        if not all(np.isfinite(s) and s > 0 for s in self.spacing):
            raise ImageError(
                f"the spacing {self.spacing} has a value that is not a positive number of millimetres. "
                "Correct the header, or give the spacing when you open the dataset."
            )
        if not all(math.isfinite(value) for row in (self.origin, *self.direction) for value in row):
            raise ImageError(
                f"the origin {self.origin} and the direction {self.direction} hold a value that is not a number, so "
                "nothing says where the voxels lie. Correct the header: of NIfTI the sform, or the qform."
            )

    @classmethod
    def of(cls, shape: Sequence[int], spacing: Sequence[float] | None = None) -> Grid:
        """An axis-aligned grid at the world's origin; spacing is 1 mm where none is given."""
        n = len(shape)
        spacing = tuple(float(s) for s in spacing) if spacing is not None else (1.0,) * n
        direction = tuple(tuple(float(i == n - 1 - j) for j in range(n)) for i in range(n))
        return cls(tuple(int(s) for s in shape), spacing, (0.0,) * n, direction)

    @classmethod
    def from_numbers(cls, shape: Iterable[Any], spacing: Iterable[Any], origin: Any, direction: Any) -> Grid:
        """A grid of another library's numbers, in array order; no zero is a negative one."""
        origin, direction = (np.asarray(values, float) + 0.0 for values in (origin, direction))
        rows = tuple(map(tuple, direction.tolist()))
        return cls(tuple(map(int, shape)), tuple(map(float, spacing)), tuple(origin.tolist()), rows)

    @property
    def dimensions(self) -> int:
        """2 or 3."""
        return len(self.shape)

    @property
    def extent(self) -> tuple[float, ...]:
        """Length of each axis in mm."""
        return tuple(n * s for n, s in zip(self.shape, self.spacing, strict=True))

    @property
    def orientation(self) -> str:
        """The anatomical direction in which each array axis grows, as letters (``SPL`` for a usual axial MR)."""
        if self.dimensions == 2:
            return ""
        columns = np.asarray(self.direction).T
        return "".join(PAIRS[int(np.argmax(abs(c)))][int(c[np.argmax(abs(c))] < 0)] for c in columns)

    def to_world(self, index: Sequence[float] | np.ndarray) -> np.ndarray:
        """The position in mm of a voxel index (array order); fractions are allowed."""
        scaled = np.asarray(index, float) * np.asarray(self.spacing)
        return np.asarray(np.asarray(self.origin) + np.asarray(self.direction) @ scaled)

    def to_index(self, point: Sequence[float] | np.ndarray) -> np.ndarray:
        """The fractional voxel index (array order) of a position in mm."""
        offset = np.asarray(point, float) - np.asarray(self.origin)
        return np.asarray(np.linalg.solve(np.asarray(self.direction), offset) / np.asarray(self.spacing))

    def crop(self, box: Box) -> Grid:
        """The grid of ``array[box.slices]``."""
        return replace(self, shape=box.shape, origin=tuple(self.to_world(box.start).tolist()))

    def transpose(self, axes: Axes) -> Grid:
        """The grid of ``array.transpose(axes)``; voxels keep their place in the world."""
        direction = tuple(tuple(row[a] for a in axes) for row in self.direction)
        shape, spacing = (tuple(v[a] for a in axes) for v in (self.shape, self.spacing))
        return Grid(tuple(int(s) for s in shape), spacing, self.origin, direction)

    def flip(self, axes: Axes) -> Grid:
        """The grid of ``numpy.flip(array, axes)``; voxels keep their place in the world."""
        corner = [n - 1 if i in axes else 0 for i, n in enumerate(self.shape)]
        direction = tuple(tuple(0.0 - v if i in axes else v for i, v in enumerate(row)) for row in self.direction)
        return replace(self, origin=tuple(self.to_world(corner).tolist()), direction=direction)

    def turn_to(self, orientation: str) -> tuple[Axes, Axes]:
        """The order of axes, then the axes to flip, that bring this grid to an orientation such as ``SPL``.

        Raises `ImageError` where a letter is missing, or this grid is so oblique that two axes share one.

        >>> Grid.of((4, 5, 6)).orientation, Grid.of((4, 5, 6)).turn_to("RPS")
        ('SPL', ((2, 1, 0), (0,)))
        """
        opposite = dict(zip("LRPASI", "RLAPIS", strict=True))
        mine = self.orientation
        for letters in (mine, orientation):
            if {frozenset(letter + opposite.get(letter, "")) for letter in letters} != set(map(frozenset, PAIRS)):
                raise ImageError(f"{letters!r} is not an orientation of three axes, such as 'SPL'; a grid is {mine!r}.")
        axes = tuple(next(i for i, m in enumerate(mine) if m in (o, opposite[o])) for o in orientation)
        return axes, tuple(i for i, (a, o) in enumerate(zip(axes, orientation, strict=True)) if mine[a] != o)

    def resample(self, shape: Shape) -> Grid:
        """The grid with another number of voxels over the same extent: edges stay, centres move."""
        spacing = tuple(e / n for e, n in zip(self.extent, shape, strict=True))
        first_centre = [(new - old) / (2 * old) for new, old in zip(spacing, self.spacing, strict=True)]
        return replace(self, shape=tuple(shape), spacing=spacing, origin=tuple(self.to_world(first_centre).tolist()))

    def as_3d(self) -> Grid:
        """A 2D grid with a slice axis of one voxel in front, as nnU-Net stores it; a 3D grid as it is."""
        if self.dimensions == 3:
            return self
        direction = ((0.0, *self.direction[0]), (0.0, *self.direction[1]), (1.0, 0.0, 0.0))
        slice_spacing = PLANAR_SPACING * (1.0 if set(self.spacing) == {1.0} else max(self.spacing))
        return Grid((1, *self.shape), (slice_spacing, *self.spacing), (*self.origin, 0.0), direction)

    def difference(self, other: Grid) -> str:
        """What differs from another grid beyond rounding, in words; empty if they agree.

        Tolerances are nnU-Net's, numpy's `allclose`; those in mm shrink with voxels that are small themselves.
        """
        if self.shape != other.shape:
            return f"shape {by(self.shape)} against {by(other.shape)}"
        share = min(1.0, *(s / SMALL for s in (*self.spacing, *other.spacing)))
        for name, relative, absolute in (
            ("spacing", 1e-5, 1e-5 * share),
            ("direction", 1e-5, 1e-5),  # before the origin, which moves to another corner with it
            ("origin", 1e-5 * share, 1e-3 * share),
        ):
            mine, yours = (np.asarray(getattr(g, name)) for g in (self, other))
            if not np.allclose(mine, yours, rtol=relative, atol=absolute):
                digits = 4 - math.floor(math.log10(share))
                return f"{name} {np.round(mine, digits).tolist()} against {np.round(yours, digits).tolist()}"
        return ""


def bounding_box(mask: Mask) -> Box:
    """The tight box around a mask; the whole array where the mask is empty.

    >>> bounding_box(np.array([[False, False, False], [False, True, True]]))
    Box(start=(1, 1), stop=(2, 3))
    """
    start, stop = [], []
    for axis in range(mask.ndim):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        start.append(int(hit[0]) if hit.size else 0)
        stop.append(int(hit[-1]) + 1 if hit.size else mask.shape[axis])
    return Box(tuple(start), tuple(stop))
