"""One configuration of a plan (2d, 3d_fullres, ...): everything that preprocessing and training read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from autoseg.core.errors import PlanError
from autoseg.core.numbers import is_positive
from autoseg.core.shown import Shown
from autoseg.core.types import Axes, Shape, Spacing, by, count
from autoseg.data.labels import Labels
from autoseg.data.normalization import Normalization
from autoseg.planning.topology import divisor_of

HIGHEST_LABEL = (1 << 15) - 1  # in 16 bits, whose negative half is for what lies outside of the patient


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """A U-Net in numbers. Stage 0 is the full resolution; every tuple has one entry a stage.

    `kind` is ``plain`` (nnU-Net's PlainConvUNet) or ``residual`` (ResidualEncoderUNet).
    """

    kind: Literal["plain", "residual"] = "plain"
    in_channels: int
    classes: int
    features: tuple[int, ...]
    kernel_sizes: tuple[Shape, ...]
    strides: tuple[Shape, ...]
    encoder_blocks: tuple[int, ...]
    decoder_blocks: tuple[int, ...]  # one fewer: the bottleneck has no decoder

    def __post_init__(self) -> None:
        n = len(self.strides)
        lengths = [len(v) for v in (self.features, self.kernel_sizes, self.encoder_blocks)]
        lengths.append(len(self.decoder_blocks) + 1)
        if set(lengths) != {n}:
            raise PlanError(f"a network of {n} stages needs {n} entries of each setting, found {lengths}.")
        rows = (*self.strides, *self.kernel_sizes)
        if len({len(row) for row in rows}) != 1 or min(min(row, default=0) for row in rows) < 1:
            raise PlanError(f"strides {self.strides} and kernels {self.kernel_sizes} need one number >= 1 an axis.")

    def __str__(self) -> str:
        stages = f"{count(self.stages, 'stage')} of {'-'.join(map(str, self.features))} features"
        return f"{self.kind} U-Net, {self.in_channels} in, {self.classes} out, {stages}"

    @property
    def dimensions(self) -> int:
        """2 or 3."""
        return len(self.strides[0])

    @property
    def stages(self) -> int:
        """Resolutions, the bottleneck included."""
        return len(self.strides)

    @property
    def divisor(self) -> Shape:
        """What the patch must be a multiple of along each axis.

        >>> NetworkSpec(in_channels=1, classes=2, features=(32, 64), kernel_sizes=((3, 3),) * 2,
        ...             strides=((1, 1), (2, 2)), encoder_blocks=(2, 2), decoder_blocks=(2,)).divisor
        (2, 2)
        """
        return divisor_of(self.strides)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampling:
    """How voxels are brought to the target spacing: spline orders, and when the coarse axis is treated apart."""

    image_order: int = 3
    label_order: int = 1
    probability_order: int = 1
    coarse_axis_order: int = 0
    anisotropy: float = 3.0  # beyond this ratio of spacings the coarsest axis is resampled on its own
    separate_axis: bool | None = None  # None: decided case by case

    def __str__(self) -> str:
        orders = f"splines of order {self.image_order} for images, {self.label_order} for labels"
        apart = {True: "always", False: "never", None: f"beyond {self.anisotropy:g} : 1"}[self.separate_axis]
        return f"{orders}; the coarse axis on its own {apart}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentationSettings:
    """The geometry that augmentation depends on: what may be rotated and mirrored, and from how large a patch."""

    rotation_degrees: float
    dummy_2d: bool
    mirror_axes: Axes
    initial_patch_size: Shape

    def __str__(self) -> str:
        plane = " in the plane" if self.dummy_2d else ""
        return f"rotated by up to {self.rotation_degrees:g} degrees{plane}, cut from {by(self.initial_patch_size)}"

    def without_mirroring(self) -> AugmentationSettings:
        """The same geometry with no axis mirrored."""
        return replace(self, mirror_axes=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration(Shown):
    """All values of one configuration; spacing and shapes are in the plan's axis order, two entries for ``2d``."""

    name: str
    dataset_name: str
    channels: tuple[str, ...]
    labels: Labels
    axis_order: Axes
    spacing: Spacing
    median_shape: tuple[float, ...]
    patch_size: Shape
    batch_size: int
    network: NetworkSpec
    normalization: tuple[Normalization, ...]
    mask_background: tuple[bool, ...]
    resampling: Resampling
    augmentation: AugmentationSettings
    batch_dice: bool
    previous_stage: str | None = None

    def __post_init__(self) -> None:
        axes = {len(self.patch_size), len(self.spacing), len(self.median_shape), self.network.dimensions}
        if axes not in ({2}, {3}) or sorted(self.axis_order) != [0, 1, 2]:
            raise PlanError(
                f"{self.name}: patch {self.patch_size}, spacing {self.spacing}, median shape {self.median_shape} and "
                f"strides {self.network.strides[0]} need one number an axis, and {self.axis_order} each axis once."
            )
        if set(self.network.strides[0]) != {1} or self.network.classes != self.labels.outputs:
            raise PlanError(
                f"{self.name}: the network must begin with strides of 1 and give {self.labels.outputs} outputs; it "
                f"begins with {self.network.strides[0]}, and it gives {self.network.classes}."
            )
        if not all(map(is_positive, self.spacing)):
            raise PlanError(f"{self.name}: the spacing {self.spacing} must be positive millimetres.")
        if max(self.labels.permitted) > HIGHEST_LABEL:
            raise PlanError(
                f"{self.name}: a label has the value {max(self.labels.permitted):,}, and prepared label maps hold "
                f"values up to {HIGHEST_LABEL:,}. Number the labels anew: autoseg.data.fixes.number_labels(dataset)."
            )
        channels = {len(self.channels), len(self.normalization), len(self.mask_background)}
        if len(channels) > 1:
            raise PlanError(f"{self.name}: {len(self.channels)} channel(s) need as many normalizations and masks.")
        if any(not 0 < p < 1 << 31 or p % d for p, d in zip(self.patch_size, self.network.divisor, strict=True)):
            raise PlanError(
                f"{self.name}: the patch {self.patch_size} cannot be divided by the network's strides, which need "
                f"multiples of {self.network.divisor} below 2^31."
            )

    @property
    def dimensions(self) -> int:
        """Axes of a patch: 2 or 3."""
        return len(self.patch_size)

    def __repr__(self) -> str:
        features = "-".join(map(str, self.network.features))
        return (
            f"Configuration({self.name!r} for {self.dataset_name!r})\n"
            f"  patch {by(self.patch_size)} at {by(self.spacing, 3)} mm, batch {self.batch_size}\n"
            f"  {self.network.kind} U-Net, {count(self.network.stages, 'stage')}, features {features}"
        )
