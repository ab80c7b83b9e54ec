"""Augmentation: nnU-Net's transforms, on whole batches, drawn from a seed."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from autoseg.planning.configuration import AugmentationSettings
from autoseg.training import augmentation as aug
from autoseg.training.spatial import OUTSIDE

SETTINGS = AugmentationSettings(
    rotation_degrees=30, dummy_2d=False, mirror_axes=(0, 1, 2), initial_patch_size=(16,) * 3
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(count=4, channels=1, shape=(16, 16, 16)):
    images = torch.rand((count, channels, *shape), generator=seeded())
    return images, (images[:, 0] > 0.5).to(torch.int16)


def test_a_batch_comes_back_at_the_patch_size_with_its_labels_only():
    images, labels = aug.Augmentation()(batch(), SETTINGS, (8, 10, 12), seeded())
    assert images.shape == (4, 1, 8, 10, 12)
    assert labels.shape == (4, 8, 10, 12)
    assert set(labels.unique().tolist()) <= {OUTSIDE, 0, 1}


def test_the_same_seed_gives_the_same_batch():
    first, second = (aug.Augmentation()(batch(), SETTINGS, (8, 8, 8), seeded(5)) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_without_any_transform_the_centre_is_cut_exactly():
    nothing = aug.Augmentation(
        rotation=0,
        scaling=0,
        noise=0,
        blur=0,
        brightness=0,
        contrast=0,
        low_resolution=0,
        gamma_inverted=0,
        gamma=0,
        mirror=0,
    )
    images, labels = batch()
    result = nothing((images, labels), SETTINGS, (8, 8, 8), seeded())
    assert torch.equal(result[0], images[..., 4:12, 4:12, 4:12])
    assert torch.equal(result[1], labels[..., 4:12, 4:12, 4:12])


def test_the_input_batch_is_left_alone():
    images, labels = batch()
    before = images.clone()
    aug.Augmentation(noise=1.0, mirror=1.0)((images, labels), SETTINGS, (16, 16, 16), seeded())
    assert torch.equal(images, before)


@settings(max_examples=20)
@given(st.lists(st.floats(0.5, 1.0), min_size=2, max_size=2), st.integers(4, 20))
def test_blurring_equals_scipy_with_nnunets_kernel_length(sigmas, size):
    images = np.random.RandomState(0).rand(2, size, 9, 7).astype(np.float32)
    axes = torch.tensor([[s, 0.7, 1.0] for s in sigmas])
    for image, sigma, result in zip(images, axes.tolist(), aug.blurred(torch.tensor(images), axes), strict=True):
        for axis, deviation in enumerate(sigma):
            length = round((6 * deviation + 0.5 - 1) / 2)
            image = ndimage.gaussian_filter1d(image, deviation, axis=axis, radius=length, mode="mirror")
        np.testing.assert_allclose(result.numpy(), image, atol=1e-5)


@pytest.mark.parametrize("space", [(1, 1, 1), (2, 3, 1), (2, 2)])
def test_blurring_keeps_the_mean_of_images_smaller_than_its_kernel(space):
    flat = torch.full((2, *space), 3.0)
    torch.testing.assert_close(aug.blurred(flat, torch.full((2, len(space)), 0.9)), flat)


@settings(max_examples=30)
@given(st.floats(0.5, 1.0), st.integers(4, 24), st.integers(0, 1))
def test_low_resolution_is_nearest_down_and_linear_up(scale, size, first_axis):
    images = torch.rand((2, size, 6, 9), generator=seeded())
    small = [size if first_axis else round(size * scale), round(6 * scale), round(9 * scale)]
    down = torch.nn.functional.interpolate(images[:, None], small, mode="nearest-exact")
    expected = torch.nn.functional.interpolate(down, images.shape[1:], mode="trilinear")[:, 0]
    lowered = aug.lowered(images, torch.full((2,), scale, dtype=torch.float64), first_axis=first_axis)
    torch.testing.assert_close(lowered, expected)


def test_gamma_keeps_mean_and_deviation():
    images, _ = batch()
    changed = aug.change_gamma(images.clone(), seeded())
    axes = (1, 2, 3, 4)
    torch.testing.assert_close(changed.mean(axes), images.mean(axes), atol=1e-4, rtol=0)
    torch.testing.assert_close(changed.std(axes), images.std(axes), atol=1e-4, rtol=0)
    assert not torch.allclose(changed, images)


def test_contrast_stays_within_the_old_range():
    images, _ = batch()
    changed = aug.change_contrast(images.clone(), seeded())
    assert changed.min() >= images.min()
    assert changed.max() <= images.max()


def test_draws_around_one_are_as_often_weaker_as_stronger():
    drawn = aug.around_one((0.7, 1.5), (20_000,), seeded())
    assert drawn.min() >= 0.7
    assert drawn.max() <= 1.5
    assert float((drawn < 1).float().mean()) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("name", ["rotation", "noise", "gamma"])
def test_transforms_touch_the_published_share_of_samples(name):
    expected = {"rotation": 0.2, "noise": 0.1, "gamma": 0.3}[name]
    assert getattr(aug.Augmentation(), name) == expected
    assert float(aug.chance(expected, 20_000, seeded()).float().mean()) == pytest.approx(expected, abs=0.02)


def only_mirrored(probability=1.0):
    return aug.Augmentation(
        **{f.name: 0.0 for f in fields(aug.Augmentation) if f.name not in ("scale", "mirror")}, mirror=probability
    )


@pytest.mark.parametrize("turned", [0.0, 1.0], ids=["cut", "resampled"])
def test_image_and_label_map_are_mirrored_together(turned):
    images, labels = batch()
    mirror = replace(only_mirrored(), scaling=turned, scale=(1.0, 1.0))
    mirrored, labels = mirror((images.clone(), labels.clone()), SETTINGS, (16, 16, 16), seeded())
    torch.testing.assert_close(mirrored, images.flip(2, 3, 4))
    assert torch.equal(labels, (mirrored[:, 0] > 0.5).to(torch.int16))


def test_each_sample_draws_its_own_axes_to_mirror():
    images = torch.arange(8.0).reshape(1, 1, 2, 2, 2).repeat(64, 1, 1, 1, 1)
    seen, _ = only_mirrored(0.5)((images, images[:, 0].to(torch.int16)), SETTINGS, (2, 2, 2), seeded())
    assert len({tuple(sample.ravel().tolist()) for sample in seen}) == 8


def test_no_axis_is_mirrored_that_is_not_allowed():
    images, labels = batch()
    kept, _ = only_mirrored()((images, labels), SETTINGS.without_mirroring(), (16, 16, 16), seeded())
    assert torch.equal(kept, images)


STACK = AugmentationSettings(rotation_degrees=180, dummy_2d=True, mirror_axes=(), initial_patch_size=(4, 16, 16))
STILL = aug.Augmentation(noise=0, blur=0, brightness=0, contrast=0, low_resolution=0, gamma=0, gamma_inverted=0)


def striped():
    images = torch.zeros(8, 1, 4, 16, 16)
    images[:, :, ::2] = 1.0
    return images


def test_slices_keep_their_resolution_in_dummy_2d():
    coarse = replace(STILL, low_resolution=1.0).intensity(striped(), STACK, seeded())
    torch.testing.assert_close(coarse, striped(), atol=1e-5, rtol=0)


def test_blur_mixes_thick_slices_too_as_nnunets_does():
    """Half of the channels are blurred; nnU-Net leaves no axis out."""
    blurred = replace(STILL, blur=1.0).intensity(striped(), STACK, seeded())
    mixed = (blurred - striped()).abs().amax((1, 2, 3, 4)) > 0.1
    assert 0 < int(mixed.sum()) < 8


def test_flat_images_are_augmented_too():
    flat = AugmentationSettings(rotation_degrees=180, dummy_2d=False, mirror_axes=(0, 1), initial_patch_size=(16, 16))
    images, labels = batch(6, 3, (16, 16))
    images, labels = aug.Augmentation(rotation=1, blur=1, low_resolution=1)((images, labels), flat, (8, 8), seeded())
    assert images.shape == (6, 3, 8, 8)
    assert torch.isfinite(images).all()
