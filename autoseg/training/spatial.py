"""Everything that augmentation does to places: patches turned, scaled and mirrored in one resampling.

A turned patch reads the 2^n voxels around each of its points. Images are interpolated linearly between them. Label maps
take the label with the largest linear share, as nnU-Net's do; since nearly everywhere all neighbours agree, the shares
are computed only where they do not. Voxels are gathered by index, which on a CPU is many times as fast as
``grid_sample`` in 3D and needs no volume for each label.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor

OUTSIDE = -1  # the label of voxels that are no part of the patient's image
AT_ONCE = 1 << 17  # points that a processor reads together: few enough to stay in its cache
AT_ONCE_ON_GPU = 1 << 24  # whole patches: some hundred MB of places, and few kernels to launch
Batch = tuple[Tensor, Tensor]  # images (batch, channel, *space), label maps (batch, *space)


def centre(array: Tensor, patch: Sequence[int]) -> Tensor:
    """The middle `patch` of the last axes, a view."""
    for axis, size in zip(range(array.ndim - len(patch), array.ndim), patch, strict=True):
        array = array.narrow(axis, (array.shape[axis] - size) // 2, size)
    return array


def affine(angles: Tensor, factors: Tensor, dimensions: int, *, in_plane: bool) -> Tensor:
    """Matrices (batch, axis, axis) in array order that rotate about each axis and scale.

    In 2D, and for stacks of slices (`in_plane`), only the last angle turns, and only within the slice.
    """
    if dimensions == 2 or in_plane:
        plane = factors[:, None, None] * _turn(angles[:, -1])
        if dimensions == 2:
            return plane
        matrices = torch.eye(3).repeat(len(angles), 1, 1)
        matrices[:, 1:, 1:] = plane
        return matrices
    matrices = factors[:, None, None] * torch.eye(3).repeat(len(angles), 1, 1)
    for axis in range(3):
        turn = torch.eye(3).repeat(len(angles), 1, 1)
        others = torch.tensor([a for a in range(3) if a != axis])
        turn[:, others[:, None], others[None, :]] = _turn(angles[:, axis])
        matrices = turn @ matrices
    return matrices


def _turn(angle: Tensor) -> Tensor:
    cos, sin = angle.cos(), angle.sin()
    return torch.stack((torch.stack((cos, -sin), -1), torch.stack((sin, cos), -1)), -2)


def mirror_centre(batch: Batch, samples: Tensor, mirrored: Tensor, patch: Sequence[int], result: Batch) -> None:
    """Write the centre of some `samples` into `result`, each turned over along the axes where it is `mirrored`."""
    for sample, over in zip(samples.tolist(), mirrored.tolist(), strict=True):  # a copy for each, and not three of all
        axes = [axis - len(over) for axis, yes in enumerate(over) if yes]
        for source, target in zip(batch, result, strict=True):
            target[sample] = centre(source[sample], patch).flip(axes)


def resample_affine(batch: Batch, samples: Tensor, matrices: Tensor, patch: Sequence[int], result: Batch) -> None:
    """Write some `samples` into `result`, read around their centre at the patch's points times `matrices`.

    Images (batch, channel, *space) linearly, zero outside; label maps (batch, *space) by the largest linear share.
    """
    device = batch[0].device
    points = AT_ONCE if device.type == "cpu" else AT_ONCE_ON_GPU
    rows, at_once = (max(1, points // math.prod(each)) for each in (patch[1:], patch))
    for some, turns in zip(torch.split(samples, at_once), torch.split(matrices, at_once), strict=True):
        where = some.to(device)
        frame = Frame.of(batch[1].shape[1:], turns, patch, device)
        source = Source.of(batch, some, frame)
        for top in range(0, patch[0], rows):
            places = frame.places(slice(top, top + rows))
            for channel, values in enumerate(source.channels):
                result[0][:, channel, top : top + rows].index_copy_(0, where, _linear(values, places))
            result[1][:, top : top + rows].index_copy_(0, where, _labels_at(source, places))


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Where the points of some patches lie among the voxels of their source.

    `index` (sample, *patch) is the flat index of each point's lower neighbour; `steps` are, for each axis along which
    points lie between voxels, the flat distance to the upper neighbour and its share, which broadcasts to the index.
    """

    index: Tensor
    steps: tuple[tuple[int, Tensor], ...]

    def read(self, values: Tensor, distance: int = 0) -> Tensor:
        """The values (sample, *patch) at a distance from all points."""
        return values[distance:].index_select(0, self.index.view(-1)).view(self.index.shape)


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """The part of some samples that their patches reach, and the coordinates in it of the patches' points.

    It begins at `first`, at most one voxel before the sample, and ends at most two behind it, so that every point has a
    lower and an upper neighbour. A coordinate is `middle` plus what each axis of the patch adds to it, `lines` of (axis
    of the patch, (sample, point)); where it is `whole`, all points are voxels.
    """

    patch: tuple[int, ...]
    first: tuple[int, ...]
    size: tuple[int, ...]
    middle: tuple[float, ...]
    whole: tuple[bool, ...]
    lines: tuple[tuple[tuple[int, Tensor], ...], ...]

    @classmethod
    def of(cls, space: Sequence[int], matrices: Tensor, patch: Sequence[int], device: torch.device) -> Frame:
        """Of `matrices` times the patch's points, both counted from the middle."""
        turns, voxels, extent = matrices.numpy(), np.array(space), np.array(patch)
        whole = (np.abs(turns) == np.eye(len(patch))).all((0, 2))
        middle = (voxels - 1) / 2 - (voxels - extent) % 2 / 2 * whole  # the centre that is cut out begins at a voxel
        reach = (np.abs(turns) @ ((extent - 1) / 2)).max(0)
        first = np.maximum(np.floor(middle - reach), -1).astype(int)
        behind = np.minimum(np.floor(middle + reach) + 3, voxels + 2).astype(int)
        axes = range(len(patch))
        steps = [torch.arange(n) - (n - 1) / 2 for n in patch]
        lines = tuple(
            tuple((i, (matrices[:, axis, i, None] * steps[i]).to(device)) for i in axes if turns[:, axis, i].any())
            for axis in axes
        )
        return cls(
            patch=tuple(patch),
            first=tuple(first.tolist()),
            size=tuple((behind - first).tolist()),
            middle=tuple((middle - first).tolist()),
            whole=tuple(whole.tolist()),
            lines=lines,
        )

    @property
    def strides(self) -> tuple[int, ...]:
        """How far the next voxel along each axis is in the flat frame."""
        return tuple(math.prod(self.size[axis + 1 :]) for axis in range(len(self.size)))

    def cut(self, array: Tensor, samples: Tensor, outside: float) -> Tensor:
        """This part of some samples of an array, with a value where it reaches beyond them."""
        reached: list[Any] = [...]
        into: list[Any] = [...]
        for first, size, voxels in zip(self.first, self.size, array.shape[-len(self.size) :], strict=True):
            reached.append(slice(max(first, 0), first + size))
            into.append(slice(max(-first, 0), voxels - first))
        part = array.new_full((len(samples), *array.shape[1 : -len(self.size)], *self.size), outside)
        for place, sample in enumerate(samples.tolist()):
            part[place][tuple(into)] = array[sample][tuple(reached)]
        return part

    def places(self, slab: slice) -> Places:
        """Of the points in a `slab` of the patches' rows."""
        axes = range(len(self.size))
        first = self.lines[0][0][1]
        index = torch.arange(len(first), dtype=torch.int32, device=first.device) * math.prod(self.size)
        index = index.view(-1, *(1 for _ in axes))
        steps: list[tuple[int, Tensor]] = []
        for axis in reversed(axes):  # those that vary fastest first, so that sums stay small
            parts = [
                (line[:, slab] if i == 0 else line).view(len(line), *(-1 if a == i else 1 for a in axes))
                for i, line in reversed(self.lines[axis])
            ]
            parts[0] = parts[0] + self.middle[axis]
            at = reduce(torch.add, parts).clamp_(0, self.size[axis] - 2)
            if axis:
                at = at.expand(
                    -1, -1, *self.patch[1:]
                ).contiguous()  # lerp is slow where shares do not lie side by side
            index = torch.add(index, at.int(), alpha=self.strides[axis])
            if not self.whole[axis]:
                steps.insert(0, (self.strides[axis], at.frac_()))
        return Places(index, tuple(steps))


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """What is read: `channels` (channel, sample * voxels) of a frame, zero outside, and `labels` (sample * voxels).

    Of the labels of the 2^n neighbours above each voxel, `lowest` is the lowest, and the highest is `spread` above it.
    """

    channels: Tensor
    labels: Tensor
    lowest: Tensor
    spread: Tensor

    @classmethod
    def of(cls, batch: Batch, samples: Tensor, frame: Frame) -> Source:
        channels = frame.cut(batch[0], samples, 0).transpose(0, 1).reshape(batch[0].shape[1], -1)
        labels = low = high = frame.cut(batch[1], samples, OUTSIDE).view(-1)
        for stride, whole in zip(frame.strides, frame.whole, strict=True):
            if not whole:
                low = torch.minimum(low[:-stride], low[stride:])
                high = torch.maximum(high[:-stride], high[stride:])
        return cls(channels, labels, low, high - low)


def _linear(values: Tensor, places: Places) -> Tensor:
    """Values (sample, *patch) at some places, linearly."""

    def between(steps: Sequence[tuple[int, Tensor]], distance: int) -> Tensor:
        if not steps:
            return places.read(values, distance)
        (stride, share), *others = steps
        return between(others, distance).lerp_(between(others, distance + stride), share)

    return between(places.steps, 0)


def _labels_at(source: Source, places: Places) -> Tensor:
    """Label maps (sample, *patch): the common label of the neighbours, or the one with the largest share."""
    result = places.read(source.lowest)
    mixed = torch.nonzero(places.read(source.spread).view(-1)).view(-1)
    if len(mixed):
        reach, weights = [0], result.new_ones((1, 1), dtype=torch.float32)
        for stride, share in places.steps:
            share = share.expand(result.shape).reshape(-1).index_select(0, mixed)
            reach += [r + stride for r in reach]
            weights = torch.cat((weights * (1 - share), weights * share))
        index = places.index.view(-1).index_select(0, mixed) + mixed.new_tensor(reach)[:, None]
        neighbours = source.labels.index_select(0, index.view(-1)).view(index.shape)
        result.view(-1).index_copy_(0, mixed, _largest_share(neighbours, weights))
    return result


def _largest_share(neighbours: Tensor, weights: Tensor) -> Tensor:
    """The label that most `neighbours` (neighbour, point) of each point have, each counted with its weight."""
    low, high = neighbours.amin(0), neighbours.amax(0)
    result = torch.where(((neighbours == high) * weights).sum(0) > 0.5, high, low)
    several = torch.nonzero(((neighbours != low) & (neighbours != high)).any(0)).view(-1)
    if len(several):
        neighbours, weights = neighbours.index_select(1, several), weights.index_select(1, several)
        totals = ((neighbours[:, None] == neighbours) * weights).sum(1)
        result.index_copy_(0, several, neighbours.gather(0, totals.max(0, keepdim=True).indices)[0])
    return result
