"""The plans that nnU-Net 2.8.1 wrote for 240 random fingerprints and four real datasets, value for value."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from autoseg.interop.nnunet_plans import fingerprint_from_nnunet
from autoseg.planning.budget import PRESETS, Budget
from autoseg.planning.configuration import Configuration
from autoseg.planning.plan import Plan
from autoseg.planning.planner import make_plan

PRESET_OF = {preset.planner: name for name, preset in PRESETS.items()}


def golden(reference: Path) -> list[dict[str, Any]]:
    with gzip.open(reference / "golden_plans.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


def as_golden(plan: Plan) -> dict[str, Any]:
    """Our plan under the keys of the golden file."""
    order = plan.configurations[0].axis_order
    spacing, shape = plan.trace["target_spacing"].inputs[0].value, plan.trace["target_spacing"].inputs[2].value
    return {
        "transpose_forward": list(order),
        "transpose_backward": [order.index(axis) for axis in range(3)],
        "original_median_spacing_after_transp": [spacing[a] for a in order],
        "original_median_shape_after_transp": [round(shape[a]) for a in order],
        "configurations": {c.name: configuration_as_golden(c) for c in plan},
    }


def configuration_as_golden(c: Configuration) -> dict[str, Any]:
    if c.previous_stage:
        return {"inherits_from": "3d_fullres", "previous_stage": c.previous_stage}
    schemes = {"ZScore": "ZScoreNormalization", "RescaleTo01": "RescaleTo01Normalization"}
    schemes |= {"RGBTo01": "RGBTo01Normalization"}
    values = {
        "batch_size": c.batch_size,
        "patch_size": list(c.patch_size),
        "median_image_size_in_voxels": list(c.median_shape),
        "spacing": list(c.spacing),
        "normalization_schemes": [schemes.get(type(n).__name__, type(n).__name__) for n in c.normalization],
        "use_mask_for_norm": list(c.mask_background),
        "batch_dice": c.batch_dice,
        "n_stages": c.network.stages,
        "features_per_stage": list(c.network.features),
        "kernel_sizes": [list(k) for k in c.network.kernel_sizes],
        "strides": [list(s) for s in c.network.strides],
        "n_conv": list(c.network.encoder_blocks),
        "n_conv_decoder": list(c.network.decoder_blocks),
    }
    return values | ({"next_stage": "3d_cascade_fullres"} if c.name == "3d_lowres" else {})


def differences(ours: Any, theirs: Any, where: str = "") -> list[str]:
    """Paths at which two JSON values differ: exact for integers, 1e-6 for floats, every key on both sides."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        found = [f"{where}/{key} is only on one side" for key in set(ours) ^ set(theirs)]
        return found + [
            d for key in set(ours) & set(theirs) for d in differences(ours[key], theirs[key], f"{where}/{key}")
        ]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [d for i, pair in enumerate(zip(ours, theirs, strict=True)) for d in differences(*pair, f"{where}[{i}]")]
    if isinstance(theirs, float) and not isinstance(ours, bool | str | dict | list):
        return [] if ours == pytest.approx(theirs, rel=1e-6) else [f"{where}: {ours} instead of {theirs}"]
    return [] if ours == theirs and type(ours) is type(theirs) else [f"{where}: {ours} instead of {theirs}"]


def test_all_golden_plans_are_identical(reference: Path) -> None:
    compared, wrong = 0, []
    for entry in golden(reference):
        fingerprint = fingerprint_from_nnunet(entry["fingerprint"], entry["dataset"])
        for planner, expected in entry["plans"].items():
            memory = expected.pop("gpu_memory_target_in_gb")
            plan = make_plan(fingerprint, Budget(preset=PRESET_OF[planner], memory_gb=memory))
            wrong += [f"{entry['id']} {planner} {d}" for d in differences(as_golden(plan), expected)]
            compared += 1
    assert compared == 600
    assert wrong == []
