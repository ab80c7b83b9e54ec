"""Drawings of what a configuration decides: the U-Net in numbers, and the patch inside the median image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from autoseg.core.types import Shape, Spacing, count
from autoseg.display.colours import ACCENT, FAINT, INK
from autoseg.display.figures import picture
from autoseg.display.html import Html
from autoseg.planning.configuration import NetworkSpec

ROW = 24.0  # page pixels a stage
DECODER = "#009e73"


def feature_maps(network: NetworkSpec, patch_size: Shape) -> list[Shape]:
    """The size of the feature maps of each stage."""
    sizes = [tuple(patch_size)]
    for stride in network.strides[1:]:
        sizes.append(tuple(s // f for s, f in zip(sizes[-1], stride, strict=True)))
    return sizes


def unet(network: NetworkSpec, patch_size: Shape) -> Html:
    """Encoder on the left, decoder on the right: a bar a stage, as long as its feature maps are wide."""
    sizes = feature_maps(network, patch_size)
    size = (300.0, ROW * network.stages + 8)
    longest = max(sizes[0])

    def paint(figure: Any) -> None:
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(-150, 150)
        axes.set_ylim(size[1], 0)
        for stage, (shape, features) in enumerate(zip(sizes, network.features, strict=True)):
            _stage(axes, stage, (max(shape) / longest, features), bottom=stage == network.stages - 1)

    return picture(paint, size, alt=f"U-Net of {count(network.stages, 'stage')}")


def _stage(axes: Any, stage: int, numbers: tuple[float, int], *, bottom: bool) -> None:
    """One row: two bars joined by the skip connection, or the bottleneck's one; a bar is its features thick."""
    relative, features = numbers
    y = ROW * (stage + 0.5) + 4
    length = 8 + 92 * math.sqrt(relative)
    inner = 24.0
    thick = 4 + 1.6 * math.log2(max(features, 2))
    words = {"ha": "center", "va": "center", "fontsize": 7.0, "color": INK}
    if bottom:
        _bar(axes, (-length / 2, y, length, thick), ACCENT)
        axes.text(length / 2 + 16, y, str(features), **words)
        return
    axes.plot([-inner, inner], [y, y], color=INK, linewidth=0.8, linestyle=(0, (2, 2)))
    _bar(axes, (-inner - length, y, length, thick), ACCENT)
    _bar(axes, (inner, y, length, thick), DECODER)
    axes.text(-inner - length - 14, y, str(features), **words)


def _bar(axes: Any, box: tuple[float, float, float, float], colour: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    x, y, length, thick = box
    style = "round,pad=0,rounding_size=2"
    axes.add_patch(FancyBboxPatch((x, y - thick / 2), length, thick, boxstyle=style, facecolor=colour, linewidth=0))


def patch_in_image(patch_size: Sequence[float], median_shape: Sequence[float], spacing: Spacing) -> Html:
    """The patch on the median image in true proportions, seen along the first axis and, in 3D, along the second one."""
    patch, image = ([n * s for n, s in zip(v, spacing, strict=True)] for v in (patch_size, median_shape))
    views = [(0, 1)] if len(patch) == 2 else [(1, 2), (0, 2)]
    wide = [max(patch[c], image[c]) for _, c in views]
    high = [max(patch[r], image[r]) for r, _ in views]
    gap = 14.0
    scale = min((300.0 - 2 * len(views) - gap * (len(views) - 1)) / sum(wide), 116.0 / max(high))
    size = (sum(wide) * scale + gap * (len(views) - 1) + 4, max(high) * scale + 4)

    def paint(figure: Any) -> None:
        from matplotlib.patches import Rectangle

        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(0, size[0])
        axes.set_ylim(size[1], 0)
        left = 2.0
        for (row, column), width in zip(views, wide, strict=True):
            middle = (left + width * scale / 2, 2 + max(high) * scale / 2)
            for extent, face, edge in ((image, FAINT, INK), (patch, ACCENT + "55", ACCENT)):
                w, h = extent[column] * scale, extent[row] * scale
                corner = (middle[0] - w / 2, middle[1] - h / 2)
                axes.add_patch(Rectangle(corner, w, h, facecolor=face, edgecolor=edge, linewidth=1.1))
            left += width * scale + gap

    return picture(paint, size, alt="the patch on the median image")
