"""Margins: past one the branch flips, just before it does not; and the single cases that decide."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from planning_examples import fingerprint_from, fingerprint_of, fingerprints

from autoseg.planning.margins import _without_each
from autoseg.planning.planner import make_plan
from autoseg.planning.rules import mask_background, resampling, target_spacing

PLAN = make_plan(fingerprint_of((180, 220, 180), cases=12))


def margin_of(plan, decision, quantity=""):
    return next(m for m in plan.margins() if m.decision == decision and quantity in m.threshold.quantity)


def test_every_comparison_of_the_plan_has_a_margin():
    compared = [(d.name, t) for d in PLAN.trace for t in d.thresholds]
    assert [(m.decision, m.threshold) for m in PLAN.margins()] == compared
    assert {"target_spacing", "dimensions", "mask_background", "lowres", "3d_fullres/patch_size"} <= {
        name for name, _ in compared
    }


def test_that_pictures_have_one_slice_is_no_comparison():
    pictures = make_plan(fingerprint_of((1, 300, 400), (999.0, 1.0, 1.0)))
    slices = make_plan(fingerprint_of((1, 300, 400), (5.0, 1.0, 1.0)))
    assert pictures.trace["dimensions"].thresholds == slices.trace["dimensions"].thresholds
    assert "dimensions" not in {m.decision for m in pictures.margins()}
    assert "dimensions" in {m.decision for m in slices.margins()}


@settings(max_examples=40, deadline=None)
@given(st.floats(0.01, 1.0))
def test_the_share_that_cropping_leaves_flips_the_mask_past_its_margin(left):
    plan = PLAN.what_if(relative_size=left)
    margin = margin_of(plan, "mask_background")
    sign = -1 if left >= 0.75 else 1
    assume(0 < left + sign * (margin.distance + 1e-6) <= 1)
    before = plan.what_if(relative_size=left + sign * max(margin.distance - 1e-6, 0.0))
    past = plan.what_if(relative_size=left + sign * (margin.distance + 1e-6))
    assert past.trace["mask_background"].branch != plan.trace["mask_background"].branch
    if margin.distance > 1e-5:
        assert before.trace["mask_background"].branch == plan.trace["mask_background"].branch


@settings(max_examples=40, deadline=None)
@given(st.floats(1.0, 9.0))
def test_the_coarse_axis_flips_the_resampling_past_its_margin(coarse):
    because = resampling(target_spacing=(coarse, 1.0, 1.0))
    (threshold,) = because.thresholds
    sign = 1 if threshold.value <= threshold.limit else -1
    past = resampling(target_spacing=(coarse + sign * (threshold.margin + 1e-9), 1.0, 1.0))
    assert past.branch != because.branch
    if threshold.margin > 1e-6:
        assert resampling(target_spacing=(coarse + sign * threshold.margin * 0.999, 1.0, 1.0)).branch == because.branch


@settings(max_examples=40, deadline=None)
@given(st.floats(1.2, 9.0), st.integers(5, 200))
def test_the_median_spacing_flips_the_target_past_its_margin(coarse, slices):
    def rule(spacing, voxels):
        shape = (float(voxels), 300.0, 300.0)
        return target_spacing(median_spacing=(spacing, 1.0, 1.0), fine_spacing=(1.1, 1.0, 1.0), median_shape=shape)

    because = rule(coarse, slices)
    first, second = because.thresholds[:2]
    assume(second.holds and first.margin > 1e-6)  # the other condition is met, so this one decides
    sign = -1 if first.holds else 1
    assert rule(coarse + sign * first.margin * 1.001, slices).branch != because.branch
    assert rule(coarse + sign * first.margin * 0.999, slices).branch == because.branch


def test_memory_flips_the_patch_past_its_margin():
    fits, larger = (margin_of(PLAN, "3d_fullres/patch_size", of) for of in ("chosen patch", "next larger patch"))
    patch = PLAN["3d_fullres"].patch_size
    gigabytes = PLAN.budget.gpu_memory_gb
    for change, same in ((larger.distance * 1.01, False), (larger.distance * 0.99, True)):
        assert (PLAN.what_if(memory_gb=gigabytes + change)["3d_fullres"].patch_size == patch) == same
    for change, same in ((fits.distance * 1.01, False), (fits.distance * 0.99, True)):
        assert (PLAN.what_if(memory_gb=gigabytes - change)["3d_fullres"].patch_size == patch) == same


@settings(max_examples=25, deadline=None)
@given(fingerprints())
def test_closest_comes_first_and_all_are_at_least_zero(fingerprint):
    margins = make_plan(fingerprint).margins()
    relative = [m.relative for m in margins.closest]
    assert relative == sorted(relative)
    assert all(m.distance >= 0 and math.isfinite(m.distance) for m in margins)


def test_the_single_case_that_flips_a_decision_is_named():
    thick, thin = ((40, 300, 300), (3.1, 1.0, 1.0)), ((40, 300, 300), (2.9, 1.0, 1.0))
    plan = make_plan(fingerprint_from([thin, thin, thick, thick, thick]))
    margin = margin_of(plan, "target_spacing", "median spacing of axis 0")
    assert margin.threshold.holds
    assert set(margin.tipping_cases) == {"case_2", "case_3", "case_4"}  # without one, the median is exactly 3
    without = make_plan(fingerprint_from([thin, thin, thick, thick]))
    assert without.trace["target_spacing"].branch == "median"
    assert margin in plan.margins().fragile


@settings(max_examples=10, deadline=None)
@given(st.lists(st.floats(2.0, 4.5), min_size=3, max_size=7))
def test_tipping_cases_are_those_whose_absence_changes_the_comparison(coarse):
    cases = [((40, 300, 300), (s, 1.0, 1.0)) for s in coarse]
    plan = make_plan(fingerprint_from(cases))
    margin = margin_of(plan, "target_spacing", "median spacing of axis 0")
    for index, case in enumerate(plan.fingerprint.cases):
        other = make_plan(fingerprint_from(cases[:index] + cases[index + 1 :]))
        tipped = other.trace["target_spacing"].thresholds[0].holds != margin.threshold.holds
        assert (case.name in margin.tipping_cases) == tipped


def test_cases_all_alike_decide_nothing_alone():
    assert not PLAN.margins().fragile
    assert "0 of them hang on a single case" in repr(PLAN.margins())


def test_two_cases_cannot_be_left_out():
    assert not make_plan(fingerprint_of((60, 60, 60), cases=2)).margins().fragile


def test_margins_are_in_the_units_of_what_was_compared():
    units = {m.decision: m.threshold.unit for m in PLAN.margins()}
    assert units["target_spacing"] in {"mm", "voxels"}
    assert units["3d_fullres/patch_size"] == "GB"
    assert units["3d_fullres/batch_size"] == "patches"


def test_the_table_has_a_row_a_comparison():
    table = PLAN.margins().table()
    assert len(table) == len(PLAN.margins())
    assert table.margin.min() >= 0


def test_the_mask_rule_has_the_limit_of_the_paper():
    (threshold,) = mask_background(relative_size=0.5, normalizations=()).thresholds
    assert (threshold.relation, threshold.limit, threshold.margin) == ("<", 0.75, pytest.approx(0.25))


@given(fingerprints())
@settings(max_examples=15, deadline=None)
def test_a_case_tips_a_decision_exactly_where_another_branch_is_taken_or_another_value_chosen(fingerprint):
    assume(fingerprint.cases[0].cropped_shape[0] > 1)
    cases = tuple(
        replace(case, spacing=(case.spacing[0] * factor, *case.spacing[1:]))
        for case, factor in zip(fingerprint.cases[:5], (1.0, 1.02, 3.5, 3.1, 0.4), strict=False)
    )
    plan = make_plan(replace(fingerprint, cases=cases))
    tipped = {(m.decision, case) for m in plan.margins() for case in m.tipping_cases}
    for index, case in enumerate(cases if len(cases) > 2 else ()):
        without = make_plan(replace(fingerprint, cases=cases[:index] + cases[index + 1 :]))
        other = {d.name: d for d in without.trace}
        for decision in plan.trace:
            now = other.get(decision.name)
            flipped = now is None or now.branch != decision.branch
            if flipped and decision.thresholds:
                assert (decision.name, case.name) in tipped
            if not flipped and now.value == decision.value:
                assert (decision.name, case.name) not in tipped


def test_axes_that_are_equally_fine_are_no_comparison():
    assert "axis_order" not in {m.decision for m in PLAN.margins()}
    assert "axis_order" in {m.decision for m in PLAN.what_if(spacing=(3.0, 1.0, 1.0)).margins()}


def test_large_numbers_are_written_out():
    (margin,) = [m for m in PLAN.what_if(shape=(40, 40, 40), cases=1_000_000).margins()
                 if m.decision == "2d/batch_size" and "memory" in m.threshold.quantity]  # fmt: skip
    assert "2,000,000 patches holds" in str(margin)
    assert "e+" not in str(margin) + repr(margin.threshold)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([0.5, 0.7, 1.0, 1.1, 3.0]) | st.floats(0.1, 9), min_size=3, max_size=40))
def test_percentiles_without_each_case_are_those_of_the_others(values):
    column = np.array(values)
    for statistic, q in ((np.median, 50), (partial(np.percentile, q=50), 50), (partial(np.percentile, q=10), 10)):
        expected = [statistic(np.delete(column, index)) for index in range(len(column))]
        assert _without_each(column, statistic, q).tolist() == expected
