"""Each check finds the one fault that was put in, and its fix mends it; sound data is left in peace."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from making import ball, change_facts, make_dataset, voxels, write_volume

import autoseg
from autoseg.core.errors import DatasetError
from autoseg.data.checks import Finding
from autoseg.data.checks.geometry import displacement
from autoseg.data.fixes import relabel, rescale
from autoseg.data.geometry import Grid

SHAPE = (16, 20, 24)


def check(dataset, **options):
    return autoseg.check(dataset, show_progress=False, **options)


def opened(folder):
    return autoseg.open_dataset(folder)


@pytest.fixture
def folder(tmp_path):
    return make_dataset(tmp_path / "data", cases=6, shape=SHAPE)


def label_path(folder, number):
    return folder / f"labelsTr/case_{number}.nii.gz"


def image_path(folder, number):
    return folder / f"imagesTr/case_{number}_0000.nii.gz"


def place(path, array, *, spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0)):
    """Write an array (z, y, x) with its grid, origin in mm along x, y, z."""
    affine = np.diag([*spacing[::-1], 1.0])
    affine[:3, 3] = origin
    nib.save(nib.Nifti1Image(array.T, affine), path)


def moved_label(folder):
    """The header says 3 mm further; the voxels lie where they should."""
    place(label_path(folder, 2), ball(SHAPE), origin=(3.0, 0, 0))


def truly_moved_label(folder):
    """Voxels and header both 3 mm off, so that the header is right."""
    place(label_path(folder, 2), np.roll(ball(SHAPE), -3, axis=2), origin=(3.0, 0, 0))


def rounded_header(folder):
    place(label_path(folder, 2), ball(SHAPE), origin=(0.04, 0, 0))


def label_header_lost(folder):
    for number in range(6):
        place(image_path(folder, number), voxels(number, SHAPE), spacing=(2.0, 0.7, 0.7), origin=(10, 20, 30))
        lost = number == 4
        place(
            label_path(folder, number),
            ball(SHAPE),
            **({} if lost else {"spacing": (2.0, 0.7, 0.7), "origin": (10, 20, 30)}),
        )


def image_header_lost(folder):
    for number in range(6):
        place(label_path(folder, number), ball(SHAPE), spacing=(2.0, 0.7, 0.7), origin=(10, 20, 30))
        if number != 4:
            place(image_path(folder, number), voxels(number, SHAPE), spacing=(2.0, 0.7, 0.7), origin=(10, 20, 30))


def coarser_label(folder):
    place(label_path(folder, 2), ball((8, 10, 12)), spacing=(2.0, 2.0, 2.0), origin=(0.5, 0.5, 0.5))


def nan_in_image(folder):
    image = voxels(20, SHAPE)
    image[1, 2, 3] = np.nan
    write_volume(image, image_path(folder, 2))


def nan_in_label(folder):
    label = ball(SHAPE).astype(np.float32)
    label[0, 0, 0] = np.nan
    write_volume(label, label_path(folder, 3))


def all_255(folder):
    change_facts(folder, labels={"background": 0, "organ": 1})
    for number in range(6):
        write_volume((ball(SHAPE) > 0).astype(np.uint8) * 255, label_path(folder, number))


def undeclared(folder):
    label = ball(SHAPE)
    label[0, 0, :4] = 9
    write_volume(label, label_path(folder, 1))


def nearly_whole(folder):
    write_volume(ball(SHAPE).astype(np.float32) + np.float32(1e-4) * (ball(SHAPE) > 0), label_path(folder, 1))


def interpolated(folder):
    label = ball(SHAPE).astype(np.float32)
    write_volume((label + np.roll(label, 1, 0)) / 2, label_path(folder, 1))


def image_as_label(folder):
    write_volume(np.round(voxels(10, SHAPE)), label_path(folder, 1))
    write_volume(np.round(voxels(10, SHAPE)), image_path(folder, 1))


def empty_label(folder):
    write_volume(np.zeros(SHAPE, np.uint8), label_path(folder, 5))


def unused_label(folder):
    for number in range(6):
        write_volume((ball(SHAPE) > 0).astype(np.uint8), label_path(folder, number))


def same_image_twice(folder):
    image_path(folder, 3).write_bytes(image_path(folder, 1).read_bytes())


def blank_image(folder):
    write_volume(np.full(SHAPE, 7, np.float32), image_path(folder, 0))


def other_scale(folder):
    change_facts(folder, channel_names={"0": "CT"})
    for number in range(6):
        write_volume(voxels(10 * number, SHAPE) - 200, image_path(folder, number))
    write_volume(1000 * (voxels(20, SHAPE) - 200), image_path(folder, 2))


def ct_called_mr(folder):
    for number in range(6):
        image = np.round(voxels(10 * number, SHAPE) - 100)
        image[:, :4] = -1000
        write_volume(image, image_path(folder, number))


def mr_called_ct(folder):
    change_facts(folder, channel_names={"0": "CT"})


def other_orientation(folder):
    for path, array in ((image_path(folder, 2), voxels(20, SHAPE)), (label_path(folder, 2), ball(SHAPE))):
        nib.save(nib.Nifti1Image(array[:, ::-1].T, np.diag([1.0, -1.0, 1.0, 1.0])), path)


def too_small(folder):
    place(image_path(folder, 2), voxels(2, (16, 5, 4)))
    place(label_path(folder, 2), ball((16, 5, 4)))


def gap(folder):
    change_facts(folder, labels={"background": 0, "organ": 1, "lesion": 3})
    for number in range(6):
        label = ball(SHAPE)
        label[label == 2] = 3
        write_volume(label, label_path(folder, number))


def left_and_right(folder):
    change_facts(folder, labels={"background": 0, "left kidney": 1, "right kidney": 2})


def one_less_declared(folder):
    change_facts(folder, numTraining=7)


def channels_of_different_size(folder):
    change_facts(folder, channel_names={"0": "T1", "1": "T2"})
    for number in range(6):
        write_volume(voxels(50 + number, SHAPE), folder / f"imagesTr/case_{number}_0001.nii.gz")
    write_volume(voxels(52, (16, 20, 20)), folder / "imagesTr/case_2_0001.nii.gz")


def _two_channels(folder):
    change_facts(folder, channel_names={"0": "T1", "1": "T2"})
    for number in range(6):
        write_volume(voxels(50 + number, SHAPE), folder / f"imagesTr/case_{number}_0001.nii.gz")


def channels_apart(folder):
    _two_channels(folder)
    place(folder / "imagesTr/case_2_0001.nii.gz", voxels(52, SHAPE), origin=(5.0, 0, 0))


def the_same_channel_twice(folder):
    _two_channels(folder)
    (folder / "imagesTr/case_2_0001.nii.gz").write_bytes(image_path(folder, 2).read_bytes())


def another_scale_in_one_channel(folder):
    _two_channels(folder)
    write_volume(1000 * voxels(52, SHAPE), folder / "imagesTr/case_2_0001.nii.gz")


def _ct(folder):
    change_facts(folder, channel_names={"0": "CT"})
    for number in range(6):
        image = np.round(voxels(10 * number, SHAPE) - 100)
        image[:, :4] = -1000
        write_volume(image, image_path(folder, number))


def one_ct_from_zero(folder):
    _ct(folder)
    write_volume(nib.load(image_path(folder, 3)).get_fdata(dtype=np.float32).T + 1024, image_path(folder, 3))


def z_scored_ct(folder):
    change_facts(folder, channel_names={"0": "CT"})
    for number in range(6):
        write_volume((voxels(10 * number, SHAPE) - 100) / 10, image_path(folder, number))


def one_ct_among_mr(folder):
    image = np.round(voxels(0, SHAPE) - 100)
    image[:, :4] = -1000
    write_volume(image, image_path(folder, 3))


def header_of_both_lost(folder):
    for number in range(6):
        if number != 4:
            for path, array in ((image_path, voxels(number, SHAPE)), (label_path, ball(SHAPE))):
                place(path(folder, number), array, spacing=(2.0, 0.7, 0.7), origin=(10, 20, 30))


def spacing_in_metres(folder):
    for path, array in ((image_path, voxels(4, SHAPE)), (label_path, ball(SHAPE))):
        place(path(folder, 4), array, spacing=(1e-3, 1e-3, 1e-3))


def counted_from_one(folder):
    for number in range(6):
        write_volume(ball(SHAPE) + 1, label_path(folder, number))


def all_empty(folder):
    for number in range(6):
        write_volume(np.zeros(SHAPE, np.uint8), label_path(folder, number))


def a_fold_that_judges_what_it_learned(folder):
    fold = {"train": [f"case_{n}" for n in range(5)], "val": ["case_4", "case_5"]}
    (folder / "splits_final.json").write_text(json.dumps([fold]))


def two_names_for_one_value(folder):
    change_facts(folder, labels={"background": 0, "organ": 1, "lesion": 2, "tumour": 2})


def regions_written_as_nothing(folder):
    change_facts(folder, labels={"background": 0, "whole": [1, 2], "lesion": 2}, regions_class_order=[1, 7])


def cases_in_no_fold(folder):
    (folder / "splits_final.json").write_text(json.dumps([{"train": ["case_0", "case_1"], "val": ["case_2"]}]))


def cut_in_half(folder):
    path = label_path(folder, 2)
    path.write_bytes(path.read_bytes()[:-40])


EVERY = tuple(f"case_{n}" for n in range(6))
FAULTS = {  # what was done: check, severity, cases, whether the fix is safe (None: there is none), what is said
    moved_label: ("grids", "warning", ("case_2",), True, "up to 3.0 voxels away .* one of the headers is wrong"),
    truly_moved_label: ("grids", "warning", ("case_2",), True, "the headers are right"),
    rounded_header: ("grids", "note", ("case_2",), True, r"differ by rounding, at most 0\.04 voxels"),
    label_header_lost: ("grids", "error", ("case_4",), True, "header of the label map says nothing"),
    image_header_lost: ("grids", "error", ("case_4",), True, "header of the image says nothing"),
    coarser_label: ("grids", "error", ("case_2",), False, "label map is 8x10x12 voxels of 2x2x2 mm"),
    nan_in_image: ("nonfinite", "error", ("case_2",), False, r"1 voxels of the image are NaN .* at \(1, 2, 3\)"),
    nan_in_label: ("label_nonfinite", "error", ("case_3",), False, "NaN or infinite voxels, 1 in 'case_3'"),
    all_255: ("values", "error", EVERY, True, r"all 6 cases: the label map holds the value\(s\) 255"),
    undeclared: ("values", "error", ("case_1",), False, r"value\(s\) 9, but dataset.json declares only 0, 1, 2"),
    nearly_whole: ("broken", "error", ("case_1",), True, "are not whole numbers, up to 0.0001"),
    interpolated: ("broken", "error", ("case_1",), False, "are not whole numbers, up to 0.5"),
    image_as_label: ("intensities", "error", ("case_1",), False, "these are intensities. It is the image itself"),
    empty_label: ("empty", "warning", ("case_5",), False, "holds no foreground at all"),
    unused_label: ("unused", "warning", (), False, "'lesion' is declared but occurs in none of 6 cases"),
    same_image_twice: ("duplicates", "warning", ("case_1", "case_3"), True, "the same image, voxel for voxel"),
    blank_image: ("constant", "warning", ("case_0",), False, "channel 'MRI' is 7 everywhere"),
    other_scale: ("scale", "warning", ("case_2",), False, "spread .* times as far as in the median case"),
    ct_called_mr: ("modality", "warning", EVERY, False, "whole numbers down to -1000, .* Hounsfield"),
    mr_called_ct: ("modality", "warning", EVERY, False, "no case has a negative intensity"),
    other_orientation: ("orientation", "warning", ("case_2",), False, "in different directions: .* in 5, .* in 1"),
    too_small: ("small", "warning", ("case_2",), None, "'case_2' has 16x5x4"),
    gap: ("numbering", "note", (), True, "numbered with gaps: 2 is missing"),
    left_and_right: ("sides", "warning", (), None, "'left kidney' and 'right kidney' differ only by the side"),
    one_less_declared: ("count", "note", (), None, "says 7 training cases .* holds 6"),
    channels_of_different_size: ("channels", "error", ("case_2",), False, "are channels of one case but differ"),
    channels_apart: ("channels", "warning", ("case_2",), False, "'T2' is up to 5.0 voxels away from 'T1'"),
    the_same_channel_twice: ("copies", "warning", ("case_2",), False, "'T1' and 'T2' are the same, voxel for voxel"),
    another_scale_in_one_channel: ("scale", "warning", ("case_2",), False, "intensities of 'T2' spread .* times as"),
    one_ct_from_zero: ("modality", "warning", ("case_3",), False, "holds no Hounsfield units; the others do"),
    z_scored_ct: ("modality", "warning", EVERY, False, "intensities spread over .* at most"),
    one_ct_among_mr: ("modality", "warning", ("case_3",), False, "holds Hounsfield units, as only CT"),
    header_of_both_lost: ("spacing", "warning", ("case_4",), False, "what a lost header gives.*usually 2x0.7x0.7 mm"),
    spacing_in_metres: ("spacing", "warning", ("case_4",), False, "1,000 times"),
    counted_from_one: ("values", "error", EVERY, False, r"value\(s\) 3, but"),
    all_empty: ("empty", "error", EVERY, None, "no foreground at all"),
    a_fold_that_judges_what_it_learned: ("splits", "error", ("case_4",), True, "in training and in validation"),
    cases_in_no_fold: ("splits", "note", ("case_3", "case_4", "case_5"), False, "in no fold"),
    two_names_for_one_value: ("ambiguous", "warning", (), None, "'lesion' and 'tumour' both are 2"),
    regions_written_as_nothing: ("ambiguous", "warning", (), None, r"\[1, 7\] writes 7 into predictions"),
    cut_in_half: ("unreadable", "error", ("case_2",), False, "may be damaged or cut short"),
}


@pytest.mark.parametrize(("fault", "expected"), FAULTS.items(), ids=lambda f: getattr(f, "__name__", ""))
def test_a_fault_is_found_in_its_cases_and_its_fix_mends_it(folder, fault, expected):
    fault(folder)
    name, severity, cases, safe, message = expected
    findings = check(opened(folder))
    (finding,) = findings
    assert (finding.check, finding.severity, finding.cases) == (name, severity, cases)
    with pytest.raises(DatasetError, match=message):
        raise DatasetError(finding.message)
    if safe is None:
        assert finding.fix is None
        with pytest.raises(DatasetError, match="no fix is known"):
            finding.apply()
        return
    assert finding.fix.safe == safe
    mended = finding.apply()
    assert check(mended)[name].of(severity).items == ()
    assert len(findings.apply()) == len(findings.apply(name)) or not safe


def test_sound_data_is_left_in_peace(folder):
    assert not check(opened(folder))
    assert not check(autoseg.sample_dataset())


@pytest.mark.parametrize("name", ["Task04_Hippocampus", "SunnybrookLV3D", "ProstateMRsmall", "OvuleNuclei3D"])
def test_real_data_has_nothing_above_a_note(shared_data, name):
    findings = check(opened(shared_data / name))
    assert not findings.errors
    assert not findings.warnings


def test_two_phases_of_one_patient_are_suspected_by_their_names(shared_data):
    (finding,) = check(opened(shared_data / "SunnybrookLV3D"))
    assert "12 patients had several cases" in finding.message
    again = check(finding.apply(), groups=r"(.*)_ph")
    assert not again["leakage"]


def test_groups_that_are_no_regular_expression_are_refused(folder):
    with pytest.raises(DatasetError, match=r"groups='\(' is no regular expression: missing \)"):
        check(opened(folder), groups="(")


def test_a_patient_on_both_sides_of_a_fold_is_found_when_groups_are_said(folder):
    groups = {f"case_{n}": str(n // 2) for n in range(6)}
    (finding,) = check(opened(folder), groups=groups)
    assert (finding.check, finding.severity) == ("leakage", "error")
    assert finding.fix.safe
    assert not check(finding.apply(), groups=groups)


@pytest.mark.parametrize(
    ("fold", "severity", "message"),
    [
        ({"train": range(6), "val": []}, "error", r"1 of 2 folds \(fold 1\) validate no case"),
        ({"train": [], "val": range(6)}, "error", r"1 of 2 folds \(fold 1\) train on no case"),
        ({"train": [0, 1, 2], "val": [3, 4, 5, 4]}, "warning", "case 'case_4': named more than once on one side"),
    ],
)
def test_folds_that_cannot_be_meant_are_named_and_mended(folder, fold, severity, message):
    names = {side: [f"case_{i}" for i in numbers] for side, numbers in fold.items()}
    sound = {"train": [f"case_{i}" for i in range(3)], "val": [f"case_{i}" for i in range(3, 6)]}
    (folder / "splits_final.json").write_text(json.dumps([sound, names]))
    (finding,) = check(opened(folder))["splits"]
    assert (finding.severity, re.search(message, finding.message) is None) == (severity, False)
    assert not check(finding.apply())["splits"]


def test_a_case_without_a_group_is_refused(folder):
    with pytest.raises(DatasetError, match="5 of 6 cases have no group; of 'case_1' the pattern"):
        check(opened(folder), groups="case_0")


def test_few_cases_are_noted(tmp_path):
    (finding,) = check(opened(make_dataset(tmp_path, cases=3, shape=SHAPE)))
    assert (finding.check, finding.severity) == ("few", "note")
    assert "which makes 3 folds" in finding.message


def test_remapped_masks_are_written_back_with_their_own_values(folder, tmp_path):
    all_255(folder)
    mended = check(opened(folder)).apply()
    label_map = mended["case_0"].label()
    assert set(np.unique(label_map.array)) == {0, 1}
    assert mended.labels.in_files == {1: 255}


def test_a_value_that_was_read_as_a_label_in_one_case_is_unknown_no_longer(folder):
    undeclared(folder)
    dataset = opened(folder)
    (finding,) = check(dataset)
    (value,) = {int(v) for case in dataset for v in np.unique(case.stored_label()[0])} - set(dataset.labels.permitted)
    assert f"declares {value} as a label of its own" in finding.fix.text
    assert not check(relabel(dataset, {value: 1}, *finding.cases))


def test_a_colour_picture_as_label_map_is_named_and_read_by_its_colours(tmp_path):
    for number in range(5):
        image = (voxels(number, (24, 28)).clip(0, 255)).astype(np.uint8)
        colours = np.zeros((24, 28, 3), np.uint8)
        colours[ball((24, 28)) > 0] = (200, 30, 30)
        for folder, name, array, vector in (
            ("imagesTr", f"case_{number}_0000.png", image, False),
            ("labelsTr", f"case_{number}.png", colours, True),
        ):
            (tmp_path / folder).mkdir(exist_ok=True)
            sitk.WriteImage(sitk.GetImageFromArray(array, isVector=vector), str(tmp_path / folder / name))
    facts = {"channel_names": {"0": "grey"}, "labels": {"background": 0, "cell": 1}, "numTraining": 5}
    (tmp_path / "dataset.json").write_text(json.dumps({**facts, "file_ending": ".png"}))
    findings = check(opened(tmp_path))
    (finding,) = findings["colours"]
    assert finding.severity == "error"
    assert "(200, 30, 30)" in finding.message
    mended = finding.apply()
    assert set(np.unique(mended["case_0"].label().array)) == {0, 1}
    assert not check(mended).errors


def test_label_maps_of_a_channel_a_class_are_named(folder):
    for number in range(6):
        stored = ball(SHAPE)
        layers = np.stack([stored == value for value in range(3)][: 2 + number % 2]).astype(np.int16)
        nib.save(nib.Nifti1Image(layers.T, np.eye(4)), label_path(folder, number))
    findings = check(opened(folder)).errors
    assert [(f.check, f.fix) for f in findings] == [("channels", None)]
    assert "has 2 channels; a label map has one integer a voxel" in findings[0].message
    assert len(findings[0].cases) == 6


def test_pictures_among_volumes_are_named_and_may_be_left_out(folder):
    for path, array in ((image_path(folder, 1), voxels(1, (20, 24))), (label_path(folder, 1), ball((20, 24)))):
        sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    (finding,) = check(opened(folder)).errors
    assert (finding.check, finding.cases) == ("dimensions", ("case_1",))
    assert "case 'case_1': the image is 2D, the others are 3D (such as 'case_0')" in finding.message
    assert not check(finding.apply()).errors


def test_colours_of_a_palette_are_read_by_their_numbers_in_it(tmp_path):
    from PIL import Image as Picture

    numbers = ball((24, 28))
    for number in range(5):
        write_volume(voxels(number, (24, 28)).clip(0, 255).astype(np.uint8), tmp_path / f"imagesTr/c{number}_0000.png")
        picture = Picture.fromarray(numbers, "P")
        picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])  # red is 1, though green sorts before it
        (tmp_path / "labelsTr").mkdir(exist_ok=True)
        picture.save(tmp_path / f"labelsTr/c{number}.png")
    facts = {"channel_names": {"0": "grey"}, "labels": {"background": 0, "liver": 1, "spleen": 2}, "numTraining": 5}
    (tmp_path / "dataset.json").write_text(json.dumps({**facts, "file_ending": ".png"}))
    (finding,) = check(opened(tmp_path))["colours"]
    assert "reads (0, 0, 0) as background, (0, 255, 0) as spleen, (255, 0, 0) as liver" in finding.fix.text
    np.testing.assert_array_equal(finding.apply()["c0"].label().array, numbers)


def test_grey_label_maps_that_are_stored_as_colours_are_read_and_noted(tmp_path):
    for number in range(5):
        write_volume(voxels(number, (24, 28)).clip(0, 255).astype(np.uint8), tmp_path / f"images/{number}.png")
        write_volume(ball((24, 28)), tmp_path / f"labels/{number}.bmp")  # a format whose grey is read as colours
    dataset = opened(tmp_path)
    (finding,) = check(dataset)
    assert (finding.check, finding.severity, len(finding.cases)) == ("colours", "note", 5)
    assert set(np.unique(dataset["0"].label().array)) == {0, 1, 2}


@pytest.mark.parametrize("ending", [".tif", ".npy"])
def test_a_label_map_whose_file_says_no_spacing_lies_on_its_image(tmp_path, ending):
    for number in range(5):
        write_volume(voxels(number, SHAPE), tmp_path / f"images/{number}.nii.gz", spacing=(3.0, 0.7, 0.7))
        path = tmp_path / f"labels/{number}{ending}"
        path.parent.mkdir(exist_ok=True)
        np.save(path, ball(SHAPE)) if ending == ".npy" else write_volume(ball(SHAPE), path)
    dataset = opened(tmp_path)
    assert not check(dataset)
    assert dataset["0"].label().grid == dataset["0"].image().grid


def test_a_spacing_is_put_right_along_the_axes_of_a_case_that_lies_otherwise(tmp_path):
    folder = make_dataset(tmp_path, cases=5)
    for number in range(5):
        for path in (image_path(folder, number), label_path(folder, number)):
            stored = sitk.ReadImage(str(path))
            stored.SetSpacing((1.0, 1.0, 3.0) if number else (100.0, 100.0, 300.0))
            sitk.WriteImage(stored if number else sitk.DICOMOrient(stored, "SRP"), str(path))
    findings = check(autoseg.open_dataset(folder))
    assert findings["spacing"].apply("spacing")["case_0"].image().grid.spacing == (1.0, 1.0, 3.0)
    assert "usually 1x1x3 mm" in findings["spacing"][0].message
    assert findings.apply("spacing", "orientation")["case_0"].image().grid.spacing == (3.0, 1.0, 1.0)


def test_no_spacing_is_proposed_where_the_usual_cases_lie_in_several_orientations(tmp_path):
    folder = make_dataset(tmp_path, cases=6)
    for number in range(6):
        for path in (image_path(folder, number), label_path(folder, number)):
            stored = sitk.ReadImage(str(path))
            stored.SetSpacing((1.0, 1.0, 3.0) if number else (100.0, 100.0, 300.0))
            sitk.WriteImage(stored if number % 2 else sitk.DICOMOrient(stored, "SRP"), str(path))
    (finding,) = check(autoseg.open_dataset(folder))["spacing"]
    assert finding.cases == ("case_0",)
    assert finding.fix is None


def test_label_maps_stored_in_another_orientation_are_called_turned(folder):
    for number in range(6):
        aside = np.roll(ball(SHAPE), 2, axis=2)
        for path, array, letters in (
            (image_path(folder, number), voxels(number, SHAPE) * 0.1 + 60 * (aside > 0), "LPS"),
            (label_path(folder, number), aside, "RAS"),
        ):
            sitk.WriteImage(sitk.DICOMOrient(sitk.GetImageFromArray(array), letters), str(path))
    (finding,) = check(opened(folder))["grids"]
    assert "direction [[" in finding.message
    assert "the label maps are really turned" in finding.message
    assert not check(finding.apply())["grids"]


@pytest.mark.parametrize("flat", [image_path, label_path])
def test_a_picture_beside_a_volume_of_one_slice_is_read_as_that_slice(tmp_path, flat):
    folder = make_dataset(tmp_path, cases=5, shape=(1, 20, 24))
    for number in range(5):
        stored = sitk.ReadImage(str(flat(folder, number)))
        sitk.WriteImage(stored[:, :, 0], str(flat(folder, number)))
    (finding,) = check(opened(folder))["grids"]
    assert "One is a picture, the other a volume of one slice" in finding.message
    assert finding.fix.safe
    case = finding.apply()["case_0"]
    assert case.label().grid == case.image().grid
    np.testing.assert_array_equal(case.label().array.squeeze(), ball((1, 20, 24))[0])
    assert not check(finding.apply())["grids"]


def test_channels_that_are_constant_each_with_its_own_value_are_not_called_by_one_of_them():
    images, labels = [np.full((9, 10, 11), i, np.float32) for i in range(3)], [ball((9, 10, 11))] * 3
    (finding,) = check(autoseg.dataset_from_arrays(images, labels))["constant"]
    assert "channel 'image' has one intensity a case (0, 1, 2) everywhere" in finding.message


def test_checks_of_ones_own_are_run_too(folder):
    def nothing_called_zero(survey):
        names = tuple(e.name for e in survey.training if e.name.endswith("0"))
        yield Finding(check="mine", severity="note", cases=names, message="ends with a zero")

    (finding,) = check(opened(folder), also=[nothing_called_zero])
    assert finding.cases == ("case_0",)


def test_a_check_of_ones_own_that_fails_or_yields_no_finding_is_named(folder):
    def forgetful(survey):
        return None

    def wordy(survey):
        yield "a word"

    for own, said in (
        (forgetful, "your check 'forgetful' failed: TypeError: .*It gets a Survey and yields a Finding"),
        (wordy, "your check 'wordy' yields 'a word', of type str; it must yield Finding"),
    ):
        with pytest.raises(DatasetError, match=said):
            check(opened(folder), also=[own])


def test_findings_are_data(folder):
    nan_in_image(folder)
    empty_label(folder)
    findings = check(opened(folder))
    assert [f.severity for f in findings] == ["error", "warning"]
    assert len(findings.errors) == len(findings.warnings) == 1
    assert findings.table()["check"].tolist() == ["nonfinite", "empty"]
    assert findings["nonfinite"][0].pictures()[0].labels.sum() == 1
    assert len(repr(findings).splitlines()) <= 5
    with pytest.raises(DatasetError, match="no finding with a fix is called 'nonfinit'.*nonfinite"):
        findings.apply("nonfinit")


def test_every_finding_has_a_picture_where_its_case_can_be_read(folder):
    moved_label(folder)
    (finding,) = check(opened(folder))
    assert [picture.title for picture in finding.pictures()] == ["voxel on voxel", "as the headers say"]


def test_mending_one_channel_leaves_the_others(folder):
    another_scale_in_one_channel(folder)
    dataset = opened(folder)
    (finding,) = check(dataset)
    before, after = dataset["case_2"].image().array, finding.apply()["case_2"].image().array
    np.testing.assert_array_equal(after[0], before[0])
    assert after[1].std() < before[1].std() / 100
    assert rescale(finding.apply(), 2, "case_2")["case_2"].image().array[0] == pytest.approx(2 * before[0])


def test_a_ct_that_was_stored_from_zero_is_read_in_hounsfield_units(folder):
    one_ct_from_zero(folder)
    (finding,) = check(opened(folder))
    assert finding.fix.text == "subtracts 1024"
    assert finding.apply()["case_3"].image().array.min() == -1000


@pytest.mark.parametrize("names", [("leftKidney", "rightKidney"), ("lh", "rh"), ("eye_lt", "eye_rt"), ("R-1", "L-1")])
def test_sides_are_told_by_many_names(folder, names):
    change_facts(folder, labels={"background": 0, names[0]: 1, names[1]: 2})
    assert [finding.check for finding in check(opened(folder))] == ["sides"]


def test_what_concerns_channels_is_drawn_channel_by_channel(folder):
    channels_apart(folder)
    (finding,) = check(opened(folder))
    assert [(p.title, p.image.channels) for p in finding.pictures()] == [("T1", ("T1",)), ("T2", ("T2",))]
    another_scale_in_one_channel(folder)
    (finding,) = check(opened(folder))
    assert [p.title for p in finding.pictures()] == ["T2"]


def test_displacement_is_counted_in_voxels_of_the_image():
    image = Grid.of((4, 4, 4), (2.0, 1.0, 1.0))
    assert displacement(replace(image, origin=(0.0, 0.0, 4.0)), image) == 2.0
    assert displacement(image, image) == 0.0


def test_how_well_labels_and_edges_meet_is_said_in_plain_words(folder):
    moved_label(folder)
    (finding,) = check(opened(folder))
    assert re.search(
        r"at the border of the labels the image changes [\d.]+ times as strongly as around it if one is laid on the "
        r"other voxel on voxel, [\d.]+ times if both lie where their headers say, (so the|which)",
        finding.message,
    )


def test_a_scale_is_told_without_an_exponent_and_of_the_case_that_has_it():
    (found,) = autoseg.check(autoseg.sample_dataset("wrong_scale"), show_progress=False)
    assert re.search(r"\(in 'case_2' 149,\d{3} against 149\.\d\)", found.message), found.message
