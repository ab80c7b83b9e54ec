"""The training loop: an object to iterate over, epoch by epoch, that can be stopped and gone on with at any time."""

from __future__ import annotations

import contextlib
import copy
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from autoseg.core.errors import StorageError, TrainingError
from autoseg.core.serialization import Components, digest, require_writable
from autoseg.core.shown import Shown
from autoseg.core.types import PathLike
from autoseg.networks.unet import UNet
from autoseg.preprocessing.store import PreprocessedDataset
from autoseg.training.blueprint import Blueprint
from autoseg.training.checkpoints import PreparedData, Progress, Run, load_checkpoint, save_checkpoint
from autoseg.training.compute import choose_compute
from autoseg.training.feed import Feed, Fold
from autoseg.training.history import EpochRecord, History
from autoseg.training.losses import deep_supervision_loss, default_loss
from autoseg.training.model import ModelCard, TrainedModel, as_cpu, build_network, own_components
from autoseg.training.pseudo_dice import PseudoDice
from autoseg.training.schedule import learning_rate_factor

EPOCHS_IN_A_BUDGET = 15  # with a budget of minutes no epoch is longer than this share, so that the curve has points


class Stopwatch:
    """Adds up where the seconds of an epoch go."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


class Training(Shown):
    """One model in training. ``for epoch in training:`` trains and yields an `EpochRecord` each time.

    Leaving the loop early, or interrupting it, keeps all that was learned: `.model` can predict at any time, and a new
    loop goes on. With a folder the state is also saved there every two minutes (`checkpoint_seconds`), and the next
    `train` of the same run continues from it.
    """

    def __init__(
        self,
        prepared: PreprocessedDataset,
        *,
        fold: Fold = 0,
        blueprint: Blueprint | None = None,
        device: str | torch.device | None = None,
        folder: PathLike | None = None,
    ) -> None:
        self.checkpoint_seconds = 120.0
        self.prepared, self.configuration, self.fold = prepared, prepared.configuration, fold
        self.blueprint = blueprint or Blueprint.quick(minutes=5)
        self.compute = choose_compute(device, self.blueprint.precision)
        self.key = digest([self.blueprint, self.configuration, fold, prepared.key])
        root = folder if folder is not None else prepared.folder
        self.folder = None if root is None else Path(root) / "runs" / self.configuration.name / f"fold_{fold}"
        self.feed = Feed(prepared, fold=fold, blueprint=self.blueprint, compute=self.compute)
        self.random = torch.Generator().manual_seed(self.blueprint.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.blueprint.seed)
            network = build_network(self.configuration, self.blueprint)
        self.network = self.compute.place(network, self.configuration.dimensions)
        self.averaged = copy.deepcopy(self.network) if self.blueprint.weight_averaging else self.network
        self.optimizer = _optimizer(self.network, self.blueprint)
        self.scaler = torch.amp.GradScaler(self.compute.device.type, enabled=self.compute.precision == "float16")
        self.loss = self.blueprint.loss or default_loss(
            self.configuration.labels, batch_dice=self.configuration.batch_dice
        )
        self.epochs: list[EpochRecord] = []
        self.losses: list[float] = []  # of the epoch under way
        self.iterations, self.seconds = 0, 0.0
        self._saved_at = time.monotonic()
        self._go_on_from_disk()

    # what a user looks at

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
            weights=as_cpu(self.averaged.state_dict()),
            card=ModelCard(
                data=f"{self.configuration.dataset_name}, {len(self.prepared)} cases", data_key=self.prepared.key
            ),
        )

    @property
    def progress(self) -> float:
        """From 0 to 1, in epochs or in time, whichever the blueprint counts."""
        if self.finished:
            return 1.0
        if self.blueprint.epochs is not None:
            return len(self.epochs) / self.blueprint.epochs
        return min(self.seconds / self._budget, 1.0)

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train."""
        if self.blueprint.epochs is not None:
            return len(self.epochs) >= self.blueprint.epochs
        return self._time_is_up(self.seconds)

    def __repr__(self) -> str:
        return (
            f"Training({self.configuration.name!r}, fold {self.fold}, {100 * self.progress:.0f} % done)\n"
            f"  {self.compute.device} in {self.compute.precision}: {self.compute.reason}\n"
            f"  {self.history!r}".replace("\n    ", "\n  ")
        )

    # the loop

    def __iter__(self) -> Iterator[EpochRecord]:
        try:
            while not self.finished:
                yield self.run_epoch()
                self._save_when_due()
        finally:
            self.save()

    def run_epoch(self) -> EpochRecord:
        """Train one epoch, validate it on patches, and record both.

        Raises `TrainingError` where the loss is no longer a number; the last saved state is then the last good one.
        """
        watch, started, base = Stopwatch(), time.perf_counter(), self.seconds
        self.network.train()
        while len(self.losses) < self.blueprint.iterations_per_epoch:
            self.losses.append(self._step(watch))
            self.seconds = base + time.perf_counter() - started
            if self._epoch_is_over(self.seconds - base):
                break
            self._save_when_due()
        with watch("validation"):
            validation_loss, pseudo_dice = self._validate(self.seconds - base)
        self.seconds = base + time.perf_counter() - started
        record = EpochRecord(
            number=len(self.epochs),
            iterations=len(self.losses),
            seconds=self.seconds,
            training_loss=float(np.mean(self.losses)),
            validation_loss=validation_loss,
            pseudo_dice=pseudo_dice,
            learning_rate=self.optimizer.param_groups[0]["lr"],
            timings=watch.seconds,
        )
        self.epochs.append(record)
        self.losses = []
        return record

    def _step(self, watch: Stopwatch) -> float:
        """One batch. Returns its loss."""
        self._set_learning_rate()
        with watch("patches"):
            batch = self.feed.draw(self.random)
        with watch("augmentation"):
            images, labels = self.feed.augment(batch, self.random)
        with watch("forward"), self._explained():
            loss = self._forward(self.network, images, labels)[1]
        value = float(loss.detach())
        if not np.isfinite(value):
            raise TrainingError(
                f"the loss became {value} in iteration {self.iterations} at a learning rate of "
                f"{self.optimizer.param_groups[0]['lr']:.2g}. Try a third of it: "
                f"blueprint.changed(learning_rate={self.blueprint.learning_rate / 3:.2g})."
            )
        with watch("backward"), self._explained():
            self._update(loss)
        self.iterations += 1
        return value

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """What to do when the device's memory does not hold a batch."""
        try:
            yield
        except torch.OutOfMemoryError as error:
            batch, patch = self.feed.batch_size, "x".join(map(str, self.configuration.patch_size))
            advice = (
                f"a batch of {max(batch // 2, 1)} may: blueprint.changed(batch_size={max(batch // 2, 1)})"
                if batch > 1
                else "a plan with a smaller memory budget will: plan.what_if(memory_gb=4)"
            )
            raise TrainingError(
                f"{self.compute.device} ran out of memory with {batch} patches of {patch}. "
                f"It does not fit, but {advice}. What was learned until the last checkpoint is kept."
            ) from error

    def _update(self, loss: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.network.parameters(), self.blueprint.gradient_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.averaged is not self.network:
            keep = min(self.blueprint.weight_averaging, (1 + self.iterations) / (10 + self.iterations))
            with torch.no_grad():
                torch._foreach_lerp_(list(self.averaged.parameters()), list(self.network.parameters()), 1 - keep)

    def _forward(self, network: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits at full resolution, and the loss over all that the network returns."""
        if isinstance(network, UNet):
            network.deep_supervision = self.blueprint.deep_supervision
        with self.compute.autocast():
            outputs = network(images)
        outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
        return outputs[0], deep_supervision_loss(self.loss, outputs, labels)

    @torch.no_grad()
    def _validate(self, trained: float) -> tuple[float, tuple[float, ...]]:
        """Mean loss and pseudo Dice over patches of the validation cases, the same ones in every epoch.

        With a budget of minutes this takes at most a tenth of the seconds just `trained`, but one batch at least.
        """
        started = time.perf_counter()
        self.averaged.eval()
        random = torch.Generator().manual_seed(self.blueprint.seed + 1)
        counts, losses = PseudoDice(self.configuration.labels), []
        for _ in range(self.blueprint.validation_iterations):
            images, labels = self.feed.draw_validation(random)
            logits, loss = self._forward(self.averaged, images, labels)
            counts.add(logits, labels)
            losses.append(float(loss))
            if self.blueprint.minutes and time.perf_counter() - started > trained / 10:
                break
        return float(np.mean(losses)), counts.result()

    # time and learning rate

    @property
    def _budget(self) -> float:
        return 60.0 * (self.blueprint.minutes or 0.0)

    def _set_learning_rate(self) -> None:
        factor = learning_rate_factor(self.blueprint.schedule, self.progress)
        for group in self.optimizer.param_groups:
            group["lr"] = self.blueprint.learning_rate * factor

    def _epoch_is_over(self, seconds: float) -> bool:
        if self.blueprint.epochs is not None:
            return False
        return seconds >= self._budget / EPOCHS_IN_A_BUDGET or self._time_is_up(self.seconds)

    def _time_is_up(self, seconds: float) -> bool:
        """Whether another step and its validation would not fit into the budget."""
        last = self.epochs[-1] if self.epochs else None
        reserve = last.timings["validation"] + last.seconds / max(self.iterations, 1) if last else 0.0
        return seconds + reserve >= self._budget

    # the disk

    def save(self) -> None:
        """Write the state to the folder, if there is one: the finished model, or a checkpoint to go on from.

        A full disk or a drive that is gone only warns: training goes on in memory and tries again later.
        """
        self._saved_at = time.monotonic()
        if self.folder is None:
            return
        try:
            if self.finished:
                self.model.save(self.folder)
                self._run(finished=True).write(self.folder)
            elif self.iterations:
                self._save_checkpoint(self.folder)
        except StorageError as error:
            warnings.warn(f"training goes on in memory, but could not be saved: {error}", stacklevel=2)

    def _save_when_due(self) -> None:
        if time.monotonic() - self._saved_at > self.checkpoint_seconds:
            self.save()

    def _save_checkpoint(self, folder: Path) -> None:
        progress = Progress(
            history=self.history, losses=tuple(self.losses), seconds=self.seconds, iterations=self.iterations
        )
        state = self.random.get_state()
        save_checkpoint(
            folder, self.key, modules=self._modules, optimizer=self.optimizer, random=state, progress=progress
        )

    @property
    def _modules(self) -> dict[str, nn.Module]:
        return {"network": self.network, "averaged": self.averaged}

    def _go_on_from_disk(self) -> None:
        """Continue where an earlier run of exactly the same training stopped."""
        if self.folder is None:
            return
        require_writable(self.folder)
        components = own_components(self.configuration, self.blueprint)
        there = _run_of(self.folder, components)
        if there is not None and there.key == self.key and there.finished:
            model = TrainedModel.load(self.folder, components=components)
            for module in self._modules.values():
                module.load_state_dict(dict(model.weights))
            self._restore(Progress(history=model.history, losses=(), seconds=self._budget, iterations=1))
            return
        self._run(finished=False).write(self.folder)
        found = load_checkpoint(
            self.folder, self.key, modules=self._modules, optimizer=self.optimizer, random=self.random
        )
        if found is not None:
            self._restore(found)

    def _run(self, *, finished: bool) -> Run:
        prepared = PreparedData.of(self.prepared)
        return Run(key=self.key, finished=finished, fold=self.fold, blueprint=self.blueprint, prepared=prepared)

    def _restore(self, progress: Progress) -> None:
        self.epochs, self.losses = list(progress.history.epochs), list(progress.losses)
        self.seconds, self.iterations = progress.seconds, progress.iterations


def _run_of(folder: Path, components: Components) -> Run | None:
    """The run a folder holds; None where it is of another kind, which then makes room for this one."""
    try:
        return Run.read(folder, components)
    except StorageError:
        return None


def _optimizer(network: nn.Module, blueprint: Blueprint) -> torch.optim.Optimizer:
    weights, rate, decay = network.parameters(), blueprint.learning_rate, blueprint.weight_decay
    if blueprint.optimizer == "sgd":
        return torch.optim.SGD(weights, rate, momentum=blueprint.momentum, weight_decay=decay, nesterov=True)
    return torch.optim.AdamW(weights, rate, betas=(blueprint.momentum, 0.999), weight_decay=decay)
