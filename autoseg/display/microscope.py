"""One case through every stage: pictures side by side in one scale, the marked voxel in each, and its numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoseg.core.types import LabelArray
from autoseg.data.images import Image
from autoseg.display import render
from autoseg.display.colours import legend
from autoseg.display.html import Html, card, gallery, join, section, table, tag
from autoseg.display.marks import unit_of
from autoseg.display.slices import BYTES, Look, Overlay, View, layers_of, panel, slice_axis, view_of, window_of
from autoseg.display.words import number, times
from autoseg.training.microscope import Microscope, Stage

ROW = 660.0  # page pixels that a row of stages may take
TALLEST = 190.0
IN_A_ROW = 5  # also where style sheets, which would wrap them, are dropped


@render.register
def show_microscope(case: Microscope) -> str:
    """All stages, in one scale where they share one."""
    return card(
        "Microscope",
        f"{case.case} for {case.configuration.name}",
        section("Every stage", join(pictures(case), legend(case.stages[0].labels)), hint="the cross is one voxel"),
        section("The marked voxel", voxel_table(case)),
        section("What resampling keeps", kept_table(case), hint="Dice of the labels with themselves, there and back"),
    )


@render.register
def show_stage(stage: Stage) -> str:
    """One stage, through the marked voxel."""
    scale = min(ROW / stage_extent(stage)[0], 2 * TALLEST / stage_extent(stage)[1])
    return card("Stage", stage.name, gallery([picture_of(stage, scale)]), legend(stage.labels), note=stage.what)


def pictures(case: Microscope) -> Html:
    """The slice through the marked voxel at each stage; a millimetre has the same length in all of them.

    Only the patch before augmentation, of which most may be void, is drawn smaller where it would not fit.
    """
    extents = {stage.name: stage_extent(stage) for stage in case.stages}
    common = [extent for name, extent in extents.items() if name != "patch"]
    scale = min(TALLEST / max(h for _, h in common), ROW / 5.8 / max(w for w, _ in common))
    fitting = {n: min(scale, TALLEST / h, ROW / 4.4 / w) for n, (w, h) in extents.items()}
    shown = [[picture_of(stage, fitting[stage.name])] for stage in case.stages]
    return join(*(gallery(*shown[i : i + IN_A_ROW]) for i in range(0, len(shown), IN_A_ROW)))


def stage_extent(stage: Stage) -> tuple[float, float]:
    """Width and height of the slice that is shown, in mm."""
    return view_of(stage.grid, slice_axis(stage.grid), 0).extent(stage.grid)


def picture_of(stage: Stage, scale: float) -> tuple[Html, str]:
    """The slice through the marked voxel, or the middle where it is gone."""
    grid, (view, layer, window, labels) = stage.grid, cut_of(stage)
    look = Look(window, scale, letters=False, unit=unit_of(grid), most=BYTES // 11, mark=stage.voxel)
    return panel(layer, grid, view, Overlay(filled=labels, ignore=stage.labels.ignore), look), stage.name


def cut_of(stage: Stage) -> tuple[View, np.ndarray, tuple[float, float], LabelArray | None]:
    """Where a stage is cut, what is seen there in which window, and its labels without what is outside."""
    grid = stage.grid
    axis = slice_axis(grid)
    index = stage.voxel[axis] if stage.voxel and grid.dimensions == 3 else grid.shape[axis] // 2
    name, layer = layers_of(Image(stage.array, grid, stage.channels))[0]
    labels = None if stage.label is None else np.maximum(stage.label, 0)
    return view_of(grid, axis, index), layer, window_of(layer, name), labels


def voxel_table(case: Microscope) -> Html:
    """Where the voxel is at each stage, what it holds, and what was done."""
    rows = [
        (
            whole(stage.name),
            f"{stage.what}: {times(stage.grid.shape)} voxels of {times(stage.grid.spacing, 'mm')}",
            ", ".join(map(str, stage.voxel)) if stage.voxel else "moved out",
            first_of(stage.values),
            stage.label_name,
        )
        for stage in case.stages
    ]
    return table(("stage", "what was done", "voxel", "value", "label"), rows, numbers=(2, 3))


def first_of(values: Sequence[float]) -> str:
    """A value a channel, of many the first three."""
    return "; ".join([*(number(v) for v in values[:3]), *(["…"] if len(values) > 3 else [])])


def whole(*words: object) -> Html:
    """Words that stay on one line."""
    return tag("span", *words, class_="as-whole")


def kept_table(case: Microscope) -> Html:
    """Each label after the way to the plan's grid and back."""
    return table(("label", "Dice"), [(name, f"{dice:.3f}") for name, dice in case.kept.items()], numbers=(1,))
