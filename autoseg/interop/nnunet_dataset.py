"""nnU-Net's raw layout: its ``dataset.json``, and a whole dataset written so."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from autoseg.core.errors import DatasetError, StorageError
from autoseg.core.numbers import is_whole
from autoseg.core.serialization import atomic_path, write_json
from autoseg.core.types import PathLike
from autoseg.data.dataset import Case, Dataset
from autoseg.data.formats import PHOTOGRAPHS, suffix_of
from autoseg.data.images import write_voxels
from autoseg.data.labels import Labels, labels_to_json
from autoseg.interop.nnunet_names import JSON

OWN_NUMBER = 900  # the Decathlon and nnU-Net's examples have lower ones
AS_THEY_ARE = {".nii.gz", ".nii", ".nrrd", ".mha", ".gipl", ".png", ".bmp"}  # TIFFs lie beside files that go with them
WRITTEN = ".nii.gz"


def name_in_nnunet(name: str, number: int | None = None) -> str:
    """A dataset's name as nnU-Net wants it. Raises `DatasetError` for a number that is none.

    >>> name_in_nnunet("Hippocampus", 4), name_in_nnunet("Dataset017_Liver"), name_in_nnunet("my cells")
    ('Dataset004_Hippocampus', 'Dataset017_Liver', 'Dataset900_my_cells')
    """
    if number is not None and not (is_whole(number) and number >= 0):
        raise DatasetError(f"number={number!r} is no number of a dataset. Give a whole one, such as number=90.")
    match = re.fullmatch(r"(?:Dataset|Task)(\d{2,3})_(.+)", name)
    if number is None:
        number = int(match[1]) if match else OWN_NUMBER
    words = re.sub(r"[^A-Za-z0-9]+", "_", match[2] if match else name).strip("_")
    return f"Dataset{number:03d}_{words or 'unnamed'}"


def dataset_json(channels: Iterable[str], labels: Labels, *, cases: int, ending: str) -> JSON:
    """The content of ``dataset.json``.

    >>> dataset_json(["MRI"], Labels({"background": 0, "organ": 1}), cases=2, ending=".nii.gz")["channel_names"]
    {'0': 'MRI'}
    """
    facts: JSON = {
        "channel_names": {str(i): name for i, name in enumerate(channels)},
        "labels": labels_to_json(labels),
        "numTraining": cases,
        "file_ending": ending,
    }
    return facts | ({"regions_class_order": list(labels.region_order)} if labels.has_regions else {})


def export_nnunet_dataset(dataset: Dataset, folder: PathLike, *, number: int | None = None) -> Path:
    """Write a dataset in nnU-Net's raw layout below a folder (its ``nnUNet_raw``); returns ``Dataset004_Name``.

    Files that nnU-Net reads as they are, are copied; of datasets that were corrected, renumber labels, or hold several
    channels in a file, every file is written anew as ``.nii.gz``, with the values that labels stand for. Folds of its
    own go along as ``splits_final.json``. Raises `StorageError` where the folder holds another dataset already.

    >>> autoseg.export_nnunet_dataset(dataset, "nnUNet_raw", number=90).name
    'Dataset090_Seahorse'
    """
    target = Path(folder) / name_in_nnunet(dataset.name, number)
    if (target / "dataset.json").exists():
        raise StorageError(f"{target} holds a dataset already. Choose another number=..., or remove it.")
    endings = {suffix_of(path) for case in (*dataset.training, *dataset.test) for path in _files(case)}
    copied = len(endings) == 1 and endings <= AS_THEY_ARE and all(_is_plain(case) for case in dataset)
    ending = endings.pop() if copied else WRITTEN
    for cases, images in ((dataset.training, target / "imagesTr"), (dataset.test, target / "imagesTs")):
        for case in cases:
            (_copy if copied else _write)(case, images, ending)
    if dataset.splits:
        folds = [{"train": list(split.training), "val": list(split.validation)} for split in dataset.splits]
        write_json(target / "splits_final.json", folds)
    write_json(
        target / "dataset.json", dataset_json(dataset.channels, dataset.labels, cases=len(dataset), ending=ending)
    )
    return target


def _files(case: Case) -> tuple[Path, ...]:
    return case.image_paths if case.label_path is None else (*case.image_paths, case.label_path)


def _is_plain(case: Case) -> bool:
    """Whether the files say themselves what autoseg makes of them, one channel each (or the colours of a picture)."""
    colours = len(case.image_paths) == 1 and suffix_of(case.image_paths[0]) in PHOTOGRAPHS
    untouched = case.corrections == type(case.corrections)() and not case.labels.file_values
    return untouched and case.held is None and (colours or len(case.image_paths) == len(case.channels))


def _copy(case: Case, images: Path, ending: str) -> None:
    places = {images / f"{case.name}_{i:04d}{ending}": path for i, path in enumerate(case.image_paths)}
    if case.label_path is not None:
        places[images.with_name("labelsTr") / f"{case.name}{ending}"] = case.label_path
    for place, path in places.items():
        with atomic_path(place) as temporary:
            shutil.copyfile(path, temporary)


def _write(case: Case, images: Path, ending: str) -> None:
    image = case.image()
    for i, channel in enumerate(image.array):
        write_voxels(channel, image.grid, images / f"{case.name}_{i:04d}{ending}")
    if case.has_label:
        label_map = case.label()
        write_voxels(label_map.array, label_map.grid, images.with_name("labelsTr") / f"{case.name}{ending}")
