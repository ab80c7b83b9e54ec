"""One case through every stage between the file and the network, and back: the same voxel is followed all the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from autoseg.core.errors import PreprocessingError, did_you_mean
from autoseg.core.kinds import require
from autoseg.core.shown import Shown, ask_display
from autoseg.core.types import ImageArray, LabelArray, Shape, by
from autoseg.data.checks import load_pair
from autoseg.data.dataset import Case
from autoseg.data.geometry import Box, Grid
from autoseg.data.images import LabelMap
from autoseg.data.labels import Labels
from autoseg.data.normalization import name_of
from autoseg.evaluation.metrics import overlap
from autoseg.planning.configuration import Configuration
from autoseg.preprocessing.cases import (
    CaseGeometry,
    crop_case,
    in_the_plans_order,
    normalized,
    resampled,
    restore_label_map,
)
from autoseg.training.augmentation import Augmentation
from autoseg.training.patches import PatchLocation, PatchRequest, Volume, cut_patches
from autoseg.training.spatial import Batch

MARK = 1000  # a label that no dataset has; it rides through augmentation where the marked voxel is
CROPPED, BEFORE_PATCHES = 2, 5  # the position of the cropped stage, and of the first patch
MARK_RADIUS = 2  # voxels, so that the mark survives when the patch is scaled down


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stage(Shown):
    """A case at one stage: `array` (channel, *space), `label` (*space), and where the marked `voxel` is now.

    `voxel` is None where augmentation moved it out of the patch.
    """

    name: str
    what: str
    array: ImageArray
    label: LabelArray | None
    grid: Grid
    voxel: Shape | None
    channels: tuple[str, ...]
    labels: Labels

    @property
    def values(self) -> tuple[float, ...]:
        """The intensities of the marked voxel, one a channel; none where it is gone."""
        if self.voxel is None:
            return ()
        return tuple(float(channel[self.voxel]) for channel in self.array)

    @property
    def label_name(self) -> str:
        """The label of the marked voxel."""
        if self.voxel is None or self.label is None:
            return ""
        value = int(self.label[self.voxel])
        return self.labels.name_of(value) if value in self.labels.permitted else "outside"

    def __repr__(self) -> str:
        size = f"{by(self.grid.shape)} voxels of {by(self.grid.spacing, 3)} mm"
        where = "gone" if self.voxel is None else f"at {self.voxel} = {', '.join(f'{v:.3g}' for v in self.values)}"
        return f"Stage({self.name!r}: {size}; marked voxel {where})\n  {self.what}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Microscope(Shown):
    """The stages of one case, in order. `kept` is the Dice of each label after the way to the plan's grid and back.

    No prediction on the plan's grid can agree with the scan's own labels much better than `kept`.
    """

    case: str
    configuration: Configuration
    augmentation: Augmentation
    stages: tuple[Stage, ...]
    kept: dict[str, float]

    def at(self, voxel: Sequence[int] | None = None, *, seeds: Sequence[int] = (1, 2, 3)) -> Microscope:
        """The same case with another voxel marked, and patches drawn around it; nothing is resampled again.

        Raises `PreprocessingError` where the voxel lies outside the scan, or is cut away with the empty border.
        """
        scan, back = self.stages[0], self.stages[-1]
        start = _marked(self.case, scan, voxel)
        world = scan.grid.as_3d().to_world((*(0,) * (3 - len(start)), *start))
        whole = [replace(stage, voxel=_nearest(stage.grid, world)) for stage in self.stages[1:BEFORE_PATCHES]]
        _require_kept(self.case, start, whole[CROPPED - 1].grid, world)
        patches = _patches(whole[-1], self.configuration, self.augmentation, seeds)
        stages = (replace(scan, voxel=start), *whole, *patches, replace(back, voxel=start))
        return replace(self, stages=stages)

    def explore(self) -> Any:
        """A widget: move the marked voxel over the scan, choose a stage, and draw augmentations of its patch."""
        return ask_display("microscope_explorer", "MicroscopeExplorer", self)

    def __iter__(self) -> Iterator[Stage]:
        return iter(self.stages)

    def __len__(self) -> int:
        return len(self.stages)

    def __getitem__(self, name: str | int) -> Stage:
        if isinstance(name, int):
            return self.stages[name]
        found = {stage.name: stage for stage in self.stages}
        if name not in found:
            raise KeyError(f"no stage is called {name!r}. {did_you_mean(name, found)}")
        return found[name]

    def __repr__(self) -> str:
        way = " > ".join(stage.name for stage in self.stages)
        return f"Microscope({self.case!r} for {self.configuration.name})\n  {way}"


def microscope(
    case: Case,
    configuration: Configuration,
    *,
    voxel: Sequence[int] | None = None,
    augmentation: Augmentation | None = None,
    seeds: Sequence[int] = (1, 2, 3),
) -> Microscope:
    """Follow one training case from its file to an augmented patch and back, in seconds and without training.

    Args:
        voxel: the voxel to mark, as an index of the scan's own array; by default one in the middle of a label.
        augmentation: the blueprint's, if it is not the published one.
        seeds: one augmented patch is drawn for each.

    Raises `PreprocessingError` where the voxel lies outside the scan, or is cut away with the empty border.

    >>> import autoseg
    >>> dataset = autoseg.sample_dataset()
    >>> plan = autoseg.make_plan(autoseg.extract_fingerprint(dataset, show_progress=False))
    >>> autoseg.microscope(dataset["seahorse_001"], plan["3d_fullres"], seeds=[1])
    Microscope('seahorse_001' for 3d_fullres)
      scan > axes in order > cropped > normalized > resampled > patch > augmented 1 > back on the scan
    """
    require(case, Case, PreprocessingError)
    require(configuration, Configuration, PreprocessingError)
    image, label_map = load_pair(case)
    image = in_the_plans_order(case.name, image, configuration)
    cropped = crop_case(image, label_map, configuration)
    geometry = cropped.geometry
    values = normalized(case.name, cropped, configuration)
    final = resampled(values, cropped.label, geometry, configuration.resampling)
    turned = [_in_order(a, geometry) for a in (image.array, label_map.array[None])]
    kept = np.maximum(_label(final[1]), 0)
    returned = restore_label_map(kept, geometry, case.labels, settings=configuration.resampling)

    def stage(name: str, what: str, array: ImageArray, label: LabelArray | None, grid: Grid) -> Stage:
        return Stage(
            name=name,
            what=what,
            array=array,
            label=label,
            grid=grid,
            voxel=None,
            channels=image.channels,
            labels=case.labels,
        )

    stages = (
        stage("scan", "as the file has it", image.array, label_map.array, image.grid),
        stage("axes in order", _turning(geometry), turned[0], turned[1][0], geometry.transposed),
        stage("cropped", _cropping(geometry), cropped.array, cropped.label, geometry.cropped),
        stage("normalized", _normalizing(configuration), values, cropped.label, geometry.cropped),
        stage("resampled", _resampling(geometry), *final, geometry.resampled),
        stage("back on the scan", BACK, image.array, returned.array, image.grid),
    )
    return Microscope(
        case=case.name,
        configuration=configuration,
        augmentation=augmentation or Augmentation(),
        stages=stages,
        kept=_kept(label_map, returned),
    ).at(voxel, seeds=seeds)


BACK = "the label map resampled and padded to the scan's own grid, as a prediction comes back"


def _marked(name: str, scan: Stage, voxel: Sequence[int] | None) -> Shape:
    """The voxel the user wants, or the one deepest inside the foreground."""
    if voxel is None:
        return _deepest(_label(scan.label))
    shape = scan.grid.shape
    if len(voxel) != len(shape) or not all(0 <= v < n for v, n in zip(voxel, shape, strict=True)):
        raise PreprocessingError(
            f"case {name!r}: the voxel {tuple(voxel)} is not on the scan, which has {shape} voxels."
        )
    return tuple(int(v) for v in voxel)


def _require_kept(name: str, voxel: Shape, cropped: Grid, world: np.ndarray) -> None:
    """The marked voxel must not be cut away with the empty border."""
    place = np.round(cropped.to_index(world) - 1e-6).astype(int)
    if not all(0 <= i < n for i, n in zip(place, cropped.shape, strict=True)):
        raise PreprocessingError(
            f"case {name!r}: the voxel {voxel} lies in the empty border that is cut away: {place.tolist()} from the "
            f"corner of the {by(cropped.shape)} voxels that hold something. Mark another."
        )


def _deepest(labels: LabelArray) -> Shape:
    """The foreground voxel farthest from any border; the middle of the scan where nothing is labelled."""
    from scipy.ndimage import distance_transform_cdt

    if not (labels > 0).any():
        return tuple(n // 2 for n in labels.shape)
    depth = distance_transform_cdt(np.pad(labels > 0, 1), metric="chessboard")
    return tuple(int(i) - 1 for i in np.unravel_index(depth.argmax(), depth.shape))


def _nearest(grid: Grid, world: np.ndarray) -> Shape:
    """The voxel of a grid that holds a position in the world."""
    index = np.round(grid.to_index(world) - 1e-6).astype(int)  # of two that are equally near, the lower
    return tuple(int(i) for i in np.clip(index, 0, np.array(grid.shape) - 1))


def _in_order(array: np.ndarray, geometry: CaseGeometry) -> np.ndarray:
    shape = geometry.original.as_3d().shape
    return array.reshape(-1, *shape).transpose(0, *(a + 1 for a in geometry.axis_order))


def _turning(geometry: CaseGeometry) -> str:
    if geometry.original.dimensions == 2:
        return "the picture becomes a single slice, as thick as nnU-Net marks pictures"
    if geometry.axis_order == (0, 1, 2):
        return "the order of axes stays"
    return f"axes put into the order {geometry.axis_order}, the largest spacing first"


def _cropping(geometry: CaseGeometry) -> str:
    share = 1 - np.prod(geometry.box.shape) / np.prod(geometry.full_shape)
    return f"{share:.0%} of the voxels, zero in every channel, are cut away from the borders" if share else NO_BORDER


NO_BORDER = "nothing to cut away: no border is zero in every channel"


def _normalizing(configuration: Configuration) -> str:
    used = zip(configuration.channels, configuration.normalization, configuration.mask_background, strict=True)
    return "; ".join(f"{c}: {name_of(n)}{' inside the patient' if masked else ''}" for c, n, masked in used)


def _resampling(geometry: CaseGeometry) -> str:
    before, after = (by(v, 3) for v in (geometry.spacing_before, geometry.spacing_after))
    return "the spacing is the target already" if before == after else f"from {before} to {after} mm"


def _patches(
    whole: Stage, configuration: Configuration, augmentation: Augmentation, seeds: Sequence[int]
) -> Iterator[Stage]:
    """The patch around the marked voxel as it is cut, and as augmentation changes it."""
    size = configuration.patch_size
    request = PatchRequest(
        cut_size=configuration.augmentation.initial_patch_size, patch_size=size, batch_size=1, foreground_fraction=0.0
    )
    cut, patch = request.sizes
    corner = tuple(int(v) - n // 2 for v, n in zip(whole.voxel or (), cut, strict=True))
    volume = Volume.in_memory(whole.array, _label(whole.label), {})
    batch = cut_patches({"case": volume}, [PatchLocation("case", corner)], request)
    array, label = _solid(batch, cut)
    grid = whole.grid.crop(Box(corner, tuple(c + n for c, n in zip(corner, cut, strict=True))))
    middle = tuple(n // 2 for n in cut)
    larger = (
        f", larger than the network's {by(size)} so that rotation brings in image and not void" if cut != patch else ""
    )
    what = f"cut around the marked voxel{larger}"
    yield replace(whole, name="patch", what=what, array=array, label=label, grid=grid, voxel=middle)
    low = tuple((n - p) // 2 for n, p in zip(cut, patch, strict=True))
    grid = grid.crop(Box(low, tuple(m + p for m, p in zip(low, patch, strict=True))))
    for seed in seeds:
        drawn, voxel = _augmented(batch, configuration, augmentation, seed)
        array, label = _solid(drawn, patch)
        what = f"as the network may see it in some iteration (seed {seed})"
        name = f"augmented {seed}"
        yield replace(whole, name=name, what=what, array=array, label=label, grid=grid, voxel=voxel)


def _augmented(
    batch: Batch, configuration: Configuration, augmentation: Augmentation, seed: int
) -> tuple[Batch, Shape | None]:
    """The augmented patch, and where its middle went: the draw is applied again to a mark in the place of labels."""
    middle = [n // 2 for n in batch[1].shape[1:]]
    mark = torch.zeros_like(batch[1])
    around = mark[0]
    for axis, place in enumerate(middle):
        low = max(place - MARK_RADIUS, 0)
        around = around.narrow(axis, low, min(place + MARK_RADIUS + 1, mark.shape[axis + 1]) - low)
    around.fill_(MARK)
    drawn, (_, moved) = (
        augmentation(
            (batch[0].clone(), label.clone()),
            configuration.augmentation,
            configuration.patch_size,
            torch.Generator().manual_seed(seed),
        )
        for label in (batch[1], mark)
    )
    places = torch.nonzero(moved[0] == MARK).float()
    if not len(places):
        return drawn, None
    return drawn, (*(0,) * (3 - len(middle)), *(int(i) for i in places.mean(0).round()))


def _solid(batch: Batch, shape: Shape) -> tuple[ImageArray, LabelArray]:
    """The only sample of a batch, with three axes."""
    images, labels = (part[0].numpy() for part in batch)
    return images.reshape(len(images), *shape), labels.reshape(shape)


def _label(label: LabelArray | None) -> LabelArray:
    if label is None:
        raise PreprocessingError("this case has no label map.")
    return label


def _kept(before: LabelMap, after: LabelMap) -> dict[str, float]:
    labels = before.labels
    masks = [(labels.name_of(v), before.array == v, after.array == v) for v in labels.foreground]
    return {name: overlap(there, here).dice for name, here, there in masks if here.any()}
