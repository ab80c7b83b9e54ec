"""The state of a training run on disk: one safetensors file, replaced in one step, that nothing is executed from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from autoseg.core.errors import StorageError, TrainingError
from autoseg.core.serialization import Components, from_jsonable, read_json, write_json
from autoseg.data.splits import Split
from autoseg.planning.configuration import Configuration
from autoseg.preprocessing.store import Entry, PreprocessedDataset
from autoseg.training.blueprint import Blueprint
from autoseg.training.history import History
from autoseg.training.model import BROKEN, read_tensors, write_tensors
from autoseg.training.sampled import Sampled
from autoseg.training.transfer import Transfer

CHECKPOINT, RUN = "checkpoint.safetensors", "run.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is: the finished epochs, what the one under way has seen, and the seconds it computed."""

    history: History
    losses: tuple[float, ...]
    seconds: float
    iterations: int
    sampled: Sampled
    sampled_before: Sampled  # until the last finished epoch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """A moment of training: every tensor by name, numbers that belong to them, and the progress.

    One in memory is the last good state; one on disk is what a killed run goes on from.
    """

    tensors: Mapping[str, Tensor]
    numbers: Mapping[str, Any]
    progress: Progress

    def write(self, folder: Path, key: str) -> None:
        """Replace the folder's checkpoint in one step. `key` says which run it belongs to."""
        about = {"key": key, "progress": self.progress, "numbers": self.numbers}
        write_tensors(folder / CHECKPOINT, self.tensors, about)

    @staticmethod
    def read(folder: Path, key: str) -> Checkpoint | None:
        """The checkpoint of this run, or None where there is none.

        Raises `StorageError` where it is damaged, which atomic files are only by a failing drive.
        """
        path = folder / CHECKPOINT
        if not path.exists():
            return None
        try:
            tensors, about = read_tensors(path)
            if about.get("key") != key:
                return None
            progress: Progress = from_jsonable(Progress, about["progress"])
            return Checkpoint(tensors=tensors, numbers=about["numbers"], progress=progress)
        except BROKEN as error:
            raise damaged(folder, error) from error

    def below(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with ``prefix/``, without it."""
        start = f"{prefix}/"
        return {name.removeprefix(start): t for name, t in self.tensors.items() if name.startswith(start)}


def damaged(folder: Path, error: Exception) -> StorageError:
    """What to say of a checkpoint that cannot be used."""
    found = str(error) if isinstance(error, StorageError) else f"{folder / CHECKPOINT} cannot be used: {error!r:.200}."
    return StorageError(f"{found} Delete it to train this run from its beginning.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a run folder is about: enough to go on from the folder alone.

    For each callable of the user's own, by its name, `sources` tells the text it had, and `held` the values it held.
    """

    key: str
    finished: bool
    fold: int | str
    blueprint: Blueprint
    prepared: PreparedData
    transfer: Transfer | None = None
    progress: Progress | None = None  # of a finished run, whose checkpoint is gone
    sources: dict[str, str] = field(default_factory=dict, hash=False)
    held: dict[str, str] = field(default_factory=dict, hash=False)

    @staticmethod
    def read(folder: Path, components: Components | None = None) -> Run | None:
        """The run of a folder, or None where there is none."""
        if not (folder / RUN).exists():
            return None
        run: Run = from_jsonable(Run, read_json(folder / RUN), components)
        return run

    def write(self, folder: Path) -> None:
        """Keep it; the checkpoint of a finished run is no longer needed."""
        write_json(folder / RUN, self)
        if self.finished:
            (folder / CHECKPOINT).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedData:
    """Which preprocessed data a run reads; `folder` is None for data that were only in memory."""

    folder: Path | None
    configuration: Configuration
    entries: dict[str, Entry] = field(hash=False)
    splits: tuple[Split, ...]

    @staticmethod
    def of(prepared: PreprocessedDataset) -> PreparedData:
        """The reference to a preprocessed dataset."""
        folder = None if prepared.folder is None else prepared.folder.resolve()
        return PreparedData(
            folder=folder,
            configuration=prepared.configuration,
            entries=dict(prepared.entries),
            splits=prepared.splits,
        )

    def open(self, beside: Path) -> PreprocessedDataset:
        """The dataset itself, from where it was, or from the folder `beside` the run where all has been moved.

        Raises `TrainingError` where it was only in memory or its folder is gone.
        """
        places = [] if self.folder is None else [self.folder, beside]
        folder = next((p for p in places if (p / "preprocessed" / self.configuration.name).is_dir()), None)
        if folder is None:
            where = "only in memory" if self.folder is None else f"in {self.folder}, which is gone"
            raise TrainingError(
                f"the preprocessed data of this run were {where}. Make them again, and go on with the call that began "
                "the run: train(prepared, ..., folder=...)."
            )
        return PreprocessedDataset(
            folder=folder, configuration=self.configuration, entries=self.entries, splits=self.splits
        )
