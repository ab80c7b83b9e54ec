"""What PNG files hold that SimpleITK does not tell: transparency of grey pictures, and the order of a palette."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from autoseg.core.errors import ImageError


def picture_of(path: Path) -> Any:
    """Pillow's picture of a PNG or TIFF. Raises `ImageError` where it has more pixels than Pillow opens."""
    from PIL import Image as Pictures

    try:
        return Pictures.open(path)
    except Pictures.DecompressionBombError as error:
        raise ImageError(
            f"{path} is larger than Pillow opens: {error} Cut it into smaller files, save it as NIfTI, or lift the "
            "limit where you trust the file: import PIL.Image; PIL.Image.MAX_IMAGE_PIXELS = None."
        ) from error


def grey_and_alpha(path: Path) -> np.ndarray:
    """Voxels (channel, y, x) of a grey PNG with transparency, which ITK lacks; an alpha that is one value is left out.

    Raises `ImageError` for 16 bits with alpha, of which Pillow makes 8.
    """
    with picture_of(path) as picture:
        values = np.moveaxis(np.atleast_3d(np.asarray(picture)), -1, 0)
    with path.open("rb") as file:
        bits = file.read(25)[24]
    if bits > 8 * values.itemsize:
        raise ImageError(f"{path} is grey of {bits} bits with alpha. Save it without alpha.")
    return values[:1] if len(values) == 2 and len(np.unique(values[1])) == 1 else values


def palette_of(path: Path) -> tuple[tuple[int, ...], ...]:
    """The colours of a PNG that stores numbers of colours, which SimpleITK reads as colours; none of any other file."""
    with contextlib.suppress(OSError), picture_of(path) as picture:
        if picture.format == "PNG" and picture.palette is not None:
            return tuple(map(tuple, np.frombuffer(bytes(picture.palette.palette), np.uint8).reshape(-1, 3).tolist()))
    return ()
