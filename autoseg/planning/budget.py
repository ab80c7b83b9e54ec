"""The budget of a plan: how much GPU memory training may take, and which of nnU-Net's published presets to follow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from autoseg.core.errors import PlanError, did_you_mean
from autoseg.core.numbers import is_number, is_positive
from autoseg.core.shown import Shown

PresetName = Literal["default", "resenc_m", "resenc_l", "resenc_xl"]
RESIDUAL_BLOCKS = (1, 3, 4)  # of the first stages; six from there on


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """The constants of one of nnU-Net's planners.

    `reference_3d` and `reference_2d` count feature map values of one sample; batches of 2 and 12 such samples fill
    `memory_gb`. `smallest_batch` is the batch with which a patch must fit (None: the reference batch).
    """

    planner: str
    plans_name: str
    network: Literal["plain", "residual"]
    memory_gb: float
    reference_3d: int
    reference_2d: int
    dataset_fraction: float
    smallest_batch: int | None = None

    def reference(self, dimensions: int) -> int:
        """The feature map values of one sample that the preset was tuned with."""
        return self.reference_2d if dimensions == 2 else self.reference_3d

    def reference_batch(self, dimensions: int) -> int:
        """The batch that filled the memory with such samples."""
        return 12 if dimensions == 2 else 2

    def encoder_blocks(self, stages: int) -> tuple[int, ...]:
        """Convolutions (plain) or residual blocks of each encoder stage."""
        if self.network == "plain":
            return (2,) * stages
        return (RESIDUAL_BLOCKS + (6,) * stages)[:stages]

    def decoder_blocks(self, stages: int) -> tuple[int, ...]:
        """Convolutions of each decoder stage; the bottleneck has none."""
        return (2 if self.network == "plain" else 1,) * (stages - 1)


PRESETS: dict[str, Preset] = {
    "default": Preset(
        planner="ExperimentPlanner",
        plans_name="nnUNetPlans",
        network="plain",
        memory_gb=8,
        reference_3d=560_000_000,
        reference_2d=85_000_000,
        dataset_fraction=0.05,
        smallest_batch=2,
    ),
    "resenc_m": Preset(
        planner="nnUNetPlannerResEncM",
        plans_name="nnUNetResEncUNetMPlans",
        network="residual",
        memory_gb=8,
        reference_3d=680_000_000,
        reference_2d=135_000_000,
        dataset_fraction=1,
    ),
    "resenc_l": Preset(
        planner="nnUNetPlannerResEncL",
        plans_name="nnUNetResEncUNetLPlans",
        network="residual",
        memory_gb=24,
        reference_3d=2_100_000_000,
        reference_2d=380_000_000,
        dataset_fraction=1,
    ),
    "resenc_xl": Preset(
        planner="nnUNetPlannerResEncXL",
        plans_name="nnUNetResEncUNetXLPlans",
        network="residual",
        memory_gb=40,
        reference_3d=3_600_000_000,
        reference_2d=560_000_000,
        dataset_fraction=1,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget(Shown):
    """What training may cost. None means: what the preset was published with.

    Args:
        memory_gb: GPU memory to fill.
        max_dataset_fraction: share of the dataset's voxels that one batch may hold.
        preset: ``default`` (plain U-Net, 8 GB) or a residual encoder, ``resenc_m`` (8), ``resenc_l`` (24),
            ``resenc_xl`` (40).

    >>> Budget(preset="resenc_l").gpu_memory_gb, Budget(memory_gb=4).dataset_fraction
    (24, 0.05)
    """

    memory_gb: float | None = None
    max_dataset_fraction: float | None = None
    preset: PresetName = "default"

    def __post_init__(self) -> None:
        if str(self.preset) not in PRESETS:
            raise PlanError(f"no preset is called {self.preset!r}. {did_you_mean(self.preset, PRESETS)}")
        memory, fraction = self.memory_gb, self.max_dataset_fraction
        if memory is not None and not is_positive(memory):
            raise PlanError(f"a budget of {memory!r} GB is not a positive number. Write Budget(memory_gb=8).")
        if fraction is not None and not (is_number(fraction) and 0 < fraction <= 1):
            raise PlanError(
                f"max_dataset_fraction is {fraction!r}; it must be above 0 and at most 1. nnU-Net's default is 0.05."
            )

    @property
    def constants(self) -> Preset:
        """The constants of the preset."""
        return PRESETS[self.preset]

    @property
    def gpu_memory_gb(self) -> float:
        """GPU memory to fill, in GB."""
        return self.constants.memory_gb if self.memory_gb is None else self.memory_gb

    @property
    def dataset_fraction(self) -> float:
        """Share of the dataset's voxels that one batch may hold."""
        return self.constants.dataset_fraction if self.max_dataset_fraction is None else self.max_dataset_fraction

    def __repr__(self) -> str:
        share = f"{100 * self.dataset_fraction:g}% of the dataset a batch"
        return f"Budget({self.gpu_memory_gb:g} GB, preset {self.preset!r}, at most {share})"
