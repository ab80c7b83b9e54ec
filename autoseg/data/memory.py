"""Cases that lie in memory: arrays, and images of other libraries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from autoseg.core.errors import DatasetError, ImageError
from autoseg.data.corrections import Corrections
from autoseg.data.dataset import Case, Dataset, Held
from autoseg.data.exchange import library_of, voxels_from
from autoseg.data.fixes import number_labels
from autoseg.data.formats import stem_of
from autoseg.data.images import Image
from autoseg.data.labels import Labels
from autoseg.data.pairs import declared, labels_from_values, values_of


def dataset_from_arrays(
    images: Sequence[Any],
    labels: Sequence[Any],
    *,
    spacing: Sequence[float] | None = None,
    names: Sequence[str] = (),
    channels: Sequence[str] = (),
    label_names: Mapping[str, int] | None = None,
    name: str = "arrays",
) -> Dataset:
    """A dataset of arrays, or of images of SimpleITK, nibabel or TorchIO, one image and one label map a case.

    Args:
        images: arrays (y, x), (z, y, x) or (channel, z, y, x); bytes with a last axis of 3 are colours.
        labels: integer arrays (y, x) or (z, y, x).
        spacing: mm between voxels, in the array's order; 1 where it is not given.
        names: of the cases; ``case_0``, ``case_1`` ... where they are not given.
        channels: their names; ``CT`` decides the normalization.
        label_names: every label with its value. Without it each value that occurs becomes a label.

    Raises `DatasetError` where a label map does not fit its image.

    >>> import numpy as np
    >>> images = [np.random.rand(8, 9, 10) for _ in range(3)]
    >>> dataset_from_arrays(images, [image > 0.5 for image in images], spacing=(2, 1, 1))
    Dataset('arrays': 3 training cases)
      channels: image
      Labels(0 background, 1 foreground)
    """
    if len(images) != len(labels):
        raise DatasetError(f"{len(images)} images and {len(labels)} label maps: give one label map for each image.")
    called = list(names) or [f"case_{i}" for i in range(len(images))]
    if len(called) != len(images):
        raise DatasetError(f"{len(images)} images and {len(called)} names: give one name for each image.")
    held = [
        _held(case, image, label, spacing, channels) for case, image, label in zip(called, images, labels, strict=True)
    ]
    if not held:
        raise DatasetError("no image was given.")
    named = held[0].image.channels
    stored = {
        f"the label map of {case!r}": h.label for case, h in zip(called, held, strict=True) if h.label is not None
    }
    meaning = declared(label_names) or labels_from_values(values_of(array, what) for what, array in stored.items())
    training = tuple(
        Case(name=case, image_paths=(), label_path=None, channels=named, labels=meaning, held=h)
        for case, h in zip(called, held, strict=True)
    )
    return number_labels(Dataset(name=name, folder=None, channels=named, labels=meaning, training=training))


def _held(case: str, image: Any, label: Any, spacing: Sequence[float] | None, channels: Sequence[str]) -> Held:
    try:
        seen = Image.of(image, spacing=spacing, channels=channels)
        stored, label_grid = voxels_from(label)
    except ImageError as error:
        raise DatasetError(f"case {case!r}: {error}") from error
    if stored.shape[1:] != seen.grid.shape:
        raise DatasetError(
            f"case {case!r}: the label map has the shape {stored.shape[1:]} and the image {seen.grid.shape}; "
            "they must share a grid."
        )
    placed = "numpy" not in (library_of(image), library_of(label))  # an array lies where the other does
    return Held(seen, stored, label_grid=label_grid if placed else None)


def case_from(
    what: Any,
    *,
    channels: Sequence[str],
    labels: Labels,
    spacing: Sequence[float] | None = None,
    name: str | None = None,
) -> Case:
    """A case to predict: a path, a folder with a DICOM series, paths of one file a channel, an array, or an image.

    It is called as its file is, less the number of the first channel, ``_0000``. A tuple of an array and its spacing
    brings its own. Raises `DatasetError` where it is none of these or does not have the `channels`.

    >>> import numpy as np
    >>> case = case_from(np.zeros((4, 5, 6)), channels=("CT",), labels=Labels({"background": 0, "liver": 1}))
    >>> case.image()
    Image(4x5x6 voxels of 1x1x1 mm, CT)
    """
    if isinstance(what, Case):
        return what
    paths = _paths(what)
    if paths:
        missing = [p for p in paths if not p.exists()]
        if missing:
            raise DatasetError(f"{missing[0]} does not exist.")
        stem = stem_of(paths[0])
        called = name or stem.removesuffix("_0000") or stem
        case = Case(name=called, image_paths=paths, label_path=None, channels=tuple(channels), labels=labels)
        return _spaced(case, spacing)
    if is_spaced(what):
        what, spacing = what
    try:
        image = what if isinstance(what, Image) else Image.of(what, spacing=spacing, channels=channels)
    except ImageError as error:
        raise DatasetError(f"this cannot be predicted: {error}") from error
    case = Case(
        name=name or "image",
        image_paths=(),
        label_path=None,
        channels=tuple(channels),
        labels=labels,
        held=Held(image, library="" if isinstance(what, Image) else library_of(what)),
    )
    return _spaced(case, spacing)


def _spaced(case: Case, spacing: Sequence[float] | None) -> Case:
    """The case with the spacing that was given, whatever its header says."""
    if spacing is None:
        return case
    return replace(case, corrections=Corrections(spacing=tuple(float(s) for s in np.atleast_1d(spacing))))


def is_spaced(what: Any) -> bool:
    """Whether this is an array with its spacing.

    >>> is_spaced((np.zeros((4, 5)), (0.5, 0.5))), is_spaced((np.zeros((4, 5)), np.zeros((4, 5))))
    (True, False)
    """
    pair = isinstance(what, tuple) and len(what) == 2 and hasattr(what[0], "__array__")
    return pair and np.ndim(what[1]) == 1 and len(what[1]) in (2, 3)


def _paths(what: Any) -> tuple[Path, ...]:
    if isinstance(what, str | Path):
        return (Path(what),)
    if isinstance(what, list | tuple) and what and all(isinstance(p, str | Path) for p in what):
        return tuple(Path(p) for p in what)
    return ()
