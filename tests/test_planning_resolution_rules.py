"""The low resolution and the cascade: when there is one, at which spacing, and why not."""

from __future__ import annotations

import math

import pytest
from planning_examples import fingerprint_of

from autoseg.planning import resolution_rules
from autoseg.planning.budget import Budget
from autoseg.planning.memory import MemoryModel
from autoseg.planning.planner import make_plan

MEMORY = MemoryModel(Budget(), labels=3)
EVEN = (1.0, 1.0, 1.0)


def lowres(edge, *, patch_size=(128, 128, 128), spacing=EVEN):
    shape = (float(edge),) * 3
    return resolution_rules.lowres(spacing=spacing, median_shape=shape, patch_size=patch_size, memory=MEMORY)


def test_a_patch_that_shows_a_quarter_needs_no_low_resolution():
    because = resolution_rules.lowres(
        spacing=EVEN, median_shape=(128.0, 256.0, 256.0), patch_size=(128, 128, 128), memory=MEMORY
    )
    assert because.thresholds[0].value == 0.25
    assert because.value is None
    assert because.branch == "not needed"


def test_a_patch_that_shows_little_has_a_low_resolution_where_it_shows_a_quarter():
    because = lowres(400)
    assert because.branch == "planned"
    *before, last = because.tried
    assert last.accepted
    assert last.numbers["share"] >= 0.25
    assert all(attempt.numbers["share"] < 0.25 for attempt in before)


def test_each_step_is_three_per_cent_coarser():
    steps = [attempt.value[0] for attempt in lowres(400).tried]
    assert steps == pytest.approx([1.03 ** (n + 1) for n in range(len(steps))])


def test_an_axis_less_than_half_as_fine_waits_until_the_others_have_caught_up():
    steps = [attempt.value for attempt in lowres(400, spacing=(3.0, 1.0, 1.0), patch_size=(64, 128, 128)).tried]
    assert steps[0] == pytest.approx((3.0, 1.03, 1.03))
    growing = [step for step in steps if step[0] > 3.0]
    assert all(3.0 / step[1] <= 2 for step in growing)
    assert growing


def test_one_with_more_than_half_the_voxels_is_dropped():
    edge = math.ceil((128**3 / 0.249) ** (1 / 3))
    because = lowres(edge)
    assert because.value is None
    assert because.branch == "dropped"
    assert "hardly fewer voxels" in because.reason
    assert not because.thresholds[1].holds


@pytest.mark.parametrize(("edge", "there"), [(100, False), (400, True)])
def test_a_cascade_follows_from_a_low_resolution(edge, there):
    plan = make_plan(fingerprint_of((edge,) * 3))
    assert plan.trace["cascade"].value == there
    assert ("3d_lowres" in plan, "3d_cascade_fullres" in plan) == (there, there)


def test_dice_is_over_the_batch_where_a_patch_shows_little():
    plan = make_plan(fingerprint_of((400, 400, 400)))
    over_batch = {configuration.name: configuration.batch_dice for configuration in plan}
    assert over_batch == {"2d": True, "3d_lowres": False, "3d_fullres": True, "3d_cascade_fullres": True}
    assert not make_plan(fingerprint_of((60, 60, 60)))["3d_fullres"].batch_dice


def test_the_second_stage_is_the_full_resolution_but_for_its_input():
    plan = make_plan(fingerprint_of((400, 400, 400)))
    full, second = plan["3d_fullres"], plan["3d_cascade_fullres"]
    assert second.previous_stage == "3d_lowres"
    assert (second.patch_size, second.batch_size) == (full.patch_size, full.batch_size)
    assert second.network.in_channels == full.network.in_channels + 2


def test_2d_images_have_no_resolutions_to_choose_from():
    plan = make_plan(fingerprint_of((1, 300, 300), (999.0, 1.0, 1.0)))
    assert [configuration.name for configuration in plan] == ["2d"]
    assert "2D" in plan.trace["lowres"].reason
