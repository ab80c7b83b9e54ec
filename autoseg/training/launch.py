"""Training in several processes, one a GPU: started from a notebook, or joined where torchrun started them."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from autoseg.core import errors
from autoseg.core.errors import AutosegError, TrainingError, warn
from autoseg.core.serialization import read_json, write_json
from autoseg.training.team import Team

PATIENCE = 5.0  # seconds that a process has to end
LETTING_GO = 0.2  # seconds in which gloo's threads free what was last sent; an interpreter that has gone aborts them


def launch(member: Callable[[], Any], gpus: int, *, cpu: bool = False) -> None:
    """Run a function in `gpus` processes that know each other, each on a GPU of its own; with `cpu` on none.

    Source: accelerate's ``notebook_launcher``. Raises the error of ours that a process ended in, and `TrainingError`
    where there are fewer GPUs, a process was killed, or accelerate is not installed. Interrupted, it returns when all
    have saved what they learned.
    """
    try:
        from accelerate import debug_launcher, notebook_launcher
    except ImportError as error:
        raise TrainingError("gpus= needs accelerate. Install it: pip install accelerate") from error
    there = torch.cuda.device_count()
    if not cpu and there < gpus:
        raise TrainingError(f"{gpus} GPUs were asked for, and {there} are there. Pass gpus={there}, or leave it out.")
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.multiprocessing.spawn import ProcessException

    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "error.json"
        try:
            (debug_launcher if cpu else notebook_launcher)(_joined(member, told, cpu=cpu), num_processes=gpus)
        except (KeyboardInterrupt, SignalException):  # the second is what torch makes of the first
            _wait_for(multiprocessing.active_children())
            warn("training was interrupted. What was learned is kept: the same call goes on.")
        except (ProcessException, ChildFailedError, RuntimeError) as error:
            if told.exists():
                name, sentence = read_json(told)
                raise getattr(errors, name, TrainingError)(sentence) from error
            if "SIGKILL" not in str(error):
                raise  # an error that is not ours, with the traceback of the process
            raise TrainingError(
                f"one of the {gpus} processes was killed, perhaps because the memory is full. What was learned is in "
                "the run's folder: the same call goes on from its last checkpoint."
            ) from error


def _wait_for(processes: Sequence[multiprocessing.process.BaseProcess]) -> None:
    """Let processes save and end. A notebook or Ctrl-C interrupts them too; where only this one was, they are told."""
    for tell, seconds in ((None, PATIENCE), (signal.SIGINT, 10 * PATIENCE), (signal.SIGTERM, PATIENCE)):
        ends, alive = time.monotonic() + seconds, [p for p in processes if p.is_alive()]
        for process in alive:
            if tell is not None and process.pid is not None:
                os.kill(process.pid, tell)
        for process in alive:
            process.join(max(0.0, ends - time.monotonic()))


def _joined(member: Callable[[], Any], told: Path, *, cpu: bool) -> Callable[[], None]:
    """The function after joining the others; where it ends in an error of ours, that is told in a file."""

    def run() -> None:
        join(cpu=cpu)
        try:
            member()
        except AutosegError as error:
            write_json(told, [type(error).__name__, str(error)])
            raise

    return run


def join(*, cpu: bool = False) -> Team:
    """Join the processes that accelerate or torchrun started together with this one; the team of them."""
    from accelerate import PartialState

    atexit.register(time.sleep, LETTING_GO)
    state = PartialState(cpu=cpu)
    if state.device.type == "cpu":
        torch.set_num_threads(max(1, torch.get_num_threads() // state.num_processes))
    return Team.current()


def join_launched() -> Team:
    """Join where torchrun or ``accelerate launch`` started this process; else it is alone."""
    return join() if torch.distributed.is_torchelastic_launched() else Team()
