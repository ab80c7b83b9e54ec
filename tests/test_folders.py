"""Folders without a dataset.json: images beside label maps, one folder a case, BIDS, DICOM series."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from autoseg.core.errors import DatasetError
from autoseg.data.opening import open_dataset

SHAPE = (4, 5, 6)


def write(path: Path, value: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.zeros(SHAPE, np.uint8)
    array[1] = value
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))


def test_bids_derivatives_with_a_mask_are_a_dataset(tmp_path: Path) -> None:
    for number in ("01", "02"):
        for contrast in ("T1w", "FLAIR"):
            write(tmp_path / f"sub-{number}/anat/sub-{number}_{contrast}.nii.gz", 3)
        name = f"derivatives/lesions/sub-{number}/anat/sub-{number}_space-T1w_label-lesion_mask.nii.gz"
        write(tmp_path / name)
    dataset = open_dataset(tmp_path)
    assert [c.name for c in dataset] == ["sub-01", "sub-02"]
    assert sorted(dataset.channels) == ["FLAIR", "T1w"]
    assert dataset[0].image().array.shape == (2, 4, 5, 6)


@pytest.mark.parametrize(
    "other", ["anat/sub-01_run-02", "anat/sub-01_acq-hi", "ses-1/anat/sub-01_ses-1", "f/sub-01_task-x"]
)
def test_bids_images_with_other_entities_than_the_mask_are_not_taken(tmp_path: Path, other: str) -> None:
    write(tmp_path / "sub-01/anat/sub-01_T1w.nii.gz", 3)
    write(tmp_path / f"sub-01/{other}_T1w.nii.gz", 4)
    write(tmp_path / "derivatives/a/sub-01/anat/sub-01_dseg.nii.gz")
    assert [path.name for path in open_dataset(tmp_path)[0].image_paths] == ["sub-01_T1w.nii.gz"]


def test_bids_images_that_the_mask_does_not_tell_apart_are_named(tmp_path: Path) -> None:
    for run in "12":
        write(tmp_path / f"sub-01/anat/sub-01_run-{run}_T1w.nii.gz")
    write(tmp_path / "derivatives/a/sub-01/anat/sub-01_dseg.nii.gz")
    with pytest.raises(DatasetError, match=r"2 images of T1w: .*run-1_T1w\.nii\.gz and .*run-2_T1w\.nii\.gz"):
        open_dataset(tmp_path)


def test_a_contrast_that_a_case_lacks_is_said_to_be_no_channel(tmp_path: Path) -> None:
    for number in ("01", "02"):
        write(tmp_path / f"sub-{number}/anat/sub-{number}_T1w.nii.gz")
        write(tmp_path / f"derivatives/a/sub-{number}/anat/sub-{number}_dseg.nii.gz")
    write(tmp_path / "sub-01/anat/sub-01_FLAIR.nii.gz")
    (tmp_path / "sub-02/anat/sub-02_FLAIR.nii.gz").symlink_to("../../.git/annex/none")
    with pytest.warns(UserWarning, match="FLAIR is no channel of this dataset: 1 of 2 cases .*: sub-02"):
        assert open_dataset(tmp_path).channels == ("T1w",)


def test_a_folder_for_each_case_holds_its_channels_and_its_label_map(tmp_path: Path) -> None:
    for name in ("BraTS_001", "BraTS_002"):
        for contrast in ("t1", "flair", "seg"):
            write(tmp_path / name / f"{name}_{contrast}.nii.gz")
            (tmp_path / name / f"._{name}_{contrast}.nii.gz").write_bytes(b"left by macOS")
    dataset = open_dataset(tmp_path)
    assert dataset.channels == ("flair", "t1")
    assert [case.name for case in dataset] == ["BraTS_001", "BraTS_002"]
    assert dataset[0].image_paths == tuple(tmp_path / f"BraTS_001/BraTS_001_{c}.nii.gz" for c in dataset.channels)


def test_cases_without_a_common_contrast_are_named(tmp_path: Path) -> None:
    for name, contrast in (("a", "t1"), ("b", "t2")):
        write(tmp_path / name / f"{contrast}.nii.gz")
        write(tmp_path / name / "mask.nii.gz")
    with pytest.raises(DatasetError, match="share no contrast: t1, t2"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("places", [("", ""), ("patient", "patient")])
def test_label_maps_may_lie_among_their_images(tmp_path: Path, places: tuple[str, str]) -> None:
    for name in "ab":
        write(tmp_path / places[0] / f"{name}.nrrd", 7)
        write(tmp_path / places[1] / f"{name}_mask.nrrd")
    dataset = open_dataset(tmp_path)
    assert [case.name for case in dataset] == ["a", "b"]
    assert dataset[1].image().array.max() == 7


def test_test_images_lie_beside_the_folder_for_training(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write(tmp_path / part / "images/a.nii.gz", 5)
        write(tmp_path / part / "labels/a.nii.gz")
    dataset = open_dataset(tmp_path)
    assert (dataset.name, dataset.folder) == (tmp_path.name, tmp_path)
    assert [case.name for case in (*dataset.training, *dataset.test)] == ["a", "test_a"]


def test_a_dicom_series_for_each_case_is_an_image(tmp_path: Path, shared_data: Path) -> None:
    series = shared_data / "samples/dicom_series"
    (tmp_path / "images").mkdir()
    (tmp_path / "images/ann").symlink_to(series)
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(series)))
    label = sitk.GetImageFromArray((sitk.GetArrayFromImage(image) > 0).astype(np.uint8))
    label.CopyInformation(image)
    (tmp_path / "labels").mkdir()
    sitk.WriteImage(label, str(tmp_path / "labels/ann.nii.gz"))
    (case,) = open_dataset(tmp_path)
    assert case.name == "ann"
    assert case.image().grid.shape == case.label().grid.shape
