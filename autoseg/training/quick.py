"""The quick recipe: what it does otherwise than the published one, and why. Its numbers were measured without a GPU."""

from __future__ import annotations

import math
from typing import Any

import torch

ON_GPU = 20  # times as fast: a guess, not a measurement
QUICK: dict[str, Any] = {
    "name": "quick",
    "iterations_per_epoch": 40,
    "validation_iterations": 8,
    "batch_voxels": 360_000,
    "optimizer": "adamw",
    "learning_rate": 3e-3,
    "schedule": "one_cycle",
    "momentum": 0.9,
    "weight_decay": 1e-2,
    "weight_averaging": 0.98,
    "deep_supervision": False,
    "mirroring": False,
}
DIFFERENT = {
    "epochs": "time is what is given",
    "minutes": "the budget you gave; the learning rate reaches zero at its end",
    "iterations_per_epoch": "shorter epochs, so that the curve says something within minutes",
    "batch_voxels": "batches of about 360,000 voxels: when time is short, more steps gain more than larger batches",
    "patch_voxels": "in minutes, small patches learn more than few steps on large ones; the more time, the larger",
    "wide_patch_voxels": "16 features make a step three times faster than 32, and 8 twice as fast again; in "
    "minutes steps win over width, so that patches in 3D above this size get 8",
    "optimizer": "AdamW needs no warm-up of its momentum and finds a good region in far fewer steps",
    "learning_rate": "as high as AdamW stays stable with instance normalization",
    "schedule": "a short warm-up, then down to zero as the time runs out",
    "momentum": "AdamW's usual value; 0.99 would need hundreds of steps to fill",
    "weight_decay": "decoupled weight decay is scaled by the learning rate, so its number is larger",
    "weight_averaging": "a running mean of the weights: free, and steadier than the last step",
    "deep_supervision": "it costs time in every step and gains little in short runs",
    "mirroring": "mirrored anatomy is one more thing to learn, which does not pay in minutes; predicting is faster too",
}


def quick_speed() -> int:
    """How many times as fast as on a processor this machine is taken to train."""
    return ON_GPU if torch.cuda.is_available() else 1


def quick_sizes(minutes: float, speed: int = 1) -> dict[str, int]:
    """How large a patch the quick recipe cuts, and how large it may be for the wider of its networks.

    80x80x80 voxels up to five minutes on a processor, four times the time for twice that. In five minutes on one core
    thick slices reached a Dice of 0.88 with it and 8 features, and 0.73 with 64x64x64 and 16; patches of 90,000 voxels
    0.872 with 8 and 0.876 with 16, so that the limit of the wider network lies between.

    >>> quick_sizes(5), quick_sizes(20)
    ({'patch_voxels': 512000, 'wide_patch_voxels': 200000}, {'patch_voxels': 1024000, 'wide_patch_voxels': 800000})
    """
    time = max(speed * minutes, 5.0) / 5.0
    return {"patch_voxels": round(80**3 * math.sqrt(time)), "wide_patch_voxels": round(200_000 * time)}
