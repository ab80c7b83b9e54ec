"""The state of a training run on disk: one safetensors file, replaced in one step, that nothing is executed from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from autoseg.core.serialization import from_jsonable, read_json, write_json
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


def mark_finished(folder: Path, key: str) -> None:
    """Say that the model beside this file is the finished result of the run `key`."""
    write_json(folder / RUN, {"key": key, "finished": True})
    (folder / CHECKPOINT).unlink(missing_ok=True)


def is_finished(folder: Path, key: str) -> bool:
    """Whether the folder holds the finished model of exactly this run."""
    path = folder / RUN
    return path.exists() and read_json(path).get("key") == key
