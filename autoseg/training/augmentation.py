"""nnU-Net's augmentation on whole batches: drawn first, then applied, one resampling for all that is spatial.

Each transform draws which samples it touches and with what numbers, then works on those samples together. Blur and
simulated low resolution are linear along each axis, so both are small matrices applied axis by axis.
Ranges and probabilities: Isensee et al. 2021, Supplementary Note 4, with the values of nnU-Net 2.8.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from autoseg.planning.configuration import AugmentationSettings
from autoseg.training.spatial import Batch, affine, resample_affine

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
        for alike in (rotated, scaled & ~rotated, ~(rotated | scaled)):  # the less is moved, the less is to compute
            samples = torch.nonzero(alike).ravel()
            if len(samples):
                resample_affine(batch, samples, matrices[samples], patch, result)
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
            (self.gamma_inverted, lambda x, r: -change_gamma(-x, r)),
            (self.gamma, change_gamma),
        ]
        for probability, transform in steps:
            touched = torch.nonzero(chance(probability, len(images), random)).ravel().to(images.device)
            if len(touched):
                images[touched] = transform(images[touched], random)
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
    return images + noise * _per_sample(deviation, images)


def multiply_brightness(images: Tensor, random: Generator) -> Tensor:
    """Each channel times a factor around one, [0.75, 1.25]."""
    factor = around_one((0.75, 1.25), images.shape[:2], random).to(images.device)
    return images * _per_sample(factor, images)


def change_contrast(images: Tensor, random: Generator) -> Tensor:
    """Each channel stretched around its mean by [0.75, 1.25], within its old range."""
    factor = around_one((0.75, 1.25), images.shape[:2], random).to(images.device)
    axes = tuple(range(2, images.ndim))
    mean, low, high = images.mean(axes, keepdim=True), images.amin(axes, keepdim=True), images.amax(axes, keepdim=True)
    return ((images - mean) * _per_sample(factor, images) + mean).clamp(low, high)


def change_gamma(images: Tensor, random: Generator) -> Tensor:
    """Each channel raised to a power around one, [0.7, 1.5], with its old mean and deviation."""
    power = around_one((0.7, 1.5), images.shape[:2], random).to(images.device)
    axes = tuple(range(2, images.ndim))
    low, high = images.amin(axes, keepdim=True), images.amax(axes, keepdim=True)
    curved = (images - low).div_((high - low).clamp_min(1e-7)).log_().mul_(_per_sample(power, images)).exp_()
    mean = images.mean(axes, keepdim=True)
    curved -= curved.mean(axes, keepdim=True)
    old, new = (torch.linalg.vector_norm(x, dim=axes, keepdim=True) for x in (images - mean, curved))
    return torch.addcmul(mean, curved, old / new.clamp_min(1e-7))


def blur(images: Tensor, random: Generator) -> Tensor:
    """Gaussian blur of half of the channels, with a deviation of [0.5, 1] voxels drawn for each axis.

    nnU-Net blurs across thick slices, too, where the other transforms treat the stack as 2D.
    """
    touched = chance(0.5, images.shape[0] * images.shape[1], random).reshape(images.shape[:2])
    sigma = uniform((0.5, 1.0), (*images.shape[:2], images.ndim - 2), random)[touched]
    return _where(touched, images, [_blur_matrix(sigma[:, axis], size) for axis, size in enumerate(images.shape[2:])])


def simulate_low_resolution(images: Tensor, random: Generator, *, first_axis: int = 0) -> Tensor:
    """Half of the channels brought to [0.5, 1] of their size by nearest neighbour and back linearly."""
    touched = chance(0.5, images.shape[0] * images.shape[1], random).reshape(images.shape[:2])
    scale = uniform((0.5, 1.0), images.shape[:2], random)[touched]
    scales = [torch.ones_like(scale) if axis < first_axis else scale for axis in range(images.ndim - 2)]
    matrices = [_low_resolution_matrix(s, size) for s, size in zip(scales, images.shape[2:], strict=True)]
    return _where(touched, images, matrices)


def _where(touched: Tensor, images: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Images whose `touched` (sample, channel) are multiplied with matrices of their own."""
    if touched.any():
        touched = touched.to(images.device)
        images[touched] = apply_along_axes(images[touched], [m.to(images.device) for m in matrices])
    return images


def apply_along_axes(images: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Apply a matrix (image, new, old) of its own to each image along each axis.

    Every product puts its axis last; after all of them the axes stand as before, and nothing was copied.
    """
    for matrix in matrices:
        others = images.shape[2:]
        images = (images.flatten(2).mT @ matrix.mT).reshape(len(images), *others, -1)
    return images


def _blur_matrix(sigma: Tensor, size: int) -> Tensor:
    """Rows of a Gaussian cut at nnU-Net's kernel length, edges reflected; shape (*sigma, size, size)."""
    radius = (((6 * sigma + 0.5) - 1) / 2).round().clamp(1, 3)[..., None]
    offsets = torch.arange(-3, 4)
    weights = torch.exp(-0.5 * (offsets / sigma[..., None]) ** 2) * (offsets.abs() <= radius)
    weights = weights / weights.sum(-1, keepdim=True)
    source = torch.arange(size)[:, None] + offsets
    source = source.abs()
    source = torch.where(source > size - 1, 2 * (size - 1) - source, source).clamp(0, size - 1)
    matrix = torch.zeros(*sigma.shape, size, size)
    return matrix.scatter_add_(
        -1, source.expand(*sigma.shape, size, 7), weights[..., None, :].expand(*sigma.shape, size, 7)
    )


def _low_resolution_matrix(scale: Tensor, size: int) -> Tensor:
    """Down by nearest neighbour and up linearly, as one matrix; shape (*scale, size, size)."""
    small = (scale * size).round().clamp(1, size)[..., None]
    position = ((torch.arange(size) + 0.5) * small / size - 0.5).clamp_min(0)
    lower = position.floor().clamp_max(small - 1)
    upper = (lower + 1).clamp_max(small - 1)
    share = position - lower
    matrix = torch.zeros(*scale.shape, size, size)
    for index, weight in ((lower, 1 - share), (upper, share)):
        nearest = ((index + 0.5) * size / small).floor().long().clamp(0, size - 1)
        matrix.scatter_add_(-1, nearest[..., None], weight[..., None])
    return matrix


def _per_sample(values: Tensor, images: Tensor) -> Tensor:
    return values.reshape(*values.shape, *(1,) * (images.ndim - values.ndim))
