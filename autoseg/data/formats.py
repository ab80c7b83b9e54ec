"""Voxels as a file has them, with their grid: one reader for each kind of format.

NIfTI voxels come through nibabel and nearly everything else through SimpleITK, because SimpleITK's NIfTI reader turns
NaN into zero and fills the missing half of a truncated ``.nii.gz`` with zeros, without a word.
"""

from __future__ import annotations

import contextlib
import gzip
import re
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from autoseg.core.errors import ImageError
from autoseg.core.types import PathLike
from autoseg.data import png, tiff
from autoseg.data.geometry import Grid

NIFTI = (".nii", ".nii.gz")
HEADER = 348  # bytes of a NIfTI's header, after which 4 say whether more follows
ARRAYS = (".npy", ".npz")
PLAIN_HEADER = {".nii": 352, ".gipl": 256, ".bmp": 54}  # bytes before voxels that are not compressed
LOSSY = (".jpg", ".jpeg")  # voxels come out near what went in, which is not enough for labels
PHOTOGRAPHS = (".png", ".bmp", ".jpg", ".jpeg")  # their headers' "resolution" is dots per inch, never a voxel size
STACKS = (".tif", ".tiff")
DAMAGED = (EOFError, zlib.error, zipfile.BadZipFile)
UNREADABLE = (*DAMAGED, RuntimeError, OSError, ValueError, OverflowError, MemoryError)  # what readers raise
SUFFIXES = (*NIFTI, ".nrrd", ".nhdr", ".mha", ".mhd", ".gipl", ".dcm", *STACKS, *PHOTOGRAPHS, *ARRAYS)
WRITTEN_AS = {".mhd": ".mha", ".nhdr": ".nrrd", ".jpg": ".png", ".jpeg": ".png"}  # two files for one, or lossy
WRITABLE = tuple(s for s in SUFFIXES if s not in (".dcm", *ARRAYS, *WRITTEN_AS))


def suffix_of(path: PathLike) -> str:
    """The suffix by which the format is known, in small letters; ``.nii.gz`` counts as one.

    >>> suffix_of("case_0000.NII.gz")
    '.nii.gz'
    """
    name = Path(path).name.lower()
    return next((s for s in sorted(SUFFIXES, key=len, reverse=True) if name.endswith(s)), Path(name).suffix)


def stem_of(path: Path) -> str:
    """The name of a file without its suffix, or of a folder with a DICOM series.

    >>> stem_of(Path("scans/case_0000.nii.gz"))
    'case_0000'
    """
    return path.name if path.is_dir() else path.name[: len(path.name) - len(suffix_of(path))]


def file_state(path: Path) -> list[Any]:
    """Path, size and time of a file and of those that readers look for beside it: what changes when the image may."""
    stem = stem_of(path)
    beside = [path.with_name(f"{name}.json") for name in {stem, stem.rpartition("_")[0]} if name]
    beside += [path.with_suffix(suffix) for suffix in (".raw", ".zraw")]
    beside += _detached(path) if suffix_of(path) in (".mhd", ".nhdr") and path.is_file() else []
    found = [p for p in (path, *sorted(set(beside))) if p.exists()]
    return [[str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns] for p in found]


def _detached(path: Path) -> list[Path]:
    """The files with the voxels of a header that has none: what stands from NRRD's or MetaImage's key on."""
    key = re.compile(r"^(?:data ?file:|ElementDataFile *=)(?! *LOCAL)(.*)", re.IGNORECASE | re.MULTILINE | re.DOTALL)
    with path.open(errors="replace") as file:
        named = key.search(file.read(1 << 16))
    return [path.parent / line.strip() for line in named[1].splitlines() if line.strip()] if named else []


def read_voxels(path: PathLike) -> tuple[np.ndarray, Grid]:
    """The voxels of a file, or of a folder with a DICOM series, as they are: (channel, *space), and their grid.

    Raises `ImageError` where they cannot be read.
    """
    path = Path(path)
    if not path.exists():
        raise ImageError(f"{path} does not exist.")
    if path.is_dir():
        return _read_series(path)
    suffix = suffix_of(path)
    if suffix not in SUFFIXES:
        raise ImageError(f"{path.name}: the format {suffix or 'without suffix'} is not known. {known_formats()}")
    try:
        return _reader(suffix)(path)
    except UNREADABLE as error:
        lines = [line for line in str(error).splitlines() if line.strip() and "could the file be damaged" not in line]
        reason = lines[-1].strip(" .") if lines else type(error).__name__
        reason = re.sub(r"^ITK ERROR: (\w+\(0x\w+\): )?", "", reason)  # whose object, at which address
        raise ImageError(f"{path} cannot be read as {suffix}: {reason}. {_advice(path, error)}") from error


def _advice(path: Path, error: Exception) -> str:
    """What to do about a file that cannot be read, which is not always damaged."""
    if "orthonormal" in str(error):
        return "Its header shears: the axes are not at right angles. Correct it, or resample the image to a plain grid."
    if suffix_of(path) in NIFTI and _begins_nifti2(path):
        return "It is NIfTI-2. Save it as NIfTI-1, or as NRRD."
    if isinstance(error, MemoryError):
        return "There is not enough memory for it."
    return f"It may be damaged or cut short: it has {path.stat().st_size} bytes. Copy it again from its source."


def _begins_nifti2(path: Path) -> bool:
    with contextlib.suppress(OSError, EOFError, zlib.error), _opened(path) as file:
        return file.read(4) in (b"\x1c\x02\0\0", b"\0\0\x02\x1c")  # 540, the bytes of its header
    return False


def is_whole(path: Path, nbytes: int) -> bool:
    """Whether a file holds all of the voxels, so many bytes of them, that were written to it."""
    suffix = suffix_of(path)
    if suffix in PLAIN_HEADER:
        return path.stat().st_size >= nbytes + PLAIN_HEADER[suffix]
    try:
        if suffix != ".nii.gz":
            return read_voxels(path)[0].nbytes >= nbytes
        with gzip.open(path) as file:
            return sum(map(len, iter(lambda: file.read(1 << 20), b""))) >= nbytes + PLAIN_HEADER[".nii"]
    except (ImageError, OSError, EOFError, zlib.error):
        return False


def read_grid(path: PathLike) -> Grid:
    """The grid alone. Raises `ImageError` where it cannot be read."""
    path = Path(path)
    silent = path.is_dir() or suffix_of(path) in (*PHOTOGRAPHS, *STACKS, *ARRAYS)
    try:
        return read_voxels(path)[1] if silent else _header(path)[1]
    except UNREADABLE as error:
        raise ImageError(f"the header of {path} cannot be read: {error}.") from error


def known_formats() -> str:
    """A sentence for errors."""
    return f"Readable: {', '.join(s[1:] for s in SUFFIXES)}, and folders with a DICOM series."


def _reader(suffix: str) -> Callable[[Path], tuple[np.ndarray, Grid]]:
    if suffix in NIFTI:
        return _read_nifti
    if suffix in ARRAYS:
        return _read_array
    return _read_picture if suffix in (*PHOTOGRAPHS, *STACKS) else _read_sitk


def _read_nifti(path: Path) -> tuple[np.ndarray, Grid]:
    import nibabel as nib
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    size, grid = _header(path)
    try:
        kind = type(nib.load(path))
    except (ImageFileError, HeaderDataError) as error:
        raise ValueError(str(error)) from error
    values = np.ascontiguousarray(_nifti_values(path, kind).T)  # files count x fastest, arrays z first
    require_numbers(values.dtype, path.name)
    if values.dtype.kind == "f":
        values = values.astype(np.float32)
    if values.ndim > 4:  # time, which is one, and then the channels, as ITK writes them
        _require_one(values.shape[-4], path.name)
        return values.reshape(-1, *grid.shape), grid
    return values.reshape(*(size[::-1] if len(size) == 4 else (1, *size[::-1]))), grid


def _require_one(times: int, what: str) -> None:
    if times > 1:
        raise ImageError(f"{what} holds {times} time points of several channels; an image is one. Save each by itself.")


def require_numbers(kind: np.dtype[Any], what: str) -> None:
    """Raise `ImageError` where voxels are complex, or records such as colours of NIfTI."""
    if kind.kind not in "buif":
        raise ImageError(
            f"{what} holds voxels of type {kind}; an image holds real numbers. Save each part, or colour, as a channel."
        )


def _header(path: Path) -> tuple[tuple[int, ...], Grid]:
    """The number of voxels, x first, and the grid of a volume, without reading its voxels."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    if suffix_of(path) in NIFTI:
        reader.SetImageIO("NiftiImageIO")  # else every format that ITK knows is tried first
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    size, n = reader.GetSize(), min(reader.GetDimension(), 3)  # a fourth axis is that of channels
    direction = np.reshape(reader.GetDirection(), (reader.GetDimension(),) * 2)[:n, :n]
    spacing = _spacing_told(path, reader.GetSpacing()) if suffix_of(path) in NIFTI else reader.GetSpacing()
    return size, _grid(size[:n], spacing[:n], reader.GetOrigin()[:n], direction)


def _spacing_told(path: Path, read: Sequence[float]) -> Sequence[float]:
    """A NIfTI's spacing, x first: its sform's along each axis where pixdim is zero or no number, which ITK calls 1."""
    import nibabel as nib

    with _opened(path) as file:
        header = nib.Nifti1Header.from_fileobj(file, check=False)
    affine, code = header.get_sform(coded=True)
    if not code:
        return read
    unit = {1: 1e3, 3: 1e-3}.get(int(header["xyzt_units"]) % 8, 1.0)  # metres, micrometres
    sizes = np.linalg.norm(affine[:3, :3], axis=0) * unit
    pixdim = header["pixdim"][1 : 1 + len(sizes)]
    usable = np.isfinite(pixdim) & (pixdim != 0) | ~(sizes > 0)
    return [float(a if keep else b) for a, b, keep in zip(read, sizes, usable, strict=False)]


def _opened(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path)) if path.name.lower().endswith(".gz") else path.open("rb")


def _nifti_values(path: Path, kind: Any) -> np.ndarray:
    """The voxels as stored, scaled; of a zipped file the checksum at its end is read too."""
    import nibabel as nib
    from nibabel.arrayproxy import ArrayProxy

    with _opened(path) as file:
        image = kind.from_file_map({"image": nib.FileHolder(path.name, file)})
        said = image.dataobj
        start = said.offset if said.offset >= HEADER else HEADER + 4  # some programs leave it at 0
        stored = ArrayProxy(file, (said.shape, said.dtype, start, said.slope, said.inter))
        values: np.ndarray = np.asanyarray(stored)
        while file.read(1 << 20):
            pass
    return values


def _read_sitk(path: Path) -> tuple[np.ndarray, Grid]:
    import SimpleITK as sitk

    return voxels_of_sitk(sitk.ReadImage(str(path)))


def voxels_of_sitk(image: Any) -> tuple[np.ndarray, Grid]:
    """Voxels (channel, *space) and grid of a SimpleITK image."""
    import SimpleITK as sitk

    values = sitk.GetArrayFromImage(image)
    require_numbers(values.dtype, "this image")
    n, axes = min(image.GetDimension(), 3), image.GetDimension()  # a fourth axis is that of channels
    if image.GetNumberOfComponentsPerPixel() > 1:
        _require_one(values.shape[0] if axes == 4 else 1, "this image")
        values = np.moveaxis(values, -1, 0)
    values = values.reshape(-1, *values.shape[-n:])
    direction = np.reshape(image.GetDirection(), (axes, axes))[:n, :n]
    return values, _grid(image.GetSize()[:n], image.GetSpacing()[:n], image.GetOrigin()[:n], direction)


def _read_picture(path: Path) -> tuple[np.ndarray, Grid]:
    """Photographs, whose "resolution" is dots per inch, and TIFF stacks, whose spacing stands elsewhere."""
    values = _picture_voxels(path)
    if values.ndim == 4 and values.shape[1] == 1:
        values = values[:, 0]  # a single page
    if suffix_of(path) in PHOTOGRAPHS:
        return values, Grid.of(values.shape[1:])
    if len(values) == 1 and values.ndim == 4:
        values = tiff.channels_apart(values[0], tiff.described(path)[0], path.name)
    return values, Grid.of(values.shape[1:], tiff.spacing_of(path, values.ndim - 1))


def _picture_voxels(path: Path) -> np.ndarray:
    """Voxels (channel, *space) of a photograph, or of the pages of a TIFF."""
    import SimpleITK as sitk

    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        if suffix_of(path) in STACKS and tiff.REFUSED.search(str(error)):
            return tiff.read_otherwise(path, str(error))
        if suffix_of(path) == ".png" and "PixelType" in str(error):
            return png.grey_and_alpha(path)
        raise
    pages = tiff.misread_pages(path, image) if suffix_of(path) in STACKS else None
    if pages is not None:
        return pages[None]
    values: np.ndarray = sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        return np.moveaxis(values, -1, 0)
    return values if image.GetDimension() == 3 and image.GetSize()[2] == 1 else values[None]


def _read_series(folder: Path) -> tuple[np.ndarray, Grid]:
    """The only DICOM series of a folder."""
    import SimpleITK as sitk

    series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if len(series) != 1:
        found = f"{len(series)} DICOM series" if series else "no DICOM series"
        raise ImageError(
            f"the folder {folder} holds {found}; an image is one series. Give a folder with that one alone."
        )
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series[0]))
    try:
        return voxels_of_sitk(reader.Execute())
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ImageError(f"the DICOM series in {folder} cannot be read: {reason}. Are all its slices there?") from error


def _read_array(path: Path) -> tuple[np.ndarray, Grid]:
    """NumPy: (y, x), (z, y, x) or (channel, z, y, x); ``.npz`` with an optional ``spacing`` in mm."""
    with path.open("rb") as file:
        stored = np.load(file, allow_pickle=False)
        content = {name: stored[name] for name in stored.files} if path.suffix.lower() == ".npz" else {"array": stored}
    spacing = content.pop("spacing", None)
    if len(content) != 1:
        raise ImageError(
            f"{path.name} holds {len(content)} arrays ({', '.join(content)}); an image is one, beside 'spacing'."
        )
    (array,) = content.values()
    if array.ndim not in (2, 3, 4) or array.dtype.kind not in "buif":
        raise ImageError(
            f"{path.name} holds an array of shape {array.shape} and type {array.dtype}; an image has the axes (y, x), "
            "(z, y, x) or (channel, z, y, x), and numbers."
        )
    array = array.astype(np.uint8) if array.dtype.kind == "b" else array
    values = array if array.ndim == 4 else array[None]
    return values, Grid.of(values.shape[1:], None if spacing is None else spacing.ravel().tolist())


def grid_like(image: PathLike, label: PathLike, grid: Grid) -> Grid:
    """The grid of a label map: its own, or its image's where its format has no place for one, or nobody wrote it.

    Microscopes write the size of a voxel into an image, but programs that draw label maps as TIFF or PNG do not.
    """
    silent = suffix_of(label) in (*PHOTOGRAPHS, *STACKS, *ARRAYS) and set(grid.spacing) == {1.0}
    if not silent or suffix_of(image) in PHOTOGRAPHS:
        return grid
    if suffix_of(image) in STACKS:  # its voxels need not be read
        try:
            return Grid.of(grid.shape, tiff.spacing_of(Path(image), grid.dimensions))
        except UNREADABLE as error:
            raise ImageError(f"the spacing of {image} cannot be read: {error}.") from error
    found = read_voxels(image)[1]
    return found if found.shape == grid.shape else grid


def _grid(size: Sequence[int], spacing: Sequence[float], origin: Sequence[float], direction: Any) -> Grid:
    """A grid from SimpleITK's values, which count x first."""
    n = len(size)
    return Grid.from_numbers(size[::-1], map(abs, spacing[::-1]), origin, np.reshape(direction, (n, n))[:, ::-1])
