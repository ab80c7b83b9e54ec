"""Intensity normalization: what nnU-Net does to each channel, as values that can be called.

Each takes one channel, float32 of shape ``(z, y, x)``, cropped but not yet resampled, and `inside`, the voxels that
belong to the patient (None: all of them). A function of your own with these two arguments works wherever these do.
Source: Isensee et al. 2021, Methods, 'Intensity normalization'; formulas as in nnU-Net 2.8.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from autoseg.core.errors import PreprocessingError
from autoseg.core.types import ChannelArray, Mask

SMALLEST = 1e-8  # a constant channel is divided by this instead of zero


@dataclass(frozen=True, slots=True)
class ZScore:
    """Subtract the case's mean and divide by its standard deviation, over the patient where a mask is used.

    >>> ZScore()(np.array([1.0, 3.0], np.float32), None)
    array([-1.,  1.], dtype=float32)
    """

    def __call__(self, channel: ChannelArray, inside: Mask | None) -> ChannelArray:
        if inside is None:
            return _standardized(channel)
        result = channel.copy()
        values = channel[inside]
        result[inside] = _standardized(values) if values.size else values
        return result


def _standardized(values: ChannelArray) -> ChannelArray:
    with np.errstate(over="ignore", invalid="ignore"):
        mean, std = values.mean(), float(values.std())
    if not np.isfinite(std):  # squares beyond float32, from 1e19 on
        mean, std = np.float32(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    standard: ChannelArray = (values - mean) / max(std, SMALLEST)
    return standard


@dataclass(frozen=True, slots=True, kw_only=True)
class CTNormalization:
    """Clip to the dataset's 0.5 and 99.5 percentiles, then subtract its mean and divide by its deviation.

    Hounsfield units mean the same in every scan, so all four numbers come from the foreground of the whole dataset.
    """

    low: float
    high: float
    mean: float
    std: float

    def __call__(self, channel: ChannelArray, inside: Mask | None) -> ChannelArray:
        clipped = np.clip(channel, np.float32(self.low), np.float32(self.high))
        standard: ChannelArray = (clipped - np.float32(self.mean)) / np.float32(max(self.std, SMALLEST))
        return standard


@dataclass(frozen=True, slots=True)
class RescaleTo01:
    """Shift and scale so that the case's lowest value is 0 and its highest 1."""

    def __call__(self, channel: ChannelArray, inside: Mask | None) -> ChannelArray:
        shifted = channel - channel.min()
        rescaled: ChannelArray = shifted / max(float(shifted.max()), SMALLEST)
        return rescaled


@dataclass(frozen=True, slots=True)
class RGBTo01:
    """Divide 8-bit colours by 255. Raises `PreprocessingError` for values outside 0 to 255."""

    def __call__(self, channel: ChannelArray, inside: Mask | None) -> ChannelArray:
        low, high = float(channel.min()), float(channel.max())
        if low < 0 or high > 255:
            raise PreprocessingError(
                f"a channel declared as rgb_to_0_1 holds values from {low:g} to {high:g}, not 0 to 255. "
                "Declare it under another name in 'channel_names', for example 'rescale_to_0_1'."
            )
        return channel / np.float32(255)


@dataclass(frozen=True, slots=True)
class NoNormalization:
    """Leave the values as they are."""

    def __call__(self, channel: ChannelArray, inside: Mask | None) -> ChannelArray:
        return channel


Normalization = (
    ZScore
    | CTNormalization
    | RescaleTo01
    | RGBTo01
    | NoNormalization
    | Callable[[ChannelArray, Mask | None], ChannelArray]
)


def name_of(normalization: Normalization) -> str:
    """The name to show: the class of ours, the function's own name of yours."""
    return getattr(normalization, "__name__", type(normalization).__name__)
