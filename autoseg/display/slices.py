"""Slices of images with labels on them: the slice that shows most, in true proportions, the way a radiologist holds it.

Superior and anterior are up, the patient's right is on the left. A grid that says nothing of a patient (a photograph,
a microscope's stack) is shown as it is stored, without letters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoseg.core.types import ImageArray, LabelArray, Shape
from autoseg.data.geometry import Grid
from autoseg.data.images import Image, LabelMap
from autoseg.display.colours import colour_of
from autoseg.display.figures import picture
from autoseg.display.html import Html, gallery
from autoseg.display.marks import annotate, point_at, unit_of

Places = tuple[np.ndarray, np.ndarray]  # where columns and rows lie, in mm
OPPOSITE = dict(zip("SIAPLR", "ISPARL", strict=True))
SHARP = 1.5  # device pixels a page pixel: three views of a volume stay below 150 kB
WIDTH, HEIGHT = 566.0, 300.0  # page pixels that one row of views may take
CT_WINDOW = (-160.0, 240.0)  # soft tissue, in Hounsfield units
LEAST_CT = 100.0  # Hounsfield units from fat to soft tissue
SAMPLES = 200_000
BYTES = 170_000  # of all views of an image together: what a notebook keeps of them stays below 250 kB


@dataclass(frozen=True, slots=True)
class View:
    """One slice laid on the screen: which axis is cut and where, which axes run down and right, which are flipped."""

    axis: int
    index: int
    rows: int
    columns: int
    flipped: tuple[bool, bool]
    letters: tuple[str, str, str, str] | None  # top, right, bottom, left
    name: str
    solid: bool  # whether there is an axis to cut

    def lay(self, array: np.ndarray) -> np.ndarray:
        """The slice of an array (the grid's shape, perhaps with a last axis of colours) as it stands on the screen."""
        flat = np.take(array, self.index, axis=self.axis) if self.solid else array
        if self.rows > self.columns:
            flat = flat.swapaxes(0, 1)
        return flat[:: -1 if self.flipped[0] else 1, :: -1 if self.flipped[1] else 1]

    def extent(self, grid: Grid) -> tuple[float, float]:
        """Width and height in mm."""
        return grid.extent[self.columns], grid.extent[self.rows]


def view_of(grid: Grid, axis: int, index: int) -> View:
    """How a slice is laid on the screen; a 2D grid is its own only slice."""
    letters = orientation_of(grid)
    left = [a for a in range(grid.dimensions) if a != axis] if grid.dimensions == 3 else [0, 1]
    if letters is None:
        solid = grid.dimensions == 3
        return View(axis, index, left[0], left[1], (False, False), None, "zyx"[axis] if solid else "", solid)
    rows, columns = sorted(left, key=lambda a: _height(letters[a]))
    flip_rows, flip_columns = letters[rows] in "SA", letters[columns] in "RA"
    down = OPPOSITE[letters[rows]] if flip_rows else letters[rows]
    right = OPPOSITE[letters[columns]] if flip_columns else letters[columns]
    plane = {"S": "axial", "A": "coronal", "L": "sagittal"}[_pair(letters[axis])]
    return View(
        axis,
        index,
        rows,
        columns,
        (flip_rows, flip_columns),
        (OPPOSITE[down], right, down, OPPOSITE[right]),
        plane,
        solid=True,
    )


def _pair(letter: str) -> str:
    return letter if letter in "SAL" else OPPOSITE[letter]


def _height(letter: str) -> int:
    """Which of two axes stands upright: superior first, then anterior."""
    return "SAL".index(_pair(letter))


def orientation_of(grid: Grid) -> str | None:
    """The grid's letters, or None where it is the default one, which says nothing of a patient."""
    if grid.dimensions == 2:
        return None
    default = Grid.of(grid.shape, grid.spacing)
    return None if (grid.origin, grid.direction) == (default.origin, default.direction) else grid.orientation


def slice_axis(grid: Grid) -> int:
    """The axis across the sharpest plane: the one with the largest voxels, the first of equals."""
    return int(np.argmax(np.round(grid.spacing, 3))) if grid.dimensions == 3 else 0


def fullest_slice(labels: LabelArray | None, grid: Grid, axis: int, *, ignore: int | None = None) -> int:
    """The slice across `axis` with most foreground; the middle one where nothing is labelled."""
    if grid.dimensions == 2:
        return 0
    inside = None if labels is None else (labels > 0) & (labels != (0 if ignore is None else ignore))
    if inside is None or not inside.any():
        return grid.shape[axis] // 2
    return int(np.argmax(inside.sum(axis=tuple(a for a in range(3) if a != axis))))


@dataclass(frozen=True, slots=True)
class Overlay:
    """What is drawn over a slice: labels that are filled, others that are outlined (the filled ones where none are)."""

    filled: LabelArray | None = None
    outlined: LabelArray | None = None
    ignore: int | None = None
    opacity: float = 0.32

    @property
    def guide(self) -> LabelArray | None:
        """The labels by which the slice is chosen: what is true where it is known."""
        return self.filled if self.outlined is None else self.outlined


@dataclass(frozen=True, slots=True)
class Look:
    """How intensities become grey, how many page pixels a millimetre takes, and how many bytes the picture may."""

    window: tuple[float, float]
    scale: float
    letters: bool = True
    unit: str = "mm"
    most: int = 60_000
    mark: Shape | None = None  # a voxel to point at


def panel(channel: np.ndarray, grid: Grid, view: View, overlay: Overlay, look: Look) -> Html:
    """One slice as a picture. `channel` has the grid's shape, or a last axis of three colours."""
    width, height = (max(round(e * look.scale), 24) for e in view.extent(grid))
    flat = np.nan_to_num(view.lay(channel), nan=look.window[0])  # what was not measured is black
    millimetres = view.extent(grid)

    def paint(figure: Any) -> None:
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        enlarged = width > flat.shape[1]
        low, high = look.window
        axes.imshow(
            flat if flat.ndim == 2 else np.clip((flat - low) / max(high - low, 1e-6), 0, 1),
            cmap="gray",
            vmin=low,
            vmax=max(high, low + 1e-6),
            extent=(0, millimetres[0], millimetres[1], 0),
            interpolation="bicubic" if enlarged else "antialiased",
            aspect="auto",
        )
        _draw_overlay(axes, view, overlay, millimetres)
        axes.set_xlim(0, millimetres[0])
        axes.set_ylim(millimetres[1], 0)
        if look.mark:
            point_at(axes, view, grid, look.mark)
        if look.letters:
            annotate(axes, view, (width, height), look)

    words = f"{view.name} slice {view.index + 1} of {grid.shape[view.axis]}" if grid.dimensions == 3 else "image"
    return picture(paint, (width, height), alt=words, sharp=SHARP, most=look.most)


def _draw_overlay(axes: Any, view: View, overlay: Overlay, millimetres: tuple[float, float]) -> None:
    """Fill and outline each label; edges run half-way between voxels of different labels."""
    if overlay.filled is not None:
        for value, mask, places in _masks(view.lay(overlay.filled), millimetres):
            fill = {"facecolors": colour_of(value, overlay.ignore), "alpha": overlay.opacity, "linewidths": 0}
            axes.add_collection(_contours(mask, places, filled=True, **fill), autolim=False)
    if overlay.guide is not None:
        for value, mask, places in _masks(view.lay(overlay.guide), millimetres):
            line = {"edgecolors": colour_of(value, overlay.ignore), "facecolors": "none", "linewidths": 1.0}
            axes.add_collection(_contours(mask, places, filled=False, **line), autolim=False)


def _masks(labels: np.ndarray, millimetres: tuple[float, float]) -> Iterator[tuple[int, np.ndarray, Places]]:
    """Each label of a slice as a mask with an empty rim, and where its columns and rows lie."""
    padded = np.pad(labels, 1)
    rows, columns = ((np.arange(n + 2) - 0.5) * mm / n for n, mm in zip(labels.shape, millimetres[::-1], strict=True))
    for value in np.unique(labels[labels > 0]).tolist():
        yield value, padded == value, (columns, rows)


def _contours(mask: np.ndarray, places: Places, *, filled: bool, **style: Any) -> Any:
    """The outline of a mask as one collection; matplotlib's own contours take 10 ms a label, these 1.6."""
    from contourpy import FillType, LineType, contour_generator
    from matplotlib.collections import PathCollection
    from matplotlib.path import Path

    generator = contour_generator(
        *places, mask.astype(np.float32), line_type=LineType.SeparateCode, fill_type=FillType.OuterCode
    )
    outlines: Any = generator.filled(0.5, 2.0) if filled else generator.lines(0.5)
    points, codes = outlines
    return PathCollection([Path(p, c) for p, c in zip(points, codes, strict=True)], **style)


def window_of(array: np.ndarray, channel_name: str) -> tuple[float, float]:
    """The intensities that are black and white: soft tissue for CT, else the 0.5 and 99.5 percentiles.

    A CT that reaches far up but not below 0, where air and fat are, was shifted; one of hardly any range around 0 is
    normalized already. Neither is in Hounsfield units.
    """
    step = max(1, int((array.size / SAMPLES) ** (1 / array.ndim)))
    sample = array[(slice(None, None, step),) * array.ndim]
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return 0.0, 1.0
    low, high = np.percentile(sample, (0.5, 99.5))
    shifted, normalized = low >= 0 and high > CT_WINDOW[1], low < 0 and high - low < LEAST_CT
    if channel_name.lower() == "ct" and not shifted and not normalized:
        return CT_WINDOW
    return float(low), float(high)


def is_colour(array: ImageArray, channels: Sequence[str]) -> bool:
    """Whether the channels are red, green and blue of a photograph."""
    initials = "".join(c[:1] for c in channels).lower()
    return len(array) == 3 and initials == "rgb"


def views(image: Image, overlay: Overlay, *, twice: bool = True) -> Html:
    """An image in views of one scale: three planes of one channel, or the sharpest plane of each channel.

    Labels hide much of a single picture, so it is shown without them too, unless `twice` is false.
    """
    channels = layers_of(image)
    grid = image.grid
    main = slice_axis(grid)
    planes = [main] if grid.dimensions == 2 or len(channels) > 1 else [main, *(a for a in range(3) if a != main)]
    cuts = [view_of(grid, axis, fullest_slice(overlay.guide, grid, axis, ignore=overlay.ignore)) for axis in planes]
    shown = [(view, name, layer, overlay) for view in cuts for name, layer in channels]
    if len(shown) == 1 and overlay.guide is not None and twice:
        shown.insert(0, (*shown[0][:3], Overlay()))
    columns, scale = arrange([view.extent(grid) for view, *_ in shown], (WIDTH, HEIGHT))
    most = BYTES // len(shown)
    panels = [
        (
            panel(layer, grid, view, drawn, Look(window_of(layer, name), scale, unit=unit_of(grid), most=most)),
            _caption(grid, view, name if len(channels) > 1 else "", drawn),
        )
        for view, name, layer, drawn in shown
    ]
    return gallery(*([panels[i] for i in column] for column in columns))


def arrange(extents: Sequence[tuple[float, float]], room: tuple[float, float]) -> tuple[list[list[int]], float]:
    """Which pictures stand in which column, and pixels a mm: in a row, or the first beside a stack of the others."""
    width, height = room
    first_row = extents[: max(1, min(len(extents), 4))]
    row = min(
        (width - 8 * (len(first_row) - 1)) / sum(w for w, _ in first_row),
        height / max(h for _, h in extents),
    )
    if len(extents) == 2:  # very wide ones are larger below each other
        below = min(width / max(w for w, _ in extents), (height - 30) / sum(h for _, h in extents))
        return ([[0, 1]], below) if below > row else ([[0], [1]], row)
    if len(extents) != 3:
        return [[i] for i in range(len(extents))], row
    (w0, h0), *others = extents
    stack = min((width - 8) / (w0 + max(w for w, _ in others)), height / h0, (height - 30) / sum(h for _, h in others))
    return ([[0], [1, 2]], stack) if stack > row else ([[0], [1], [2]], row)


def layers_of(image: Image) -> list[tuple[str, np.ndarray]]:
    """What is shown of an image: its channels by name, or one picture of three colours."""
    if is_colour(image.array, image.channels):
        return [("", np.moveaxis(image.array, 0, -1))]
    return list(zip(image.channels, image.array, strict=True))


def _caption(grid: Grid, view: View, channel: str, drawn: Overlay) -> str:
    """The channel where there are several, and which slice; of a flat image, what is seen."""
    if not view.solid:
        return channel or ("image" if drawn.guide is None else "with labels")
    return " · ".join(filter(None, (channel, f"{view.name} {view.index + 1} of {grid.shape[view.axis]}")))


def thumbnail(image: Image, overlay: Overlay, *, height: float = 112.0) -> Html:
    """The fullest slice of the sharpest plane, `height` page pixels high (fewer where it is very wide)."""
    grid = image.grid
    axis = slice_axis(grid)
    view = view_of(grid, axis, fullest_slice(overlay.guide, grid, axis, ignore=overlay.ignore))
    name, layer = layers_of(image)[0]
    look = Look(
        window_of(layer, name), min(height / view.extent(grid)[1], 1.6 * height / view.extent(grid)[0]), letters=False
    )
    return panel(layer, grid, view, overlay, look)


def overlay_of(label_map: LabelMap | None) -> Overlay:
    """A label map, filled."""
    return Overlay() if label_map is None else Overlay(filled=label_map.array, ignore=label_map.labels.ignore)
