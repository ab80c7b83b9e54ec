"""Datasets that are made on the spot in memory: one on each side of every planning rule, and one with each usual fault.

All voxels come from numpy's frozen `RandomState` in whole numbers, so every machine makes the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

import numpy as np

from autoseg.core.types import Shape, Spacing
from autoseg.data import fixes
from autoseg.data.dataset import Case, Dataset, Held
from autoseg.data.geometry import Grid
from autoseg.data.images import Image
from autoseg.data.labels import Labels

ORGAN = Labels({"background": 0, "organ": 1})
SIDES = Labels({"background": 0, "right kidney": 1, "left kidney": 2})
PARTS = Labels({"background": 0, "oedema": 1, "core": 2, "enhancing": 3})
TUMOUR = Labels(
    {"background": 0, "whole tumour": (1, 2, 3), "core": (2, 3), "enhancing": 3},
    region_order=(1, 2, 3),
)
AIR = -1000  # Hounsfield units
ODD = 2  # the case that a fault is put into


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a generated dataset is like: `what` says why it is there, `filled` is the share of slices not zero.

    Cases get the `spacings` in turn. A `fault` is put in when all else is done.
    """

    what: str
    cases: int = 6
    shape: Shape = (16, 24, 24)
    spacings: tuple[Spacing, ...] = ((1.0, 1.0, 1.0),)
    channels: tuple[str, ...] = ("MRI",)
    labels: Labels = ORGAN
    filled: float = 1.0
    fault: Callable[[Dataset], Dataset] | None = None

    def make(self, name: str) -> Dataset:
        """The dataset, the same for the same name."""
        random = np.random.RandomState(crc32(name.encode()))
        training = tuple(self._case(i, random) for i in range(self.cases))
        dataset = Dataset(name=name, folder=None, channels=self.channels, labels=self.labels, training=training)
        return self.fault(dataset) if self.fault else dataset

    def _case(self, number: int, random: np.random.RandomState) -> Case:
        grid = Grid.of(self.shape, self.spacings[number % len(self.spacings)])
        label = balls(self.shape, len(self.labels.permitted) - 1, random)
        image = np.stack([paint(label, random, ct=channel == "CT") for channel in self.channels])
        if self.filled < 1:
            empty = round(self.filled * self.shape[0])
            image[:, empty:], label[empty:] = 0, 0
        return Case(
            name=f"case_{number}",
            image_paths=(),
            label_path=None,
            channels=self.channels,
            labels=self.labels,
            held=Held(Image(image, grid, self.channels), label[None]),
        )


def balls(shape: Shape, count: int, random: np.random.RandomState) -> np.ndarray:
    """Label map with values 1 to `count`: balls beside each other along the last axis, 1 first.

    >>> np.unique(balls((8, 20, 20), 2, np.random.RandomState(0)))
    array([0, 1, 2], dtype=uint8)
    """
    label = np.zeros(shape, np.uint8)
    for value in range(1, count + 1):
        centre = [n / 2 + random.randint(-2, 3) * (n > 12) for n in shape[:-1]]
        centre.append(shape[-1] * (value - 0.5) / count)
        smaller = 0.85 + 0.03 * random.randint(6)
        radii = [max(smaller * n / 3, 1) for n in (*shape[:-1], shape[-1] / count)]
        axes = np.meshgrid(*(np.arange(n) + 0.5 for n in shape), indexing="ij")
        away = sum(((a - c) / r) ** 2 for a, c, r in zip(axes, centre, radii, strict=True))
        label[away < 1] = value
    return label


def paint(label: np.ndarray, random: np.random.RandomState, *, ct: bool) -> np.ndarray:
    """Whole numbers with noise, each label brighter than the one before; CT has air at the border."""
    image = 100 + 90 * label.astype(np.int64) + random.randint(-32, 33, label.shape)
    if ct:
        for axis in range(label.ndim):
            np.moveaxis(image, axis, 0)[[0, -1]] = AIR
    return image.astype(np.float32)


def _edit(dataset: Dataset, change: Callable[[Held], Held], *numbers: int) -> Dataset:
    """The dataset with the voxels of some cases changed, of all where none is named."""
    chosen = numbers or tuple(range(len(dataset)))
    cases = [
        replace(case, held=change(case.held)) if i in chosen and case.held else case for i, case in enumerate(dataset)
    ]
    return replace(dataset, training=tuple(cases))


def _image(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Held], Held]:
    return lambda held: replace(held, image=replace(held.image, array=change(held.image.array)))


def _label(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Held], Held]:
    return lambda held: replace(held, label=None if held.label is None else change(held.label))


def _label_header(**values: Any) -> Callable[[Held], Held]:
    return lambda held: replace(held, label_grid=replace(held.image.grid, **values))


def _nan(array: np.ndarray) -> np.ndarray:
    broken = array.copy()
    broken[:, 3, 4:9, 5:9] = np.nan
    return broken


def _between(label: np.ndarray) -> np.ndarray:
    """As linear interpolation leaves it."""
    return (label + np.roll(label, 1, axis=2).astype(np.float32)) / 2


def _turned(held: Held) -> Held:
    """The last axis stored from right to left, which the header tells."""
    image = replace(held.image, array=np.flip(held.image.array, -1).copy(), grid=held.image.grid.flip((2,)))
    return Held(image, None if held.label is None else np.flip(held.label, -1).copy())


def _twice(dataset: Dataset) -> Dataset:
    *others, last = dataset.training
    return replace(dataset, training=(*others, replace(last, held=dataset[ODD].held)))


def _patients(dataset: Dataset) -> Dataset:
    named = [replace(case, name=f"patient{i // 2 + 1}_scan{i % 2 + 1}") for i, case in enumerate(dataset)]
    return replace(dataset, training=tuple(named))


def _exchanged(label: np.ndarray) -> np.ndarray:
    return np.choose(label, (0, 2, 1)).astype(np.uint8)


def _faulty(what: str, change: Callable[[Held], Held], *numbers: int, labels: Labels = ORGAN) -> Recipe:
    return Recipe(what=what, labels=labels, fault=lambda dataset: _edit(dataset, change, *numbers))


LONG = (24, 32, 32)
RULES = {
    "anisotropic": Recipe(what="thick and few slices", shape=(10, 40, 40), spacings=((6, 1, 1), (4, 1, 1), (5, 1, 1))),
    "nearly_anisotropic": Recipe(
        what="slices not three times as thick as pixels are wide",
        shape=(10, 40, 40),
        spacings=((3.2, 1, 1), (2.4, 1, 1), (2.9, 1, 1)),
    ),
    "thick_but_many": Recipe(
        what="thick slices, but many", shape=(14, 40, 40), spacings=((6, 1, 1), (4, 1, 1), (5, 1, 1))
    ),
    "mixed_thickness": Recipe(
        what="thick and few slices, but thinner than pixels are wide in some cases",
        shape=(10, 40, 40),
        spacings=((6, 1, 1), (5, 1, 1), (0.9, 1, 1)),
    ),
    "sagittal": Recipe(what="coarsest along another axis than the first", spacings=((1, 1, 1.1),)),
    "nearly_sagittal": Recipe(what="no axis coarser than the first", spacings=((1.1, 1, 1.1),)),
    "coarse_axis": Recipe(what="one axis more than three times as coarse", shape=LONG, spacings=((3.1, 1, 1),)),
    "nearly_coarse_axis": Recipe(what="one axis almost three times as coarse", shape=LONG, spacings=((2.9, 1, 1),)),
    "twice_as_coarse": Recipe(what="one axis twice as coarse", shape=LONG, spacings=((2, 1, 1),)),
    "nearly_twice_as_coarse": Recipe(what="one axis almost twice as coarse", shape=LONG, spacings=((1.9, 1, 1),)),
    "deep": Recipe(what="57 voxels an edge: enough to halve four times", shape=(57,) * 3),
    "nearly_deep": Recipe(what="56 voxels an edge: not enough to halve four times", shape=(56,) * 3),
    "single_slice": Recipe(what="one slice a case", shape=(1, 32, 32), spacings=((5, 1, 1),)),
    "two_slices": Recipe(what="two slices a case", shape=(2, 32, 32), spacings=((5, 1, 1),)),
    "ct": Recipe(what="CT", channels=("CT",)),
    "mri": Recipe(what="MRI"),
    "rgb": Recipe(what="colours, declared", shape=(48, 64), spacings=((1, 1),), channels=("rgb_to_0_1",) * 3),
    "rgb_undeclared": Recipe(
        what="colours under names that mean nothing to the planner",
        shape=(48, 64),
        spacings=((1, 1),),
        channels=("red", "green", "blue"),
    ),
    "rescaled": Recipe(what="a channel whose name asks for 0 to 1", channels=("rescale_to_0_1",)),
    "as_it_is": Recipe(what="a channel whose name asks for nothing to be done", channels=("noNorm",)),
    "sparse": Recipe(what="less than three quarters of each image are not zero", shape=(20, 24, 24), filled=0.7),
    "nearly_sparse": Recipe(what="three quarters of each image are not zero", shape=(20, 24, 24), filled=0.75),
    "sparse_ct": Recipe(
        what="as sparse, but CT, whose background need not be left out",
        channels=("CT",),
        shape=(20, 24, 24),
        filled=0.7,
    ),
    "tiny": Recipe(what="a quarter of a gigabyte holds the whole image", shape=(40,) * 3, cases=2),
    "not_tiny": Recipe(what="a quarter of a gigabyte does not hold the whole image", shape=(48,) * 3, cases=2),
    "huge": Recipe(what="in a quarter of a gigabyte, a cascade is planned", shape=(88,) * 3, cases=2),
    "nearly_huge": Recipe(what="in a quarter of a gigabyte, a cascade is dropped", shape=(80,) * 3, cases=2),
    "few_voxels": Recipe(what="29 small cases: 5% of all voxels are less than two patches", cases=29, shape=(16,) * 3),
    "enough_voxels": Recipe(what="31 small cases: 5% of all voxels are two patches", cases=31, shape=(16,) * 3),
    "many_voxels": Recipe(
        what="40 cases: 5% of all voxels are two patches, and no more fit into a tenth of a gigabyte",
        cases=40,
        shape=(32,) * 3,
    ),
    "flat": Recipe(what="a patch more than three times as wide as thick", shape=(8, 32, 32)),
    "nearly_flat": Recipe(what="a patch not three times as wide as thick", shape=(12, 32, 32)),
    "oblong": Recipe(what="a picture more than half as long again as high", shape=(48, 73), spacings=((1, 1),)),
    "nearly_oblong": Recipe(what="a picture half as long again as high", shape=(48, 72), spacings=((1, 1),)),
    "many_channels": Recipe(what="four sequences", channels=("T1", "T1 contrast", "T2", "FLAIR")),
    "several_classes": Recipe(what="three foreground classes", labels=PARTS),
    "regions": Recipe(what="three regions that overlap", labels=TUMOUR),
    "ignore_label": Recipe(
        what="voxels that nobody annotated, declared so", labels=Labels({"background": 0, "organ": 1}, ignore=2)
    ),
    "unknown_as_class": Recipe(
        what="voxels that nobody annotated, declared as a class",
        labels=Labels({"background": 0, "organ": 1, "unknown": 2}),
    ),
}
FAULTS = {
    "sound": Recipe(what="nothing is wrong"),
    "shifted_header": _faulty("a label map's header says 4 mm further", _label_header(origin=(4.0, 0.0, 0.0)), ODD),
    "wrong_spacing": _faulty("a label map's header has another spacing", _label_header(spacing=(3.0, 1.0, 1.0)), ODD),
    "masks_0_255": _faulty("masks of 0 and 255", _label(lambda label: label * 255)),
    "interpolated_labels": _faulty("a label map that was interpolated", _label(_between), ODD),
    "empty_label": _faulty("a label map without foreground", _label(np.zeros_like), ODD),
    "image_as_label": _faulty(
        "an image under its label map's name", lambda held: replace(held, label=held.image.array.copy()), ODD
    ),
    "nan": _faulty("voxels that are not a number", _image(_nan), ODD),
    "blank_image": _faulty("an image with one intensity everywhere", _image(lambda a: np.full_like(a, 100)), ODD),
    "wrong_scale": _faulty("intensities times 1000", _image(lambda array: array * 1000), ODD),
    "ct_called_mr": Recipe(
        what="CT that is called MRI", channels=("CT",), fault=lambda d: fixes.declare_channels(d, "MRI")
    ),
    "mr_called_ct": Recipe(what="MRI that is called CT", fault=lambda d: fixes.declare_channels(d, "CT")),
    "turned_case": _faulty("a case stored from right to left", _turned, ODD),
    "swapped_sides": _faulty("left and right exchanged in a case", _label(_exchanged), ODD, labels=SIDES),
    "left_and_right": Recipe(what="left and right as labels, which mirroring exchanges", labels=SIDES),
    "duplicated_case": Recipe(what="one case twice", fault=_twice),
    "patient_leakage": Recipe(what="two scans of each patient", cases=10, fault=_patients),
    "few_cases": Recipe(what="four cases, too few for five folds", cases=4),
    "five_cases": Recipe(what="five cases, just enough for five folds", cases=5),
    "unused_label": Recipe(what="a label that no voxel has", fault=lambda d: fixes.declare_labels(d, {"lesion": 2})),
}
HEADER = ((1.5, 1.0, 1.0),)  # says something, which 1 mm everywhere does not
FAULTS = {name: replace(recipe, spacings=HEADER) for name, recipe in FAULTS.items()}
GENERATED = {**RULES, **FAULTS}
