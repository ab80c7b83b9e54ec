"""One case to the plan's grid, in nnU-Net's order: transpose, crop, normalize, resample. And predictions back."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy import special

from autoseg.core.errors import PreprocessingError
from autoseg.core.shown import Shown
from autoseg.core.types import Axes, ImageArray, LabelArray, Mask, Shape, Spacing, by
from autoseg.data.case_facts import nonzero_mask
from autoseg.data.geometry import Box, Grid, bounding_box
from autoseg.data.images import Image, LabelMap
from autoseg.data.labels import Labels
from autoseg.data.normalization import name_of
from autoseg.planning.configuration import Configuration, Resampling
from autoseg.preprocessing.label_resampling import resample_labels
from autoseg.preprocessing.resampling import (
    DEFAULT,
    argmax_resampled,
    new_shape,
    resample_image,
    resampled_slabs,
)

OUTSIDE = -1  # the label of background voxels that were zero in every channel, outside the patient
LOCATIONS = 10_000  # voxels kept for each class, or one percent of them where that is more
SEED = 1234  # nnU-Net's, so that foreground oversampling sees the same voxels
ANNOTATED = "annotated"  # the key of voxels that are not the ignore label


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseGeometry:
    """What was done to a case's grid: enough to bring a prediction back, or a voxel to any stage.

    `original` is the scan's own grid, with two or three axes. All else has three, in the plan's order:
    first the axes are put into `axis_order`, then `box` is cut out, then it is resampled to `shape`. The spacings are
    those that resampling reasons with; the true spacing of the result is rounded to whole voxels: ``grids``.
    """

    original: Grid
    axis_order: Axes
    box: Box
    shape: Shape
    spacing_before: Spacing
    spacing_after: Spacing

    @property
    def shape_before_resampling(self) -> Shape:
        """Voxels of the cropped case."""
        return self.box.shape

    @property
    def full_shape(self) -> Shape:
        """Voxels of the transposed case, before the crop."""
        return self.transposed.shape

    @property
    def transposed(self) -> Grid:
        """The scan's grid with three axes in the plan's order."""
        return self.original.as_3d().transpose(self.axis_order)

    @property
    def cropped(self) -> Grid:
        """The grid after the crop."""
        return self.transposed.crop(self.box)

    @property
    def resampled(self) -> Grid:
        """The grid of the preprocessed arrays."""
        return self.cropped.resample(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PreprocessedCase(Shown):
    """A case as training and the sliding window read it.

    `array` is float32 (channel, z, y, x); `label` int16 (z, y, x), -1 outside the patient; `class_locations` holds
    voxels (n, 3) of each label or region, from which foreground oversampling draws.
    """

    name: str
    array: ImageArray
    label: LabelArray | None
    geometry: CaseGeometry
    channels: tuple[str, ...]
    labels: Labels
    class_locations: dict[str, np.ndarray] = field(default_factory=dict)

    def __repr__(self) -> str:
        size = f"{by(self.geometry.shape)} voxels of {by(self.geometry.resampled.spacing, 3)} mm"
        return (
            f"PreprocessedCase({self.name!r}: {size}, {', '.join(self.channels)})\n"
            f"  from {by(self.geometry.original.shape)}, cropped to {by(self.geometry.shape_before_resampling)}"
        )


def preprocess_case(
    name: str, image: Image, label_map: LabelMap | None, configuration: Configuration
) -> PreprocessedCase:
    """Bring one case to the configuration's grid, exactly as nnU-Net does.

    Raises `PreprocessingError` naming the case where channels do not fit the plan, or a normalization goes wrong.
    Source: Isensee et al. 2021, Methods, 'Preprocessing'; nnU-Net 2.8 ``DefaultPreprocessor.run_case_npy``.
    """
    image = in_the_plans_order(name, image, configuration)
    cropped = crop_case(image, label_map, configuration)
    geometry, settings = cropped.geometry, configuration.resampling
    array, label = resampled(normalized(name, cropped, configuration), cropped.label, geometry, settings)
    return PreprocessedCase(
        name=name,
        array=array,
        label=label,
        geometry=geometry,
        channels=image.channels,
        labels=configuration.labels,
        class_locations={} if label is None else class_locations(label, configuration.labels),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CroppedCase:
    """A case with its axes in the plan's order, cut to where some channel is not zero; `inside` is the patient."""

    array: ImageArray
    label: LabelArray | None
    inside: Mask
    geometry: CaseGeometry


def crop_case(image: Image, label_map: LabelMap | None, configuration: Configuration) -> CroppedCase:
    """The first two steps: transpose, crop. The label of background outside the patient becomes -1."""
    axes, grid = configuration.axis_order, image.grid.as_3d()
    array = image.array.reshape(-1, *grid.shape).transpose(0, *(a + 1 for a in axes))
    box = bounding_box((array != 0).any(axis=0))
    array = array[(slice(None), *box.slices)]
    inside = nonzero_mask(array)  # filling holes after the crop gives the same mask in less time
    label = None
    if label_map is not None:
        label = label_map.array.reshape(grid.shape).transpose(axes)[box.slices].astype(np.int16)
        label[(label == 0) & ~inside] = OUTSIDE
        inside = label != OUTSIDE
    return CroppedCase(array=array, label=label, inside=inside, geometry=_geometry(image.grid, box, configuration))


def in_the_plans_order(name: str, image: Image, configuration: Configuration) -> Image:
    """The image with its channels where the plan has those of the same names; other names count by their order.

    Raises `PreprocessingError` where there are not as many.
    """
    if len(image.channels) != len(configuration.normalization):
        raise PreprocessingError(
            f"case {name!r} has {len(image.channels)} channel(s) ({', '.join(image.channels)}), but the plan was made "
            f"for {len(configuration.normalization)}: {', '.join(configuration.channels)}."
        )
    there, wanted = image.channels, configuration.channels
    if there == wanted or sorted(there) != sorted(wanted) or len(set(wanted)) < len(wanted):
        return image
    return replace(image, array=image.array[[there.index(channel) for channel in wanted]], channels=wanted)


def _geometry(original: Grid, box: Box, configuration: Configuration) -> CaseGeometry:
    before = original.as_3d().transpose(configuration.axis_order).spacing
    after = target_spacing(before, configuration)
    return CaseGeometry(
        original=original,
        axis_order=configuration.axis_order,
        box=box,
        shape=new_shape(box.shape, before, after),
        spacing_before=before,
        spacing_after=after,
    )


def target_spacing(before: Spacing, configuration: Configuration) -> Spacing:
    """The configuration's spacing with three axes: 2d keeps the distance of a case's own slices."""
    return (*before[: 3 - len(configuration.spacing)], *configuration.spacing)


def normalized(name: str, case: CroppedCase, configuration: Configuration) -> ImageArray:
    """The third step: each channel by its own normalization. Raises `PreprocessingError` where one goes wrong."""
    result = np.empty(case.array.shape, np.float32)
    settings = zip(configuration.channels, configuration.normalization, configuration.mask_background, strict=True)
    for number, (channel, normalization, masked) in enumerate(settings):
        values = np.ascontiguousarray(case.array[number])
        try:
            found = np.asarray(normalization(values, case.inside if masked else None))
        except Exception as error:
            raise PreprocessingError(
                f"case {name!r}, channel {channel!r}: the normalization {name_of(normalization)} failed: {error}"
            ) from error
        if problem := _problem(found, values.shape):
            raise PreprocessingError(
                f"case {name!r}, channel {channel!r}: the normalization {name_of(normalization)} gives {problem}"
            )
        result[number] = found
    return result


def _problem(normalized: np.ndarray, shape: Shape) -> str:
    """What keeps a normalized channel from being used; empty if nothing does."""
    if normalized.shape != shape:
        return f"{by(normalized.shape) or 'a single number'} values for {by(shape)} voxels. It must return its channel."
    wrong = int(normalized.size - np.isfinite(normalized).sum())
    return f"{wrong} voxels that are NaN or infinite. Does it divide by zero?" if wrong else ""


def resampled(
    array: ImageArray, label: LabelArray | None, geometry: CaseGeometry, settings: Resampling
) -> tuple[ImageArray, LabelArray | None]:
    """The last step: image and label map on the plan's grid."""
    spacings = {"spacing_from": geometry.spacing_before, "spacing_to": geometry.spacing_after}
    image = resample_image(array, geometry.shape, **spacings, settings=settings)
    if label is None:
        return image, None
    return image, np.ascontiguousarray(resample_labels(label, geometry.shape, **spacings, settings=settings))


def class_locations(label: LabelArray, labels: Labels) -> dict[str, np.ndarray]:
    """Voxels (n, 3), int32, of each label or region, drawn as nnU-Net draws them; empty where there are none.

    With an ignore label, ``"annotated"`` holds voxels that somebody looked at.

    >>> found = class_locations(np.array([[[0, 1], [1, 0]]]), Labels({"background": 0, "cell": 1}))
    >>> sorted(found["cell"].tolist())
    [[0, 0, 1], [0, 1, 0]]
    """
    wanted = labels.regions if labels.has_regions else {labels.name_of(v): (v,) for v in labels.foreground}
    if labels.ignore is not None:
        wanted = {**wanted, ANNOTATED: (OUTSIDE, *labels.values)}
    flat = np.flatnonzero(np.isin(label, sorted({v for values in wanted.values() for v in values})))
    found = label.reshape(-1)[flat]
    flat = flat[np.argsort(found, kind="stable")]
    starts = {v: np.searchsorted(np.sort(found, kind="stable"), (v, v + 1)) for v in np.unique(found).tolist()}
    random = np.random.RandomState(SEED)
    result = {}
    for key, values in wanted.items():
        ranges = [flat[slice(*starts[v])] for v in values if v in starts]
        chosen = _draw(np.concatenate(ranges), random) if ranges else flat[:0]
        result[key] = np.stack(np.unravel_index(chosen, label.shape), axis=-1).astype(np.int32)
    return result


def _draw(candidates: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    total = len(candidates)
    wanted = max(min(LOCATIONS, total), int(np.ceil(0.01 * total)))
    return np.asarray(candidates[random.choice(total, wanted, replace=False)])


def restore_label_map(
    array: LabelArray, geometry: CaseGeometry, labels: Labels, *, settings: Resampling = DEFAULT
) -> LabelMap:
    """A label map (z, y, x) on the plan's grid, brought back to the scan's own grid and dimension."""
    _check_shape(array.shape, geometry)
    array = resample_labels(array, geometry.shape_before_resampling, **_backwards(geometry), settings=settings)
    return _pasted(np.maximum(array, 0), geometry, labels)


def restore_logits(logits: Any, geometry: CaseGeometry, labels: Labels, *, settings: Resampling = DEFAULT) -> LabelMap:
    """Logits (output, z, y, x) on the plan's grid, as the label map that nnU-Net would export, on the scan's own grid.

    Takes a numpy array or a torch tensor on any device. Classes compete class by class, so memory stays small.
    """
    _check_shape(logits.shape[1:], geometry)
    shape, spacings = geometry.shape_before_resampling, _backwards(geometry)
    if not labels.has_regions:
        winner = _to_numpy(argmax_resampled(logits, shape, **spacings, settings=settings))
        return _pasted(np.asarray(labels.values, _label_type(labels))[winner], geometry, labels)
    array = np.zeros(shape, _label_type(labels))
    for rows, regions in resampled_slabs(logits, shape, **spacings, settings=settings):
        for value, region in zip(labels.region_order, regions, strict=True):
            array[rows][_to_numpy(region > 0)] = value  # a probability above one half
    return _pasted(array, geometry, labels)


def restore_probabilities(
    logits: Any, geometry: CaseGeometry, labels: Labels, *, settings: Resampling = DEFAULT
) -> ImageArray:
    """Logits (output, z, y, x) on the plan's grid as probabilities (output, *space), float32, on the scan's own grid.

    Logits are resampled first, as nnU-Net does. Outside the crop everything is background; no region is there.
    """
    _check_shape(logits.shape[1:], geometry)
    result = np.zeros((len(logits), *geometry.full_shape), np.float32)
    if not labels.has_regions:
        result[0] = 1
    inside = result[(slice(None), *geometry.box.slices)]
    shape, spacings = geometry.shape_before_resampling, _backwards(geometry)
    for rows, outputs in resampled_slabs(logits, shape, **spacings, settings=settings):
        values = np.stack([_to_numpy(output) for output in outputs]).astype(np.float32)
        inside[:, rows] = special.expit(values) if labels.has_regions else special.softmax(values, axis=0)
    backwards = np.argsort(geometry.axis_order)
    return result.transpose(0, *(backwards + 1)).reshape(-1, *geometry.original.shape)


def label_map_of(probabilities: ImageArray, grid: Grid, labels: Labels) -> LabelMap:
    """The label map of probabilities (output, *space): the most probable class, or regions above one half in order."""
    if not labels.has_regions:
        array = np.asarray(labels.values)[probabilities.argmax(axis=0)]
    else:
        array = np.zeros(grid.shape, np.int32)
        for value, region in zip(labels.region_order, probabilities, strict=True):
            array[region > 0.5] = value
    return LabelMap(array.astype(_label_type(labels)), grid, labels)


def _backwards(geometry: CaseGeometry) -> dict[str, Spacing]:
    return {"spacing_from": geometry.spacing_after, "spacing_to": geometry.spacing_before}


def _pasted(array: LabelArray, geometry: CaseGeometry, labels: Labels) -> LabelMap:
    """The label map of a crop, put back into the scan."""
    full = np.zeros(geometry.full_shape, _label_type(labels))
    full[geometry.box.slices] = array
    restored = full.transpose(np.argsort(geometry.axis_order)).reshape(geometry.original.shape)
    return LabelMap(restored, geometry.original, labels)


def _label_type(labels: Labels) -> type[np.unsignedinteger[Any]]:
    return np.uint8 if max(labels.permitted) < 255 else np.uint16


def _to_numpy(array: Any) -> np.ndarray:
    return array if isinstance(array, np.ndarray) else array.cpu().numpy()


def _check_shape(shape: Shape, geometry: CaseGeometry) -> None:
    if tuple(shape) != geometry.shape:
        raise PreprocessingError(
            f"a prediction of {by(shape)} voxels does not fit this case, which has {by(geometry.shape)} "
            "on the plan's grid."
        )
