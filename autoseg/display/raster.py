"""Slices drawn in milliseconds, for widgets: grey, labels in their colours, letters and a scale bar, as a PNG.

Static displays are drawn by matplotlib in `slices`; these have the same laying, colours and letters, but no figure.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autoseg.core.types import LabelArray, Shape
from autoseg.data.geometry import Grid
from autoseg.display.colours import colour_of
from autoseg.display.marks import bar_length, length_of, unit_of
from autoseg.display.slices import View

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

Colour = tuple[int, int, int]
LETTERS = 13  # device pixels
LIGHT: Colour = (242, 242, 242)
DARK: Colour = (0, 0, 0)
MARK: Colour = (93, 255, 93)


@dataclass(frozen=True, slots=True, kw_only=True)
class Painting:
    """What is drawn over the greys: labels that are filled, labels that are outlined, and in which colours."""

    filled: LabelArray | None = None
    outlined: LabelArray | None = None
    opacity: float = 0.4
    colours: Mapping[int, str] = field(default_factory=dict)  # of values that do not have their label's colour
    ignore: int | None = None
    mark: Shape | None = None  # a voxel under cross-hairs


def draw_slice(
    channel: np.ndarray, grid: Grid, view: View, painting: Painting, *, window: tuple[float, float], scale: float
) -> bytes:
    """One slice as a PNG, `scale` device pixels a millimetre. `channel` may have a last axis of three colours."""
    from PIL import Image

    low, high = window
    flat = np.nan_to_num(view.lay(channel), nan=low)  # what was not measured is black
    grey = np.clip((flat - low) * (255.0 / max(high - low, 1e-6)), 0, 255).astype(np.uint8)
    width, height = (max(round(mm * scale), 16) for mm in view.extent(grid))
    size = (width, height)
    larger = width >= flat.shape[1]
    how = Image.Resampling.BICUBIC if larger else Image.Resampling.BOX
    drawn = np.asarray(Image.fromarray(grey).resize(size, how).convert("RGB"))
    if painting.filled is not None:
        drawn = _fill(drawn, _resized(view.lay(painting.filled), size), painting)
    if painting.outlined is not None:
        drawn = _outline(drawn, _resized(view.lay(painting.outlined), size), painting)
    picture = Image.fromarray(drawn)
    if painting.mark is not None:
        _point_at(picture, grid, view, painting.mark)
    _annotate(picture, grid, view, scale)
    return png(picture)


def png(picture: Picture) -> bytes:
    """Encoded for speed: the picture goes to a browser on the same machine, most of the time."""
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _resized(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(labels, dtype=np.int32))
    return np.asarray(picture.resize(size, Image.Resampling.NEAREST))


def _palette(labels: np.ndarray, painting: Painting) -> np.ndarray:
    """The colour of each value that occurs, at its position."""
    table = np.zeros((int(labels.max(initial=0)) + 1, 3), np.float32)
    for value in np.unique(labels[labels > 0]).tolist():
        table[value] = rgb(painting.colours.get(value) or colour_of(value, painting.ignore))
    return table


def _fill(drawn: np.ndarray, labels: np.ndarray, painting: Painting) -> np.ndarray:
    labels = np.maximum(labels, 0)
    inside = np.flatnonzero(labels)
    mixed = drawn.copy()
    pixels, weight = mixed.reshape(-1, 3), np.float32(painting.opacity)
    colour = _palette(labels, painting).take(labels.ravel()[inside], axis=0)
    pixels[inside] = (pixels.take(inside, axis=0) * (1 - weight) + colour * weight).astype(np.uint8)
    return mixed


def _outline(drawn: np.ndarray, labels: np.ndarray, painting: Painting) -> np.ndarray:
    """Pixels of a label whose neighbour above, below, left or right is something else."""
    labels = np.maximum(labels, 0)
    around = np.pad(labels, 1, mode="edge")
    middle = around[1:-1, 1:-1]
    differs = np.zeros(labels.shape, bool)
    for rows, columns in ((slice(2, None), slice(1, -1)), (slice(None, -2), slice(1, -1)),
                          (slice(1, -1), slice(2, None)), (slice(1, -1), slice(None, -2))):  # fmt: skip
        differs |= around[rows, columns] != middle
    edge = differs & (labels > 0)
    mixed = drawn.copy()
    mixed[edge] = _palette(labels, painting)[labels[edge]]
    return mixed


def rgb(colour: str) -> Colour:
    """Red, green and blue of ``#rrggbb``.

    >>> rgb("#e69f00")
    (230, 159, 0)
    """
    red, green, blue = bytes.fromhex(colour[1:7])
    return red, green, blue


@cache
def font(size: int = LETTERS) -> Any:
    """The sans-serif that comes with matplotlib."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), size)


def write(canvas: Any, at: tuple[float, float], word: str, *, anchor: str) -> None:
    """A word with a dark rim, so that it reads on black and on white."""
    canvas.text(at, word, font=font(), anchor=anchor, fill=LIGHT, stroke_width=2, stroke_fill=DARK)


def scale_bar(canvas: Any, height: int, *, longest: float, scale: float, unit: str) -> None:
    """A bar of a round length, at the lower left."""
    length = bar_length(longest)
    y = height - 9
    canvas.rectangle((7, y - 2, 9 + length * scale, y + 3), fill=DARK)
    canvas.rectangle((8, y - 1, 8 + length * scale, y + 2), fill=LIGHT)
    write(canvas, (8, y - 5), length_of(length, unit), anchor="ls")


def _point_at(picture: Picture, grid: Grid, view: View, voxel: Shape) -> None:
    """Cross-hairs that leave the voxel itself free."""
    from PIL import ImageDraw

    canvas, gap = ImageDraw.Draw(picture), 0.035 * max(picture.size)
    places = []
    for axis, flipped, length in zip((view.columns, view.rows), view.flipped[::-1], picture.size, strict=True):
        share = (voxel[axis] + 0.5) / grid.shape[axis]
        places.append((1 - share if flipped else share) * length)
    x, y = places
    for line in (
        (0, y, x - gap, y),
        (x + gap, y, picture.width, y),
        (x, 0, x, y - gap),
        (x, y + gap, x, picture.height),
    ):
        canvas.line(line, fill=MARK, width=2)


def _annotate(picture: Picture, grid: Grid, view: View, scale: float) -> None:
    from PIL import ImageDraw

    canvas = ImageDraw.Draw(picture)
    width, height = picture.size
    if view.letters and min(width, height) >= 90:
        top, right, bottom, left = view.letters
        write(canvas, (width / 2, 4), top, anchor="mt")
        write(canvas, (width - 5, height / 2), right, anchor="rm")
        write(canvas, (width / 2, height - 5), bottom, anchor="mb")
        write(canvas, (5, height / 2), left, anchor="lm")
    scale_bar(canvas, height, longest=0.3 * width / scale, scale=scale, unit=unit_of(grid))
