"""Rules about images: each branch, at its limit and just beside it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planning_examples import FACTS, fingerprint_of

from autoseg.data.normalization import CTNormalization, NoNormalization, RescaleTo01, RGBTo01, ZScore
from autoseg.planning import rules
from autoseg.planning.planner import make_plan

SHAPE = (20.0, 200.0, 200.0)


def target(spacing, fine=None, shape=SHAPE):
    return rules.target_spacing(median_spacing=spacing, fine_spacing=fine or spacing, median_shape=shape)


def test_alike_spacings_keep_their_median():
    because = target((1.0, 0.9, 1.1), fine=(0.5, 0.5, 0.5))
    assert because.value == (1.0, 0.9, 1.1)
    assert because.branch == "median"


def test_a_coarse_and_short_axis_takes_the_tenth_percentile():
    because = target((5.0, 1.0, 1.0), fine=(3.0, 0.9, 0.9))
    assert because.value == (3.0, 1.0, 1.0)
    assert because.branch == "10th percentile"


def test_the_tenth_percentile_is_no_finer_than_the_next_axis():
    assert target((5.0, 1.0, 1.2), fine=(0.5, 0.9, 0.9)).value == (1.2 + 1e-5, 1.0, 1.2)


@pytest.mark.parametrize(
    ("spacing", "shape", "branch"),
    [
        ((3.0, 1.0, 1.0), SHAPE, "median"),  # exactly three times is not beyond it
        ((math.nextafter(3.0, 4.0), 1.0, 1.0), SHAPE, "10th percentile"),
        ((5.0, 1.0, 1.0), (20.0, 60.0, 60.0), "median"),  # exactly a third of the voxels
        ((5.0, 1.0, 1.0), (20.0, 61.0, 61.0), "10th percentile"),
    ],
)
def test_the_target_spacing_turns_over_just_past_its_limits(spacing, shape, branch):
    assert target(spacing, fine=(2.0, 1.0, 1.0), shape=shape).branch == branch


@given(st.permutations([5.0, 1.0, 1.1]))
def test_the_coarsest_axis_comes_first_and_the_others_stay_in_order(spacing):
    order = rules.axis_order(target_spacing=tuple(spacing)).value
    assert order[0] == spacing.index(5.0)
    assert list(order[1:]) == sorted(order[1:])


def test_equal_spacings_keep_the_files_order():
    assert rules.axis_order(target_spacing=(1.0, 1.0, 1.0)).value == (0, 1, 2)


@pytest.mark.parametrize(("slices", "planned"), [(1.0, (2,)), (2.0, (2, 3)), (1.5, (2, 3))])
def test_a_single_slice_is_planned_in_2d_only(slices, planned):
    assert rules.dimensions(median_shape=(slices, 99.0, 99.0)).value == planned


@pytest.mark.parametrize(
    ("channel", "scheme"),
    [
        ("CT", CTNormalization(low=-500.0, high=600.0, mean=80.0, std=120.0)),
        ("ct", CTNormalization(low=-500.0, high=600.0, mean=80.0, std=120.0)),
        ("noNorm", NoNormalization()),
        ("rescale_to_0_1", RescaleTo01()),
        ("rgb_to_0_1", RGBTo01()),
        ("zscore", ZScore()),
        ("MRI", ZScore()),
    ],
)
def test_a_channels_name_decides_its_normalization(channel, scheme):
    assert rules.normalization(channel=channel, intensities=FACTS).value == scheme


@pytest.mark.parametrize(("left", "masked"), [(0.75, False), (math.nextafter(0.75, 0), True), (1.0, False)])
def test_the_background_is_masked_where_cropping_took_more_than_a_quarter(left, masked):
    because = rules.mask_background(relative_size=left, normalizations=(ZScore(), NoNormalization()))
    assert because.value == (masked, False)


def test_no_mask_is_needed_where_nothing_is_z_scored():
    because = rules.mask_background(relative_size=0.1, normalizations=(NoNormalization(),))
    assert because.value == (False,)
    assert "no channel is z-scored" in because.reason


@pytest.mark.parametrize(
    ("spacing", "branch"), [((3.0, 1.0, 1.0), "all axes alike"), ((3.01, 1.0, 1.0), "coarse axis apart")]
)
def test_a_coarse_axis_is_resampled_apart(spacing, branch):
    assert rules.resampling(target_spacing=spacing).branch == branch


def test_the_median_shape_rounds_each_case_half_to_even():
    import numpy as np

    spacings, shapes = np.ones((3, 3)), np.array([[5, 9, 9], [7, 9, 9], [9, 9, 9]])
    assert rules.resampled_median(spacings, shapes, (2.0, 1.0, 1.0)) == (4.0, 9.0, 9.0)  # of 2.5, 3.5 and 4.5


def test_slices_have_the_shape_and_spacing_of_the_plans_last_axes():
    axes = {"target_spacing": (1.0, 4.0, 2.0), "axis_order": (1, 0, 2)}
    spacing = rules.slice_spacing(**axes).value
    assert spacing == (1.0, 2.0)
    assert rules.shape_at(spacing=spacing, median_shape=(10.0, 50.0, 60.0), **axes).value == (50.0, 60.0)


def test_another_spacing_has_its_shape_rounded_and_at_least_one_voxel():
    axes = {"target_spacing": (1.0, 1.0, 1.0), "axis_order": (0, 1, 2)}
    assert rules.shape_at(spacing=(4.0, 2.0, 1.0), median_shape=(1.0, 51.0, 60.0), **axes).value == (1, 26, 60)


def test_a_fine_target_is_said_to_keep_the_slices_of_thin_sliced_cases():
    because = target((5.0, 1.0, 1.0), fine=(4.0, 1.0, 1.0))
    assert because.reason.endswith("the median, 5 mm, would throw slices of thin-sliced cases away")
    assert [(a.value, a.accepted) for a in because.tried] == [((5.0, 1.0, 1.0), False), ((4.0, 1.0, 1.0), True)]


@pytest.mark.parametrize("spacing", [(5.0, 1.0, 1.0), (1.0, 1.0, 1.0)])
def test_a_percentile_that_is_the_median_is_no_other_candidate(spacing):
    assert [a.value for a in target(spacing).tried] == [spacing]


def test_why_the_median_is_kept_is_said_in_one_sentence():
    assert target((2.9, 1.0, 1.0)).reason.startswith("the median of all cases: no axis is both coarse and short (")


def test_pictures_have_no_slices_to_compare():
    plan = make_plan(fingerprint_of((1, 64, 48), (999.0, 1.0, 1.0)))
    decision = plan.trace["target_spacing"]
    assert decision.value == (999.0, 1.0, 1.0)
    assert decision.reason.startswith("pictures have no slices: 999 is nnU-Net's placeholder")
    assert decision.tried == decision.thresholds == ()


@pytest.mark.parametrize("left", [0.2, 1.0])
def test_no_voxels_of_a_case_count_where_ct_takes_the_training_sets_numbers(left):
    ct = CTNormalization(low=-500.0, high=600.0, mean=80.0, std=120.0)
    because = rules.mask_background(relative_size=left, normalizations=(ct,))
    assert (because.value, because.branch) == ((False,), "none")
    mixed = rules.mask_background(relative_size=left, normalizations=(ct, ZScore()))
    assert mixed.branch == ("inside the patient" if left < 0.75 else "all voxels")
