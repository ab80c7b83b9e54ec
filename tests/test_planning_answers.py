"""Why: every decision of every golden plan has an answer as text, as HTML and as a dictionary."""

from __future__ import annotations

from typing import Any

import pytest
from planning_examples import fingerprint_of
from test_planning_golden import PRESET_OF, golden

from autoseg.core.decisions import NO_REASON
from autoseg.core.errors import PlanError
from autoseg.display import render
from autoseg.interop.nnunet_plans import fingerprint_from_nnunet
from autoseg.planning.answers import BLUEPRINT, in_words
from autoseg.planning.budget import Budget
from autoseg.planning.planner import make_plan
from autoseg.training.blueprint import Blueprint

CASCADE = make_plan(fingerprint_of((400, 400, 400), channels=("CT", "T2")))
SMALL = make_plan(fingerprint_of((40, 40, 40)))
SHARED = ("axis_order", "resampling", "mask_background")  # decided once for all configurations
OWN = ("spacing", "median_shape", "patch_size", "batch_size", "network", "augmentation", "batch_dice")


def golden_plans(reference) -> list[Any]:
    return [
        make_plan(
            fingerprint_from_nnunet(entry["fingerprint"], entry["dataset"]),
            Budget(preset=PRESET_OF[planner], memory_gb=expected["gpu_memory_target_in_gb"]),
        )
        for entry in golden(reference)
        for planner, expected in entry["plans"].items()
    ]


def test_every_decision_of_every_golden_plan_is_answered_as_text(reference):
    plans = golden_plans(reference)
    assert len(plans) == 600
    for plan in plans:
        for decision in plan.trace:
            answer = plan.why(decision.name)
            assert f"{decision.name} = " in repr(answer)
            assert decision.reason in repr(answer)
            assert decision.source
            assert all(attempt.outcome for attempt in decision.tried)


def test_decisions_of_golden_plans_are_answered_as_html(reference):
    for plan in golden_plans(reference)[::60]:
        for decision in plan.trace:
            if not decision.short_name.endswith("patch_size"):  # those draw a chart, tested with the displays
                assert decision.name in render(plan.why(decision.name))


def test_every_value_of_every_golden_plan_has_a_trace_entry(reference):
    for plan in golden_plans(reference):
        for configuration in plan:
            for what in OWN:
                assert plan.trace[f"{configuration.name}/{what}"].value == getattr(configuration, what)
            for what in SHARED:
                assert plan.trace[what].value == getattr(configuration, what)
            normalizations = [d.value for d in plan.trace.named("normalization")]
            assert tuple(normalizations) == configuration.normalization
            assert plan.trace["cascade"].value == ("3d_cascade_fullres" in plan)


def test_why_there_is_no_cascade_says_the_number_that_decided():
    for plan, number in ((SMALL, "a patch shows 100% of the image"), (SMALL.what_if(shape=(180, 220, 180)), "29%")):
        assert number in repr(plan.why("cascade"))
        (threshold,) = plan.trace["cascade"].thresholds
        assert threshold.limit == 0.25
        assert threshold.value == plan.trace["lowres"].thresholds[0].value


def test_a_dropped_low_resolution_says_how_few_voxels_it_would_have_spared():
    plan = SMALL.what_if(shape=(204, 204, 204))
    assert plan.trace["lowres"].branch == "dropped"
    assert "hardly fewer voxels" in repr(plan.why("cascade"))


def test_a_spacing_at_which_no_voxel_is_left_is_named():
    with pytest.raises(PlanError, match=r"at 999 mm the median image has no voxel left .* is 1x999x1 mm, the images'"):
        SMALL.what_if(target_spacing=(1, 999, 1))


def test_only_sizes_are_written_as_sizes():
    assert "dimensions = 2, 3 (" in repr(SMALL.why("dimensions"))
    assert "axis_order = 0, 1, 2 (" in repr(SMALL.why("axis_order"))
    assert "3d_fullres/features = 32, 64, " in repr(SMALL.why("3d_fullres/features"))
    assert "3d_fullres/patch_size = 40x40x40 (" in repr(SMALL.why("3d_fullres/patch_size"))


def test_a_configuration_that_there_is_not_is_answered():
    assert [d.name for d in SMALL.why("3d_lowres")] == ["lowres"]
    assert [d.name for d in SMALL.why("3d_cascade_fullres")] == ["cascade"]


def test_short_names_answer_for_every_configuration_and_configurations_for_all_their_decisions():
    assert [d.name for d in CASCADE.why("patch_size")] == [
        d.name for d in CASCADE.trace if d.name.endswith("/patch_size")
    ]
    assert all(d.name.startswith("2d/") for d in CASCADE.why("2d"))
    assert [d.name for d in CASCADE.why("normalization")] == ["normalization/CT", "normalization/T2"]


def test_the_search_for_a_patch_lists_every_step_with_its_memory():
    text = repr(CASCADE.why("3d_fullres/patch_size"))
    decision = CASCADE.trace["3d_fullres/patch_size"]
    assert text.count("too large: ") == len(decision.tried) - 1
    assert "* 128x128x128: fits: " in text


def test_a_given_value_says_who_gave_it():
    assert "because given by you" in repr(CASCADE.what_if(batch_size=3).why("2d/batch_size"))


def test_what_no_dataset_decides_is_answered_by_where_it_is_fixed():
    fixed = {d.name for d in Blueprint.nnunet().trace} - {d.short_name for d in SMALL.trace}
    assert fixed == set(BLUEPRINT.split())
    for name in fixed:
        answer = SMALL.why(name)
        assert f"does not depend on the data; autoseg.Blueprint.nnunet().trace['{name}']" in repr(answer)
        assert "the same for every dataset" in render(answer)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pach_size", "no decision is called 'pach_size'. Did you mean '.*patch_size'"),
        ("3d_fulres/patch_size", "Did you mean '3d_fullres/patch_size'"),
        ("3d_fulres", "no decision is called '3d_fulres'"),
        ("cascde", "Did you mean 'cascade'"),
        ("", "no decision is called ''"),
    ],
)
def test_a_misspelt_name_suggests_one(name, message):
    with pytest.raises(PlanError, match=message):
        CASCADE.why(name)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "none"),
        (True, "yes"),
        (False, "no"),
        (0.123456, "0.1235"),
        ((128, 96), "128x96"),
        ((True, False), "yes, no"),
        (((1, 2), (3,)), "1x2, 3"),
        ((), ""),
    ],
)
def test_values_in_words(value, words):
    assert in_words(value) == words


def test_a_function_goes_by_its_name():
    def ranks(channel, inside):
        return channel

    name = next(d.name for d in CASCADE.trace if d.name.startswith("normalization/"))
    plan = CASCADE.what_if({name: ranks})
    assert repr(plan.why(name)).startswith(f"{name} = ranks (given)")
    assert repr(plan.trace[name]).startswith(f"{name} = ranks (given)")


def test_long_values_are_cut():
    assert len(in_words(tuple("abcdefgh" * 30))) == 96


def test_every_rule_that_compares_or_counts_says_why_there_is_such_a_rule():
    looked_up = {"median_shape", "spacing", "network"}
    inherited = {d.name for d in CASCADE.trace if d.name.startswith("3d_cascade_fullres/")}
    for decision in CASCADE.trace:
        if decision.short_name not in looked_up and decision.name not in inherited:
            assert decision.purpose, decision.name
            assert f"why the rule: {decision.purpose}" in repr(CASCADE.why(decision.name))
    assert "arbitrary" in CASCADE.trace["3d_fullres/patch_size"].purpose
    assert CASCADE.trace["2d/blocks"].purpose == NO_REASON


def test_where_dice_is_computed_shows_the_share_that_was_compared():
    for plan, share in ((CASCADE, "3.3% of the image, less than 25%"), (SMALL, "100% of the image, 25% or more")):
        assert share in plan.trace["3d_fullres/batch_dice"].reason
    dropped = SMALL.what_if(shape=(204, 204, 204)).trace["3d_fullres/batch_dice"].reason
    assert "a patch shows much" not in dropped
    assert "hardly fewer voxels" in dropped
