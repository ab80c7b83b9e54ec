"""Runs nnU-Net's own planners; started by planning.py in nnU-Net's environment, never imported.

Reads lines of JSON ``{"id", "fingerprint", "dataset", "planner", "memory"}`` and writes for each a line
``{"id", "planner", "seconds", "plan" | "error"}``.
"""

import contextlib
import io
import json
import os
import sys
import tempfile
import time
from pathlib import Path

NAME = "Dataset001_Benchmark"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("raw", "preprocessed", "results"):
            os.environ[f"nnUNet_{kind}"] = str(Path(folder) / kind)
            (Path(folder) / kind / NAME / "imagesTr").mkdir(parents=True)
        planners = load_planners()
        for line in sys.stdin:
            job = json.loads(line)
            print(json.dumps(run(job, planners[job["planner"]], Path(folder))), flush=True)


def load_planners() -> dict:
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
    from nnunetv2.experiment_planning.experiment_planners.residual_unets import (
        residual_encoder_unet_planners as residual,
    )
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    ExperimentPlanner.determine_reader_writer = lambda self: SimpleITKIO  # there are no images to try
    names = ("nnUNetPlannerResEncM", "nnUNetPlannerResEncL", "nnUNetPlannerResEncXL")
    return {"ExperimentPlanner": ExperimentPlanner} | {name: getattr(residual, name) for name in names}


def run(job: dict, planner: type, folder: Path) -> dict:
    (folder / "raw" / NAME / "dataset.json").write_text(json.dumps(job["dataset"]))
    (folder / "preprocessed" / NAME / "dataset_fingerprint.json").write_text(json.dumps(job["fingerprint"]))
    for old in (folder / "preprocessed" / NAME).glob("*Plans.json"):
        old.unlink()  # nnU-Net would keep configurations of an earlier plan
    memory = {} if job["memory"] is None else {"gpu_memory_target_in_gb": job["memory"]}
    answer = {"id": job["id"], "planner": job["planner"]}
    start = time.perf_counter()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            plan = planner(1, **memory).plan_experiment()
    except Exception as error:  # noqa: BLE001  whatever nnU-Net says is part of the comparison
        return answer | {"seconds": time.perf_counter() - start, "error": f"{type(error).__name__}: {error}"}
    return answer | {"seconds": time.perf_counter() - start, "plan": plan}


if __name__ == "__main__":
    main()
