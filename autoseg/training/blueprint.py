"""The blueprint: everything about training that does not depend on the dataset, as one object to look at and change."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Generator, nn

from autoseg.core.decisions import Decision, Trace
from autoseg.core.errors import TrainingError
from autoseg.core.numbers import is_number, is_whole
from autoseg.core.shown import Shown
from autoseg.core.types import Shape
from autoseg.planning.configuration import AugmentationSettings, Configuration, NetworkSpec
from autoseg.planning.network_rules import initial_size
from autoseg.training.augmentation import Augmentation
from autoseg.training.compute import Precision
from autoseg.training.losses import Loss
from autoseg.training.patches import Sampler
from autoseg.training.quick import DIFFERENT, ON_GPU, QUICK, quick_sizes, quick_speed
from autoseg.training.spatial import Batch

PAPER = "Isensee et al. 2021, Methods, 'Blueprint parameters'"
Network = Callable[[NetworkSpec], nn.Module]
Schedule = Literal["polynomial", "one_cycle"] | Callable[[float], float]  # progress 0..1 -> share of the learning rate
Augment = Callable[[Batch, AugmentationSettings, Sequence[int], Generator], Batch]


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint(Shown):
    """The fixed parameters of training. Start from `Blueprint.nnunet()` or `Blueprint.quick(minutes=...)`.

    Training ends after `epochs`, or with `minutes` when that time is over; the learning rate follows whichever is set.
    None means: what the plan says. `validation_cases` are predicted whole now and then; `compiled` asks for
    `torch.compile`, which pays in long trainings on a GPU only.

    `network`, `loss`, `sampler`, `augmentation` and `schedule` take callables of your own.

    A network gets the plan's numbers and returns a module, whose output may be a list, full resolution first:

    >>> def segresnet(spec):
    ...     from monai.networks.nets import SegResNet
    ...     return SegResNet(spec.dimensions, 8, in_channels=spec.in_channels, out_channels=spec.classes)
    >>> def swin_unetr(spec):
    ...     from monai.networks.nets import SwinUNETR  # needs einops, and patches of 64, 96 ...
    ...     return SwinUNETR(spec.in_channels, spec.classes, spatial_dims=spec.dimensions, feature_size=12)
    >>> blueprint = Blueprint.quick(minutes=5, network=segresnet)

    A loss gets float32 logits (batch, output, *space) and label maps (batch, *space); here rare labels count more:

    >>> def weighted(logits, target):
    ...     from torch.nn.functional import cross_entropy
    ...     seen = target.flatten().bincount(minlength=logits.shape[1]).float()
    ...     return cross_entropy(logits, target, weight=(1 / (seen + 1)).sqrt())
    >>> blueprint = blueprint.changed(loss=weighted)

    A sampler gets the volumes and says where to cut; here one case is drawn in every batch:

    >>> def always_first(volumes, request, random):
    ...     from autoseg.training.patches import draw_patches
    ...     first = dict(list(volumes.items())[:1])
    ...     return draw_patches(first, request, random)[:1] + draw_patches(volumes, request, random)[1:]
    >>> blueprint = blueprint.changed(sampler=always_first)

    An augmentation gets a batch cut larger than the patch, and a generator to draw with:

    >>> def inverted(batch, settings, patch, random):
    ...     images, labels = Augmentation()(batch, settings, patch, random)
    ...     turned = torch.rand(len(images), generator=random) < 0.1
    ...     images[turned] = -images[turned]
    ...     return images, labels
    >>> blueprint = blueprint.changed(augmentation=inverted)

    A schedule gets the progress, 0 to 1, and returns the share of the learning rate:

    >>> blueprint = blueprint.changed(schedule=lambda progress: 1.0 if progress < 0.8 else 0.1)
    >>> blueprint.trace["schedule"].reason
    'chosen by you'
    """

    name: str = "own"
    epochs: int | None = None
    minutes: float | None = None
    iterations_per_epoch: int = 250
    validation_iterations: int = 50
    batch_size: int | None = None
    batch_voxels: int | None = None
    patch_voxels: int | None = None
    base_features: int | None = None
    wide_patch_voxels: int | None = None
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 1e-2
    schedule: Schedule = "polynomial"
    momentum: float = 0.99
    weight_decay: float = 3e-5
    gradient_clip: float = 12.0
    weight_averaging: float = 0.0
    deep_supervision: bool = True
    foreground_fraction: float = 0.33
    mirroring: bool = True
    augmentation: Augmentation | Augment | None = Augmentation()
    network: Network | None = None
    loss: Loss | None = None
    sampler: Sampler | None = None
    precision: Precision = "auto"
    compiled: bool = False
    validation_cases: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.minutes is None):
            raise TrainingError(
                f"a blueprint needs either epochs or minutes, got epochs={self.epochs} and minutes={self.minutes}. "
                "Write Blueprint.quick(minutes=5), or blueprint.changed(epochs=100, minutes=None)."
            )
        for name, (allowed, sound) in VALUES.items():
            value = getattr(self, name)
            if not sound(value):
                raise TrainingError(f"the blueprint's {name} is {value!r:.80}; it must be {allowed}.")

    @classmethod
    def nnunet(cls, *, epochs: int = 1000) -> Blueprint:
        """The published recipe: 1000 epochs of 250 iterations, days on a GPU, months on a laptop.

        >>> Blueprint.nnunet().momentum
        0.99
        """
        return cls(name="nnunet", epochs=epochs)

    @classmethod
    def quick(cls, *, minutes: float, seed: int = 0, **changes: Any) -> Blueprint:
        """The best model we know how to train in minutes; what differs from the published recipe is in `.trace`.

        >>> Blueprint.quick(minutes=5).optimizer
        'adamw'
        """
        plain = cls(minutes=minutes, seed=seed, **{**QUICK, **changes})
        return plain.changed(**{n: v for n, v in quick_sizes(minutes, quick_speed()).items() if n not in changes})

    def batch_size_for(self, configuration: Configuration) -> int:
        """Patches in a batch: as given, 1 to 256 as `batch_voxels` allows, or what the plan says."""
        if self.batch_size is not None:
            return self.batch_size
        if self.batch_voxels is None:
            return configuration.batch_size
        return min(max(round(self.batch_voxels / math.prod(configuration.patch_size)), 1), MOST_PATCHES)

    def features_for(self, configuration: Configuration) -> int | None:
        """Features of the first stage: as given, 16 (8 for volumes above `wide_patch_voxels`), or None: the plan's."""
        if self.base_features is not None or self.wide_patch_voxels is None:
            return self.base_features
        wide = configuration.dimensions == 2 or math.prod(configuration.patch_size) <= self.wide_patch_voxels
        return 16 if wide else 8

    def fitted(self, configuration: Configuration) -> Configuration:
        """The configuration with a patch of at most `patch_voxels`: training, and the model's prediction, use that."""
        spec, settings = configuration.network, configuration.augmentation
        patch = shortened(configuration.patch_size, spec.divisor, self.patch_voxels)
        if patch == configuration.patch_size:
            return configuration
        cut = initial_size(patch, settings.rotation_degrees)
        settings = replace(settings, initial_patch_size=(patch[0], *cut[1:]) if settings.dummy_2d else cut)
        return replace(configuration, patch_size=patch, augmentation=settings)

    def changed(self, **changes: Any) -> Blueprint:
        """A copy with other values."""
        return replace(self, **changes)

    @property
    def trace(self) -> Trace:
        """Each value with its reason: the published one, or why this one differs."""
        published = type(self).nnunet()
        return Trace(tuple(self._decision(name, getattr(published, name)) for name in REASONS))

    def _decision(self, name: str, published: Any) -> Decision:
        value = getattr(self, name)
        if name == "minutes" and value is not None:
            return Decision(name=name, value=value, kind="given", reason=DIFFERENT[name])
        if (limit := LIMITS.get(name)) and value is None and getattr(self, limit) is not None:
            return Decision(name=name, value=value, kind="fixed", reason=f"what {limit} and the patch leave")
        source = "" if name in OURS else PAPER
        if isinstance(value, Augmentation) and value == published and not self.mirroring:
            reason = f"{REASONS[name]}, but mirroring"
            return Decision(name=name, value=replace(value, mirror=0.0), kind="fixed", reason=reason, source=source)
        if value == published:
            return Decision(name=name, value=value, kind="fixed", reason=REASONS[name], source=source)
        quick = [{**QUICK, **quick_sizes(self.minutes or 0, speed)}.get(name, published) for speed in (1, ON_GPU)]
        if self.name == "quick" and (name in ("epochs", "minutes") or value in quick):
            return Decision(name=name, value=value, kind="fixed", reason=DIFFERENT[name])
        return Decision(name=name, value=value, kind="given", reason="chosen by you")

    def __repr__(self) -> str:
        length = f"{self.epochs} epochs" if self.epochs else f"{self.minutes:g} minutes"
        return (
            f"Blueprint({self.name!r}: {length})\n"
            f"  {self.optimizer}, learning rate {self.learning_rate:g}, {self.schedule} schedule"
        )


def given_or_quick(blueprint: Blueprint | None) -> Blueprint:
    """The blueprint that was given, or the quick one of five minutes. Raises `TrainingError` for what is none."""
    if not isinstance(blueprint, Blueprint | None):
        raise TrainingError(
            f"the blueprint is of type {type(blueprint).__name__}; give one such as "
            "Blueprint.quick(minutes=5), or Blueprint.nnunet().changed(batch_size=4)."
        )
    return blueprint or Blueprint.quick(minutes=5)


def shortened(patch: Shape, divisor: Shape, voxels: int | None) -> Shape:
    """The patch with its longest axes shortened until it holds at most so many voxels.

    Each axis stays a multiple of what the network divides it by, and twice that: instance normalization needs some
    voxels at the bottom of the U-Net.

    >>> shortened((128, 128, 128), (32, 32, 32), 300_000), shortened((10, 256, 256), (2, 64, 64), 300_000)
    ((64, 64, 64), (10, 128, 192))
    """
    while voxels is not None and math.prod(patch) > voxels:
        longer = [a for a, (size, step) in enumerate(zip(patch, divisor, strict=True)) if size > 2 * step]
        if not longer:
            break
        axis = max(longer, key=lambda a: patch[a])
        patch = (*patch[:axis], patch[axis] - divisor[axis], *patch[axis + 1 :])
    return patch


MOST_PATCHES = 256  # of a batch: more only make a step slow
LIMITS = {"batch_size": "batch_voxels", "base_features": "wide_patch_voxels"}  # what decides where none is given


def _number(low: float, high: float = math.inf) -> Callable[[Any], bool]:
    """Whether a value is a number between, and not at, two limits."""
    return lambda value: is_number(value) and low < value < high


def _whole(low: int) -> Callable[[Any], bool]:
    return lambda value: is_whole(value) and low <= value < 1 << 63


def _or_none(sound: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or sound(value)


def _one_of(*names: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in names


VALUES: dict[str, tuple[str, Callable[[Any], bool]]] = {  # what each may be, in words and as a test
    "epochs": ("more than 0, a whole number", _or_none(_whole(1))),
    "minutes": ("more than 0, and finite", _or_none(_number(0))),
    **dict.fromkeys(("iterations_per_epoch", "validation_iterations"), ("a whole number, more than 0", _whole(1))),
    **dict.fromkeys(
        ("batch_size", "batch_voxels", "patch_voxels", "base_features", "wide_patch_voxels"),
        ("a whole number, more than 0, or None", _or_none(_whole(1))),
    ),
    "name": ("a word", lambda value: isinstance(value, str)),
    **dict.fromkeys(("deep_supervision", "mirroring", "compiled"), ("True or False", lambda v: isinstance(v, bool))),
    "validation_cases": ("a whole number, 0 for none", _whole(0)),
    "seed": ("a whole number, 0 or more", _whole(0)),
    **dict.fromkeys(("learning_rate", "gradient_clip"), ("more than 0", _number(0))),
    "weight_decay": ("0 or more", _number(-1e-300)),
    **dict.fromkeys(("momentum", "weight_averaging"), ("0 or more and less than 1", _number(-1e-300, 1))),
    "foreground_fraction": ("between 0 and 1", _number(-1e-300, 1 + 1e-9)),
    "optimizer": ("'sgd' or 'adamw'", _one_of("sgd", "adamw")),
    "precision": ("'auto', 'float32', 'bfloat16' or 'float16'", _one_of("auto", "float32", "bfloat16", "float16")),
    "schedule": (
        "'polynomial', 'one_cycle', or a function of the progress, 0 to 1",
        lambda value: callable(value) or value in ("polynomial", "one_cycle"),
    ),
    "network": (
        "a function that gets the plan's numbers and makes a network: lambda spec: MyNetwork(spec.in_channels, ...)",
        _or_none(lambda value: callable(value) and not isinstance(value, nn.Module)),
    ),
    **dict.fromkeys(("loss", "sampler", "augmentation"), ("a function of your own, or None", _or_none(callable))),
}

REASONS = {
    "epochs": "long enough for every dataset of the paper to converge",
    "minutes": "the published recipe counts epochs, not time",
    "iterations_per_epoch": "an epoch is a fixed number of batches, not a pass over the data, so that datasets compare",
    "batch_size": "what the plan found to fit in memory",
    "batch_voxels": "the batch size is what counts",
    "patch_voxels": "the plan's patch, however large",
    "base_features": "the width the plan's memory estimate counts with",
    "wide_patch_voxels": "one width for every patch",
    "optimizer": "stochastic gradient descent with Nesterov momentum",
    "learning_rate": "0.01 at the start",
    "schedule": "(1 - progress)^0.9, down to zero",
    "momentum": "0.99, so that the small batches of large patches average out",
    "weight_decay": "3e-5 on all weights",
    "gradient_clip": "global norm at most 12",
    "weight_averaging": "the last weights are used as they are",
    "deep_supervision": "a loss at every resolution but the two coarsest brings gradients deep into the network",
    "foreground_fraction": "a third of the patches must hold a random foreground label, so that rare ones are seen",
    "mirroring": "all axes, in training and in prediction",
    "precision": "whatever the device is fast in",
    "compiled": "never by surprise: it takes minutes before the first step",
    "validation_cases": "so many whole cases are predicted at intervals, to see the true Dice",
    "network": "its stages and kernels are decisions of the plan",
    "loss": "for regions, which overlap, the binary ones",
    "sampler": "how many, foreground_fraction says",
    "augmentation": "all of nnU-Net's transforms with its ranges and probabilities",
}

OURS = (
    "minutes",
    "batch_voxels",
    "patch_voxels",
    "base_features",
    "wide_patch_voxels",
    "weight_averaging",
    "precision",
    "compiled",
    "validation_cases",
)
