"""nnU-Net's augmentation on whole batches: drawn first, then applied, one resampling for all that is spatial.

Each transform draws which samples it touches and with what numbers, then works on a copy of those samples together, in
place where it can: reading and writing memory is most of the time.
Ranges and probabilities: Isensee et al. 2021, Supplementary Note 4, with the values of nnU-Net 2.8.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from autoseg.planning.configuration import AugmentationSettings
from autoseg.training.spatial import Batch, affine, mirror_centre, resample_affine

Range = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """How often and how strongly each transform is applied; the defaults are nnU-Net's."""

    rotation: float = 0.2
    scaling: float = 0.2
    scale: Range = (0.7, 1.4)
    noise: float = 0.1
    blur: float = 0.2
    brightness: float = 0.15
    contrast: float = 0.15
    low_resolution: float = 0.25
    gamma_inverted: float = 0.1
    gamma: float = 0.3
    mirror: float = 0.5

    def __call__(self, batch: Batch, settings: AugmentationSettings, patch: Sequence[int], random: Generator) -> Batch:
        """Transform a batch cut at the initial patch size into one of the patch size.

        `random` is a CPU generator: the same seed draws the same transforms on every device.
        """
        images, labels = self.spatial(batch, settings, patch, random)
        return self.intensity(images, settings, random), labels

    def spatial(self, batch: Batch, settings: AugmentationSettings, patch: Sequence[int], random: Generator) -> Batch:
        """Rotate and scale some samples, cut the centre of the others, and mirror all."""
        images, labels = batch
        count = len(images)
        rotated, scaled = (chance(p, count, random) for p in (self.rotation, self.scaling))
        angles = uniform((-1.0, 1.0), (count, 3), random) * math.radians(settings.rotation_degrees)
        factors = uniform(self.scale, (count,), random)
        mirrored = torch.zeros(count, len(patch), dtype=torch.bool)
        for axis in settings.mirror_axes:
            mirrored[:, axis] = chance(self.mirror, count, random)
        angles, factors = angles * rotated[:, None], torch.where(scaled, factors, torch.ones(()))
        matrices = affine(angles, factors, len(patch), in_plane=settings.dummy_2d) * (1.0 - 2.0 * mirrored)[:, None, :]
        result = images.new_empty((*images.shape[:2], *patch)), labels.new_empty((count, *patch))
        for alike in (rotated, scaled & ~rotated):  # where nothing is rotated, coordinates are sums of single axes
            samples = torch.nonzero(alike).ravel()
            if len(samples):
                resample_affine(batch, samples, matrices[samples], patch, result)
        untouched = torch.nonzero(~(rotated | scaled)).ravel()
        mirror_centre(batch, untouched, mirrored[untouched], patch, result)
        return result

    def intensity(self, images: Tensor, settings: AugmentationSettings, random: Generator) -> Tensor:
        """All that changes values and not places, in nnU-Net's order."""
        first_axis = 1 if settings.dummy_2d else 0  # slices keep their resolution where the stack is treated as 2D
        steps: list[tuple[float, Callable[[Tensor, Generator], Tensor]]] = [
            (self.noise, add_noise),
            (self.blur, blur),
            (self.brightness, multiply_brightness),
            (self.contrast, change_contrast),
            (self.low_resolution, lambda x, r: simulate_low_resolution(x, r, first_axis=first_axis)),
            (self.gamma_inverted, lambda x, r: change_gamma(x.neg_(), r).neg_()),
            (self.gamma, change_gamma),
        ]
        for probability, transform in steps:
            touched = torch.nonzero(chance(probability, len(images), random)).ravel().to(images.device)
            if len(touched):
                images.index_copy_(0, touched, transform(images.index_select(0, touched), random))
        return images


def chance(probability: float, count: int, random: Generator) -> Tensor:
    """For each of `count` samples, whether it is touched."""
    return torch.rand(count, generator=random) < probability


def uniform(between: Range, shape: Sequence[int], random: Generator) -> Tensor:
    """Numbers drawn evenly between two limits."""
    return between[0] + (between[1] - between[0]) * torch.rand(tuple(shape), generator=random)


def around_one(between: Range, shape: Sequence[int], random: Generator) -> Tensor:
    """Half of the draws from [low, 1], half from [1, high]: as often weaker as stronger."""
    low, high = uniform((between[0], 1.0), shape, random), uniform((max(between[0], 1.0), between[1]), shape, random)
    return torch.where(torch.rand(tuple(shape), generator=random) < 0.5, low, high)


def add_noise(images: Tensor, random: Generator) -> Tensor:
    """Gaussian noise, one deviation from [0, 0.1] a sample."""
    deviation = uniform((0.0, 0.1), (len(images),), random).to(images.device)
    noise = torch.randn(images.shape, generator=random).to(images.device)
    return images.addcmul_(noise, _per_sample(deviation, images))


def multiply_brightness(images: Tensor, random: Generator) -> Tensor:
    """Each channel times a factor around one, [0.75, 1.25]."""
    factor = around_one((0.75, 1.25), images.shape[:2], random).to(images.device)
    return images.mul_(_per_sample(factor, images))


def change_contrast(images: Tensor, random: Generator) -> Tensor:
    """Each channel stretched around its mean by [0.75, 1.25], within its old range."""
    factor = around_one((0.75, 1.25), images.shape[:2], random).to(images.device)
    axes = tuple(range(2, images.ndim))
    mean, low, high = images.mean(axes, keepdim=True), images.amin(axes, keepdim=True), images.amax(axes, keepdim=True)
    return images.sub_(mean).mul_(_per_sample(factor, images)).add_(mean).clamp_(low, high)


def change_gamma(images: Tensor, random: Generator) -> Tensor:
    """Each channel raised to a power around one, [0.7, 1.5], with its old mean and deviation."""
    power = around_one((0.7, 1.5), images.shape[:2], random).to(images.device)
    axes = tuple(range(2, images.ndim))
    mean, low, high = images.mean(axes, keepdim=True), images.amin(axes, keepdim=True), images.amax(axes, keepdim=True)
    old = torch.linalg.vector_norm(images - mean, dim=axes, keepdim=True)
    curved = images.sub_(low).div_((high - low).clamp_min(1e-7)).log2_().mul_(_per_sample(power, images)).exp2_()
    curved -= curved.mean(axes, keepdim=True)
    new = torch.linalg.vector_norm(curved, dim=axes, keepdim=True)
    return curved.mul_(old / new.clamp_min(1e-7)).add_(mean)


def blur(images: Tensor, random: Generator) -> Tensor:
    """Gaussian blur of half of the channels, with a deviation of [0.5, 1] voxels drawn for each axis.

    nnU-Net blurs across thick slices, too, where the other transforms treat the stack as 2D.
    """
    touched = chance(0.5, images.shape[0] * images.shape[1], random)
    sigma = uniform((0.5, 1.0), (len(touched), images.ndim - 2), random)[touched]
    return _change_channels(images, touched, lambda channels: blurred(channels, sigma))


def simulate_low_resolution(images: Tensor, random: Generator, *, first_axis: int = 0) -> Tensor:
    """Half of the channels brought to [0.5, 1] of their size by nearest neighbour and back linearly."""
    touched = chance(0.5, images.shape[0] * images.shape[1], random)
    scale = uniform((0.5, 1.0), (len(touched),), random)[touched]
    return _change_channels(images, touched, lambda channels: lowered(channels, scale, first_axis=first_axis))


def _change_channels(images: Tensor, touched: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Images some of whose (sample, channel), counted through, are changed."""
    if touched.any():
        where, channels = torch.nonzero(touched).ravel().to(images.device), images.flatten(0, 1)
        channels.index_copy_(0, where, change(channels.index_select(0, where)))
    return images


def blurred(channels: Tensor, sigma: Tensor) -> Tensor:
    """Channels (channel, *space) after a Gaussian of `sigma` (channel, axis) of nnU-Net's length, edges reflected."""
    radius = (((6 * sigma + 0.5) - 1) / 2).round().clamp(1, 3)[..., None]
    distance = torch.arange(4)
    weights = torch.exp(-0.5 * (distance / sigma[..., None]) ** 2) * (distance <= radius)
    weights = (weights / (2 * weights.sum(-1, keepdim=True) - 1)).to(channels.device)
    for axis in range(1, channels.ndim):
        size = channels.shape[axis]
        source = torch.arange(-3, size + 3, device=channels.device).abs()
        source = torch.where(source > size - 1, 2 * (size - 1) - source, source).clamp(0, size - 1)
        before, behind = (channels.index_select(axis, end) for end in (source[:3], source[-3:]))
        wide = torch.cat((before, channels, behind), axis)
        channels = channels * _per_sample(weights[:, axis - 1, 0], channels)
        for d in range(1, 1 + int(radius[:, axis - 1].max())):
            weight = _per_sample(weights[:, axis - 1, d], channels)
            channels.addcmul_(wide.narrow(axis, 3 - d, size), weight).addcmul_(wide.narrow(axis, 3 + d, size), weight)
    return channels


def lowered(channels: Tensor, scale: Tensor, *, first_axis: int = 0) -> Tensor:
    """Channels (channel, *space) brought to `scale` (channel) of their size and back; axes before `first_axis` stay."""
    space = channels.shape[1:]
    linear = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(space)]
    for channel, share in zip(channels[:, None, None], scale.tolist(), strict=True):  # each has a size of its own
        small = [n if axis < first_axis else max(1, round(n * share)) for axis, n in enumerate(space)]
        coarse = F.interpolate(channel, small, mode="nearest-exact")
        channel.copy_(F.interpolate(coarse, space, mode=linear))
    return channels


def _per_sample(values: Tensor, images: Tensor) -> Tensor:
    return values.reshape(*values.shape, *(1,) * (images.ndim - values.ndim))
