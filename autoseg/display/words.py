"""Numbers and values as words: how every display writes a shape, a spacing, a duration or a decision's value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from itertools import groupby
from typing import Any

from autoseg.core.numbers import MINUS as MINUS
from autoseg.core.numbers import duration as duration
from autoseg.core.numbers import is_number
from autoseg.core.numbers import number as number
from autoseg.core.types import count as count

LONGEST = 300  # characters of one value; more is cut
MANY = 16  # values of a sequence, such as a histogram, beyond which only their number is told
GEOMETRIC = ("size", "shape", "divisor")  # decisions of these names are voxels along the axes
MILLIMETRES = ("spacing", "lowres")
UNSET = {  # what holds where a blueprint leaves a value open
    "epochs": "as many as the minutes allow",
    "minutes": "as many as the epochs take",
    "batch_size": "automatic",
    "batch_voxels": "no limit",
    "patch_voxels": "no limit",
    "base_features": "automatic",
    "wide_patch_voxels": "no limit",
    "network": "the plan's U-Net",
    "loss": "Dice + cross-entropy",
    "sampler": "cases evenly, some patches around a label",
}


def score(value: float, decimals: int = 3) -> str:
    """A Dice or IoU, always with as many decimals, so that columns of them line up.

    >>> score(0.83), score(float("nan"))
    ('0.830', '–')
    """
    return "–" if math.isnan(value) else f"{value:.{decimals}f}"


def times(values: Sequence[float], unit: str = "") -> str:
    """Lengths along the axes, with spaces that do not break.

    >>> print(times((40, 56, 40)), times((8, 1.3672, 1.3672), "mm"), sep="; ")
    40 × 56 × 40; 8 × 1.37 × 1.37 mm
    """
    return "\u00a0×\u00a0".join(number(v) for v in values) + (f" {unit}" if unit else "")


def size(byte_count: float) -> str:
    """Bytes in a unit that reads well.

    >>> size(2_300_000)
    '2.3 MB'
    """
    units = ("bytes", "kB", "MB", "GB", "TB")
    step = min(int(math.log10(max(byte_count, 1)) / 3), len(units) - 1)
    return f"{number(byte_count / 1000**step, 2)} {units[step]}"


def share(part: float) -> str:
    """A fraction in percent.

    >>> share(0.5), share(0.0004)
    ('50%', '<0.1%')
    """
    percent = 100 * part
    if 0 < percent < 0.1:
        return "<0.1%"
    return f"{percent:.0f}%" if percent >= 10 or percent == int(percent) else f"{percent:.1f}%"


def value_of(value: Any, name: str = "") -> str:
    """A decision's value as a person would write it; `name` tells whether numbers are lengths along axes.

    >>> print(value_of((40, 56, 40), "patch_size"), value_of((0, 1, 2), "axis_order"), value_of(None), sep="; ")
    40 × 56 × 40; 0, 1, 2; none
    >>> value_of(((1, 1), (2, 2), (2, 2)), "strides")
    '1×1, 2×2 (2 times)'
    """
    if value is None:
        return UNSET.get(name, "none")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return number(value, 4)
    if isinstance(value, Mapping):
        written = ", ".join(f"{k}: {value_of(v)}" for k, v in value.items())
    elif isinstance(value, list | tuple):
        written = _sequence(value, name)
    elif is_dataclass(value) and not isinstance(value, type):
        written = _dataclass(value)
    else:
        written = str(getattr(value, "__name__", value)).replace("<lambda>", "a function without a name")
    return written if len(written) <= LONGEST else written[: LONGEST - 1] + "…"


def _sequence(values: Sequence[Any], name: str) -> str:
    if not values:
        return "none"
    if len(values) > MANY:
        return f"{len(values)} values"
    if all(map(is_number, values)):
        if name.endswith(MILLIMETRES):
            return times(values, "mm")
        return times(values) if name.endswith(GEOMETRIC) else ", ".join(number(v, 4) for v in values)
    if all(isinstance(v, list | tuple) for v in values):  # strides and kernels: one tuple a stage
        runs = [(key, len(list(run))) for key, run in groupby("×".join(value_of(w) for w in v) for v in values)]
        return ", ".join(key if length == 1 else f"{key} ({length} times)" for key, length in runs)
    return ", ".join(value_of(v) for v in values)


def _dataclass(value: Any) -> str:
    """Its own words where it has some; else fields with their names, or the first line of what has a display."""
    if "__str__" in vars(type(value)):
        return str(value)
    if hasattr(value, "_repr_html_"):
        return repr(value).partition("\n")[0]
    shown = [(f.name, getattr(value, f.name)) for f in fields(value) if f.repr]
    inside = " · ".join(f"{name.replace('_', ' ')} {value_of(v, name)}" for name, v in shown if v is not None)
    return f"{type(value).__name__}: {inside}" if inside else type(value).__name__
