"""The same training with several seeds: how much of a result is chance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from autoseg.core.errors import TrainingError
from autoseg.core.kinds import require
from autoseg.core.numbers import is_whole
from autoseg.core.shown import Shown
from autoseg.core.types import PathLike
from autoseg.preprocessing.store import PreprocessedDataset
from autoseg.training.blueprint import Blueprint, given_or_quick
from autoseg.training.feed import Fold
from autoseg.training.history import EpochRecord
from autoseg.training.loop import Training
from autoseg.training.running import finish

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, eq=False)
class Repeats(Shown):
    """Trainings that differ in their seed alone; iterate over them, or index them."""

    trainings: tuple[Training, ...]

    def __len__(self) -> int:
        return len(self.trainings)

    def __iter__(self) -> Iterator[Training]:
        return iter(self.trainings)

    def __getitem__(self, index: int) -> Training:
        return self.trainings[index]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed of each."""
        return tuple(training.blueprint.seed for training in self.trainings)

    @property
    def last(self) -> tuple[EpochRecord, ...]:
        """The last epoch of each."""
        return tuple(training.epochs[-1] for training in self.trainings)

    @property
    def values(self) -> tuple[float, ...]:
        """The last mean pseudo Dice of each."""
        return tuple(record.mean_pseudo_dice for record in self.last)

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return float(np.mean(self.values))

    @property
    def spread(self) -> float:
        """Standard deviation over seeds."""
        return float(np.std(self.values, ddof=1)) if len(self) > 1 else float("nan")

    def table(self) -> pd.DataFrame:
        """One row a seed."""
        import pandas as pd

        return pd.DataFrame([{"seed": s, **r.numbers} for s, r in zip(self.seeds, self.last, strict=True)])

    def __repr__(self) -> str:
        each = ", ".join(f"{value:.3f}" for value in self.values)
        return f"Repeats({len(self)} seeds: pseudo Dice {self.mean:.3f} ± {self.spread:.3f})\n  {each}"


def repeat(
    prepared: PreprocessedDataset,
    n: int = 3,
    *,
    fold: Fold = 0,
    blueprint: Blueprint | None = None,
    folder: PathLike | None = None,
    show_progress: bool = True,
) -> Repeats:
    """Train `n` times with the seeds that follow each other, to see the spread.

    With a `folder`, each keeps its run in ``folder/seed_<k>``, and the same call goes on after Ctrl-C, which stops them
    all. Raises `TrainingError` for less than two.

    >>> autoseg.repeat(prepared, 2, blueprint=training.blueprint, folder="seeds", show_progress=False)
    Repeats(2 seeds: pseudo Dice ... ± ...)
    ...
    """
    require(prepared, PreprocessedDataset, TrainingError)
    if not is_whole(n):
        raise TrainingError(f"n is {n!r}; it is how many seeds to train with, such as 3.")
    if n < 2:
        raise TrainingError(f"{n} training shows no spread; give at least 2.")
    first = given_or_quick(blueprint)
    root = folder if folder is not None else prepared.folder
    trainings = []
    for seed in range(first.seed, first.seed + n):
        place = None if root is None else Path(root) / f"seed_{seed}"
        training = Training(prepared, fold=fold, blueprint=first.changed(seed=seed), folder=place)
        trainings.append(finish(training, show_progress=show_progress))
        if not training.finished and not training.stopped:  # interrupted: half-trained ones show no spread
            raise KeyboardInterrupt
    return Repeats(tuple(trainings))
