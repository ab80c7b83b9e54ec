"""Every sample is what its name says, exactly; every exercise takes the right answer and explains the wrong ones."""

from __future__ import annotations

import hashlib
import re

import numpy as np
import pytest

import autoseg
from autoseg.core.errors import DatasetError
from autoseg.data.generated import FAULTS, GENERATED, RULES
from autoseg.gym.questions import EXERCISES, KINDS, NOTHING

TRUE = {  # the answers, which stand nowhere in the package
    "nearly_anisotropic": "median",
    "anisotropic": "10th percentile",
    "thick_but_many": "median",
    "mixed_thickness": "just above the next axis",
    "sagittal": "coarsest axis first",
    "nearly_sagittal": "as it is",
    "nearly_coarse_axis": "all axes alike",
    "coarse_axis": "coarse axis apart",
    "nearly_twice_as_coarse": "all axes alike",
    "twice_as_coarse": "coarse axis later",
    "nearly_deep": 4,
    "deep": 5,
    "two_slices": "2D and 3D",
    "single_slice": "only 2D",
    "mri": "ZScore",
    "ct": "CTNormalization",
    "rgb_undeclared": "ZScore",
    "rgb": "RGBTo01",
    "rescaled": "RescaleTo01",
    "as_it_is": "NoNormalization",
    "sparse": "inside the patient",
    "nearly_sparse": "all voxels",
    "sparse_ct": "none",
    "not_tiny": "shortened until it fits",
    "tiny": "the median image fits",
    "nearly_huge": "dropped",
    "huge": "planned",
    "few_voxels": "smallest batch",
    "enough_voxels": "dataset decides",
    "many_voxels": "memory decides",
    "nearly_flat": "the patch turns about each axis",
    "flat": "a flat patch turns in its plane only",
    "oblong": "an oblong patch turns little",
    "nearly_oblong": "a nearly square patch turns freely",
    "many_channels": 4,
    "several_classes": 4,
    "regions": 3,
    "ignore_label": 2,
    "unknown_as_class": 3,
    "sound": NOTHING,
    "five_cases": NOTHING,
    "shifted_header": "grids",
    "wrong_spacing": "grids",
    "masks_0_255": "values",
    "interpolated_labels": "broken",
    "empty_label": "empty",
    "image_as_label": "intensities",
    "nan": "nonfinite",
    "blank_image": "constant",
    "wrong_scale": "scale",
    "ct_called_mr": "modality",
    "mr_called_ct": "modality",
    "turned_case": "orientation",
    "swapped_sides": "swapped",
    "left_and_right": "sides",
    "duplicated_case": "duplicates",
    "patient_leakage": "leakage",
    "few_cases": "few",
    "unused_label": "unused",
}
ASKED_TWICE = {  # of one dataset
    ("not_tiny", "lowres"): "not needed",
    ("nearly_huge", "3d_fullres/batch_dice"): "over each patch",
    ("huge", "3d_fullres/batch_dice"): "over the batch as one",
}
NUMBERS = range(1, len(EXERCISES) + 1)
MENDED = ("shifted_header", "wrong_spacing", "masks_0_255", "interpolated_labels", "empty_label", "nan", "blank_image")
MENDED += (
    "ct_called_mr",
    "mr_called_ct",
    "turned_case",
    "duplicated_case",
    "unused_label",
    "wrong_scale",
    "swapped_sides",
)


def content(dataset):
    key = hashlib.blake2b(digest_size=8)
    for case in dataset:
        key.update(repr((case.name, case.image().grid, case.stored_label()[1])).encode())
        key.update(case.image().array.tobytes() + case.stored_label()[0].tobytes())
    return key.hexdigest()


@pytest.mark.parametrize("name", GENERATED)
def test_samples_are_made_the_same_again_and_are_small(name):
    first, again = autoseg.sample_dataset(name), autoseg.sample_dataset(name)
    assert content(first) == content(again)
    assert sum(case.image().array.nbytes for case in first) < 6e6


def test_every_machine_makes_the_same_voxels():
    assert content(autoseg.sample_dataset("sound")) == "5186272c4413c4d7"


def test_samples_differ_and_are_listed():
    assert len({content(autoseg.sample_dataset(name)) for name in GENERATED}) == len(GENERATED)
    assert set(autoseg.samples()) == {"seahorse", *RULES, *FAULTS}
    with pytest.raises(DatasetError, match=r"no sample dataset is called 'anisotropik'\. Did you mean 'anisotropic'\?"):
        autoseg.sample_dataset("anisotropik")


@pytest.mark.parametrize("name", RULES)
def test_samples_of_rules_have_no_fault(name):
    findings = autoseg.check(autoseg.sample_dataset(name), show_progress=False)
    assert not findings.errors
    assert not findings.warnings


@pytest.mark.parametrize("name", FAULTS)
def test_samples_of_faults_have_that_one_only(name):
    findings = autoseg.check(autoseg.sample_dataset(name), show_progress=False)
    also = ["sides"] if name == "swapped_sides" else []  # no left and right without that warning
    assert [f.check for f in findings] == ([] if TRUE[name] == NOTHING else [TRUE[name], *also])


@pytest.mark.parametrize("name", MENDED)
def test_the_fix_of_a_fault_mends_it(name):
    findings = autoseg.check(autoseg.sample_dataset(name), show_progress=False)
    mended = autoseg.check(findings.apply(TRUE[name]), show_progress=False)
    assert not [f for f in mended if f.check == TRUE[name]]
    autoseg.make_plan(autoseg.extract_fingerprint(findings.apply(TRUE[name]), show_progress=False))


def test_patients_are_parted_by_folds_until_they_are_known():
    dataset = autoseg.sample_dataset("patient_leakage")
    (finding,) = autoseg.check(dataset, groups=r"(.*)_", show_progress=False)
    assert (finding.check, finding.severity) == ("leakage", "error")
    assert not autoseg.check(finding.apply(), groups=r"(.*)_", show_progress=False)


def test_every_sample_is_asked_about_and_every_kind_of_fault_occurs():
    assert {name for name, _, _ in EXERCISES} == set(GENERATED) == set(TRUE)
    assert {TRUE[name] for name in FAULTS} == set(KINDS)


@pytest.mark.parametrize("number", NUMBERS)
def test_exercises_take_the_right_answer_only(number):
    exercise = autoseg.exercise(number)
    name, question, _ = EXERCISES[number - 1]
    true = ASKED_TWICE.get((name, question.decision), TRUE[name])
    right = exercise.answer(true)
    assert right.right
    assert right == exercise.solution()
    assert right.evidence is not None
    assert len(right.told) > len(f"Right: {true!r}. ")
    also = {"sides"} if name == "swapped_sides" else set()  # is right too
    for other in set(question.choices or (1, 5)) - {true} - also:
        wrong = exercise.answer(other)
        assert not wrong.right
        assert wrong.evidence is None
        assert wrong.told.startswith(f"Not {other!r}. ")
        assert len(wrong.told) > 40
        assert repr(true) not in wrong.told


@pytest.mark.parametrize("number", NUMBERS)
def test_no_answer_is_visible_before(number):
    exercise = autoseg.exercise(number)
    name, question, _ = EXERCISES[number - 1]
    solved = exercise.solution()
    reason = solved.told.partition(". ")[2]
    for shown in (repr(exercise), exercise._repr_html_()):
        assert question.asks in shown
        assert f"xercise {number}" in re.sub("<[^>]*>", "", shown)
        assert name not in shown or "_" not in name
        assert reason not in shown
        assert "(no picture" not in shown
    assert "(no picture" not in solved._repr_html_()


def test_what_a_wrong_answer_explains():
    told = autoseg.exercise("anisotropic").answer("median").told
    assert "Is 5 > 3 mm" in told
    assert "Is 30 < 40 voxels" in told
    assert autoseg.exercise("nan").answer("nothing").told.startswith("Not 'nothing'. The check-up finds something.")
    assert "case.image().grid.orientation" in autoseg.exercise("nan").answer("orientation").told


def test_the_case_of_a_fault_is_checked_too():
    exercise = autoseg.exercise("nan")
    assert exercise.answer("nonfinite", case="case_2").right
    wrong = exercise.answer("nonfinite", case="case_3")
    assert (wrong.right, wrong.told) == (False, "'nonfinite' is right, but not in 'case_3'. Look at others.")
    assert autoseg.exercise("few_cases").answer("few", case="case_0").right, "concerns the whole dataset"
    assert not autoseg.exercise("swapped_sides").answer("swapped", case="case_1").right
    with pytest.raises(DatasetError, match="has no case 'case_9'"):
        exercise.answer("nonfinite", case="case_9")


def test_dots_are_no_answer_yet():
    checked = autoseg.exercise(1).answer(...)
    assert (checked.right, checked.told) == (False, "Put your answer in place of the three dots.")
    assert "not yet" in checked._repr_html_()


def test_both_findings_are_right_where_there_are_two():
    exercise = autoseg.exercise("swapped_sides")
    assert exercise.answer("swapped", case="case_2").right
    assert exercise.answer("sides").right


def test_capitals_and_spaces_do_not_count_and_a_whole_number_is_one_in_any_type():
    spacing, inputs = autoseg.exercise("anisotropic"), autoseg.exercise("many_channels")
    assert spacing.answer(" 10th Percentile ").right
    assert not spacing.answer("MEDIAN").right
    assert inputs.answer(4.0).right
    assert inputs.answer(np.int64(4)).right
    assert autoseg.exercise(np.int64(2)).number == 2


@pytest.mark.parametrize("odd", [None, [], ["median"], {"median": 1}, np.zeros(2), True, float("nan"), "4 mm", 2.5])
def test_odd_answers_are_refused_in_words(odd):
    with pytest.raises(DatasetError, match="is none of the choices"):
        autoseg.exercise("anisotropic").answer(odd)
    with pytest.raises(DatasetError, match="is not a whole number"):
        autoseg.exercise("many_channels").answer(odd)


def test_the_help_gives_no_answer_away():
    for shown in (autoseg.exercise, type(autoseg.exercise(1)).answer, autoseg.sample_dataset):
        assert "Right:" not in shown.__doc__


def test_every_rule_has_a_dataset_for_each_of_its_branches():
    seen: dict[str, set[str]] = {}
    for number in NUMBERS:
        exercise = autoseg.exercise(number)
        if exercise.fingerprint is not None:
            for decision in autoseg.make_plan(exercise.fingerprint, exercise.budget).trace:
                if decision.branch:
                    seen.setdefault(decision.name.rpartition("/")[2], set()).add(decision.branch)
    several = {rule: len(branches) for rule, branches in seen.items()}
    assert several == {
        "target_spacing": 3,
        "axis_order": 2,
        "dimensions": 2,
        "mask_background": 3,
        "resampling": 2,
        "patch_size": 2,
        "topology": 2,
        "batch_size": 3,
        "augmentation": 4,
        "lowres": 3,
        "cascade": 2,
        "batch_dice": 2,
    }


def test_what_cannot_be_an_answer_is_refused():
    with pytest.raises(DatasetError, match=r"'mediann' is none of the choices\. Did you mean 'median'\?"):
        autoseg.exercise(1).answer("mediann")
    with pytest.raises(DatasetError, match="'four' is not a whole number, which is what exercise 38 asks for"):
        autoseg.exercise("many_channels").answer("four")
    with pytest.raises(DatasetError, match="there is no exercise 99. They are numbered 1 to 62"):
        autoseg.exercise(99)
    with pytest.raises(DatasetError, match="there is no exercise '2'. They are numbered"):
        autoseg.exercise("2")
    with pytest.raises(DatasetError, match="there is no exercise True"):
        autoseg.exercise(True)
    with pytest.raises(DatasetError, match="there is no exercise 'spars'. Did you mean 'sparse'"):
        autoseg.exercise("spars")


def test_voxels_are_whole_numbers():
    for name in RULES:
        array = autoseg.sample_dataset(name)[0].image().array
        np.testing.assert_array_equal(array, np.rint(array))


def test_a_fault_in_the_header_of_a_label_map_is_told_with_both_headers():
    (spacing,) = autoseg.check(autoseg.sample_dataset("wrong_spacing"), show_progress=False)
    assert "16x24x24 voxels of 3x1x1 mm but the image is 16x24x24 voxels of 1.5x1x1 mm" in spacing.message
    assert spacing.cases == ("case_2",)
    (shifted,) = autoseg.check(autoseg.sample_dataset("shifted_header"), show_progress=False)
    assert "the label map lies up to 4.0 voxels away from its image" in shifted.message
    assert shifted.fix.safe


def test_exchanged_sides_are_told_by_where_they_lie():
    finding, _ = autoseg.check(autoseg.sample_dataset("swapped_sides"), show_progress=False)
    assert finding.cases == ("case_2",)
    assert "in case 'case_2' 'left kidney' lies to the right of 'right kidney' (12 mm in 'case_2')" in finding.message
    assert "in the others to the left" in finding.message
    few = autoseg.sample_dataset("swapped_sides").without("case_3", "case_4", "case_5")
    assert not autoseg.check(few, show_progress=False)["swapped"]
