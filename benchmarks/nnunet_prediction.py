"""Predicts with nnU-Net itself; started by prediction.py in nnU-Net's environment, never imported.

    nnunet_prediction.py MODEL IMAGES OUTPUT [--no-mirroring]

Prints the seconds of preprocessing, prediction and export together, without those of loading: by the clock, and by the
processor.
"""

import json
import os
import sys
import time
from pathlib import Path

import torch


def main(model: str, images: str, target: str, *flags: str) -> None:
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    quiet = {"verbose": False, "verbose_preprocessing": False, "allow_tqdm": False}
    predictor = nnUNetPredictor(device=torch.device("cpu"), use_mirroring="--no-mirroring" not in flags, **quiet)
    predictor.initialize_from_trained_model_folder(model, None, "checkpoint_final.pth")
    Path(target).mkdir(parents=True, exist_ok=True)
    begun, computed = time.perf_counter(), time.process_time()
    predictor.predict_from_files_sequential(images, target, save_probabilities=False, overwrite=True)
    print(json.dumps([time.perf_counter() - begun, time.process_time() - computed]))


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    main(*sys.argv[1:])
