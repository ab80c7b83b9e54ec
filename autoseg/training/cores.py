"""How many cores a container may use: torch counts those of the machine, and threads beyond a quota only wait."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from autoseg.core.types import PathLike


def container_cores(cgroup: PathLike = "/sys/fs/cgroup") -> float:
    """The processor quota of this container, as on Binder or under Docker's ``--cpus``; infinite where there is none.

    Source: Linux's ``cpu.max`` (control groups v2), and ``cpu.cfs_quota_us`` with its period (v1).
    """
    root = Path(cgroup)
    try:
        quota, period = (root / "cpu.max").read_text().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        allowed, each = (int((root / "cpu" / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return allowed / each if allowed > 0 else math.inf
    except (OSError, ValueError):
        return math.inf


def keep_to_quota(cgroup: PathLike = "/sys/fs/cgroup") -> str:
    """Give torch no more threads than the container has cores; what was changed, in words, or nothing."""
    cores, threads = container_cores(cgroup), torch.get_num_threads()
    if threads <= max(cores, 1):
        return ""
    torch.set_num_threads(max(int(cores), 1))
    return f"; {torch.get_num_threads()} threads instead of {threads}, because this container may use {cores:.3g} cores"
