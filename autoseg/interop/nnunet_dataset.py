"""nnU-Net's raw layout: its ``dataset.json``, and a whole dataset written so."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from autoseg.core.errors import DatasetError, StorageError
from autoseg.core.kinds import require
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
    own go along as ``splits_final.json``. The folder is there once it is whole. Raises `StorageError` where it holds
    something already, or cannot be written.

    >>> autoseg.export_nnunet_dataset(dataset, "nnUNet_raw", number=90).name
    'Dataset090_Seahorse'
    """
    require(dataset, Dataset, DatasetError)
    target = Path(folder) / name_in_nnunet(dataset.name, number)
    if target.is_dir() and any(target.iterdir()):
        what = "a dataset" if (target / "dataset.json").exists() else "files"
        raise StorageError(f"{target} holds {what} already. Choose another number=..., or remove it.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as temporary:
            whole = Path(temporary) / target.name
            _write_all(dataset, whole)
            whole.replace(target)
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error.strerror or error}. Choose another folder.") from error
    return target


def _write_all(dataset: Dataset, folder: Path) -> None:
    every = (*dataset.training, *dataset.test)
    endings = {suffix_of(path) for case in every for path in _files(case)}
    copied = len(endings) == 1 and endings <= AS_THEY_ARE and all(map(_is_untouched, every))
    copied = copied and all(map(_one_file_a_channel, dataset))
    ending = endings.pop() if copied else WRITTEN
    for cases, images in ((dataset.training, folder / "imagesTr"), (dataset.test, folder / "imagesTs")):
        for case in cases:
            (_copy if copied else _write)(case, images, ending)
    if dataset.splits:
        folds = [{"train": list(split.training), "val": list(split.validation)} for split in dataset.splits]
        write_json(folder / "splits_final.json", folds)
    write_json(
        folder / "dataset.json", dataset_json(dataset.channels, dataset.labels, cases=len(dataset), ending=ending)
    )


def _files(case: Case) -> tuple[Path, ...]:
    return case.image_paths if case.label_path is None else (*case.image_paths, case.label_path)


def _is_untouched(case: Case) -> bool:
    """Whether the files say themselves what autoseg makes of them."""
    return case.corrections == type(case.corrections)() and not case.labels.file_values and case.held is None


def _one_file_a_channel(case: Case) -> bool:
    """Whether each channel has a file, or the file is a picture with its colours."""
    colours = len(case.image_paths) == 1 and suffix_of(case.image_paths[0]) in PHOTOGRAPHS
    return colours or len(case.image_paths) == len(case.channels)


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
