"""Displays of cases on the plan's grid: what was done to them, and how they look to the network."""

from __future__ import annotations

import numpy as np

from autoseg.data.geometry import Grid
from autoseg.data.images import Image
from autoseg.display import render
from autoseg.display.colours import colour_of_region, legend, swatch
from autoseg.display.data import affordable
from autoseg.display.html import Html, card, facts, fold, gallery, join, names, section, table, text
from autoseg.display.slices import Overlay, thumbnail, views
from autoseg.display.words import count, number, size, times
from autoseg.preprocessing.cases import PreprocessedCase
from autoseg.preprocessing.store import PreprocessedDataset

READ_AT_ONCE = 60_000_000  # bytes of arrays that a display may decompress for its pictures
THUMBNAILS = 5
MEASURED = 2000  # cases beyond which sizes are not added up: each is a small file to read


@render.register
def show_preprocessed_case(case: PreprocessedCase) -> str:
    """What the network sees of a case, and the steps from the scan to it."""
    return card(
        "Preprocessed case",
        case.name,
        views(image_of(case), overlay_of(case)),
        legend(case.labels) if case.label is not None else text("no label map"),
        section("From the scan to the network's grid", steps(case), hint="axes in the plan's order"),
        section("Intensities after normalization", channel_table(case)),
        fold("Places to draw foreground patches from", locations(case), hint=count(len(case.class_locations), "label"))
        if case.class_locations
        else None,
        note=", ".join(case.channels),
    )


def image_of(case: PreprocessedCase) -> Image:
    """The normalized intensities with their grid; of a picture, without the slice axis that the network's grid has."""
    grid = case.geometry.resampled
    if case.geometry.original.dimensions == 2:
        return Image(case.array[:, 0], Grid.of(grid.shape[1:], grid.spacing[1:]), case.channels)
    return Image(case.array, grid, case.channels)


def overlay_of(case: PreprocessedCase) -> Overlay:
    """The label map; voxels outside the patient are left free."""
    if case.label is None:
        return Overlay()
    label = case.label[0] if case.geometry.original.dimensions == 2 else case.label
    return Overlay(filled=np.maximum(label, 0), ignore=case.labels.ignore)


def steps(case: PreprocessedCase) -> Html:
    """Shape and spacing of the case after each step; of a picture, along its own two axes."""
    geometry = case.geometry
    axes = geometry.original.dimensions
    grids = (
        ("scan", geometry.original),
        ("axes in order", geometry.transposed),
        ("cropped to nonzero", geometry.cropped),
        ("resampled", geometry.resampled),
    )
    rows = [(step, times(grid.shape[-axes:]), times(grid.spacing[-axes:], "mm")) for step, grid in grids]
    return table(("step", "shape", "spacing"), rows)


def channel_table(case: PreprocessedCase) -> Html:
    """Mean, deviation and range of each channel: about 0 and 1 where a z-score was taken."""
    rows = [
        (name, *(number(round(float(f(c)), 3) + 0.0) for f in (np.mean, np.std, np.min, np.max)))
        for name, c in zip(case.channels, case.array, strict=True)
    ]
    return table(("channel", "mean", "deviation", "lowest", "highest"), rows, numbers=(1, 2, 3, 4))


def locations(case: PreprocessedCase) -> Html:
    """How many voxels are kept of each label, from which foreground oversampling draws."""
    rows = [
        (
            join(swatch(colour_of_region(case.labels, name)), " ", name) if name in case.labels.regions else name,
            f"{len(voxels):,}",
        )
        for name, voxels in case.class_locations.items()
    ]
    return table(("label", "voxels kept"), rows, numbers=(1,))


@render.register
def show_preprocessed_dataset(prepared: PreprocessedDataset) -> str:
    """How much there is, and a look at some cases."""
    configuration = prepared.configuration
    essence: dict[str, object] = {"cases": f"{len(prepared):,}", "spacing": times(configuration.spacing, "mm")}
    if len(prepared) <= MEASURED:
        essence["in memory"] = size(prepared.nbytes)
    return card(
        "Preprocessed dataset",
        f"{configuration.dataset_name} for {configuration.name}",
        facts(essence | {"folds": len(prepared.splits)}),
        pictures(prepared),
        fold("Cases", names(prepared.cases), hint=count(len(prepared), "case"), long=True),
        note="in memory" if prepared.folder is None else str(prepared.folder),
    )


def pictures(prepared: PreprocessedDataset) -> Html:
    """Cases spread over the list, as many as are read in a moment."""
    chosen = [prepared.cases[i] for i in np.linspace(0, len(prepared) - 1, min(THUMBNAILS, len(prepared))).astype(int)]
    channels = len(prepared.configuration.channels)
    read = affordable(chosen, lambda name: 4 * channels * int(np.prod(prepared.entries[name].shape)), READ_AT_ONCE)
    cases = (prepared[name] for name in read)
    shown = [[(thumbnail(image_of(case), overlay_of(case)), case.name)] for case in cases]
    if not shown:
        return text("One case is too large to be read in a moment; prepared[name] shows it.")
    return join(gallery(*shown), legend(prepared.labels))
