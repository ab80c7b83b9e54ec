"""The microscope with its voxel in one's hand: move it over the scan, choose a stage, draw another augmentation."""

from __future__ import annotations

from typing import Any

import ipywidgets as widgets

from autoseg.core.errors import PreprocessingError
from autoseg.display.colours import legend
from autoseg.display.html import tag
from autoseg.display.microscope import cut_of, stage_extent
from autoseg.display.raster import Painting, draw_slice
from autoseg.display.slices import SHARP, arrange
from autoseg.display.widgets import WIDE, Interactive, paragraph, row, words
from autoseg.display.words import number, times
from autoseg.training.microscope import Microscope, Stage

ROOM = (620.0, 340.0)  # page pixels for both pictures
DRAWS = 50  # seeds of the slider
DRAWN = "augmented"


class MicroscopeExplorer(Interactive):
    """The scan on the left, a stage on the right; `.voxel`, `.stage` and `.draw` are the controls.

    `.seen` is the microscope at the voxel that is marked now.
    """

    def __init__(self, seen: Microscope) -> None:
        self.seen = seen
        scan = seen.stages[0]
        names = [stage.name for stage in seen if not stage.name.startswith(DRAWN)]
        names.insert(-1, DRAWN)
        self.stage = widgets.SelectionSlider(options=names, value="resampled", description="stage", style=WIDE,
                                             layout=widgets.Layout(width="420px"))  # fmt: skip
        self.draw = widgets.IntSlider(value=1, min=1, max=DRAWS, description="augmentation", style=WIDE)
        self.voxel = [
            widgets.IntSlider(value=at, min=0, max=size - 1, description=f"voxel {axis}", style=WIDE)
            for axis, at, size in zip("zyx"[-len(scan.grid.shape) :], scan.voxel or (), scan.grid.shape, strict=True)
        ]
        extents = [stage_extent(stage) for stage in seen]
        largest = tuple(max(sizes) for sizes in zip(*extents, strict=True))
        _, self.scale = arrange([stage_extent(scan), (largest[0], largest[1])], ROOM)
        self.pictures = widgets.Image(format="png"), widgets.Image(format="png")
        self.told = words()
        for control in (*self.voxel, self.draw):
            control.observe(self._move, names="value")
        self.stage.observe(self._show, names="value")
        both = widgets.HBox(self.pictures, layout=widgets.Layout(flex_flow="row wrap", align_items="flex-start"))
        super().__init__([row(*self.voxel), row(self.stage, self.draw), both, self.told], seen)
        self._move(None)

    @property
    def shown(self) -> Stage:
        """The stage on the right."""
        name = self.stage.value
        return self.seen[f"{DRAWN} {self.draw.value}" if name == DRAWN else name]

    def _move(self, change: Any) -> None:
        """Another voxel, or another augmentation of the patch around it."""
        try:
            self.seen = self.seen.at([slider.value for slider in self.voxel], seeds=[self.draw.value])
        except PreprocessingError as error:
            self.told.value = paragraph(tag("p", str(error)))
            return
        if change is not None and change.owner is self.draw and self.stage.value != DRAWN:
            self.stage.value = DRAWN  # which shows it
            return
        self._show(None)

    def _show(self, change: Any) -> None:
        for picture, stage in zip(self.pictures, (self.seen.stages[0], self.shown), strict=True):
            picture.value = self._slice(stage)
            width, height = (max(round(mm * self.scale), 24) for mm in stage_extent(stage))
            picture.layout.width, picture.layout.height = f"{width}px", f"{height}px"
        stage = self.shown
        where = f"The voxel is at {stage.voxel}" if stage.voxel else "Augmentation moved the voxel out of the patch"
        held = f", holds {' '.join(number(v) for v in stage.values)} and is {stage.label_name}" if stage.voxel else ""
        size = f"{times(stage.grid.shape)} voxels of {times(stage.grid.spacing, 'mm')}"
        self.told.value = paragraph(
            tag("p", tag("strong", f"{stage.name}: "), f"{stage.what}. {size}. {where}{held}."), legend(stage.labels)
        )

    def _slice(self, stage: Stage) -> bytes:
        """The slice through the voxel, or the middle where it is gone."""
        view, channel, window, labels = cut_of(stage)
        painting = Painting(filled=labels, outlined=labels, opacity=0.25, ignore=stage.labels.ignore, mark=stage.voxel)
        return draw_slice(channel, stage.grid, view, painting, window=window, scale=self.scale * SHARP)
