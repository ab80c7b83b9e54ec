"""Where voxels lie: label maps beside their images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np

from autoseg.data import fixes
from autoseg.data.checks.evidence import Evidence
from autoseg.data.checks.files import leave_out
from autoseg.data.checks.finding import Finding, Fix, Picture
from autoseg.data.checks.loading import grids_differ, share_shape_and_spacing
from autoseg.data.checks.survey import Check, Survey, cases_of, few
from autoseg.data.corrections import onto
from autoseg.data.dataset import Case, Dataset
from autoseg.data.geometry import Grid

ROUNDING = 0.1  # voxels that a corner may be off before it is more than rounding in a header
CLEARER = 1.3  # times stronger edges that make one placement of the labels more likely than another


def grids(survey: Survey) -> Iterator[Finding]:
    """Label maps whose grid is not their image's: rounded, lost in a header, shifted, or another grid altogether."""
    kinds: dict[str, list[Evidence]] = {}
    for e in survey.training:
        if e.image and e.label and e.label.grid.difference(e.image.grid):
            kinds.setdefault(_kind(e), []).append(e)
    for kind, found in kinds.items():
        yield _GRIDS[kind](found)


def _kind(e: Evidence) -> str:
    assert e.image and e.label
    image, label = e.image.grid, e.label.grid
    if image.shape != label.shape:
        return "slice" if _is_slice(label, image) else "other"
    if displacement(label, image) < ROUNDING:
        return "rounded"
    if share_shape_and_spacing(label, image):
        return "shifted"
    if is_blank(label) != is_blank(image):
        return "label header lost" if is_blank(label) else "image header lost"
    return "spacing"


def _is_slice(label: Grid, image: Grid) -> bool:
    """Whether one is a picture and the other a volume with that one slice."""
    label_shape, image_shape = ([n for n in grid.shape if n > 1] for grid in (label, image))
    return label.dimensions != image.dimensions and label_shape == image_shape


def displacement(label: Grid, image: Grid) -> float:
    """How far, in the image's voxels, the worst corner of the label map lies from where the image has it.

    >>> displacement(Grid.of((4, 4)), Grid.of((4, 4)).transpose((1, 0)))
    3.0
    """
    corners = [np.array(c) for c in product(*((0, n - 1) for n in image.shape))]
    away = [image.to_index(label.to_world(c)) - c for c in corners]
    return float(np.round(np.abs(away).max(), 9))


def is_blank(grid: Grid) -> bool:
    """A header that says nothing: 1 mm, at the origin, along the axes (in either of the two usual ways)."""
    plain = np.allclose(grid.spacing, 1) and np.allclose(grid.origin, 0)
    return plain and np.allclose(np.abs(grid.direction).sum(0), 1) and np.allclose(np.abs(grid.direction).max(0), 1)


def _worst(found: list[Evidence]) -> Evidence:
    return max(found, key=lambda e: displacement(e.label.grid, e.image.grid) if e.image and e.label else 0)


def _rounded(found: list[Evidence]) -> Finding:
    worst = _worst(found)
    assert worst.image and worst.label
    off = displacement(worst.label.grid, worst.image.grid)
    return Finding(
        check="grids",
        severity="note",
        cases=_names(found),
        message=f"in {cases_of(_names(found))} the headers of image and label map differ by rounding, "
        f"at most {off:.2g} voxels.",
        advice="Harmless: label maps are laid on their images voxel on voxel.",
        worst=worst.name,
        fix=_on_images(found, safe=True),
    )


def _lost(found: list[Evidence], which: str) -> Finding:
    worst = _worst(found)
    assert worst.image and worst.label
    fix = _on_images(found, safe=_fits_voxel_on_voxel(found)) if which == "label map" else _on_labels(found)
    return Finding(
        check="grids",
        severity="error",
        cases=_names(found),
        message=f"{grids_differ(worst.name, worst.label.grid, worst.image.grid)} The header of the {which} says "
        f"nothing (1 mm, at the origin), as when it was saved without one. {_so_in(found)}".rstrip(),
        advice="The shapes agree, so both may be laid on each other voxel on voxel.",
        worst=worst.name,
        fix=fix,
        draw=_pictures(worst),
    )


def _spacing(found: list[Evidence]) -> Finding:
    worst = _worst(found)
    assert worst.image and worst.label
    return Finding(
        check="grids",
        severity="error",
        cases=_names(found),
        message=f"{grids_differ(worst.name, worst.label.grid, worst.image.grid)} {_so_in(found)}".rstrip(),
        advice="The shapes agree, so one of the two headers is wrong. Find out which.",
        worst=worst.name,
        fix=_on_images(found, safe=False),
        draw=_pictures(worst),
    )


def _slice(found: list[Evidence]) -> Finding:
    first = found[0]
    assert first.image and first.label
    return Finding(
        check="grids",
        severity="error",
        cases=_names(found),
        message=f"{grids_differ(first.name, first.label.grid, first.image.grid)} One is a picture, the other a "
        f"volume of one slice. {_so_in(found)}".rstrip(),
        advice="nnU-Net takes both for the same.",
        worst=first.name,
        fix=_on_images(found, safe=True),
    )


def _shifted(found: list[Evidence]) -> Finding:
    worst = _worst(found)
    assert worst.image and worst.label
    off = displacement(worst.label.grid, worst.image.grid)
    difference = worst.label.grid.difference(worst.image.grid)
    plain, world = (sum(e.edges[i] for e in found if e.edges) / len(found) for i in (0, 1))
    evidence = (
        f"at the border of the labels the image changes {plain:.1f} times as strongly as around it if one is laid on "
        f"the other voxel on voxel, {world:.1f} times if both lie where their headers say"
    )
    if world > CLEARER * plain:
        moved = "turned" if difference.startswith("direction") else "shifted"
        verdict, fix = f"so the headers are right and the label maps are really {moved}", _resampled(found, safe=True)
    elif plain > CLEARER * world:
        verdict, fix = "so the voxels are right and one of the headers is wrong", _on_images(found, safe=True)
    else:
        verdict, fix = "which does not decide it; look at the picture", _on_images(found, safe=False)
    return Finding(
        check="grids",
        severity="warning",
        cases=_names(found),
        message=f"in {cases_of(_names(found))} the label map lies up to {off:.1f} voxels away from its image: "
        f"{difference} in {worst.name!r}; {evidence}, {verdict}.",
        advice="nnU-Net prints a warning and lays them on each other voxel on voxel.",
        worst=worst.name,
        fix=fix,
        draw=_pictures(worst),
    )


def _other(found: list[Evidence]) -> Finding:
    worst = found[0]
    assert worst.image and worst.label
    meets = [e for e in found if e.edges and e.edges[1] > 0]
    return Finding(
        check="grids",
        severity="error",
        cases=_names(found),
        message=f"{grids_differ(worst.name, worst.label.grid, worst.image.grid)} {_so_in(found)}".rstrip(),
        advice="Both overlap in the world: the labels can be brought onto the image's grid."
        if len(meets) == len(found)
        else "They do not meet in the world. Look whether the files belong together.",
        worst=worst.name,
        fix=_resampled(found, safe=False) if len(meets) == len(found) else leave_out(list(_names(found))),
        draw=_pictures(worst),
    )


_GRIDS = {
    "rounded": _rounded,
    "label header lost": lambda found: _lost(found, "label map"),
    "image header lost": lambda found: _lost(found, "image"),
    "spacing": _spacing,
    "slice": _slice,
    "shifted": _shifted,
    "other": _other,
}


def _fits_voxel_on_voxel(found: list[Evidence]) -> bool:
    return all(e.edges and e.edges[0] > CLEARER * max(e.edges[1], 1.0) for e in found)


def _names(found: list[Evidence]) -> tuple[str, ...]:
    return tuple(e.name for e in found)


def _so_in(found: list[Evidence]) -> str:
    return f"So in {len(found)} cases." if len(found) > 1 else ""


def _on_images(found: list[Evidence], *, safe: bool) -> Fix:
    names = _names(found)
    return Fix(
        text=f"lays the label maps of {few(names)} on their images, voxel on voxel",
        change=lambda dataset: fixes.lay_labels_on_images(dataset, *names),
        safe=safe,
    )


def _on_labels(found: list[Evidence]) -> Fix:
    names = _names(found)
    return Fix(
        text=f"gives the images of {few(names)} the grid of their label maps",
        change=lambda dataset: fixes.lay_images_on_labels(dataset, *names),
        safe=_fits_voxel_on_voxel(found),
    )


def _resampled(found: list[Evidence], *, safe: bool) -> Fix:
    names = _names(found)
    return Fix(
        text=f"brings the label maps of {few(names)} onto their images through world coordinates",
        change=lambda dataset: fixes.resample_labels(dataset, *names),
        safe=safe,
    )


def _pictures(worst: Evidence) -> Callable[[Dataset], tuple[Picture, ...]]:
    return lambda dataset: laid_both_ways(dataset[worst.name])


def laid_both_ways(case: Case) -> tuple[Picture, ...]:
    """The image with its label map as the voxels lie, and as the headers say."""
    image, label_map = case.image(), case.label()
    if image.grid.dimensions != label_map.grid.dimensions:
        return (Picture(title=case.name, image=image),)
    pictures = []
    if image.grid.shape == label_map.grid.shape:
        pictures.append(Picture(title="voxel on voxel", image=image, labels=label_map.array))
    through = onto(label_map.array, label_map.grid, image.grid)
    return (*pictures, Picture(title="as the headers say", image=image, labels=through))


GEOMETRY: tuple[Check, ...] = (grids,)
