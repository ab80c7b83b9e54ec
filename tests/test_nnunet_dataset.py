"""Any dataset can be written as nnU-Net's raw layout, and opens as the same dataset."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from making import change_facts, make_dataset

import autoseg
from autoseg.core.errors import DatasetError, StorageError
from autoseg.data.corrections import Corrections
from autoseg.data.fixes import override_spacing
from autoseg.data.labels import Labels
from autoseg.data.splits import Split
from autoseg.interop.nnunet_dataset import dataset_json, export_nnunet_dataset, name_in_nnunet


def same_voxels(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.image().array, b.image().array)
        np.testing.assert_array_equal(a.label().array, b.label().array)
        assert a.image().grid.shape == b.image().grid.shape
        assert not a.image().grid.difference(b.image().grid)


def test_files_that_nnunet_reads_are_copied_as_they_are(tmp_path):
    source = make_dataset(tmp_path / "source", channels=("T1", "T2"), test=2)
    dataset = replace(autoseg.open_dataset(source), name="Brain", splits=(Split(("case_0",), ("case_1",)),))
    target = export_nnunet_dataset(dataset, tmp_path / "raw", number=42)
    assert target == tmp_path / "raw" / "Dataset042_Brain"
    for name in ("imagesTr/case_3_0001.nii.gz", "labelsTr/case_0.nii.gz", "imagesTs/test_1_0000.nii.gz"):
        assert (target / name).read_bytes() == (source / name).read_bytes()
    opened = autoseg.open_dataset(target)
    assert (opened.channels, opened.labels, opened.splits) == (dataset.channels, dataset.labels, dataset.splits)
    assert [case.name for case in opened] == [case.name for case in dataset]


def test_the_decathlons_layout_becomes_nnunets(tmp_path):
    dataset = autoseg.sample_dataset()
    few = replace(dataset, training=dataset.training[:2], test=dataset.test[:1])
    target = export_nnunet_dataset(few, tmp_path)
    assert target.name == "Dataset900_Seahorse"
    facts = json.loads((target / "dataset.json").read_text())
    assert facts["numTraining"] == 2
    assert facts["labels"] == {"background": 0, "head": 1, "tail": 2}
    same_voxels(autoseg.open_dataset(target), few)


def test_what_is_corrected_in_memory_is_written_so(tmp_path):
    dataset = autoseg.open_dataset(make_dataset(tmp_path / "source", cases=2))
    scaled = tuple(replace(case, corrections=Corrections(scale=2.0, spacing=(3.0, 1.0, 0.5))) for case in dataset)
    corrected = replace(dataset, name="scaled", training=scaled)
    opened = autoseg.open_dataset(export_nnunet_dataset(corrected, tmp_path / "raw"))
    same_voxels(opened, corrected)
    assert opened.training[0].image().grid.spacing == (3.0, 1.0, 0.5)


def test_values_are_written_as_what_they_stand_for(tmp_path):
    dataset = autoseg.open_dataset(make_dataset(tmp_path / "source", cases=2))
    labels = Labels({"background": 0, "all": 1}, file_values=((1, 1), (2, 1)))
    merged = replace(
        dataset, name="merged", labels=labels, training=tuple(replace(case, labels=labels) for case in dataset)
    )
    opened = autoseg.open_dataset(export_nnunet_dataset(merged, tmp_path / "raw"))
    assert np.unique(opened.training[0].label().array).tolist() == [0, 1]


def test_several_channels_in_a_file_become_a_file_each(tmp_path):
    source = make_dataset(tmp_path / "source", cases=2)
    for path in (source / "imagesTr").iterdir():
        image = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        sitk.WriteImage(sitk.JoinSeries([sitk.GetImageFromArray(a) for a in (image, 2 * image)]), str(path))
    change_facts(source, channel_names={"0": "T1", "1": "T2"})
    dataset = autoseg.open_dataset(source)
    target = export_nnunet_dataset(dataset, tmp_path / "raw")
    assert sorted(p.name for p in (target / "imagesTr").iterdir())[:2] == ["case_0_0000.nii.gz", "case_0_0001.nii.gz"]
    first = autoseg.open_dataset(target).training[0].image().array
    np.testing.assert_array_equal(first[1], 2 * first[0])


def test_stacks_of_tiff_become_nifti_with_their_spacing(tmp_path):
    source = make_dataset(tmp_path / "source", cases=2, ending=".tif")
    for number in range(2):
        (source / "imagesTr" / f"case_{number}.json").write_text('{"spacing": [2.0, 0.5, 0.5]}')
        (source / "labelsTr" / f"case_{number}.json").write_text('{"spacing": [2.0, 0.5, 0.5]}')
    target = export_nnunet_dataset(autoseg.open_dataset(source), tmp_path / "raw")
    assert json.loads((target / "dataset.json").read_text())["file_ending"] == ".nii.gz"
    assert autoseg.open_dataset(target).training[0].image().grid.spacing == (2.0, 0.5, 0.5)


def test_regions_and_the_ignore_label_are_declared_as_nnunet_wants_them():
    labels = Labels({"background": 0, "whole": (1, 2), "core": 2}, region_order=(1, 2), ignore=3)
    facts = dataset_json(["CT"], labels, cases=5, ending=".png")
    assert facts["labels"] == {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
    assert facts["regions_class_order"] == [1, 2]


def test_an_export_that_failed_leaves_nothing_that_a_later_one_would_hold(tmp_path):
    source = make_dataset(tmp_path / "source", cases=3)
    (source / "labelsTr" / "case_1.nii.gz").write_bytes(b"cut short")
    dataset = override_spacing(replace(autoseg.open_dataset(source), name="Balls"), (2.0, 1.0, 1.0))
    with pytest.raises(DatasetError, match="case_1"):
        export_nnunet_dataset(dataset, tmp_path / "raw")
    assert not list((tmp_path / "raw").iterdir())
    target = export_nnunet_dataset(dataset.without("case_1"), tmp_path / "raw")
    assert [case.name for case in autoseg.open_dataset(target)] == ["case_0", "case_2"]


def test_files_of_an_unfinished_export_are_not_mixed_with_another(tmp_path):
    dataset = autoseg.open_dataset(make_dataset(tmp_path / "source", cases=2))
    target = export_nnunet_dataset(dataset, tmp_path / "raw")
    (target / "dataset.json").unlink()
    with pytest.raises(StorageError, match=r"holds files already. Choose another number"):
        export_nnunet_dataset(dataset.without("case_1"), tmp_path / "raw")


def test_test_cases_that_are_corrected_are_written_so(tmp_path):
    dataset = autoseg.open_dataset(make_dataset(tmp_path / "source", cases=2, test=1))
    target = export_nnunet_dataset(override_spacing(dataset, (9.0, 9.0, 9.0), "test_0"), tmp_path / "raw")
    assert autoseg.open_dataset(target)["test_0"].image().grid.spacing == (9.0, 9.0, 9.0)


def test_another_dataset_is_not_written_over(tmp_path):
    dataset = autoseg.open_dataset(make_dataset(tmp_path / "source", cases=2))
    export_nnunet_dataset(dataset, tmp_path / "raw", number=1)
    with pytest.raises(StorageError, match=r"holds a dataset already. Choose another number"):
        export_nnunet_dataset(dataset, tmp_path / "raw", number=1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Task04_Hippocampus", "Dataset004_Hippocampus"),
        ("Dataset017_Liver", "Dataset017_Liver"),
        ("../../etc", "Dataset900_etc"),
        ("日本", "Dataset900_unnamed"),
    ],
)
def test_names_are_as_nnunet_wants_them(name, expected):
    assert name_in_nnunet(name) == expected


@pytest.mark.parametrize("number", ["7", -5, 7.0])
def test_a_number_that_is_none_is_refused(tmp_path, number):
    with pytest.raises(DatasetError, match=f"number={number!r} is no number of a dataset"):
        export_nnunet_dataset(autoseg.sample_dataset(), tmp_path, number=number)
