"""A dataset: named cases, and what their channels and labels mean."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from autoseg.core.errors import DatasetError, ImageError, did_you_mean
from autoseg.core.shown import Shown, ask_display
from autoseg.data.corrections import Corrections
from autoseg.data.formats import WRITABLE, WRITTEN_AS, file_state, grid_like, read_voxels, suffix_of
from autoseg.data.geometry import Grid
from autoseg.data.images import Image, LabelMap, label_map_from, read_image
from autoseg.data.labels import Labels
from autoseg.data.splits import Split, make_splits

T = TypeVar("T")
CASELESS = ("win32", "darwin")  # where small and capital letters make the same file name


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """The voxels of a case that is in memory: its image, and its label map (channel, *space) as it was given."""

    image: Image
    label: np.ndarray | None = None
    library: str = ""  # what the image was given as: numpy, SimpleITK, nibabel or torchio
    label_grid: Grid | None = None  # where the label map says that it lies, if not on the image

    @property
    def content(self) -> list[Any]:
        """What tells these voxels from others."""
        arrays = [np.ascontiguousarray(a) for a in (self.image.array, self.label) if a is not None]
        grids = [self.image.grid, *([] if self.label_grid is None else [self.label_grid])]
        return [*grids, *(hashlib.blake2b(a.data, digest_size=16).hexdigest() for a in arrays)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case(Shown):
    """One patient image with its label map: files, which are read and corrected on each call, or voxels in memory.

    >>> case = dataset["seahorse_009"]
    >>> case.image(), case.label()
    (Image(38x47x41 voxels of 1x1x1 mm, MRI), LabelMap(38x47x41 voxels, Labels(0 background, 1 head, 2 tail)))
    """

    name: str
    image_paths: tuple[Path, ...]
    label_path: Path | None
    channels: tuple[str, ...]
    labels: Labels
    corrections: Corrections = Corrections()
    held: Held | None = None

    def __post_init__(self) -> None:
        name = self.name
        if not isinstance(name, str) or name.startswith(".") or not name or set(name) & set("/\\\0"):
            raise DatasetError(
                f"a case is called {name!r}; its name becomes that of files: a word without slashes, no dot in front."
            )

    @property
    def has_label(self) -> bool:
        """Whether there is a label map."""
        return self.label_path is not None or (self.held is not None and self.held.label is not None)

    def image(self) -> Image:
        """Read the image. Raises `DatasetError` naming the case where a file cannot be used."""
        return self._named(lambda: self.corrections.of_image(self._stored_image()))

    def _stored_image(self) -> Image:
        if self.held is None:
            return read_image(self.image_paths, self.channels)
        return Image(self.held.image.array, self.held.image.grid, self.channels)

    def label(self) -> LabelMap:
        """Read the label map. Raises `DatasetError` where there is none, or it cannot be used."""
        return self.label_of(*self.stored_label())

    def label_of(self, stored: np.ndarray, grid: Grid) -> LabelMap:
        """The label map of what `stored_label` gave. Raises `DatasetError` where that cannot be one."""
        name = self.label_path.name if self.label_path else "the label map"
        return self._named(lambda: self.corrections.of_label(label_map_from(stored, grid, self.labels, name)))

    def stored_label(self) -> tuple[np.ndarray, Grid]:
        """The label map's voxels as the file has them, (channel, *space), and its grid: what a check-up looks at.

        Of the case's corrections only those of single voxels are made. Raises `DatasetError` as `label` does.
        """
        stored, grid = self._named(self._label_voxels)
        return self.corrections.of_stored(stored), grid

    def _label_voxels(self) -> tuple[np.ndarray, Grid]:
        if self.label_path is not None:
            stored, grid = read_voxels(self.label_path)
            return stored, grid_like(self.image_paths[0], self.label_path, grid) if self.image_paths else grid
        if self.held is None or self.held.label is None:
            raise ImageError("it has no label map; only training cases have one.")
        return self.held.label, self.held.label_grid or self.held.image.grid

    def browse(self) -> Any:
        """A widget: slices on three axes, window, and the labels on top."""
        return ask_display("viewers", "browse_case", self)

    def show_3d(self, *, backend: str = "niivue") -> Any:
        """The volume in 3D to turn, its labels on top: with ``"niivue"``, ``"itk"`` (itkwidgets) or a ``"picture"``.

        Raises `DisplayError` where that viewer is not installed or the image has no volume.
        """
        return ask_display("volumes", "show_case_3d", self, backend=backend)

    @property
    def file_ending(self) -> str:
        """That of its image, PNG for a JPEG; NIfTI for a DICOM series and for voxels in memory."""
        ending = suffix_of(self.image_paths[0]) if self.image_paths else ""
        ending = WRITTEN_AS.get(ending, ending)
        return ending if ending in WRITABLE else ".nii.gz"

    @property
    def files(self) -> tuple[Path, ...]:
        """Its images and its label map, those that lie on disk."""
        return tuple(path for path in (*self.image_paths, self.label_path) if path is not None)

    @property
    def state(self) -> list[Any]:
        """What the case is read from: changes with a file, a correction, or the voxels in memory."""
        files = [file_state(path) for path in self.files]
        return [self.corrections, self.labels.file_values, *files, *([] if self.held is None else [self.held.content])]

    def _named(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except ImageError as error:
            raise DatasetError(f"case {self.name!r}: {error}") from error

    def __repr__(self) -> str:
        label = self.label_path.name if self.label_path else "a label map" if self.has_label else "no label map"
        return f"Case({self.name!r}: {', '.join(p.name for p in self.image_paths) or 'in memory'}; {label})"


@dataclass(frozen=True, slots=True)
class Fold(Shown):
    """The cases of one fold."""

    training: tuple[Case, ...]
    validation: tuple[Case, ...]

    def __repr__(self) -> str:
        return f"Fold({len(self.training)} training, {len(self.validation)} validation cases)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset(Shown):
    """Training cases with labels, perhaps test cases without, and what channels and labels mean.

    ``dataset["name"]`` is a case; iterating gives the training cases; ``dataset.fold(0)`` splits them.

    >>> dataset
    Dataset('Seahorse': 26 training, 4 test cases)
      channels: MRI
      Labels(0 background, 1 head, 2 tail)
    >>> dataset["seahorse_009"].name, len(dataset.fold(0).validation)
    ('seahorse_009', 6)
    """

    name: str
    folder: Path | None
    channels: tuple[str, ...]
    labels: Labels
    training: tuple[Case, ...]
    test: tuple[Case, ...] = ()
    splits: tuple[Split, ...] = ()

    def __post_init__(self) -> None:
        names = [case.name for case in (*self.training, *self.test)]
        files = [name.casefold() for name in names] if sys.platform in CASELESS else names
        if len(set(files)) < len(files):
            twice = min(name for name, file in zip(names, files, strict=True) if files.count(file) > 1)
            here = "" if names.count(twice) > 1 else ", beyond small and capital letters, which file names here ignore"
            raise DatasetError(f"dataset {self.name!r}: two cases are called {twice!r}. Names must be unique{here}.")
        if not self.training:
            raise DatasetError(f"dataset {self.name!r} has no training cases.")

    def __len__(self) -> int:
        return len(self.training)

    def __iter__(self) -> Iterator[Case]:
        return iter(self.training)

    def __getitem__(self, name: str | int) -> Case:
        if isinstance(name, int):
            return self.training[name]
        for case in (*self.training, *self.test):
            if case.name == name:
                return case
        known = [case.name for case in (*self.training, *self.test)]
        hint = did_you_mean(name, known) if len(known) < 20 else did_you_mean(name, known).partition("Known")[0]
        raise DatasetError(f"dataset {self.name!r} has no case {name!r}. {hint}".rstrip())

    @property
    def folds(self) -> tuple[Split, ...]:
        """Who trains and who validates: from ``splits_final.json`` if there is one, else as nnU-Net splits."""
        return self.splits or make_splits([case.name for case in self.training])

    def fold(self, number: int) -> Fold:
        """Training and validation cases of a fold. Raises `DatasetError` for a fold that does not exist."""
        splits = self.folds
        if not 0 <= number < len(splits):
            raise DatasetError(
                f"fold {number} does not exist: dataset {self.name!r} has {len(splits)} folds, 0 to {len(splits) - 1}."
            )
        split = splits[number]
        return Fold(tuple(self[n] for n in split.training), tuple(self[n] for n in split.validation))

    def without(self, *names: str) -> Dataset:
        """The dataset less some cases, in its folds too."""
        gone = {self[name].name for name in names}

        def keep(cases: Sequence[str]) -> tuple[str, ...]:
            return tuple(n for n in cases if n not in gone)

        return replace(
            self,
            training=tuple(c for c in self.training if c.name not in gone),
            test=tuple(c for c in self.test if c.name not in gone),
            splits=tuple(Split(keep(s.training), keep(s.validation)) for s in self.splits),
        )

    def __repr__(self) -> str:
        test = f", {len(self.test)} test" if self.test else ""
        return (
            f"Dataset({self.name!r}: {len(self.training)} training{test} cases)\n"
            f"  channels: {', '.join(self.channels)}\n  {self.labels!r}"
        )
