"""Images and label maps: voxels with their grid, read and written through SimpleITK and nibabel.

NIfTI voxels come through nibabel and everything else through SimpleITK, because SimpleITK's NIfTI reader turns NaN into
zero and fills the missing half of a truncated ``.nii.gz`` with zeros, without a word.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autoseg.core.errors import ImageError
from autoseg.core.serialization import atomic_path
from autoseg.core.shown import Shown
from autoseg.core.types import ImageArray, LabelArray, PathLike
from autoseg.data.geometry import Grid
from autoseg.data.label_values import as_stored, meant_by
from autoseg.data.labels import Labels

if TYPE_CHECKING:
    import SimpleITK as sitk

NIFTI = (".nii", ".nii.gz")
PHOTOGRAPHS = (".png", ".bmp", ".jpg", ".jpeg")  # their headers' "resolution" is dots per inch, never a voxel size
STACKS = (".tif", ".tiff")
UNREADABLE = (RuntimeError, OSError, EOFError, ValueError, OverflowError, MemoryError, zlib.error)  # what readers raise
SUFFIXES = (*NIFTI, ".nrrd", ".mha", ".mhd", ".gipl", *STACKS, *PHOTOGRAPHS)


@dataclass(frozen=True, slots=True, eq=False)
class Image(Shown):
    """Intensities, float32, shape ``(channel, z, y, x)`` or ``(channel, y, x)``, with the grid of the space axes."""

    array: ImageArray
    grid: Grid
    channels: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.array.shape[1:] != self.grid.shape:
            raise ImageError(f"an array of shape {self.array.shape} does not fit the grid {self.grid.shape}.")
        if len(self.channels) != len(self.array):
            raise ImageError(
                f"the image has {len(self.array)} channel(s), but {len(self.channels)} are declared: "
                f"{', '.join(self.channels)}. Correct 'channel_names' in dataset.json, or the files of this case."
            )

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.grid.shape))
        spacing = "x".join(f"{s:.3g}" for s in self.grid.spacing)
        return f"Image({shape} voxels of {spacing} mm, {', '.join(self.channels)})"


@dataclass(frozen=True, slots=True, eq=False)
class LabelMap(Shown):
    """Integer classes, shape ``(z, y, x)`` or ``(y, x)``, with their grid and their meaning."""

    array: LabelArray
    grid: Grid
    labels: Labels

    def __post_init__(self) -> None:
        if self.array.shape != self.grid.shape:
            raise ImageError(f"a label map of shape {self.array.shape} does not fit the grid {self.grid.shape}.")

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.grid.shape))
        return f"LabelMap({shape} voxels, {self.labels!r})"


def suffix_of(path: PathLike) -> str:
    """The suffix by which the format is known, in small letters; ``.nii.gz`` counts as one.

    >>> suffix_of("case_0000.NII.gz")
    '.nii.gz'
    """
    name = Path(path).name.lower()
    return next((s for s in sorted(SUFFIXES, key=len, reverse=True) if name.endswith(s)), Path(name).suffix)


def file_state(path: Path) -> list[Any]:
    """Path, size and time of a file and of those that readers look for beside it: what changes when the image may."""
    stem = path.name.removesuffix(suffix_of(path))
    beside = [path.with_name(f"{name}.json") for name in {stem, stem.rpartition("_")[0]} if name]
    beside += [path.with_suffix(suffix) for suffix in (".raw", ".zraw")]
    found = [p for p in (path, *sorted(beside)) if p.exists()]
    return [[str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns] for p in found]


def read_image(paths: Sequence[PathLike], channels: Sequence[str]) -> Image:
    """One image from one file a channel, or from a single file that holds them all.

    Raises `ImageError` for unreadable files and for channel files that do not share a grid.
    """
    arrays, grids = zip(*(_read(Path(p)) for p in paths), strict=True)
    for path, grid in zip(paths[1:], grids[1:], strict=True):
        if grid.shape != grids[0].shape or not np.allclose(grid.spacing, grids[0].spacing):
            raise ImageError(
                f"{Path(path).name} and {Path(paths[0]).name} are channels of one case but differ: "
                f"{grid.difference(grids[0])}. Resample them to one grid first."
            )
    return Image(np.concatenate(arrays).astype(np.float32, copy=False), grids[0], tuple(channels))


def read_label_map(path: PathLike, labels: Labels) -> LabelMap:
    """A label map, in a small integer type; values that `labels` renumbers are read as what they stand for.

    Raises `ImageError` where values are not whole numbers.
    """
    return label_map_from(*read_voxels(path), labels, Path(path).name)


def read_voxels(path: PathLike) -> tuple[np.ndarray, Grid]:
    """The voxels of a file as they are, (channel, *space), in the file's own type, and their grid."""
    return _read(Path(path))


def label_map_from(stored: np.ndarray, grid: Grid, labels: Labels, name: str) -> LabelMap:
    """A label map of voxels as a file has them; `name` is the file's, for the `ImageError` where they cannot be one."""
    array = meant_by(stored, labels)
    if len(array) > 1:
        raise ImageError(f"{name} has {len(array)} channels; a label map has one integer a voxel.")
    return LabelMap(_as_integers(array[0], name), grid, labels)


def _as_integers(values: np.ndarray, name: str) -> np.ndarray:
    if values.dtype.kind == "f":
        wrong = ~np.isfinite(values) | (values != np.round(values))
        if wrong.any():
            raise ImageError(
                f"{name}: {int(wrong.sum())} voxels are not whole numbers (one is {values[wrong][0]}). "
                "A label map holds one integer class a voxel; was this one interpolated, or is it an image?"
            )
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    return values.astype(np.uint8 if low >= 0 and high < 256 else np.int32)


def _read(path: Path) -> tuple[np.ndarray, Grid]:
    """Voxels as ``(channel, *space)`` in the file's own type, and the grid."""
    if not path.exists():
        raise ImageError(f"{path} does not exist.")
    suffix = suffix_of(path)
    if suffix not in SUFFIXES:
        raise ImageError(f"{path.name}: the format {suffix or 'without suffix'} is not known. {_formats()}")
    try:
        return _read_nifti(path) if suffix in NIFTI else _read_sitk(path, suffix)
    except UNREADABLE as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise ImageError(
            f"{path} cannot be read as {suffix}: {reason}. It may be damaged or cut short: "
            f"it has {path.stat().st_size} bytes. Copy it again from its source."
        ) from error


def _formats() -> str:
    return f"Readable: {', '.join(s[1:] for s in SUFFIXES)}."


def _read_nifti(path: Path) -> tuple[np.ndarray, Grid]:
    import nibabel as nib
    import SimpleITK as sitk
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    reader = sitk.ImageFileReader()
    reader.SetImageIO("NiftiImageIO")  # else every format that ITK knows is tried first
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    try:
        kind = type(nib.load(path))
    except (ImageFileError, HeaderDataError) as error:
        raise ValueError(str(error)) from error
    values = np.ascontiguousarray(_nifti_values(path, kind).T)  # files count x fastest, arrays z first
    if values.dtype.kind == "f":
        values = values.astype(np.float32)
    size, spacing, origin, direction = (
        f() for f in (reader.GetSize, reader.GetSpacing, reader.GetOrigin, reader.GetDirection)
    )
    if len(size) == 4:
        values = values.reshape(size[::-1])
        direction = np.reshape(direction, (4, 4))[:3, :3].ravel()
        return values, _grid(size[:3], spacing[:3], origin[:3], direction)
    return values.reshape(1, *size[::-1]), _grid(size, spacing, origin, direction)


def _nifti_values(path: Path, kind: Any) -> np.ndarray:
    """The voxels as stored, scaled; of a zipped file the checksum at its end is read too."""
    import nibabel as nib

    with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
        image = kind.from_file_map({"image": nib.FileHolder(path.name, file)})
        values: np.ndarray = np.asanyarray(image.dataobj)
        while file.read(1 << 20):
            pass
    return values


def _read_sitk(path: Path, suffix: str) -> tuple[np.ndarray, Grid]:
    import SimpleITK as sitk

    image = sitk.ReadImage(str(path))
    values = sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        values = np.moveaxis(values, -1, 0)
    elif image.GetDimension() == 3 and image.GetSize()[2] == 1 and suffix in (*PHOTOGRAPHS, *STACKS):
        return values, Grid.of(values.shape[1:])
    else:
        values = values[None]
    if suffix in PHOTOGRAPHS:
        return values, Grid.of(values.shape[1:])
    if suffix in STACKS:
        return values, Grid.of(values.shape[1:], _spacing_beside(path, values.ndim - 1))
    return values, _grid(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())


def _spacing_beside(path: Path, dimensions: int) -> tuple[float, ...] | None:
    """A TIFF's spacing from the JSON beside it: ``{"spacing": [z, y, x]}``, nnU-Net's convention."""
    stem = path.name[: -len(suffix_of(path))]
    for name in (stem, stem.rpartition("_")[0]):
        sidecar = path.with_name(f"{name}.json")
        if name and sidecar.exists():
            return _spacing_in(sidecar, dimensions)
    return None


def _spacing_in(sidecar: Path, dimensions: int) -> tuple[float, ...]:
    try:
        content = json.loads(sidecar.read_text())
        spacing = tuple(float(s) for s in content["spacing"][-dimensions:])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ImageError(
            f'{sidecar} does not say {{"spacing": [z, y, x]}} in millimetres ({type(error).__name__}: {error}). '
            "Correct it, or remove it if the voxels are 1 mm."
        ) from error
    if len(spacing) != dimensions:
        raise ImageError(f"{sidecar} gives {len(spacing)} spacing(s) for an image with {dimensions} axes.")
    return spacing


def _grid(size: Sequence[int], spacing: Sequence[float], origin: Sequence[float], direction: Any) -> Grid:
    """A grid from SimpleITK's values, which count x first."""
    n = len(size)
    columns = np.reshape(direction, (n, n))[:, ::-1]
    return Grid(
        tuple(int(s) for s in size[::-1]),
        tuple(abs(float(s)) for s in spacing[::-1]),
        tuple(float(o) for o in origin),
        tuple(tuple(float(v) for v in row) for row in columns),
    )


def to_sitk(array: np.ndarray, grid: Grid) -> sitk.Image:
    """A SimpleITK image of an array without channel axis, or with colours as its last, with its geometry."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(array, isVector=array.ndim > grid.dimensions)
    image.SetSpacing(grid.spacing[::-1])
    image.SetOrigin(grid.origin)
    image.SetDirection(np.asarray(grid.direction)[:, ::-1].ravel().tolist())
    return image


def write_label_map(label_map: LabelMap, path: PathLike) -> Path:
    """Write a label map on its own grid, with the values that its dataset's files have, in one step.

    Raises `StorageError` where the folder is not writable, `ImageError` for an unknown format.
    """
    import SimpleITK as sitk

    path = Path(path)
    if suffix_of(path) not in SUFFIXES:
        raise ImageError(f"{path.name}: the format {path.suffix or 'without suffix'} cannot be written. {_formats()}")
    array = as_stored(label_map.array, label_map.labels)
    with atomic_path(path) as temporary:
        try:
            sitk.WriteImage(to_sitk(array, label_map.grid), str(temporary), useCompression=True)
        except RuntimeError as error:  # SimpleITK's only error type
            raise OSError(None, str(error).strip().splitlines()[-1]) from error
    return path
