"""Preprocessing and five folds of training on one and on two dask workers, and what a killed worker costs.

    python benchmarks/scaling.py ../shared/data/Task04_Hippocampus

Each worker is a process of one thread. Training is so many iterations a fold, whatever they take. The killed worker is
killed two seconds into its first training; dask starts another, and the fold goes on from its last checkpoint, or from
the beginning where there is none yet.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import threading
import time

from distributed import Client, LocalCluster
from table import row

import autoseg


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--iterations", type=int, default=20, help="of each of the five folds (%(default)s)")
    options = parser.parse_args()
    dataset = autoseg.open_dataset(options.data)
    plan = autoseg.make_plan(autoseg.extract_fingerprint(dataset, show_progress=False))
    few = autoseg.Blueprint.quick(minutes=1).changed(
        epochs=1, minutes=None, iterations_per_epoch=options.iterations, validation_iterations=1, validation_cases=0
    )
    seconds = {workers: run(dataset, plan, few, workers) for workers in (1, 2)}
    killed = run(dataset, plan, few, 2, kill=True)
    for number, stage in enumerate(("preprocessing", "five folds")):
        one, two = (seconds[workers][number] for workers in (1, 2))
        print(f"{stage}: {one:.1f} s with one worker, {two:.1f} s with two: efficiency {one / two / 2:.0%}")
        row(f"{stage} on 2 dask workers instead of 1", autoseg=f"{two:.1f} s instead of {one:.1f} s")
    print(f"five folds with a worker killed: {killed[1]:.1f} s, {killed[1] - seconds[2][1]:+.1f} s")
    row("five folds on 2 workers, one of them killed", autoseg=f"{killed[1]:.1f} s")


def run(
    dataset: autoseg.Dataset, plan: autoseg.Plan, blueprint: autoseg.Blueprint, workers: int, *, kill: bool = False
) -> tuple[float, float]:
    """Seconds of preprocessing, and of training and judging five folds."""
    options = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
    with tempfile.TemporaryDirectory() as folder, LocalCluster(**options) as cluster, Client(cluster) as client:
        client.run(warm_up)
        started = time.perf_counter()
        autoseg.preprocess(dataset, plan["3d_fullres"], folder=folder, client=client, show_progress=False)
        prepared = time.perf_counter()
        if kill:
            threading.Thread(target=kill_one, args=(client,), daemon=True).start()
        autoseg.cross_validate(
            dataset, plan, ["3d_fullres"], blueprint=blueprint, folder=folder, client=client, show_progress=False
        )
        return prepared - started, time.perf_counter() - prepared


def warm_up() -> None:
    """Imports, once a worker, before the clock starts."""
    import torch

    import autoseg.evaluation.selection  # noqa: F401

    torch.set_num_threads(1)


def kill_one(client: Client) -> None:
    """Kill the first worker that trains, two seconds after it began."""
    while True:
        for worker, keys in client.processing().items():
            if any("train-" in str(key) for key in keys):
                time.sleep(2)
                os.kill(client.run(os.getpid, workers=[worker])[worker], signal.SIGKILL)
                return
        time.sleep(0.05)


if __name__ == "__main__":
    main()
