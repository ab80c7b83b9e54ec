"""The verbs of training: begin, finish, and go on."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from numbers import Integral
from pathlib import Path

import torch

from autoseg.core.errors import StorageError, TrainingError, warn
from autoseg.core.kinds import require
from autoseg.core.serialization import Components
from autoseg.core.types import LabelArray, PathLike
from autoseg.preprocessing.store import PreprocessedDataset
from autoseg.training.blueprint import Blueprint
from autoseg.training.checkpoints import Run
from autoseg.training.feed import Fold
from autoseg.training.history import EpochRecord
from autoseg.training.launch import launch
from autoseg.training.learner import Diverged
from autoseg.training.live import progress_shown
from autoseg.training.loop import Training
from autoseg.training.model import TrainedModel, own_components
from autoseg.training.shelf import what_is_held

Callback = Callable[[EpochRecord], None]
Callbacks = Callback | Iterable[Callback]


def train(
    prepared: PreprocessedDataset,
    *,
    fold: Fold = 0,
    blueprint: Blueprint | None = None,
    device: str | torch.device | None = None,
    folder: PathLike | None = None,
    start_from: TrainedModel | None = None,
    previous: Mapping[str, LabelArray] | None = None,
    callbacks: Callbacks = (),
    gpus: int = 1,
    show_progress: bool = True,
) -> Training:
    """Train one model to the end, or until you interrupt it; either way the result can predict.

    Args:
        prepared: what `preprocess` returned.
        fold: 0 to 4, or ``"all"`` to train on every case.
        blueprint: `Blueprint.quick(minutes=5)` where none is given.
        device: the best at hand where none is given.
        folder: keeps the run (by default beside the prepared data); the same call again goes on, or returns at once.
        start_from: a model whose weights to begin with, where they fit; ``training.transfer`` tells which did.
        previous: for a cascade, what the previous stage predicts for each case: `previous_stage`.
        callbacks: a function, or several, called with the record of every epoch; see `finish`.
        gpus: with more than one, each takes its share of every batch, in a process of its own; the run needs a folder.

    Where the loss is no longer a number, training stops with a warning and the last good state. Raises `TrainingError`
    where there is none yet, or the memory is full (the error says what would fit), `DatasetError` for a fold that does
    not exist.

    >>> quick = autoseg.Blueprint.quick(minutes=0.02, base_features=4, batch_size=4)
    >>> autoseg.train(prepared, fold=0, blueprint=quick, folder="another_run", show_progress=False)
    Training('2d', fold 0, 100% done)
    ...
    """
    begin = partial(
        Training,
        prepared,
        fold=fold,
        blueprint=blueprint,
        device=device,
        folder=folder,
        start_from=start_from,
        previous=previous,
    )
    callbacks = _listed(callbacks)
    if not isinstance(gpus, Integral):
        raise TrainingError(f"gpus={gpus!r} is of type {type(gpus).__name__}; it is a number of GPUs, such as gpus=2.")
    if gpus < 1:
        raise TrainingError(f"gpus={gpus}: training needs one process at least. Leave gpus out for a single one.")
    if gpus == 1:
        return finish(begin(), callbacks=callbacks, show_progress=show_progress)
    if folder is None and prepared.folder is None:
        raise TrainingError(f"training with gpus={gpus} leaves its model in a folder. Pass folder='work'.")
    cpu = device is not None and torch.device(device).type == "cpu"
    launch(lambda: finish(begin(), callbacks=callbacks, show_progress=show_progress), gpus, cpu=cpu)
    return begin()  # which finds what they left


def finish(training: Training, *, callbacks: Callbacks = (), show_progress: bool = True) -> Training:
    """Train until the end, or until you interrupt it, with curves that grow in a notebook and lines in a terminal.

    Interrupting keeps the model; the same call on the same object goes on. Each of the `callbacks` is called with the
    `EpochRecord` of every epoch, whose ``.numbers`` any logger takes::

        from torch.utils.tensorboard import SummaryWriter
        writer = SummaryWriter("logs")
        def to_tensorboard(epoch):
            for name, value in epoch.numbers.items():
                writer.add_scalar(name, value, epoch.number)
        finish(training, callbacks=[to_tensorboard])

        import mlflow
        with mlflow.start_run():
            finish(training, callbacks=[lambda epoch: mlflow.log_metrics(epoch.numbers, step=epoch.number)])

        import wandb
        with wandb.init(project="hippocampus") as run:
            finish(training, callbacks=[lambda epoch: run.log(epoch.numbers, step=epoch.number)])

    A callback that raises `KeyboardInterrupt` stops the training, for example once it is good enough.

    >>> training = autoseg.Training(prepared, fold=2, blueprint=training.blueprint)
    >>> autoseg.finish(training, callbacks=[lambda epoch: print(sorted(epoch.numbers))], show_progress=False).finished
    ['learning_rate', 'mean_pseudo_dice', 'seconds', 'training_loss', 'validation_loss']
    ['learning_rate', 'mean_pseudo_dice', 'seconds', 'training_loss', 'validation_loss']
    True
    """
    require(training, Training, TrainingError)
    callbacks = _listed(callbacks)
    try:
        with contextlib.ExitStack() as stack:
            with training.counted():
                view = stack.enter_context(progress_shown(training, show=show_progress and training.team.leads))
            for record in training:
                with training.counted():
                    _tell(training, record, (view, *callbacks))
    except Diverged as stopped:
        if not training.epochs:
            raise
        warn(f"training stopped: {stopped}")
    except KeyboardInterrupt:
        if training.finished:
            return training
        warn(
            f"training was interrupted after {len(training.history)} epochs. training.model can predict; "
            "finish(training) goes on."
        )
    return training


def _listed(callbacks: Callbacks) -> tuple[Callback, ...]:
    """The functions to call after each epoch. Raises `TrainingError`, before the first one, where they are none."""
    if callable(callbacks):
        return (callbacks,)
    if not isinstance(callbacks, Iterable) or not all(map(callable, found := tuple(callbacks))):
        raise TrainingError(
            f"callbacks={callbacks!r:.80} is no function and no list of functions. Each is called with the record of "
            "an epoch: callbacks=[lambda epoch: print(epoch.numbers)]."
        )
    return found


def _tell(training: Training, record: EpochRecord, listeners: Sequence[Callable[[EpochRecord], None]]) -> None:
    """Tell the leader's listeners of an epoch; where one of them stops the training, all processes stop."""
    stopped = False
    try:
        for tell in listeners if training.team.leads else ():
            tell(record)
    except KeyboardInterrupt:
        stopped = True
    if training.team.agree(stopped):
        raise KeyboardInterrupt


def resume(
    folder: PathLike,
    *,
    components: Components | None = None,
    device: str | torch.device | None = None,
    previous: Mapping[str, LabelArray] | None = None,
) -> Training:
    """Go on with a run from its folder alone (``work/runs/3d_fullres/fold_0``), after a crash or a lost session.

    Weights, optimizer, schedule and random state are restored; iterate over the result, or pass it to `finish`.
    `components` gives back a network, loss or sampler of your own, by name; `previous` what the previous stage of a
    cascade predicted. Raises `TrainingError` where the folder
    holds no run, or the preprocessed data are gone.

    >>> autoseg.resume("work/runs/2d/fold_0").progress
    1.0
    """
    folder = Path(folder).resolve()
    try:
        run = Run.read(folder, components)
    except StorageError as error:
        raise StorageError(f"{error} Or go on with the call that began the run: train(prepared, ...).") from error
    if run is None:
        raise TrainingError(f"{folder} holds no training run. Give the folder of a fold, such as work/runs/2d/fold_0.")
    named = re.fullmatch(rf"fold_{run.fold}|earlier_fold_{run.fold}_\w+", folder.name)
    now = what_is_held(own_components(run.prepared.configuration, run.blueprint))
    if other := sorted(name for name in {**now, **run.held} if now.get(name) != run.held.get(name)):
        raise TrainingError(
            f"{', '.join(other)} holds other values than when the run in {folder} began. Give it as it was then, or "
            "train another run with it: train(prepared, ...)."
        )
    place = Path("runs") / run.prepared.configuration.name
    if named is None or folder.parts[-3:-1] != place.parts:
        raise TrainingError(
            f"{folder} holds fold {run.fold} of {place.name!r}, and was renamed or copied. Let its path end as it did, "
            f"in {place / f'fold_{run.fold}'}; what is before that may change."
        )
    return Training(
        run.prepared.open(folder.parents[2]),
        fold=run.fold,
        blueprint=run.blueprint,
        device=device,
        folder=folder.parents[2],
        start_from=run.transfer,
        previous=previous,
    )
