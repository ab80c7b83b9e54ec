"""Dice plus cross-entropy, for labels and for overlapping regions, and its weighting over resolutions.

Source: Isensee et al. 2021, Methods, 'Training'; formulas as in nnU-Net 2.8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from autoseg.core.errors import TrainingError
from autoseg.data.labels import Labels
from autoseg.training.team import summed

SMOOTH = 1e-5
Loss = Callable[[Tensor, Tensor], Tensor]  # logits (batch, class, *space), label map (batch, *space) -> scalar


def soft_dice_loss(
    probabilities: Tensor, target: Tensor, mask: Tensor | None = None, *, batch_dice: bool = False
) -> Tensor:
    """The negative mean soft Dice: -1 is perfect, 0 is no overlap.

    Args:
        probabilities, target: shape (batch, class, *space); only classes that count.
        mask: shape (batch, 1, *space), 0 where voxels are not annotated.
        batch_dice: sum over the batch before dividing, so that a class absent from one patch does no harm.

    >>> perfect = torch.ones(1, 1, 4, 4)
    >>> round(soft_dice_loss(perfect, perfect).item(), 4)
    -1.0
    """
    if mask is not None:
        probabilities, target = probabilities * mask, target * mask
    axes = tuple(range(2, probabilities.ndim))
    overlap = (probabilities * target).sum(axes)
    predicted, present = probabilities.sum(axes), target.sum(axes)
    if batch_dice:
        overlap, predicted, present = summed(torch.stack((overlap, predicted, present)).sum(1))
    dice = (2 * overlap + SMOOTH) / (predicted + present + SMOOTH).clamp_min(1e-8)
    return -dice.mean()


@dataclass(frozen=True, slots=True, kw_only=True)
class DiceAndCrossEntropy:
    """For classes that exclude each other: softmax, Dice without background, plus cross-entropy."""

    values: tuple[int, ...]  # the label value of each output channel
    ignore: int | None = None
    batch_dice: bool = False

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of logits (batch, class, *space) against a label map (batch, *space)."""
        logits = logits.float()
        mask = None if self.ignore is None else (target != self.ignore).unsqueeze(1)
        channels = self._channels(target)
        onehot = F.one_hot(channels, len(self.values)).movedim(-1, 1)[:, 1:].float()
        dice = soft_dice_loss(logits.softmax(1)[:, 1:], onehot, mask, batch_dice=self.batch_dice)
        if mask is None:
            return F.cross_entropy(logits, channels) + dice
        if not mask.any():
            return dice
        every_voxel = F.cross_entropy(logits, channels, reduction="none")
        return every_voxel[mask[:, 0]].mean() + dice

    def _channels(self, target: Tensor) -> Tensor:
        """Label values to channel numbers; the ignore label becomes background, which the mask takes out."""
        if self.values == tuple(range(len(self.values))):
            channels = target
        else:
            channels = torch.zeros_like(target)
            for channel, value in enumerate(self.values):
                channels[target == value] = channel
        return channels if self.ignore is None else channels.masked_fill(target == self.ignore, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiceAndBinaryCrossEntropy:
    """For overlapping regions: a sigmoid each, Dice over all of them, plus binary cross-entropy."""

    regions: tuple[tuple[int, ...], ...]
    ignore: int | None = None
    batch_dice: bool = False

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of logits (batch, region, *space) against a label map (batch, *space)."""
        logits = logits.float()
        masks = [torch.isin(target, torch.tensor(region, device=target.device)) for region in self.regions]
        inside = torch.stack(masks, dim=1).float()
        mask = None if self.ignore is None else (target != self.ignore).unsqueeze(1)
        dice = soft_dice_loss(logits.sigmoid(), inside, mask, batch_dice=self.batch_dice)
        if mask is None:
            return F.binary_cross_entropy_with_logits(logits, inside) + dice
        every_voxel = F.binary_cross_entropy_with_logits(logits, inside, reduction="none")
        return (every_voxel * mask).sum() / mask.sum().clamp_min(1e-8) + dice


def default_loss(labels: Labels, *, batch_dice: bool) -> Loss:
    """nnU-Net's loss for these labels."""
    if labels.has_regions:
        return DiceAndBinaryCrossEntropy(
            regions=tuple(labels.regions.values()), ignore=labels.ignore, batch_dice=batch_dice
        )
    return DiceAndCrossEntropy(values=labels.values, ignore=labels.ignore, batch_dice=batch_dice)


def supervision_weights(outputs: int) -> tuple[float, ...]:
    """How much each resolution counts: halved from one to the next, the coarsest left out, summing to one.

    A network with a single output keeps it: nnU-Net would divide 0 by 0 there and train to NaN.

    >>> [round(w, 4) for w in supervision_weights(5)]
    [0.5333, 0.2667, 0.1333, 0.0667, 0.0]
    >>> supervision_weights(1)
    (1.0,)
    """
    if outputs == 1:
        return (1.0,)
    raw = [0.5**i for i in range(outputs - 1)]
    return (*(w / sum(raw) for w in raw), 0.0)


def deep_supervision_loss(loss: Loss, outputs: Sequence[Tensor], target: Tensor) -> Tensor:
    """The weighted loss of all resolutions, of logits in float32; label maps follow by nearest neighbour."""
    total = outputs[0].new_zeros((), dtype=torch.float32)
    for weight, logits in zip(supervision_weights(len(outputs)), outputs, strict=True):
        if weight > 0:
            total = total + weight * _one_number(loss(logits.float(), _shrunk(target, logits.shape[2:])))
    return total


def _one_number(loss: Any) -> Tensor:
    """What a loss, which may be the user's own, returned. Raises `TrainingError` where it cannot be differentiated."""
    if isinstance(loss, Tensor) and loss.ndim == 0 and loss.is_floating_point():
        return loss
    what = f"a tensor of shape {tuple(loss.shape)} and {loss.dtype}" if isinstance(loss, Tensor) else repr(loss)
    raise TrainingError(f"the loss returned {what:.80}; it must return a tensor with one number, such as its mean.")


def _shrunk(target: Tensor, shape: Sequence[int]) -> Tensor:
    if tuple(target.shape[1:]) == tuple(shape):
        return target
    return F.interpolate(target[:, None].float(), tuple(shape), mode="nearest-exact")[:, 0].to(target.dtype)
