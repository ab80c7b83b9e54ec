"""Trains nnU-Net for so many minutes and judges it; started by accuracy.py in nnU-Net's environment, never imported.

    nnunet_accuracy.py '{"dataset": 4, "configuration": "2d", "fold": 0, "minutes": 5, "splits": [...]}'

Folders come from nnU-Net's own three environment variables. Planning, preprocessing and the validation of whole cases
do not count as time; all of the minutes are training steps, with nnU-Net's optimizer and its schedule over elapsed time
in the place of epochs. Prints one line of JSON: ``{"dice": ..., "iterations": ...}``.
"""

import json
import os
import sys
import time
from pathlib import Path

import torch

PLANS = "nnUNetPlans"


def main(task: dict) -> None:
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess
    from nnunetv2.paths import nnUNet_preprocessed
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.dataset_name_id_conversion import convert_id_to_dataset_name

    number, name = task["dataset"], task["configuration"]
    extract_fingerprints([number], num_processes=1, check_dataset_integrity=True, clean=False, verbose=False)
    plan_experiments([number])
    preprocess([number], PLANS, (name,), (1,), False)
    folder = Path(str(nnUNet_preprocessed)) / convert_id_to_dataset_name(number)
    (folder / "splits_final.json").write_text(json.dumps(task["splits"]))
    plans, facts = (json.loads((folder / f"{file}.json").read_text()) for file in (PLANS, "dataset"))
    trainer = nnUNetTrainer({**plans, "continue_training": False}, name, task["fold"], facts, torch.device("cpu"))
    trainer.on_train_start()
    iterations = train(trainer, 60 * task["minutes"])
    trainer.on_train_end()
    trainer.perform_actual_validation()
    summary = json.loads((Path(trainer.output_folder) / "validation" / "summary.json").read_text())
    print(json.dumps({"dice": summary["foreground_mean"]["Dice"], "iterations": iterations}))


def train(trainer, budget: float) -> int:
    """Steps until the time is over. The learning rate falls as nnU-Net's does, over time instead of epochs."""
    begun, iterations = time.perf_counter(), 0
    trainer.network.train()
    while (elapsed := time.perf_counter() - begun) < budget:
        for group in trainer.optimizer.param_groups:
            group["lr"] = trainer.initial_lr * (1 - elapsed / budget) ** 0.9
        trainer.train_step(next(trainer.dataloader_train))
        iterations += 1
    return iterations


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    main(json.loads(sys.argv[1]))
