"""Displays of what is on disk and what is known of it: labels, datasets, cases, images, findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from autoseg.core.errors import DatasetError
from autoseg.data.checks.survey import few
from autoseg.data.dataset import Case, Dataset, Fold
from autoseg.data.geometry import Grid
from autoseg.data.images import Image, LabelMap
from autoseg.data.label_values import count_values
from autoseg.data.labels import Labels, members
from autoseg.display import render
from autoseg.display.colours import IGNORED, bar, colour_of, legend, named, swatch
from autoseg.display.html import (
    Html,
    card,
    facts,
    fold,
    gallery,
    join,
    names,
    table,
    tag,
    text,
)
from autoseg.display.marks import unit_of
from autoseg.display.slices import Overlay, orientation_of, overlay_of, thumbnail, views
from autoseg.display.words import count, number, share, size, times

T = TypeVar("T")
READ_AT_ONCE = 12_000_000  # bytes of files that a dataset's display may read for its pictures: about half a second
THUMBNAILS = 5
ROWS = 200
OPEN_LABELS = 10


@render.register
def show_labels(labels: Labels) -> str:
    """Every label or region with its colour and its value in the files."""
    note = "regions: each is predicted on its own, later ones are written over earlier ones"
    return card(
        "Labels",
        count(len(labels.regions), "class", "classes"),
        label_table(labels),
        note=note if labels.has_regions else None,
    )


def label_table(labels: Labels) -> Html:
    """Colour, name and value of each label or region."""
    rows: list[tuple[object, ...]] = []
    for name, value in labels.names.items():
        values = members(value)
        rows.append((join(*(swatch(colour_of(v)) for v in values if v), " ", name), ", ".join(map(str, values))))
    if labels.ignore is not None:
        rows.append((join(swatch(IGNORED), " ignore (nobody annotated it)"), labels.ignore))
    return table(("label", "value in the files"), rows)


@render.register
def show_dataset(dataset: Dataset) -> str:
    """How much there is, a look at some cases, and behind folds the names."""
    essence = {
        "training cases": f"{len(dataset):,}",
        "test cases": f"{len(dataset.test):,}",
        "channels" if len(dataset.channels) > 1 else "channel": ", ".join(dataset.channels),
        "foreground labels": len(dataset.labels.foreground),
    }
    return card(
        "Dataset",
        dataset.name,
        facts(essence),
        case_pictures(dataset.training),
        fold("Labels", label_table(dataset.labels), hint=few(list(dataset.labels.regions), 6)),
        fold(
            "Training cases",
            names([c.name for c in dataset], more="more; dataset.training has all of them"),
            hint=count(len(dataset), "case"),
            long=True,
        ),
        fold("Test cases", names([c.name for c in dataset.test]), hint=count(len(dataset.test), "case"), long=True)
        if dataset.test
        else None,
        note=str(dataset.folder) if dataset.folder else "from memory",
    )


def case_pictures(cases: Sequence[Case], *, most: int = THUMBNAILS) -> Html:
    """Pictures of cases spread over the list, as many as are read in a moment, with the legend of their labels."""
    chosen = [cases[i] for i in np.linspace(0, len(cases) - 1, min(most, len(cases))).astype(int)]
    problems: list[str] = []
    shown = [[_pictured(case, problems)] for case in affordable(chosen, bytes_of)]
    if not shown:
        return text(f"One case is {size(bytes_of(cases[0]))} on disk, so none is read here; dataset[name] shows one.")
    said = text(problems[0], " autoseg.check(dataset) looks at all cases.") if problems else None
    return join(gallery(*shown), legend(cases[0].labels) if cases[0].has_label else None, said)


def affordable(items: Iterable[T], cost: Callable[[T], int], most: int = READ_AT_ONCE) -> Iterator[T]:
    """The first of some items, as many as together cost at most so many bytes to read."""
    for item in items:
        most -= cost(item)
        if most < 0:
            return
        yield item


def bytes_of(case: Case) -> int:
    """Bytes of the case's files."""
    return sum(path.stat().st_size for path in (*case.image_paths, case.label_path) if path and path.exists())


def _pictured(case: Case, problems: list[str]) -> tuple[Html, str]:
    """What can be drawn of a case, and its caption; `problems` gain the rest: one bad file must not hide the others."""
    overlay, caption = Overlay(), case.name
    try:
        overlay = overlay_of(case.label() if case.has_label else None)
    except DatasetError as error:
        problems.append(str(error))
        caption += ", without labels"
    try:
        return thumbnail(case.image(), overlay), caption
    except DatasetError as error:
        problems.append(str(error))
        return tag("span", "cannot be shown"), case.name


@render.register
def show_fold(fold_: Fold) -> str:
    """Which cases train and which validate."""
    parts = (("Training cases", fold_.training), ("Validation cases", fold_.validation))
    return card(
        "Fold",
        f"{len(fold_.training)} train, {len(fold_.validation)} validate",
        *(
            fold(title, names([c.name for c in cases]), hint=count(len(cases), "case"), long=True)
            for title, cases in parts
        ),
        note="a model learns from the training cases and is judged on the validation cases, which it never saw",
    )


@render.register
def show_case(case: Case) -> str:
    """The case in three planes with its labels, how large they are, and where the files lie."""
    image = case.image()
    label_map = case.label() if case.has_label else None
    if label_map is not None and label_map.grid.shape != image.grid.shape:
        raise DatasetError(f"label map and image differ: {label_map.grid.difference(image.grid)}")
    files_ = [("image", path) for path in case.image_paths] + ([("label map", case.label_path)] if label_map else [])
    rows = [(what, tag("code", path.name), size(path.stat().st_size)) for what, path in files_ if path]
    return card(
        "Case",
        case.name,
        views(image, overlay_of(label_map)),
        voxel_table(label_map) if label_map else text("no label map: only training cases have one"),
        facts(grid_facts(image.grid) | _intensity_range(image)),
        fold(
            "Files",
            text(str(case.image_paths[0].parent)),
            table(("", "name", "size"), rows, numbers=(2,)),
            hint=count(len(rows), "file"),
        )
        if rows
        else None,
        note=", ".join(case.channels) + ("" if rows else "; in memory"),
    )


def grid_facts(grid: Grid) -> dict[str, object]:
    """Shape, spacing, extent and orientation in words."""
    unit = unit_of(grid)
    spacing = {} if unit == "px" else {"spacing": times(grid.spacing, "mm"), "extent": times(grid.extent, "mm")}
    axes = {"axes grow towards": _directions(grid)} if orientation_of(grid) else {}
    return {"shape": times(grid.shape, "voxels" if grid.dimensions == 3 else "pixels"), **spacing, **axes}


def _directions(grid: Grid) -> str:
    words = {"S": "head", "I": "feet", "A": "front", "P": "back", "L": "left", "R": "right"}
    return ", ".join(words[letter] for letter in grid.orientation)


def _intensity_range(image: Image) -> dict[str, object]:
    if len(image.channels) > 3:
        return {"channels": len(image.channels)}
    return {
        f"{name} intensities": f"{number(float(np.nanmin(c)))} to {number(float(np.nanmax(c)))}"
        for name, c in zip(image.channels, image.array, strict=True)
    }


def voxel_table(label_map: LabelMap) -> Html:
    """How much of the image each label takes; of many labels the largest, and all of them behind a fold."""
    found = {int(v): n for v, n in count_values(label_map.array).items() if v != 0}
    if not found:
        return text("nothing is labelled")
    if len(found) <= OPEN_LABELS:
        return _voxel_rows(label_map, found)
    largest = dict(sorted(found.items(), key=lambda item: -item[1])[:OPEN_LABELS])
    everything = fold("All labels", _voxel_rows(label_map, found), hint=f"{len(found)}, the largest are above")
    return tag("div", _voxel_rows(label_map, largest), everything)


def _voxel_rows(label_map: LabelMap, voxels: dict[int, int]) -> Html:
    size_ = float(np.prod(label_map.grid.spacing))
    in_3d = label_map.grid.dimensions == 3
    ignore = label_map.labels.ignore
    labelled = max(int(np.isin(label_map.array, (0, ignore or 0), invert=True).sum()), 1)
    rows = [
        (
            named(v, label_map.labels),
            f"{n:,}",
            number(n * size_ / 1000) if in_3d else share(n / label_map.array.size),
            "–" if v == ignore else bar(n / labelled, share(n / labelled), colour=colour_of(v)),
        )
        for v, n in voxels.items()
    ]
    head = ("label", "voxels" if in_3d else "pixels", "ml" if in_3d else "of the image", "share of the foreground")
    return table(head, rows, numbers=(1, 2))


@render.register
def show_image(image: Image) -> str:
    """The image in three planes, its grid and its range of intensities."""
    return card(
        "Image",
        times(image.grid.shape),
        views(image, Overlay()),
        facts(grid_facts(image.grid) | _intensity_range(image)),
        note=", ".join(image.channels),
    )


@render.register
def show_label_map(label_map: LabelMap) -> str:
    """The labels in three planes on black, and how large they are."""
    empty = Image(np.zeros((1, *label_map.grid.shape), np.float32), label_map.grid, ("",))
    return card(
        "Label map",
        times(label_map.grid.shape),
        views(empty, replace(overlay_of(label_map), opacity=0.85), twice=False),
        voxel_table(label_map),
        facts(grid_facts(label_map.grid)),
    )
