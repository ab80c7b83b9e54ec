"""What feeds the network: the volumes of a fold in memory, and batches drawn, cut and augmented from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property

from torch import Generator

from autoseg.core.errors import TrainingError
from autoseg.core.types import Shape
from autoseg.preprocessing.store import PreprocessedDataset
from autoseg.training.augmentation import OUTSIDE, Batch, centre
from autoseg.training.blueprint import Blueprint
from autoseg.training.compute import Compute
from autoseg.training.patches import PatchRequest, Volume, cut_patches, draw_patches

Fold = int | str
IN_MEMORY = 4e9  # bytes: a third of what a Colab session has


class Feed:
    """Batches of one fold. Volumes are read on first use."""

    def __init__(self, prepared: PreprocessedDataset, *, fold: Fold, blueprint: Blueprint, compute: Compute) -> None:
        self.prepared, self.blueprint, self.compute = prepared, blueprint, compute
        self.configuration = prepared.configuration
        self.sampler = blueprint.sampler or draw_patches
        self.training_names, self.validation_names = _names(prepared, fold)

    @cached_property
    def training(self) -> dict[str, Volume]:
        """The volumes that are trained on."""
        return self._read(self.training_names)

    @cached_property
    def validation(self) -> dict[str, Volume]:
        """The volumes that are validated on."""
        return self._read(self.validation_names)

    @cached_property
    def fits_in_memory(self) -> bool:
        """Whether volumes are held in memory, or their chunks read from disk patch by patch."""
        return self.prepared.folder is None or self.prepared.nbytes <= IN_MEMORY

    @property
    def batch_size(self) -> int:
        """The plan's, or what the blueprint makes of it."""
        return self.blueprint.batch_size_for(self.configuration)

    def _read(self, names: Iterable[str]) -> dict[str, Volume]:
        return {name: self._volume(name) for name in names}

    def _volume(self, name: str) -> Volume:
        if not self.fits_in_memory:
            shape, channels = self.prepared.geometry(name).shape, len(self.configuration.channels)
            locations = self.prepared.class_locations(name)
            return Volume(shape, channels, locations, lambda box: self.prepared.read(name, box))
        case = self.prepared[name]
        if case.label is None:
            raise TrainingError(f"case {name!r} has no label map, so it cannot be trained on.")
        return Volume.in_memory(case.array, case.label, case.class_locations)

    def draw(self, random: Generator) -> Batch:
        """A training batch, cut large enough to be rotated."""
        patch = self.configuration.patch_size
        cut = patch if self.blueprint.augmentation is None else self.configuration.augmentation.initial_patch_size
        return self._draw(self.training, cut, random)

    def draw_validation(self, random: Generator) -> Batch:
        """A validation batch of the network's own size, on the device."""
        return self._to_device(self._draw(self.validation, self.configuration.patch_size, random))

    def _draw(self, volumes: Mapping[str, Volume], cut: Shape, random: Generator) -> Batch:
        request = PatchRequest(
            cut_size=cut,
            patch_size=self.configuration.patch_size,
            batch_size=self.batch_size,
            foreground_fraction=self.blueprint.foreground_fraction,
        )
        return cut_patches(volumes, self.sampler(volumes, request, random), request)

    def augment(self, batch: Batch, random: Generator) -> Batch:
        """Augment on the device, down to the patch size."""
        images, labels = (t.to(self.compute.device) for t in batch)
        patch, settings = self.configuration.patch_size, self.configuration.augmentation
        if self.blueprint.augmentation is None:
            return self._to_device((centre(images, patch), centre(labels, patch)))
        if not self.blueprint.mirroring:
            settings = settings.without_mirroring()
        return self._to_device(self.blueprint.augmentation((images, labels), settings, patch, random))

    def _to_device(self, batch: Batch) -> Batch:
        """To the device; outside of the patient labels become 0, and intensities too where the plan masks them."""
        images, labels = (t.to(self.compute.device) for t in batch)
        masked = [c for c, mask in enumerate(self.configuration.mask_background) if mask]
        if masked:
            images[:, masked] = images[:, masked] * (labels != OUTSIDE)[:, None]
        memory_format = self.compute.memory_format(self.configuration.dimensions)
        return images.contiguous(memory_format=memory_format), labels.masked_fill(labels == OUTSIDE, 0).long()


def _names(prepared: PreprocessedDataset, fold: Fold) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Training and validation cases; the fold ``"all"`` uses every case for both, as nnU-Net does."""
    if fold == "all":
        return tuple(prepared), tuple(prepared)
    if not isinstance(fold, int):
        raise TrainingError(f"the fold is {fold!r}; it must be a number such as 0, or 'all'.")
    split = prepared.fold(fold)
    return split.training, split.validation
