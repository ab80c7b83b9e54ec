"""How much a network needs, in closed form: no network is built to plan.

What is counted are the values of all feature maps that convolutions write for one sample; a reference count that is
known to fill so many GB turns them into memory. Source: nnU-Net 2.8, ``compute_conv_feature_map_size`` of its networks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from autoseg.core.errors import PlanError
from autoseg.core.types import Shape, Spacing, by
from autoseg.planning.budget import Budget, Preset
from autoseg.planning.configuration import NetworkSpec
from autoseg.planning.topology import divisor_of, padded, strides_for

BASE_FEATURES = 32
MOST_FEATURES = {2: 512, 3: 320}


def features_for(stages: int, dimensions: int) -> tuple[int, ...]:
    """Channels of each stage: 32, doubled with each halving up to a limit.

    >>> features_for(6, 3)
    (32, 64, 128, 256, 320, 320)
    """
    most = MOST_FEATURES[dimensions]
    return tuple([min(BASE_FEATURES << stage, most) for stage in range(stages)])


def stage_elements(
    patch_size: Shape,
    strides: Sequence[Shape],
    features: Sequence[int],
    *,
    encoder_blocks: Sequence[int],
    decoder_blocks: Sequence[int],
    residual: bool,
) -> list[int]:
    """Feature map values that each stage writes for one sample, encoder and decoder together, without the head.

    A residual block writes two maps, and one more where it changes width or size; the decoder adds one for the
    transposed convolution.
    """
    size, incoming, counts = patch_size, features[0], []
    for stage, (stride, width) in enumerate(zip(strides, features, strict=True)):
        size = tuple([s // f for s, f in zip(size, stride, strict=True)])
        maps = encoder_blocks[stage]
        if residual:
            maps = 2 * maps + (incoming != width or max(stride) > 1) + (stage == 0)  # the stem
        if stage < len(decoder_blocks):
            maps += decoder_blocks[stage] + 1
        counts.append(maps * width * math.prod(size))
        incoming = width
    return counts


def network_elements(network: NetworkSpec, patch_size: Shape) -> list[int]:
    """What `stage_elements` counts of this very network."""
    return stage_elements(
        patch_size,
        network.strides,
        network.features,
        encoder_blocks=network.encoder_blocks,
        decoder_blocks=network.decoder_blocks,
        residual=network.kind == "residual",
    )


@lru_cache(maxsize=1 << 14)  # searches come by the same patches again and again
def _elements(preset: Preset, patch_size: Shape, strides: tuple[Shape, ...]) -> int:
    stages = len(strides)
    counts = stage_elements(
        patch_size,
        strides,
        features_for(stages, len(patch_size)),
        encoder_blocks=preset.encoder_blocks(stages),
        decoder_blocks=preset.decoder_blocks(stages),
        residual=preset.network == "residual",
    )
    return sum(counts)


@dataclass(frozen=True, slots=True)
class MemoryModel:
    """What a budget can hold: counts feature maps and compares them with the reference of its preset.

    `labels` is the number of declared labels, background and ignore included, as nnU-Net counts its output.

    >>> memory = MemoryModel(Budget(), labels=4)
    >>> strides = ((1, 1, 1),) + ((2, 2, 2),) * 5
    >>> memory.elements((128, 128, 128), strides), memory.limit(3)
    (454893568, 560000000.0)
    """

    budget: Budget
    labels: int

    def __str__(self) -> str:
        return f"{self.budget.gpu_memory_gb:g} GB, preset {self.budget.preset}, {self.labels} declared labels"

    def limit(self, dimensions: int) -> float:
        """The count for one sample that fills the budget when a batch has the preset's reference size."""
        preset = self.budget.constants
        return preset.reference(dimensions) * (self.budget.gpu_memory_gb / preset.memory_gb)

    def counted(self, elements: int, dimensions: int) -> float:
        """The count that must stay within the limit: with the smallest batch that the preset plans for."""
        preset = self.budget.constants
        if preset.smallest_batch is None:
            return elements
        return elements / preset.reference_batch(dimensions) * preset.smallest_batch

    def gigabytes(self, elements: int, dimensions: int, batch_size: float | None = None) -> float:
        """Memory of training with that batch, by the preset's reference; by default with its smallest batch."""
        preset = self.budget.constants
        counted = self.counted(elements, dimensions)
        if batch_size is not None:
            counted = elements / preset.reference_batch(dimensions) * batch_size
        return counted / self.limit(dimensions) * self.budget.gpu_memory_gb

    def elements(self, patch_size: Shape, strides: tuple[Shape, ...]) -> int:
        """Feature map values of one sample in the network that the preset builds on these strides."""
        return _elements(self.budget.constants, patch_size, strides) + self._head(patch_size, len(strides))

    def elements_of(self, network: NetworkSpec, patch_size: Shape) -> int:
        """Feature map values of one sample in this very network."""
        return sum(network_elements(network, patch_size)) + self._head(patch_size, network.stages)

    def _head(self, patch_size: Shape, stages: int) -> int:
        """The output; nnU-Net forgets it where there is no decoder, and so do we, to count alike."""
        return self.labels * math.prod(patch_size) if stages > 1 else 0


class Candidate(NamedTuple):
    """One patch of the search: what it needs, and the axis that is shortened next (None: it fits)."""

    patch_size: Shape
    strides: tuple[Shape, ...]
    elements: int
    axis: int | None


def shrinking_patches(
    *, spacing: Spacing, start: Sequence[float], median_shape: Sequence[float], memory: MemoryModel
) -> Iterator[Candidate]:
    """Patches from the largest sensible one down to the first that fits in memory.

    Each step shortens the axis that covers most of the median image; of equal ones the last. The step is the divisor
    that the shorter patch has, so that no valid size is skipped. Source: nnU-Net 2.8, ``get_plans_for_configuration``.
    """
    dimensions = len(spacing)
    limit, axes = memory.limit(dimensions), range(dimensions)
    strides = strides_for(spacing, start)
    patch = padded(start, divisor_of(strides))
    seen = set()
    while True:
        elements = memory.elements(patch, strides)
        if not memory.counted(elements, dimensions) > limit:
            yield Candidate(patch, strides, elements, None)
            return
        covered = [p / m for p, m in zip(patch, median_shape, strict=True)]
        axis = max(axes, key=lambda a: (covered[a], a))  # noqa: B023  used at once
        yield Candidate(patch, strides, elements, axis)
        seen.add(patch)
        tentative = _shortened(patch, axis, divisor_of(strides)[axis])
        strides = strides_for(spacing, tentative)
        shorter = _shortened(patch, axis, divisor_of(strides)[axis])
        if shorter != tentative:
            strides = strides_for(spacing, shorter)
        patch = padded(shorter, divisor_of(strides))
        if min(patch) < 1 or patch in seen:  # nnU-Net would divide by zero, or search for ever
            raise PlanError(_no_patch(memory, seen))


def _shortened(patch: Shape, axis: int, step: int) -> Shape:
    return (*patch[:axis], patch[axis] - step, *patch[axis + 1 :])


def _no_patch(memory: MemoryModel, seen: set[Shape]) -> str:
    smallest = min(seen, key=math.prod)
    name = "2d" if len(smallest) == 2 else "3d_fullres"
    return (
        f"no patch fits in {memory.budget.gpu_memory_gb:g} GB: the smallest one tried, "
        f"{by(smallest)} voxels, still needs more. Raise Budget(memory_gb=...), "
        f"or plan other images: {name} at a coarser spacing, or given={{'dimensions': (2,)}} for 2d alone."
    )
