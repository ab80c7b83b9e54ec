"""Tiles, weights and averaging are nnU-Net's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from autoseg.prediction.sliding_window import Window, gaussian_weights, predict_logits, tile_starts
from autoseg.training.compute import choose_compute

CPU = choose_compute("cpu", "float32")


class Double(nn.Module):
    """A network whose answer is known: two outputs, the image and its double."""

    def forward(self, x):
        return torch.cat((x[:, :1], 2 * x[:, :1]), dim=1)


class Ramp(nn.Module):
    """A network that is not symmetric under mirroring: it adds the position along the last axis."""

    def forward(self, x):
        return x + torch.arange(x.shape[-1], dtype=x.dtype)


@pytest.mark.parametrize(
    ("size", "patch", "starts"),
    [
        (110, 64, (0, 23, 46)),
        (129, 128, (0, 1)),
        (256, 128, (0, 64, 128)),
        (300, 128, (0, 57, 115, 172)),
        (512, 320, (0, 96, 192)),
    ],
)
def test_tiles_start_where_nnunets_do(size, patch, starts):
    assert tile_starts(size, patch) == starts


@given(st.integers(1, 300), st.integers(1, 130), st.sampled_from([0.25, 0.5, 0.75]))
def test_tiles_cover_the_axis_and_stay_on_it(size, patch, overlap):
    patch = min(size, patch)
    starts = tile_starts(size, patch, overlap)
    covered = np.zeros(size, int)
    for start in starts:
        covered[start : start + patch] += 1
    assert starts[0] == 0
    assert starts[-1] + patch == size
    assert covered.min() >= 1


def test_gaussian_weights_equal_nnunets():
    weights = gaussian_weights((32, 32, 32))
    assert float(weights.max()) == 10
    assert float(weights.min()) == pytest.approx(5.96e-8, rel=0.01)
    assert float(weights.sum()) == pytest.approx(10077.4, rel=1e-4)
    assert float(weights[0, 16, 16]) == pytest.approx(0.003355, rel=1e-3)
    assert float(weights[16, 16, 31]) == pytest.approx(0.008835, rel=1e-3)
    assert float(gaussian_weights((64, 64)).sum()) == pytest.approx(4020.73, rel=1e-4)


@settings(max_examples=15, deadline=None)
@given(st.tuples(*[st.integers(3, 20)] * 3), st.booleans())
def test_a_voxelwise_network_gives_its_own_answer_on_any_image(shape, mirrored):
    image = np.random.RandomState(0).rand(1, *shape).astype(np.float32)
    window = Window(patch_size=(8, 8, 8), mirror_axes=(0, 1, 2) if mirrored else ())
    logits = predict_logits(Double(), image, window, CPU)
    np.testing.assert_allclose(logits.numpy(), np.concatenate([image, 2 * image]), rtol=1e-4, atol=1e-6)


def test_slices_of_a_volume_go_through_a_flat_network_one_by_one():
    image = np.random.RandomState(0).rand(1, 5, 20, 11).astype(np.float32)
    logits = predict_logits(Double(), image, Window(patch_size=(8, 8), mirror_axes=(0, 1)), CPU)
    np.testing.assert_allclose(logits.numpy(), np.concatenate([image, 2 * image]), rtol=1e-4, atol=1e-6)


def test_mirror_images_are_averaged_as_logits():
    logits = predict_logits(
        Ramp(), np.zeros((1, 8, 8, 8), np.float32), Window(patch_size=(8, 8, 8), mirror_axes=(2,)), CPU
    )
    np.testing.assert_allclose(logits.numpy(), 3.5, rtol=1e-5)  # the ramp and its mirror image


def test_every_combination_of_axes_is_mirrored():
    assert len(Window(patch_size=(8, 8, 8), mirror_axes=(0, 1, 2)).mirrorings()) == 8
    assert Window(patch_size=(8, 8)).mirrorings() == [()]


def test_tiles_that_are_added_in_half_the_digits_are_the_same_but_for_their_digits():
    image = np.random.RandomState(0).rand(1, 12, 20, 11).astype(np.float32)
    window = Window(patch_size=(8, 8, 8))
    full, half = (predict_logits(Double(), image, replace(window, adds_in=k), CPU) for k in ("float32", "float16"))
    assert (full.dtype, half.dtype) == (torch.float32, torch.float16)
    inside = (slice(None), *(slice(2, -2),) * 3)
    np.testing.assert_allclose(half[inside].float(), full[inside], rtol=5e-3)


def test_logits_beyond_half_the_digits_are_added_with_all():
    image = np.full((1, 8, 8, 8), 1e4, np.float32)
    logits = predict_logits(Double(), image, Window(patch_size=(8, 8, 8), adds_in="float16"), CPU)
    np.testing.assert_allclose(logits.numpy()[1], 2e4, rtol=1e-4)


def test_tiles_never_start_twice_at_the_same_place():
    assert tile_starts(20, 8, 0.99) == tuple(range(13))
