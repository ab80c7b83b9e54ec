"""Fit to a session: a plan and a blueprint that end in the time there is, and what that gives up."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from autoseg.core.errors import PlanError, TrainingError
from autoseg.core.kinds import require
from autoseg.core.numbers import duration, is_number, is_whole
from autoseg.core.shown import Shown
from autoseg.data.fingerprint import Fingerprint
from autoseg.networks.unet import full_resolution
from autoseg.planning.budget import Budget
from autoseg.planning.configuration import Configuration
from autoseg.planning.forecast import DEVICES, OFF, Forecast, forecast
from autoseg.planning.plan import Plan
from autoseg.planning.planner import make_plan
from autoseg.training.blueprint import Blueprint
from autoseg.training.compute import choose_compute
from autoseg.training.fitting import FREE
from autoseg.training.heap import kept_memory
from autoseg.training.losses import deep_supervision_loss, default_loss
from autoseg.training.model import build_network

ENOUGH_EPOCHS = 100  # fewer of the published recipe are better spent on the quick one
PROBED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Session(Shown):
    """What to train in a session: pass `plan` and `blueprint` on. `given_up` says what the full method would have."""

    plan: Plan
    configuration: str
    blueprint: Blueprint
    forecast: Forecast
    given_up: tuple[str, ...]

    def __repr__(self) -> str:
        lines = [f"Session({self.configuration!r}, {self.blueprint!r})".replace("\n", "\n  ")]
        if self.forecast.rough and self.forecast.epoch_seconds:
            lines.append(f"  an epoch: {duration(self.forecast.epoch_seconds)}, {OFF}")
        return "\n".join([*lines, *(f"  given up: {what}" for what in self.given_up)])


@kept_memory()
def probe_steps(configuration: Configuration, *, blueprint: Blueprint | None = None, steps: int = PROBED) -> float:
    """Seconds of one training step of a configuration on this machine, measured on random numbers.

    The first step prepares kernels and is not counted. `blueprint` is the published recipe where none is given.

    >>> seconds = autoseg.probe_steps(plan["2d"], blueprint=training.blueprint, steps=1)
    >>> f"an iteration takes {seconds:.2f} s here"
    'an iteration takes ... s here'
    """
    require(configuration, Configuration, TrainingError)
    if not (is_whole(steps) and steps >= 1):
        raise TrainingError(f"steps={steps!r}: at least one step must be measured, such as steps={PROBED}.")
    blueprint = blueprint or Blueprint.nnunet()
    configuration = blueprint.fitted(configuration)
    compute = choose_compute(None, blueprint.precision)
    network = compute.place(build_network(configuration, blueprint), configuration.dimensions)
    loss = blueprint.loss or default_loss(configuration.labels, batch_dice=configuration.batch_dice)
    shape = (blueprint.batch_size_for(configuration), configuration.network.in_channels, *configuration.patch_size)
    images = torch.randn(shape, device=compute.device)
    labels = torch.zeros((shape[0], *shape[2:]), dtype=torch.long, device=compute.device)
    seconds = []
    for _ in range(steps + 1):
        started = time.perf_counter()
        with compute.autocast():
            outputs = full_resolution(network(images))
        deep_supervision_loss(loss, [outputs], labels).backward()  # type: ignore[no-untyped-call]
        if compute.device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


def fit_session(
    fingerprint: Fingerprint, *, minutes: float, gpu: str = "measured", configuration: str | None = None
) -> Session:
    """A plan that fits the device's memory and a blueprint that ends within `minutes`.

    Args:
        gpu: a device by name, such as ``"T4"``, or ``"measured"`` to time a few real steps on this machine.
        configuration: which to train; 3d_fullres, or 2d where there is none.

    Raises `TrainingError` for less than no time, `PlanError` for an unknown device.

    >>> autoseg.fit_session(fingerprint, minutes=60, gpu="T4")
    Session('3d_fullres', Blueprint('nnunet': 280 epochs)
        sgd, learning rate 0.01, polynomial schedule)
      an epoch: 12.8 s, a rough estimate, often off by a factor of two
      given up: 720 of 1,000 epochs; the learning rate falls faster
    """
    if not (is_number(minutes) and minutes > 0):
        raise TrainingError(f"a session of {minutes!r} minutes leaves no time to train.")
    if gpu != "measured" and gpu not in DEVICES:
        raise PlanError(f"no figures of a GPU {gpu!r}; known: {', '.join(DEVICES)}, or 'measured' for this machine.")
    memory = _memory(gpu)
    plan = make_plan(fingerprint, Budget(memory_gb=memory) if memory else Budget())
    name = configuration or ("3d_fullres" if "3d_fullres" in plan else "2d")
    costs = forecast(plan, name, probe=probe_steps) if gpu == "measured" else forecast(plan, name, gpu=gpu)
    epochs = int(60 * minutes / (costs.epoch_seconds or float("inf")))
    published = Blueprint.nnunet()
    full = published.epochs or 0
    if epochs >= ENOUGH_EPOCHS:
        blueprint = Blueprint.nnunet(epochs=min(epochs, full))
        lost = [f"{full - epochs:,} of {full:,} epochs; the learning rate falls faster"] if epochs < full else []
    else:
        blueprint = Blueprint.quick(minutes=minutes)
        lost = [
            f"the published recipe: its {full:,} epochs would take {full * (costs.epoch_seconds or 0) / 3600:.3g} "
            f"hours, and {epochs:,} of them {'fits' if epochs == 1 else 'fit'}. The quick one is made for so little "
            "time: blueprint.trace says how it differs"
        ]
    if memory and memory < Budget().gpu_memory_gb:
        lost.append(f"memory: planned for {memory:.3g} GB where the default plans for {Budget().gpu_memory_gb:g}")
    return Session(plan=plan, configuration=name, blueprint=blueprint, forecast=costs, given_up=tuple(lost))


def _memory(gpu: str) -> float | None:
    """The budget in GB, never above the default; None where there is no GPU to fit."""
    default = Budget().gpu_memory_gb
    if gpu != "measured":
        return min(default, FREE * DEVICES[gpu].memory_gb)
    if not torch.cuda.is_available():
        return None
    return min(default, FREE * torch.cuda.get_device_properties(0).total_memory / 1e9)
