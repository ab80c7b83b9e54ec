"""What predicting one case will hold in memory at once, before anything is computed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from autoseg.data.geometry import Grid
from autoseg.planning.configuration import Configuration
from autoseg.planning.memory import stage_elements
from autoseg.prediction.sliding_window import tiles_at_once
from autoseg.preprocessing.cases import target_spacing
from autoseg.preprocessing.resampling import new_shape

FLOAT = 4  # bytes
AT_ONCE = 2  # feature maps of the widest stage that a forward pass holds: skips, and what is being computed
SOFTMAX = 2.5  # times the probabilities, while they are computed
MEMORY = Path("/proc/meminfo")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryForecast:
    """GB that the largest step of predicting one case holds, on top of what is held already.

    `free_gb` is what the machine has left, None where it does not say.
    """

    case: str
    scan_gb: float
    logits_gb: float
    network_gb: float
    probabilities_gb: float
    free_gb: float | None

    @property
    def needed_gb(self) -> float:
        """Scan, logits, and the larger of what the network and the export need: they do not run at once."""
        return self.scan_gb + self.logits_gb + max(self.network_gb, self.probabilities_gb)

    @property
    def fits(self) -> bool:
        """Whether that is free, as far as is known."""
        return self.free_gb is None or self.needed_gb <= self.free_gb

    @property
    def hopeless(self) -> bool:
        """Whether not even the logits fit."""
        return self.free_gb is not None and self.logits_gb > self.free_gb

    def advice(self) -> str:
        """What is wrong, with the numbers, and what to do."""
        less = "leave probabilities=True out, " if self.probabilities_gb else ""
        return (
            f"case {self.case!r} needs about {self.needed_gb:.2g} GB of memory, {self.logits_gb:.2g} GB of it for the "
            f"logits, and {self.free_gb or 0:.2g} GB are free. "
            + ("That cannot work: " if self.hopeless else "It may be very slow, or stopped by the system: ")
            + f"{less}close other programs, cut the scan to the region of interest, or predict with 3d_lowres."
        )


def forecast_memory(
    case: str, grid: Grid, configuration: Configuration, *, models: int = 1, probabilities: bool = False
) -> MemoryForecast:
    """What predicting a scan on this grid holds at once; the crop to what is not zero can only make it less.

    >>> from autoseg.planning.plan import Plan
    >>> import autoseg
    >>> plan = autoseg.make_plan(autoseg.extract_fingerprint(autoseg.sample_dataset(), show_progress=False))
    >>> forecast_memory("scan", Grid.of((256, 256, 200)), plan["3d_fullres"]).logits_gb > 0.1
    True
    """
    before = grid.as_3d().transpose(configuration.axis_order)
    resampled = math.prod(new_shape(before.shape, before.spacing, target_spacing(before.spacing, configuration)))
    network, voxels = configuration.network, math.prod(before.shape)
    widest = max(
        stage_elements(
            configuration.patch_size,
            network.strides,
            network.features,
            encoder_blocks=(1,) * network.stages,
            decoder_blocks=(1,) * (network.stages - 1),
            residual=False,
        )
    )
    tiles = tiles_at_once(configuration.patch_size, torch.device("cpu"))
    channels, outputs = len(configuration.channels), configuration.labels.outputs
    return MemoryForecast(
        case=case,
        scan_gb=FLOAT * channels * (2 * voxels + 2 * resampled) / 1e9,
        logits_gb=FLOAT * outputs * resampled * min(models, 2) / 1e9,
        network_gb=FLOAT * AT_ONCE * tiles * widest / 1e9,
        probabilities_gb=SOFTMAX * FLOAT * outputs * voxels / 1e9 if probabilities else 0.0,
        free_gb=free_memory_gb(),
    )


def free_memory_gb() -> float | None:
    """What this machine can still give to a program, disk included, by its kernel; None where it does not tell."""
    if not MEMORY.exists():
        return None
    lines = dict(line.split(":", 1) for line in MEMORY.read_text().splitlines() if ":" in line)
    there = [lines[name].split()[0] for name in ("MemAvailable", "SwapFree") if name in lines]
    return sum(map(int, there)) * 1024 / 1e9 if there else None
