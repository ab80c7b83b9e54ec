"""What happened during training, epoch by epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from autoseg.core.shown import Shown
from autoseg.evaluation.metrics import known_mean

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """One epoch. `seconds` counts from the start of training, pauses between runs left out.

    `pseudo_dice` has one value a label or region: the Dice over validation patches as if they were one image; NaN
    where no patch held that label. `case_dice` is the mean Dice of whole validation cases, predicted by sliding window,
    in the epochs in which it was measured; `holding` the share of training patches that held each label.
    """

    number: int
    iterations: int
    seconds: float
    training_loss: float
    validation_loss: float
    pseudo_dice: tuple[float, ...]
    learning_rate: float
    timings: dict[str, float]  # seconds of this epoch by part: reading, patches, augmentation, forward ...
    patches: int = 0
    case_dice: tuple[float, ...] = ()
    holding: tuple[float, ...] = ()

    @property
    def step_seconds(self) -> float:
        """What a training step took; reading the cases and validation are left out."""
        apart = ("reading", "validation", "whole cases")
        steps = sum(s for name, s in self.timings.items() if name not in apart)
        return steps / max(self.iterations, 1)

    @property
    def numbers(self) -> dict[str, float]:
        """What a logger takes: every number that is known, by name."""
        names = ("seconds", "training_loss", "validation_loss", "learning_rate", "mean_pseudo_dice", "mean_case_dice")
        values = {name: float(getattr(self, name)) for name in names}
        return {name: value for name, value in values.items() if not np.isnan(value)}

    @property
    def mean_pseudo_dice(self) -> float:
        """Mean over the labels that were seen; NaN where none was."""
        return known_mean(self.pseudo_dice)

    @property
    def mean_case_dice(self) -> float:
        """Mean Dice of whole cases over labels; NaN in epochs in which it was not measured."""
        return known_mean(self.case_dice)

    def __repr__(self) -> str:
        return (
            f"epoch {self.number}: loss {self.training_loss:.3f}, validation {self.validation_loss:.3f}, "
            f"pseudo Dice {self.mean_pseudo_dice:.3f}, {self.seconds:.0f} s"
        )


@dataclass(frozen=True, slots=True)
class History(Shown):
    """All epochs so far, and the names of what the pseudo Dice is given for."""

    epochs: tuple[EpochRecord, ...]
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.epochs)

    @property
    def best(self) -> EpochRecord | None:
        """The epoch with the highest mean pseudo Dice."""
        seen = [e for e in self.epochs if not np.isnan(e.mean_pseudo_dice)]
        return max(seen, key=lambda e: e.mean_pseudo_dice) if seen else None

    @property
    def validated(self) -> tuple[EpochRecord, ...]:
        """The epochs after which whole cases were predicted."""
        return tuple(e for e in self.epochs if e.case_dice)

    def table(self) -> pd.DataFrame:
        """One row an epoch."""
        import pandas as pd

        rows = [
            {
                "epoch": e.number,
                "seconds": e.seconds,
                "training_loss": e.training_loss,
                "validation_loss": e.validation_loss,
                "learning_rate": e.learning_rate,
                **{f"pseudo_dice {name}": d for name, d in zip(self.labels, e.pseudo_dice, strict=True)},
                "case_dice": e.mean_case_dice,
            }
            for e in self.epochs
        ]
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        if not self.epochs:
            return "History(no epoch yet)"
        last = self.epochs[-1]
        return f"History({len(self)} epoch{'s' * (len(self) != 1)}, {last.seconds:.0f} s)\n  {last!r}"
