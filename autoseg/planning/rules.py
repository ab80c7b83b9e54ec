"""nnU-Net's rules about images, one function each: numbers in, a value with its reason out.

Each is pure and takes its inputs by name; `planner.make_plan` calls them in order and keeps what they say.
`spacing` is in mm and shapes are in voxels, in array order; a median shape may hold halves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoseg.core.decisions import NO_REASON, Attempt, Because, Threshold, accepts, source
from autoseg.core.errors import PlanError
from autoseg.core.types import Axes, Spacing, by
from autoseg.data.fingerprint import Fingerprint, IntensityFacts
from autoseg.data.normalization import CTNormalization, NoNormalization, Normalization, RescaleTo01, RGBTo01, ZScore
from autoseg.planning import given
from autoseg.planning.configuration import Resampling

ANISOTROPY = 3.0  # beyond this ratio an axis counts as coarse
MOSTLY_BACKGROUND = 0.75  # cropping that leaves less than this makes the background worth masking


@source(
    "Isensee et al. 2021, Methods, 'Image target spacing'; nnU-Net determine_fullres_target_spacing",
    purpose="A finer spacing makes more voxels and a longer training, so the median; but where slices are few, a "
    "coarse one would cost accuracy by the artifacts of interpolation",
)
@accepts(given.three_spacings)
def target_spacing(
    *, median_spacing: Spacing, fine_spacing: Spacing, median_shape: tuple[float, ...], pictures: bool = False
) -> Because[Spacing]:
    """The median; along a coarse axis of few voxels the 10th percentile, which keeps thin-sliced cases' detail."""
    axis = int(np.argmax(median_spacing))
    coarse, short = _coarse_and_short(axis, median_spacing, median_shape)
    fine, median = fine_spacing[axis], median_spacing[axis]
    finer = (*median_spacing[:axis], fine, *median_spacing[axis + 1 :])
    if not (coarse.holds and short.holds):
        other = (Attempt(finer, "only for a coarse and short axis"),) * (fine != median)
        tried = (Attempt(median_spacing, "the median of all cases", accepted=True), *other)
        reason = f"the median of all cases: no axis is both coarse and short ({short if coarse.holds else coarse})"
        return Because(median_spacing, reason, tried, (coarse, short), "median")
    if pictures:
        return Because(finer, f"pictures have no slices: {fine:g} is nnU-Net's placeholder; the rest is their median")
    limit = max(s for a, s in enumerate(median_spacing) if a != axis)
    bounded = Threshold(
        quantity=f"10th percentile of axis {axis}, against the next axis",
        value=fine,
        relation="<",
        limit=limit,
        unit="mm",
    )
    reason, branch = f"axis {axis} is coarse and short: its 10th percentile, {fine:.4g} mm", "10th percentile"
    if bounded.holds:
        finer = (*median_spacing[:axis], limit + 1e-5, *median_spacing[axis + 1 :])
        reason, branch = f"{reason}, but no finer than the next axis, {limit:.4g} mm", "just above the next axis"
    chosen, loss = Attempt(finer, branch, accepted=True), "throw slices of thin-sliced cases away"
    if finer == median_spacing:
        return Because(finer, reason, (chosen,), (coarse, short, bounded), branch)
    reason += f"; the median, {median:.4g} mm, would {loss}"
    tried = (Attempt(median_spacing, f"would {loss}"), chosen)
    return Because(finer, reason, tried, (coarse, short, bounded), branch)


def _coarse_and_short(axis: int, spacing: Spacing, shape: tuple[float, ...]) -> tuple[Threshold, Threshold]:
    """Whether an axis is three times as coarse as any other, and has less than a third of their voxels."""
    coarse = Threshold(
        quantity=f"median spacing of axis {axis}, against 3 times the next",
        value=spacing[axis],
        relation=">",
        limit=ANISOTROPY * max(s for a, s in enumerate(spacing) if a != axis),
        unit="mm",
    )
    short = Threshold(
        quantity=f"3 times the median voxels of axis {axis}, against the next",
        value=shape[axis] * ANISOTROPY,
        relation="<",
        limit=min(n for a, n in enumerate(shape) if a != axis),
        unit="voxels",
    )
    return coarse, short


@source(
    "nnU-Net determine_transpose",
    purpose="The 2d network takes its slices across the first axis",
)
@accepts(given.axis_order)
def axis_order(*, target_spacing: Spacing) -> Because[Axes]:
    """The coarsest axis first, the others as they are, so that 2d slices are cut across it."""
    axis = int(np.argmax(target_spacing))
    first = Threshold(
        quantity="target spacing of axis 0, against the coarsest other",
        value=target_spacing[0],
        relation=">=",
        limit=max(target_spacing[1:]),
        unit="mm",
    )
    order = (axis, *(a for a in range(3) if a != axis))
    if len(set(target_spacing)) == 1:
        return Because(order, "all axes are equally fine", branch="as it is")
    reason = "axis 0 is the coarsest already" if first.holds else f"axis {axis} is the coarsest, so it comes first"
    return Because(order, reason, (), (first,), "as it is" if first.holds else "coarsest axis first")


@source("Isensee et al. 2021, Methods, 'Image target spacing'; nnU-Net compute_new_shape")
@accepts(given.positive_numbers)
def median_shape(*, fingerprint: Fingerprint, target_spacing: Spacing, axis_order: Axes) -> Because[tuple[float, ...]]:
    """The median over cases of their shapes after resampling, each rounded half to even."""
    value = ordered(resampled_median(fingerprint.spacings, fingerprint.shapes, target_spacing), axis_order)
    if 0 in value:
        coarse = ordered(target_spacing, axis_order)[value.index(0)]
        raise PlanError(
            f"at {coarse:g} mm the median image has no voxel left along one axis: the target spacing is "
            f"{by(target_spacing, 4)} mm, the images' is {by(np.median(fingerprint.spacings, axis=0), 4)} mm. Give a "
            "finer target_spacing."
        )
    return Because(value, f"the median of {len(fingerprint.cases)} cropped cases, resampled to the target spacing")


def resampled_median(spacings: np.ndarray, shapes: np.ndarray, target_spacing: Spacing) -> tuple[float, ...]:
    """The median over cases, both arrays of shape (case, 3), of the shapes that resampling gives."""
    return tuple(np.median(resampled_shapes(spacings, shapes, target_spacing), axis=0).tolist())


def resampled_shapes(spacings: np.ndarray, shapes: np.ndarray, target_spacing: Spacing) -> np.ndarray:
    """The shapes that resampling gives, of each case."""
    shapes_there: np.ndarray = np.rint(spacings / np.array(target_spacing) * shapes)
    return shapes_there


@source(
    "nnU-Net plan_experiment: only 2d where the resampled images have a single slice",
    purpose="A single slice leaves a 3D network nothing to see along its axis",
)
@accepts(given.dimensions)
def dimensions(*, median_shape: tuple[float, ...]) -> Because[tuple[int, ...]]:
    """Whether there are slices to make a 3D network worth it; a 2d one is always planned."""
    slices = Threshold(quantity="median slices", value=median_shape[0], relation="!=", limit=1, unit="slices")
    if slices.holds:
        return Because((2, 3), f"the images have {median_shape[0]:g} slices", (), (slices,), "2D and 3D")
    return Because((2,), "the images have a single slice, so no 3D network is planned", (), (slices,), "only 2D")


@source(
    "Isensee et al. 2021, Methods, 'Intensity normalization'; nnU-Net get_normalization_scheme",
    purpose="CT numbers measure a physical property, which clipping and scaling all scans alike keeps; other "
    "intensities mean nothing across scans",
)
@accepts(given.normalization)
def normalization(*, channel: str, intensities: IntensityFacts) -> Because[Normalization]:
    """By the channel's name: ``CT`` has units that mean the same in every scan; anything unknown is z-scored."""
    name = channel.casefold()
    if name == "ct":
        facts = intensities
        scheme = CTNormalization(low=facts.percentile_00_5, high=facts.percentile_99_5, mean=facts.mean, std=facts.std)
        return Because(scheme, "CT numbers are absolute, so clipping and scaling come from the whole dataset")
    by_name: dict[str, tuple[Normalization, str]] = {
        "nonorm": (NoNormalization(), "the channel's name asks for the values as they are"),
        "rescale_to_0_1": (RescaleTo01(), "the channel's name asks for each case scaled to 0..1"),
        "rgb_to_0_1": (RGBTo01(), "the channel's name declares 8-bit colours"),
        "zscore": (ZScore(), "the channel's name asks for z-scores"),
    }
    scheme_and_reason = by_name.get(name, (ZScore(), f"{channel!r} has no absolute scale: mean 0, deviation 1 a case"))
    return Because(*scheme_and_reason)


@source(
    "Isensee et al. 2021, Methods, 'Intensity normalization'; nnU-Net determine_normalization_scheme",
    purpose=NO_REASON,
)
@accepts(given.one_bool_a_channel)
def mask_background(*, relative_size: float, normalizations: tuple[Normalization, ...]) -> Because[tuple[bool, ...]]:
    """Z-scores leave the background out where cropping took more than a quarter of the voxels."""
    empty = Threshold(
        quantity="share of voxels that cropping leaves",
        value=relative_size,
        relation="<",
        limit=MOSTLY_BACKGROUND,
    )
    value = tuple(empty.holds and isinstance(n, ZScore) for n in normalizations)
    if not any(isinstance(n, ZScore) for n in normalizations):
        branch = "none"
        reason = "no channel is z-scored: CT takes the training set's numbers, and other schemes need no such numbers"
    elif empty.holds:
        branch = "inside the patient"
        reason = f"cropping leaves {relative_size:.0%}: much of the image is zero and would shift mean and deviation"
    else:
        branch = "all voxels"
        reason = f"cropping leaves {relative_size:.0%}, so the zero background is small and counts with the rest"
    return Because(value, reason, (), (empty,), branch)


@source(
    "Isensee et al. 2021, Methods, 'Resampling'; nnU-Net determine_resampling, get_do_separate_z",
    purpose="Interpolating across thick slices makes artifacts, which the nearest slice does not",
)
@accepts(given.resampling)
def resampling(*, target_spacing: Spacing) -> Because[Resampling]:
    """Cubic for images, linear for labels; across a coarse axis nearest, decided case by case."""
    coarse = Threshold(
        quantity="coarsest over finest target spacing",
        value=max(target_spacing) / min(target_spacing),
        relation=">",
        limit=ANISOTROPY,
    )
    apart = "here the coarse axis is resampled on its own" if coarse.holds else "here only in cases that are coarser"
    reason = f"cubic for images, linear for labels; nearest across an axis 3 times as coarse, {apart}"
    branch = "coarse axis apart" if coarse.holds else "all axes alike"
    return Because(Resampling(anisotropy=ANISOTROPY), reason, (), (coarse,), branch)


@source("nnU-Net plan_experiment")
@accepts(given.positive_numbers)
def full_spacing(*, target_spacing: Spacing, axis_order: Axes) -> Because[Spacing]:
    """The target spacing in the plan's axis order."""
    return Because(ordered(target_spacing, axis_order), "the target spacing, in the plan's axis order")


@source("nnU-Net plan_experiment")
@accepts(given.positive_numbers)
def slice_spacing(*, target_spacing: Spacing, axis_order: Axes) -> Because[Spacing]:
    """The target spacing within a slice."""
    return Because(ordered(target_spacing, axis_order)[1:], "the target spacing within a slice")


@source("nnU-Net plan_experiment")
@accepts(given.positive_numbers)
def coarse_spacing(*, lowres: Spacing) -> Because[Spacing]:
    """What the search for a low resolution found."""
    return Because(lowres, "what the search for a low resolution found")


@source("nnU-Net plan_experiment")
@accepts(given.positive_numbers)
def shape_at(
    *, spacing: Spacing, target_spacing: Spacing, axis_order: Axes, median_shape: tuple[float, ...]
) -> Because[tuple[float, ...]]:
    """The dataset's median shape at this configuration's spacing; the last axes of it for 2d."""
    n = len(spacing)
    full = ordered(target_spacing, axis_order)[-n:]
    if spacing == full:
        return Because(median_shape[-n:], "the dataset's median shape" if n == 3 else "the median shape of a slice")
    value = tuple(max(1, round(v)) for v in scaled(median_shape[-n:], full, spacing))
    return Because(value, "the dataset's median shape at this spacing, rounded")


def ordered(values: Sequence[float], axis_order: Axes) -> tuple[float, ...]:
    """Values of the files' axes in the plan's axis order."""
    return tuple([values[a] for a in axis_order])


def scaled(shape: Sequence[float], spacing_from: Sequence[float], spacing_to: Sequence[float]) -> tuple[float, ...]:
    """A shape at another spacing, not rounded."""
    return tuple([old / new * n for n, old, new in zip(shape, spacing_from, spacing_to, strict=True)])
