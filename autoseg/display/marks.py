"""What is written over a slice by matplotlib: letters of orientation, a scale bar, cross-hairs on a voxel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from autoseg.core.types import Shape
from autoseg.data.geometry import Grid

if TYPE_CHECKING:
    from autoseg.display.slices import Look, View

SMALLER = ((1.0, 1, "mm"), (1e-3, 1e3, "µm"), (0.0, 1e6, "nm"))  # from so many mm on, how many a mm, the unit


def point_at(axes: Any, view: View, grid: Grid, voxel: Shape) -> None:
    """Cross-hairs that leave the voxel itself free."""
    width, height = view.extent(grid)
    x, y = ((voxel[a] + 0.5) * grid.spacing[a] for a in (view.columns, view.rows))
    x, y = (width - x if view.flipped[1] else x), (height - y if view.flipped[0] else y)
    gap = 0.035 * max(width, height)
    line = {"color": "#5dff5d", "linewidth": 1.0}
    for ends in ((0, x - gap), (x + gap, width)):
        axes.plot(ends, (y, y), **line)
    for ends in ((0, y - gap), (y + gap, height)):
        axes.plot((x, x), ends, **line)


def annotate(axes: Any, view: View, size: tuple[int, int], look: Look) -> None:
    """Orientation letters at the edges, and a scale bar."""
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=2.2, foreground="#000000d8")]
    style = {"color": "#f2f2f2", "fontsize": 7.5, "transform": axes.transAxes, "path_effects": halo}
    width, height = size
    if view.letters and min(size) >= 70:
        top, right, bottom, left = view.letters
        for letter, x, y, ha, va in (
            (top, 0.5, 1 - 3 / height, "center", "top"),
            (right, 1 - 4 / width, 0.5, "right", "center"),
            (bottom, 0.5, 4 / height, "center", "bottom"),
            (left, 4 / width, 0.5, "left", "center"),
        ):
            axes.text(x, y, letter, ha=ha, va=va, **style)
    length = bar_length(width / look.scale * 0.3)
    pixels = length * look.scale
    axes.plot(
        [6 / width, (6 + pixels) / width],
        [7 / height] * 2,
        color="#f2f2f2",
        linewidth=2.0,
        transform=axes.transAxes,
        path_effects=[withStroke(linewidth=4.0, foreground="#000000d8")],
        solid_capstyle="butt",
    )
    axes.text(6 / width, 11 / height, length_of(length, look.unit), ha="left", va="bottom", **style)


def bar_length(longest: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not longer.

    >>> bar_length(17.0), bar_length(0.07)
    (10.0, 0.05)
    """
    power = 10.0 ** np.floor(np.log10(longest))
    return float(round(next(m for m in (5, 2, 1) if m * power <= longest * (1 + 1e-9)) * power, 9))


def unit_of(grid: Grid) -> str:
    """Pixels where a picture has no known size, else mm."""
    return "px" if grid.dimensions == 2 and set(grid.spacing) == {1.0} else "mm"


def length_of(length: float, unit: str) -> str:
    """The length of a scale bar in words; what microscopes see is told in µm or nm.

    >>> length_of(20.0, "mm"), length_of(0.05, "mm"), length_of(5e-4, "mm"), length_of(200.0, "px")
    ('20 mm', '50 µm', '500 nm', '200 px')
    """
    factor, name = next((f, n) for least, f, n in SMALLER if length >= least) if unit == "mm" else (1, unit)
    return f"{round(length * factor, 3):g} {name}"
