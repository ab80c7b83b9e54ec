"""The shape of the network: where it halves which axis, and how wide its kernels are.

An axis is halved while its feature map keeps at least four voxels, and only together with axes of similar spacing, so
that anisotropic images become isotropic first. Patches are padded to what the halvings divide.
Source: Isensee et al. 2021, Methods, 'Network topology'; nnU-Net 2.8, ``get_pool_and_conv_props``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from autoseg.core.errors import PlanError
from autoseg.core.types import Shape, Spacing, by, count

SMALLEST_EDGE = 4  # voxels that a feature map keeps along each halved axis
SIMILAR = 2  # spacings within this ratio count as alike


@dataclass(frozen=True, slots=True)
class Topology:
    """Strides and kernel sizes of each stage; stage 0 is the full resolution, the last one the bottleneck."""

    strides: tuple[Shape, ...]
    kernel_sizes: tuple[Shape, ...]

    @property
    def stages(self) -> int:
        """Resolutions, the bottleneck included."""
        return len(self.strides)

    @property
    def divisor(self) -> Shape:
        """What the patch must be a multiple of along each axis."""
        return divisor_of(self.strides)

    def __str__(self) -> str:
        return f"{count(self.stages, 'stage')}, strides {' '.join(''.join(map(str, s)) for s in self.strides)}"


def topology_of(spacing: Spacing, size: Sequence[float]) -> Topology:
    """The topology for a patch of this size; fractions of voxels (medians) are allowed.

    >>> topology_of((3.6, 0.6, 0.6), (20, 320, 256)).strides
    ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2), (1, 2, 2))
    """
    strides = strides_for(spacing, size)
    return Topology(strides, kernels_for(spacing, strides))


def strides_for(spacing: Spacing, size: Sequence[float]) -> tuple[Shape, ...]:
    """The stride that leads into each stage, beginning with all ones.

    >>> strides_for((1.0, 1.0), (56, 11))
    ((1, 1), (2, 2), (2, 1), (2, 1))
    """
    if max(spacing) / min(spacing) < SIMILAR:
        spacing = (1.0,) * len(spacing)  # the same outcome, and one the cache knows from other spacings
    return _strides(tuple(spacing), tuple(size))


@lru_cache(maxsize=1 << 14)  # searches come by the same sizes again and again
def _strides(spacing: Spacing, size: tuple[float, ...]) -> tuple[Shape, ...]:
    spacings, sizes = list(spacing), list(size)
    axes = range(len(spacings))
    strides = [(1,) * len(spacings)]
    while True:
        large = [a for a in axes if sizes[a] >= 2 * SMALLEST_EDGE]
        if not large:
            break
        finest = min([spacings[a] for a in large])
        halved = [a for a in large if spacings[a] / finest < SIMILAR]
        if len(halved) == 1 and sizes[halved[0]] < 3 * SMALLEST_EDGE:
            break  # a single axis must have more to give
        strides.append(tuple([2 if a in halved else 1 for a in axes]))
        for a in halved:
            spacings[a] *= 2
            sizes[a] = -(-sizes[a] // 2)  # rounded up
    return tuple(strides)


def kernels_for(spacing: Spacing, strides: Sequence[Shape]) -> tuple[Shape, ...]:
    """Kernel sizes of each stage: 1 along an axis until its spacing is like the finest one's, then 3; 3 at the bottom.

    >>> kernels_for((5.0, 1.0, 1.0), ((1, 1, 1), (1, 2, 2), (1, 2, 2)))
    ((1, 3, 3), (1, 3, 3), (3, 3, 3))
    """
    spacings = list(spacing)
    kernel = [1] * len(spacings)
    kernels = []
    for stride in strides[1:]:
        finest = min(spacings)
        kernel = [3 if k == 3 or s / finest < SIMILAR else 1 for k, s in zip(kernel, spacings, strict=True)]
        kernels.append(tuple(kernel))
        spacings = [s * factor for s, factor in zip(spacings, stride, strict=True)]
    return (*kernels, (3,) * len(spacings))


@lru_cache(maxsize=1 << 10)
def divisor_of(strides: tuple[Shape, ...]) -> Shape:
    """The product of all strides along each axis.

    >>> divisor_of(((1, 1), (2, 2), (1, 2)))
    (2, 4)
    """
    return tuple([math.prod(factors) for factors in zip(*strides, strict=True)])


def padded(size: Sequence[float], divisor: Shape) -> Shape:
    """The size rounded up to multiples of the divisor.

    >>> padded((35.5, 50.0), (8, 8))
    (40, 56)
    """
    return tuple([int(-(-s // d)) * d for s, d in zip(size, divisor, strict=True)])


def nearest_fitting(spacing: Spacing, patch_size: Shape) -> tuple[Shape, Shape]:
    """The next smaller and next larger patch that its own network divides.

    >>> nearest_fitting((1.0, 1.0), (100, 64))
    ((96, 64), (112, 64))
    """
    larger = padded(patch_size, divisor_of(strides_for(spacing, patch_size)))
    smaller = list(patch_size)
    while not fits(spacing, tuple(smaller)):
        divisor = divisor_of(strides_for(spacing, smaller))
        smaller = [max(1, s // d * d) for s, d in zip(smaller, divisor, strict=True)]
    return tuple(smaller), larger


def fits(spacing: Spacing, patch_size: Shape) -> bool:
    """Whether a patch is a multiple of what its own network divides by."""
    return padded(patch_size, divisor_of(strides_for(spacing, patch_size))) == tuple(patch_size)


def size_before_padding(initial: Sequence[float], patch_size: Shape, spacing: Spacing) -> tuple[float, ...]:
    """The size a patch's topology follows from: where it is the padded initial one, that with its half voxels.

    A median of 7.5 voxels is not halved, although the 8 it is padded to could be; nnU-Net decides before padding.
    """
    if padded(initial, divisor_of(strides_for(spacing, initial))) == patch_size:
        return tuple(initial)
    return patch_size


def bottleneck(size: Sequence[float], divisor: Shape) -> tuple[float, ...]:
    """What is left of a size at the bottom of the network, each halving rounded up.

    >>> bottleneck((20, 320, 7.5), (4, 64, 1))
    (5, 5, 7.5)
    """
    return tuple([math.ceil(s / d) if d > 1 else s for s, d in zip(size, divisor, strict=True)])


def check_divides(patch_size: Shape, topology: Topology) -> None:
    """Raise `PlanError` where the network cannot halve the patch as often as it means to."""
    divisor = topology.divisor
    if len(divisor) != len(patch_size):
        raise PlanError(f"the strides have {len(divisor)} axes, the patch {patch_size} has {len(patch_size)}.")
    if padded(patch_size, divisor) != tuple(patch_size):
        smaller = tuple(max(1, p // d) * d for p, d in zip(patch_size, divisor, strict=True))
        raise PlanError(
            f"a patch of {by(patch_size)} voxels cannot be divided by the network's strides, which need multiples of "
            f"{by(divisor)}. Nearest that fit: {by(smaller)} and {by(padded(patch_size, divisor))}."
        )
