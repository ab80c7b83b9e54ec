"""nnU-Net's fingerprints and plans, there and back, and foreign plans explained key by key."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from planning_examples import fingerprint_of
from test_planning_golden import PRESET_OF, golden

from autoseg.core.errors import PlanError
from autoseg.data.normalization import NoNormalization
from autoseg.interop.nnunet_edits import explain_plan
from autoseg.interop.nnunet_plans import (
    fingerprint_from_nnunet,
    fingerprint_to_nnunet,
    plan_from_nnunet,
    plan_to_nnunet,
)
from autoseg.planning.budget import Budget
from autoseg.planning.planner import make_plan

PLAN = make_plan(fingerprint_of((300, 320, 300), channels=("CT", "T2")))
RULES = "as the rules give"


def plans() -> Any:
    """A fresh copy of the file, to be edited."""
    return json.loads(json.dumps(plan_to_nnunet(PLAN)))


def explained(edited: Any) -> Any:
    return explain_plan(edited, PLAN.fingerprint)


def of_golden(reference):
    for entry in golden(reference):
        fingerprint = fingerprint_from_nnunet(entry["fingerprint"], entry["dataset"])
        for planner, expected in entry["plans"].items():
            yield fingerprint, Budget(preset=PRESET_OF[planner], memory_gb=expected["gpu_memory_target_in_gb"])


def test_golden_fingerprints_come_back_as_nnunet_wrote_them(reference):
    for entry in golden(reference):
        facts = entry["fingerprint"]
        back = fingerprint_to_nnunet(fingerprint_from_nnunet(facts, entry["dataset"]))
        for key, value in facts.items():
            assert json.loads(json.dumps(back[key])) == value


def test_golden_plans_come_back_from_their_own_json(reference):
    for number, (fingerprint, budget) in enumerate(of_golden(reference)):
        if number % 6:
            continue
        plan = make_plan(fingerprint, budget)
        again = plan_from_nnunet(json.loads(json.dumps(plan_to_nnunet(plan))), fingerprint, budget=budget)
        assert again == plan
        assert again.given == {}


def test_the_memory_target_is_found_from_what_was_decided():
    plan = PLAN.what_if(memory_gb=24)
    again = plan_from_nnunet(plan_to_nnunet(plan), PLAN.fingerprint)
    assert again.budget.gpu_memory_gb == 24
    assert again.given == {}


@pytest.mark.parametrize(
    "change",
    [
        {"patch_size": (64, 64, 64)},
        {"batch_size": 5, "batch_dice": False},
        {"target_spacing": (2.0, 1.5, 1.5)},
        {"lowres": None},
        {"lowres": (3.0, 3.0, 3.0)},
        {"cascade": False},
        {"mask_background": (False, True)},
        {"normalization/CT": NoNormalization()},
        {"3d_fullres/features": (16, 32, 64, 128, 256, 320)},
        {"preset": "resenc_m"},
    ],
)
def test_plans_with_own_values_come_back(change):
    plan = PLAN.what_if(change)
    again = plan_from_nnunet(json.loads(json.dumps(plan_to_nnunet(plan))), plan.fingerprint, budget=plan.budget)
    assert again.configurations == plan.configurations


def test_a_network_of_the_other_kind_comes_back():
    edited = plans()
    settings = edited["configurations"]["3d_fullres"]["architecture"]
    settings["network_class_name"] = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
    settings["arch_kwargs"]["n_blocks_per_stage"] = settings["arch_kwargs"].pop("n_conv_per_stage")
    again = plan_from_nnunet(edited, PLAN.fingerprint)
    assert {c.name: c.network.kind for c in again} == {
        "2d": "plain", "3d_lowres": "plain", "3d_fullres": "residual", "3d_cascade_fullres": "residual",
    }  # fmt: skip


def test_a_normalization_of_your_own_cannot_be_written():
    plan = PLAN.what_if(normalization=lambda channel, inside: channel)
    with pytest.raises(PlanError, match="nnU-Net knows no normalization"):
        plan_to_nnunet(plan)


# foreign plans


def without(*path):
    def edit(data):
        for key in path[:-1]:
            data = data[key]
        del data[path[-1]]

    return edit


def with_(value, *path):
    def edit(data):
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    return edit


def test_every_key_of_an_unedited_golden_plan_is_as_the_rules_give(reference):
    for number, (fingerprint, budget) in enumerate(of_golden(reference)):
        if number % 20 == 0:
            report = explain_plan(plan_to_nnunet(make_plan(fingerprint, budget)), fingerprint, budget=budget)
            assert [str(key) for key in report.departures] == []


@pytest.mark.parametrize("name", ["Dataset004_Hippocampus", "Dataset117_ProstateMRsmall"])
def test_every_key_of_a_real_plan_is_as_the_rules_give(reference, name):
    folder = reference / "real_plans" / name
    facts, dataset, written = (
        json.loads((folder / f"{file}.json").read_text()) for file in ("dataset_fingerprint", "dataset", "nnUNetPlans")
    )
    report = explain_plan(written, fingerprint_from_nnunet(facts, dataset, name=name))
    assert report.departures == ()
    assert len(tuple(report)) > 30


FULL = ("configurations", "3d_fullres")
NETWORK = (*FULL, "architecture", "arch_kwargs")
INTENSITIES, CASCADE = "foreground_intensity_properties_per_channel", "3d_cascade_fullres/"


def edit_settings(**values):
    return lambda p: p["configurations"]["3d_fullres"].update(values)


def edit_network(**values):
    return lambda p: p["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"].update(values)


@pytest.mark.parametrize(
    ("edit", "key", "rules_give"),
    [
        (edit_settings(batch_size=7), "3d_fullres/batch_size", 2),
        (edit_settings(patch_size=[64, 64, 64]), "3d_fullres/patch_size", [128, 128, 128]),
        (edit_settings(batch_dice=False), "3d_fullres/batch_dice", True),
        (edit_settings(spacing=[2.0, 2.0, 2.0]), "3d_fullres/spacing", [1.0, 1.0, 1.0]),
        (
            edit_network(features_per_stage=[16, 32, 64, 128, 256, 320]),
            "3d_fullres/features_per_stage",
            [32, 64, 128, 256, 320, 320],
        ),
        (edit_network(n_conv_per_stage=[3, 2, 2, 2, 2, 2]), "3d_fullres/n_conv_per_stage", [2] * 6),
    ],
)
def test_an_edit_is_named_with_what_the_rules_would_have_given_and_why(edit, key, rules_give):
    edited = plans()
    edit(edited)
    found = explained(edited)[key]
    assert found.origin == "edited by hand"
    assert found.rules_give == rules_give
    assert found.reason
    assert f"{key} = " in repr(explained(edited))


def test_what_follows_from_an_edit_is_not_called_an_edit():
    plan = PLAN.what_if({"3d_fullres/patch_size": (64, 64, 64)})
    report = explain_plan(plan_to_nnunet(plan), PLAN.fingerprint)
    assert report["3d_fullres/patch_size"].origin == "edited by hand"
    assert report["3d_fullres/strides"].origin == "follows from an edited value"
    assert "3d_fullres/patch_size" in report["3d_fullres/strides"].reason
    assert report["2d/patch_size"].origin == RULES


def test_a_normalization_edited_everywhere_is_named():
    edited = plans()
    for configuration in edited["configurations"].values():
        if "normalization_schemes" in configuration:
            configuration["normalization_schemes"] = ["ZScoreNormalization", "ZScoreNormalization"]
    found = explained(edited)["3d_fullres/normalization_schemes"]
    assert found.origin == "edited by hand"
    assert found.rules_give == ["CTNormalization", "ZScoreNormalization"]
    assert "absolute" in found.reason


def test_a_key_of_ones_own_is_an_edit_and_the_rest_is_still_compared():
    edited = plans()
    edited["configurations"]["3d_fullres"]["my_setting"] = 3
    edited["configurations"]["3d_fullres"]["batch_size"] = 7
    report = explained(edited)
    assert report["3d_fullres/my_setting"].origin != RULES
    assert report["3d_fullres/batch_size"].origin == "edited by hand"
    assert report["3d_fullres/patch_size"].origin == RULES


def test_another_network_is_named_and_the_rest_is_still_compared():
    edited = plans()
    edited["configurations"]["3d_fullres"]["architecture"]["network_class_name"] = "my.Mamba"
    report = explained(edited)
    assert report["3d_fullres/network_class_name"].origin == "edited by hand"
    assert {k.key for k in report.departures} == {"3d_fullres/network_class_name"}


def test_what_another_planner_decides_otherwise_is_its_own():
    edited = plans()
    edited["experiment_planner_used"] = "MyPlanner"
    edited["configurations"]["3d_fullres"]["batch_size"] = 7
    report = explained(edited)
    assert report.planner == "MyPlanner"
    assert report["3d_fullres/batch_size"].origin == "from another planner"
    assert report["3d_fullres/patch_size"].origin == RULES


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (with_(8, *NETWORK, "n_stages"), "3d_fullres/n_stages"),
        (with_("3d_mine", "configurations", "3d_lowres", "next_stage"), "3d_lowres/next_stage"),
        (with_([0, 2, 1], "transpose_backward"), "transpose_backward"),
        (with_(1, *FULL, "resampling_fn_seg_kwargs", "order_z"), "3d_fullres/resampling_fn_seg_kwargs"),
        (with_(0, "foreground_intensity_properties_per_channel", "0", "max"), INTENSITIES),
        (with_("MyManager", "label_manager"), "label_manager"),
        (with_([1, 1, 1], "original_median_shape_after_transp"), "original_median_shape_after_transp"),
        (with_(False, *NETWORK, "conv_bias"), "3d_fullres/conv_bias"),
        (with_("3d_mine", "configurations", "3d_cascade_fullres", "inherits_from"), CASCADE + "inherits_from"),
        (with_(4, "configurations", "3d_cascade_fullres", "batch_size"), CASCADE + "batch_size"),
        (with_(["conv_op"], *FULL, "architecture", "_kw_requires_import"), "3d_fullres/_kw_requires_import"),
    ],
)  # fmt: skip
def test_exactly_the_edited_key_is_named_even_where_nothing_is_decided_by_it(change, key):
    edited = plans()
    change(edited)
    (departure,) = explained(edited).departures
    assert (departure.key, departure.origin) == (key, "edited by hand")
    assert departure.reason
    assert departure.rules_give is not None


def test_what_is_missing_is_listed():
    edited = plans()
    del edited["label_manager"], edited["configurations"]["3d_fullres"]["batch_dice"]
    del edited["configurations"]["3d_lowres"], edited["configurations"]["3d_cascade_fullres"]
    report = explained(edited)
    names = {"label_manager", "3d_fullres/batch_dice", "3d_lowres", "3d_cascade_fullres"}
    assert {k.key for k in report.departures} == names
    assert report["3d_lowres"].reason == f"the file lacks it: {PLAN.trace['lowres'].reason}"
    assert report["3d_fullres/batch_dice"].rules_give is True


def test_a_further_configuration_is_compared_with_the_one_it_inherits_from():
    edited = json.loads(json.dumps(plan_to_nnunet(PLAN.what_if(memory_gb=11))))
    edited["configurations"]["3d_large"] = {"inherits_from": "3d_fullres", "batch_size": 40}
    report = explained(edited)
    assert report.budget.gpu_memory_gb == 11  # found, although autoseg plans no such configuration
    assert {k.key for k in report.departures} == {"3d_large/inherits_from", "3d_large/batch_size"}
    assert report["3d_large/batch_size"].rules_give == 2


@pytest.mark.parametrize("gigabytes", [1.3, 9.5, 22.2])
def test_an_unusual_memory_target_is_no_edit(gigabytes):
    plan = PLAN.what_if(memory_gb=gigabytes)
    report = explained(plan_to_nnunet(plan))
    assert report.departures == ()
    assert make_plan(PLAN.fingerprint, report.budget).configurations == plan.configurations


def test_a_target_spacing_of_ones_own_is_one_edit_and_all_else_follows():
    report = explained(plan_to_nnunet(PLAN.what_if(target_spacing=(2.0, 1.0, 1.0))))
    assert [k.key for k in report if k.origin == "edited by hand"] == ["3d_fullres/spacing"]
    assert report["3d_fullres/patch_size"].origin == report["3d_lowres"].origin == "follows from an edited value"
    assert report.budget == Budget()


def test_free_names_are_nobodys_edit():
    edited = plans()
    edited["dataset_name"], edited["plans_name"] = "Dataset999_Mine", "MyPlans"
    edited["configurations"]["3d_fullres"]["data_identifier"] = "elsewhere"
    assert explained(edited).departures == ()


def test_an_explanation_has_a_table_and_a_key_that_it_has_not_is_an_error():
    report = explained(plans())
    assert set(report.table().origin) == {RULES}
    with pytest.raises(PlanError, match="no '3d_fullres/pach'"):
        report["3d_fullres/pach"]


# damaged files


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (without("configurations"), "this plan has no 'configurations'"),
        (without("transpose_forward"), "this plan has no 'transpose_forward'. nnU-Net 2.8 needs"),
        (with_({}, "configurations"), "neither '2d' nor '3d_fullres'"),
        (with_(1, "transpose_foward"), "'transpose_foward', which nnU-Net 2.8 .* Did you mean 'transpose_forward'"),
        (without(*FULL, "patch_size"), "configuration '3d_fullres' has no 'patch_size'"),
        (with_(1, *FULL, "bach_size"), "'bach_size', which nnU-Net 2.8 does not know. Did you mean 'batch_size'"),
        (without(*NETWORK, "strides"), "the network of '3d_fullres' has no 'strides'"),
        (with_(0.1, *NETWORK, "dropout"), "'dropout', which nnU-Net 2.8 does not know"),
        (with_(False, *NETWORK, "conv_bias"), "conv_bias is False; autoseg's networks have True"),
        (with_("my.Mamba", *FULL, "architecture", "network_class_name"), "uses the network my.Mamba, which"),
        (with_({}, "configurations", "3d_mine"), "a configuration '3d_mine', which autoseg does not plan"),
        (with_("MyPreprocessor", *FULL, "preprocessor_name"), "autoseg has only DefaultPreprocessor"),
        (with_(["MyNorm", "MyNorm"], *FULL, "normalization_schemes"), "has normalization_schemes .*MyNorm"),
        (with_("3d_missing", "configurations", "3d_cascade_fullres", "inherits_from"), "no '3d_missing'"),
        (
            with_("3d_cascade_fullres", "configurations", "3d_cascade_fullres", "inherits_from"),
            "inherit from each other in a circle",
        ),
        (with_([100, 100, 100], *FULL, "patch_size"), "Nearest that fit: 96x96x96"),
        (with_("128", *FULL, "patch_size"), "'3d_fullres' has patch_size '128'; it must be a list"),
        (with_([0, 1, 3], "transpose_forward"), r"transpose_forward \[0, 1, 3\] .* must each hold 0, 1 and 2"),
        (with_([0, 2, 1], "transpose_backward"), "undo each other"),
        (with_(7, *NETWORK, "n_stages"), "has n_stages 7, but 6 strides"),
        (with_(None, *FULL, "resampling_fn_seg_kwargs"), "resampling_fn_seg_kwargs is None; it must be a dictionary"),
        (with_(False, *FULL, "resampling_fn_seg_kwargs", "is_seg"), "has is_seg False; it must be True"),
        (with_(1, *FULL, "resampling_fn_seg_kwargs", "order_z"), r"resampled with order_z \[0, 1, 0\]"),
        (with_("2d", "configurations", "3d_cascade_fullres", "previous_stage"), "needs 'previous_stage': '3d_lowres'"),
        (with_(3, "configurations", "2d"), "configuration '2d' is 3; it must be a dictionary"),
    ],
)  # fmt: skip
def test_a_damaged_plans_file_says_what_is_wrong(edit, message):
    damaged = plans()
    edit(damaged)
    with pytest.raises(PlanError, match=message):
        plan_from_nnunet(damaged, PLAN.fingerprint)


def test_plans_for_another_number_of_channels_are_refused():
    with pytest.raises(PlanError, match=r"this plan is for 2 channel\(s\), the fingerprint has 1"):
        plan_from_nnunet(plans(), fingerprint_of((300, 320, 300)))


def facts_and_dataset():
    fingerprint = PLAN.fingerprint
    dataset = {"channel_names": {"0": "CT", "1": "T2"}, "numTraining": 20, "file_ending": ".nii.gz"}
    return copy.deepcopy(fingerprint_to_nnunet(fingerprint)), dataset | {"labels": dict(fingerprint.labels.names)}


def test_a_fingerprint_comes_back():
    facts, dataset = facts_and_dataset()
    again = fingerprint_from_nnunet(facts, dataset)
    assert make_plan(again).configurations[0].patch_size == PLAN.configurations[0].patch_size
    assert (again.spacings == PLAN.fingerprint.spacings).all()
    assert again.labels == PLAN.fingerprint.labels


@pytest.mark.parametrize("key", ["spacings", "shapes_after_crop", "median_relative_size_after_cropping"])
def test_a_fingerprint_without_a_key_is_refused(key):
    facts, dataset = facts_and_dataset()
    del facts[key]
    with pytest.raises(PlanError, match=f"this fingerprint has no '{key}'"):
        fingerprint_from_nnunet(facts, dataset)


def test_a_fingerprint_that_does_not_fit_its_dataset_is_refused():
    facts, dataset = facts_and_dataset()
    with pytest.raises(PlanError, match="dataset.json has 1 channels, the fingerprint knows 2"):
        fingerprint_from_nnunet(facts, dataset | {"channel_names": {"0": "CT"}})
    facts["spacings"].pop()
    with pytest.raises(PlanError, match="19 spacings but 20 shapes"):
        fingerprint_from_nnunet(facts, dataset)
