"""Images and label maps: voxels with their grid, read and written."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autoseg.core.errors import ImageError
from autoseg.core.serialization import atomic_path, write_json
from autoseg.core.shown import Shown
from autoseg.core.types import ImageArray, LabelArray, PathLike, by
from autoseg.data.exchange import to_nibabel, to_sitk, to_torchio, voxels_from
from autoseg.data.formats import LOSSY, PHOTOGRAPHS, STACKS, WRITABLE, is_whole, read_voxels, stem_of, suffix_of
from autoseg.data.geometry import Grid
from autoseg.data.label_values import as_stored, count_colours, count_values, meant_by
from autoseg.data.labels import Labels

if TYPE_CHECKING:
    import SimpleITK as sitk


@dataclass(frozen=True, slots=True, eq=False)
class Image(Shown):
    """Intensities, float32, shape ``(channel, z, y, x)`` or ``(channel, y, x)``, with the grid of the space axes.

    >>> image = dataset["seahorse_009"].image()
    >>> image, image.array.shape
    (Image(38x47x41 voxels of 1x1x1 mm, MRI), (1, 38, 47, 41))
    """

    array: ImageArray
    grid: Grid
    channels: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.array.shape[1:] != self.grid.shape:
            raise ImageError(f"an array of shape {self.array.shape} does not fit the grid {self.grid.shape}.")
        declared = len(self.channels)
        if declared != len(self.array):
            advice = "Correct 'channel_names' in dataset.json, or the files of this case."
            if 1 < declared == self.array.shape[-1]:
                advice = f"The last axis has {declared}: are these the channels? They come first, (channel, z, y, x), "
                advice += "with a z of 1 for pictures; only bytes may have colours last."
            raise ImageError(
                f"the image has {len(self.array)} channel(s), but {declared} are declared: "
                f"{', '.join(self.channels)}. {advice}"
            )

    @classmethod
    def of(cls, what: Any, *, spacing: Sequence[float] | None = None, channels: Sequence[str] = ()) -> Image:
        """An image of SimpleITK, nibabel or TorchIO, or an array with its spacing (mm, array order).

        >>> Image.of(np.zeros((4, 5, 6)), spacing=(2.0, 1.0, 1.0))
        Image(4x5x6 voxels of 2x1x1 mm, image)
        """
        array, grid = voxels_from(what, spacing=spacing)
        if channels:
            array = without_copies(array, len(channels))
        return cls(array.astype(np.float32, copy=False), grid, tuple(channels) or default_channels(len(array)))

    def to_sitk(self) -> sitk.Image:
        """The same as a SimpleITK image; several channels become the components of a voxel."""
        return to_sitk(self._channels_last(), self.grid)

    def to_nibabel(self) -> Any:
        """The same as a nibabel image; several channels become its fourth axis."""
        return to_nibabel(self._channels_last(), self.grid)

    def to_torchio(self) -> Any:
        """The same as TorchIO's ScalarImage."""
        return to_torchio(self.array, self.grid, labels=False)

    def _channels_last(self) -> np.ndarray:
        return self.array[0] if len(self.array) == 1 else np.moveaxis(self.array, 0, -1)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.array(self.array, dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        return f"Image({by(self.grid.shape)} voxels of {by(self.grid.spacing, 3)} mm, {', '.join(self.channels)})"


@dataclass(frozen=True, slots=True, eq=False)
class LabelMap(Shown):
    """Integer classes, shape ``(z, y, x)`` or ``(y, x)``, with their grid and their meaning.

    >>> label_map = dataset["seahorse_009"].label()
    >>> label_map, label_map.array.max()
    (LabelMap(38x47x41 voxels, Labels(0 background, 1 head, 2 tail)), np.uint8(2))
    """

    array: LabelArray
    grid: Grid
    labels: Labels

    def __post_init__(self) -> None:
        if self.array.shape != self.grid.shape:
            raise ImageError(f"a label map of shape {self.array.shape} does not fit the grid {self.grid.shape}.")

    def to(self, library: str) -> Any:
        """The same in the type of ``numpy``, ``SimpleITK``, ``nibabel`` or ``torchio``; itself for any other word."""
        ways = {"SimpleITK": self.to_sitk, "nibabel": self.to_nibabel, "torchio": self.to_torchio}
        ways["numpy"] = lambda: as_stored(self.array, self.labels)
        return ways[library]() if library in ways else self

    def to_sitk(self) -> sitk.Image:
        """The same as a SimpleITK image, with the values that the dataset's files have."""
        return to_sitk(as_stored(self.array, self.labels), self.grid)

    def to_nibabel(self) -> Any:
        """The same as a nibabel image, with the values that the dataset's files have."""
        return to_nibabel(as_stored(self.array, self.labels), self.grid)

    def to_torchio(self) -> Any:
        """The same as TorchIO's LabelMap, with the values that the dataset's files have."""
        return to_torchio(as_stored(self.array, self.labels)[None], self.grid, labels=True)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.array(self.array, dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        return f"LabelMap({by(self.grid.shape)} voxels, {self.labels!r})"


def default_channels(count: int) -> tuple[str, ...]:
    """Names where nobody gave any.

    >>> default_channels(1), default_channels(3), default_channels(2)
    (('image',), ('red', 'green', 'blue'), ('channel 1', 'channel 2'))
    """
    if count == 3:
        return ("red", "green", "blue")
    return ("image",) if count == 1 else tuple(f"channel {i + 1}" for i in range(count))


def read_image(paths: Sequence[PathLike], channels: Sequence[str]) -> Image:
    """One image from one file a channel, or from a single file that holds them all.

    Raises `ImageError` for unreadable files and for channel files that do not share a grid.
    """
    arrays, grids = zip(*(read_voxels(p) for p in paths), strict=True)
    for path, grid in zip(paths[1:], grids[1:], strict=True):
        if grid.shape != grids[0].shape or not np.allclose(grid.spacing, grids[0].spacing):
            raise ImageError(
                f"{Path(path).name} and {Path(paths[0]).name} are channels of one case but differ: "
                f"{grid.difference(grids[0])}. Resample them to one grid first."
            )
    array = np.concatenate(arrays)
    if len(paths) == 1:
        array = without_copies(array, len(channels))
    if len(array) == 1 and len(channels) == 3 and suffix_of(paths[0]) in PHOTOGRAPHS:
        array = np.repeat(array, 3, axis=0)  # a grey photograph among those in colour
    return Image(array.astype(np.float32, copy=False), grids[0], tuple(channels))


def without_copies(array: np.ndarray, wanted: int) -> np.ndarray:
    """A picture (channel, *space) less what its format added: grey that was stored as colours, or an opaque alpha.

    >>> without_copies(np.ones((3, 2, 2)), 1).shape
    (1, 2, 2)
    """
    if len(array) == 4 > wanted and (array[3] == array[3].flat[0]).all():
        array = array[:3]
    if wanted == 1 and len(array) == 3 and (array == array[:1]).all():
        return array[:1]
    return array


def read_label_map(path: PathLike, labels: Labels) -> LabelMap:
    """A label map, in a small integer type; values that `labels` renumbers are read as what they stand for.

    Raises `ImageError` where values are not whole numbers.
    """
    return label_map_from(*read_voxels(path), labels, Path(path).name)


def label_map_from(stored: np.ndarray, grid: Grid, labels: Labels, name: str) -> LabelMap:
    """A label map of voxels as a file has them; `name` is the file's, for the `ImageError` where they cannot be one."""
    if suffix_of(name) in LOSSY:
        _require_unsmeared(stored, labels, name)
    array = meant_by(stored, labels)
    array = without_copies(array, 1) if len(array) > 1 else array
    if len(array) > 1:
        raise ImageError(
            f"{name} has {len(array)} channels; a label map has one integer a voxel. Where they are one-hot, save the "
            "number of the channel that is 1: numpy.argmax."
        )
    return LabelMap(_as_integers(array[0], name), grid, labels)


def _require_unsmeared(stored: np.ndarray, labels: Labels, name: str) -> None:
    """Values that a JPEG made are no labels, and no numbers of other labels: nobody has to say what they stand for."""
    plain = without_copies(stored, 1) if len(stored) > 1 else stored
    found = count_colours(stored) if labels.has_colours and len(stored) > 1 else count_values(plain)
    known = {*labels.stored, *(value for value, _ in labels.file_values)}
    made = [str(value) for value in found if value not in known]
    if made:
        some = ", ".join(made[:3]) + (f" and {len(made) - 3} others" if len(made) > 3 else "")
        raise ImageError(
            f"{name} is a JPEG, which smears label values: beside {', '.join(map(str, labels.stored[:5]))} it holds "
            f"{some}. autoseg.check(dataset) says how to read it, each voxel as the nearest label where these can be "
            "told apart. Better save label maps as PNG."
        )


def _as_integers(values: np.ndarray, name: str) -> np.ndarray:
    if values.dtype.kind == "f":
        wrong = ~np.isfinite(values) | (values != np.round(values))
        if wrong.any():
            raise ImageError(
                f"{name}: {int(wrong.sum())} voxels are not whole numbers (one is {values[wrong][0]}). "
                "A label map holds one integer class a voxel; was this one interpolated, or is it an image?"
            )
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    kept = np.iinfo(np.int32)
    if not kept.min <= low <= high <= kept.max:
        raise ImageError(
            f"{name} holds the value {high if high > kept.max else low}; labels are read from {kept.min:,} to "
            f"{kept.max:,}. Number the labels 0, 1, 2 and so on. Or is it an image?"
        )
    return values.astype(np.uint8 if low >= 0 and high < 256 else np.int32)


def write_label_map(label_map: LabelMap, path: PathLike) -> Path:
    """Write a label map on its own grid, with the values that its dataset's files have, in one step.

    Raises `StorageError` where the folder is not writable, `ImageError` for an unknown format.
    """
    path = Path(path)
    if suffix_of(path) not in WRITABLE:
        raise ImageError(
            f"{path.name}: the format {path.suffix or 'without suffix'} cannot be written. "
            f"These can: {', '.join(s[1:] for s in WRITABLE)}."
        )
    write_voxels(as_stored(label_map.array, label_map.labels), label_map.grid, path)
    if suffix_of(path) in STACKS and set(label_map.grid.spacing) != {1.0}:  # a TIFF has no place for it
        write_json(path.with_name(f"{stem_of(path)}.json"), {"spacing": label_map.grid.spacing})
    return path


def write_voxels(array: np.ndarray, grid: Grid, path: Path) -> None:
    """Write (*space), or (*space, channel), in one step. Raises `StorageError` where that cannot be."""
    import SimpleITK as sitk

    with atomic_path(path) as temporary:
        try:
            sitk.WriteImage(to_sitk(array, grid), str(temporary), useCompression=True)
        except RuntimeError as error:  # SimpleITK's only error type
            raise OSError(None, str(error).strip().splitlines()[-1]) from error
        if not is_whole(temporary, array.nbytes):  # of which SimpleITK says nothing
            raise OSError(errno.ENOSPC, "it was written only in part, as on a full disk")
