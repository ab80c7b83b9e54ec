"""The training loop: an object to iterate over, epoch by epoch, that can be stopped and gone on with at any time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autoseg.core.errors import StorageError, TrainingError, warn
from autoseg.core.kinds import require
from autoseg.core.shown import Shown, ask_display
from autoseg.core.types import LabelArray, PathLike
from autoseg.preprocessing.store import PreprocessedDataset
from autoseg.training.blueprint import Blueprint, given_or_quick
from autoseg.training.checkpoints import Checkpoint, Progress, damaged
from autoseg.training.compute import choose_compute
from autoseg.training.example import Example
from autoseg.training.feed import Feed, Fold
from autoseg.training.fitting import memory_explained
from autoseg.training.heap import kept_memory
from autoseg.training.history import EpochRecord, History
from autoseg.training.interrupts import undisturbed
from autoseg.training.learner import Diverged, Learner, Stopwatch
from autoseg.training.live import show_once
from autoseg.training.model import ModelCard, TrainedModel, as_cpu
from autoseg.training.pace import Pace
from autoseg.training.sampled import Sampled, count_labels
from autoseg.training.shelf import Shelf
from autoseg.training.team import Team
from autoseg.training.transfer import Transfer
from autoseg.training.validation import CaseValidator, predicted_values, validate_patches


class Training(Shown):
    """One model in training. ``for epoch in training:`` trains and yields an `EpochRecord` each time.

    Leaving the loop early, or interrupting it, keeps all that was learned: `.model` can predict at any time, and a new
    loop goes on. With a folder the state is also saved there every two minutes (`checkpoint_seconds`), and the next
    `train` of the same run continues from it. `start_from` begins with another model's weights where they fit;
    `.transfer` tells which did. `previous` is what the previous stage of a cascade predicted for each case.

    >>> training = autoseg.Training(prepared, fold=1, blueprint=training.blueprint)
    >>> [epoch.number for epoch in training]
    [0, 1]
    >>> training.model
    TrainedModel('2d' for 'Seahorse', fold 1)
    ...
    """

    def __init__(
        self,
        prepared: PreprocessedDataset,
        *,
        fold: Fold = 0,
        blueprint: Blueprint | None = None,
        device: str | torch.device | None = None,
        folder: PathLike | None = None,
        start_from: TrainedModel | Transfer | None = None,
        previous: Mapping[str, LabelArray] | None = None,
    ) -> None:
        started, self.checkpoint_seconds = time.perf_counter(), 120.0
        require(prepared, PreprocessedDataset, TrainingError)
        self.prepared = prepared
        self.blueprint = given_or_quick(blueprint)
        self.configuration = self.blueprint.fitted(prepared.configuration)
        self.compute = choose_compute(device, self.blueprint.precision)
        self.feed = Feed(prepared, fold=fold, blueprint=self.blueprint, compute=self.compute, previous=previous)
        self.fold = fold if isinstance(fold, str) else int(fold)
        self.random = torch.Generator().manual_seed(int(self.blueprint.seed))
        self.learner = Learner(self.configuration, self.blueprint, self.compute)
        if not isinstance(start_from, TrainedModel | Transfer | None):
            raise TrainingError(
                f"start_from is of type {type(start_from).__name__}; it must be a model: training.model, or "
                "autoseg.TrainedModel.load(path)."
            )
        self.transfer = self.learner.start_from(start_from) if isinstance(start_from, TrainedModel) else start_from
        self.epochs: list[EpochRecord] = []
        self.losses: list[float] = []  # of the epoch under way
        self.iterations, self.seconds = 0, 0.0
        self.sampled = self._sampled_before = Sampled.nothing(self.configuration.labels.regions)
        self.example: Example | None = None
        self.stopped: str | None = None  # why training ended before its time
        self.listeners: list[Callable[[], None]] = []  # called after every step and epoch
        self.shown_in: tuple[int, int] | None = None  # the cell whose live display shows this, after so many epochs
        self.whole_cases = CaseValidator(self.feed)
        self._saved_at = time.monotonic()
        self._good: Checkpoint | None = None
        self.team = Team.current()
        self.shelf = Shelf.of(self, folder)
        if self.shelf is not None:
            with self.team.leader_first():
                self._go_on_from(self.shelf, began=not isinstance(start_from, Transfer))
        self.seconds = self.team.agree(self.seconds + time.perf_counter() - started)  # building it is part of a budget

    # what a user looks at

    @property
    def folder(self) -> Path | None:
        """Where the run is kept, or None."""
        return None if self.shelf is None else self.shelf.folder

    @property
    def history(self) -> History:
        """Every epoch so far."""
        return History(tuple(self.epochs), tuple(self.configuration.labels.regions))

    @property
    def model(self) -> TrainedModel:
        """The model as it is now; a copy that further training does not change."""
        return TrainedModel(
            configuration=self.configuration,
            blueprint=self.blueprint,
            history=self.history,
            fold=self.fold,
            weights=as_cpu(self.learner.averaged.state_dict()),
            card=ModelCard(
                data=f"{self.configuration.dataset_name}, {len(self.prepared)} cases", data_key=self.prepared.key
            ),
        )

    @property
    def _pace(self) -> Pace:
        """How far it is, by what the blueprint counts."""
        return Pace(self.blueprint, self.epochs, len(self.losses), self.seconds)

    @property
    def progress(self) -> float:
        """From 0 to 1, in epochs or in time, whichever the blueprint counts."""
        return self._pace.progress

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train. However short the time, there is one epoch, of one step at least."""
        return self._pace.finished

    @property
    def seconds_left(self) -> float | None:
        """Computing time until the end, or None while nothing tells how long an epoch takes."""
        return self._pace.seconds_left

    def __repr__(self) -> str:
        return (
            f"Training({self.configuration.name!r}, fold {self.fold}, {self.progress:.0%} done)\n"
            f"  {self.compute.device} in {self.compute.precision}: {self.compute.reason}\n"
            f"  {self.stopped or repr(self.history)}".replace("\n    ", "\n  ")
        )

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """What is done in this block, such as drawing curves, belongs to the minutes of the budget."""
        started = time.perf_counter()
        yield
        self.seconds = self.team.agree(self.seconds + time.perf_counter() - started)

    def _ipython_display_(self) -> None:
        show_once(self)

    def watch(self) -> Any:
        """A widget that follows the training while it runs, in this cell or another, and looks back at its epochs."""
        return ask_display("training_watch", "TrainingWatch", self)

    # the loop

    def __iter__(self) -> Iterator[EpochRecord]:
        try:
            while not self.finished:
                yield self.run_epoch()
                self._save_when_due()
        finally:
            self.save()

    @kept_memory()
    def run_epoch(self) -> EpochRecord:
        """Train one epoch, validate it on patches and now and then on whole cases, and record it all.

        Raises `TrainingError` where the loss is no longer a number, after going back to the last good state, and
        where the device's memory is full, saying what would fit.
        """
        watch, started, base = Stopwatch(self.compute.wait), time.perf_counter(), self.seconds
        self.stopped = None
        with watch("reading"), self._explained():
            self.feed.prepare_training()  # once, and no part of what a step costs
        while len(self.losses) < self.blueprint.iterations_per_epoch:
            self._step(watch)
            self.seconds = self.team.agree(base + time.perf_counter() - started)
            for listener in self.listeners:
                listener()
            if self._pace.epoch_is_over(base):
                break
            self._save_when_due()
        found = self._validate(watch, base) if self.team.leads else ()
        with undisturbed():
            self.seconds = base + time.perf_counter() - started
            record = self._record(*found, watch) if found else None
            record = self.team.agree(record)
            self.epochs.append(record)
            self.seconds, self.losses, self._sampled_before = record.seconds, [], self.sampled
        self._good = self._checkpoint()
        for listener in self.listeners:
            listener()
        return record

    def _validate(self, watch: Stopwatch, base: float) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
        """Loss and pseudo Dice on patches; now and then the Dice of whole cases."""
        with watch("reading"):
            self.feed.prepare_validation()  # once, and no part of what a validation costs
        with watch("validation"):
            longest = (self.seconds - base) / 20 if self.blueprint.minutes else float("inf")
            validation_loss, pseudo_dice = validate_patches(self.learner, self.feed, longest)
            self._predict_example()
        if not self.whole_cases.due(self.epochs, self.seconds):
            return validation_loss, pseudo_dice, ()
        with watch("whole cases"):
            return validation_loss, pseudo_dice, self.whole_cases.validate(self.learner, self.seconds)

    def _record(
        self, validation_loss: float, pseudo_dice: tuple[float, ...], case_dice: tuple[float, ...], watch: Stopwatch
    ) -> EpochRecord:
        before, now = self._sampled_before, self.sampled
        patches = now.patches - before.patches
        return EpochRecord(
            number=len(self.epochs),
            iterations=len(self.losses),
            seconds=self.seconds,
            training_loss=float(np.nanmean(self.losses)),
            validation_loss=validation_loss,
            pseudo_dice=pseudo_dice,
            learning_rate=self._pace.learning_rate,
            timings=watch.seconds,
            patches=patches,
            case_dice=case_dice,
            holding=tuple((b - a) / max(patches, 1) for a, b in zip(before.holding, now.holding, strict=True)),
        )

    def _step(self, watch: Stopwatch) -> None:
        """One batch. Interrupted before its end it leaves no trace: the same batch is drawn again."""
        state = self.random.get_state()
        devices = [self.compute.device] if self.compute.device.type == "cuda" else []
        try:
            with self._explained(), torch.random.fork_rng(devices):
                torch.manual_seed(int(torch.randint(2**62, (), generator=self.random)))  # for dropout and the like
                with watch("patches"):
                    batch = self.feed.draw(self.random)
                with watch("augmentation"):
                    batch = self.feed.augment(batch, self.team.own(self.random))
                loss = self.learner.differentiate(batch, self._pace.learning_rate, watch)
                seen = count_labels(batch[1], self.feed.cut_from, self.configuration.labels)
                with watch("update"), undisturbed():
                    self.losses.append(self.learner.update(loss, self.iterations))
                    self.iterations += 1
                    self.sampled = self.sampled + seen
                    state = self.random.get_state()
        except Diverged as error:
            raise self._back_to_good(error) from error
        finally:
            self.learner.take_back()
            self.random.set_state(state)

    def _explained(self) -> AbstractContextManager[None]:
        return memory_explained(self.configuration, self.blueprint, self.compute.device)

    def _back_to_good(self, error: Diverged) -> TrainingError:
        """Put the last good state back; the error says what happened and what to do."""
        iteration, rate = self.iterations, self._pace.learning_rate
        kept = "Nothing had been learned yet."
        if self._good is not None:
            self._restore(self._good)
            kept = f"The state after epoch {len(self.epochs) - 1} is back: training.model predicts with it."
        self.stopped = (
            f"{error} in iteration {iteration} at a learning rate of {rate:.2g}. {kept} Try a third of the rate: "
            f"blueprint.changed(learning_rate={self.blueprint.learning_rate / 3:.2g})"
            + ("." if self._good is None else ", perhaps with start_from=training.model.")
        )
        return Diverged(self.stopped)

    def _predict_example(self) -> None:
        """Predict the example once more."""
        (images, labels), empty = self.feed.example()
        logits, _ = self.learner.evaluate(images, labels)
        flat = logits[0] if logits.ndim == 4 else logits[0][:, logits.shape[2] // 2]
        values = predicted_values(flat, self.configuration.labels, axis=0).cpu()
        self.example = (self.example or empty).seen(len(self.epochs), values)

    # the disk

    def save(self) -> None:
        """Write the state to the folder, if there is one: the finished model, or a checkpoint to go on from.

        A full disk or a drive that is gone only warns: training goes on in memory and tries again later.
        """
        self._saved_at = time.monotonic()
        if self.shelf is None or not self.team.leads or not (self.iterations or self.transfer):
            return
        try:
            if self.finished:
                self.shelf.finish(self.model, self._progress(), self.example)
            else:
                self.shelf.keep(self._checkpoint(), self.example)
        except StorageError as error:
            warn(f"training goes on in memory, but could not be saved: {error}")

    def _save_when_due(self) -> None:
        if time.monotonic() - self._saved_at > self.checkpoint_seconds:
            self.save()

    def _progress(self) -> Progress:
        return Progress(
            history=self.history,
            losses=tuple(self.losses),
            seconds=self.seconds,
            iterations=self.iterations,
            sampled=self.sampled,
            sampled_before=self._sampled_before,
        )

    def _checkpoint(self) -> Checkpoint:
        tensors = {**self.learner.tensors(), "random": self.random.get_state()}
        return Checkpoint(tensors=tensors, numbers=self.learner.numbers(), progress=self._progress())

    def _go_on_from(self, shelf: Shelf, *, began: bool) -> None:
        """Continue where an earlier run of exactly the same training stopped; else begin, if the weights to begin with
        are there.
        """
        shelf.make_room()
        self.example = shelf.example()
        finished = shelf.finished()
        if finished is not None:
            model, progress = finished
            self.learner.take(model, shelf.folder)
            self._go_on(progress)
            return
        found = shelf.open()
        if found is not None:
            try:
                self._restore(found)
                self._good = found
            except (RuntimeError, LookupError, ValueError) as error:  # weights that do not fit, or are not there
                raise damaged(shelf.folder, error) from error
        elif not began and self.transfer is not None:
            raise TrainingError(
                f"{shelf.folder} holds no checkpoint, and the weights it began with ({self.transfer.source}) are kept "
                "nowhere else. Give the model again: train(prepared, ..., start_from=model)."
            )
        elif self.transfer is not None:
            self.save()

    def _restore(self, checkpoint: Checkpoint) -> None:
        self.learner.restore(checkpoint)
        self.random.set_state(checkpoint.tensors["random"])
        self._go_on(checkpoint.progress)

    def _go_on(self, progress: Progress) -> None:
        self.epochs, self.losses = list(progress.history.epochs), list(progress.losses)
        self.seconds, self.iterations = progress.seconds, progress.iterations
        self.sampled, self._sampled_before = progress.sampled, progress.sampled_before
