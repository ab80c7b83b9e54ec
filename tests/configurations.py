"""Configurations by hand, for tests that need no planner."""

from __future__ import annotations

from autoseg.data.labels import Labels
from autoseg.data.normalization import ZScore
from autoseg.planning.configuration import AugmentationSettings, Configuration, NetworkSpec, Resampling

LABELS = Labels({"background": 0, "anterior": 1, "posterior": 2})


def configuration(labels=LABELS, spacing=(1.0, 1.0, 1.0), **changes):
    """A configuration with as many axes as the spacing has, for one z-scored channel."""
    axes = len(spacing)
    values = {
        "name": "2d" if axes == 2 else "3d_fullres",
        "dataset_name": "by hand",
        "channels": ("MRI",),
        "labels": labels,
        "axis_order": (0, 1, 2),
        "spacing": tuple(spacing),
        "median_shape": (16.0,) * axes,
        "patch_size": (16,) * axes,
        "batch_size": 2,
        "network": NetworkSpec(
            in_channels=1,
            classes=labels.outputs,
            features=(8, 16),
            kernel_sizes=((3,) * axes,) * 2,
            strides=((1,) * axes, (2,) * axes),
            encoder_blocks=(2, 2),
            decoder_blocks=(2,),
        ),
        "normalization": (ZScore(),),
        "mask_background": (False,),
        "resampling": Resampling(),
        "augmentation": AugmentationSettings(
            rotation_degrees=30.0, dummy_2d=False, mirror_axes=tuple(range(axes)), initial_patch_size=(20,) * axes
        ),
        "batch_dice": False,
    }
    return Configuration(**{**values, **changes})
