"""What a check-up keeps of one case after looking at its voxels once: small numbers, no arrays."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import ndimage

from autoseg.core.errors import DatasetError, ImageError
from autoseg.core.types import ChannelArray, LabelArray
from autoseg.data.corrections import onto
from autoseg.data.dataset import Case
from autoseg.data.formats import LOSSY, read_grid, suffix_of
from autoseg.data.geometry import Grid, bounding_box
from autoseg.data.images import Image, LabelMap, without_copies
from autoseg.data.label_values import FEW, count_colours, count_values, flatness, mostly_near
from autoseg.data.labels import FileValue, Labels

SAMPLE = 200_000  # voxels that percentiles and flatness are read from
LISTED = 256  # label values that are kept by name; a label map with more of them is hardly one
AIR = -500  # Hounsfield units; below is air or lung, never in an MR
RIM = 6  # voxels around the labels in which edges are compared


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelEvidence:
    """The finite intensities of one channel; percentiles are of its voxels that are not zero."""

    minimum: float
    maximum: float
    low: float
    median: float
    high: float
    whole: bool
    air: float
    nonfinite: int
    content: str
    first_nonfinite: tuple[int, ...] = ()

    @property
    def constant(self) -> bool:
        """Whether there is nothing to see."""
        return self.minimum == self.maximum

    @property
    def width(self) -> float:
        """From the 1st to the 99th percentile."""
        return self.high - self.low


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageEvidence:
    """One image: its grid, its channels, and the grids of their files where each has its own."""

    grid: Grid
    channels: tuple[ChannelEvidence, ...]
    files: tuple[Grid, ...] = ()

    @property
    def content(self) -> str:
        """What tells it from every other image."""
        return " ".join(channel.content for channel in self.channels)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelEvidence:
    """One label map as its file has it.

    `values` are the most frequent ones with their voxels, whole numbers or, where `channels` is more than one, colours;
    `distinct` is how many there are. `flatness` is the share of neighbouring voxels, one of them labelled, that agree:
    near 1 for labels, near 0 for intensities. `grey` says that it was stored as colours, all of them grey, `smeared`
    that it is a JPEG whose values lie around the declared ones. `leftward` is how far to the left, in mm, the middle of
    each label lies that has a side.
    """

    grid: Grid
    channels: int
    values: dict[FileValue, int] = field(hash=False)
    distinct: int
    nonfinite: int
    broken: int
    farthest: float
    flatness: float
    content: str
    grey: bool = False
    smeared: bool = False
    leftward: dict[str, float] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One case: what its image and its label map show, or why they cannot be read.

    `edges`, where the two grids differ: how much stronger the image changes across the border of the labels than
    elsewhere nearby, with the label map laid on the image voxel on voxel, and through world coordinates.
    """

    name: str
    image: ImageEvidence | None = None
    image_problem: str = ""
    label: LabelEvidence | None = None
    label_problem: str = ""
    edges: tuple[float, float] | None = None
    copied: bool = False  # whether the label map is the image


def look_at(case: Case, *, labelled: bool) -> Evidence:
    """Read a case once. What cannot be read is told, never raised."""
    image, image_problem = _image(case)
    seen = _of_image(image, case) if image else None
    if not labelled:
        return Evidence(name=case.name, image=seen, image_problem=image_problem)
    try:
        stored, grid = case.stored_label()
    except DatasetError as error:
        return Evidence(name=case.name, image=seen, image_problem=image_problem, label_problem=str(error))
    grey = len(stored) > 1 and not case.labels.has_colours and len(plain := without_copies(stored, 1)) == 1
    stored = plain if grey else stored
    if len(stored) > 1 and not _colours(stored) and (problem := _unusable(case)):
        return Evidence(name=case.name, image=seen, image_problem=image_problem, label_problem=problem)
    label_map = _label_map(case, stored, grid)
    label = replace(_of_label(stored, label_map.grid, case.labels), grey=grey, leftward=_leftward(label_map))
    if case.label_path is not None and suffix_of(case.label_path) in LOSSY:
        label = replace(label, smeared=_is_smeared(label, case.labels))
    return Evidence(
        name=case.name,
        image=seen,
        image_problem=image_problem,
        label=label,
        edges=_edges(image, label_map) if image and label_map.grid.difference(image.grid) else None,
        copied=image is not None and label.distinct > FEW and _is_image(stored, image),
    )


def _image(case: Case) -> tuple[Image | None, str]:
    try:
        return case.image(), ""
    except DatasetError as error:
        return None, str(error)


def _unusable(case: Case) -> str:
    """Why a label map cannot be one."""
    try:
        case.label()
    except DatasetError as error:
        return str(error)
    return ""


def _label_map(case: Case, stored: np.ndarray, grid: Grid) -> LabelMap:
    """The label map as it would be used; where its values cannot be classes, an empty one where it lies."""
    try:
        return case.label_of(stored, grid)
    except DatasetError:
        empty = LabelMap(np.zeros(grid.shape, np.uint8), grid, case.labels)
    try:
        return case.corrections.of_label(empty)
    except ImageError:
        return empty


def _of_image(image: Image, case: Case) -> ImageEvidence:
    return ImageEvidence(
        grid=image.grid,
        channels=tuple(_of_channel(channel) for channel in image.array),
        files=tuple(map(read_grid, case.image_paths)) if len(case.image_paths) > 1 else (),
    )


def _of_channel(channel: ChannelArray) -> ChannelEvidence:
    finite = np.isfinite(channel)
    sound = bool(finite.all())
    values = channel.ravel() if sound else channel[finite]
    values = values if values.size else np.zeros(1, np.float32)
    sample = values[:: max(1, values.size // SAMPLE)]
    nonzero = sample[sample != 0]
    low, median, high = np.percentile(nonzero if nonzero.size else sample, (1, 50, 99))
    return ChannelEvidence(
        minimum=float(values.min()),
        maximum=float(values.max()),
        low=float(low),
        median=float(median),
        high=float(high),
        whole=bool((sample == np.round(sample)).all()),
        air=float((sample < AIR).mean()),
        nonfinite=0 if sound else int((~finite).sum()),
        content=_content(channel),
        first_nonfinite=() if sound else tuple(int(i) for i in np.argwhere(~finite)[0]),
    )


def _content(array: np.ndarray) -> str:
    """The same for two arrays with the same voxels, whatever their files are called or say of their geometry."""
    key = hashlib.blake2b(repr(array.shape).encode(), digest_size=16)
    key.update(np.ascontiguousarray(array).data)
    return key.hexdigest()


def _of_label(stored: np.ndarray, grid: Grid, labels: Labels) -> LabelEvidence:
    finite = np.isfinite(stored) if stored.dtype.kind == "f" else np.ones(1, bool)
    nonfinite = int((~finite).sum())
    values = stored[finite] if nonfinite else stored
    away = np.abs(values - np.round(values)) if stored.dtype.kind == "f" else np.zeros(1)
    counts = _colours(stored) if len(stored) > 1 else _numbers(values, whole=not away.any())
    known = {key for key, _ in labels.file_values} | set(labels.permitted)
    return LabelEvidence(
        grid=grid,
        channels=len(stored),
        values=dict(sorted(counts.items(), key=lambda item: -item[1])[:LISTED]),
        distinct=len(counts),
        nonfinite=nonfinite,
        broken=int((away > 0).sum()),
        farthest=float(away.max(initial=0)),
        flatness=1.0 if set(counts) <= known else flatness(stored[0]),
        content=_content(stored),
    )


def _is_smeared(label: LabelEvidence, labels: Labels) -> bool:
    """Whether a JPEG's values lie around those that are declared."""
    if labels.has_colours or label.channels > 1 or set(label.values) <= set(labels.stored):
        return False
    found, meant = ({int(v): n for v, n in label.values.items() if not isinstance(v, tuple)}, labels.stored)
    return mostly_near(found, [v for v in meant if isinstance(v, int)])


def _leftward(label_map: LabelMap) -> dict[str, float]:
    """Of each label that has a side and occurs in a volume; the world's first axis grows to the left."""
    sides = label_map.labels.sides if label_map.grid.dimensions == 3 else ()
    boxes = ndimage.find_objects(label_map.array) if sides else []
    found: dict[str, float] = {}
    for name in (name for pair in sides for name in pair):
        values = [v for v in label_map.labels.regions[name] if 0 < v <= len(boxes) and boxes[v - 1]]
        places = [np.argwhere(label_map.array[boxes[v - 1]] == v) + [s.start for s in boxes[v - 1]] for v in values]
        if places:
            found[name] = float(label_map.grid.to_world(np.concatenate(places).mean(axis=0))[0])
    return found


def _numbers(values: np.ndarray, *, whole: bool) -> dict[FileValue, int]:
    """Values and their voxels; of broken ones only a sample is counted, since no two may be alike."""
    if not whole:
        values = values.ravel()[:: max(1, values.size // SAMPLE)]
    elif values.dtype.kind == "f":
        values = values.astype(np.int64)
    return {value: count for value, count in count_values(values).items()}


def _colours(stored: np.ndarray) -> dict[FileValue, int]:
    """Colours (red, green, blue) and their pixels; nothing where channels are no colours."""
    if stored.dtype != np.uint8 or len(stored) not in (3, 4):
        return {}
    return count_colours(stored)


def _is_image(stored: np.ndarray, image: Image) -> bool:
    return stored.shape == (1, *image.grid.shape) and bool((stored[0] == image.array[0]).all())


def _edges(image: Image, label_map: LabelMap) -> tuple[float, float] | None:
    """How well the labels' border follows the image's edges: voxel on voxel, and through the world."""
    if image.grid.dimensions != label_map.grid.dimensions:
        return None
    same = label_map.array if label_map.grid.shape == image.grid.shape else np.zeros(image.grid.shape, np.uint8)
    through_world = onto(label_map.array, label_map.grid, image.grid)
    return edge_contrast(image.array[0], same), edge_contrast(image.array[0], through_world)


def edge_contrast(channel: ChannelArray, labels: LabelArray) -> float:
    """How much more neighbours differ across the border of the labels than elsewhere around them; 0 without labels.

    >>> square = np.zeros((9, 9), np.float32)
    >>> square[3:6, 3:6] = 1
    >>> edge_contrast(square, square > 0) > 100, edge_contrast(square, np.roll(square, 3, 0) > 0) < 10
    (True, True)
    """
    inside = labels > 0
    if not inside.any() or inside.all():
        return 0.0
    near = bounding_box(inside).grow(RIM).slices
    inside, values = inside[near], np.nan_to_num(channel[near])
    across, elsewhere = np.zeros(2), np.zeros(2)  # sum of differences, and how many
    for axis in range(values.ndim):
        steps = np.abs(np.diff(values, axis=axis)) / max(float(np.abs(np.diff(values, axis=axis)).mean() or 0), 1e-9)
        border = np.diff(inside, axis=axis)
        across += (float(steps[border].sum()), int(border.sum()))
        elsewhere += (float(steps[~border].sum()), int((~border).sum()))
    if not across[1] or not elsewhere[1]:
        return 0.0
    return float((across[0] / across[1]) / max(elsewhere[0] / elsewhere[1], 1e-9))
