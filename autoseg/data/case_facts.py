"""What one case tells a fingerprint: its facts, and its foreground's intensities."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import ndimage

from autoseg.core.serialization import digest, from_jsonable, to_jsonable
from autoseg.core.types import ImageArray, Mask, Shape, Spacing
from autoseg.data.checks import load_pair
from autoseg.data.dataset import Case
from autoseg.data.geometry import Box, bounding_box
from autoseg.data.images import Image, LabelMap
from autoseg.data.label_values import count_values
from autoseg.data.stash import Part, Stash

ANYWHERE = 8192  # voxels of the whole image, spread evenly, that stand for all of a case in its histogram
FORMAT = 2  # raised whenever the same files give another fingerprint
SLOW = 0.2  # seconds that a case must have taken to be worth keeping for a run that goes on
ARRAYS, NUMBERS = ("values", "anywhere"), ("mean", "square", "low", "high")  # of what is kept


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFacts:
    """The facts of one case: three axes always, a 2D image has a slice axis of one voxel."""

    name: str
    shape: Shape
    cropped_shape: Shape
    spacing: Spacing
    label_voxels: dict[int, int] = field(default_factory=dict, hash=False)
    intensity_mean: tuple[float, ...] = ()  # of the foreground, one a channel
    relative_size: float = 1.0  # voxels left after cropping to the nonzero region


@dataclass(frozen=True, slots=True, eq=False)
class Foreground:
    """One channel's foreground of one case: exact moments, the values for percentiles, and some of all voxels."""

    values: np.ndarray
    mean: float
    square: float
    low: float
    high: float
    anywhere: np.ndarray


def seen(case: Case, *, room: int, stash: Stash | None) -> tuple[CaseFacts, list[Foreground]]:
    """What one case shows: looked at now, or found where a stopped run left it. What takes no time is not kept."""
    key = digest([FORMAT, room, case.labels, case.state]) if stash else ""
    found = stash.find(case.name, key) if stash else None
    if found is not None:
        return _from_part(found)
    begun = time.perf_counter()
    facts, foreground = _look_at(case, room)
    if stash and time.perf_counter() - begun > SLOW:
        stash.keep(case.name, key, _part(facts, foreground))
    return facts, foreground


def _part(facts: CaseFacts, foreground: list[Foreground]) -> Part:
    arrays = {f"{n}/{c}": getattr(f, n) for c, f in enumerate(foreground) for n in ARRAYS}
    numbers = [{n: getattr(f, n) for n in NUMBERS} for f in foreground]
    return arrays, {"facts": to_jsonable(facts), "numbers": numbers}


def _from_part(part: Part) -> tuple[CaseFacts, list[Foreground]]:
    arrays, kept = part
    facts: CaseFacts = from_jsonable(CaseFacts, kept["facts"])
    channels: list[dict[str, Any]] = [
        {**numbers, **{n: arrays[f"{n}/{c}"] for n in ARRAYS}} for c, numbers in enumerate(kept["numbers"])
    ]
    return facts, [Foreground(**channel) for channel in channels]


def _look_at(case: Case, room: int) -> tuple[CaseFacts, list[Foreground]]:
    image, label_map = load_pair(case)
    grid = image.grid.as_3d()
    box = bounding_box((image.array.reshape(-1, *grid.shape) != 0).any(axis=0))  # holes do not change the box
    foreground = _foreground(image, label_map, box, room)
    facts = CaseFacts(
        name=case.name,
        shape=grid.shape,
        cropped_shape=box.shape,
        spacing=grid.spacing,
        label_voxels={int(v): n for v, n in count_values(label_map.array).items() if v != 0},
        intensity_mean=tuple(f.mean for f in foreground),
        relative_size=float(np.prod(box.shape) / np.prod(grid.shape)),
    )
    return facts, foreground


def _foreground(image: Image, label_map: LabelMap, box: Box, room: int) -> list[Foreground]:
    """The labelled voxels inside the box, channel by channel; nothing where no voxel is labelled."""
    inside = label_map.array.reshape(image.grid.as_3d().shape)[box.slices] > 0
    if not inside.any():
        return []
    channels = image.array.reshape(-1, *image.grid.as_3d().shape)
    return [_moments(channel[box.slices], inside, room) for channel in channels]


def _moments(channel: np.ndarray, inside: Mask, room: int) -> Foreground:
    values = channel[inside]
    exact = values.astype(np.float64)
    kept = values if len(values) <= room else np.random.RandomState(1234).choice(values, room, replace=False)
    low, high = float(exact.min()), float(exact.max())
    anywhere = channel.ravel()[:: max(1, channel.size // ANYWHERE)].copy()
    return Foreground(kept, float(exact.mean()), float((exact**2).mean()), low, high, anywhere)


def nonzero_mask(array: ImageArray) -> Mask:
    """Voxels that are not zero in some channel, holes filled: nnU-Net's idea of where the patient is."""
    mask = np.asarray((array != 0).any(axis=0))
    return mask if mask.all() else np.asarray(ndimage.binary_fill_holes(mask))
