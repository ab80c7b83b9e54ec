"""Write interop/: tiny models as nnU-Net trains and keeps them, and what its own network and predictor say of a case.

Run in autoseg's environment, from the repository's root: python tests/golden/make_interop.py PYTHON_WITH_NNUNETV2
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

import autoseg
from autoseg.core.archives import write_archive
from autoseg.data.images import read_label_map

TARGET = Path(__file__).with_name("interop")
SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "nnunet_interop.py"
CASES, STEP = 6, 3
TINY = {"features_per_stage": [4, 4, 8]}
CUBE = {"n_stages": 3, "kernel_sizes": [[3, 3, 3]] * 3, "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]], **TINY}
SQUARE = {"n_stages": 3, "kernel_sizes": [[3, 3]] * 3, "strides": [[1, 1], [2, 2], [2, 2]]}
PLAIN, RESIDUAL = {"n_conv_per_stage": [1, 2, 1]}, {"n_blocks_per_stage": [1, 2, 1]}
DECODER = {"n_conv_per_stage_decoder": [1, 1]}
MODELS = {  # name: planner, configuration, patch, network
    "plain": ("ExperimentPlanner", "3d_fullres", [16, 16, 16], CUBE | PLAIN | DECODER),
    "residual": ("nnUNetPlannerResEncM", "3d_fullres", [16, 16, 16], CUBE | RESIDUAL | DECODER),
    "flat": ("ExperimentPlanner", "2d", [32, 32], SQUARE | PLAIN | DECODER | {"features_per_stage": [4, 8, 8]}),
}


def main(python: str) -> None:
    dataset = autoseg.sample_dataset()
    few = replace(dataset, training=dataset.training[:CASES], test=(), splits=())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {f"nnUNet_{kind}": str(folder / kind) for kind in ("raw", "preprocessed", "results")}
        for path in environment.values():
            Path(path).mkdir()

        def ask(*arguments) -> str:
            command = [python, str(SCRIPT), *map(str, arguments)]
            done = subprocess.run(
                command, env={**os.environ, **environment}, check=True, stdout=subprocess.PIPE, text=True
            )
            return done.stdout.splitlines()[-1]

        autoseg.export_nnunet_dataset(few, folder / "raw", number=7)
        case = dataset.test[0]
        (folder / "images").mkdir()
        (folder / "images" / f"{case.name}_0000.nii.gz").symlink_to(case.image_paths[0].resolve())
        for kind, (planner, configuration, patch, network) in MODELS.items():
            settings = {"patch_size": patch, "batch_size": 2, "spacing": [1.3] * len(patch)}
            options = {"configuration": configuration, "iterations": 300, "settings": settings, "network": network}
            model = Path(json.loads(ask("train", 7, planner, json.dumps(options)))["model"])
            np.save(folder / "patch.npy", patch_for(patch))
            ask("logits", model, folder / "patch.npy", folder / "logits.npy")
            ask("predict", model, folder / "images", folder / kind)
            keep(kind, model, folder, case)


def patch_for(shape) -> np.ndarray:
    return np.random.RandomState(0).normal(size=(1, 1, *shape)).astype(np.float32)


def keep(kind: str, model: Path, folder: Path, case) -> None:
    """The files of nnU-Net's own export, and the answers."""
    names = ("plans.json", "dataset.json", "dataset_fingerprint.json", "fold_0/checkpoint_final.pth")
    root = f"{model.parent.name}/{model.name}"
    write_archive(TARGET / f"{kind}.zip", {f"{root}/{name}": model / name for name in names}, compress=True)
    logits = np.load(folder / "logits.npy")
    label_map = read_label_map(folder / kind / f"{case.name}.nii.gz", case.labels).array
    every = (slice(None), slice(None), *[slice(None, None, STEP)] * (logits.ndim - 2))
    np.savez_compressed(TARGET / f"{kind}.npz", logits=logits[every], label_map=label_map)
    print(kind, np.bincount(label_map.ravel()), float(np.ptp(logits)))


if __name__ == "__main__":
    main(sys.argv[1])
