"""A training to watch: where it is, its curves, and one validation patch as the network saw it epoch by epoch."""

from __future__ import annotations

import time
from typing import Any

import ipywidgets as widgets
import numpy as np

from autoseg.data.geometry import Grid
from autoseg.display.html import Html, tag
from autoseg.display.raster import Painting, draw_slice
from autoseg.display.slices import SHARP, view_of
from autoseg.display.training import training_body, training_card
from autoseg.display.widgets import WIDE, Interactive, row, words
from autoseg.training.loop import Training

EVERY = 1.0  # seconds between two changes
TALL = 260.0  # page pixels of the patch


class TrainingWatch(Interactive):
    """Follows a training from now on. `.epoch` chooses after which epoch the example is shown."""

    def __init__(self, training: Training) -> None:
        self.training, self.changed, self.drawn = training, 0.0, -1
        self.body = Html("")
        self.card = widgets.HTML()
        self.epoch = widgets.SelectionSlider(options=[0], description="example after epoch", style=WIDE)
        self.epoch.layout.width = "420px"
        self.example = widgets.Image(format="png")
        self.about = words(tag("small", "filled: predicted · line: the truth"))
        self.patch = widgets.VBox([row(self.epoch), self.example, self.about])
        self.epoch.observe(self._draw_example, names="value")
        super().__init__([self.patch, self.card], training)
        self.follow()
        training.listeners.append(self.follow)

    def follow(self) -> None:
        """Show what changed: the head at most once a second, the curves with the epochs."""
        epochs = len(self.training.epochs)
        if epochs == self.drawn and time.monotonic() - self.changed < EVERY:
            return
        if epochs != self.drawn:
            self.body, self.drawn = training_body(self.training), epochs
            self._new_example()
        self.card.value = training_card(self.training, self.body)
        self.changed = time.monotonic()

    def close(self) -> None:
        """Follow no longer."""
        if self.follow in self.training.listeners:
            self.training.listeners.remove(self.follow)
        super().close()

    def _new_example(self) -> None:
        """Every epoch whose prediction was kept can be chosen; whoever looks at the last goes on looking at it."""
        example = self.training.example
        kept = example.epochs if example else ()
        self.patch.layout.display = "flex" if kept else "none"
        if not kept:
            return
        last = self.epoch.value == self.epoch.options[-1]
        chosen = kept[-1] if last or self.epoch.value not in kept else self.epoch.value
        self.epoch.unobserve(self._draw_example, names="value")
        self.epoch.options, self.epoch.value = kept, chosen
        self.epoch.observe(self._draw_example, names="value")
        self._draw_example(None)

    def _draw_example(self, change: Any) -> None:
        example = self.training.example
        if example is None or self.epoch.value not in example.epochs:
            return
        spacing = tuple(self.training.configuration.spacing[-2:])
        grid = Grid.of(tuple(example.image.shape), spacing)
        scale = TALL / max(grid.extent)
        predicted = example.predictions[example.epochs.index(self.epoch.value)].numpy()
        truth = np.maximum(example.reference.numpy(), 0)
        painting = Painting(filled=predicted, outlined=truth, ignore=self.training.configuration.labels.ignore)
        self.example.value = draw_slice(
            example.image.numpy(), grid, view_of(grid, 0, 0), painting, window=(0.0, 1.0), scale=scale * SHARP
        )
        width, height = (f"{mm * scale:.0f}px" for mm in grid.extent[::-1])
        self.example.layout = widgets.Layout(width=width, height=height)
