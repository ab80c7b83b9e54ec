"""Looking through a case slice by slice: three axes, window, overlay, and truth against prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
import numpy as np

from autoseg.core.types import LabelArray
from autoseg.data.dataset import Case
from autoseg.data.geometry import Grid
from autoseg.data.images import Image
from autoseg.data.labels import Labels
from autoseg.display.colours import legend, swatch
from autoseg.display.html import Html, join, tag
from autoseg.display.raster import Painting, draw_slice
from autoseg.display.results import reference_of
from autoseg.display.slices import SHARP, arrange, fullest_slice, layers_of, slice_axis, view_of, window_of
from autoseg.display.widgets import WIDE, Interactive, paragraph, row, words
from autoseg.display.words import share
from autoseg.prediction.inference import Prediction

ROOM = (620.0, 380.0)  # page pixels for the pictures
AGREEMENT = {  # what a voxel is when truth and prediction are compared: told apart by the colour-blind
    1: ("both agree", "#009e73"),
    2: ("predicted only", "#d55e00"),
    3: ("missed", "#56b4e9"),
    4: ("another label", "#f0e442"),
}
LABELS, AGREES = "labels", "agreement"


def agreement(truth: LabelArray, predicted: LabelArray, ignore: int | None = None) -> LabelArray:
    """What each voxel is, as in `AGREEMENT`; 0 where both say background, or nobody annotated.

    >>> agreement(np.array([0, 1, 0, 1, 1]), np.array([0, 1, 1, 0, 2])).tolist()
    [0, 1, 2, 3, 4]
    """
    codes = np.select(
        [(truth == predicted) & (truth > 0), (truth == 0) & (predicted > 0), (truth > 0) & (predicted == 0)],
        [1, 2, 3],
        4,
    )
    codes[(truth == 0) & (predicted == 0)] = 0
    if ignore is not None:
        codes[truth == ignore] = 0
    return codes.astype(np.uint8)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layers:
    """What is known of one case: its image, and the label maps there are."""

    image: Image
    labels: Labels
    truth: LabelArray | None = None
    predicted: LabelArray | None = None

    @property
    def guide(self) -> LabelArray | None:
        """By which the first slices are chosen."""
        return self.predicted if self.truth is None else self.truth

    def painting(self, mode: str, opacity: float) -> Painting:
        """Labels: what was predicted filled and what is true outlined, or one of them both ways. Or agreement."""
        ignore = self.labels.ignore
        if mode == AGREES and self.truth is not None and self.predicted is not None:
            codes = agreement(self.truth, self.predicted, ignore)
            colours = {code: colour for code, (_, colour) in AGREEMENT.items()}
            return Painting(filled=codes, outlined=codes, opacity=opacity, colours=colours)
        filled = self.truth if self.predicted is None else self.predicted
        return Painting(filled=filled, outlined=self.guide, opacity=opacity, ignore=ignore)

    def key(self, mode: str) -> Html:
        """What the colours mean."""
        if mode == AGREES:
            keys = (tag("span", swatch(c), " ", word, class_="as-key") for word, c in AGREEMENT.values())
            return tag("p", join(*keys, by=" "), class_="as-legend")
        both = self.truth is not None and self.predicted is not None
        return legend(self.labels, "filled: predicted · line: reference" if both else "")


def layers_of_case(case: Case) -> Layers:
    """The image and the reference, read from disk."""
    truth = reference_of(case)
    return Layers(image=case.image(), labels=case.labels, truth=None if truth is None else truth.array)


def layers_of_prediction(prediction: Prediction) -> Layers:
    """Image, reference where there is one, and prediction."""
    known = layers_of_case(prediction.case)
    labels = prediction.label_map.labels
    return Layers(image=known.image, labels=labels, truth=known.truth, predicted=prediction.label_map.array)


class Slices(widgets.Box):  # type: ignore[misc]  # ipywidgets has no types
    """A picture with a slider for each axis, all in one scale. `.draw()` draws all, a slider only its own picture."""

    def __init__(self, layers: Layers, *, room: tuple[float, float] = ROOM, planes: int = 3) -> None:
        grid, guide, ignore = layers.image.grid, layers.guide, layers.labels.ignore
        self.grid = grid
        main = slice_axis(grid)
        self.axes = [main, *(a for a in range(3) if a != main)][: planes if grid.dimensions == 3 else 1]
        extents = [view_of(grid, axis, 0).extent(grid) for axis in self.axes]
        _, self.scale = arrange(extents, room)
        self.sliders, self.pictures = {}, {}
        for axis, extent in zip(self.axes, extents, strict=True):
            self.sliders[axis] = _slider(grid, axis, guide, ignore)
            self.sliders[axis].observe(lambda change, axis=axis: self.draw(axis), names="value")
            width, height = (f"{max(round(mm * self.scale), 24)}px" for mm in extent)
            self.pictures[axis] = widgets.Image(format="png", layout=widgets.Layout(width=width, height=height))
        solid = grid.dimensions == 3
        columns = [
            widgets.VBox([self.sliders[a], self.pictures[a]] if solid else [self.pictures[a]]) for a in self.axes
        ]
        super().__init__(
            columns, layout=widgets.Layout(flex_flow="row wrap", align_items="flex-start", overflow="hidden")
        )

    def show(self, channel: np.ndarray, painting: Painting, window: tuple[float, float]) -> None:
        """Draw this from now on."""
        self.channel, self.painting, self.window = channel, painting, window
        for axis in self.axes:
            self.draw(axis)

    def draw(self, axis: int) -> None:
        """Draw one of the pictures, at its slider's slice."""
        view = view_of(self.grid, axis, self.sliders[axis].value)
        self.pictures[axis].value = draw_slice(
            self.channel, self.grid, view, self.painting, window=self.window, scale=self.scale * SHARP
        )


def _slider(grid: Grid, axis: int, guide: LabelArray | None, ignore: int | None) -> widgets.IntSlider:
    slices = grid.shape[axis] if grid.dimensions == 3 else 1
    at = fullest_slice(guide, grid, axis, ignore=ignore)
    name = view_of(grid, axis, 0).name
    return widgets.IntSlider(value=at, min=0, max=max(slices - 1, 0), description=name, style=WIDE,
                             layout=widgets.Layout(width="200px"))  # fmt: skip


class CaseBrowser(Interactive):
    """Slices of one case on three axes. `.slices.sliders`, `.window`, `.opacity` and `.mode` are its controls."""

    def __init__(self, layers: Layers, stands_for: Case | Prediction) -> None:
        self.layers = layers
        self.channels = dict(layers_of(layers.image))
        first = next(iter(self.channels))
        self.channel = widgets.Dropdown(options=list(self.channels), value=first, description="channel", style=WIDE)
        self.window = _window(self.channels[first], first)
        self.opacity = widgets.FloatSlider(value=0.4, min=0, max=1, step=0.05, description="overlay", style=WIDE)
        both = layers.truth is not None and layers.predicted is not None
        self.mode = widgets.ToggleButtons(options=[LABELS, AGREES], value=LABELS, style={"button_width": "110px"})
        self.slices = Slices(layers)
        self.key = words(layers.key(LABELS), self._agreeing() if both else None)
        self.channel.observe(self._new_channel, names="value")
        for control in (self.window, self.opacity, self.mode):
            control.observe(self._draw, names="value")
        knobs = [self.window] if len(self.channels) == 1 else [self.channel, self.window]
        if layers.guide is not None:
            knobs.append(self.opacity)
        super().__init__([row(*knobs, *([self.mode] if both else [])), self.slices, self.key], stands_for)
        self._draw(None)

    def _new_channel(self, change: Any) -> None:
        name = self.channel.value
        fresh = _window(self.channels[name], name)
        self.window.unobserve(self._draw, names="value")
        self.window.min, self.window.max = min(fresh.min, self.window.min), max(fresh.max, self.window.max)
        self.window.value, self.window.min, self.window.max = fresh.value, fresh.min, fresh.max
        self.window.observe(self._draw, names="value")
        self._draw(None)

    def _draw(self, change: Any) -> None:
        painting = self.layers.painting(self.mode.value, self.opacity.value)
        self.slices.show(self.channels[self.channel.value], painting, self.window.value)
        if change is not None and change.owner is self.mode:
            self.key.value = paragraph(self.layers.key(self.mode.value), self._agreeing())

    def _agreeing(self) -> Html:
        """How much of all that either calls foreground both agree on."""
        truth, predicted = self.layers.truth, self.layers.predicted
        assert truth is not None and predicted is not None
        codes = agreement(truth, predicted, self.layers.labels.ignore)
        labelled = max(int((codes > 0).sum()), 1)
        told = (f"{word} {share(int((codes == code).sum()) / labelled)}" for code, (word, _) in AGREEMENT.items())
        return tag("p", tag("small", f"of all labelled voxels: {', '.join(told)}"))


def _window(channel: np.ndarray, name: str) -> widgets.FloatRangeSlider:
    """From black to white, over the range that the channel has."""
    known = channel[np.isfinite(channel)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    first = window_of(channel, name)
    low, high = min(low, first[0]), max(high, first[1], low + 1e-6)
    return widgets.FloatRangeSlider(
        value=first,
        min=low,
        max=high,
        step=(high - low) / 500,
        description="window",
        style=WIDE,
        readout_format=".4g",
        layout=widgets.Layout(width="330px", margin="2px 16px 2px 2px"),  # the readout is wider than it says
    )


def browse_case(case: Case) -> CaseBrowser:
    """The widget of a case."""
    return CaseBrowser(layers_of_case(case), case)


def browse_prediction(prediction: Prediction) -> CaseBrowser:
    """The widget of a prediction, against the reference where there is one."""
    return CaseBrowser(layers_of_prediction(prediction), prediction)
