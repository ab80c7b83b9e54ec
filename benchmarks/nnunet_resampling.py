"""Runs nnU-Net's own resampling; started by preprocessing.py in nnU-Net's environment, never imported.

    nnunet_resampling.py KIND SHAPE FOLDER REPEATS

Reads ``input.npy``, writes ``output.npy`` and prints ``{"seconds": [...]}``.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape

OPTIONS = {
    "image": {"is_seg": False, "order": 3, "force_separate_z": None},
    "labels": {"is_seg": True, "order": 1, "force_separate_z": None},
    "probabilities": {"is_seg": False, "order": 1, "force_separate_z": None},
}

if __name__ == "__main__":
    kind, shape, folder = sys.argv[1], json.loads(sys.argv[2]), Path(sys.argv[3])
    array = np.load(folder / "input.npy")
    seconds = []
    for _ in range(int(sys.argv[4])):
        begun = time.perf_counter()
        result = resample_data_or_seg_to_shape(array, shape, (1, 1, 1), (1, 1, 1), **OPTIONS[kind])
        seconds.append(time.perf_counter() - begun)
    np.save(folder / "output.npy", result)
    print(json.dumps({"seconds": seconds}))
