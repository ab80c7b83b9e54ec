"""What feeds the network: the volumes of a fold in memory, and batches drawn, cut and augmented from them."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from autoseg.core.errors import TrainingError
from autoseg.core.numbers import is_whole
from autoseg.core.types import ImageArray, LabelArray, Shape
from autoseg.data.geometry import Box
from autoseg.preprocessing.store import PreprocessedDataset
from autoseg.training.blueprint import Blueprint
from autoseg.training.cascade import Codes, Corruption, checked_previous, onehot, with_previous
from autoseg.training.compute import Compute
from autoseg.training.example import Example, choose_place, example_of
from autoseg.training.patches import PatchLocation, PatchRequest, Volume, cut_patches, draw_patches
from autoseg.training.spatial import OUTSIDE, Batch, centre
from autoseg.training.team import Team

Fold = int | str
IN_MEMORY = 4e9  # bytes: a third of what a Colab session has


class Feed:
    """Batches of one fold. Volumes are read on first use.

    `previous` holds what the previous stage of a cascade predicted for each case, on the prepared grid.
    """

    def __init__(
        self,
        prepared: PreprocessedDataset,
        *,
        fold: Fold,
        blueprint: Blueprint,
        compute: Compute,
        previous: Mapping[str, LabelArray] | None = None,
    ) -> None:
        self.prepared, self.blueprint, self.compute, self.team = prepared, blueprint, compute, Team.current()
        self.configuration = blueprint.fitted(prepared.configuration)
        self.sampler = blueprint.sampler or draw_patches
        self.training_names, self.validation_names = _names(prepared, fold)
        self.previous: dict[str, LabelArray] | None = None
        self.cut_from: list[str] = []  # the cases of the last batch
        stage = self.configuration.previous_stage
        if stage is not None:
            shapes = {name: entry.shape for name, entry in prepared.entries.items()}
            self.previous = checked_previous(previous or {}, shapes, self.configuration.labels, stage)
        elif previous is not None:
            raise TrainingError(f"{self.configuration.name!r} has no previous stage; leave previous= out.")

    @property
    def content(self) -> dict[str, Any]:
        """What tells this fold from another of the same prepared data: its cases, and what the previous stage says."""
        previous = {name: zlib.crc32(np.ascontiguousarray(array).data) for name, array in (self.previous or {}).items()}
        return {"training": self.training_names, "validation": self.validation_names, "previous": previous}

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
            return Volume(shape, channels, locations, lambda box: self._read_stored(name, box))
        case = self.prepared[name]
        if case.label is None:
            raise TrainingError(f"case {name!r} has no label map, so it cannot be trained on.")
        if self.previous is None:
            return Volume.in_memory(case.array, case.label, case.class_locations)
        joined = Codes(self.configuration.labels).join(case.label, self.previous[name])
        return Volume.in_memory(case.array, joined, case.class_locations)

    def _read_stored(self, name: str, box: Box) -> tuple[ImageArray, LabelArray]:
        image, label = self.prepared.read(name, box)
        if self.previous is None:
            return image, label
        return image, Codes(self.configuration.labels).join(label, self.previous[name][box.slices])

    def whole(self, name: str) -> tuple[ImageArray, LabelArray]:
        """A whole case as the network reads it, (channel, z, y, x), and its label map."""
        image, label = self.prepared.read(name, Box((0, 0, 0), self.prepared.entries[name].shape))
        if self.previous is None:
            return image, label
        channels = onehot(torch.from_numpy(self.previous[name])[None], self.configuration.labels)[0].numpy()
        return np.concatenate((image, channels.astype(image.dtype))), label

    def draw(self, random: Generator) -> Batch:
        """A training batch, or this process's share of it, cut large enough to be rotated."""
        patch = self.configuration.patch_size
        cut = patch if self.blueprint.augmentation is None else self.configuration.augmentation.initial_patch_size
        places = self._places(self.training, cut, random)
        if not len(places):
            raise TrainingError("the sampler returned no places to cut patches at; it must return one for each patch.")
        if len(places) < self.team.size:
            raise TrainingError(
                f"a batch of {len(places)} patches cannot be shared by {self.team.size} processes. Use fewer, or a "
                f"larger batch: blueprint.changed(batch_size={self.team.size})."
            )
        return self._cut(self.training, self.team.share(places), cut)

    def draw_validation(self, random: Generator) -> Batch:
        """A validation batch of the network's own size, on the device."""
        patch = self.configuration.patch_size
        return self._to_device(self._cut(self.validation, self._places(self.validation, patch, random), patch))

    def prepare_training(self) -> None:
        """Read what is trained on, if that was not done yet."""
        _ = self.training

    def prepare_validation(self) -> None:
        """Read what validation reads, if that was not done yet."""
        _ = self.validation, self.example_place

    @cached_property
    def example_place(self) -> PatchLocation:
        """The validation patch that is shown again and again."""
        return choose_place(self.validation, self._request(self.configuration.patch_size))

    def example(self) -> tuple[Batch, Example]:
        """That patch as a batch of one, and as an example nothing has been predicted for."""
        request = self._request(self.configuration.patch_size)
        images, labels = self._to_device(cut_patches(self.validation, [self.example_place], request))
        return (images, labels), example_of(self.example_place.case, images[0], labels[0])

    def _places(self, volumes: Mapping[str, Volume], cut: Shape, random: Generator) -> list[PatchLocation]:
        places = self.sampler(volumes, self._request(cut), random)
        if not isinstance(places, list | tuple) or not all(isinstance(p, PatchLocation) for p in places):
            raise TrainingError(
                f"the sampler returned {places!r:.80}; it must return a list of places, one for each patch: "
                "autoseg.training.patches.PatchLocation(case, corner)."
            )
        return list(places)

    def _cut(self, volumes: Mapping[str, Volume], places: list[PatchLocation], cut: Shape) -> Batch:
        self.cut_from = [place.case for place in places]
        return cut_patches(volumes, places, self._request(cut))

    def _request(self, cut: Shape) -> PatchRequest:
        return PatchRequest(
            cut_size=cut,
            patch_size=self.configuration.patch_size,
            batch_size=self.batch_size,
            foreground_fraction=self.blueprint.foreground_fraction,
        )

    def augment(self, batch: Batch, random: Generator) -> Batch:
        """Augment down to the patch size, on the device where it can."""
        device = self.compute.augmenting_device
        images, labels = (t.to(device) for t in batch)
        patch, settings = self.configuration.patch_size, self.configuration.augmentation
        if self.blueprint.augmentation is None:
            plain = centre(images, patch), centre(labels, patch)
            return self._to_device(plain, random, corruption=Corruption())
        if not self.blueprint.mirroring:
            settings = settings.without_mirroring()
        augmented = self.blueprint.augmentation((images, labels), settings, patch, random)
        expected = ((*images.shape[:2], *patch), (len(labels), *patch))
        found = tuple(tuple(getattr(part, "shape", ())) for part in augmented or ())
        if found != expected or not all(isinstance(part, Tensor) for part in augmented):
            raise TrainingError(
                f"the augmentation returned {found}; it must return tensors of images and label maps, {expected}, cut "
                f"to the patch, {patch}, which it gets as an argument."
            )
        return self._to_device((augmented[0].float(), augmented[1]), random, corruption=Corruption())

    def _to_device(
        self, batch: Batch, random: Generator | None = None, *, corruption: Corruption | None = None
    ) -> Batch:
        """To the device; outside of the patient labels become 0, and intensities too where the plan masks them."""
        if self.previous is not None:
            batch = with_previous(batch, self.configuration.labels, corruption, random or Generator())
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
    if not is_whole(fold):
        raise TrainingError(f"the fold is {fold!r}; it must be a number such as 0, or 'all'.")
    split = prepared.fold(int(fold))
    return split.training, split.validation
