"""Everything that augmentation does to places: patches turned, scaled and mirrored in one resampling.

A turned patch reads the 2^n voxels around each of its points. Images are interpolated linearly between them. Label maps
take the label with the largest linear share, as nnU-Net's do; since nearly everywhere all neighbours agree, the shares
are computed only where they do not. Voxels are gathered by index, which on a CPU is four times as fast as
``grid_sample`` in 3D and needs no volume for each label.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

OUTSIDE = -1  # the label of voxels that are no part of the patient's image
AT_ONCE = 1 << 17  # points that are read together: few enough to stay in the processor's cache
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


def resample_affine(batch: Batch, samples: Tensor, matrices: Tensor, patch: Sequence[int], result: Batch) -> None:
    """Write some `samples` into `result`, read around their centre at the patch's points times `matrices`.

    Images (batch, channel, *space) linearly, zero outside; label maps (batch, *space) by the largest linear share.
    """
    images, labels = batch
    rows = max(1, min(patch[0], AT_ONCE // math.prod(patch[1:])))
    at_once = max(1, AT_ONCE // (rows * math.prod(patch[1:])))
    for some, turns in zip(torch.split(samples, at_once), torch.split(matrices, at_once), strict=True):
        where = some.to(images.device)
        for top in range(0, patch[0], rows):
            slab = slice(top, top + rows)
            places = Places.of(labels.shape[1:], turns, patch, slab, labels.device)
            result[0][where, :, slab] = _interpolated(images, where, places)
            result[1][where, slab] = _labels_at(labels, where, places)


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Where the points of some patches lie among the voxels.

    `index` (sample, *patch) is the flat index of each point's lower neighbour within its sample; `steps` are, for each
    axis along which points lie between voxels, the flat distance to the upper neighbour and its share; `inside` is how
    much of a point lies on the image, None where all of all points do. Shares and `inside` broadcast to the index.
    """

    index: Tensor
    steps: tuple[tuple[int, Tensor], ...]
    inside: Tensor | None

    @classmethod
    def of(
        cls, space: Sequence[int], matrices: Tensor, patch: Sequence[int], slab: slice, device: torch.device
    ) -> Places:
        """The places of `matrices` times the patch's points, both counted from the middle; of a `slab` of its rows."""
        index = torch.zeros((), dtype=torch.int32, device=device)
        steps: list[tuple[int, Tensor]] = []
        inside = None
        for axis, size in enumerate(space):
            row = matrices[:, axis]
            whole = _whole_steps(row, axis)
            middle = (size - 1) / 2 - ((size - patch[axis]) % 2) / 2 * whole  # the centre cut out begins at a voxel
            at = _along(row, patch, slab, device) + middle
            low = at.floor().clamp_(0, size - 1 if whole else max(size - 2, 0))
            index = torch.add(low.int(), index, alpha=size)
            if size > 1 and not whole:
                steps.append((math.prod(space[axis + 1 :]), (at - low).clamp_(0, 1)))
            if _reach(row, patch) > (size - 1) / 2:
                share = (1 - (at - at.clamp(0, size - 1)).abs_()).clamp_(0, 1)
                inside = share if inside is None else inside * share
        return cls(index.expand(len(matrices), len(range(patch[0])[slab]), *patch[1:]), tuple(steps), inside)

    def read(self, flat: Tensor, samples: Tensor, voxels: int) -> Callable[[int], Tensor]:
        """What reads the voxels at a distance from all points, of `samples` that lie so many `voxels` apart."""
        first = samples.to(torch.int32).reshape(-1, *(1,) * (self.index.ndim - 1)) * voxels
        index = (self.index + first).reshape(-1)
        return lambda distance: flat[distance:].index_select(0, index).reshape(self.index.shape)


def _along(row: Tensor, patch: Sequence[int], slab: slice, device: torch.device) -> Tensor:
    """One coordinate of all points of a slab: what each axis of the patch that matters to it adds to it."""
    at = torch.zeros((), device=device)
    for axis in torch.nonzero(row.any(0)).ravel().tolist():
        steps = (torch.arange(patch[axis]) - (patch[axis] - 1) / 2)[slab if axis == 0 else slice(None)]
        shape = [-1, *(len(steps) if a == axis else 1 for a in range(len(patch)))]
        at = at + (row[:, axis : axis + 1] * steps).reshape(shape).to(device)
    return at


def _whole_steps(row: Tensor, axis: int) -> bool:
    """Whether nothing moves along an axis but whole voxels: it is not turned, not scaled, at most mirrored."""
    unit = torch.zeros(row.shape[1])
    unit[axis] = 1
    return torch.equal(row.abs(), unit.expand_as(row))


def _reach(row: Tensor, patch: Sequence[int]) -> float:
    """How far from the middle the patch's corners come along an axis."""
    return float((row.abs() @ ((torch.tensor(patch) - 1) / 2)).max())


def _interpolated(images: Tensor, samples: Tensor, places: Places) -> Tensor:
    """Images (sample, channel, *patch) at some places, linearly."""
    voxels = math.prod(images.shape[2:])
    read = places.read(images.reshape(-1), samples, images.shape[1] * voxels)
    channels = [_linear(read, places.steps, channel * voxels) for channel in range(images.shape[1])]
    result = torch.stack(channels, dim=1) if len(channels) > 1 else channels[0][:, None]
    return result if places.inside is None else result.mul_(places.inside[:, None])


def _linear(read: Callable[[int], Tensor], steps: Sequence[tuple[int, Tensor]], distance: int) -> Tensor:
    """The mean of lower and upper neighbour along the first axis, each of which is that along the other axes."""
    if not steps:
        return read(distance)
    (stride, share), *others = steps
    low, high = (_linear(read, others, d) for d in (distance, distance + stride))
    return low.lerp_(high, share)


def _labels_at(labels: Tensor, samples: Tensor, places: Places) -> Tensor:
    """Label maps (sample, *patch): the common label of the neighbours, or the one with the largest share."""
    read = places.read(labels.reshape(-1), samples, math.prod(labels.shape[1:]))
    reach = [0]
    for stride, _ in places.steps:
        reach += [r + stride for r in reach]
    neighbours = [read(distance).view(-1) for distance in reach]
    low, high = reduce(torch.minimum, neighbours), reduce(torch.maximum, neighbours)
    mixed = torch.nonzero(low != high).ravel()
    if len(mixed):
        shares = [s.expand(places.index.shape).reshape(-1).index_select(0, mixed) for _, s in places.steps]
        low[mixed] = _largest_share(torch.stack([n.index_select(0, mixed) for n in neighbours]), shares)
    result = low.view(places.index.shape)
    return result if places.inside is None else result.masked_fill_(places.inside < 0.5, OUTSIDE)


def _largest_share(neighbours: Tensor, shares: Sequence[Tensor]) -> Tensor:
    """The label that most `neighbours` (neighbour, point) of each point have, each counted by its linear share."""
    weights = torch.ones_like(shares[0])[None]
    for share in shares:
        weights = torch.cat((weights * (1 - share), weights * share))
    totals = torch.stack([(weights * (neighbours == label)).sum(0) for label in neighbours])
    return neighbours.gather(0, totals.max(0, keepdim=True).indices)[0]  # ten times as fast as argmax
