"""What a configuration will cost before it is run: GPU memory, RAM, disk, and the time of an epoch.

Memory, RAM and disk are arithmetic. Time is measured where a probe of real steps is given, and else estimated from the
number of multiplications and what a device does in a second; the forecast says which. That estimate's two constants fit
what nnU-Net's documentation publishes: 10 s for 250 batches of 366 slices of hippocampi (benchmarking.md) and 9, 12,
35 and 66 hours for 1000 epochs of its presets (resenc_presets.md), all on an A100; and 75 to 99 s for an epoch of
3d_fullres on a V100 (expected_epoch_times.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from autoseg.core.errors import PlanError, did_you_mean
from autoseg.core.kinds import require
from autoseg.core.numbers import duration, is_number, is_positive
from autoseg.core.shown import Shown
from autoseg.core.types import Shape
from autoseg.planning.configuration import Configuration, NetworkSpec
from autoseg.planning.memory import MemoryModel
from autoseg.planning.plan import Plan

Probe = Callable[[Configuration], float]  # seconds of one training step, measured on this machine
USED = 0.18  # of a device's published peak
FLOOR = 0.025  # seconds that a step takes however little there is to compute: to launch kernels, and to bring data
OFF = "a rough estimate, often off by a factor of two"
ITERATIONS = 250  # of an epoch in nnU-Net's recipe
VALIDATION = 50 / 3  # its validation batches, a forward pass each, in units of training steps
RUNTIME_GB = 1.5  # Python, torch and its libraries


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU by its published figures: memory, and half-precision multiplications in 10^12 a second."""

    memory_gb: float
    teraflops: float


DEVICES = {
    "T4": Device(16, 65),
    "P100": Device(16, 19),
    "V100": Device(16, 125),
    "L4": Device(24, 121),
    "RTX 3090": Device(24, 71),
    "RTX 4090": Device(24, 165),
    "A100": Device(40, 312),
    "H100": Device(80, 990),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast(Shown):
    """What one configuration costs. `epoch_seconds` is None where nothing tells how fast the machine is."""

    configuration: str
    gpu_memory_gb: float
    ram_gb: float
    disk_gb: float
    step_seconds: float | None
    epoch_seconds: float | None
    measured: tuple[str, ...]
    estimated: tuple[str, ...]

    @property
    def rough(self) -> bool:
        """Whether the time is an estimate."""
        return "time" in self.estimated

    def __repr__(self) -> str:
        time = "unknown: give a probe or a gpu" if self.epoch_seconds is None else duration(self.epoch_seconds)
        time += f", {OFF}" if self.rough else ""
        return (
            f"Forecast({self.configuration!r}: {self.gpu_memory_gb:.2g} GB of GPU memory, {self.ram_gb:.2g} GB of RAM, "
            f"{self.disk_gb:.2g} GB of disk)\n  an epoch: {time}\n"
            f"  measured: {', '.join(self.measured) or 'nothing'}\n  estimated: {', '.join(self.estimated)}"
        )


def forecast(
    plan: Plan, name: str = "3d_fullres", *, gpu: str | None = None, probe: Probe | None = None, steps: int = ITERATIONS
) -> Forecast:
    """What training a configuration of a plan will cost.

    Args:
        name: the configuration.
        gpu: estimate times for this device, such as ``"T4"``.
        probe: measures the seconds of a training step here; `autoseg.probe_steps` does.
        steps: training steps of an epoch; the published recipe has 250, and 50 batches of validation.

    Raises `PlanError` for an unknown device, and a probe that measures nothing.

    >>> import autoseg
    >>> plan = autoseg.make_plan(autoseg.extract_fingerprint(autoseg.sample_dataset(), show_progress=False))
    >>> forecast(plan, gpu="T4").estimated
    ('GPU memory', 'RAM', 'disk', 'time')
    """
    require(plan, Plan, PlanError, "forecast(plan, '2d')")
    if not (is_number(steps) and 1 <= steps < math.inf):
        raise PlanError(f"an epoch of {steps!r} steps; it must have 1 or more.")
    if probe is not None and not callable(probe):
        raise PlanError(f"the probe is {probe!r}; it must be a function of a configuration, such as probe_steps.")
    configuration = plan[name]
    data = dataset_bytes(plan, configuration) / 1e9
    seconds = probe(configuration) if probe else None if gpu is None else estimated_step_seconds(configuration, gpu)
    if probe and not is_positive(seconds):
        raise PlanError(f"the probe measured {seconds!r} seconds of a step; it must return a positive number.")
    facts = ("GPU memory", "RAM", "disk")
    return Forecast(
        configuration=name,
        gpu_memory_gb=gpu_memory(plan, configuration),
        ram_gb=RUNTIME_GB + min(data, 4.0) + largest_case_bytes(plan, configuration) / 1e9,
        disk_gb=data,
        step_seconds=seconds,
        epoch_seconds=None if seconds is None else seconds * (steps + VALIDATION * steps / ITERATIONS),
        measured=("time",) if probe else (),
        estimated=facts if probe or seconds is None else (*facts, "time"),
    )


def gpu_memory(plan: Plan, configuration: Configuration) -> float:
    """GPU memory of training in GB, by nnU-Net's reference."""
    memory = MemoryModel(plan.budget, plan.fingerprint.labels.declared)
    elements = memory.elements_of(configuration.network, configuration.patch_size)
    return memory.gigabytes(elements, configuration.dimensions, configuration.batch_size)


def _resampled_voxels(plan: Plan, configuration: Configuration) -> np.ndarray:
    """Voxels of each case on the configuration's grid."""
    order = list(configuration.axis_order)
    extent = plan.fingerprint.shapes[:, order] * plan.fingerprint.spacings[:, order]
    target = np.array(configuration.spacing)
    if len(target) == 2:  # slices are kept
        within: np.ndarray = plan.fingerprint.shapes[:, order[0]] * np.prod(extent[:, 1:] / target, axis=1)
        return within
    resampled: np.ndarray = np.prod(extent / target, axis=1)
    return resampled


def dataset_bytes(plan: Plan, configuration: Configuration) -> float:
    """Bytes of the preprocessed dataset before compression: float32 a channel and int16 for the label map."""
    return float(_resampled_voxels(plan, configuration).sum()) * (4 * len(configuration.channels) + 2)


def largest_case_bytes(plan: Plan, configuration: Configuration) -> float:
    """Bytes that preprocessing the largest case holds at once: the image before and after, and a working copy."""
    return float(_resampled_voxels(plan, configuration).max()) * 4 * len(configuration.channels) * 3


def estimated_step_seconds(configuration: Configuration, gpu: str) -> float:
    """Seconds of a training step on a device: forward and twice as much backward, at a share of its peak."""
    if gpu not in DEVICES:
        raise PlanError(f"no figures of a GPU {gpu!r}. {did_you_mean(gpu, DEVICES)} Or give a probe, which measures.")
    operations = 3 * configuration.batch_size * forward_operations(configuration.network, configuration.patch_size)
    return FLOOR + operations / (DEVICES[gpu].teraflops * 1e12 * USED)


def forward_operations(network: NetworkSpec, patch_size: Shape) -> float:
    """Multiplications and additions of one forward pass of one patch, the convolutions' alone."""
    size, total, incoming = patch_size, 0.0, network.in_channels
    for i, (stride, width, kernel) in enumerate(
        zip(network.strides, network.features, network.kernel_sizes, strict=True)
    ):
        size = tuple(s // f for s, f in zip(size, stride, strict=True))
        voxels, taps = math.prod(size), math.prod(kernel)
        convolutions = network.encoder_blocks[i] * (2 if network.kind == "residual" else 1)
        total += voxels * taps * width * (incoming + (convolutions - 1) * width)
        if i < len(network.decoder_blocks):  # the first takes skip and upsampled maps, twice the width
            total += voxels * taps * width * width * (1 + network.decoder_blocks[i])
        incoming = width
    return 2 * total
