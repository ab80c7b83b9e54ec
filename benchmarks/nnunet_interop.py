"""Trains and predicts with nnU-Net itself; started by interop.py in nnU-Net's environment, never imported.

    nnunet_interop.py train ID PLANNER '{"configuration": "2d", "iterations": 5, "settings": {}, "network": {}}'
    nnunet_interop.py install MODEL.zip
    nnunet_interop.py logits MODEL INPUT.npy OUTPUT.npy
    nnunet_interop.py predict MODEL IMAGES OUTPUT

Folders come from nnU-Net's own three environment variables. `train` plans, preprocesses and runs nnUNetTrainer for one
short epoch, with AdamW, because momentum of 0.99 predicts only background by then; `settings` and `network` replace
values of the configuration and of its network.
"""

import json
import os
import sys
from pathlib import Path

import torch

PLANS = {"ExperimentPlanner": "nnUNetPlans", "nnUNetPlannerResEncM": "nnUNetResEncUNetMPlans"}
RATE = 3e-3


def train(number: str, planner: str, options: str) -> None:
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess
    from nnunetv2.paths import nnUNet_preprocessed
    from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.dataset_name_id_conversion import convert_id_to_dataset_name

    wanted = json.loads(options)
    name = wanted["configuration"]
    extract_fingerprints([int(number)], num_processes=1, check_dataset_integrity=True, clean=False, verbose=False)
    plan_experiments([int(number)], planner)
    folder = Path(str(nnUNet_preprocessed)) / convert_id_to_dataset_name(int(number))
    path = folder / f"{PLANS[planner]}.json"
    plans = json.loads(path.read_text())
    plans["configurations"][name] |= wanted["settings"]
    plans["configurations"][name]["architecture"]["arch_kwargs"] |= wanted["network"]
    path.write_text(json.dumps(plans))
    preprocess([int(number)], PLANS[planner], (name,), (1,), False)
    os.environ |= {"nnUNet_n_proc_DA": "0"}
    facts = json.loads((folder / "dataset.json").read_text())
    trainer = nnUNetTrainer({**plans, "continue_training": False}, name, 0, facts, torch.device("cpu"))
    trainer.num_epochs, trainer.num_val_iterations_per_epoch = 1, 1
    trainer.num_iterations_per_epoch = wanted["iterations"]
    trainer.initialize()
    trainer.optimizer = torch.optim.AdamW(trainer.network.parameters(), RATE)
    trainer.lr_scheduler = PolyLRScheduler(trainer.optimizer, RATE, trainer.num_epochs)
    trainer.run_training()
    print(json.dumps({"model": str(trainer.output_folder_base)}))


def install(archive: str) -> None:
    from nnunetv2.model_sharing.model_import import install_model_from_zip_file

    install_model_from_zip_file(archive)


def predictor(model: str):
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    loaded = nnUNetPredictor(device=torch.device("cpu"), verbose=False, verbose_preprocessing=False, allow_tqdm=False)
    loaded.initialize_from_trained_model_folder(model, None, "checkpoint_final.pth")
    return loaded


@torch.inference_mode()
def logits(model: str, source: str, target: str) -> None:
    import numpy as np

    np.save(target, predictor(model).network.eval()(torch.from_numpy(np.load(source))).numpy())


def predict(model: str, images: str, target: str) -> None:
    Path(target).mkdir(parents=True, exist_ok=True)
    predictor(model).predict_from_files_sequential(images, target, save_probabilities=False, overwrite=True)


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    {"train": train, "install": install, "logits": logits, "predict": predict}[sys.argv[1]](*sys.argv[2:])
