"""One validation patch that is predicted again and again, to see the network improve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from autoseg.core.shown import Shown
from autoseg.core.types import by
from autoseg.data.geometry import Box
from autoseg.training.patches import PatchLocation, PatchRequest, Volume


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Example(Shown):
    """The middle slice of a patch of a validation case, and what the network made of it after some of the epochs.

    `image` is the first channel (y, x) scaled to 0..1, `reference` and each of the `predictions` are label values
    (y, x), in regions mode as they are written over each other.
    """

    case: str
    image: Tensor
    reference: Tensor
    epochs: tuple[int, ...] = ()
    predictions: tuple[Tensor, ...] = ()

    def seen(self, epoch: int, prediction: Tensor) -> Example:
        """With one more prediction. Kept are those after 1, 2, 4, 8 ... epochs, and the latest."""
        kept = [(e, p) for e, p in zip(self.epochs, self.predictions, strict=True) if (e + 1).bit_count() == 1]
        epochs, predictions = zip(*kept, (epoch, prediction), strict=True)
        return replace(self, epochs=epochs, predictions=predictions)

    def tensors(self) -> dict[str, Tensor]:
        """To be kept in a file; `from_tensors` reads it back."""
        count = len(self.epochs)
        stack = torch.stack(self.predictions) if count else torch.zeros((0, *self.image.shape), dtype=torch.int16)
        return {
            "image": self.image,
            "reference": self.reference,
            "epochs": torch.tensor(self.epochs, dtype=torch.int64),
            "predictions": stack,
            "case": torch.tensor(list(self.case.encode()), dtype=torch.uint8),
        }

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor]) -> Example:
        """What `tensors` gave."""
        return Example(
            case=bytes(tensors["case"].tolist()).decode(),
            image=tensors["image"],
            reference=tensors["reference"],
            epochs=tuple(tensors["epochs"].tolist()),
            predictions=tuple(tensors["predictions"]),
        )

    def __repr__(self) -> str:
        epochs = ", ".join(map(str, self.epochs)) or "none"
        return f"Example({self.case!r}: {by(self.image.shape)} voxels after epochs {epochs})"


def choose_place(volumes: Mapping[str, Volume], request: PatchRequest) -> PatchLocation:
    """The patch of the first case whose middle slice shows most foreground."""
    name = next(iter(volumes))
    volume, (_, patch) = volumes[name], request.sizes
    foreground = volume.read(Box((0, 0, 0), volume.shape))[1] > 0
    z = int(np.argmax(foreground.sum(axis=(1, 2))))
    found = np.argwhere(foreground[z])
    y, x = found.mean(axis=0).round().astype(int).tolist() if len(found) else (s // 2 for s in volume.shape[1:])
    return PatchLocation(name, tuple(c - p // 2 for c, p in zip((z, y, x), patch, strict=True)))


def middle_slice(array: Tensor) -> Tensor:
    """(y, x) of (y, x) or (z, y, x)."""
    return array if array.ndim == 2 else array[array.shape[0] // 2]


def example_of(case: str, image: Tensor, label: Tensor) -> Example:
    """From a patch: image (channel, *space) and label map (*space)."""
    flat = middle_slice(image[0].float().cpu())
    low, high = torch.quantile(flat.flatten()[:: max(1, flat.numel() // 100_000)], torch.tensor([0.01, 0.99]))
    scaled = ((flat - low) / (high - low).clamp_min(1e-6)).clamp(0, 1)
    return Example(case=case, image=scaled.clone(), reference=middle_slice(label.cpu()).to(torch.int16).clone())
