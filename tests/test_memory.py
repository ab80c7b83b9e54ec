"""Arrays, and images of other libraries, are datasets and cases like files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image as Pictures

from autoseg.core.errors import DatasetError
from autoseg.data.fingerprint import extract_fingerprint
from autoseg.data.geometry import Grid
from autoseg.data.images import LabelMap
from autoseg.data.labels import Labels
from autoseg.data.memory import case_from, dataset_from_arrays
from autoseg.display import render
from autoseg.planning.planner import make_plan

LABELS = Labels({"background": 0, "cell": 1}, file_values=((255, 1),))


def _colours(count: int = 3) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (40, 50, 3), dtype=np.uint8) for _ in range(count)]
    return images, [(image[..., 0] > 128).astype(np.uint8) * 255 for image in images]


def test_colour_pictures_in_memory_are_fingerprinted_planned_and_shown() -> None:
    dataset = dataset_from_arrays(*_colours())
    assert dataset.channels == ("red", "green", "blue")
    assert dataset.labels.file_values == ((255, 1),)
    plan = make_plan(extract_fingerprint(dataset, show_progress=False))
    assert [c.name for c in plan.configurations] == ["2d"]
    assert "data:image/png" in render(dataset)
    assert "in memory" in render(dataset[0])


def test_several_channels_and_spacing_are_kept() -> None:
    images = [np.random.rand(2, 6, 7, 8) for _ in range(2)]
    dataset = dataset_from_arrays(images, [i[0] > 0.5 for i in images], spacing=(3, 1, 1), channels=("T1", "T2"))
    assert dataset[0].image().grid.spacing == (3, 1, 1)
    assert np.array_equal(dataset[1].label().array, images[1][0] > 0.5)


def test_a_label_map_of_a_library_keeps_its_own_place() -> None:
    image = sitk.GetImageFromArray(np.random.rand(4, 5, 6))
    image.SetSpacing((1, 1, 3))
    moved = sitk.GetImageFromArray(np.ones((4, 5, 6), np.uint8))
    dataset = dataset_from_arrays([image], [moved])
    assert [grid.spacing for grid in (dataset[0].image().grid, dataset[0].label().grid)] == [(3, 1, 1), (1, 1, 1)]
    beside = dataset_from_arrays([image], [sitk.GetArrayFromImage(moved)])
    assert beside[0].label().grid == beside[0].image().grid


def test_pictures_of_pillow_are_arrays() -> None:
    images, labels = ([Pictures.fromarray(array) for array in arrays] for arrays in _colours())
    assert dataset_from_arrays(images, labels).channels == ("red", "green", "blue")


def test_labels_in_memory_are_named_inside_by_their_values() -> None:
    dataset = dataset_from_arrays(*_colours(), label_names={"background": 0, "cell": 255})
    assert dataset.labels.in_files == {1: 255}


def test_voxels_that_change_change_the_state() -> None:
    images, labels = _colours(1)
    before = dataset_from_arrays(images, labels)[0].state
    images[0] = 255 - images[0]
    assert dataset_from_arrays(images, labels)[0].state != before


def test_label_maps_go_back_with_the_values_and_type_that_came() -> None:
    labels = LabelMap(np.eye(4, dtype=np.uint8), Grid.of((4, 4)), LABELS)
    assert labels.to("numpy").max() == 255
    assert isinstance(labels.to("SimpleITK"), sitk.Image)


def test_a_dicom_series_is_an_image_to_predict(shared_data: Path) -> None:
    case = case_from(shared_data / "samples/dicom_series", channels=("CT",), labels=LABELS)
    image = case.image()
    assert image.grid.shape[0] == 17
    assert not case.has_label
    assert case.file_ending == ".nii.gz"


@pytest.mark.parametrize(
    ("images", "labels", "options", "message"),
    [
        ([np.zeros((4, 4))], [], {}, "1 images and 0 label maps"),
        ([], [], {}, "no image was given"),
        ([np.zeros((4, 4))], [np.zeros((4, 5))], {}, r"label map has the shape \(4, 5\) and the image \(4, 4\)"),
        ([np.zeros((4, 4))], [np.zeros((4, 4))], {"names": ("a", "b")}, "1 images and 2 names"),
        ([np.zeros((4, 4))], [np.zeros((4, 4))], {"spacing": (1,)}, r"case 'case_0': spacing has 1 number"),
        ([np.zeros((4, 4))], [np.zeros((4, 4))], {"spacing": [(1, 1)]}, r"\[\(1, 1\)\] is not one number for"),
        ([np.zeros((4, 4))], [np.zeros((4, 4))], {"spacing": (1, None)}, "is not one number for each axis"),
        ([np.zeros((4, 4))], [np.eye(4)], {"label_names": ["background", "a"]}, r"\{'background': 0, 'a': 1\} rather"),
        ([np.zeros((4, 4))], [np.ma.masked_equal(np.eye(4), 1)], {}, "4 voxels of this array are masked"),
        ([np.zeros((2, 4, 4, 4))], [np.zeros((4, 4, 4))], {"channels": ("CT",)}, r"2 channel\(s\), but 1"),
        ([np.zeros((9, 8, 3))], [np.eye(9)], {"channels": ("r", "g", "b")}, r"The last axis has 3: .* They come first"),
        ([np.zeros((4, 4))], [np.full((4, 4), 0.5)], {}, "no label map. Are images and labels exchanged"),
    ],
)
def test_arrays_that_do_not_fit_are_named(images: list, labels: list, options: dict, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        dataset_from_arrays(images, labels, **options)


@pytest.mark.parametrize(("what", "message"), [("nowhere.nii.gz", "does not exist"), (3 + 2j, "cannot be predicted")])
def test_what_cannot_be_predicted_is_named(what: object, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        case_from(what, channels=("CT",), labels=LABELS)


@pytest.mark.parametrize("name", ["../x", "a/b", "a\\b", "", "..", 3])
def test_a_case_is_called_so_that_files_can_be(name):
    with pytest.raises(DatasetError, match="its name becomes that of files"):
        dataset_from_arrays([np.zeros((4, 5, 6))], [np.zeros((4, 5, 6), int)], names=[name])
