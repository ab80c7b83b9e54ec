"""Corrected datasets: each verb returns a new `Dataset` that reads the same files otherwise. Nothing on disk changes.

>>> import autoseg
>>> from autoseg.data.fixes import override_spacing
>>> override_spacing(autoseg.sample_dataset(), (2.0, 1.0, 1.0))["seahorse_001"].image().grid.spacing
(2.0, 1.0, 1.0)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from autoseg.core.errors import DatasetError
from autoseg.core.types import Spacing
from autoseg.data.corrections import Corrections
from autoseg.data.dataset import Case, Dataset
from autoseg.data.geometry import Grid
from autoseg.data.labels import FileValue, Labels, Values, members
from autoseg.data.splits import group_splits

Groups = Mapping[str, str] | Callable[[str], Any]


def correct(dataset: Dataset, cases: Sequence[str] | None = None, **changes: Any) -> Dataset:
    """The dataset with fields of `Corrections` changed for some cases, or for all, test cases included."""

    def corrected(case: Case) -> Case:
        return replace(case, corrections=replace(case.corrections, **changes))

    return _each_case(dataset, corrected, cases)


def _each_case(dataset: Dataset, change: Callable[[Case], Case], cases: Sequence[str] | None = None) -> Dataset:
    if cases is not None:
        wanted, always = {dataset[name].name for name in cases}, change
        change = lambda case: always(case) if case.name in wanted else case  # noqa: E731
    return replace(dataset, training=tuple(map(change, dataset.training)), test=tuple(map(change, dataset.test)))


# Geometry


def override_spacing(dataset: Dataset, spacing: Spacing, *cases: str) -> Dataset:
    """Read images and label maps with this spacing (mm, array order) whatever their headers say."""
    return correct(dataset, cases or None, spacing=tuple(float(s) for s in spacing))


def reorient(dataset: Dataset, orientation: str, *cases: str) -> Dataset:
    """Turn images and label maps so that their axes grow towards these directions, such as ``SPL``.

    Axes are exchanged and flipped; no voxel changes. Predictions are written in the same orientation.
    """
    return correct(dataset, cases or None, orientation=orientation)


def lay_labels_on_images(dataset: Dataset, *cases: str) -> Dataset:
    """Let label maps take the grid of their images, voxel on voxel: for headers that were lost or rounded."""
    return _with_grids(dataset, cases, lambda image, label: {"label_grid": image, "label_onto": None})


def lay_images_on_labels(dataset: Dataset, *cases: str) -> Dataset:
    """Let images take the grid of their label maps, voxel on voxel: for images whose header was lost."""
    return _with_grids(dataset, cases, lambda image, label: {"image_grid": label, "label_onto": None})


def resample_labels(dataset: Dataset, *cases: str) -> Dataset:
    """Bring label maps onto the grid of their images where both overlap in the world, by nearest neighbour."""
    return _with_grids(dataset, cases, lambda image, label: {"label_grid": None, "label_onto": image})


def _with_grids(
    dataset: Dataset, cases: Sequence[str], changes: Callable[[Grid, Grid], dict[str, Grid | None]]
) -> Dataset:
    """Correct each case by what the headers of its own two files say."""
    for name in cases or [case.name for case in dataset]:
        plain = replace(dataset[name], corrections=Corrections())
        dataset = correct(dataset, [name], **changes(plain.image().grid, plain.stored_label()[1]))
    return dataset


# Voxels


def fill_nonfinite(dataset: Dataset, value: float, *cases: str) -> Dataset:
    """Read NaN and infinite voxels of images as this value."""
    return correct(dataset, cases or None, fill=float(value))


def rescale(dataset: Dataset, factor: float, *cases: str, channel: str | None = None) -> Dataset:
    """Multiply the intensities of these images, in one channel or in all."""
    return _intensities(dataset, cases, factor=[factor if channel in (None, c) else 1.0 for c in dataset.channels])


def shift(dataset: Dataset, amount: float, *cases: str, channel: str | None = None) -> Dataset:
    """Add an amount to the intensities of these images, in one channel or in all: -1024 where a CT begins at 0."""
    return _intensities(dataset, cases, amount=[amount if channel in (None, c) else 0.0 for c in dataset.channels])


def _intensities(dataset: Dataset, cases: Sequence[str], *, factor: Any = 1.0, amount: Any = 0.0) -> Dataset:
    """After what is done to them already."""

    def changed(case: Case) -> Case:
        scale, shift = np.multiply(case.corrections.scale, factor), np.multiply(case.corrections.shift, factor) + amount
        scales, shifts = (tuple(np.ravel(v).tolist()) for v in (scale, shift))
        return replace(case, corrections=replace(case.corrections, scale=scales, shift=shifts))

    return _each_case(dataset, changed, cases or None)


def round_labels(dataset: Dataset, *cases: str, nonfinite: int = 0) -> Dataset:
    """Round label values to whole numbers; those that are NaN or infinite become `nonfinite`."""
    return correct(dataset, cases or None, round_labels=True, label_fill=nonfinite)


def nearest_labels(dataset: Dataset, *cases: str) -> Dataset:
    """Read each label voxel as the nearest of the values its file should hold: for label maps saved as JPEG."""
    values = dataset.labels.stored
    return correct(dataset, cases or [case.name for case in dataset.training], label_values=values)


# Meaning


def relabel(dataset: Dataset, meaning: Mapping[FileValue, int], *cases: str) -> Dataset:
    """Read values (or colours) of label files as others; predictions are written with the files' own values.

    Args:
        meaning: value in the file -> value it stands for, which a label of the dataset must have.
        cases: where only some label maps hold these values; the dataset's own labels then stay as they are.

    >>> import autoseg
    >>> swapped = relabel(autoseg.sample_dataset(), {1: 2, 2: 1})
    >>> swapped.labels.in_files
    {1: 2, 2: 1}
    """

    def renumbered(labels: Labels) -> Labels:
        kept = [pair for pair in labels.file_values if pair[0] not in meaning]
        return replace(labels, file_values=(*kept, *meaning.items()))

    if cases:
        wanted = {dataset[name].name for name in cases}
        return _each_case(dataset, lambda c: replace(c, labels=renumbered(c.labels)) if c.name in wanted else c)
    return _with_labels(dataset, renumbered)


def _with_labels(dataset: Dataset, change: Callable[[Labels], Labels]) -> Dataset:
    """Change what values mean, for the dataset and for each of its cases."""
    dataset = _each_case(dataset, lambda case: replace(case, labels=change(case.labels)))
    return replace(dataset, labels=change(dataset.labels))


def declare_labels(dataset: Dataset, names: Mapping[str, FileValue]) -> Dataset:
    """Add labels with the values (or colours) that files hold; inside, all labels are numbered without gaps.

    >>> import autoseg
    >>> declare_labels(autoseg.sample_dataset(), {"fin": 7}).labels
    Labels(0 background, 1 head, 2 tail, 3 fin)
    """
    taken = sorted(set(names) & set(dataset.labels.names))
    if taken:
        raise DatasetError(f"the label {taken[0]!r} is declared already: {dataset.labels!r}. Choose another name.")

    def declared(labels: Labels) -> Labels:
        free = max(labels.permitted) + 1
        added = {name: free + i for i, name in enumerate(names)}
        stored = tuple((value, added[name]) for name, value in names.items())
        grown = Labels(
            {**labels.names, **added},
            (*labels.region_order, *added.values()) if labels.has_regions else labels.region_order,
            None,
            (*labels.file_values, *stored),
        )
        return _numbered(grown, labels.ignore)

    return _with_labels(dataset, declared)


def number_labels(dataset: Dataset) -> Dataset:
    """Number the labels 0, 1, 2 ... inside; files keep their values, and predictions are written with them."""
    return _with_labels(dataset, lambda labels: _numbered(replace(labels, ignore=None), labels.ignore))


def drop_labels(dataset: Dataset, *names: str) -> Dataset:
    """The dataset without these labels: their voxels, if there are any, are background."""
    for name in names:
        if name not in dataset.labels.names or name == "background":
            raise DatasetError(f"no label is called {name!r} that could be left out of {dataset.labels!r}.")

    def dropped(labels: Labels) -> Labels:
        kept = {name: value for name, value in labels.names.items() if name not in names}
        left = {v for value in kept.values() for v in members(value)}
        gone = [v for v in labels.values if v not in left]
        files = [(s, 0 if v in gone else v) for s, v in labels.file_values]
        files += [(v, 0) for v in gone if v not in labels.in_files]
        order = [v for v, name in zip(labels.region_order, labels.regions, strict=False) if name not in names]
        return _numbered(Labels(kept, tuple(order), None, tuple(files)), labels.ignore)

    return _with_labels(dataset, dropped)


def _numbered(labels: Labels, ignore: int | None) -> Labels:
    """The same labels numbered without gaps, the ignore label last; what files hold is kept."""
    new = {old: i for i, old in enumerate(labels.values)}
    if ignore is not None:
        new[ignore] = len(new)
    stored = [(s, new[v]) for s, v in labels.file_values]
    stored += [(v, n) for v, n in new.items() if v != n and v not in labels.in_files]

    def renamed(value: Values) -> Values:
        return new[value] if isinstance(value, int) else tuple(new[v] for v in value)

    return Labels(
        {name: renamed(value) for name, value in labels.names.items()},
        tuple(new[v] for v in labels.region_order),
        None if ignore is None else new[ignore],
        tuple(stored),
    )


def declare_channels(dataset: Dataset, *names: str) -> Dataset:
    """The dataset with other channel names, which decide the normalization: ``CT`` is Hounsfield units."""
    renamed = _each_case(dataset, lambda case: replace(case, channels=names))
    return replace(renamed, channels=names)


# Folds


def split_by_group(dataset: Dataset, groups: Groups) -> Dataset:
    """Folds in which all cases of a group (a patient, a site) stay on the same side.

    `groups` gives each case's group: a mapping, or a function of the case's name. Raises `DatasetError` for a case
    without one.

    >>> import autoseg
    >>> grouped = split_by_group(autoseg.sample_dataset(), lambda name: int(name[-3:]) // 2)
    >>> len(grouped.splits)
    5
    """
    group_of = groups if callable(groups) else groups.get
    found = {case.name: group_of(case.name) for case in dataset}
    missing = [name for name, group in found.items() if group is None]
    if missing:
        raise DatasetError(f"{len(missing)} cases have no group, the first is {missing[0]!r}. Give each case one.")
    return replace(dataset, splits=group_splits({name: str(group) for name, group in found.items()}))


def split_anew(dataset: Dataset) -> Dataset:
    """The dataset with nnU-Net's five folds in place of those of ``splits_final.json``."""
    return replace(dataset, splits=())
