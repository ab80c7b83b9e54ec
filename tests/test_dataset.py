"""Folders are opened as they come, and what is missing is named."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import ball, change_facts, make_dataset, voxels, write_facts, write_volume

import autoseg
from autoseg.core.errors import DatasetError


def test_nnunets_layout(tmp_path):
    dataset = autoseg.open_dataset(make_dataset(tmp_path / "Dataset001_Ball", test=2))
    assert dataset.name == "Dataset001_Ball"
    assert [case.name for case in dataset] == [f"case_{i}" for i in range(6)]
    assert [case.name for case in dataset.test] == ["test_0", "test_1"]
    assert dataset.labels.names == {"background": 0, "organ": 1, "lesion": 2}
    case = dataset["case_3"]
    np.testing.assert_array_equal(case.image().array[0], voxels(30))
    np.testing.assert_array_equal(case.label().array, ball())


def test_the_decathlons_layout(tmp_path):
    for number in (1, 2):
        write_volume(voxels(number), tmp_path / f"imagesTr/x_{number}.nii.gz")
        write_volume(ball(), tmp_path / f"labelsTr/x_{number}.nii.gz")
    write_volume(voxels(3), tmp_path / "imagesTs/x_3.nii.gz")
    facts = {
        "name": "X",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "organ", "2": "lesion"},
        "training": [{"image": f"./imagesTr/x_{i}.nii.gz", "label": f"./labelsTr/x_{i}.nii.gz"} for i in (1, 2)],
        "test": ["./imagesTs/x_3.nii.gz", "./imagesTs/not_downloaded.nii.gz"],
    }
    write_facts(tmp_path, facts)
    dataset = autoseg.open_dataset(tmp_path)
    assert (dataset.name, dataset.channels) == ("X", ("CT",))
    assert [c.name for c in dataset] == ["x_1", "x_2"]
    assert [c.name for c in dataset.test] == ["x_3"]
    np.testing.assert_array_equal(dataset["x_3"].image().array[0], voxels(3))


def test_channels_come_from_numbered_files(tmp_path):
    dataset = autoseg.open_dataset(make_dataset(tmp_path, cases=2, channels=("T1", "T2", "FLAIR")))
    image = dataset["case_1"].image()
    assert image.channels == ("T1", "T2", "FLAIR")
    np.testing.assert_array_equal(image.array, [voxels(10 + c) for c in range(3)])


def test_a_real_dataset_opens_without_reading_a_voxel(shared_data):
    dataset = autoseg.open_dataset(shared_data / "Task04_Hippocampus")
    assert (len(dataset), dataset.name, dataset.channels) == (208, "Hippocampus", ("MRI",))
    assert dataset["hippocampus_003"].image().grid.shape == (35, 52, 34)


@pytest.mark.parametrize("folder", ["SunnybrookLV3D", "ProstateMRsmall", "OvuleNuclei3D"])
def test_real_datasets_are_sound(shared_data, folder):
    dataset = autoseg.open_dataset(shared_data / folder)
    few = dataset.without(*[case.name for case in dataset][3:])
    findings = autoseg.check(few, show_progress=False)
    assert [finding.check for finding in findings] == ["few"]


def test_folds_come_from_splits_final_where_it_is(tmp_path):
    make_dataset(tmp_path, cases=3)
    (tmp_path / "splits_final.json").write_text(json.dumps([{"train": ["case_0"], "val": ["case_2", "case_1"]}]))
    fold = autoseg.open_dataset(tmp_path).fold(0)
    assert [c.name for c in fold.training] == ["case_0"]
    assert [c.name for c in fold.validation] == ["case_2", "case_1"]


def test_leaving_cases_out_leaves_them_out_of_the_folds_too(tmp_path):
    make_dataset(tmp_path, cases=3)
    (tmp_path / "splits_final.json").write_text(json.dumps([{"train": ["case_0"], "val": ["case_2", "case_1"]}]))
    few = autoseg.open_dataset(tmp_path).without("case_2")
    assert [c.name for c in few] == ["case_0", "case_1"]
    assert [c.name for c in few.fold(0).validation] == ["case_1"]


@settings(max_examples=20)
@given(st.sets(st.integers(0, 25), max_size=20))
def test_without_and_folds_partition_what_is_left(gone):
    dataset = autoseg.sample_dataset()
    few = dataset.without(*(f"seahorse_{i + 1:03d}" for i in gone))
    assert len(few) == 26 - len(gone)
    fold = few.fold(1)
    assert {c.name for c in fold.training} | {c.name for c in fold.validation} == {c.name for c in few}
    assert not {c.name for c in fold.training} & {c.name for c in fold.validation}


def test_the_text_is_short_and_says_what_is_there(tmp_path):
    dataset = autoseg.open_dataset(make_dataset(tmp_path / "Ball", test=1))
    assert repr(dataset).splitlines() == [
        "Dataset('Ball': 6 training, 1 test cases)",
        "  channels: MRI",
        "  Labels(0 background, 1 organ, 2 lesion)",
    ]
    assert repr(dataset["case_0"]) == "Case('case_0': case_0_0000.nii.gz; case_0.nii.gz)"
    assert repr(dataset.fold(0)) == "Fold(4 training, 2 validation cases)"


def test_an_unknown_case_gets_a_suggestion():
    with pytest.raises(DatasetError, match=r"no case 'seahorse_1'\. Did you mean 'seahorse_0"):
        autoseg.sample_dataset()["seahorse_1"]


def test_leaving_everything_out_is_refused():
    dataset = autoseg.sample_dataset()
    with pytest.raises(DatasetError, match="'Seahorse' has no training cases"):
        dataset.without(*(case.name for case in dataset))


def test_test_cases_have_no_label_map():
    with pytest.raises(DatasetError, match="'seahorse_027': it has no label map"):
        autoseg.sample_dataset()["seahorse_027"].label()


def test_a_case_name_may_be_used_once(tmp_path):
    make_dataset(tmp_path, cases=2)
    write_volume(voxels(0), tmp_path / "imagesTs/case_1_0000.nii.gz")
    with pytest.raises(DatasetError, match="two cases are called 'case_1'"):
        autoseg.open_dataset(tmp_path)


@pytest.mark.parametrize(("system", "refused"), [("win32", True), ("darwin", True), ("linux", False)])
def test_names_that_differ_in_capitals_are_one_where_file_names_are(monkeypatch, system, refused):
    first, second, *_ = autoseg.sample_dataset()
    monkeypatch.setattr("autoseg.data.dataset.sys.platform", system)
    named = (replace(first, name="Liver"), replace(second, name="liver"))
    with pytest.raises(DatasetError, match=r"beyond small and capital") if refused else contextlib.nullcontext():
        replace(autoseg.sample_dataset(), training=named, splits=())


@pytest.mark.parametrize("name", ["/tmp/x", "../c", "site1/b", "a\\b", "", ".", ".hidden"])
def test_a_case_name_that_is_no_file_name_is_refused_wherever_it_comes_from(tmp_path, name):
    folder = make_dataset(tmp_path, cases=2)
    files = {"images": ["imagesTr/case_0_0000.nii.gz"], "label": "labelsTr/case_0.nii.gz"}
    change_facts(folder, dataset={name: files})
    with pytest.raises(DatasetError, match=r"its name becomes that of files: a word without slashes"):
        autoseg.open_dataset(folder)


def test_channel_files_must_count_up(tmp_path):
    make_dataset(tmp_path, cases=2, channels=("T1", "T2"))
    (tmp_path / "imagesTr/case_1_0001.nii.gz").rename(tmp_path / "imagesTr/case_1_0002.nii.gz")
    with pytest.raises(DatasetError, match=r"'case_1' has channel files \[0, 2\]; they must count up from 0"):
        autoseg.open_dataset(tmp_path)


def test_a_missing_channel_is_named_when_the_case_is_read(tmp_path):
    make_dataset(tmp_path, cases=2, channels=("T1", "T2"))
    (tmp_path / "imagesTr/case_1_0001.nii.gz").unlink()
    dataset = autoseg.open_dataset(tmp_path)
    with pytest.raises(DatasetError, match=r"case 'case_1': the image has 1 channel\(s\), but 2 are declared: T1, T2"):
        dataset["case_1"].image()


def test_splits_may_only_name_known_cases(tmp_path):
    make_dataset(tmp_path, cases=2)
    (tmp_path / "splits_final.json").write_text(json.dumps([{"train": ["case_0"], "val": ["case_9"]}]))
    with pytest.raises(DatasetError, match=r"splits_final\.json names the case 'case_9'"):
        autoseg.open_dataset(tmp_path)


@pytest.mark.parametrize(
    "content", ["{", '{"train": []}', '[{"train": ["case_0"]}]', "[1]", '[{"train": 1, "val": 2}]']
)
def test_broken_splits_are_named(tmp_path, content):
    make_dataset(tmp_path, cases=2)
    (tmp_path / "splits_final.json").write_text(content)
    with pytest.raises(DatasetError, match=r"splits_final\.json"):
        autoseg.open_dataset(tmp_path)


def test_the_file_ending_may_not_disagree_with_the_files(tmp_path):
    make_dataset(tmp_path, cases=2)
    change_facts(tmp_path, file_ending=".nrrd")
    with pytest.raises(DatasetError, match=r"no training images that end in \.nrrd"):
        autoseg.open_dataset(tmp_path)
