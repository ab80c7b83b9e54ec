"""Public datasets, fetched through MONAI and checked against its checksums."""

from __future__ import annotations

import tempfile
from pathlib import Path

from autoseg.core.errors import DatasetError, did_you_mean
from autoseg.core.serialization import require_writable
from autoseg.core.types import PathLike
from autoseg.data.dataset import Dataset
from autoseg.data.opening import open_dataset


def download_dataset(task: str, folder: PathLike, *, show_progress: bool = True) -> Dataset:
    """Open a dataset of the Medical Segmentation Decathlon below a folder, after downloading it where it is not there.

    The archive must have the MD5 sum that MONAI knows; it is unpacked beside its place and then moved there, so that
    what is there is complete. Licence of all ten: CC-BY-SA 4.0, see arXiv:1902.09063.

    Raises `DatasetError` for an unknown name, where the connection fails, and where the sum is another one;
    `StorageError` where the folder cannot be written.

        dataset = autoseg.download_dataset("Task04_Hippocampus", "data")     # 27 MB

    >>> autoseg.download_dataset("Task04_Hippocampos", "data")
    Traceback (most recent call last):
    autoseg.core.errors.DatasetError: ...
    """
    from monai.apps import DecathlonDataset

    known = DecathlonDataset.resource
    if task not in known:
        raise DatasetError(f"no dataset of the Decathlon is called {task!r}. {did_you_mean(task, known)}")
    folder = require_writable(folder)
    if not (folder / task / "dataset.json").exists():
        _fetch(folder / task, known[task], DecathlonDataset.md5[task], show_progress=show_progress)
    return open_dataset(folder / task)


def _fetch(target: Path, url: str, checksum: str, *, show_progress: bool) -> None:
    from monai.apps.utils import download_url, extractall

    archive = target.with_suffix(".tar")
    try:
        download_url(url, archive, hash_val=checksum, hash_type="md5", progress=show_progress)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as unpacked:
            extractall(archive, unpacked, file_type="tar", has_base=False)
            (Path(unpacked) / target.name).replace(target)
    except (OSError, RuntimeError, ValueError) as error:  # MONAI's own errors are RuntimeErrors
        raise DatasetError(_explained(error, archive, url)) from error
    archive.unlink()


def _explained(error: Exception, archive: Path, url: str) -> str:
    if "hash check" in str(error):
        there = f" Remove {archive} and try again." if archive.exists() else " Try again."
        return f"what came from {url} does not have the checksum that MONAI knows: it is damaged or altered.{there}"
    return (
        f"{archive.name} could not be fetched from {url}: {error}. Without a connection, put the unpacked dataset into "
        f"{archive.with_suffix('')}, or try autoseg.sample_dataset(), which needs none."
    )
