"""A dataset: named cases, what their channels and labels mean, and the ways to open one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from autoseg.core.errors import DatasetError, ImageError, StorageError, did_you_mean
from autoseg.core.serialization import read_json
from autoseg.core.shown import Shown
from autoseg.core.types import PathLike
from autoseg.data.corrections import Corrections
from autoseg.data.geometry import Grid
from autoseg.data.images import Image, LabelMap, label_map_from, read_image, read_voxels, suffix_of
from autoseg.data.labels import Labels, labels_from_json
from autoseg.data.splits import Split, make_splits

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case(Shown):
    """One patient image with its label map, as files; they are read, and corrected in memory, on each call."""

    name: str
    image_paths: tuple[Path, ...]
    label_path: Path | None
    channels: tuple[str, ...]
    labels: Labels
    corrections: Corrections = Corrections()

    def image(self) -> Image:
        """Read the image. Raises `DatasetError` naming the case where a file cannot be used."""
        return self._named(lambda: self.corrections.of_image(read_image(self.image_paths, self.channels)))

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
        if self.label_path is None:
            raise DatasetError(f"case {self.name!r} has no label map; only training cases have one.")
        path = self.label_path
        stored, grid = self._named(lambda: read_voxels(path))
        return self.corrections.of_stored(stored), grid

    def _named(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except ImageError as error:
            raise DatasetError(f"case {self.name!r}: {error}") from error

    def __repr__(self) -> str:
        label = self.label_path.name if self.label_path else "no label map"
        return f"Case({self.name!r}: {', '.join(p.name for p in self.image_paths)}; {label})"


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
        twice = sorted({n for n in names if names.count(n) > 1}) if len(set(names)) < len(names) else []
        if twice:
            raise DatasetError(f"dataset {self.name!r}: two cases are called {twice[0]!r}. Names must be unique.")
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

    def fold(self, number: int) -> Fold:
        """Training and validation cases of a fold: from ``splits_final.json`` if there is one, else as nnU-Net splits.

        Raises `DatasetError` for a fold that does not exist.
        """
        splits = self.splits or make_splits([case.name for case in self.training])
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


def open_dataset(folder: PathLike) -> Dataset:
    """Open a folder in nnU-Net's raw layout or in that of the Medical Segmentation Decathlon.

    Nothing is copied and no voxel is read. Raises `DatasetError` where ``dataset.json`` is missing or broken, an
    image has no label map, or nothing is there.

    >>> import autoseg
    >>> autoseg.open_dataset(autoseg.sample_dataset().folder).channels
    ('MRI',)
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DatasetError(f"{folder} is not a folder. Give the folder that holds dataset.json and imagesTr.")
    facts = _read_facts(folder)
    channels = tuple(str(name) for name in _required(facts, folder, "channel_names", "modality").values())
    if not channels:
        raise DatasetError(
            f'\'channel_names\' in {folder / "dataset.json"} is empty. Write {{"0": "MRI"}}, for example.'
        )
    labels = labels_from_json(_required(facts, folder, "labels"), _region_order(facts, folder))
    find = _cases_listed if isinstance(facts.get("training"), list) else _cases_in_folders
    training, test = find(folder, facts, channels, labels)
    if not training:
        ending = f" that end in {facts['file_ending']}" if "file_ending" in facts else ""
        raise DatasetError(f"{folder} holds no training images{ending}. Put them in {folder / 'imagesTr'}.")
    name = str(facts.get("name") or folder.name)
    return Dataset(
        name=name,
        folder=folder,
        channels=channels,
        labels=labels,
        training=training,
        test=test,
        splits=_read_splits(folder, {case.name for case in training}),
    )


def _read_facts(folder: Path) -> dict[str, Any]:
    path = folder / "dataset.json"
    if not path.exists():
        content = sorted(p.name for p in folder.iterdir())[:5]
        there = f"it holds {', '.join(content)}" if content else "it is empty"
        raise DatasetError(
            f"{folder} has no dataset.json ({there}). It must say at least "
            '{"channel_names": {"0": "MRI"}, "labels": {"background": 0, "organ": 1}, "file_ending": ".nii.gz"}.'
        )
    try:
        facts = read_json(path)
    except StorageError as error:
        raise DatasetError(f"dataset.json is broken: {error}") from error
    if not isinstance(facts, dict):
        raise DatasetError(f"{path} must hold an object {{...}}, it holds a {type(facts).__name__}.")
    return facts


def _required(facts: dict[str, Any], folder: Path, *keys: str) -> dict[str, Any]:
    """The first of these keys that is there; each must be an object."""
    for key in keys:
        if isinstance(facts.get(key), dict):
            return dict(facts[key])
    raise DatasetError(f"{folder / 'dataset.json'} has no {keys[0]!r} object; it has {', '.join(map(repr, facts))}.")


def _region_order(facts: dict[str, Any], folder: Path) -> list[int] | None:
    order = facts.get("regions_class_order")
    if order is not None and not (isinstance(order, list) and all(isinstance(value, int) for value in order)):
        raise DatasetError(
            f"'regions_class_order' in {folder / 'dataset.json'} must be a list of whole numbers, it is {order!r}."
        )
    return order


def _cases_listed(
    folder: Path, facts: dict[str, Any], channels: tuple[str, ...], labels: Labels
) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """The Decathlon's way: ``training`` lists ``{"image": ..., "label": ...}``, ``test`` lists paths."""
    training = []
    for entry in facts["training"]:
        if not isinstance(entry, dict) or not {"image", "label"} <= set(entry):
            raise DatasetError(f"dataset.json: an entry of 'training' is {entry!r}; it needs 'image' and 'label'.")
        training.append(_case(folder / entry["image"], folder / entry["label"], channels, labels))
    test = [_case(folder / str(path), None, channels, labels) for path in facts.get("test", [])]
    return tuple(training), tuple(case for case in test if case.image_paths[0].exists())


def _case(image: Path, label: Path | None, channels: tuple[str, ...], labels: Labels) -> Case:
    name = image.name[: len(image.name) - len(suffix_of(image))]
    for path in filter(None, (image, label)):
        if not path.exists() and label is not None:
            raise DatasetError(f"case {name!r}: {path} is listed in dataset.json but does not exist.")
    return Case(name=name, image_paths=(image,), label_path=label, channels=channels, labels=labels)


def _cases_in_folders(
    folder: Path, facts: dict[str, Any], channels: tuple[str, ...], labels: Labels
) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """nnU-Net's way: ``imagesTr/{case}_{channel}{ending}`` and ``labelsTr/{case}{ending}``."""
    ending = facts.get("file_ending")
    if not isinstance(ending, str):
        raise DatasetError(f"{folder / 'dataset.json'} has no 'file_ending', such as \".nii.gz\".")
    if not (folder / "imagesTr").is_dir():
        raise DatasetError(f"{folder} has no folder imagesTr, which holds the training images.")
    return (
        _scan(folder / "imagesTr", folder / "labelsTr", ending, (channels, labels)),
        _scan(folder / "imagesTs", None, ending, (channels, labels)),
    )


def _scan(
    images: Path, label_folder: Path | None, ending: str, meaning: tuple[tuple[str, ...], Labels]
) -> tuple[Case, ...]:
    """The cases of one image folder; channel files are numbered ``_0000``, ``_0001`` ..."""
    channels, labels = meaning
    found: dict[str, dict[int, Path]] = {}
    for path in sorted(images.glob(f"*{ending}")) if images.is_dir() else []:
        match = re.fullmatch(r"(.+)_(\d{4})", path.name[: -len(ending)])
        if not match:
            raise DatasetError(
                f"{path.name} in {images} has no channel number. Name it <case>_0000{ending}, the second channel "
                f"<case>_0001{ending}."
            )
        found.setdefault(match[1], {})[int(match[2])] = path
    cases = []
    for name, files in found.items():
        if sorted(files) != list(range(len(files))):
            raise DatasetError(f"case {name!r} has channel files {sorted(files)}; they must count up from 0.")
        label = label_folder / f"{name}{ending}" if label_folder else None
        if label and not label.exists():
            raise DatasetError(f"case {name!r} has an image but no label map: {label} does not exist.")
        paths = tuple(files[i] for i in sorted(files))
        cases.append(Case(name=name, image_paths=paths, label_path=label, channels=channels, labels=labels))
    return tuple(cases)


def _read_splits(folder: Path, known: set[str]) -> tuple[Split, ...]:
    """The folds of ``splits_final.json``, if there is one."""
    path = folder / "splits_final.json"
    if not path.exists():
        return ()
    splits = tuple(_split(path, entry) for entry in _listed(path))
    unknown = sorted({name for s in splits for name in (*s.training, *s.validation)} - known)
    if unknown:
        raise DatasetError(f"{path} names the case {unknown[0]!r}, which the dataset does not have.")
    return splits


def _listed(path: Path) -> list[Any]:
    try:
        content = read_json(path)
    except StorageError as error:
        raise DatasetError(f"the folds are broken: {error}. Without this file nnU-Net's folds are used.") from error
    if not isinstance(content, list):
        raise DatasetError(f"{path} must hold a list of folds, it holds a {type(content).__name__}.")
    return content


def _split(path: Path, entry: Any) -> Split:
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), list) for key in ("train", "val")):
        raise DatasetError(f'{path}: a fold must be {{"train": [...], "val": [...]}}, one is {str(entry)[:80]}.')
    return Split(tuple(map(str, entry["train"])), tuple(map(str, entry["val"])))
