"""What is put right in memory each time a case is read; the files stay as they are.

`autoseg.data.fixes` makes corrected datasets; nothing here needs to be called by hand.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from scipy import ndimage

from autoseg.core.errors import ImageError
from autoseg.core.types import LabelArray, Spacing
from autoseg.data.geometry import Grid
from autoseg.data.images import Image, LabelMap
from autoseg.data.label_values import nearest_value
from autoseg.data.labels import FileValue

Voxels = TypeVar("Voxels", Image, LabelMap)


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrections:
    """How one case is read otherwise than its files say, in the order in which it is done.

    Args:
        fill: what takes the place of image voxels that are NaN or infinite.
        scale: what the image is multiplied with; a number, or one a channel.
        shift: what is then added to it.
        label_fill: what takes the place of label voxels that are NaN or infinite, before values are renumbered.
        round_labels: label values become the nearest whole number.
        label_values: each label voxel becomes the nearest of these values or colours, for files that smeared them.
        image_grid: where the image's voxels lie, whatever its header says.
        label_grid: where the label map's voxels lie, whatever its header says; a picture may be a volume's one slice.
        label_onto: the grid onto which the label map is brought through world coordinates, by nearest neighbour.
        spacing: mm per voxel of image and label map, in the array's order.
        orientation: axes of image and label map are put into this order and direction, such as ``SPL``.
    """

    fill: float | None = None
    scale: float | tuple[float, ...] = 1.0
    shift: float | tuple[float, ...] = 0.0
    label_fill: int | None = None
    round_labels: bool = False
    label_values: tuple[FileValue, ...] = ()
    image_grid: Grid | None = None
    label_grid: Grid | None = None
    label_onto: Grid | None = None
    spacing: Spacing | None = None
    orientation: str | None = None

    def of_image(self, image: Image) -> Image:
        """The image as it is to be used. Raises `ImageError` where a given grid does not fit it."""
        array = image.array
        if self.fill is not None and not np.isfinite(array).all():
            array = np.where(np.isfinite(array), array, np.float32(self.fill))
        if (self.scale, self.shift) != (1, 0):
            column = (-1, *(1,) * image.grid.dimensions)
            scale, shift = (np.asarray(v, np.float32).reshape(column) for v in (self.scale, self.shift))
            array = array * scale + shift
        return self._placed(Image(array, self.image_grid or image.grid, image.channels))

    def of_stored(self, stored: np.ndarray) -> np.ndarray:
        """The label map's voxels as the file has them, (channel, *space), before integers are expected of them."""
        if self.label_fill is not None and stored.dtype.kind == "f":
            stored = np.where(np.isfinite(stored), stored, stored.dtype.type(self.label_fill))
        if self.round_labels and stored.dtype.kind == "f":
            stored = np.round(stored)
        return nearest_value(stored, self.label_values) if self.label_values else stored

    def of_label(self, label_map: LabelMap) -> LabelMap:
        """The label map as it is to be used. Raises `ImageError` where a given grid does not fit it."""
        if self.label_grid is not None:
            array, shape = label_map.array, self.label_grid.shape
            picture = array.ndim != len(shape) and array.size == np.prod(shape)
            label_map = replace(label_map, array=array.reshape(shape) if picture else array, grid=self.label_grid)
        if self.label_onto is not None:
            array = onto(label_map.array, label_map.grid, self.label_onto)
            label_map = replace(label_map, array=array, grid=self.label_onto)
        return self._placed(label_map)

    def _placed(self, voxels: Voxels) -> Voxels:
        """With the spacing, then the orientation, that image and label map share."""
        grid = voxels.grid if self.spacing is None else replace(voxels.grid, spacing=self.spacing)
        if self.orientation is None or grid.dimensions == 2:
            return replace(voxels, grid=grid)
        axes, flipped = grid.turn_to(self.orientation)
        lead = voxels.array.ndim - 3
        turned = voxels.array.transpose(*range(lead), *(a + lead for a in axes))
        array = np.ascontiguousarray(np.flip(turned, tuple(a + lead for a in flipped)))
        return replace(voxels, array=array, grid=grid.transpose(axes).flip(flipped))


def onto(labels: LabelArray, source: Grid, target: Grid) -> LabelArray:
    """A label map on another grid: at each voxel the nearest label in the world, background outside.

    Raises `ImageError` where one grid has two axes and the other three.

    >>> coarse, fine = Grid.of((2, 2), (2.0, 2.0)), Grid.of((3, 3))
    >>> onto(np.array([[0, 1], [2, 3]]), coarse, fine)
    array([[0, 1, 1],
           [2, 3, 3],
           [2, 3, 3]])
    """
    if source.dimensions != target.dimensions:
        raise ImageError(f"a label map with {source.dimensions} axes cannot be put on a grid with {target.dimensions}.")
    first = source.to_index(target.to_world((0,) * target.dimensions))
    steps = [source.to_index(target.to_world(unit)) - first for unit in np.eye(target.dimensions)]
    moved: np.ndarray = ndimage.affine_transform(
        labels, np.transpose(steps), first, target.shape, order=0, mode="grid-constant", cval=0
    )
    return moved
