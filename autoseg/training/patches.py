"""Which patches a batch is made of: drawn first (cases and places), then cut.

Source: Isensee et al. 2021, Methods, 'Training' (foreground oversampling); position rules as in nnU-Net 2.8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator

from autoseg.core.types import Shape
from autoseg.data.geometry import Box
from autoseg.preprocessing.cases import ANNOTATED
from autoseg.training.spatial import OUTSIDE, Batch


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """A prepared case to cut from: its shape, where each label can be found, and how to read a part of it.

    `read` gives the image (channel, z, y, x) and the label map (z, y, x) inside a box, from memory or from disk.
    """

    shape: Shape
    channels: int
    locations: Mapping[str, np.ndarray]  # voxel positions (n, 3) by label or region name
    read: Callable[[Box], tuple[np.ndarray, np.ndarray]]

    @classmethod
    def in_memory(cls, image: np.ndarray, label: np.ndarray, locations: Mapping[str, np.ndarray]) -> Volume:
        """A volume whose arrays are there."""

        def read(box: Box) -> tuple[np.ndarray, np.ndarray]:
            return image[(slice(None), *box.slices)], label[box.slices]

        return cls(label.shape, len(image), locations, read)


@dataclass(frozen=True, slots=True)
class PatchLocation:
    """One patch of a batch: the case, and its lower corner, which may lie outside of the image."""

    case: str
    corner: Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchRequest:
    """What kind of patches to draw: the size to cut, the network's own size, and the share with forced foreground."""

    cut_size: Shape
    patch_size: Shape
    batch_size: int
    foreground_fraction: float

    @property
    def sizes(self) -> tuple[Shape, Shape]:
        """Both sizes with three axes; a 2D patch is one slice thick."""
        lead = (1,) * (3 - len(self.patch_size))
        return (*lead, *self.cut_size), (*lead, *self.patch_size)

    def forced(self, random: Generator) -> list[bool]:
        """Which patches of a batch must hold foreground: the last third, rounded as nnU-Net rounds.

        Rounding would leave a batch of one, which nnU-Net never has, without any; a third of such batches is forced.

        >>> two = PatchRequest(cut_size=(8, 8), patch_size=(8, 8), batch_size=2, foreground_fraction=0.33)
        >>> two.forced(torch.Generator())
        [False, True]
        """
        if self.batch_size == 1:
            return [bool(torch.rand((), generator=random) < self.foreground_fraction)]
        first = round(self.batch_size * (1 - self.foreground_fraction))
        return [j >= first for j in range(self.batch_size)]


Sampler = Callable[[Mapping[str, Volume], PatchRequest, Generator], list[PatchLocation]]


def draw_patches(volumes: Mapping[str, Volume], request: PatchRequest, random: Generator) -> list[PatchLocation]:
    """Cases evenly with replacement; places anywhere, or around a voxel of a label drawn evenly."""
    names = list(volumes)
    chosen = [names[i] for i in torch.randint(len(names), (request.batch_size,), generator=random).tolist()]
    return [
        PatchLocation(name, _corner(volumes[name], request, random, forced=forced))
        for name, forced in zip(chosen, request.forced(random), strict=True)
    ]


def _corner(volume: Volume, request: PatchRequest, random: Generator, *, forced: bool) -> Shape:
    cut, patch = request.sizes
    bounds = [_bounds(size, c, p) for size, c, p in zip(volume.shape, cut, patch, strict=True)]
    voxel = _anchor(volume, random, forced=forced)
    if len(request.patch_size) == 2:
        depth = volume.shape[0]
        slice_index = int(voxel[0]) if voxel is not None else _integer(0, depth - 1, random)
        bounds[0] = (slice_index, slice_index)
    if voxel is None:
        return tuple(_integer(low, high, random) for low, high in bounds)
    return tuple(max(low, int(v) - c // 2) for (low, _), v, c in zip(bounds, voxel, cut, strict=True))


def _bounds(size: int, cut: int, patch: int) -> tuple[int, int]:
    """Lowest and highest corner along one axis: the patch may reach out of the image by what rotation needs."""
    pad = max(cut - patch, cut - size)
    return (-pad) // 2, size + pad // 2 + pad % 2 - cut


def _anchor(volume: Volume, random: Generator, *, forced: bool) -> np.ndarray | None:
    """The voxel a patch must hold, or None for a random place."""
    found = {name: places for name, places in volume.locations.items() if len(places)}
    annotated = found.pop(ANNOTATED, None)
    if forced and found:
        places = found[list(found)[_integer(0, len(found) - 1, random)]]
    elif annotated is not None:
        places = annotated
    else:
        return None
    return np.asarray(places[_integer(0, len(places) - 1, random)])


def _integer(low: int, high: int, random: Generator) -> int:
    return int(torch.randint(low, high + 1, (), generator=random)) if high > low else low


def cut_patches(volumes: Mapping[str, Volume], locations: Sequence[PatchLocation], request: PatchRequest) -> Batch:
    """The patches as one batch; outside of the image intensities are 0 and labels `OUTSIDE`."""
    cut, _ = request.sizes
    images = torch.zeros((len(locations), volumes[locations[0].case].channels, *cut))
    labels = torch.full((len(locations), *cut), OUTSIDE, dtype=torch.int16)
    for i, location in enumerate(locations):
        volume = volumes[location.case]
        inside = _inside(location.corner, cut, volume.shape)
        target = tuple(slice(a - c, b - c) for a, b, c in zip(inside.start, inside.stop, location.corner, strict=True))
        image, label = volume.read(inside)
        images[i][(slice(None), *target)] = torch.from_numpy(image)
        labels[i][target] = torch.from_numpy(label)
    if len(request.patch_size) == 2:
        return images.squeeze(2), labels.squeeze(1)
    return images, labels


def _inside(corner: Shape, cut: Shape, shape: Shape) -> Box:
    """The part of a patch that lies on the image."""
    stop = tuple(min(c + n, size) for c, n, size in zip(corner, cut, shape, strict=True))
    return Box(tuple(max(c, 0) for c in corner), stop)
