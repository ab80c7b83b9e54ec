"""Training in several processes, one a GPU: started from a notebook, or joined where torchrun started them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from autoseg.core.errors import TrainingError
from autoseg.training.team import Team


def launch(member: Callable[[], Any], gpus: int, *, cpu: bool = False) -> None:
    """Run a function in `gpus` processes that know each other, each on a GPU of its own; with `cpu` on none.

    Source: accelerate's ``notebook_launcher``. Raises `TrainingError` where there are fewer GPUs, or accelerate is not
    installed.
    """
    try:
        from accelerate import debug_launcher, notebook_launcher
    except ImportError as error:
        raise TrainingError("gpus= needs accelerate. Install it: pip install 'autoseg[scale]'.") from error
    if cpu:
        debug_launcher(_joined(member, cpu=True), num_processes=gpus)
        return
    there = torch.cuda.device_count()
    if there < gpus:
        raise TrainingError(f"{gpus} GPUs were asked for, and {there} are there. Pass gpus={there}, or leave it out.")
    notebook_launcher(_joined(member, cpu=False), num_processes=gpus)


def _joined(member: Callable[[], Any], *, cpu: bool) -> Callable[[], None]:
    def run() -> None:
        join(cpu=cpu)
        member()

    return run


def join(*, cpu: bool = False) -> Team:
    """Join the processes that accelerate or torchrun started together with this one; the team of them."""
    from accelerate import PartialState

    state = PartialState(cpu=cpu)
    if state.device.type == "cpu":
        torch.set_num_threads(max(1, torch.get_num_threads() // state.num_processes))
    return Team.current()


def join_launched() -> Team:
    """Join where torchrun or ``accelerate launch`` started this process; else it is alone."""
    return join() if torch.distributed.is_torchelastic_launched() else Team()
