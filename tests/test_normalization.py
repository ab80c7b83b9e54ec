"""Normalizations compute nnU-Net's formulas, and leave what is outside of the patient alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from autoseg.core.errors import PreprocessingError
from autoseg.data.normalization import CTNormalization, NoNormalization, RescaleTo01, RGBTo01, ZScore, name_of

channels = arrays.arrays(np.float32, (3, 4, 5), elements=st.floats(-2000, 2000, width=32))
masks = arrays.arrays(bool, (3, 4, 5))


@given(channels, masks)
def test_zscore_touches_only_the_patient(channel, inside):
    before = channel.copy()
    result = ZScore()(channel, inside)
    np.testing.assert_array_equal(channel, before, "the input is not changed")
    np.testing.assert_array_equal(result[~inside], channel[~inside])
    if inside.any() and channel[inside].std() > 1:
        assert abs(result[inside].mean()) < 1e-3
        assert result[inside].std() == pytest.approx(1, abs=1e-3)


@given(channels)
def test_everything_stays_float32_and_finite(channel):
    ct = CTNormalization(low=-100, high=300, mean=50, std=80)
    for normalization in (ZScore(), RescaleTo01(), NoNormalization(), ct):
        result = normalization(channel, None)
        assert result.dtype == np.float32
        assert np.isfinite(result).all()


def test_ct_clips_then_standardizes():
    ct = CTNormalization(low=-100, high=300, mean=50, std=50)
    np.testing.assert_allclose(ct(np.array([-1000, 50, 1000], np.float32), None), [-3, 0, 5])


@given(channels)
def test_rescaling_spans_0_to_1(channel):
    result = RescaleTo01()(channel, None)
    assert result.min() == 0
    assert result.max() == pytest.approx(1) or channel.min() == channel.max() or np.ptp(channel) < 1e-6


def test_colours_are_divided_by_255():
    np.testing.assert_array_equal(RGBTo01()(np.array([0, 51, 255], np.float32), None), np.float32([0, 0.2, 1]))
    with pytest.raises(PreprocessingError, match="values from -1 to 255, not 0 to 255"):
        RGBTo01()(np.array([-1, 255], np.float32), None)


def test_names_are_the_classes_or_your_functions():
    def robust(channel, inside):
        return channel

    assert [name_of(n) for n in (ZScore(), robust)] == ["ZScore", "robust"]


@pytest.mark.parametrize("unit", [1.0, 1e18, 1e30])
def test_zscore_of_intensities_whose_squares_are_beyond_float32(unit):
    channel = (unit * np.random.default_rng(0).normal(5, 1, 1000)).astype(np.float32)
    standard = ZScore()(channel, None)
    assert standard.dtype == np.float32
    assert (standard.mean(), standard.std()) == pytest.approx((0, 1), abs=1e-3)
