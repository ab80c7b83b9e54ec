"""Files that no dataset.json describes: which belong together, and what their values mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

import autoseg
from autoseg.core.errors import DatasetError
from autoseg.data.fingerprint import extract_fingerprint
from autoseg.data.fixes import drop_labels
from autoseg.data.images import write_label_map
from autoseg.data.opening import open_dataset
from autoseg.data.pairs import dataset_from_files, images_in
from autoseg.planning.planner import make_plan
from autoseg.preprocessing.store import preprocess


def write(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=array.ndim == 3 and array.shape[-1] == 3), str(path))
    return path


def grey(value: int = 9, shape: tuple[int, ...] = (6, 7)) -> np.ndarray:
    return (np.arange(np.prod(shape)).reshape(shape) % 200 + value).astype(np.uint8)


def mask(*values: int, shape: tuple[int, ...] = (6, 7)) -> np.ndarray:
    array = np.zeros(shape, np.uint8)
    for row, value in enumerate(values):
        array[row] = value
    return array


@pytest.mark.parametrize(
    ("images", "labels", "image", "label"),
    [
        ("images", "labels", "a.png", "a.png"),
        ("Images", "masks", "a.jpg", "a_mask.png"),
        ("imagesTr", "labelsTr", "a_0000.png", "a.png"),
        ("train/img", "train/gt", "image_a.png", "gt_a.png"),
    ],
)
def test_folders_of_usual_names_are_a_dataset(tmp_path: Path, images: str, labels: str, image: str, label: str) -> None:
    for letter in "abc":
        write(tmp_path / images / image.replace("a.", f"{letter}.").replace("a_", f"{letter}_", 1), grey())
        write(tmp_path / labels / label.replace("a.", f"{letter}.").replace("a_m", f"{letter}_m", 1), mask(255))
    dataset = open_dataset(tmp_path)
    assert len(dataset) == 3
    assert dataset.labels.file_values == ((255, 1),)
    assert set(np.unique(dataset[0].label().array)) == {0, 1}


def test_two_images_that_differ_in_the_suffix_alone_are_named(tmp_path: Path) -> None:
    for name in ("images/a.png", "images/a.tif", "masks/a.png"):
        write(tmp_path / name, mask(1))
    with pytest.raises(DatasetError, match=r"a\.png and .*a\.tif differ in nothing but the suffix"):
        open_dataset(tmp_path)


def test_an_image_that_is_a_link_to_nothing_is_no_missing_case(tmp_path: Path) -> None:
    for name in ("images/a.png", "masks/a.png", "masks/b.png"):
        write(tmp_path / name, mask(1))
    (tmp_path / "images/b.png").symlink_to("../annex/b")
    with pytest.raises(DatasetError, match=r"b\.png does not exist: it is a link to \.\./annex/b"):
        open_dataset(tmp_path)


def test_a_label_map_without_an_image_is_said_to_be_left_out(tmp_path: Path) -> None:
    for name in ("images/a.png", "masks/a.png", "masks/b.png"):
        write(tmp_path / name, mask(1))
    with pytest.warns(UserWarning, match=r"1 of 2 label maps have no image and are left out: b\.png"):
        assert [case.name for case in open_dataset(tmp_path)] == ["a"]


def test_a_channel_that_is_missing_is_named_but_numbered_images_of_all_channels_are_cases(tmp_path: Path) -> None:
    for number in (0, 1, 3):
        np.save(tmp_path / f"c_{number:04d}.npy", np.zeros((5, 6, 7), np.float32))
    with pytest.raises(DatasetError, match=r"case 'c': channel 0002 is missing\. .*c_0002\.npy does not exist"):
        images_in(tmp_path, 4)
    for number in (0, 1, 3):
        np.save(tmp_path / f"c_{number:04d}.npy", np.zeros((4, 5, 6, 7), np.float32))
    assert len(images_in(tmp_path, 4)) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": [[]]}, r"\(\) is no path"),
        ({"images": [1]}, r"\(1,\) is no path"),
        ({"images": None}, "None is no folder, pattern or list of paths"),
        ({"channels": [1]}, r"channels=\[1\] is no list of names"),
        ({"channels": "CT"}, "channels='CT' is no list of names"),
    ],
)
def test_arguments_that_are_no_files_or_names_are_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    files = {"images": [write(tmp_path / "a.png", grey())], "labels": [write(tmp_path / "b.png", mask(1))]}
    with pytest.raises(DatasetError, match=message):
        dataset_from_files(**(files | changes))
    assert not dataset_from_files(**files, test=None).test


def test_masks_of_255_are_written_back_as_255(tmp_path: Path) -> None:
    write(tmp_path / "images/a.png", grey())
    write(tmp_path / "labels/a.png", mask(255))
    case = open_dataset(tmp_path)["a"]
    write_label_map(case.label(), tmp_path / "out.png")
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out.png"))), mask(255))


def test_a_label_named_by_its_value_in_the_files_is_numbered_inside(tmp_path: Path) -> None:
    image, label = write(tmp_path / "a.png", grey()), write(tmp_path / "a_mask.png", mask(255))
    dataset = dataset_from_files([image], [label], label_names={"background": 0, "cell": 255})
    assert dataset.labels.names == {"background": 0, "cell": 1}
    assert dataset.labels.in_files == {1: 255}
    assert set(np.unique(dataset[0].label().array)) == {0, 1}


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_eight_bit_intensities_are_no_label_map(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32)).astype(np.uint8)
    image, label = write(tmp_path / "a.png", grey(shape=(32, 32))), write(tmp_path / f"a_mask{suffix}", noise)
    with pytest.raises(DatasetError, match=r"different values, so it is no label map\. Are images and labels"):
        dataset_from_files([image], [label])


def write_smeared(folder: Path, *, top: int = 255) -> np.ndarray:
    """Label maps as JPEG beside images, and what was drawn."""
    drawn = np.zeros((40, 48), np.uint8)
    drawn[8:24, 10:30] = top
    for number, name in enumerate("abc"):
        write(folder / f"images/{name}.png", grey(number, shape=drawn.shape))
        write(folder / f"masks/{name}.jpg", drawn)
    return drawn


def test_a_label_map_saved_as_jpeg_is_named_and_read_as_the_nearest_declared_value(tmp_path: Path) -> None:
    drawn = write_smeared(tmp_path)
    with pytest.raises(DatasetError, match=r"a\.jpg is a JPEG, which smears label values: near 0, 255 there are"):
        open_dataset(tmp_path)
    globs = f"{tmp_path}/images/*", f"{tmp_path}/masks/*"
    dataset = dataset_from_files(*globs, label_names={"background": 0, "cell": 255})
    (smeared,) = (f for f in autoseg.check(dataset, show_progress=False) if f.severity == "error")
    assert smeared.check == "smeared" and smeared.fix is not None and smeared.fix.safe
    corrected = autoseg.check(dataset, show_progress=False).apply()
    assert np.array_equal(corrected["b"].label().array, drawn // 255)
    assert not [f for f in autoseg.check(corrected, show_progress=False) if f.severity == "error"]


def test_a_fingerprint_of_smeared_label_maps_says_so_and_takes_the_corrected_ones(tmp_path: Path) -> None:
    drawn = write_smeared(tmp_path)
    globs = f"{tmp_path}/images/*", f"{tmp_path}/masks/*"
    dataset = dataset_from_files(*globs, label_names={"background": 0, "cell": 255})
    with pytest.raises(
        DatasetError, match=r"'a': a\.jpg is a JPEG.* beside 0, 255 it holds .*check\(dataset\) says how"
    ):
        autoseg.extract_fingerprint(dataset, show_progress=False)
    corrected = autoseg.check(dataset, show_progress=False).apply()
    for each in (corrected, drop_labels(corrected, "cell")):
        found = autoseg.extract_fingerprint(each, show_progress=False).cases[0].label_voxels
        assert sum(found.values()) == (drawn > 0).sum() * len(each.labels.foreground)


def test_an_image_saved_as_jpeg_is_no_smeared_label_map(tmp_path: Path) -> None:
    write_smeared(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (40, 48)).astype(np.uint8)
    for name in "abc":
        write(tmp_path / f"masks/{name}.jpg", noise)
    globs = f"{tmp_path}/images/*", f"{tmp_path}/masks/*"
    dataset = dataset_from_files(*globs, label_names={"background": 0, "cell": 255})
    (found,) = (f for f in autoseg.check(dataset, show_progress=False) if f.severity == "error")
    assert found.check == "intensities"


def test_labels_too_near_for_a_jpeg_are_not_guessed(tmp_path: Path) -> None:
    write_smeared(tmp_path, top=20)
    globs = f"{tmp_path}/images/*", f"{tmp_path}/masks/*"
    dataset = dataset_from_files(*globs, label_names={"background": 0, "cell": 1})
    (smeared,) = (f for f in autoseg.check(dataset, show_progress=False) if f.severity == "error")
    assert smeared.fix is None and "0 and 255 for example" in smeared.advice


def test_folders_without_a_label_map_are_test_cases_where_the_others_have_one(tmp_path: Path) -> None:
    for case in ("p1", "p2", "p3", "p4"):
        for contrast in ("t1", "t1ce"):
            write(tmp_path / f"{case}/{case}_{contrast}.nii.gz", grey(2, (4, 5, 6)))
        if case != "p2":
            write(tmp_path / f"{case}/{case}_seg.nii.gz", mask(1, shape=(4, 5, 6)))
    write(tmp_path / "notes/p9_t1.nii.gz", grey(2, (4, 5, 6)))  # incomplete, so no case
    dataset = open_dataset(tmp_path)
    assert [case.name for case in dataset] == ["p1", "p3", "p4"]
    assert [(case.name, [p.name for p in case.image_paths]) for case in dataset.test] == [
        ("p2", ["p2_t1.nii.gz", "p2_t1ce.nii.gz"])
    ]


def test_grey_stored_as_colours_is_one_channel_and_colours_are_three(tmp_path: Path) -> None:
    write(tmp_path / "images/a.png", np.stack([grey()] * 3, axis=-1))
    write(tmp_path / "labels/a.png", mask(1, 2))
    assert open_dataset(tmp_path).channels == ("image",)
    write(tmp_path / "images/a.png", np.stack([grey(1), grey(2), grey(3)], axis=-1))
    dataset = open_dataset(tmp_path)
    assert dataset.channels == ("red", "green", "blue")
    assert dataset[0].image().array[:, 0, 0].tolist() == [1, 2, 3]


def test_colours_of_a_label_map_are_labels(tmp_path: Path) -> None:
    drawn = np.zeros((6, 7, 3), np.uint8)
    drawn[1], drawn[2] = (255, 0, 0), (0, 255, 0)
    write(tmp_path / "images/a.png", grey())
    write(tmp_path / "labels/a.png", drawn)
    case = open_dataset(tmp_path)[0]
    assert case.labels.outputs == 3
    write_label_map(case.label(), tmp_path / "out.png")
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out.png"))), drawn)


def test_lists_join_a_file_a_channel_and_patterns_join_numbered_files(tmp_path: Path) -> None:
    files = [write(tmp_path / f"i/{c}_000{k}.nii.gz", grey(k, (4, 5, 6))) for c in "ab" for k in (0, 1)]
    labels = [write(tmp_path / f"l/{c}.nii.gz", mask(1, shape=(4, 5, 6))) for c in "ab"]
    listed = dataset_from_files([files[:2], files[2:]], labels, channels=["T1", "T2"])
    globbed = dataset_from_files(f"{tmp_path}/i/*", f"{tmp_path}/l/*", channels=["T1", "T2"])
    assert [c.image_paths for c in listed] == [c.image_paths for c in globbed]
    assert listed[0].image().array.shape == (2, 4, 5, 6)


@pytest.mark.parametrize("suffix", ["", "_mask"])
def test_numbered_pictures_are_cases_and_no_channels(tmp_path: Path, suffix: str) -> None:
    for number in range(4):
        write(tmp_path / f"images/frame_{number:04d}.png", grey(number))
        write(tmp_path / f"masks/frame_{number:04d}{suffix}.png", mask(255))
        write(tmp_path / f"test/frame_{number + 9:04d}.png", grey(number + 50))
    dataset = open_dataset(tmp_path)
    assert [case.name for case in dataset] == [f"frame_{n:04d}" for n in range(4)]
    assert dataset.channels == ("image",)
    assert len(dataset.test) == 4


def test_patterns_match_by_the_folder_where_files_are_called_alike(tmp_path: Path) -> None:
    for name in ("ann", "bob"):
        write(tmp_path / name / "scan.nii.gz", grey(2, (4, 5, 6)))
        write(tmp_path / name / "organ.nii.gz", mask(1, shape=(4, 5, 6)))
    dataset = dataset_from_files(f"{tmp_path}/*/scan.nii.gz", f"{tmp_path}/*/organ.nii.gz")
    assert [(c.name, c.image_paths[0].parent.name) for c in dataset] == [("ann", "ann"), ("bob", "bob")]


def test_label_maps_that_the_pattern_of_images_matches_too_are_no_images(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / f"{name}.png", grey())
        write(tmp_path / f"{name}_mask.png", mask(1))
    assert [c.name for c in dataset_from_files(f"{tmp_path}/*.png", f"{tmp_path}/*_mask.png")] == ["a", "b"]


def test_a_grey_photograph_among_colours_is_read_as_colour(tmp_path: Path) -> None:
    for name, image in {"a": grey(), "b": np.stack([grey(1), grey(2), grey(3)], axis=-1)}.items():
        write(tmp_path / f"images/{name}.png", image)
        write(tmp_path / f"labels/{name}.png", mask(1))
    dataset = open_dataset(tmp_path)
    assert dataset.channels == ("red", "green", "blue")
    assert dataset["a"].image().array[:, 0, 1].tolist() == [10, 10, 10]


def test_grey_and_colour_label_maps_make_one_set_of_colours(tmp_path: Path) -> None:
    black, red = np.zeros((6, 7, 3), np.uint8), np.zeros((6, 7, 3), np.uint8)
    red[1], red[2] = (255, 0, 0), (255, 255, 255)
    for name, drawn in {"a": black, "b": red, "c": mask(255)}.items():
        write(tmp_path / f"images/{name}.png", grey())
        write(tmp_path / f"labels/{name}.png", drawn)
    dataset = open_dataset(tmp_path)
    assert dict(dataset.labels.file_values) == {(0, 0, 0): 0, (255, 0, 0): 1, (255, 255, 255): 2}
    assert [sorted(np.unique(c.label().array).tolist()) for c in dataset] == [[0], [0, 1, 2], [0, 2]]


def test_a_label_map_with_a_channel_for_each_label_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    np.save(tmp_path / "labels/a.npy", np.zeros((5, 4, 6, 7), np.uint8))
    write(tmp_path / "images/a.nii.gz", grey(2, (4, 6, 7)))
    with pytest.raises(DatasetError, match="has 5 channels of uint8; a label map has one integer a voxel, or a colour"):
        open_dataset(tmp_path)


def test_the_ct_sample_with_42_scattered_labels_opens_and_keeps_its_values(shared_data: Path) -> None:
    samples = shared_data / "samples"
    image, label = samples / "example_ct_sm.nii.gz", samples / "example_ct_sm_labels.nii.gz"
    dataset = dataset_from_files([image], [label], channels=["CT"])
    stored, _ = dataset[0].stored_label()
    values = sorted(set(np.unique(stored).tolist()) - {0})
    found = dataset[0].label()
    assert dataset.labels.foreground == tuple(range(1, len(values) + 1))
    assert np.array_equal(found.to("numpy"), stored[0])
    assert len(extract_fingerprint(dataset, show_progress=False).cases) == 1
    with pytest.warns(UserWarning, match="has one case"):
        plan = make_plan(extract_fingerprint(dataset, show_progress=False))
    prepared = preprocess(dataset, plan["3d_fullres"], show_progress=False)
    assert len(prepared[prepared.cases[0]].class_locations) == 41


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ({"a": grey(), "b": grey()}, {"a": mask(1)}, "case 'b' has an image but no label map"),
        ({"a": grey()}, {"z": mask(1)}, "case 'a' has an image but no label map"),
        ({"a": grey(), "image_a": grey()}, {"a_mask": mask(1)}, "do not say which belong together"),
        ({}, {"a": mask(1)}, "no image matches"),
        ({"a": grey()}, {}, "no label map matches"),
        ({"a": grey()}, {"a": np.arange(600, dtype=np.uint16).reshape(20, 30)}, "600 different values, so it is no"),
    ],
)
def test_files_that_do_not_pair_are_named(
    tmp_path: Path, images: dict[str, np.ndarray], labels: dict[str, np.ndarray], message: str
) -> None:
    for folder, files in (("images", images), ("labels", labels)):
        for name, array in files.items():
            write(tmp_path / folder / f"{name}.png", array)
    with pytest.raises(DatasetError, match=message):
        dataset_from_files(f"{tmp_path}/images/*", f"{tmp_path}/labels/*")


def test_lists_of_different_length_and_missing_files_are_named(tmp_path: Path) -> None:
    image, label = write(tmp_path / "i.png", grey()), write(tmp_path / "l.png", mask(1))
    with pytest.raises(DatasetError, match="2 images and 1 label maps: give one of each"):
        dataset_from_files([image, image], [label])
    with pytest.raises(DatasetError, match=r"nowhere\.png does not exist"):
        dataset_from_files([tmp_path / "nowhere.png"], [label])


def test_ignore_among_the_label_names_is_the_ignore_label(tmp_path: Path) -> None:
    image, label = write(tmp_path / "a.png", grey()), write(tmp_path / "a_mask.png", mask(1, 2))
    dataset = dataset_from_files([image], [label], label_names={"background": 0, "cell": 1, "ignore": 2})
    assert dataset.labels.ignore == 2 and list(dataset.labels.regions) == ["cell"]
    with pytest.raises(DatasetError, match=r"label 'cell' has the value 1.5; it must be a whole number"):
        dataset_from_files([image], [label], label_names={"background": 0, "cell": 1.5})


@pytest.mark.parametrize("given", [str, Path])
def test_a_folder_is_all_that_lies_in_it(tmp_path: Path, given: type) -> None:
    for name in "ab":
        write(tmp_path / f"my [images]/{name}.png", grey())
        write(tmp_path / f"masks/{name}_mask.png", mask(1))
    images, masks = given(tmp_path / "my [images]"), given(tmp_path / "masks")
    dataset = dataset_from_files(images, masks, test=images)
    assert [c.name for c in dataset] == ["a", "b"]
    assert [c.name for c in dataset.test] == ["test_a", "test_b"]
    with pytest.raises(DatasetError, match="no image matches .*nothing"):
        dataset_from_files(tmp_path / "nothing", masks)
