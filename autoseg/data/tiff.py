"""What TIFF files say beside their voxels, in the ways of ImageJ, OME and nnU-Net: spacing, channels and layout."""

from __future__ import annotations

import html
import json
import re
import unicodedata
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from autoseg.core.errors import ImageError
from autoseg.data.png import picture_of

MILLIMETRES = {"m": 1e3, "cm": 10.0, "mm": 1.0, "nm": 1e-6, "\u00c5": 1e-7, "inch": 25.4, "in": 25.4}
MILLIMETRES |= dict.fromkeys(("\u03bcm", "um", "micron", "microns", "micrometer"), 1e-3)
NO_UNIT = ("", "pixel", "pixels", "voxel", "voxels", "reference frame")  # what programs write where nobody knows it
REFUSED = re.compile(r"CODEC|can not handle|RGBA image")  # ITK's words for what is no damage, only nothing it reads
PACKED = {"33003": "JPEG 2000", "33005": "JPEG 2000", "34712": "JPEG 2000", "34887": "LERC", "50000": "zstd"}
PACKED |= {"50001": "WebP", "50002": "JPEG XL"}  # compressions by the number in the file, where ITK has no name
PLAIN = {"1": "L", "P": "RGB"}  # what Pillow makes of pages with one bit a voxel, or a palette
MOST_CHANNELS = 8  # beyond it slices were counted as channels, as some programs do


def spacing_of(path: Path, dimensions: int) -> tuple[float, ...] | None:
    """A TIFF's spacing in mm, from the JSON beside it or its own tags; None where neither says it."""
    return _spacing_beside(path, dimensions) or _spacing_in_tags(path, dimensions)


def _spacing_beside(path: Path, dimensions: int) -> tuple[float, ...] | None:
    """A TIFF's spacing from the JSON beside it: ``{"spacing": [z, y, x]}``, nnU-Net's convention."""
    for name in (path.stem, path.stem.rpartition("_")[0]):
        sidecar = path.with_name(f"{name}.json")
        if name and sidecar.exists():
            return _spacing_in(sidecar, dimensions)
    return None


def _spacing_in_tags(path: Path, dimensions: int) -> tuple[float, ...] | None:
    """A TIFF's spacing where ImageJ or OME wrote it, in mm; a plain resolution is dots per inch and says nothing."""
    said, per_pixel = described(path)
    if "PhysicalSizeX" in said:
        found = [_physical_size(said, axis, path) for axis in "ZYX"[-dimensions:]]
    elif said.startswith("ImageJ="):
        facts = dict(line.partition("=")[::2] for line in said.splitlines())
        unit = _in_millimetres(facts.get("unit", "").replace("\\u00B5", "µ"), path)
        found = [float(facts.get("spacing") or 0) * unit, *(size * unit for size in per_pixel)]
    else:
        return None
    spacing = tuple(found[-dimensions:])
    return spacing if all(np.isfinite(s) and s > 0 for s in spacing) else None


def described(path: Path) -> tuple[str, list[float]]:
    """What a TIFF says of itself in words, and the size of a pixel along y and x in a unit that the words tell."""
    with _opened(path) as picture:
        tags = getattr(picture, "tag_v2", {})
        return _text(str(tags.get(270, ""))), [1 / float(tags[k]) if tags.get(k) else 0.0 for k in (283, 282)]


def _opened(path: Path) -> Any:
    """Pillow's picture. Raises `ImageError` where it knows no such TIFF, which ITK mixes up then."""
    from PIL import UnidentifiedImageError

    try:
        return picture_of(path)
    except UnidentifiedImageError as error:
        raise _not_read(path, "voxels of a type, or so many channels, that they would be mixed up") from error


def _text(said: str) -> str:
    """Words that Pillow took for latin-1, as UTF-8 if they are that."""
    try:
        return said.encode("latin-1").decode()
    except UnicodeError:
        return said


def _in_millimetres(unit: str, path: Path) -> float:
    """A unit of length in mm; 0 for none. Raises `ImageError` where it is not known."""
    known = unicodedata.normalize("NFKC", html.unescape(unit)).strip()  # a micro sign becomes the Greek letter
    if known in MILLIMETRES or known in NO_UNIT:
        return MILLIMETRES.get(known, 0.0)
    raise ImageError(
        f"{path} gives the size of its voxels in {known!r}, which is none of {', '.join(MILLIMETRES)}. Write "
        f'{{"spacing": [z, y, x]}}, in millimetres, to {path.with_suffix(".json").name} beside it.'
    )


def read_otherwise(path: Path, refused: str) -> np.ndarray:
    """Voxels (channel, page, y, x) of a TIFF that ITK `refused`, and Pillow may read: packed by zstd, tiles of floats.

    Raises `ImageError` where it does not either.
    """
    from PIL import ImageSequence

    codec, samples = re.search(r'CODEC "?(\w+)', refused), re.search(r"\d+-bit samples", refused)
    why = f"compressed by {PACKED.get(codec[1], codec[1])}" if codec else samples[0] if samples else ""
    try:
        with picture_of(path) as picture:
            pages = [np.asarray(page.convert(PLAIN.get(page.mode))) for page in ImageSequence.Iterator(picture)]
    except OSError as error:  # that it knows no such file, too
        if not why:  # damaged
            raise
        raise _not_read(path, why) from error
    if len({page.shape for page in pages}) > 1:
        raise _not_read(path, f"{len(pages)} pages of different sizes, as a pyramid has")
    voxels = np.stack(pages)
    return np.moveaxis(voxels, -1, 0) if voxels.ndim == 4 else voxels[None]


def _not_read(path: Path, why: str) -> ImageError:
    return ImageError(
        f"{path} is a TIFF of a kind that is not read here: {why}. Save it again uncompressed or with LZW or deflate, "
        "8, 16 or 32 bits a voxel and all pages of one size, or as NIfTI. If no program opens it, it is damaged."
    )


def misread_pages(path: Path, image: Any) -> np.ndarray | None:
    """The pages (page, y, x) of a TIFF of which ITK made 8 bits, as it does of tiles of 16; None of all others.

    Raises `ImageError` where channels lie side by side in a way that ITK mixes up.
    """
    from PIL import ImageSequence

    with _opened(path) as picture:
        _require_all_pages(picture, path)
        tags = getattr(picture, "tag_v2", {})
        bits, samples = int(np.max(tags.get(258, 8))), int(tags.get(277, 1))
        if bits <= 8 * image.GetSizeOfPixelComponent() and samples <= image.GetNumberOfComponentsPerPixel():
            return None
        if samples > 1:
            raise ImageError(
                f"{path.name} holds {samples} channels of {bits} bits, laid out in a way that is read wrongly here. "
                "Save it with one file a channel, or as NIfTI or NRRD."
            )
        return np.stack([np.asarray(page) for page in ImageSequence.Iterator(picture)])


def _require_all_pages(picture: Any, path: Path) -> None:
    """Raise `ImageError` where a page is announced and not there, which ITK passes over without a word."""
    try:
        with warnings.catch_warnings(action="ignore"):
            _ = getattr(picture, "n_frames", 1)
    except TypeError as error:  # Pillow's for a page without a size
        raise ImageError(
            f"{path} is cut short: it has {path.stat().st_size} bytes, and some of its pages lie beyond. Copy it again "
            "from its source."
        ) from error


def channels_apart(pages: np.ndarray, said: str, name: str = "it") -> np.ndarray:
    """Pages (page, y, x) as (channel, *space), where ImageJ or OME says that several channels are among them.

    Raises `ImageError` where there are several time points, or several images.

    >>> channels_apart(np.zeros((6, 4, 5)), "ImageJ=1.11a\\nimages=6\\nchannels=2\\nslices=3").shape
    (2, 3, 4, 5)
    """
    series = len(re.findall(r"<(?:\w+:)?Image\b", said))
    files = set(re.findall(r'FileName="([^"]*)"', said))  # each of several tells of the images in all of them
    if series > 1 and len(files) < 2:
        raise ImageError(
            f"{name} holds {series} images, as OME counts them; a file is one here. Save each as a file of its own: in "
            "ImageJ by File > Import > Bio-Formats, which asks for the series."
        )
    times = re.search(r'^frames=(\d+)$|SizeT="(\d+)"', said, re.MULTILINE)
    if times and 1 < int(times[1] or times[2]) <= len(pages):
        raise ImageError(
            f"{name} holds {times[1] or times[2]} time points ('frames' or 'SizeT'); an image is one. Save each as a "
            "file of its own, or call them slices if they are: in ImageJ by Image > Properties."
        )
    found = re.search(r'^channels=(\d+)$|SizeC="(\d+)"', said, re.MULTILINE)
    count = int(found[1] or found[2]) if found else 1
    if not 2 <= count <= MOST_CHANNELS or len(pages) % count:
        return pages[None]
    if re.search('DimensionOrder="XYT?Z', said):
        apart = pages.reshape(count, -1, *pages.shape[1:])
    else:  # the channel counts first
        apart = np.moveaxis(pages.reshape(-1, count, *pages.shape[1:]), 1, 0)
    return apart[:, 0] if apart.shape[1] == 1 else apart


def _physical_size(said: str, axis: str, path: Path) -> float:
    """One of OME's voxel sizes in mm; 0 where it says nothing."""
    size = re.search(rf'PhysicalSize{axis}="([^"]+)"', said)
    unit = re.search(rf'PhysicalSize{axis}Unit="([^"]+)"', said)
    return float(size[1]) * _in_millimetres(unit[1] if unit else "µm", path) if size else 0.0


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
