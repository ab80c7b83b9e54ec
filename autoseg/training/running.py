"""The verbs of training: begin, finish, and go on, with a progress bar."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from autoseg.core.errors import TrainingError
from autoseg.core.serialization import Components
from autoseg.core.types import PathLike
from autoseg.preprocessing.store import PreprocessedDataset
from autoseg.training.blueprint import Blueprint
from autoseg.training.checkpoints import Run
from autoseg.training.feed import Fold
from autoseg.training.history import EpochRecord
from autoseg.training.learner import Diverged
from autoseg.training.loop import Training


def train(
    prepared: PreprocessedDataset,
    *,
    fold: Fold = 0,
    blueprint: Blueprint | None = None,
    device: str | torch.device | None = None,
    folder: PathLike | None = None,
    show_progress: bool = True,
) -> Training:
    """Train one model to the end, or until you interrupt it; either way the result can predict.

    Args:
        prepared: what `preprocess` returned.
        fold: 0 to 4, or ``"all"`` to train on every case.
        blueprint: `Blueprint.quick(minutes=5)` where none is given.
        device: the best at hand where none is given.
        folder: keeps the run (by default beside the prepared data); the same call again goes on, or returns at once.

    Raises `TrainingError` where the loss is no longer a number, `DatasetError` for a fold that does not exist.
    """
    training = Training(prepared, fold=fold, blueprint=blueprint, device=device, folder=folder)
    return finish(training, show_progress=show_progress)


def finish(
    training: Training, *, callbacks: Sequence[Callable[[EpochRecord], None]] = (), show_progress: bool = True
) -> Training:
    """Train until the end, or until you interrupt it, with a progress bar, and curves that grow in a notebook.

    Each of the `callbacks` is called with the record of every epoch, for example to log it elsewhere. Interrupting
    keeps the model; the same call on the same object goes on.
    """
    try:
        with (
            progress_bar(training, show_progress=show_progress) as bar,
            live_view(training, show=show_progress) as view,
        ):
            for record in training:
                for tell in (bar, view, *callbacks):
                    tell(record)
    except Diverged as stopped:
        if not training.epochs:
            raise
        warnings.warn(f"training stopped: {stopped}", stacklevel=2)
    except KeyboardInterrupt:
        warnings.warn(
            f"training was interrupted after {len(training.history)} epochs. training.model can predict; "
            "finish(training) goes on.",
            stacklevel=2,
        )
    return training


def resume(
    folder: PathLike, *, components: Components | None = None, device: str | torch.device | None = None
) -> Training:
    """Go on with a run from its folder alone (``work/runs/3d_fullres/fold_0``), after a crash or a lost session.

    Weights, optimizer, schedule and random state are restored; iterate over the result, or pass it to `finish`.
    `components` gives back a network, loss or sampler of your own, by name. Raises `TrainingError` where the folder
    holds no run, or the preprocessed data are gone.
    """
    folder = Path(folder)
    run = Run.read(folder, components)
    if run is None:
        raise TrainingError(f"{folder} holds no training run. Give the folder of a fold, such as work/runs/2d/fold_0.")
    return Training(
        run.prepared.open(),
        fold=run.fold,
        blueprint=run.blueprint,
        device=device,
        folder=folder.parents[2],
        start_from=run.transfer,
    )


@contextlib.contextmanager
def progress_bar(training: Training, *, show_progress: bool) -> Iterator[Callable[[EpochRecord], None]]:
    """A bar that counts what the blueprint counts, epochs or seconds, with the latest loss and pseudo Dice."""
    from tqdm.auto import tqdm

    epochs = training.blueprint.epochs
    total, unit = (epochs, "epoch") if epochs else (round(60 * (training.blueprint.minutes or 0)), "s")
    with tqdm(total=total, desc=f"train {training.configuration.name}", unit=unit, disable=not show_progress) as bar:

        def show(record: EpochRecord) -> None:
            bar.n = record.number + 1 if epochs else min(round(record.seconds), total)
            bar.set_postfix_str(f"loss {record.training_loss:.3f}, pseudo Dice {record.mean_pseudo_dice:.3f}")

        if training.epochs:
            show(training.epochs[-1])
        yield show


@contextlib.contextmanager
def live_view(training: Training, *, show: bool) -> Iterator[Callable[[EpochRecord], None]]:
    """The training's own display, redrawn in place after each epoch; nothing outside of a notebook."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if not show or getattr(shell, "kernel", None) is None:
        yield lambda record: None
        return
    from IPython.display import display

    handle = display(training, display_id=True)
    yield lambda record: handle.update(training)
    handle.update(training)
