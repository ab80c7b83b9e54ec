"""Downloads are checked and complete, or are not there. MONAI really fetches and unpacks, but from a file."""

from __future__ import annotations

import hashlib
import tarfile

import pytest
from making import make_dataset
from monai.apps import DecathlonDataset

import autoseg
from autoseg.core.errors import DatasetError, StorageError

TASK = "Task04_Hippocampus"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A place from which MONAI fetches the task: the path of its archive."""
    make_dataset(tmp_path / "server" / TASK)
    path = tmp_path / "server" / f"{TASK}.tar"
    with tarfile.open(path, "w") as file:
        file.add(tmp_path / "server" / TASK, TASK)
    monkeypatch.setitem(DecathlonDataset.resource, TASK, path.as_uri())
    monkeypatch.setitem(DecathlonDataset.md5, TASK, hashlib.md5(path.read_bytes()).hexdigest())
    return path


def test_a_dataset_is_fetched_once_and_opened(server, tmp_path):
    dataset = autoseg.download_dataset(TASK, tmp_path / "data", show_progress=False)
    assert len(dataset) == 6
    assert [p.name for p in (tmp_path / "data").iterdir()] == [TASK]
    server.unlink()
    assert autoseg.download_dataset(TASK, tmp_path / "data", show_progress=False) == dataset


def test_a_wrong_checksum_is_refused_and_nothing_stays(server, tmp_path):
    server.write_bytes(server.read_bytes() + b"x")
    with pytest.raises(DatasetError, match=r"does not have the checksum that MONAI knows.*Try again"):
        autoseg.download_dataset(TASK, tmp_path / "data", show_progress=False)
    assert not list((tmp_path / "data").iterdir())


def test_an_archive_cut_short_earlier_is_named(server, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / f"{TASK}.tar").write_bytes(server.read_bytes()[:999])
    with pytest.raises(DatasetError, match=rf"Remove .*{TASK}.tar and try again"):
        autoseg.download_dataset(TASK, tmp_path / "data", show_progress=False)


def test_without_a_connection_the_message_says_what_to_do(server, tmp_path):
    server.unlink()
    with pytest.raises(DatasetError, match=r"could not be fetched from file:.*autoseg.sample_dataset\(\)"):
        autoseg.download_dataset(TASK, tmp_path / "data", show_progress=False)


def test_an_archive_that_points_elsewhere_writes_nothing(server, tmp_path, monkeypatch):
    with tarfile.open(server, "a") as file:
        file.add(server.parent / TASK / "dataset.json", "../../evil.json")
    monkeypatch.setitem(DecathlonDataset.md5, TASK, hashlib.md5(server.read_bytes()).hexdigest())
    with pytest.raises(DatasetError, match="could not be fetched"):
        autoseg.download_dataset(TASK, tmp_path / "data", show_progress=False)
    assert not list(tmp_path.rglob("evil.json"))
    assert not (tmp_path / "data" / TASK).exists()


def test_unknown_names_get_a_suggestion(tmp_path):
    with pytest.raises(DatasetError, match="Did you mean 'Task04_Hippocampus'?"):
        autoseg.download_dataset("Task4_Hippocampus", tmp_path)


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_fetched(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        autoseg.download_dataset(TASK, tmp_path / "file")
