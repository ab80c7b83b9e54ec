"""nnU-Net's rules about networks, one function each: what fits in memory, and which resolutions are worth having.

Pure and keyword-only, like those about images in `rules`.
"""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np

from autoseg.core.decisions import NO_REASON, Attempt, Because, Threshold, accepts, source
from autoseg.core.types import Shape, Spacing, by, count
from autoseg.data.labels import Labels
from autoseg.planning import given
from autoseg.planning.budget import Budget
from autoseg.planning.configuration import AugmentationSettings, NetworkSpec
from autoseg.planning.memory import Candidate, MemoryModel, features_for, shrinking_patches
from autoseg.planning.topology import (
    SIMILAR,
    SMALLEST_EDGE,
    Topology,
    bottleneck,
    size_before_padding,
    topology_of,
)

START_EDGE = {2: 2048, 3: 256}  # of the square or cube to begin with: more than fits anywhere
SMALLEST_BATCH = 2
FLAT = 3.0  # a patch this much wider than thick is turned in its plane only
OBLONG = 1.5
STOPPING = "bottleneck"  # what is compared to see whether it may be halved once more
TOO_SMALL_FOR_NNUNET = {  # by the number of stages
    1: "; nothing can be halved, and nnU-Net cannot run such a network: here it has one stage and its output there",
    2: "; so small that nnU-Net's weights of the deep outputs would be 0/0 and training NaN: here the one output keeps "
    "weight 1 and training works",
}
ROOM_AROUND = 0.85  # a training patch is cut large enough for any rotation, and then for this much zoom


@source(
    "Isensee et al. 2021, Methods, 'Adaptation of network topology'; nnU-Net get_plans_for_configuration",
    purpose="The search for a patch must begin with one that is too large, but more than the image is of no use",
)
@accepts(given.positive_numbers)
def initial_patch_size(*, spacing: Spacing, median_shape: tuple[float, ...]) -> Because[tuple[float, ...]]:
    """As many millimetres along each axis, more voxels than fit anywhere, and no larger than the median image."""
    n = len(spacing)
    inverse = [1 / s for s in spacing]
    scale = (START_EDGE[n] ** n / math.prod(inverse)) ** (1 / n)
    wanted = [round(v * scale) for v in inverse]
    value = tuple([max(1, min(w, m)) for w, m in zip(wanted, median_shape, strict=True)])
    cut = [a for a in range(n) if wanted[a] > median_shape[a]]
    reason = f"as many millimetres along each axis, {by(wanted)} voxels"
    return Because(value, reason + (f", cut to the median image along axis {', '.join(map(str, cut))}" if cut else ""))


@source(
    "Isensee et al. 2021, Methods, 'Adaptation of network topology'; nnU-Net get_plans_for_configuration",
    purpose="A large patch is worth more than a large batch, since it shows more of the surroundings. Memory is "
    "counted in elements, the values of all feature maps that convolutions write for one patch; how many fill 8 GB was "
    "set so that plans are those of nnU-Net's first version: an arbitrary number, its authors say",
)
@accepts(given.patch_size)
def patch_size(
    *,
    spacing: Spacing,
    initial_patch_size: tuple[float, ...],
    median_shape: tuple[float, ...],
    memory: MemoryModel,
) -> Because[Shape]:
    """The largest patch whose training fits in memory, found by shortening the axis that shows most of the image."""
    search = list(
        shrinking_patches(spacing=spacing, start=initial_patch_size, median_shape=median_shape, memory=memory)
    )
    tried = tuple(_patch_attempt(candidate, memory) for candidate in search)
    budget, chosen = memory.budget.gpu_memory_gb, search[-1].patch_size
    used = [attempt.numbers["memory_gb"] for attempt in tried]
    fits = Threshold(quantity="memory of the chosen patch", value=used[-1], relation="<=", limit=budget, unit="GB")
    if len(search) == 1:
        reason = f"the median image, padded to what the network divides, fits: {used[-1]:.3g} of {budget:g} GB"
        return Because(chosen, reason, tried, (fits,), "the median image fits")
    larger = Threshold(
        quantity="memory of the next larger patch", value=used[-2], relation=">", limit=budget, unit="GB"
    )
    reason = (
        f"the first of {len(search)} patches that fits in {budget:g} GB: it needs {used[-1]:.3g} GB, "
        f"{by(search[-2].patch_size)} would need {used[-2]:.3g} GB"
    )
    return Because(chosen, reason, tried, (fits, larger), "shortened until it fits")


def _patch_attempt(candidate: Candidate, memory: MemoryModel) -> Attempt:
    gigabytes = memory.gigabytes(candidate.elements, len(candidate.patch_size))
    numbers = {"memory_gb": gigabytes, "elements": candidate.elements, "stages": len(candidate.strides)}
    if candidate.axis is None:
        return Attempt(candidate.patch_size, f"fits: {gigabytes:.3g} GB", numbers, accepted=True)
    outcome = f"too large: {gigabytes:.3g} GB; axis {candidate.axis} shows most of the image and is shortened"
    return Attempt(candidate.patch_size, outcome, numbers | {"axis": candidate.axis})


@source(
    "Isensee et al. 2021, Methods, 'Network topology'; nnU-Net get_pool_and_conv_props",
    purpose="Halving down to a few voxels lets the deepest stage see the whole patch",
)
@accepts(given.topology)
def topology(*, spacing: Spacing, initial_patch_size: tuple[float, ...], patch_size: Shape) -> Because[Topology]:
    """Halve each axis while four voxels remain, the finest axes first; kernels of 1 along an axis that is coarse."""
    size = size_before_padding(initial_patch_size, patch_size, spacing)
    value = topology_of(spacing, size)
    bottom = bottleneck(size, value.divisor)
    coarsest = int(np.argmax(spacing))
    alike = Threshold(
        quantity=f"spacing of axis {coarsest}, against twice the finest",
        value=spacing[coarsest],
        relation="<",
        limit=SIMILAR * min(spacing),
        unit="mm",
    )
    stages = count(value.stages, "stage")
    reason = f"{stages} bring the patch down to {by(bottom)}; halving stops before it leaves less than 4"
    if not alike.holds:
        reason += f"; axis {coarsest} is at least twice as coarse as the finest, so it is halved later and less often"
    reason += TOO_SMALL_FOR_NNUNET.get(value.stages, "")
    thresholds = (alike, *_halvings_left(spacing, bottom, value.divisor))
    return Because(value, reason, (), thresholds, "all axes alike" if alike.holds else "coarse axis later")


def _halvings_left(spacing: Spacing, bottom: tuple[float, ...], divisor: Shape) -> list[Threshold]:
    """Why no axis is halved once more: each is too short, or the only one that may be is not long enough alone."""
    large = [axis for axis, n in enumerate(bottom) if n >= 2 * SMALLEST_EDGE]
    limit, stopping = 2 * SMALLEST_EDGE, list(range(len(bottom)))
    if large:
        limit, stopping = 3 * SMALLEST_EDGE, [min(large, key=lambda axis: spacing[axis] * divisor[axis])]
    return [
        Threshold(quantity=f"{STOPPING} along axis {a}", value=bottom[a], relation=">=", limit=limit, unit="voxels")
        for a in stopping
    ]


@source(
    "Isensee et al. 2021, Methods, 'Network architecture'; nnU-Net UNet_max_features_2d, _3d",
    kind="fixed",
    purpose="The limit keeps the model small",
)
@accepts(given.one_number_a_stage)
def features(*, topology: Topology) -> Because[tuple[int, ...]]:
    """32 channels at full resolution, doubled with each halving up to 320 (3D) or 512 (2D)."""
    value = features_for(topology.stages, len(topology.divisor))
    return Because(value, f"32, doubled with each stage, at most {512 if len(topology.divisor) == 2 else 320}")


@source(
    "Isensee et al. 2021, Methods, 'Network architecture'; Isensee et al. 2024 (residual)",
    kind="fixed",
    purpose=NO_REASON,
)
@accepts(given.two_block_lists)
def blocks(*, topology: Topology, budget: Budget) -> Because[tuple[tuple[int, ...], tuple[int, ...]]]:
    """How deep each stage is: (encoder, decoder)."""
    preset = budget.constants
    value = (preset.encoder_blocks(topology.stages), preset.decoder_blocks(topology.stages))
    if preset.network == "plain":
        return Because(value, "two convolutions a stage, on the way down and up")
    return Because(value, "1, 3, 4, then 6 residual blocks a stage on the way down, one convolution on the way up")


@source("Isensee et al. 2021, Methods, 'Network architecture'; nnU-Net determine_num_input_channels")
@accepts(given.network)
def network(
    *,
    topology: Topology,
    features: tuple[int, ...],
    blocks: tuple[tuple[int, ...], tuple[int, ...]],
    channels: tuple[str, ...],
    labels: Labels,
    previous_stage: str | None,
    budget: Budget,
) -> Because[NetworkSpec]:
    """The U-Net that topology, features and blocks describe, with an input a channel and an output a class."""
    extra = len(labels.foreground) if previous_stage else 0
    kind = budget.constants.network
    value = NetworkSpec(
        kind=kind,
        in_channels=len(channels) + extra,
        classes=labels.outputs,
        features=features,
        kernel_sizes=topology.kernel_sizes,
        strides=topology.strides,
        encoder_blocks=blocks[0],
        decoder_blocks=blocks[1],
    )
    inputs = count(len(channels), "channel") + (f" and {count(extra, 'label')} of {previous_stage}" if extra else "")
    outputs, stages = count(labels.outputs, "output"), count(topology.stages, "stage")
    return Because(value, f"a {kind} U-Net of {stages}: {inputs} in, {outputs}")


@source(
    "Isensee et al. 2021, Methods, 'Batch size'; nnU-Net get_plans_for_configuration",
    purpose="Two at least, since gradients of fewer are noisy; a small share of the dataset at most, a "
    "precaution against overfitting",
)
@accepts(given.batch_size)
def batch_size(
    *, patch_size: Shape, network: NetworkSpec, memory: MemoryModel, dataset_shape: tuple[float, ...], cases: int
) -> Because[int]:
    """As many patches as memory holds, but no more than a share of the dataset, and never below 2."""
    n, budget = len(patch_size), memory.budget
    elements = memory.elements_of(network, patch_size)
    room = round(memory.limit(n) / elements * budget.constants.reference_batch(n))
    voxels = math.prod(dataset_shape) * cases
    cap = round(voxels * budget.dataset_fraction / math.prod(map(float, patch_size)))
    value = max(min(room, cap), SMALLEST_BATCH)
    thresholds = (
        Threshold(quantity="batch that memory holds", value=room, relation="<=", limit=cap, unit="patches"),
        Threshold(
            quantity="batch before its minimum",
            value=min(room, cap),
            relation=">=",
            limit=SMALLEST_BATCH,
            unit="patches",
        ),
    )
    share = f"{100 * budget.dataset_fraction:g}% of the dataset's voxels"
    branch = "smallest batch" if value > min(room, cap) else "memory decides" if room <= cap else "dataset decides"
    candidates = (
        (room, "as many patches as memory holds", "memory decides"),
        (cap, share, "dataset decides"),
        (SMALLEST_BATCH, "the smallest batch allowed", "smallest batch"),
    )
    tried = tuple([Attempt(size, outcome, accepted=decides == branch) for size, outcome, decides in candidates])
    reason = f"memory holds {count(room, 'patch', 'patches')}, {share} allow {cap:,}; never below {SMALLEST_BATCH}"
    return Because(value, reason, tried, thresholds, branch)


@source(
    "Isensee et al. 2021, Methods, 'Data augmentation'; nnU-Net configure_rotation_dummyDA_mirroring",
    purpose=NO_REASON,
)
@accepts(given.augmentation)
def augmentation(*, patch_size: Shape) -> Because[AugmentationSettings]:
    """What may be rotated and mirrored, and how much is cut around a patch so that nothing is missing afterwards."""
    if len(patch_size) == 2:
        oblong = Threshold(
            quantity="longer over shorter edge", value=max(patch_size) / min(patch_size), relation=">", limit=OBLONG
        )
        degrees, flat, deciding = (15.0 if oblong.holds else 180.0), False, oblong
        reason = "an oblong patch turns little" if oblong.holds else "a nearly square patch turns freely"
    else:
        deciding = Threshold(
            quantity="longest edge over the first", value=max(patch_size) / patch_size[0], relation=">", limit=FLAT
        )
        flat = deciding.holds
        degrees = 180.0 if flat else 30.0
        reason = "a flat patch turns in its plane only" if flat else "the patch turns about each axis"
    cut = initial_size(patch_size, degrees)
    settings = AugmentationSettings(
        rotation_degrees=degrees,
        dummy_2d=flat,
        mirror_axes=tuple(range(len(patch_size))),
        initial_patch_size=(patch_size[0], *cut[1:]) if flat else cut,
    )
    return Because(settings, f"{reason}, by up to {degrees:g} degrees; all axes are mirrored", (), (deciding,), reason)


def initial_size(patch_size: Shape, degrees: float) -> Shape:
    """What must be cut so that a patch turned by so much about one axis, then zoomed out, shows only image.

    >>> initial_size((40, 56, 40), 30.0), initial_size((320, 192), 15.0)
    ((73, 80, 64), (422, 225))
    """
    angle = math.radians(min(degrees, 90.0))
    c, s = math.cos(angle), math.sin(angle)
    reach = list(map(float, patch_size))
    for a, b in combinations(range(len(patch_size)), 2):
        first, second = patch_size[a], patch_size[b]
        sign = -1 if (a, b) == (0, 2) else 1  # nnU-Net turns about the middle axis the other way round
        reach[a] = max(reach[a], abs(first * c + sign * second * s))
        reach[b] = max(reach[b], abs(second * c - sign * first * s))
    return tuple(int(r / ROOM_AROUND) for r in reach)
