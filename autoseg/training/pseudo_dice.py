"""The pseudo Dice: the Dice over many validation patches as if they were one image."""

from __future__ import annotations

import torch
from torch import Tensor

from autoseg.data.labels import Labels


class PseudoDice:
    """Adds up overlaps over patches. Source: nnU-Net 2.8's online validation."""

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.overlap = torch.zeros(len(labels.regions))
        self.total = torch.zeros(len(labels.regions))  # predicted plus present

    def add(self, logits: Tensor, target: Tensor) -> None:
        """Count one batch: logits (batch, output, *space) against a label map (batch, *space)."""
        annotated = torch.ones_like(target, dtype=torch.bool)
        if self.labels.ignore is not None:
            annotated = target != self.labels.ignore
        winner = None if self.labels.has_regions else logits.argmax(1)
        for i, values in enumerate(self.labels.regions.values()):
            above_half = logits[:, i] > 0
            predicted = above_half if winner is None else winner == self.labels.values.index(values[0])
            present = torch.isin(target, torch.tensor(values, device=target.device))
            self.overlap[i] += (predicted & present & annotated).sum().cpu()
            self.total[i] += ((predicted & annotated).sum() + (present & annotated).sum()).cpu()

    def result(self) -> tuple[float, ...]:
        """One value a label or region; NaN where no patch held or predicted it."""
        return tuple(float(2 * o / t) if t > 0 else float("nan") for o, t in zip(self.overlap, self.total, strict=True))
