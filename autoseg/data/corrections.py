"""What is put right in memory each time a case is read; the files stay as they are.

`autoseg.data.fixes` makes corrected datasets; nothing here needs to be called by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import ndimage

from autoseg.core.errors import ImageError
from autoseg.core.types import Spacing
from autoseg.data.geometry import Grid
from autoseg.data.images import Image, LabelMap

LabelGrid = Literal["file", "image", "resampled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrections:
    """How one case is read otherwise than its files say.

    Args:
        spacing: mm per voxel, in the array's order, in place of what the headers say.
        label_grid: ``image``: the label map's voxels lie on the image's; ``resampled``: they are brought onto the
            image's grid through world coordinates, by nearest neighbour.
        fill: what takes the place of image voxels that are NaN or infinite.
        label_fill: the same for the label map, before values are renumbered.
        round_labels: label values become the nearest whole number.
    """

    spacing: Spacing | None = None
    label_grid: LabelGrid = "file"
    fill: float | None = None
    label_fill: int | None = None
    round_labels: bool = False

    def of_image(self, image: Image) -> Image:
        """The image as it is to be used."""
        array, fill = image.array, self.fill
        if fill is not None and not np.isfinite(array).all():
            array = np.where(np.isfinite(array), array, np.float32(fill))
        return Image(array, self._spaced(image.grid), image.channels)

    def of_label_voxels(self, stored: np.ndarray) -> np.ndarray:
        """The label map's voxels as the file has them, corrected before integers are expected."""
        if stored.dtype.kind != "f":
            return stored
        if self.label_fill is not None:
            stored = np.where(np.isfinite(stored), stored, stored.dtype.type(self.label_fill))
        return np.round(stored) if self.round_labels else stored

    def of_label_map(self, label_map: LabelMap, image_grid: Grid | None) -> LabelMap:
        """The label map as it is to be used; `image_grid` is the corrected image's, where `label_grid` asks for it.

        Raises `ImageError` where the label map should take the image's grid but has another shape.
        """
        if image_grid is None or self.label_grid == "file":
            return replace(label_map, grid=self._spaced(label_map.grid))
        if self.label_grid == "resampled":
            return replace(label_map, array=onto(label_map.array, label_map.grid, image_grid), grid=image_grid)
        if label_map.grid.shape != image_grid.shape:
            raise ImageError(
                f"the label map is to take the image's grid, but has {_x(label_map.grid.shape)} voxels where the "
                f"image has {_x(image_grid.shape)}. Bring it onto the image's grid instead: label_grid='resampled'."
            )
        return replace(label_map, grid=image_grid)

    def _spaced(self, grid: Grid) -> Grid:
        return grid if self.spacing is None else replace(grid, spacing=self.spacing)


def onto(labels: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """A label map on another grid: at each voxel the nearest label in the world, background outside.

    >>> coarse, fine = Grid.of((2, 2), (2.0, 2.0)), Grid.of((3, 3))
    >>> onto(np.array([[0, 1], [2, 3]]), coarse, fine)
    array([[0, 1, 1],
           [2, 3, 3],
           [2, 3, 3]])
    """
    first = source.to_index(target.to_world((0,) * target.dimensions))
    steps = [source.to_index(target.to_world(unit)) - first for unit in np.eye(target.dimensions)]
    moved: np.ndarray = ndimage.affine_transform(
        labels, np.transpose(steps), first, target.shape, order=0, mode="grid-constant", cval=0
    )
    return moved


def _x(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
