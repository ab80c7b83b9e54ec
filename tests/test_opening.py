"""A folder is opened whatever wrote it; real datasets need no parameter up to the preprocessed case."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from making import make_dataset

from autoseg.core.errors import DatasetError
from autoseg.data.fingerprint import extract_fingerprint
from autoseg.data.opening import open_dataset
from autoseg.planning.planner import make_plan
from autoseg.preprocessing.cases import preprocess_case


@pytest.mark.parametrize("name", ["SunnybrookLV3D", "ProstateMRsmall", "OvuleNuclei3D", "ISBI2012_EM"])
def test_real_datasets_are_planned_and_preprocessed_with_no_parameter(shared_data: Path, name: str) -> None:
    dataset = open_dataset(shared_data / name)
    plan = make_plan(extract_fingerprint(dataset, show_progress=False))
    for configuration in plan.configurations:
        case = dataset[0]
        assert np.isfinite(preprocess_case(case.name, case.image(), case.label(), configuration).array).all()


def _named(folder: Path, **changes: object) -> Path:
    for part in ("x", "y", "z"):
        for place in ("scans", "answers"):
            (folder / place).mkdir(exist_ok=True)
            array = (np.arange(60).reshape(3, 4, 5) % 4).astype(np.uint8)
            sitk.WriteImage(sitk.GetImageFromArray(array), str(folder / place / f"{part}.nii.gz"))
    facts = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3},
        "regions_class_order": [1, 2],
        "file_ending": ".nii.gz",
        "dataset": {c: {"images": [f"scans/{c}.nii.gz"], "label": f"answers/{c}.nii.gz"} for c in "xyz"},
    }
    (folder / "dataset.json").write_text(json.dumps(facts | changes))
    return folder


def test_the_dictionary_form_has_regions_an_ignore_label_and_its_own_folds(tmp_path: Path) -> None:
    _named(tmp_path)
    (tmp_path / "splits_final.json").write_text(json.dumps([{"train": ["x", "y"], "val": ["z"]}]))
    dataset = open_dataset(tmp_path)
    assert dataset.labels.ignore == 3
    assert dataset.labels.has_regions
    assert [c.name for c in dataset.fold(0).validation] == ["z"]
    plan = make_plan(extract_fingerprint(dataset, show_progress=False))
    assert plan.configurations


def test_paths_of_the_dictionary_form_may_hold_environment_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANS", str(tmp_path / "scans"))
    entries = {c: {"images": [f"$SCANS/{c}.nii.gz"], "label": f"answers/{c}.nii.gz"} for c in "xyz"}
    dataset = open_dataset(_named(tmp_path, dataset=entries))
    assert dataset["x"].image_paths == (tmp_path / "scans/x.nii.gz",)


def test_files_that_macos_leaves_beside_others_are_no_cases(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, cases=2)
    for path in [*folder.glob("*/*.nii.gz")]:
        path.with_name(f"._{path.name}").write_bytes(b"macOS")
    assert [case.name for case in open_dataset(folder)] == ["case_0", "case_1"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"x": {"images": ["scans/x.nii.gz"]}}, "case 'x' under 'dataset' needs 'images'"),
        ({"x": {"images": [], "label": "x.nii.gz"}}, "case 'x' under 'dataset' needs 'images'"),
        ({"x": {"images": ["scans/x.nii.gz"], "label": None}}, "case 'x' under 'dataset' needs 'images'"),
        ({"x": {"images": ["scans/q.nii.gz"], "label": "answers/x.nii.gz"}}, r"q\.nii\.gz is listed .* does not exist"),
    ],
)
def test_an_entry_that_is_incomplete_is_named(tmp_path: Path, entry: dict[str, object], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        open_dataset(_named(tmp_path, dataset=entry))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channel_names": ["MRI"]}, r"""has no 'channel_names' object, such as .*: it is \["MRI"\]"""),
        ({"labels": ["background", "organ"]}, "has no 'labels' object, such as"),
        (
            {"dataset": [{"image": "scans/x.nii.gz", "label": "answers/x.nii.gz"}]},
            "'dataset' .* is a list; it must be an",
        ),
        ({"dataset": None, "training": [{"image": "scans/x.nii.gz", "label": None}]}, "it needs 'image' and 'label'"),
        ({"labels": {"background": 0, "a": -1}}, "a label has the value -1; values count up from 0"),
    ],
)
def test_what_dataset_json_cannot_mean_is_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        open_dataset(_named(tmp_path, **changes))


@pytest.mark.parametrize("test", [None, [], ["scans/z.nii.gz"], [{"image": "scans/z.nii.gz"}]])
def test_cases_are_listed_as_monai_reads_them(tmp_path: Path, test: list[object] | None) -> None:
    training = [{"image": ["scans/x.nii.gz", "scans/y.nii.gz"], "label": "answers/x.nii.gz"}]
    channels = {"0": "T1", "1": "T2"}
    dataset = open_dataset(_named(tmp_path, dataset=None, training=training, test=test, channel_names=channels))
    assert dataset[0].image().array.shape == (2, 3, 4, 5)
    assert [case.name for case in dataset.test] == ["z"] * len(test or [])


def test_channels_are_counted_by_their_number_and_files_may_begin_as_windows_writes_them(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, cases=2, channels=("T1", "CT"))
    facts = json.loads((folder / "dataset.json").read_text()) | {
        "channel_names": {"1": "CT", "0": "T1"},
        "file_ending": "nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(facts), encoding="utf-8-sig")
    assert open_dataset(folder).channels == ("T1", "CT")
