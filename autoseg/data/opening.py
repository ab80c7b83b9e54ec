"""The folders that a dataset can be opened from, whatever wrote them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from autoseg.core.errors import DatasetError, StorageError
from autoseg.core.serialization import read_json
from autoseg.core.types import PathLike
from autoseg.data.dataset import Case, Dataset
from autoseg.data.folders import dataset_from_bids, dataset_from_folders, dataset_from_mixed
from autoseg.data.formats import stem_of
from autoseg.data.labels import Labels, labels_from_json
from autoseg.data.splits import Split

EXAMPLES = {"channel_names": '{"0": "MRI"}', "labels": '{"background": 0, "organ": 1}'}


def open_dataset(folder: PathLike) -> Dataset:
    """Open a folder with images and label maps; nothing is copied.

    With a ``dataset.json`` it is nnU-Net's raw layout (files numbered by channel, or listed under ``dataset``) or that
    of the Medical Segmentation Decathlon. Without one, a folder of images beside a folder of label maps (``images`` and
    ``labels``, ``masks``, ...), BIDS with masks among its derivatives, or label maps called ``..._seg`` or ``..._mask``
    among their images, in one folder or one a case; the labels are then read from the label maps.
    For anything else there are `dataset_from_files` and `dataset_from_arrays`.

    Raises `DatasetError` where ``dataset.json`` is broken, an image has no label map, or nothing is there.

    >>> import autoseg
    >>> autoseg.open_dataset(autoseg.sample_dataset().folder).channels
    ('MRI',)
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise DatasetError(f"{folder} is not a folder. Give the folder that holds dataset.json and imagesTr.")
    if not (folder / "dataset.json").exists():
        for way in (dataset_from_folders, dataset_from_bids, dataset_from_mixed):
            if dataset := way(folder):
                return dataset
    facts = _read_facts(folder)
    named = _required(facts, folder, "channel_names", "modality")
    numbered = all(key.isdecimal() for key in named)  # file _0001 is channel "1", wherever that stands
    channels = tuple(str(named[key]) for key in (sorted(named, key=int) if numbered else named))
    if not channels:
        raise DatasetError(
            f'\'channel_names\' in {folder / "dataset.json"} is empty. Write {{"0": "MRI"}}, for example.'
        )
    labels = labels_from_json(_required(facts, folder, "labels"), _region_order(facts, folder))
    training, test = _way(facts)(folder, facts, channels, labels)
    if not training:
        ending = f" that end in {facts['file_ending']}" if "file_ending" in facts else ""
        raise DatasetError(f"{folder} holds no training images{ending}. Put them in {folder / 'imagesTr'}.")
    return Dataset(
        name=str(facts.get("name") or folder.name),
        folder=folder,
        channels=channels,
        labels=labels,
        training=training,
        test=test,
        splits=_read_splits(folder, {case.name for case in training}),
    )


Found = tuple[tuple[Case, ...], tuple[Case, ...]]  # training and test


def _way(facts: dict[str, Any]) -> Callable[[Path, dict[str, Any], tuple[str, ...], Labels], Found]:
    if isinstance(facts.get("dataset"), dict):
        return _cases_by_name
    if isinstance(facts.get("training"), list):
        return _cases_listed
    if isinstance(facts.get("dataset"), list):
        raise DatasetError(
            '\'dataset\' in dataset.json is a list; it must be an object, {case: {"images": [...], "label": ...}}. A '
            'list of {"image": ..., "label": ...} is called \'training\'.'
        )
    return _cases_in_folders


def _cases_by_name(folder: Path, facts: dict[str, Any], channels: tuple[str, ...], labels: Labels) -> Found:
    """nnU-Net's ``dataset``: ``{case: {"images": [a file a channel], "label": file}}``, relative to the folder."""
    training = []
    for name, entry in facts["dataset"].items():
        listed = isinstance(entry, dict) and isinstance(entry.get("images"), list) and entry["images"]
        if not listed or not isinstance(entry.get("label"), str):
            raise DatasetError(
                f"dataset.json: the case {name!r} under 'dataset' needs 'images', a list of a file a channel, and "
                "'label', a file."
            )
        *paths, label = (folder / os.path.expandvars(str(path)) for path in (*entry["images"], entry["label"]))
        missing = [path for path in (*paths, label) if not path.exists()]
        if missing:
            raise DatasetError(f"case {name!r}: {missing[0]} is listed in dataset.json but does not exist.")
        training.append(Case(name=name, image_paths=tuple(paths), label_path=label, channels=channels, labels=labels))
    ending = facts.get("file_ending")
    test = _scan(folder / "imagesTs", None, ending, (channels, labels)) if isinstance(ending, str) else ()
    return tuple(training), test


def _read_facts(folder: Path) -> dict[str, Any]:
    path = folder / "dataset.json"
    if not path.exists():
        content = sorted(p.name for p in folder.iterdir())[:5]
        there = f"it holds {', '.join(content)}" if content else "it is empty"
        raise DatasetError(
            f"{folder} has no dataset.json ({there}). It must say at least "
            '{"channel_names": {"0": "MRI"}, "labels": {"background": 0, "organ": 1}, "file_ending": ".nii.gz"}. '
            "Or say which files belong together: autoseg.dataset_from_files(images, labels)."
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
    wrong = next((key for key in keys if key in facts), None)
    if wrong is not None:
        raise DatasetError(
            f"{folder / 'dataset.json'} has no {wrong!r} object, such as {EXAMPLES[keys[0]]}: it is "
            f"{json.dumps(facts[wrong])[:80]}."
        )
    raise DatasetError(f"{folder / 'dataset.json'} has no {keys[0]!r} object; it has {', '.join(map(repr, facts))}.")


def _region_order(facts: dict[str, Any], folder: Path) -> list[int] | None:
    order = facts.get("regions_class_order")
    if order is not None and not (isinstance(order, list) and all(isinstance(value, int) for value in order)):
        raise DatasetError(
            f"'regions_class_order' in {folder / 'dataset.json'} must be a list of whole numbers, it is {order!r}."
        )
    return order


def _cases_listed(folder: Path, facts: dict[str, Any], channels: tuple[str, ...], labels: Labels) -> Found:
    """The Decathlon's way: ``training`` lists ``{"image": ..., "label": ...}``, ``test`` lists paths.

    As MONAI reads it: an image may be a list with a file a channel, and a test case ``{"image": ...}``.
    """
    training, test = [], []
    for entry in facts["training"]:
        images = _images_of(entry)
        if not images or not isinstance(entry.get("label"), str):
            raise DatasetError(f"dataset.json: an entry of 'training' is {entry!r}; it needs 'image' and 'label'.")
        training.append(_case([folder / image for image in images], folder / entry["label"], channels, labels))
    for entry in facts["test"] if isinstance(facts.get("test"), list) else []:
        images = _images_of({"image": entry} if isinstance(entry, str) else entry)
        if not images:
            raise DatasetError(f"dataset.json: an entry of 'test' is {entry!r}; it must be a path, or have 'image'.")
        test.append(_case([folder / image for image in images], None, channels, labels))
    return tuple(training), tuple(case for case in test if case.image_paths[0].exists())


def _images_of(entry: Any) -> list[str]:
    """The files, one a channel, under ``image``; none where it is no path and no list of them."""
    image = entry.get("image") if isinstance(entry, dict) else None
    images: list[Any] = image if isinstance(image, list) else [image]
    return images if all(isinstance(path, str) for path in images) else []


def _case(images: Sequence[Path], label: Path | None, channels: tuple[str, ...], labels: Labels) -> Case:
    name = stem_of(images[0])
    for path in filter(None, (*images, label)):
        if not path.exists() and label is not None:
            raise DatasetError(f"case {name!r}: {path} is listed in dataset.json but does not exist.")
    return Case(name=name, image_paths=tuple(images), label_path=label, channels=channels, labels=labels)


def _cases_in_folders(folder: Path, facts: dict[str, Any], channels: tuple[str, ...], labels: Labels) -> Found:
    """nnU-Net's way: ``imagesTr/{case}_{channel}{ending}`` and ``labelsTr/{case}{ending}``."""
    ending = facts.get("file_ending")
    if not isinstance(ending, str):
        raise DatasetError(f"{folder / 'dataset.json'} has no 'file_ending', such as \".nii.gz\".")
    ending = ending if ending.startswith(".") else f".{ending}"
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
    for path in sorted(images.glob(f"[!.]*{ending}")) if images.is_dir() else []:  # macOS adds ._<name> to each file
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
