"""The state of a training run on disk: one safetensors file, replaced in one step, that nothing is executed from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from autoseg.core.errors import TrainingError
from autoseg.core.serialization import Components, from_jsonable, read_json, write_json
from autoseg.data.splits import Split
from autoseg.planning.configuration import Configuration
from autoseg.preprocessing.store import Entry, PreprocessedDataset
from autoseg.training.blueprint import Blueprint
from autoseg.training.history import History
from autoseg.training.model import as_cpu, read_tensors, write_tensors

CHECKPOINT, RUN = "checkpoint.safetensors", "run.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is: the finished epochs, the losses of the one under way, and the seconds it computed."""

    history: History
    losses: tuple[float, ...]
    seconds: float
    iterations: int


def save_checkpoint(
    folder: Path,
    key: str,
    *,
    modules: Mapping[str, nn.Module],
    optimizer: Optimizer,
    random: Tensor,
    progress: Progress,
) -> None:
    """Write weights, optimizer, random state and progress. `key` says which run this belongs to."""
    tensors = {f"{name}/{k}": t for name, module in modules.items() for k, t in as_cpu(module.state_dict()).items()}
    numbers: dict[str, dict[str, float]] = {}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{index}/{name}"] = value.detach().cpu().contiguous().clone()
            elif value is not None:
                numbers.setdefault(str(index), {})[name] = value
    about = {"key": key, "progress": progress, "optimizer": numbers}
    write_tensors(folder / CHECKPOINT, tensors | {"random": random}, about)


def load_checkpoint(
    folder: Path, key: str, *, modules: Mapping[str, nn.Module], optimizer: Optimizer, random: torch.Generator
) -> Progress | None:
    """Put everything back where it was and return the progress; None where there is no checkpoint of this run."""
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    tensors, about = read_tensors(path)
    if about.get("key") != key:
        return None
    for name, module in modules.items():
        module.load_state_dict(_below(tensors, f"{name}/"))
    state: dict[int, dict[str, Any]] = {int(i): dict(values) for i, values in about["optimizer"].items()}
    for name, tensor in _below(tensors, "optimizer/").items():
        index, _, field = name.partition("/")
        state.setdefault(int(index), {})[field] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    random.set_state(tensors["random"])
    progress: Progress = from_jsonable(Progress, about["progress"])
    return progress


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a run folder is about: enough to go on from the folder alone."""

    key: str
    finished: bool
    fold: int | str
    blueprint: Blueprint
    prepared: PreparedData

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

    def open(self) -> PreprocessedDataset:
        """The dataset itself. Raises `TrainingError` where it was only in memory or its folder is gone."""
        if self.folder is None or not self.folder.is_dir():
            where = "only in memory" if self.folder is None else f"in {self.folder}, which is gone"
            raise TrainingError(
                f"the preprocessed data of this run were {where}. Make them again, and go on with the call that began "
                "the run: train(prepared, ..., folder=...)."
            )
        return PreprocessedDataset(
            folder=self.folder, configuration=self.configuration, entries=self.entries, splits=self.splits
        )
