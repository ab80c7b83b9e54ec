"""Charts: histograms, strips of dots, and curves. Quiet axes, no frame, no text but numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoseg.display.colours import ACCENT, FAINT, INK
from autoseg.display.figures import picture
from autoseg.display.html import Html
from autoseg.display.words import number

DOTS = 400  # beyond so many values a strip shows their density instead of each one
FEW = 40  # dots that have room to be larger
TICKS = 7.5  # points


def quiet(axes: Any, *, grid: str | None = "y") -> None:
    """Take away what says nothing: frame, tick marks; leave pale lines to read values by."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(INK)
    axes.spines["bottom"].set_linewidth(0.7)
    axes.tick_params(colors=INK, labelsize=TICKS, length=0, pad=4)
    axes.set_facecolor("none")
    if grid:
        axes.grid(axis=grid, color=FAINT, linewidth=0.7)
        axes.set_axisbelow(True)


def inset(figure: Any, size: tuple[float, float], margins: tuple[float, float, float, float]) -> Any:
    """Axes that leave so many page pixels free: left, bottom, right, top."""
    left, bottom, right, top = margins
    width, height = size
    return figure.add_axes(
        (left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height)
    )


@dataclass(frozen=True, slots=True)
class Mark:
    """A value to point out on a chart's axis."""

    at: float
    word: str


def histogram(
    shares: Sequence[float],
    span: tuple[float, float],
    marks: Sequence[Mark] = (),
    *,
    colour: str = ACCENT,
    behind: Sequence[float] = (),
) -> Html:
    """Shares of equal bins over `span`, with marked values; `behind` are others, in grey, as high."""
    size = (400.0, 130.0)

    def paint(figure: Any) -> None:
        axes = inset(figure, size, (8, 20, 8, 18))
        edges = np.linspace(*span, len(shares) + 1)
        if any(behind):
            scaled = np.asarray(behind) * (max(shares) / max(behind))
            axes.stairs(scaled, edges, fill=True, color=INK, alpha=0.22, linewidth=0)
            axes.stairs(scaled, edges, color=INK, alpha=0.6, linewidth=0.8)
        axes.stairs(shares, edges, fill=True, color=colour, alpha=0.35, linewidth=0)
        axes.stairs(shares, edges, color=colour, linewidth=1.1)
        quiet(axes, grid=None)
        axes.set_yticks([])
        axes.set_xlim(*span)
        axes.set_ylim(0, max(shares) * 1.05)
        axes.locator_params(axis="x", nbins=6)
        axes.xaxis.set_major_formatter(lambda value, _: number(value))
        for mark in marks:
            axes.axvline(mark.at, color=INK, linewidth=0.9, linestyle=(0, (3, 2)))
            near = (mark.at - span[0]) / (span[1] - span[0])
            where = "left" if near < 0.12 else "right" if near > 0.88 else "center"
            axes.text(mark.at, max(shares) * 1.09, mark.word, ha=where, va="bottom", color=INK, fontsize=TICKS)

    return picture(paint, size, alt="histogram of intensities")


def strip(
    values: Sequence[float],
    span: tuple[float, float],
    *,
    colour: str = ACCENT,
    width: float = 290.0,
    logarithmic: bool = False,
    zero: bool = False,
) -> Html:
    """All values as dots on one line from `span[0]` to `span[1]`, their median as a bar: for a cell of a table.

    With `zero`, a line stands where neither side has more.
    """
    size = (width, 22.0)
    known = np.array([v for v in values if not np.isnan(v)], float)
    low, high = span if span[1] > span[0] else (span[0] - 0.5, span[0] + 0.5)

    def paint(figure: Any) -> None:
        axes = inset(figure, size, (6, 2, 6, 2))
        axes.set_xscale("log" if logarithmic else "linear")
        axes.set_xlim(low, high)
        axes.set_ylim(-1, 1)
        axes.axhline(0, color=FAINT, linewidth=1)
        if zero:
            axes.axvline(0, color=INK, linewidth=0.9, linestyle=(0, (3, 2)))
        _dots(axes, known, (low, high), colour)
        if known.size:
            axes.plot([np.median(known)] * 2, [-0.9, 0.9], color=INK, linewidth=1.6, solid_capstyle="butt")
        quiet(axes, grid=None)
        axes.spines["bottom"].set_visible(False)
        axes.set_yticks([])
        axes.set_xticks([])
        axes.set_xticks([], minor=True)

    words = f"{known.size} values, median {number(np.median(known))}" if known.size else "no value"
    return picture(paint, size, alt=words)


def _dots(axes: Any, values: np.ndarray, span: tuple[float, float], colour: str) -> None:
    """Each value as a dot, scattered a little so that equal ones are seen; many values as their density."""
    if values.size > DOTS:
        counts, edges = np.histogram(values, bins=60, range=span)
        axes.stairs(1.8 * counts / max(counts.max(), 1) - 0.9, edges, baseline=-0.9, fill=True, color=colour, alpha=0.6)
        return
    order = np.argsort(values, kind="stable")
    scatter = np.empty(values.size)
    scatter[order] = (np.arange(values.size) * 0.618034) % 1  # golden ratio: neighbours end up far apart
    spread = 0.0 if values.size < 3 else 0.6
    axes.scatter(
        values,
        (scatter - 0.5) * 2 * spread,
        s=9 if values.size > FEW else 15,
        color=colour,
        alpha=0.55,
        linewidths=0,
        clip_on=False,
    )


@dataclass(frozen=True, slots=True)
class Line:
    """One curve."""

    y: Sequence[float]
    colour: str
    faded: bool = False
    dashed: bool = False
    x: Sequence[float] | None = None  # its own places, where they are not those of all


def curves(
    x: Sequence[float], lines: Sequence[Line], *, size: tuple[float, float], y_span: tuple[float, float] | None = None
) -> Html:
    """Curves over one axis, such as losses over epochs; a single point is drawn as a dot."""

    def paint(figure: Any) -> None:
        axes = inset(figure, size, (54, 20, 8, 6))
        for line in lines:
            axes.plot(
                x if line.x is None else line.x,
                line.y,
                color=line.colour,
                linewidth=1.0 if line.faded else 1.7,
                alpha=0.6 if line.faded else 1.0,
                linestyle=(0, (4, 2)) if line.dashed else "-",
                marker="o" if len(line.y) < 8 else None,
                markersize=3,
                clip_on=False,
            )
        quiet(axes)
        if y_span:
            axes.set_ylim(*y_span)
        if len(x) > 1:
            axes.set_xlim(min(x), max(x))
            axes.locator_params(axis="x", nbins=6, integer=True)
        else:
            axes.set_xticks(x)
        axes.locator_params(axis="y", nbins=5)
        if 1e-4 <= max(map(abs, axes.get_ylim())) < 1e5:
            axes.ticklabel_format(axis="y", style="plain", useOffset=False)
        else:
            axes.yaxis.set_major_formatter(lambda value, _: number(value))

    return picture(paint, size, alt="curves over epochs")
