"""What headers say: channels of one case beside each other, and cases beside the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial

import numpy as np

from autoseg.core.types import Spacing, by
from autoseg.data import fixes
from autoseg.data.checks.files import leave_out
from autoseg.data.checks.finding import Finding, Fix, channels_of
from autoseg.data.checks.geometry import ROUNDING, displacement, is_blank
from autoseg.data.checks.survey import ENOUGH, Check, Survey, cases_of, factor
from autoseg.data.dataset import Dataset
from autoseg.data.geometry import Grid

SMALLEST = 8  # voxels along the two longest axes, below which a network has nothing to look at
FAR = 8.0  # times finer or coarser than the median case


def channels(survey: Survey) -> Iterator[Finding]:
    """Channel files of one case that lie in different places, which are stacked voxel on voxel nevertheless."""
    away = {
        name: (max(displacement(grid, image.files[0]) for grid in image.files), image.files)
        for name, image in survey.images
        if image.files
    }
    apart = {name: found for name, found in away.items() if found[0] > ROUNDING}
    if not apart:
        return
    worst = max(apart, key=lambda name: apart[name][0])
    far, files = apart[worst]
    number = max(range(len(files)), key=lambda n: displacement(files[n], files[0]))
    first, other = (survey.dataset.channels[n] for n in (0, number))
    yield Finding(
        check="channels",
        severity="warning",
        cases=tuple(apart),
        message=f"in {cases_of(list(apart), len(survey.training))} channels of one case lie in different places: in "
        f"{worst!r} {other!r} is up to {far:.1f} voxels away from {first!r}, {files[number].difference(files[0])}.",
        advice="nnU-Net prints a warning and stacks them voxel on voxel, and so does autoseg. Is the header wrong, or "
        "do they have to be registered first?",
        worst=worst,
        draw=channels_of(worst, 0, number),
        fix=leave_out(list(apart)) if len(apart) < len(survey.training) else None,
    )


def copies(survey: Survey) -> Iterator[Finding]:
    """Channels that are the same image under two names."""
    for number, channel in enumerate(survey.dataset.channels):
        for other in range(number + 1, len(survey.dataset.channels)):
            alike = [
                name
                for name, image in survey.images
                if image.files and image.channels[number].content == image.channels[other].content
                if not image.channels[number].constant
            ]
            if alike:
                yield Finding(
                    check="copies",
                    severity="warning",
                    cases=tuple(alike),
                    message=f"{cases_of(alike, len(survey.training))}: the channels {channel!r} and "
                    f"{survey.dataset.channels[other]!r} are the same, voxel for voxel.",
                    advice="Was one file saved under both names?",
                    worst=alike[0],
                    draw=channels_of(alike[0], number, other),
                    fix=leave_out(alike) if len(alike) < len(survey.training) else None,
                )


def dimensions(survey: Survey) -> Iterator[Finding]:
    """Pictures among volumes, or the reverse."""
    names: dict[int, list[str]] = {}
    for name, image in survey.images:
        names.setdefault(image.grid.dimensions, []).append(name)
    if len(names) > 1:
        (odd, few), (usual, many) = sorted(names.items(), key=lambda item: len(item[1]))
        yield Finding(
            check="dimensions",
            severity="error",
            cases=tuple(few),
            message=f"{cases_of(few, len(survey.training))}: the image is {odd}D, the others are {usual}D (such as "
            f"{many[0]!r}).",
            advice="One plan cannot serve both: split the dataset in two, or cut the 3D images into slices.",
            worst=few[0],
            fix=leave_out(few),
        )


def spacing(survey: Survey) -> Iterator[Finding]:
    """Cases whose voxels are of another order of size, and those whose header says nothing where the others' does."""
    grids = {name: image.grid for name, image in survey.images}
    if len(grids) < ENOUGH or len({grid.dimensions for grid in grids.values()}) > 1:
        return
    sizes = {name: np.sort(grid.spacing) for name, grid in grids.items()}  # whichever axis the slices lie along
    usual = np.median(list(sizes.values()), axis=0)
    far = {name: float(np.exp(np.abs(np.log(size / usual)).max())) for name, size in sizes.items()}
    odd = [name for name in far if far[name] > FAR]
    if odd:
        worst = max(odd, key=lambda name: far[name])
        yield _spacing(survey, odd, worst, f"differs up to {factor(far[worst])} times from that of the median case")
    told = {e.name for e in survey.training if e.image and e.label and e.label.grid.difference(e.image.grid)}
    blank = [name for name, grid in grids.items() if is_blank(grid) and name not in told and name not in odd]
    if blank and len(blank) < len(grids) / 2 and not np.allclose(usual, 1):
        yield _spacing(survey, blank, blank[0], "is what a lost header gives, 1 mm and at the origin")


def _spacing(survey: Survey, names: list[str], worst: str, what: str) -> Finding:
    grids = {name: image.grid for name, image in survey.images}
    usual = _usual([grid for name, grid in grids.items() if name not in names], {name: grids[name] for name in names})
    return Finding(
        check="spacing",
        severity="warning",
        cases=tuple(names),
        message=f"in {cases_of(names, len(survey.training))} the spacing {what}: {by(grids[worst].spacing, 4)} mm in "
        f"{worst!r}{f', usually {by(usual[worst], 4)} mm' if usual else ''} (zyx).",
        advice="Is it in another unit, or was the header lost? Resampling believes it.",
        worst=worst,
        fix=Fix(text=f"reads them with {by(usual[worst], 4)} mm", change=partial(_with_spacings, spacings=usual))
        if usual
        else None,
    )


def _usual(others: list[Grid], odd: dict[str, Grid]) -> dict[str, Spacing]:
    """The median spacing of the others in the order of each odd one's axes; nothing where that cannot be told."""
    orders = {_axes(grid) for grid in others}
    order, found = _axes(others[0]), np.median([grid.spacing for grid in others], axis=0).tolist()
    own = {name: order if is_blank(grid) else _axes(grid) for name, grid in odd.items()}
    if len(orders) > 1 or any(axes != order and not set(axes) == set(order) == set("LPS") for axes in own.values()):
        return {}
    return {
        name: tuple(found if axes == order else (found[order.index(letter)] for letter in axes))
        for name, axes in own.items()
    }


def _axes(grid: Grid) -> str:
    """The world's axis along which each axis of the array lies, whichever way it grows."""
    return grid.orientation.translate(str.maketrans("RAI", "LPS"))


def _with_spacings(dataset: Dataset, spacings: dict[str, Spacing]) -> Dataset:
    for name, spacing in spacings.items():
        dataset = fixes.override_spacing(dataset, spacing, name)
    return dataset


def orientation(survey: Survey) -> Iterator[Finding]:
    """Axes that grow in other directions in some cases: the network would see them turned."""
    turned: dict[str, list[str]] = {}
    for name, image in survey.images:
        if image.grid.dimensions == 3:
            turned.setdefault(image.grid.orientation, []).append(name)
    if len(turned) < 2:
        return
    usual = Counter({letters: len(names) for letters, names in turned.items()}).most_common(1)[0][0]
    others = [name for letters, names in turned.items() if letters != usual for name in names]
    counts = ", ".join(f"{letters} in {len(names)}" for letters, names in turned.items())
    yield Finding(
        check="orientation",
        severity="warning",
        cases=tuple(others),
        message=f"the axes of the cases grow in different directions: {counts}. "
        "The network would see some of them turned.",
        advice="nnU-Net does not turn them either. Predictions come back as the files lie.",
        worst=others[0],
        fix=Fix(
            text=f"turns all cases to {usual}",
            change=lambda dataset: fixes.reorient(dataset, usual),
        ),
    )


def small(survey: Survey) -> Iterator[Finding]:
    """Images with hardly a voxel to look at."""
    tiny = [(name, image.grid.shape) for name, image in survey.images if sorted(image.grid.shape)[-2] < SMALLEST]
    if tiny:
        name, shape = min(tiny, key=lambda pair: int(np.prod(pair[1])))
        yield Finding(
            check="small",
            severity="warning",
            cases=tuple(n for n, _ in tiny),
            message=f"{cases_of([n for n, _ in tiny])}: fewer than {SMALLEST} voxels along two axes; {name!r} has "
            f"{by(shape)}. A network needs more to look at.",
            advice="Are these images, or cuts of them? Were axes mixed up?",
            worst=name,
        )


HEADERS: tuple[Check, ...] = (channels, copies, dimensions, spacing, orientation, small)
