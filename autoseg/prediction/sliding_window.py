"""Prediction in overlapping tiles, weighted by a Gaussian, averaged over mirror images.

Source: Isensee et al. 2021, Methods, 'Inference'; positions, weights and averaging as in nnU-Net 2.8.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from autoseg.core.types import Axes, Shape
from autoseg.networks.unet import full_resolution
from autoseg.training.compute import Compute
from autoseg.training.heap import kept_memory

VOXELS_AT_ONCE = {"cpu": 500_000}  # per forward pass: more of them no longer fit in its caches (90,000 each: 4, not 8)
ELSEWHERE = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How an image is covered: tile size, overlap of neighbours, axes of mirroring, and what tiles are added up in.

    nnU-Net adds in float16. That only shows in the corners of an image, which a single tile covers, with the smallest
    weight: there its logits are whole numbers.
    """

    patch_size: Shape
    overlap: float = 0.5
    mirror_axes: Axes = ()
    adds_in: Literal["float32", "float16"] = "float32"

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
    count = min(count, last + 1)  # one at each voxel at most
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


@kept_memory()
@torch.inference_mode()
def predict_logits(network: nn.Module, image: np.ndarray, window: Window, compute: Compute) -> Tensor:
    """Logits (output, z, y, x), in what the window adds in, for a preprocessed image (channel, z, y, x).

    A 2D network sees the slices of the first axis one by one. An image smaller than a tile is padded with zeros,
    centred, and cut back.
    """
    flat = len(window.patch_size) == 2
    volume = torch.from_numpy(image)
    samples = volume.movedim(1, 0) if flat else volume[None]  # (sample, channel, *space)
    padded, inside = _pad(samples, window.patch_size)
    logits = _accumulate(network, padded, window, compute)
    if window.adds_in == "float16" and not has_only_numbers(logits, infinite=False):  # > 65,504; nnU-Net stops here
        logits = _accumulate(network, padded, replace(window, adds_in="float32"), compute)
    logits = logits[(slice(None), slice(None), *inside)]
    return logits.movedim(0, 1) if flat else logits[0]


def has_only_numbers(logits: Tensor, *, infinite: bool = True) -> bool:
    """Whether none is NaN, nor infinite unless that is allowed; in one pass, and without a mask."""
    extremes = torch.stack(torch.aminmax(logits))  # NaN where any is
    return not bool((extremes.isnan() if infinite else ~extremes.isfinite()).any())


def _pad(samples: Tensor, patch: Shape) -> tuple[Tensor, tuple[slice, ...]]:
    """At least one tile large, and where the image is in it."""
    space = samples.shape[2:]
    missing = [max(p - s, 0) for p, s in zip(patch, space, strict=True)]
    before = [m // 2 for m in missing]
    widths = [w for b, m in zip(reversed(before), reversed(missing), strict=True) for w in (b, m - b)]
    return F.pad(samples, widths), tuple(slice(b, b + s) for b, s in zip(before, space, strict=True))


def _accumulate(network: nn.Module, samples: Tensor, window: Window, compute: Compute) -> Tensor:
    kind: torch.dtype = getattr(torch, window.adds_in)
    weights = gaussian_weights(window.patch_size).to(compute.device, kind)
    places = _places(samples.shape[2:], window)
    norm = torch.zeros(samples.shape[2:], dtype=kind, device=compute.device)
    for place in places:
        norm[place] += weights
    forward, total = _Forward(network, window, compute), torch.zeros(())
    at_once = tiles_at_once(window.patch_size, compute.device)
    for chunk in _chunks(itertools.product(range(len(samples)), places), at_once):
        outputs = forward(torch.stack([samples[i][(slice(None), *place)] for i, place in chunk]))
        if total.ndim == 0:
            total = torch.zeros((len(samples), len(outputs[0]), *samples.shape[2:]), dtype=kind, device=norm.device)
        for (i, place), output in zip(chunk, outputs, strict=True):
            total[i][(slice(None), *place)] += output * weights
    return total.div_(norm).cpu()


Place = tuple[slice, ...]


def _places(space: Sequence[int], window: Window) -> list[Place]:
    """Where the tiles of an image lie."""
    starts = [tile_starts(s, p, window.overlap) for s, p in zip(space, window.patch_size, strict=True)]
    corners = itertools.product(*starts)
    return [tuple(slice(c, c + p) for c, p in zip(corner, window.patch_size, strict=True)) for corner in corners]


def tiles_at_once(patch: Shape, device: torch.device) -> int:
    """How many tiles one forward pass computes."""
    return max(1, VOXELS_AT_ONCE.get(device.type, ELSEWHERE) // math.prod(patch))


def _chunks(tiles: Iterable[tuple[int, Place]], size: int) -> Iterator[list[tuple[int, Place]]]:
    tiles = iter(tiles)
    while chunk := list(itertools.islice(tiles, size)):
        yield chunk


class _Forward:
    """The network on batches of tiles, averaged over mirror images.

    Tiles that are the same everywhere, such as the air around a patient or padding, are computed once for each value.
    """

    def __init__(self, network: nn.Module, window: Window, compute: Compute) -> None:
        self.network, self.compute, self.mirrorings = network, compute, window.mirrorings()
        self.even: dict[tuple[float, ...], Tensor] = {}

    def __call__(self, batch: Tensor) -> list[Tensor]:
        """The logits of each tile, float32."""
        lowest, highest = torch.aminmax(batch.flatten(2), dim=2)
        values = [tuple(v) if e else () for v, e in zip(lowest.tolist(), (lowest == highest).all(1), strict=True)]
        missing = {v: i for i, v in enumerate(values) if v and v not in self.even}
        wanted = [i for i, v in enumerate(values) if not v or missing.get(v) == i]
        found = dict(zip(wanted, self._mirrored(batch[wanted]) if wanted else (), strict=True))
        self.even |= {v: found[i] for v, i in missing.items()}
        return [found[i] if i in found else self.even[v] for i, v in enumerate(values)]

    def _mirrored(self, batch: Tensor) -> Tensor:
        """The mean of the logits over all mirror images, turned back."""
        batch = batch.to(self.compute.device)
        memory_format = self.compute.memory_format(batch.ndim - 2)
        total = torch.zeros((), device=self.compute.device)
        for axes in self.mirrorings:
            flipped = [a + 2 for a in axes]
            with self.compute.autocast():
                outputs = self.network(batch.flip(flipped).contiguous(memory_format=memory_format))
            outputs = full_resolution(outputs).float().flip(flipped)
            total = outputs if total.ndim == 0 else total.add_(outputs)
        return total.div_(len(self.mirrorings))
