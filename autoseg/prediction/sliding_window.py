"""Prediction in overlapping tiles, weighted by a Gaussian, averaged over mirror images.

Source: Isensee et al. 2021, Methods, 'Inference'; positions, weights and averaging as in nnU-Net 2.8.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from autoseg.core.types import Axes, Shape
from autoseg.training.compute import Compute

VOXELS_AT_ONCE = 2_000_000  # per forward pass: enough to keep two cores or a GPU busy, little enough for 8 GB


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How an image is covered: tile size, overlap of neighbours, and axes of mirroring."""

    patch_size: Shape
    overlap: float = 0.5
    mirror_axes: Axes = ()

    def mirrorings(self) -> list[Axes]:
        """Every combination of the mirror axes, the identity first."""
        n = len(self.mirror_axes)
        return [c for k in range(n + 1) for c in itertools.combinations(self.mirror_axes, k)]


def tile_starts(size: int, patch: int, overlap: float = 0.5) -> tuple[int, ...]:
    """Where tiles start along one axis: evenly, so that neighbours share at least `overlap`.

    >>> tile_starts(110, 64)
    (0, 23, 46)
    >>> tile_starts(40, 40)
    (0,)
    """
    count = math.ceil((size - patch) / (patch * (1 - overlap))) + 1 if size > patch else 1
    last = size - patch
    return tuple(round(i * last / (count - 1)) for i in range(count)) if count > 1 else (0,)


@lru_cache(maxsize=8)
def gaussian_weights(patch: Shape) -> Tensor:
    """How much each voxel of a tile counts: a Gaussian around its centre, sigma an eighth of the edge, never zero."""
    delta = np.zeros(patch)
    delta[tuple(p // 2 for p in patch)] = 1
    weights = ndimage.gaussian_filter(delta, [p / 8 for p in patch], mode="constant")
    weights = 10 * weights / weights.max()
    half = weights.astype(np.float16)  # nnU-Net's precision, which decides how small a weight can be
    return torch.from_numpy(np.maximum(weights, half[half > 0].min()).astype(np.float32))


@torch.inference_mode()
def predict_logits(network: nn.Module, image: np.ndarray, window: Window, compute: Compute) -> Tensor:
    """Logits (output, z, y, x) in float32 for a preprocessed image (channel, z, y, x).

    A 2D network sees the slices of the first axis one by one. An image smaller than a tile is padded with zeros,
    centred, and cut back.
    """
    flat = len(window.patch_size) == 2
    volume = torch.from_numpy(image)
    samples = volume.movedim(1, 0) if flat else volume[None]  # (sample, channel, *space)
    padded, inside = _pad(samples, window.patch_size)
    logits = _accumulate(network, padded, window, compute)[(slice(None), slice(None), *inside)]
    return logits.movedim(0, 1) if flat else logits[0]


def _pad(samples: Tensor, patch: Shape) -> tuple[Tensor, tuple[slice, ...]]:
    """At least one tile large, and where the image is in it."""
    space = samples.shape[2:]
    missing = [max(p - s, 0) for p, s in zip(patch, space, strict=True)]
    before = [m // 2 for m in missing]
    widths = [w for b, m in zip(reversed(before), reversed(missing), strict=True) for w in (b, m - b)]
    return F.pad(samples, widths), tuple(slice(b, b + s) for b, s in zip(before, space, strict=True))


def _accumulate(network: nn.Module, samples: Tensor, window: Window, compute: Compute) -> Tensor:
    weights = gaussian_weights(window.patch_size).to(compute.device)
    tiles = list(_tiles(samples.shape, window))
    total = torch.zeros(())
    norm = torch.zeros(samples.shape[2:], device=compute.device)
    for _, place in tiles:
        norm[place] += weights / len(samples)
    for chunk in _chunks(tiles, window):
        batch = torch.stack([samples[i][(slice(None), *place)] for i, place in chunk])
        outputs = _mirrored(network, batch, window, compute)
        if total.ndim == 0:
            total = torch.zeros((len(samples), outputs.shape[1], *samples.shape[2:]), device=compute.device)
        for (i, place), output in zip(chunk, outputs, strict=True):
            total[i][(slice(None), *place)] += output * weights
    return (total / norm).cpu()


def _tiles(shape: Sequence[int], window: Window) -> Iterator[tuple[int, tuple[slice, ...]]]:
    starts = [tile_starts(s, p, window.overlap) for s, p in zip(shape[2:], window.patch_size, strict=True)]
    for sample in range(shape[0]):
        for corner in itertools.product(*starts):
            yield sample, tuple(slice(c, c + p) for c, p in zip(corner, window.patch_size, strict=True))


def _chunks(
    tiles: list[tuple[int, tuple[slice, ...]]], window: Window
) -> Iterator[list[tuple[int, tuple[slice, ...]]]]:
    size = max(1, VOXELS_AT_ONCE // math.prod(window.patch_size))
    for start in range(0, len(tiles), size):
        yield tiles[start : start + size]


def _mirrored(network: nn.Module, batch: Tensor, window: Window, compute: Compute) -> Tensor:
    """The mean of the logits over all mirror images, turned back."""
    batch = batch.to(compute.device)
    memory_format = compute.memory_format(len(window.patch_size))
    mirrorings = window.mirrorings()
    total = torch.zeros(())
    for axes in mirrorings:
        flipped = [a + 2 for a in axes]
        with compute.autocast():
            outputs = network(batch.flip(flipped).contiguous(memory_format=memory_format))
        total = total + outputs.float().flip(flipped)
    return total / len(mirrorings)
