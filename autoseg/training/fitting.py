"""What would fit when a device's memory is full: the forecast's arithmetic, turned into a blueprint to go on with."""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Iterator

import torch

from autoseg.core.errors import TrainingError
from autoseg.core.types import by
from autoseg.planning.budget import Budget, PresetName
from autoseg.planning.configuration import Configuration
from autoseg.planning.memory import MemoryModel
from autoseg.training.blueprint import Blueprint
from autoseg.training.model import network_spec

FREE = 0.85  # of a device's memory: the rest is the driver's and other programs'


class OutOfMemory(TrainingError):
    """The device cannot hold a step. `fitting` is a blueprint that would fit, or None where only a new plan does."""

    def __init__(self, message: str, fitting: Blueprint | None) -> None:
        super().__init__(message)
        self.fitting = fitting


def step_gigabytes(configuration: Configuration, blueprint: Blueprint) -> float:
    """Memory of a training step in GB by nnU-Net's reference, for the blueprint's width and batch.

    Source: `autoseg.forecast`, whose numbers these are for the plan's own width and batch.
    """
    spec = network_spec(configuration, blueprint)
    preset: PresetName = "resenc_m" if spec.kind == "residual" else "default"
    memory = MemoryModel(Budget(preset=preset), configuration.labels.declared)
    elements = memory.elements_of(spec, configuration.patch_size)
    return memory.gigabytes(elements, configuration.dimensions, blueprint.batch_size_for(configuration))


def device_gigabytes(device: torch.device) -> float | None:
    """Memory of the device that training may fill, or None where the system does not say."""
    if device.type == "cuda":
        return FREE * torch.cuda.mem_get_info(device)[1] / 1e9
    if device.type == "cpu" and hasattr(os, "sysconf"):
        return FREE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return None


def fitting_blueprint(configuration: Configuration, blueprint: Blueprint, room: float) -> Blueprint | None:
    """The nearest blueprint whose step takes at most `room` GB: a smaller batch, else half the width too, else None."""
    width = network_spec(configuration, blueprint).features[0]
    for features in (width, width // 2, width // 4):
        for batch in range(blueprint.batch_size_for(configuration), 0, -1):
            changes = {"batch_size": batch, **({} if features == width else {"base_features": features})}
            candidate = blueprint.changed(**changes)
            smaller = candidate != blueprint.changed(batch_size=blueprint.batch_size_for(configuration))
            if features >= 1 and smaller and step_gigabytes(configuration, candidate) <= room:
                return candidate
    return None


def out_of_memory(error: BaseException) -> bool:
    """Whether torch or Python found no memory."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


@contextlib.contextmanager
def memory_explained(configuration: Configuration, blueprint: Blueprint, device: torch.device) -> Iterator[None]:
    """Turn a device's "out of memory" into `OutOfMemory`, which says what would fit and offers it."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch's own out-of-memory error is a RuntimeError
        if not out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold the tensors that filled the memory
        if device.type == "cuda":
            torch.cuda.empty_cache()
        raise _explained(configuration, blueprint, device) from error


def _explained(configuration: Configuration, blueprint: Blueprint, device: torch.device) -> OutOfMemory:
    needed, there = step_gigabytes(configuration, blueprint), device_gigabytes(device)
    room = min(there or needed, needed * 0.7)  # it did not fit, so what fits is clearly less than that
    fitting = fitting_blueprint(configuration, blueprint, room)
    batch, patch = blueprint.batch_size_for(configuration), by(configuration.patch_size)
    has = "" if there is None else f", of {there:.3g} GB that may be filled"
    said = f"{device} ran out of memory with {batch} patches of {patch}, which need about {needed:.2g} GB{has}."
    if fitting is None:
        budget = max(1, int(room))
        return OutOfMemory(
            f"{said} Not even a single patch fits. Plan for less: plan.what_if(memory_gb={budget}), then preprocess "
            "and train again; or train '2d'.",
            None,
        )
    values = {name: (getattr(fitting, name), getattr(blueprint, name)) for name in ("batch_size", "base_features")}
    written = ", ".join(f"{name}={new}" for name, (new, old) in values.items() if new != old)
    return OutOfMemory(
        f"{said} blueprint.changed({written}) needs about {step_gigabytes(configuration, fitting):.2g} GB and should "
        "fit: train with it (it is the error's .fitting). What was learned until the last checkpoint is kept.",
        fitting,
    )
