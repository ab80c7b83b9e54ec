"""Displays of doubt: maps of uncertainty, reliability diagrams, scans outside the range, labels that look wrong."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from autoseg.data.geometry import Grid
from autoseg.data.images import Image
from autoseg.display import render
from autoseg.display.charts import inset, quiet
from autoseg.display.colours import ACCENT, INK, bar, legend
from autoseg.display.data import affordable, bytes_of
from autoseg.display.figures import picture
from autoseg.display.findings import line
from autoseg.display.html import Html, beside, card, facts, fold, gallery, join, section, table, tag, text
from autoseg.display.marks import annotate, unit_of
from autoseg.display.results import overlay_of
from autoseg.display.slices import (
    HEIGHT,
    WIDTH,
    Look,
    Overlay,
    View,
    arrange,
    layers_of,
    panel,
    slice_axis,
    view_of,
    views,
    window_of,
)
from autoseg.display.words import count, number, score
from autoseg.evaluation.calibration import BINS, Calibration, Reliability
from autoseg.evaluation.doubt import Uncertainties, Uncertainty, neighbourhood
from autoseg.evaluation.outside import RangeCheck
from autoseg.evaluation.suspicious import Suspect, Suspects

HEAT = "inferno"
ROWS = 200
OPEN = 12
PICTURES = 5
SMALL = (112.0, 180.0)  # page pixels of a thumbnail: height, width


@render.register
def show_uncertainty(found: Uncertainty) -> str:
    """The image with what is predicted, and the map over it, in the plane where most around it is uncertain."""
    image = found.case.image()
    view = _unsure_view(found)
    columns, scale = arrange([view.extent(image.grid)] * 2, (WIDTH, HEIGHT))
    shown = [(_predicted(found, image, view, scale), "predicted"), (heat(found, image, view, scale), "unsure")]
    essence = {
        "uncertainty": score(found.value),
        "entropy around the foreground": score(found.entropy),
        "of it, disagreement (mutual information)": score(found.mutual_information),
    }
    return card(
        "Uncertainty",
        found.case.name,
        facts(essence),
        gallery(*([shown[i] for i in column] for column in columns)),
        legend(found.label_map.labels, "filled: predicted"),
        ramp(),
        fold("Members", text(", ".join(found.members)), hint=len(found.members)),
        note=found.meaning,
    )


def _unsure_view(found: Uncertainty) -> View:
    axis = slice_axis(found.label_map.grid)
    others = tuple(a for a in range(found.map.ndim) if a != axis)
    counted = found.map.astype(np.float32) * neighbourhood(found.label_map.array > 0)  # as in the number of a case
    index = 0 if found.map.ndim == 2 else int(counted.sum(axis=others).argmax())
    return view_of(found.label_map.grid, axis, index)


def _predicted(found: Uncertainty, image: Image, view: View, scale: float) -> Html:
    name, layer = layers_of(image)[0]
    overlay = Overlay(filled=found.label_map.array, ignore=found.label_map.labels.ignore)
    return panel(layer, image.grid, view, overlay, Look(window_of(layer, name), scale, unit=unit_of(image.grid)))


def heat(found: Uncertainty, image: Image, view: View, scale: float, *, letters: bool = True) -> Html:
    """The map over the image: what is certain lets the image through."""
    name, layer = layers_of(image)[0]
    grey, flat = view.lay(layer), view.lay(found.map).astype(np.float32)
    low, high = window_of(layer, name)
    size = tuple(max(round(e * scale), 24) for e in view.extent(image.grid))

    def paint(figure: Any) -> None:
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        back = grey if grey.ndim == 2 else grey.mean(axis=-1)
        axes.imshow(back, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), aspect="auto", interpolation="bicubic")
        alpha = np.clip(2 * flat, 0, 0.9)
        axes.imshow(flat, cmap=HEAT, vmin=0, vmax=1, alpha=alpha, aspect="auto", interpolation="nearest")
        if letters:
            annotate(axes, view, (size[0], size[1]), Look((low, high), scale, unit=unit_of(image.grid)))

    return picture(paint, (size[0], size[1]), alt="uncertainty over the image", most=60_000)


def ramp() -> Html:
    """The legend of the map."""

    def paint(figure: Any) -> None:
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.imshow(np.linspace(0, 1, 64)[None], cmap=HEAT, aspect="auto")

    shown = picture(paint, (120, 10), alt="from dark to bright")
    keys = (tag("span", part, class_="as-key") for part in ("0 certain", shown, "1 a guess among all classes"))
    return tag("p", join(*keys, by=" "), class_="as-legend")


@render.register
def show_uncertainties(found: Uncertainties) -> str:
    """The cases to look at first, with their maps, and the number of every case."""
    order = found.most(None)
    rows = [
        (name, bar(found.by_case[name] / max(found.by_case[order[0]], 1e-9), score(found.by_case[name]), width=90))
        for name in order
    ]
    return card(
        "Uncertainty",
        count(len(found), "case"),
        section("Look at these first", maps(found)),
        ramp(),
        section("Cases", table(("case", "uncertainty"), rows[:OPEN]), hint="the most uncertain first"),
        fold("The other cases", table(("case", "uncertainty"), rows[OPEN:ROWS]), hint=len(rows) - OPEN, long=True)
        if len(rows) > OPEN
        else None,
        note=found[0].meaning,
    )


def maps(found: Uncertainties) -> Html | None:
    """A small map of each of the most uncertain cases, as many as are read in a moment."""
    shown = []
    for item in affordable((found[name] for name in found.most(PICTURES)), lambda item: bytes_of(item.case)):
        view, image = _unsure_view(item), item.case.image()
        caption = join(item.case.name, tag("br"), score(item.value))
        shown.append([(heat(item, image, view, _small(image.grid, view), letters=False), caption)])
    return gallery(*shown) if shown else None


def _small(grid: Grid, view: View) -> float:
    width, height = view.extent(grid)
    return min(SMALL[0] / height, SMALL[1] / width)


@render.register
def show_calibration(found: Calibration) -> str:
    """Two reliability diagrams: before, and after the temperature."""
    essence = {
        "temperature": number(found.temperature),
        "ECE before": f"{found.ece_before:.4f}",
        "ECE after": f"{found.ece_after:.4f}",
    }
    judged = f"fitted on {count(len(found.fitted_on), 'case')}, judged on {count(len(found.judged_on), 'other')}"
    told = (
        "Bars on the line: of voxels that the network gives a probability of 0.8, 80% are right. Below it, it is too "
        "sure. ECE, the expected calibration error, is the mean gap. Voxels within 3 voxels of the foreground count."
    )
    return card("Calibration", found.conclusion, facts(essence), diagrams(found), text(told), note=judged)


def diagrams(found: Calibration) -> Html:
    """Before and after, side by side."""
    parts = (("before", found.before), ("after", found.after))
    return beside(
        *(join(tag("small", f"{word}: ECE {r.ece:.4f}"), diagram(r, f"reliability {word}")) for word, r in parts)
    )


def diagram(found: Reliability, words: str) -> Html:
    """Accuracy over confidence as bars, how many voxels there are as their opacity, and the diagonal."""
    size = (260.0, 208.0)

    def paint(figure: Any) -> None:
        axes = inset(figure, size, (38, 38, 8, 8))
        centres = (np.arange(BINS) + 0.5) / BINS
        shares = np.sqrt(np.array(found.voxels) / max(*found.voxels, 1))
        for x, height, share in zip(centres, found.accuracy, shares, strict=True):
            if not math.isnan(height):
                axes.bar(x, height, width=0.9 / BINS, color=ACCENT, alpha=0.25 + 0.65 * float(share), linewidth=0)
        axes.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=(0, (3, 2)))
        quiet(axes)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_xlabel("probability", fontsize=7.5, color=INK)
        axes.set_ylabel("share that is right", fontsize=7.5, color=INK)

    return picture(paint, size, alt=words)


@render.register
def show_range_check(found: RangeCheck) -> str:
    """The scan, and what of it lies outside the range."""
    where = "inside the training range" if found.inside else "outside the training range"
    said = (
        table(("", ""), [line(f) for f in found.findings])
        if found.findings
        else text("Spacing, size, field of view and intensities are as in training. What is seen may still differ.")
    )
    note = f"compared with {count(found.training_cases, 'case')} of {found.dataset_name}"
    return card("Training range", f"{found.case.name}: {where}", said, views(found.case.image(), Overlay()), note=note)


@render.register
def show_suspect(found: Suspect) -> str:
    """The worst slice: the label as a line, what the models drew filled."""
    pictured = gallery([(_worst_slice(found, 2.0), "filled: predicted · line: label")])
    return card(
        "Suspicious label",
        found.case,
        facts({"label": found.label, "contradicted": score(found.score)}),
        pictured,
        legend(found.prediction.label_map.labels),
        text(found.reason),
    )


@render.register
def show_suspects(found: Suspects) -> str:
    """The most suspicious cases with their worst slices, and the score of every case."""
    pictured = affordable(found[:PICTURES], lambda item: bytes_of(item.prediction.case))
    shown = [[(_worst_slice(item, 1.0), join(item.case, tag("br"), score(item.score)))] for item in pictured]
    rows = [(s.case, bar(s.score, score(s.score), width=70), s.reason) for s in found]
    head = ("case", "contradicted", "why")
    return card(
        "Suspicious labels",
        f"{count(len(found), 'case')}, the most suspicious first",
        gallery(*shown) if shown else None,
        legend(found[0].prediction.label_map.labels, "filled: predicted · line: label") if shown else None,
        table(head, rows[:OPEN]),
        fold("The other cases", table(head, rows[OPEN:ROWS]), hint=len(rows) - OPEN, long=True)
        if len(rows) > OPEN
        else None,
        note="look at them: a model that did not see a case may be right where its label is wrong, or the other way",
    )


def _worst_slice(found: Suspect, larger: float) -> Html:
    prediction = found.prediction
    image = prediction.case.image()
    axis = slice_axis(image.grid)
    view = view_of(image.grid, axis, found.voxel[axis] if image.grid.dimensions == 3 else 0)
    name, layer = layers_of(image)[0]
    mark = found.voxel if found.score else None
    look = Look(window_of(layer, name), larger * _small(image.grid, view), letters=False, mark=mark)
    return panel(layer, image.grid, view, overlay_of(prediction), look)
