"""How far a training is and when it ends, in epochs or in minutes, whichever its blueprint counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoseg.training.blueprint import Blueprint
from autoseg.training.history import EpochRecord
from autoseg.training.schedule import learning_rate_factor

ENDING = 1.0  # seconds of a budget, or 2% of it, to save the model and draw the last curves
VALIDATION_PAYS = 16  # times its own length of training between two validations
EPOCHS_IN_A_BUDGET = 15  # with a budget of minutes no epoch is longer than this share, so that the curve has points


@dataclass(frozen=True, slots=True)
class Pace:
    """A moment of a training: its finished epochs, the steps of the one under way, and the seconds it computed."""

    blueprint: Blueprint
    epochs: Sequence[EpochRecord]
    steps: int
    seconds: float

    @property
    def budget(self) -> float:
        """Seconds that the blueprint gives."""
        return 60.0 * (self.blueprint.minutes or 0.0)

    @property
    def progress(self) -> float:
        """From 0 to 1."""
        if self.finished:
            return 1.0
        if self.blueprint.epochs is not None:
            return len(self.epochs) / self.blueprint.epochs
        return min(self.seconds / self.budget, 1.0)

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train. However short the time, there is one epoch, of one step at least."""
        if self.blueprint.epochs is not None:
            return len(self.epochs) >= self.blueprint.epochs
        return bool(self.epochs) and self._time_is_up

    @property
    def seconds_left(self) -> float | None:
        """Computing time until the end, or None while nothing tells how long an epoch takes."""
        if self.finished:
            return 0.0
        if self.blueprint.epochs is None:
            return max(self.budget - self.seconds, 0.0)
        done = len(self.epochs) + self.steps / self.blueprint.iterations_per_epoch
        return self.seconds / done * (self.blueprint.epochs - done) if done else None

    @property
    def learning_rate(self) -> float:
        """That of the next step."""
        return self.blueprint.learning_rate * learning_rate_factor(self.blueprint.schedule, self.progress)

    def epoch_is_over(self, begun: float) -> bool:
        """Whether an epoch that began after so many seconds ends before all of its iterations."""
        if self.blueprint.epochs is not None:
            return False
        paying = VALIDATION_PAYS * min((e.timings["validation"] for e in self.epochs), default=0.0)
        enough = min(max(self.budget / EPOCHS_IN_A_BUDGET, paying), self.budget / 4)
        return self.seconds - begun >= enough or self._time_is_up

    @property
    def _time_is_up(self) -> bool:
        """Whether another step and its validation would not fit into the budget."""
        last = self.epochs[-1] if self.epochs else None
        reserve = last.timings["validation"] + last.step_seconds if last else 0.0
        return self.seconds + reserve + min(ENDING, 0.02 * self.budget) >= self.budget
