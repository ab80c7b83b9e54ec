"""Trainings of seconds, for tests: cases with a bright box in noise, a network of a few features."""

from __future__ import annotations

import numpy as np
import torch

from autoseg.data.geometry import Grid
from autoseg.data.images import Image, LabelMap
from autoseg.data.labels import Labels
from autoseg.data.normalization import ZScore
from autoseg.data.splits import make_splits
from autoseg.planning.configuration import AugmentationSettings, Configuration, NetworkSpec, Resampling
from autoseg.preprocessing.cases import preprocess_case
from autoseg.preprocessing.store import Entry, PreprocessedDataset
from autoseg.training.blueprint import Blueprint
from autoseg.training.model import TrainedModel

BOXES = Labels({"background": 0, "box": 1})


def configuration(labels=BOXES, dimensions=3, **changes):
    threes, ones, twos = (3,) * dimensions, (1,) * dimensions, (2,) * dimensions
    values = {
        "name": "3d_fullres" if dimensions == 3 else "2d",
        "dataset_name": "Boxes",
        "channels": ("MRI",),
        "labels": labels,
        "axis_order": (0, 1, 2),
        "spacing": (1.0,) * dimensions,
        "median_shape": (12.0,) * dimensions,
        "patch_size": (8,) * dimensions,
        "batch_size": 2,
        "network": NetworkSpec(
            in_channels=1,
            classes=labels.outputs,
            features=(4, 8),
            kernel_sizes=(threes, threes),
            strides=(ones, twos),
            encoder_blocks=(1, 1),
            decoder_blocks=(1,),
        ),
        "normalization": (ZScore(),),
        "mask_background": (False,),
        "resampling": Resampling(),
        "augmentation": AugmentationSettings(
            rotation_degrees=30,
            dummy_2d=False,
            mirror_axes=tuple(range(dimensions)),
            initial_patch_size=(10,) * dimensions,
        ),
        "batch_dice": False,
    }
    return Configuration(**{**values, **changes})


def boxes(config=None, count=6, values=(1,)):
    """Cases with a bright box in noise: what any network learns in seconds."""
    config, random, memory = config or configuration(), np.random.RandomState(0), {}
    for number in range(count):
        array = random.normal(size=(12, 12, 12)).astype(np.float32)
        label = np.zeros((12, 12, 12), np.uint8)
        corner = random.randint(1, 6, 3)
        for value in values:
            where = tuple(slice(c, c + 6 - value) for c in corner)
            label[where] = value
            array[where] += 4
        grid, name = Grid.of(array.shape), f"case_{number}"
        image = Image(array[None], grid, ("MRI",))
        memory[name] = preprocess_case(name, image, LabelMap(label, grid, config.labels), config)
    return PreprocessedDataset(
        folder=None,
        configuration=config,
        entries={name: Entry(name, case.geometry.shape) for name, case in memory.items()},
        splits=make_splits(list(memory)),
        memory=memory,
    )


def short(epochs=2, **changes):
    values = {
        "iterations_per_epoch": 3,
        "validation_iterations": 2,
        "batch_size": 2,
        "base_features": 4,
        "precision": "float32",
    }
    return Blueprint.quick(minutes=1).changed(**{"epochs": epochs, "minutes": None, **values, **changes})


def same(first: TrainedModel, second: TrainedModel) -> bool:
    return all(torch.equal(w, second.weights[name]) for name, w in first.weights.items())
