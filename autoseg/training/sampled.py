"""What training really saw: how often each label was in the patches, and which cases they came from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from autoseg.core.shown import Shown
from autoseg.data.labels import Labels

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled(Shown):
    """Counts over the training patches after augmentation; `holding` and `labelled` have one entry a label or region.

    No label is weighted in nnU-Net's loss. Dice counts every label alike, however small it is; cross-entropy counts
    every voxel alike, so there a label weighs as much as its share of the voxels. What can be steered is how often a
    label is seen: `Blueprint.foreground_fraction`, or a sampler of your own.
    """

    names: tuple[str, ...]
    patches: int = 0
    voxels: int = 0
    holding: tuple[int, ...] = ()  # patches with at least one voxel of the label
    labelled: tuple[int, ...] = ()  # voxels of the label
    cases: Mapping[str, int] = field(default_factory=dict, hash=False)  # patches cut from each case

    @classmethod
    def nothing(cls, names: Iterable[str]) -> Sampled:
        """Before the first batch."""
        names = tuple(names)
        return cls(names=names, holding=(0,) * len(names), labelled=(0,) * len(names))

    def __add__(self, other: Sampled) -> Sampled:
        counts = {name: self.cases.get(name, 0) + n for name, n in other.cases.items()}
        return Sampled(
            names=self.names,
            patches=self.patches + other.patches,
            voxels=self.voxels + other.voxels,
            holding=tuple(a + b for a, b in zip(self.holding, other.holding, strict=True)),
            labelled=tuple(a + b for a, b in zip(self.labelled, other.labelled, strict=True)),
            cases={**self.cases, **counts},
        )

    @property
    def patch_shares(self) -> tuple[float, ...]:
        """The share of patches that held each label."""
        return tuple(n / max(self.patches, 1) for n in self.holding)

    @property
    def voxel_shares(self) -> tuple[float, ...]:
        """The share of voxels of each label: its weight in the cross-entropy."""
        return tuple(n / max(self.voxels, 1) for n in self.labelled)

    @property
    def dice_weight(self) -> float:
        """The weight of each label in the Dice term: all are alike."""
        return 1 / max(len(self.names), 1)

    def table(self) -> pd.DataFrame:
        """One row a label or region."""
        import pandas as pd

        columns = {
            "label": self.names,
            "patches": self.holding,
            "share_of_patches": self.patch_shares,
            "share_of_voxels": self.voxel_shares,
            "weight_in_dice": (self.dice_weight,) * len(self.names),
        }
        return pd.DataFrame(columns)

    def __repr__(self) -> str:
        seen = (f"{name!r} in {share:.0%}" for name, share in zip(self.names, self.patch_shares, strict=True))
        return f"Sampled({self.patches:,} patches of {len(self.cases)} cases: {', '.join(seen)})"


def count_labels(labels: Tensor, cases: Iterable[str], meaning: Labels) -> Sampled:
    """Count one batch of label maps (batch, *space) that were cut from `cases`.

    >>> batch = torch.tensor([[[0, 1], [1, 1]], [[0, 0], [0, 0]]])
    >>> count_labels(batch, ["a", "b"], Labels({"background": 0, "box": 1})).patch_shares
    (0.5,)
    """
    most = max(meaning.values) + 1  # the ignore label lies above and is left out
    by_value = torch.stack([torch.bincount(sample, minlength=most)[:most] for sample in labels.flatten(1)]).cpu()
    inside = torch.stack([by_value[:, list(region)].sum(1) for region in meaning.regions.values()])
    counts: dict[str, int] = {}
    for name in cases:
        counts[name] = counts.get(name, 0) + 1
    return Sampled(
        names=tuple(meaning.regions),
        patches=len(labels),
        voxels=labels.numel(),
        holding=tuple((inside > 0).sum(1).tolist()),
        labelled=tuple(inside.sum(1).tolist()),
        cases=counts,
    )
