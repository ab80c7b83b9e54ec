"""nnU-Net's rules about resolutions: whether a low one is worth having, and the cascade that joins both."""

from __future__ import annotations

import math
from collections.abc import Sequence

from autoseg.core.decisions import Attempt, Because, Threshold, accepts, source
from autoseg.core.types import Shape, Spacing, by
from autoseg.planning import given
from autoseg.planning.memory import MemoryModel, shrinking_patches
from autoseg.planning.network_rules import initial_patch_size
from autoseg.planning.rules import scaled
from autoseg.planning.topology import SIMILAR

SMALL_VIEW = 0.25  # a patch that shows less of the image than this wants a low resolution beside it
COARSER = 1.03  # spacing grows by 3% a step
WORTH_IT = 2.0  # a low resolution has at most half the voxels of the full one


@source(
    "Isensee et al. 2021, Methods, 'Configuration of the 3D U-Net cascade'; nnU-Net plan_experiment",
    purpose="A patch that is small beside the image lacks surroundings. Why a quarter, and why half the voxels, "
    "nnU-Net's authors do not say",
)
@accepts(given.lowres)
def lowres(
    *, spacing: Spacing, median_shape: tuple[float, ...], patch_size: Shape, memory: MemoryModel
) -> Because[Spacing | None]:
    """A spacing at which a patch shows a quarter of the image, where the full resolution shows less."""
    full_voxels = math.prod(median_shape)
    view = Threshold(
        quantity="share of the median image that a full-resolution patch shows",
        value=math.prod(map(float, patch_size)) / full_voxels,
        relation="<",
        limit=SMALL_VIEW,
    )
    if not view.holds:
        return Because(
            None, f"a patch shows {view.value:.0%} of the image, {SMALL_VIEW:.0%} or more", (), (view,), "not needed"
        )
    tried: list[Attempt] = []
    share, coarse, voxels = view.value, spacing, full_voxels
    while share < SMALL_VIEW:
        coarse = _coarser(coarse)
        exact = scaled(median_shape, spacing, coarse)
        voxels = math.prod(exact)
        patch = _patch_at(coarse, exact, memory)
        share = math.prod(patch) / voxels
        tried.append(Attempt(coarse, f"a patch of {by(patch)} shows {share:.1%}", {"share": share, "voxels": voxels}))
    smaller = Threshold(
        quantity="voxels of the full resolution over those of the low one",
        value=full_voxels / voxels,
        relation=">=",
        limit=WORTH_IT,
    )
    last = tried[-1]
    tried[-1] = Attempt(last.value, last.outcome, last.numbers, accepted=smaller.holds)
    if smaller.holds:
        little = f"a patch shows {view.value:.1%} of the image, less than {SMALL_VIEW:.0%}"
        reason = f"{little}; at {by(coarse, 3)} mm it shows {share:.0%}"
        return Because(coarse, reason, tuple(tried), (view, smaller), "planned")
    reason = f"at {by(coarse, 3)} mm a patch would show {share:.0%}, but with hardly fewer voxels: {smaller}"
    return Because(None, reason, tuple(tried), (view, smaller), "dropped")


def _coarser(spacing: Spacing) -> Spacing:
    """Three per cent more along the axes finer than half the coarsest; along all where there are none."""
    coarsest = max(spacing)
    fine = [coarsest / s > SIMILAR for s in spacing]
    every = not any(fine)
    return tuple([s * COARSER if f or every else s for s, f in zip(spacing, fine, strict=True)])


def _patch_at(spacing: Spacing, shape: Sequence[float], memory: MemoryModel) -> Shape:
    """The patch that a configuration at this spacing would get."""
    rounded = tuple([float(max(1, round(v))) for v in shape])
    start = initial_patch_size(spacing=spacing, median_shape=rounded).value
    search = shrinking_patches(spacing=spacing, start=start, median_shape=rounded, memory=memory)
    *_, last = search
    return last.patch_size


@source("nnU-Net plan_experiment: no third axis, no resolutions to choose from")
def no_lowres(*, dimensions: tuple[int, ...]) -> Because[None]:
    """2D images are seen whole, or in patches at their own resolution."""
    return Because(None, "the images are 2D, and low resolutions are planned for 3D only")


@source(
    "Isensee et al. 2021, Methods, 'Configuration of the 3D U-Net cascade'; nnU-Net plan_experiment",
    purpose="The first stage sees the surroundings, the second the details",
)
@accepts(given.cascade)
def cascade(*, lowres: Spacing | None, lowres_reason: str, compared: tuple[Threshold, ...]) -> Because[bool]:
    """A low resolution is refined at the full one, wherever it exists."""
    if lowres is None:
        return Because(False, f"there is no low resolution to start from: {lowres_reason}", (), compared, "no")
    return Because(True, "the low resolution sees the whole, the full one refines what it found", (), compared, "yes")


@source(
    "Isensee et al. 2021, Methods, 'Training'; nnU-Net plan_experiment",
    purpose="Networks that see nearly whole images have a Dice for each; for others, the patches of a batch stand "
    "for one volume (Isensee et al. 2018)",
)
@accepts(given.yes_or_no)
def batch_dice(*, configuration: str, lowres: Spacing | None, lowres_reason: str) -> Because[bool]:
    """Dice over the whole batch where a patch shows little of the image, over each patch where it shows most."""
    together, apart = "over the batch as one", "over each patch"
    if configuration == "2d":
        return Because(True, f"in 2d, Dice is always computed {together}", branch=together)
    if configuration == "3d_lowres":
        reason = f"at the low resolution a patch shows much of the image, so Dice is computed {apart}"
        return Because(False, reason, branch=apart)
    if lowres is None:
        return Because(False, f"no low resolution ({lowres_reason}), so Dice is computed {apart}", branch=apart)
    return Because(True, f"a low resolution ({lowres_reason}), so Dice is computed {together}", branch=together)


@source("nnU-Net plans: 3d_cascade_fullres inherits from 3d_fullres")
@accepts(given.like_the_inherited)
def inherited(*, full_resolution: object) -> Because[object]:
    """The cascade's second stage is the full resolution, but for its input."""
    return Because(full_resolution, "the same as in 3d_fullres")
