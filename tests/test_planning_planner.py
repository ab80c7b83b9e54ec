"""Every fingerprint that makes sense has a valid plan, and those that do not are refused in words."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from planning_examples import FACTS, fingerprint_from, fingerprint_of

from autoseg.core.errors import PlanError
from autoseg.planning.budget import PRESETS, Budget
from autoseg.planning.configuration import AugmentationSettings
from autoseg.planning.facts import is_planar
from autoseg.planning.plan import Plan
from autoseg.planning.planner import make_plan
from autoseg.planning.topology import Topology

EVEN = (1.0, 1.0, 1.0)
PLANAR = (999.0, 1.0, 1.0)
LARGE = make_plan(fingerprint_of((180, 220, 180), channels=("T1", "T2")))
EDGES = st.one_of(st.integers(1, 12), st.integers(1, 2000))
IMAGES = st.tuples(st.tuples(EDGES, EDGES, EDGES), st.tuples(*[st.floats(1e-3, 1e3)] * 3))
BUDGETS = st.builds(Budget, preset=st.sampled_from(list(PRESETS)), memory_gb=st.sampled_from([None, 0.5, 2, 11, 80]))


def check_valid(plan: Plan) -> None:
    assert {c.name for c in plan} >= {"2d"}
    assert ("3d_lowres" in plan) == ("3d_cascade_fullres" in plan)
    for c in plan:
        assert all(edge > 0 and edge % d == 0 for edge, d in zip(c.patch_size, c.network.divisor, strict=True))
        assert c.batch_size >= 2
        assert len(c.spacing) == len(c.patch_size) == len(c.median_shape) == (2 if c.name == "2d" else 3)
        assert all(math.isfinite(s) and s > 0 for s in c.spacing)
        assert all(a >= p for a, p in zip(c.augmentation.initial_patch_size, c.patch_size, strict=True))
        assert len(c.normalization) == len(c.mask_background) == len(c.channels)


@settings(max_examples=60, deadline=None)
@given(st.lists(IMAGES, min_size=2, max_size=6), BUDGETS, st.integers(1, 20))
@example([((1, 1, 1), EVEN)] * 2, Budget(), 1)
@example([((1, 300, 1), (1e-3, 1e3, 1.0))] * 2, Budget(preset="resenc_xl"), 4)
@example([((1500, 1500, 1500), EVEN)] * 2, Budget(memory_gb=1), 1)
def test_every_fingerprint_has_a_valid_plan(cases, budget, channels):
    fingerprint = fingerprint_from(cases, channels=("CT",) * channels)
    assume(len(set(map(is_planar, fingerprint.cases))) == 1)  # a mixture is refused
    check_valid(make_plan(fingerprint, budget))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4000), st.integers(1, 4000), BUDGETS)
def test_every_2d_dataset_has_a_valid_plan(height, width, budget):
    plan = make_plan(fingerprint_of((1, height, width), PLANAR), budget)
    check_valid(plan)
    assert [c.name for c in plan] == ["2d"]


def test_the_same_facts_give_the_same_plan():
    fingerprint = fingerprint_of((100, 120, 90))
    assert make_plan(fingerprint) == make_plan(fingerprint)


def test_channels_of_the_same_name_are_told_apart():
    plan = make_plan(fingerprint_of((60, 60, 60), channels=("MRI", "MRI", "CT")))
    assert [d.name for d in plan.trace.named("normalization")] == [
        "normalization/MRI (1)",
        "normalization/MRI (2)",
        "normalization/CT",
    ]


@pytest.mark.parametrize(
    ("spacing", "message"),
    [
        ((0.0, 1.0, 1.0), r"case 'case_0': the spacing \(0.0, 1.0, 1.0\) has a value that is not a positive number"),
        ((1.0, -1.0, 1.0), r"spacing \(1.0, -1.0, 1.0\) has a value that is not a positive number of mm"),
        ((1.0, 1.0, math.nan), "not a positive number of mm. Correct the image's header"),
        ((None, 1.0, 1.0), r"spacing \(None, 1.0, 1.0\) has a value that is not a positive number"),
        ((1.0, 1.0), "has 2 axes, not 3"),
    ],
)
def test_a_spacing_that_is_none_names_the_case(spacing, message):
    with pytest.raises(PlanError, match=message):
        make_plan(fingerprint_of((60, 60, 60), spacing))


def test_an_empty_axis_names_the_case():
    with pytest.raises(PlanError, match=r"case 'case_1': the shape \(60, 0, 60\) .* positive number of voxels"):
        make_plan(fingerprint_from([((60, 60, 60), EVEN), ((60, 0, 60), EVEN)]))


def test_no_case_is_refused():
    with pytest.raises(PlanError, match="has no cases"):
        make_plan(fingerprint_from([]))


def test_a_single_case_is_planned_with_a_warning():
    with pytest.warns(UserWarning, match="has one case, 'case_0': the plan fits it, and says nothing of the next"):
        assert make_plan(fingerprint_from([((60, 60, 60), EVEN)]))["3d_fullres"].batch_size == 2


def test_no_channels_are_refused():
    with pytest.raises(PlanError, match="has no channels"):
        make_plan(fingerprint_of((60, 60, 60), channels=()))


def test_2d_and_3d_images_in_one_dataset_are_refused():
    with pytest.raises(PlanError, match=r"3 of 5 cases are 2D .*'case_0'.* the others 3D .*'case_3': 60x60x60"):
        make_plan(fingerprint_from([((1, 60, 60), PLANAR)] * 3 + [((60, 60, 60), EVEN)] * 2))


def test_a_3d_scan_of_one_slice_is_no_2d_image():
    check_valid(make_plan(fingerprint_from([((1, 60, 60), (5.0, 1.0, 1.0))] + [((12, 60, 60), (5.0, 1.0, 1.0))] * 2)))


def test_a_given_value_is_taken_and_what_follows_fits_it():
    plan = make_plan(LARGE.fingerprint, given={"3d_fullres/patch_size": [64, 64, 64]})
    assert plan["3d_fullres"].patch_size == (64, 64, 64)
    assert plan["3d_fullres"].network.stages == 5
    assert plan["3d_fullres"].batch_size > LARGE["3d_fullres"].batch_size
    assert plan.trace["3d_fullres/patch_size"].kind == "given"
    check_valid(plan)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("3d_fullres/patch_size", (100, 100, 100), "does not divide. Nearest that fit: 96x96x96 and 112x112x112"),
        ("3d_fullres/patch_size", (64, 64), "needs 3 whole numbers of voxels"),
        ("3d_fullres/patch_size", (64.5, 64, 64), "must hold whole numbers of voxels"),
        ("3d_fullres/patch_size", "big", "needs 3 whole numbers"),
        ("3d_fulres/patch_size", (64, 64, 64), "Did you mean '3d_fullres/patch_size'"),
        ("3d_fullres/batch_size", 0, "must be a whole number, 1 or more"),
        ("3d_fullres/batch_dice", 1, "must be True or False"),
        ("3d_fullres/features", (32, 64), "needs 6 whole numbers, one for each of 6 stages"),
        ("3d_fullres/blocks", 2, "needs two lists"),
        ("3d_fullres/network", "unet", "is a str; it must be a NetworkSpec"),
        ("3d_fullres/topology", Topology(((1, 1, 1), (3, 3, 3)), ((3, 3, 3),) * 2), "Nearest that fit: 126x126x126"),
        ("3d_fullres/topology", Topology(((1, 1, 1),), ((3, 3, 3),) * 2), "1 strides but 2 kernel sizes"),
        (
            "2d/augmentation",
            AugmentationSettings(rotation_degrees=0, dummy_2d=False, mirror_axes=(), initial_patch_size=(9, 9)),
            "cuts 9x9 voxels, which does not hold the patch",
        ),
        ("target_spacing", (1, 0, 1), "needs 3 spacings in mm"),
        ("lowres", (2.0,), "needs 3 spacings in mm, or None"),
        ("axis_order", (0, 1), "must hold 0, 1 and 2, each once"),
        ("dimensions", 3, r"must be \(2,\) for 2d alone"),
        ("mask_background", (True,), "needs True or False for each of 2"),
        ("mask_background", 1, "needs True or False for each of 2"),
        ("normalization/T1", "ct", "must be callable"),
        ("resampling", 3, "must be a Resampling"),
    ],
)
def test_given_values_that_do_not_work_are_refused(name, value, message):
    with pytest.raises(PlanError, match=message):
        make_plan(LARGE.fingerprint, given={name: value})


def test_no_memory_for_any_patch_says_what_was_tried():
    with pytest.raises(PlanError, match=r"no patch fits in 1e-07 GB: the smallest one tried, .* Raise Budget"):
        make_plan(LARGE.fingerprint, Budget(memory_gb=1e-7))


def test_intensities_belong_to_channels():
    fingerprint = replace(LARGE.fingerprint, intensities=(FACTS,))
    with pytest.raises((PlanError, ValueError)):
        make_plan(fingerprint)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda f: make_plan(None), "of type NoneType; it must be a Fingerprint"),
        (lambda f: make_plan(f, 8), r"the budget is 8; write autoseg.Budget\(memory_gb=8\)"),
        (lambda f: make_plan(f, given=[1]), r"given is \[1\]; it must be a dictionary"),
        (lambda f: make_plan(replace(f, channels=("CT", "T2"))), "has 2 channels, but intensities of 1"),
        (lambda f: make_plan(fingerprint_of((60, 70, 60), relative_size=math.nan)), "cropping leaves a share of nan"),
        (lambda f: make_plan(fingerprint_of((60, 70, 60), ("1", 1, 1))), "not a positive number of mm"),
        (lambda f: Budget(memory_gb="8"), "a budget of '8' GB is not a positive number"),
        (lambda f: Budget(max_dataset_fraction="all"), "max_dataset_fraction is 'all'"),
        (lambda f: Budget(preset=[]), r"no preset is called \[\]"),
        (lambda f: make_plan(f).what_if(cascade=True), "a cascade starts at a low resolution, and there is none"),
        (lambda f: make_plan(f).compare(None), "compared with another plan, not with a NoneType"),
        (lambda f: make_plan(f).why(3), "no decision is called 3"),
    ],
)
def test_what_is_no_plan_s_business_is_refused_in_words(wrong, message):
    with pytest.raises(PlanError, match=message):
        wrong(fingerprint_of((60, 70, 60)))


@pytest.mark.parametrize(
    ("strides", "kernels", "message"),
    [
        (((1, 1, 1), (0, 2, 2)), ((3, 3, 3),) * 2, r"has \(0, 2, 2\); strides and kernel sizes are 3 whole numbers"),
        (((1, 1, 1), (2, 2)), ((3, 3, 3),) * 2, r"has \(2, 2\)"),
        (((1, 1, 1), (2, 2, 2)), ((3, 3, 3), (2, 2, 2)), "has a kernel of 2x2x2; only odd ones"),
        (((2, 2, 2), (2, 2, 2)), ((3, 3, 3),) * 2, "begins with a stride of 2x2x2"),
    ],
)
def test_a_topology_that_no_network_can_have_is_refused(strides, kernels, message):
    with pytest.raises(PlanError, match=message):
        LARGE.what_if({"3d_fullres/topology": Topology(strides, kernels)})


def test_numpy_s_numbers_and_arrays_are_as_good_as_python_s():
    plan = LARGE.what_if(patch_size=np.array([64, 64, 64]), cases=np.int64(7), batch_size=np.int64(3))
    assert plan == LARGE.what_if(patch_size=(64, 64, 64), cases=7, batch_size=3)
