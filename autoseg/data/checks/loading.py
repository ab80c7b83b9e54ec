"""Reading a case that is to be used: a fault stops the work, with the case's name and what to do."""

from __future__ import annotations

import numpy as np

from autoseg.core.errors import DatasetError
from autoseg.core.types import by
from autoseg.data.dataset import Case
from autoseg.data.geometry import Grid
from autoseg.data.images import Image, LabelMap
from autoseg.data.label_values import count_values


def load_pair(case: Case) -> tuple[Image, LabelMap]:
    """Read a training case and make sure that it can be used.

    Raises `DatasetError` where image and label map do not share a grid's shape and spacing, an intensity is not a
    finite number, or a label value is not declared.
    """
    image, label_map = case.image(), case.label()
    for sound in (_same_grid, _finite, _declared):
        sound(case, image, label_map)
    return image, label_map


def load_image(case: Case) -> Image:
    """Read an image to predict; intensities must be finite numbers."""
    image = case.image()
    _finite(case, image, None)
    return image


def share_shape_and_spacing(label: Grid, image: Grid) -> bool:
    """Whether a label map can be laid on its image voxel on voxel."""
    return label.shape == image.shape and np.allclose(label.spacing, image.spacing)


def grids_differ(name: str, label: Grid, image: Grid) -> str:
    """The sentence for a label map that cannot be laid on its image."""
    drawn, shown = (f"{by(grid.shape)} voxels of {by(grid.spacing, 4)} mm" for grid in (label, image))
    return (
        f"case {name!r}: the label map is {drawn} but the image is {shown} ({'zyx'[-label.dimensions :]}). "
        "They must share a grid."
    )


def _same_grid(case: Case, image: Image, label_map: LabelMap) -> None:
    if not share_shape_and_spacing(label_map.grid, image.grid):
        raise DatasetError(
            f"{grids_differ(case.name, label_map.grid, image.grid)} autoseg.check(dataset) says how to mend "
            f"it; or leave the case out: dataset.without({case.name!r})."
        )


def _finite(case: Case, image: Image, label_map: LabelMap | None) -> None:
    wrong = ~np.isfinite(image.array)
    if wrong.any():
        first = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise DatasetError(
            f"case {case.name!r}: {int(wrong.sum())} voxels of the image are NaN or infinite, the first at "
            f"{first[1:]} of channel {image.channels[first[0]]!r}. "
            f"Replace them, or leave the case out: dataset.without({case.name!r})."
        )


def _declared(case: Case, image: Image, label_map: LabelMap) -> None:
    unknown = [v for v in count_values(label_map.array) if v not in label_map.labels.permitted]
    if unknown:
        shown = ", ".join(map(str, unknown[:5])) + (", ..." if len(unknown) > 5 else "")
        raise DatasetError(
            f"case {case.name!r}: the label map holds the value(s) {shown}, but dataset.json declares only "
            f"{', '.join(map(str, label_map.labels.permitted))}. Declare them under 'labels', or correct the file."
        )
