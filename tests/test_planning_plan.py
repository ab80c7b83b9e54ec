"""The plan as an object: questions, alternatives, comparisons, and its file."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from configurations import configuration
from hypothesis import given, settings
from planning_examples import fingerprint_from, fingerprint_of, fingerprints

from autoseg.core.errors import PlanError, StorageError
from autoseg.data.labels import Labels
from autoseg.data.normalization import NoNormalization, ZScore
from autoseg.planning.configuration import Resampling
from autoseg.planning.plan import Plan
from autoseg.planning.planner import make_plan

PLAN = make_plan(fingerprint_of((180, 220, 180), channels=("T1", "T2")))
CASCADE = make_plan(fingerprint_of((400, 400, 400)))


def test_configurations_are_found_by_name():
    assert PLAN["2d"].name == "2d"
    assert "3d_fullres" in PLAN
    assert "3d_lowres" not in PLAN
    assert [c.name for c in CASCADE] == ["2d", "3d_lowres", "3d_fullres", "3d_cascade_fullres"]


def test_a_configuration_that_there_is_not_says_why():
    with pytest.raises(PlanError, match="no configuration '3d_lowres': a patch shows 29% of the image"):
        PLAN["3d_lowres"]
    with pytest.raises(PlanError, match="no configuration '3d_fulres'. Did you mean '3d_fullres'"):
        PLAN["3d_fulres"]
    with pytest.raises(PlanError, match=r"no configuration 'foo'\. Known: 2d, 3d_fullres\.$"):
        PLAN["foo"]


def test_one_of_a_kind_is_written_in_the_singular():
    one = make_plan(fingerprint_of((40, 40, 40), foreground=1))
    assert repr(one.fingerprint).endswith(" 1 foreground label")
    assert "1 channel in, 2 outputs" in repr(one.why("3d_fullres/network"))


@settings(max_examples=30, deadline=None)
@given(fingerprints())
def test_no_change_is_the_same_plan(fingerprint):
    plan = make_plan(fingerprint)
    assert plan.what_if() == plan
    assert not plan.compare(plan.what_if())


@pytest.mark.parametrize(
    ("change", "decision"),
    [
        ({"memory_gb": 4}, "3d_fullres/patch_size"),
        ({"preset": "resenc_l"}, "3d_fullres/network"),
        ({"max_dataset_fraction": 0.001}, "2d/batch_size"),
        ({"spacing": (3, 1, 1)}, "target_spacing"),
        ({"spacing": np.array([3, 1, 1])}, "target_spacing"),
        ({"shape": (40, 40, 40)}, "median_shape"),
        ({"shape": (100, 100)}, "median_shape"),
        ({"cases": 2}, "2d/batch_size"),
        ({"channels": 4}, "3d_fullres/network"),
        ({"channels": ("CT",)}, "normalization/CT"),
        ({"labels": 9}, "3d_fullres/network"),
        ({"labels": Labels({"background": 0, "a": 1})}, "3d_fullres/network"),
        ({"relative_size": 0.5}, "mask_background"),
        ({"patch_size": (64, 64, 64)}, "3d_fullres/patch_size"),
        ({"2d/patch_size": (64, 64)}, "2d/patch_size"),
        ({"batch_size": 7}, "2d/batch_size"),
        ({"batch_dice": True}, "3d_fullres/batch_dice"),
        ({"target_spacing": (2, 2, 2)}, "target_spacing"),
        ({"axis_order": (2, 0, 1)}, "axis_order"),
        ({"dimensions": (2,)}, "dimensions"),
        ({"lowres": (3.0, 3.0, 3.0)}, "lowres"),
        ({"mask_background": True}, "mask_background"),
        ({"normalization/T1": NoNormalization()}, "normalization/T1"),
        ({"normalization": NoNormalization()}, "normalization/T2"),
        ({"resampling": Resampling(image_order=1)}, "resampling"),
        ({"3d_fullres/features": [16, 32, 64, 128, 256, 256]}, "3d_fullres/features"),
    ],
)
def test_any_fact_budget_or_decision_can_be_changed(change, decision):
    other = PLAN.what_if(change)
    assert decision in {c.name for c in PLAN.compare(other).changes}


def test_spacing_and_shape_become_the_median_of_all_cases():
    fingerprint = fingerprint_from([((60, 80, 80), (2.0, 1.0, 1.0)), ((60, 90, 80), (4.0, 1.0, 1.0))] * 3)
    other = make_plan(fingerprint).what_if(spacing=(1.5, 0.5, 0.5), shape=(120, 100, 100)).fingerprint
    assert np.median(other.spacings, axis=0) == pytest.approx([1.5, 0.5, 0.5])
    assert np.median(other.shapes, axis=0) == pytest.approx([120, 100, 100], abs=1)


def test_a_short_name_reaches_every_configuration_with_as_many_axes():
    other = CASCADE.what_if(patch_size=(64, 64, 64))
    assert {c.name for c in other if c.patch_size == (64, 64, 64)} == {"3d_lowres", "3d_fullres", "3d_cascade_fullres"}
    assert other["2d"].patch_size == CASCADE["2d"].patch_size


def test_changes_add_up_and_the_later_one_counts():
    twice = PLAN.what_if(patch_size=(64, 64, 64)).what_if(memory_gb=4).what_if(patch_size=(96, 96, 96))
    assert twice == PLAN.what_if(memory_gb=4, patch_size=(96, 96, 96))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pach_size": (64, 64, 64)}, "nothing is called 'pach_size'. Did you mean 'patch_size'"),
        ({"memory": 4}, "nothing is called 'memory'. Did you mean 'memory_gb'"),
        ({"memory_gb": -1}, "not a positive number"),
        ({"preset": "resnet_l"}, "Did you mean 'resenc_l'"),
        ({"max_dataset_fraction": 2}, "above 0 and at most 1"),
        ({"spacing": (0, 1, 1)}, "needs three positive numbers"),
        ({"spacing": 1}, "needs three positive numbers"),
        ({"shape": (1, 2, 3, 4)}, "needs three positive numbers"),
        ({"cases": 1.5}, "must be a whole number"),
        ({"cases": True}, "must be a whole number"),
        ({"channels": 0}, "must be a number of channels"),
        ({"labels": "liver"}, "must be Labels"),
        ({"relative_size": 0}, "must be above 0"),
        ({"patch_size": (100, 100, 100)}, "Nearest that fit: 96x96x96 and 112x112x112"),
    ],
)
def test_changes_that_make_no_sense_are_refused(change, message):
    with pytest.raises(PlanError, match=message):
        PLAN.what_if(change)


def test_a_comparison_names_the_first_branch_that_turned_and_what_it_pulled_along():
    comparison = PLAN.compare(PLAN.what_if(shape=(400, 400, 400)))
    assert comparison.first.name == "lowres"
    assert "not needed -> planned" in comparison.first.flipped
    assert {"cascade", "3d_fullres/batch_dice", "3d_lowres/patch_size"} <= {c.name for c in comparison.followers}
    assert "median shape: 180x220x180 -> 400x400x400" in comparison.causes


def test_a_patch_that_no_longer_fits_is_the_first_to_turn():
    comparison = PLAN.compare(PLAN.what_if(memory_gb=4))
    assert comparison.causes == ("GPU memory in GB: 8 -> 4",)
    assert comparison.first.name == "3d_fullres/patch_size"
    assert "128x128x128 fitted, now it is too large" in comparison.first.flipped


def test_a_flip_says_the_number_that_turned_over():
    comparison = PLAN.compare(PLAN.what_if(relative_size=0.5))
    assert "1 < 0.75 does not hold; now" in comparison.first.flipped


def test_comparing_backwards_finds_the_same_decisions():
    other = PLAN.what_if(memory_gb=4)
    there, back = PLAN.compare(other), other.compare(PLAN)
    assert {c.name for c in there.changes} == {c.name for c in back.changes}
    assert back.first.name == there.first.name
    assert "fits now, it was too large" in back.first.flipped


def test_a_change_without_effect_is_said_to_have_none():
    comparison = PLAN.compare(PLAN.what_if(cascade=False))
    assert repr(comparison) == "the plans are the same (cascade: by its rule -> no changed nothing)"


@settings(max_examples=15, deadline=None)
@given(fingerprints())
def test_a_plan_comes_back_from_its_file(tmp_path_factory, fingerprint):
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    plan = make_plan(fingerprint)
    assert Plan.load(plan.save(path)) == plan


def test_given_values_of_every_kind_come_back_from_the_file(tmp_path):
    plan = CASCADE.what_if(
        {"normalization": ZScore()},
        patch_size=(64, 64, 64),
        batch_size=3,
        batch_dice=False,
        lowres=(4.0, 4.0, 4.0),
        mask_background=True,
        resampling=Resampling(image_order=1),
    )
    again = Plan.load(plan.save(tmp_path / "plan.json"))
    assert again == plan
    assert again.given == plan.given


def test_a_file_changed_by_hand_is_refused_with_what_to_do(tmp_path):
    path = PLAN.save(tmp_path / "plan.json")
    content = json.loads(path.read_text())
    content["configurations"][1]["batch_size"] = 9
    path.write_text(json.dumps(content))
    with pytest.raises(
        StorageError,
        match=r"3d_fullres/batch_size is stored as 9, but the facts .* give 2.* use plan.what_if",
    ):
        Plan.load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"configurations": {}}, "not a plan that autoseg saved. nnU-Net's plans: autoseg.plan_from_nnunet"),
        ([1], "not a plan that autoseg saved"),
    ],
)
def test_another_file_is_no_plan(tmp_path, content, message):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(content))
    with pytest.raises(StorageError, match=message):
        Plan.load(path)


def test_an_unknown_given_name_in_the_file_is_refused(tmp_path):
    path = PLAN.what_if(batch_size=3).save(tmp_path / "plan.json")
    path.write_text(path.read_text().replace('"2d/batch_size": 3', '"2d/batch_sise": 3'))
    with pytest.raises(StorageError, match="gives '2d/batch_sise', which this version does not decide"):
        Plan.load(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": (16, 16)}, "need one number an axis"),
        ({"axis_order": (0, 0, 1)}, r"\(0, 0, 1\) each axis once"),
        (
            {"patch_size": (16, 15, 16)},
            r"cannot be divided by the network's strides, which need multiples of \(2, 2, 2\)",
        ),
        ({"patch_size": (16, 0, 16)}, "cannot be divided"),
        ({"network": replace(configuration().network, classes=2)}, r"give 3 outputs; .*, and it gives 2"),
        ({"spacing": (1.0, float("nan"), 1.0)}, "must be positive millimetres"),
        ({"spacing": (1.0, 0.0, 1.0)}, "must be positive millimetres"),
        ({"patch_size": (16, 16, 2**40)}, r"below 2\^31"),
        (
            {"labels": Labels({"background": 0, "a": 1, "b": 40_000})},
            "value 40,000, and .* up to 32,767. Number the labels",
        ),
        ({"mask_background": ()}, r"1 channel\(s\) need as many normalizations and masks"),
    ],
)
def test_a_configuration_that_cannot_work_is_not_made(changes, message):
    with pytest.raises(PlanError, match=message):
        configuration(**changes)


def test_a_network_has_strides_of_one_and_more():
    with pytest.raises(PlanError, match="need one number >= 1 an axis"):
        replace(configuration().network, strides=((1, 1, 1), (2, 0, 2)))
    with pytest.raises(PlanError, match="need one number >= 1 an axis"):
        replace(configuration().network, kernel_sizes=((3, 3, 3), (3, 3)))


def test_what_changed_before_the_first_branch_that_turned_is_named():
    comparison = PLAN.compare(PLAN.what_if(spacing=(2.5, 1.0, 1.0)))
    assert comparison.first.name != "target_spacing"
    assert comparison.earlier == "target_spacing changed before it, but took the same branch"
    assert f"\n  ({comparison.earlier})\n" in repr(comparison)
    assert comparison.earlier in comparison._repr_html_()
    assert PLAN.compare(PLAN.what_if(memory_gb=4)).earlier == ""


def test_a_patch_that_fits_now_is_not_said_to_be_shortened():
    back = PLAN.what_if(memory_gb=4).compare(PLAN)
    assert back.first.flipped.endswith(" GB")
    assert "shortened" not in back.first.flipped


def test_values_of_several_numbers_are_words():
    assert "resampling = splines of order 3 for images, 1 for labels; the coarse axis on its own beyond 3 : 1" in repr(
        PLAN.why("resampling")
    )
    assert "intensities = mean " in repr(PLAN.why("normalization"))
    assert "IntensityFacts(" not in repr(PLAN.why("normalization"))


def test_the_card_of_a_cascade_says_what_its_second_stage_sees():
    assert "2 label maps of 3d_lowres (3 channels in)" in CASCADE["3d_cascade_fullres"]._repr_html_()
    assert "also sees" not in CASCADE["3d_fullres"]._repr_html_()
