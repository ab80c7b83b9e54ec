"""What examines a value that the user gives in place of a rule's: the same shape as the rule's, and one that works.

Each takes the decision's name, the value, and the rule's inputs, and returns the value as the rule would have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from autoseg.core.errors import PlanError, did_you_mean
from autoseg.core.numbers import is_positive, is_whole
from autoseg.core.types import Shape, Spacing, by
from autoseg.planning.budget import Budget
from autoseg.planning.configuration import AugmentationSettings, NetworkSpec, Resampling
from autoseg.planning.topology import (
    Topology,
    check_divides,
    divisor_of,
    nearest_fitting,
    padded,
    size_before_padding,
    strides_for,
)

T = TypeVar("T")


def plain_values(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Given values by name, numpy's numbers and arrays as Python's; `PlanError` for anything but a dictionary."""
    if given is not None and not isinstance(given, Mapping):
        raise PlanError(f"given is {given!r}; it must be a dictionary, such as {{'2d/batch_size': 4}}.")
    return {name: plain(value) for name, value in (given or {}).items()}


def plain(value: Any) -> Any:
    """A value with numpy's numbers and arrays as Python's.

    >>> plain((np.int64(64), 64)), plain(np.array([1.0, 2.0]))
    ((64, 64), (1.0, 2.0))
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
        return plain(tuple(value)) if isinstance(value, list) else value
    return type(value)(map(plain, value)) if type(value) in (tuple, list) else value


def check_budget(budget: Budget) -> None:
    """Raise `PlanError` for anything else in the place of a budget."""
    if not isinstance(budget, Budget):
        raise PlanError(f"the budget is {budget!r}; write autoseg.Budget(memory_gb=8).")


def three_spacings(name: str, value: Any, **_: Any) -> Spacing:
    """Three positive numbers of millimetres."""
    return _positive(name, value, 3, "spacings in mm, in the files' axis order (z, y, x)")


def positive_numbers(name: str, value: Any, **inputs: Any) -> tuple[float, ...]:
    """As many positive numbers as the configuration has axes."""
    return _positive(name, value, 2 if name.startswith("2d/") else 3, "positive numbers, one an axis")


def lowres(name: str, value: Any, **_: Any) -> Spacing | None:
    """A spacing in the plan's axis order, or None for no low resolution."""
    return None if value is None else _positive(name, value, 3, "spacings in mm, or None")


def axis_order(name: str, value: Any, **_: Any) -> tuple[int, ...]:
    """A permutation of the three axes."""
    order = tuple(value) if isinstance(value, Sequence) else ()
    if sorted(order) != [0, 1, 2]:
        raise PlanError(f"{name} is {value!r}; it must hold 0, 1 and 2, each once, such as (0, 1, 2).")
    return order


def dimensions(name: str, value: Any, **_: Any) -> tuple[int, ...]:
    """(2,) to plan only 2d, (2, 3) for both."""
    chosen = tuple(value) if isinstance(value, Sequence) else ()
    if chosen not in ((2,), (2, 3)):
        raise PlanError(f"{name} is {value!r}; it must be (2,) for 2d alone or (2, 3) for both.")
    return chosen


def yes_or_no(name: str, value: Any, **_: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise PlanError(f"{name} is {value!r}; it must be True or False.")
    return value


def cascade(name: str, value: Any, *, lowres: Spacing | None, **_: Any) -> bool:
    """True or False; True only where there is a low resolution."""
    if yes_or_no(name, value) and lowres is None:
        raise PlanError(
            "a cascade starts at a low resolution, and there is none. Give one too: lowres=(3.0, 3.0, 3.0)."
        )
    return bool(value)


def normalization(name: str, value: Any, **_: Any) -> Any:
    """Anything that can be called with a channel and a mask."""
    if not callable(value):
        raise PlanError(
            f"{name} is {value!r}; it must be callable with (channel, inside), such as ZScore() or your own function."
        )
    return value


def one_bool_a_channel(name: str, value: Any, *, normalizations: Sequence[Any], **_: Any) -> tuple[bool, ...]:
    """One True or False for each channel; a single one stands for all."""
    values = (value,) * len(normalizations)
    if isinstance(value, Sequence):
        values = tuple(value)
    if len(values) != len(normalizations) or not all(isinstance(v, bool) for v in values):
        raise PlanError(f"{name} is {value!r}; it needs True or False for each of {len(normalizations)} channel(s).")
    return values


def resampling(name: str, value: Any, **_: Any) -> Resampling:
    """A `Resampling`."""
    return _instance(name, value, Resampling)


def patch_size(name: str, value: Any, *, spacing: Spacing, initial_patch_size: tuple[float, ...], **_: Any) -> Shape:
    """Whole voxels that the network of this very patch divides."""
    numbers = _positive(name, value, len(spacing), "whole numbers of voxels")
    patch = tuple(int(n) for n in numbers)
    if patch != numbers:
        raise PlanError(f"{name} is {value!r}; it must hold whole numbers of voxels.")
    size = size_before_padding(initial_patch_size, patch, spacing)
    if padded(size, divisor_of(strides_for(spacing, size))) != patch:
        smaller, larger = nearest_fitting(spacing, patch)
        raise PlanError(
            f"{name} is {by(patch)}: at {by(spacing)} mm its network halves it so often that this does not divide. "
            f"Nearest that fit: {by(smaller)} and {by(larger)}."
        )
    return patch


def topology(name: str, value: Any, *, patch_size: Shape, **_: Any) -> Topology:
    """A `Topology` whose strides divide the patch."""
    given = _instance(name, value, Topology)
    if len(given.strides) != len(given.kernel_sizes):
        raise PlanError(f"{name} has {len(given.strides)} strides but {len(given.kernel_sizes)} kernel sizes.")
    axes = len(patch_size)
    for row in (*given.strides, *given.kernel_sizes):
        if len(row) != axes or not all(isinstance(n, int) and n > 0 for n in row):
            raise PlanError(f"{name} has {row!r}; strides and kernel sizes are {axes} whole numbers each, 1 or more.")
    even = [row for row in given.kernel_sizes if not all(n % 2 for n in row)]
    if even:
        raise PlanError(f"{name} has a kernel of {by(even[0])}; only odd ones keep a feature map's size.")
    if given.strides and max(given.strides[0]) > 1:
        raise PlanError(f"{name} begins with a stride of {by(given.strides[0])}; stage 0 keeps the full resolution.")
    check_divides(patch_size, given)
    return given


def one_number_a_stage(name: str, value: Any, *, topology: Topology, **_: Any) -> tuple[int, ...]:
    """Whole positive channels, one number a stage."""
    return _counts(name, value, topology.stages)


def two_block_lists(name: str, value: Any, *, topology: Topology, **_: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Depths of the encoder's stages, and of the decoder's, one fewer."""
    if not isinstance(value, Sequence) or len(value) != 2:
        raise PlanError(f"{name} is {value!r}; it needs two lists, the encoder's and the decoder's depths.")
    return _counts(name, value[0], topology.stages), _counts(name, value[1], topology.stages - 1)


def network(name: str, value: Any, *, topology: Topology, **_: Any) -> NetworkSpec:
    """A `NetworkSpec` with the axes of the patch."""
    spec = _instance(name, value, NetworkSpec)
    if spec.dimensions != len(topology.divisor):
        raise PlanError(f"{name} has {spec.dimensions} axes; this configuration has {len(topology.divisor)}.")
    return spec


def batch_size(name: str, value: Any, **_: Any) -> int:
    """At least 1."""
    if not is_whole(value) or value < 1:
        raise PlanError(f"{name} is {value!r}; it must be a whole number, 1 or more.")
    return value


def augmentation(name: str, value: Any, *, patch_size: Shape, **_: Any) -> AugmentationSettings:
    """`AugmentationSettings` that cut at least the patch."""
    settings = _instance(name, value, AugmentationSettings)
    cut = settings.initial_patch_size
    if len(cut) != len(patch_size) or any(c < p for c, p in zip(cut, patch_size, strict=True)):
        raise PlanError(f"{name} cuts {by(cut)} voxels, which does not hold the patch of {by(patch_size)}.")
    return settings


def like_the_inherited(name: str, value: Any, *, full_resolution: Any, **_: Any) -> Any:
    """Something of the same kind and length as what it replaces."""
    value = tuple(value) if isinstance(value, list) else value
    if type(value) is not type(full_resolution) or (isinstance(value, tuple) and len(value) != len(full_resolution)):
        raise PlanError(f"{name} is {value!r}; in 3d_fullres it is {full_resolution!r}, and it must be of that kind.")
    return value


def check_names(unused: Sequence[str], known: Iterable[str]) -> None:
    """Raise `PlanError` for given names that no decision has."""
    if unused:
        raise PlanError(f"this plan decides nothing called {unused[0]!r}. {did_you_mean(unused[0], known)}")


def _positive(name: str, value: Any, count: int, what: str) -> tuple[float, ...]:
    numbers = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else ()
    if len(numbers) != count or not all(is_positive(n) for n in numbers):
        raise PlanError(f"{name} is {value!r}; it needs {count} {what}.")
    return numbers


def _counts(name: str, value: Any, count: int) -> tuple[int, ...]:
    numbers = _positive(name, value, count, f"whole numbers, one for each of {count} stages") if count else ()
    if any(int(n) != n for n in numbers):
        raise PlanError(f"{name} is {value!r}; it must hold whole numbers.")
    return tuple(int(n) for n in numbers)


def _instance(name: str, value: Any, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise PlanError(f"{name} is a {type(value).__name__}; it must be a {kind.__name__}: {kind.__name__}(...).")
    return value
