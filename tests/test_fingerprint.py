"""The fingerprint holds nnU-Net's facts, case by case."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from making import ball, make_dataset, voxels, write_volume

import autoseg
from autoseg.core.errors import DatasetError, StorageError
from autoseg.data import case_facts
from autoseg.data.case_facts import nonzero_mask
from autoseg.data.fingerprint import Fingerprint
from autoseg.data.geometry import bounding_box

masks = arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=3, max_side=6))


def fingerprint_of(folder):
    return autoseg.extract_fingerprint(autoseg.open_dataset(folder), show_progress=False)


@pytest.mark.parametrize(
    ("folder", "task"),
    [("ProstateMRsmall", "Dataset117_ProstateMRsmall"), ("OvuleNuclei3D", "Dataset107_OvuleNuclei3D")],
)
def test_facts_of_real_datasets_are_those_of_nnunet(shared_data, reference, folder, task):
    theirs = json.loads((reference / "real_plans" / task / "dataset_fingerprint.json").read_text())
    ours = fingerprint_of(shared_data / folder)
    assert sorted(map(tuple, theirs["shapes_after_crop"])) == sorted(map(tuple, ours.shapes.tolist()))
    np.testing.assert_allclose(sorted(theirs["spacings"]), sorted(ours.spacings.tolist()), rtol=1e-6)
    assert ours.relative_size == pytest.approx(theirs["median_relative_size_after_cropping"], abs=1e-6)
    intensities = theirs["foreground_intensity_properties_per_channel"]["0"]
    mine = ours.intensities[0]
    assert (mine.minimum, mine.maximum) == (intensities["min"], intensities["max"])
    for name in ("mean", "std", "median", "percentile_00_5", "percentile_99_5"):  # theirs come from a random sample
        assert getattr(mine, name) == pytest.approx(intensities[name], rel=0.01), name


def test_every_case_weighs_the_same_whatever_its_size(tmp_path):
    """Two cases of which one has 27 times the voxels: mean and median lie halfway, not at the large one."""
    write_case(tmp_path, "large", np.full((12, 12, 12), 300, np.float32))
    write_case(tmp_path, "small", np.full((4, 4, 4), 100, np.float32))
    facts = fingerprint_of(tmp_path).intensities[0]
    assert facts.mean == pytest.approx(200)
    assert facts.std == pytest.approx(100)
    assert sum(facts.histogram) == pytest.approx(1)
    assert facts.histogram[0] == pytest.approx(0.5)


def write_case(folder, name, image, label=None):
    label = np.ones(image.shape, np.uint8) if label is None else label
    write_volume(image, folder / f"imagesTr/{name}_0000.nii.gz")
    write_volume(label, folder / f"labelsTr/{name}.nii.gz")
    facts = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "organ": 1, "lesion": 2}}
    (folder / "dataset.json").write_text(json.dumps(facts | {"numTraining": 1, "file_ending": ".nii.gz"}))


def test_the_patient_is_what_is_not_zero(tmp_path):
    image, label = np.zeros((10, 12, 14), np.float32), np.zeros((10, 12, 14), np.uint8)
    image[2:8, 3:10, 4:14] = 50
    image[4, 5, 6] = 0  # a hole inside belongs to the patient
    label[5, 5, 5] = 1
    write_case(tmp_path, "x", image, label)
    (case,) = fingerprint_of(tmp_path).cases
    assert (case.shape, case.cropped_shape) == ((10, 12, 14), (6, 7, 10))
    assert case.relative_size == pytest.approx(6 * 7 * 10 / (10 * 12 * 14))
    assert case.label_voxels == {1: 1}
    assert case.intensity_mean == (50,)


def test_a_dataset_without_any_annotation_still_has_facts(tmp_path):
    write_case(tmp_path, "x", voxels(1), np.zeros((8, 10, 12), np.uint8))
    facts = fingerprint_of(tmp_path)
    assert facts.cases[0].label_voxels == {}
    assert (facts.intensities[0].mean, facts.intensities[0].std) == (0, 1)


def test_label_voxels_are_counted(tmp_path):
    facts = fingerprint_of(make_dataset(tmp_path, cases=2))
    for case in facts.cases:
        assert case.label_voxels == {1: int((ball() == 1).sum()), 2: int((ball() == 2).sum())}


@given(masks)
def test_the_box_is_the_smallest_that_holds_the_mask(mask):
    box = bounding_box(mask)
    assert mask[box.slices].sum() == mask.sum()
    if mask.any():
        for axis in range(mask.ndim):
            inside = np.moveaxis(mask[box.slices], axis, 0)
            assert inside[0].any()
            assert inside[-1].any()
    else:
        assert box.shape == mask.shape


@settings(max_examples=30)
@given(arrays.arrays(np.float32, (2, 4, 5, 6), elements=st.sampled_from((0.0, 1.0))))
def test_nonzero_in_some_channel_is_inside(array):
    inside = nonzero_mask(array)
    assert inside.shape == array.shape[1:]
    assert inside[(array != 0).any(axis=0)].all()


def test_what_is_saved_is_loaded(tmp_path):
    dataset = autoseg.open_dataset(make_dataset(tmp_path / "data", cases=2))
    fingerprint = autoseg.extract_fingerprint(dataset, folder=tmp_path / "work", show_progress=False)
    assert Fingerprint.load(tmp_path / "work" / "fingerprint.json") == fingerprint


def test_it_is_read_again_only_when_a_file_changed(tmp_path):
    folder, work = make_dataset(tmp_path / "data", cases=2), tmp_path / "work"

    def extract():
        autoseg.extract_fingerprint(autoseg.open_dataset(folder), folder=work, show_progress=False)
        return (work / "fingerprint.json").stat().st_mtime_ns

    first = extract()
    assert extract() == first
    write_volume(voxels(77), folder / "imagesTr/case_1_0000.nii.gz")
    second = extract()
    assert second > first
    (work / "fingerprint.json").write_text("{")
    assert extract() > second
    assert Fingerprint.load(work / "fingerprint.json") == fingerprint_of(folder)


def test_it_is_not_made_again_of_files_that_were_downloaded_again(tmp_path, monkeypatch):
    folder, work = make_dataset(tmp_path / "data", cases=2), tmp_path / "work"
    first = autoseg.extract_fingerprint(autoseg.open_dataset(folder), folder=work, show_progress=False)
    again = shutil.copytree(folder, tmp_path / "again" / "data", copy_function=shutil.copyfile)
    monkeypatch.delattr("autoseg.data.fingerprint.seen")
    assert autoseg.extract_fingerprint(autoseg.open_dataset(again), folder=work, show_progress=False) == first


def test_the_table_has_a_row_a_case(tmp_path):
    table = fingerprint_of(make_dataset(tmp_path, cases=2)).table()
    assert list(table.index) == ["case_0", "case_1"]
    assert table.loc["case_1", "organ"] == (ball() == 1).sum()


def test_the_text_is_short(tmp_path):
    assert repr(fingerprint_of(make_dataset(tmp_path / "Ball", cases=2))).splitlines() == [
        "Fingerprint('Ball': 2 cases)",
        "  median shape 8x10x12 voxels, median spacing 1x1x1 mm",
        "  channels: MRI; 2 foreground labels",
    ]


def test_a_bad_case_is_named(tmp_path):
    make_dataset(tmp_path, cases=3)
    write_volume(ball() + np.uint8(7), tmp_path / "labelsTr" / "case_1.nii.gz")
    with pytest.raises(DatasetError, match=r"case 'case_1': the label map holds the value\(s\) 7, 8, 9"):
        fingerprint_of(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not valid JSON"),
        ("[]", "expected the fields of a Fingerprint, found list"),
        ("{}", "a Fingerprint is incomplete"),
        ('{"surprise": 1}', "has no field 'surprise'"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, content, message):
    (tmp_path / "fingerprint.json").write_text(content)
    with pytest.raises(StorageError, match=message):
        Fingerprint.load(tmp_path / "fingerprint.json")


class TestGoingOn:
    """A long survey that was stopped goes on where it was."""

    @pytest.fixture
    def dataset(self, tmp_path, monkeypatch):
        monkeypatch.setattr(case_facts, "SLOW", 0.0)
        return autoseg.open_dataset(make_dataset(tmp_path / "data", cases=5))

    @staticmethod
    def stop_after(monkeypatch, cases):
        seen, look = [], case_facts._look_at

        def stopping(case, room):
            if len(seen) == cases:
                raise KeyboardInterrupt
            seen.append(case.name)
            return look(case, room)

        monkeypatch.setattr(case_facts, "_look_at", stopping)
        return seen

    def extract(self, dataset, folder):
        return autoseg.extract_fingerprint(dataset, folder=folder, show_progress=False)

    def test_finished_cases_are_not_read_again_and_the_result_is_the_same(self, dataset, tmp_path, monkeypatch):
        whole = self.extract(dataset, tmp_path / "whole")
        with monkeypatch.context() as patch:
            self.stop_after(patch, 3)
            with pytest.raises(KeyboardInterrupt):
                self.extract(dataset, tmp_path / "work")
        seen = self.stop_after(monkeypatch, 99)
        again = self.extract(dataset, tmp_path / "work")
        assert seen == ["case_3", "case_4"]
        assert again == whole
        assert sorted(p.name for p in (tmp_path / "work").iterdir()) == ["files.json", "fingerprint.json"]

    def test_a_changed_or_damaged_part_is_read_again(self, dataset, tmp_path, monkeypatch):
        with monkeypatch.context() as patch:
            self.stop_after(patch, 3)
            with pytest.raises(KeyboardInterrupt):
                self.extract(dataset, tmp_path / "work")
        (tmp_path / "work/fingerprint.parts/case_0.npz").write_bytes(b"half")
        write_volume(voxels(77), dataset["case_1"].image_paths[0])
        seen = self.stop_after(monkeypatch, 99)
        self.extract(dataset, tmp_path / "work")
        assert seen == ["case_0", "case_1", "case_3", "case_4"]


def test_pictures_say_that_their_first_spacing_is_a_mark():
    pictures = autoseg.extract_fingerprint(autoseg.sample_dataset("rgb"), show_progress=False)
    assert pictures.planar
    assert "median spacing 999x1x1 mm (pictures: no slices)" in repr(pictures)
    assert "pictures have no slices" in pictures._repr_html_()
    volumes = autoseg.extract_fingerprint(autoseg.sample_dataset("single_slice"), show_progress=False)
    assert not volumes.planar
