"""What the integers of a label map mean: classes, overlapping regions, and the label that says "not annotated"."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from autoseg.core.errors import DatasetError
from autoseg.core.shown import Shown
from autoseg.core.types import listed

Values = int | tuple[int, ...]
SIDES = (("left", "right"), *((rf"(?<![a-z]){a}(?![a-z])", b) for a, b in (("l", "r"), ("lh", "rh"), ("lt", "rt"))))
FileValue = int | float | tuple[int, ...]  # as a file holds it: a number, or a colour (red, green, blue)


@dataclass(frozen=True, slots=True)
class Labels(Shown):
    """The labels of a dataset, in the order in which they were declared.

    Args:
        names: every label with its value, or with the values whose union it is (a region); without the ignore label.
        region_order: the value to write for each region, in order; later ones are written over earlier ones.
        ignore: the value that marks voxels nobody annotated.
        file_values: pairs of a value in the files and the value it stands for, where files number labels otherwise;
            values without a pair stand for themselves. Label maps are read so, and written back with the files' values.

    >>> labels = Labels({"background": 0, "anterior": 1, "posterior": 2})
    >>> labels.foreground, labels.outputs
    ((1, 2), 3)
    >>> tumour = Labels({"background": 0, "whole": (1, 2), "core": 2}, region_order=(1, 2))
    >>> tumour.has_regions, tumour.outputs
    (True, 2)
    >>> Labels({"background": 0, "cell": 1}, file_values=((255, 1),)).in_files
    {1: 255}
    """

    names: dict[str, Values] = field(hash=False)
    region_order: tuple[int, ...] = ()
    ignore: int | None = None
    file_values: tuple[tuple[FileValue, int], ...] = ()

    def __post_init__(self) -> None:
        if self.names.get("background") != 0:
            raise DatasetError(
                f"the labels {self.names} have no 'background' with value 0. "
                'Add it: {"background": 0, ...}; if another label uses 0, give that one a new value.'
            )
        if self.values[0] < 0:
            raise DatasetError(f"a label has the value {self.values[0]}; values count up from 0, the background.")
        if self.ignore is not None and self.ignore != max(self.values) + 1:
            raise DatasetError(
                f"the ignore label is {self.ignore}, but it must be the highest value plus one, {max(self.values) + 1}."
            )
        if self.has_regions and len(self.region_order) != len(self.regions):
            raise DatasetError(
                f"{len(self.regions)} regions ({', '.join(self.regions)}) need as many entries in "
                f"'regions_class_order', found {len(self.region_order)}: {list(self.region_order)}."
            )
        strange = [value for _, value in self.file_values if value not in self.permitted]
        if strange:
            raise DatasetError(
                f"a value in the files is read as {strange[0]}, which no label has: the values are "
                f"{', '.join(map(str, self.permitted))}. Choose one of them, or declare a label for it."
            )

    @property
    def has_regions(self) -> bool:
        """Whether some label is a union of several values; then each output is predicted on its own."""
        return any(isinstance(v, tuple) and len(v) > 1 for v in self.names.values())

    @property
    def values(self) -> tuple[int, ...]:
        """Every annotated integer, sorted, background included, the ignore label left out."""
        return tuple(sorted({v for value in self.names.values() for v in members(value)}))

    @property
    def foreground(self) -> tuple[int, ...]:
        """Every annotated integer but the background."""
        return tuple(v for v in self.values if v != 0)

    @property
    def regions(self) -> dict[str, tuple[int, ...]]:
        """What is predicted and judged: name and values of each label or region but the background."""
        return {n: members(v) for n, v in self.names.items() if members(v) != (0,)}

    @property
    def outputs(self) -> int:
        """Channels of the network's output: one a value with background, or one a region."""
        return len(self.regions) if self.has_regions else len(self.values)

    @property
    def declared(self) -> int:
        """Entries of nnU-Net's ``labels``, background and ignore included: what its memory estimate counts."""
        return len(self.names) + (self.ignore is not None)

    @property
    def permitted(self) -> tuple[int, ...]:
        """Every integer that a label map may hold."""
        return self.values if self.ignore is None else (*self.values, self.ignore)

    @property
    def sides(self) -> tuple[tuple[str, str], ...]:
        """Pairs of labels whose names differ only by the side, left before right.

        >>> Labels({"background": 0, "right kidney": 1, "left kidney": 2}).sides
        (('left kidney', 'right kidney'),)
        """
        names = {name.lower(): name for name in self.regions}
        return tuple(
            (name, names[other])
            for low, name in names.items()
            for left, right in SIDES
            if (other := re.sub(left, right, low)) != low and other in names
        )

    @property
    def in_files(self) -> dict[int, FileValue]:
        """The value to write for each renumbered one; of several that were merged, the first.

        >>> Labels({"background": 0, "cell": 1}, file_values=((1, 1), (2, 1), (7, 0))).in_files
        {1: 1}
        """
        stored_of = {value: stored for stored, value in reversed(self.file_values)}
        if not any(isinstance(stored, tuple) or stored == 0 for stored in stored_of.values()):
            stored_of.pop(0, None)  # labels that were merged into the background: 0 is still what stands for it
        return stored_of

    def difference(self, other: Labels) -> str:
        """What has another value in other labels, in words; empty where they mean the same or may do so.

        >>> Labels({"background": 0, "liver": 2}).difference(Labels({"background": 0, "liver": 1}))
        "'liver' is 2 against 1"
        """
        mine, yours = self.regions, other.regions
        shared = [name for name in mine if name in yours]
        for name in shared:
            if mine[name] != yours[name]:
                values = (" and ".join(map(str, regions[name])) for regions in (mine, yours))
                return f"{name!r} is {' against '.join(values)}"
        if shared or self.values == other.values:
            return ""
        return f"{', '.join(mine)} are {self.values[1:]} against {', '.join(yours)}, {other.values[1:]}"

    @property
    def stored(self) -> tuple[FileValue, ...]:
        """Every value, or colour, that a label file may hold.

        >>> Labels({"background": 0, "cell": 1}, file_values=((255, 1),)).stored
        (0, 255)
        """
        in_files = self.in_files
        return tuple(in_files.get(value, value) for value in self.permitted)

    @property
    def has_colours(self) -> bool:
        """Whether files hold colours instead of numbers."""
        return any(isinstance(stored, tuple) for stored, _ in self.file_values)

    def name_of(self, value: int) -> str:
        """The name of a single value; ``"label 7"`` where only regions speak of it."""
        if value == self.ignore:
            return "ignore"
        single = [n for n, v in self.names.items() if members(v) == (value,)]
        return single[0] if single else f"label {value}"

    def __repr__(self) -> str:
        inside = listed(f"{v if isinstance(v, int) else list(v)} {n}" for n, v in self.names.items())
        return f"Labels({inside}{'' if self.ignore is None else f', {self.ignore} ignore'})"


def members(value: Values) -> tuple[int, ...]:
    """The values that a label is the union of."""
    return (value,) if isinstance(value, int) else tuple(value)


def labels_from_json(declared: Mapping[str, Any], order: list[int] | None = None) -> Labels:
    """Labels from ``dataset.json``: nnU-Net's ``{name: value}`` or the Decathlon's ``{"value": name}``.

    Raises `DatasetError` for values that are not whole numbers, or no label at all.

    >>> labels_from_json({"0": "background", "1": "liver"})
    Labels(0 background, 1 liver)
    """
    if not declared:
        raise DatasetError("'labels' in dataset.json is empty. Declare at least background and one label.")
    if all(_is_whole(key) for key in declared):
        called = ["background" if int(key) == 0 else str(name) for key, name in declared.items()]
        if twice := [name for name in called if called.count(name) > 1]:
            raise DatasetError(
                f"two values in 'labels' are called {twice[0]!r}. Give each a name of its own; one label of several "
                "values is written {name: [1, 2]}."
            )
        declared = dict(zip(called, map(int, declared), strict=True))
    names: dict[str, Values] = {}
    for name, value in declared.items():
        values = value if isinstance(value, list | tuple) else [value]
        if not values or not all(_is_whole(v) for v in values):
            raise DatasetError(f"label {name!r} has the value {value!r}; it must be a whole number or a list of them.")
        names[str(name)] = int(values[0]) if len(values) == 1 else tuple(int(v) for v in values)
    ignore = names.pop("ignore", None)
    if isinstance(ignore, tuple):
        raise DatasetError(f"the ignore label must be one whole number, not {list(ignore)}.")
    return Labels(names, tuple(order or ()), ignore)


def labels_to_json(labels: Labels) -> dict[str, Any]:
    """nnU-Net's ``labels`` entry: ``{name: value}``, regions as lists, ``ignore`` last.

    >>> labels_to_json(Labels({"background": 0, "liver": 1}, ignore=2))
    {'background': 0, 'liver': 1, 'ignore': 2}
    """
    declared: dict[str, Any] = {n: v if isinstance(v, int) else list(v) for n, v in labels.names.items()}
    return declared if labels.ignore is None else {**declared, "ignore": labels.ignore}


def _is_whole(value: Any) -> bool:
    return re.fullmatch("-?[0-9]+", str(value)) is not None
