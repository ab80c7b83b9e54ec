"""Names of shapes, said once, and how a size and a number of things are written.

Spacing, shape and voxel positions are always in the array's own axis order, ``(z, y, x)`` or ``(y, x)``;
spacing is in millimetres, shape in voxels.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float32, Int

PathLike: TypeAlias = str | Path
Spacing: TypeAlias = tuple[float, ...]
Shape: TypeAlias = tuple[int, ...]
Axes: TypeAlias = tuple[int, ...]

ImageArray: TypeAlias = Float32[np.ndarray, "channel *space"]
ChannelArray: TypeAlias = Float32[np.ndarray, "*space"]
LabelArray: TypeAlias = Int[np.ndarray, "*space"]
Mask: TypeAlias = Bool[np.ndarray, "*space"]


def by(sizes: Iterable[float], digits: int = 6) -> str:
    """Numbers of several axes in one word.

    >>> by((128, 96, 96)), by((3.0, 0.78125), 3)
    ('128x96x96', '3x0.781')
    """
    return "x".join(f"{size:.{digits}g}" for size in sizes)


def listed(words: Iterable[object], longest: int = 300) -> str:
    """Words in one line: as many as fit in so many characters, and how many more there are.

    >>> listed(["head", "tail"]), listed(["head", "tail", "fin"], longest=6)
    ('head, tail', 'head and 2 more')
    """
    written = [str(word) for word in words]
    ends = accumulate(len(word) + 2 for word in written)
    fitting = max(sum(end <= longest for end in ends), 1)
    more = len(written) - fitting
    return ", ".join(written[:fitting]) + (f" and {more:,} more" if more > 0 else "")


def count(amount: int, noun: str, plural: str = "") -> str:
    """A number of things.

    >>> count(1, "case"), count(1200, "case")
    ('1 case', '1,200 cases')
    """
    return f"{amount:,} {noun if amount == 1 else plural or noun + 's'}"
