"""The cascade: what the previous stage predicted enters as one channel a label, spoiled a little while training.

A network that sees perfect predictions learns to copy them. So labels grow and shrink and lose parts at random.
Source: Isensee et al. 2021, Methods, 'Cascade'; operations and probabilities as in nnU-Net 2.8.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Generator, Tensor

from autoseg.core.errors import TrainingError
from autoseg.core.kinds import require
from autoseg.core.types import LabelArray, Mask, by
from autoseg.data.images import LabelMap
from autoseg.data.label_values import count_values
from autoseg.data.labels import Labels
from autoseg.planning.configuration import HIGHEST_LABEL, Resampling
from autoseg.preprocessing.cases import CaseGeometry
from autoseg.preprocessing.label_resampling import resample_labels
from autoseg.preprocessing.store import PreprocessedDataset
from autoseg.training.spatial import OUTSIDE, Batch

Operation = str
OPERATIONS: tuple[Operation, ...] = ("dilation", "erosion", "closing", "opening")


@dataclass(frozen=True, slots=True, kw_only=True)
class Corruption:
    """How often and how strongly previous predictions are spoiled; the defaults are nnU-Net's."""

    reshape: float = 0.4  # share of samples
    reshape_each: float = 0.5  # of the labels of such a sample
    radius: tuple[float, float] = (1.0, 8.0)
    remove: float = 0.2
    remove_each: float = 0.5
    largest_removed: float = 0.15  # of the patch

    def __call__(self, onehot: Tensor, random: Generator) -> Tensor:
        """Spoil (batch, label, *space), zeros and ones, in place of a copy."""
        result = onehot.cpu().numpy().astype(bool)
        for sample in result:
            if _chance(self.reshape, random):
                self._reshape(sample, random)
            if _chance(self.remove, random):
                self._remove(sample, random)
        return torch.from_numpy(result).to(onehot)

    def _reshape(self, sample: np.ndarray, random: Generator) -> None:
        """Grow, shrink, close or open some labels by a ball; what one gains the others lose."""
        for label in torch.randperm(len(sample), generator=random).tolist():
            if not _chance(self.reshape_each, random):
                continue
            operation = OPERATIONS[int(torch.randint(len(OPERATIONS), (), generator=random))]
            radius = self.radius[0] + (self.radius[1] - self.radius[0]) * float(torch.rand((), generator=random))
            before = sample[label].copy()
            sample[label] = morphed(before, operation, radius)
            others = [other for other in range(len(sample)) if other != label]
            sample[others] &= ~(sample[label] & ~before)

    def _remove(self, sample: np.ndarray, random: Generator) -> None:
        """Take one small component away from some labels; nothing fills the gap."""
        limit = self.largest_removed * sample[0].size
        for label in torch.randperm(len(sample), generator=random).tolist():
            if not _chance(self.remove_each, random):
                continue
            components, count = ndimage.label(sample[label], np.ones((3,) * sample[label].ndim))
            sizes = np.bincount(components.ravel(), minlength=count + 1)
            small = [i for i in range(1, count + 1) if sizes[i] < limit]
            if small:
                sample[label][components == small[int(torch.randint(len(small), (), generator=random))]] = False


def _chance(probability: float, random: Generator) -> bool:
    return bool(torch.rand((), generator=random) < probability)


def morphed(mask: Mask, operation: Operation, radius: float) -> Mask:
    """A mask grown, shrunk, closed or opened by a ball; distances do what a large structuring element would.

    >>> morphed(np.array([[0, 0, 1, 0, 0]], bool), "dilation", 1.0).astype(int)
    array([[0, 1, 1, 1, 0]])
    """
    if not mask.any():
        return mask
    steps = {"dilation": (True,), "erosion": (False,), "closing": (True, False), "opening": (False, True)}[operation]
    for grow in steps:
        mask = _within(mask, radius) if grow else ~_within(~mask, radius)
    return mask


def _within(mask: Mask, radius: float) -> Mask:
    """Voxels at most a radius away from the mask."""
    if not mask.any():
        return mask
    near: Mask = ndimage.distance_transform_edt(~mask) <= radius
    return near


@dataclass(frozen=True, slots=True)
class Codes:
    """Label map and previous prediction as one integer map, so that augmentation moves both together.

    >>> codes = Codes(Labels({"background": 0, "box": 1}))
    >>> joined = codes.join(np.array([-1, 0, 1, 0]), np.array([0, 1, 1, 0]))
    >>> [t.tolist() for t in codes.split(torch.from_numpy(joined))]
    [[-1, 0, 1, 0], [0, 1, 1, 0]]
    """

    labels: Labels

    def __post_init__(self) -> None:
        if len(self.labels.permitted) ** 2 - 1 > HIGHEST_LABEL:
            raise TrainingError(
                f"a cascade trains at most {math.isqrt(HIGHEST_LABEL + 1)} label values, and these are "
                f"{len(self.labels.permitted)}. Train '3d_fullres' alone."
            )

    def join(self, label: LabelArray, previous: LabelArray) -> LabelArray:
        """One map of both; outside of the patient it stays outside."""
        values = self.labels.permitted
        joined = np.searchsorted(values, label) + len(values) * np.searchsorted(values, previous)
        return np.where(label < 0, OUTSIDE, joined).astype(np.int16)

    def split(self, joined: Tensor) -> tuple[Tensor, Tensor]:
        """Label map and previous prediction again."""
        values = torch.tensor(self.labels.permitted, device=joined.device)
        outside = joined < 0
        known = joined.masked_fill(outside, 0).long()
        label = values[known % len(values)].masked_fill(outside, OUTSIDE)
        return label, values[(known // len(values)).clamp_max(len(values) - 1)]


def onehot(previous: Tensor, labels: Labels) -> Tensor:
    """Channels (batch, label, *space) of a previous prediction (batch, *space): one for each foreground value."""
    return torch.stack([previous == value for value in labels.foreground], dim=1).float()


def with_previous(batch: Batch, labels: Labels, corruption: Corruption | None, random: Generator) -> Batch:
    """A batch whose label maps are `Codes`, taken apart: the previous prediction becomes channels of the image."""
    images, joined = batch
    label, previous = Codes(labels).split(joined)
    channels = onehot(previous, labels)
    if corruption is not None:
        channels = corruption(channels, random)
    return torch.cat((images, channels.to(images)), dim=1), label


def checked_previous(
    previous: Mapping[str, LabelArray], shapes: Mapping[str, Sequence[int]], labels: Labels, stage: str
) -> dict[str, LabelArray]:
    """The predictions of every case.

    Raises `TrainingError` where one is missing, has another grid, or holds a value that no label has.
    """
    missing = [name for name in shapes if name not in previous]
    if missing:
        raise TrainingError(
            f"the cascade needs what {stage} predicts for each case; {len(missing)} of {len(shapes)} are missing, such "
            f"as {missing[0]!r}. Pass previous={{name: label map}}, predicted by folds that did not train on the case."
        )
    arrays = {name: np.asarray(previous[name]) for name in shapes}
    for name, shape in shapes.items():
        if arrays[name].shape != tuple(shape):
            there, here = (by(s) for s in (arrays[name].shape, shape))
            raise TrainingError(
                f"case {name!r}: the prediction of {stage} has {there} voxels and the prepared case {here}. Bring it "
                "to the case's grid with autoseg.previous_stage(prepared, predictions)."
            )
        unknown = [value for value in count_values(arrays[name]) if value not in labels.permitted]
        if unknown:
            shown = ", ".join(f"{v:.10g}" for v in unknown[:5]) + (", ..." if len(unknown) > 5 else "")
            raise TrainingError(
                f"case {name!r}: the prediction of {stage} holds the value(s) {shown}, and the labels of this dataset "
                f"are {', '.join(map(str, labels.permitted))}. Pass label maps with these values."
            )
    return arrays


def labels_apart(first: Labels, second: Labels) -> str:
    """In words how labels of a cascade's first stage differ from those of its second; empty where they do not.

    >>> labels_apart(Labels({"background": 0, "a": 1, "b": 2}), Labels({"background": 0, "a": 1}))
    'the values are (0, 1, 2) against (0, 1)'
    """
    if first.permitted == second.permitted:
        return first.difference(second)
    return first.difference(second) or f"the values are {first.permitted} against {second.permitted}"


def previous_stage(prepared: PreprocessedDataset, label_maps: Mapping[str, LabelMap]) -> dict[str, LabelArray]:
    """What the first stage of a cascade predicted, brought to the grid of the second: `train(..., previous=...)`.

    Args:
        prepared: the dataset preprocessed for the second stage.
        label_maps: for each training case the prediction on the case's own grid, by a fold that did not train on it.

    nnU-Net brings probabilities to the new grid; label maps differ from that by less than a voxel along edges.

    Raises `TrainingError` where the first stage predicted other labels.

    >>> label_maps = {p.case.name: p.label_map for p in predictions}
    >>> previous = autoseg.previous_stage(prepared, label_maps)
    >>> previous["seahorse_009"].shape
    (38, 47, 41)
    """
    require(prepared, PreprocessedDataset, TrainingError)
    settings = prepared.configuration.resampling
    if not isinstance(label_maps, Mapping):
        raise TrainingError(
            f"the label maps are of type {type(label_maps).__name__}; give them by the names of their cases: "
            "{p.case.name: p.label_map for p in predictions}."
        )
    for name, label_map in label_maps.items():
        _require_label_map(name, label_map, prepared.labels)
    return {name: brought(label_map, prepared.geometry(name), settings) for name, label_map in label_maps.items()}


def _require_label_map(name: str, label_map: LabelMap, labels: Labels) -> None:
    if not isinstance(label_map, LabelMap):
        raise TrainingError(
            f"case {name!r}: this is of type {type(label_map).__name__}; it must be a label map, which knows its grid: "
            "prediction.label_map."
        )
    if difference := labels_apart(label_map.labels, labels):
        raise TrainingError(
            f"case {name!r}: the first stage predicted other labels than this dataset has: {difference}. Train both "
            "stages with the same labels."
        )


def brought(label_map: LabelMap, geometry: CaseGeometry, settings: Resampling) -> LabelArray:
    """A label map on the scan's own grid, brought to the preprocessed case's."""
    transposed = label_map.array.reshape(geometry.original.as_3d().shape).transpose(geometry.axis_order)
    return resample_labels(
        transposed[geometry.box.slices],
        geometry.shape,
        spacing_from=geometry.spacing_before,
        spacing_to=geometry.spacing_after,
        settings=settings,
    )
