"""Write preprocessing.json: what nnU-Net's own preprocessor and export make of some real cases.

Run with a Python that has nnunetv2, from the repository's root: PYTHON tests/golden/make_preprocessing.py
"""

import copy
import hashlib
import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape as export
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

SHARED = Path(__file__).resolve().parents[3] / "shared"


def first(folder, number=0):
    """A file of a folder, by its place in the sorted list."""
    return sorted(str(p.relative_to(SHARED / "data")) for p in (SHARED / "data" / folder).iterdir())[number]


HIPPOCAMPUS = {"files": [first("Task04_Hippocampus/imagesTr"), first("Task04_Hippocampus/labelsTr")]}
HEART = {"files": [first("SunnybrookLV3D/imagesTr", 3), first("SunnybrookLV3D/labelsTr", 3)]}
NEURONS = {"files": [first("ISBI2012_EM/images"), first("ISBI2012_EM/labels")]}
BODY = {"files": ["samples/example_ct_sm.nii.gz", "samples/example_ct_sm_labels.nii.gz"]}
TWO = {"labels": {"background": 0, "anterior": 1, "posterior": 2}}
REGIONS = {"labels": {"background": 0, "whole": [1, 2], "posterior": 2}, "regions_class_order": [1, 2]}
SPARSE = {"labels": {"background": 0, "anterior": 1, "ignore": 2}}
HOLLOW = {"labels": {"background": 0, "LV": 1}}
RECIPES = {
    "no resampling": {**HIPPOCAMPUS, **TWO, "spacing": [1.0, 1.0, 1.0]},
    "other axes": {**HIPPOCAMPUS, **TWO, "spacing": [0.8, 1.2, 0.9], "axis_order": [2, 0, 1]},
    "half the spacing": {**HIPPOCAMPUS, **TWO, "spacing": [0.5, 0.5, 0.5]},
    "inside the mask": {**HIPPOCAMPUS, **TWO, "spacing": [0.7, 1.1, 1.3], "mask": True, "blank": True},
    "regions": {**HIPPOCAMPUS, **REGIONS, "spacing": [0.8, 1.0, 1.0]},
    "ignore label": {**HIPPOCAMPUS, **SPARSE, "spacing": [0.8, 1.0, 1.0]},
    "coarse slices": {**HEART, **HOLLOW, "spacing": [5.0, 1.1, 1.2]},
    "fewer coarse slices": {**HEART, **HOLLOW, "spacing": [9.7, 1.9, 2.2]},
    "slices for 2d": {**HEART, **HOLLOW, "spacing": [1.1, 1.2]},
    "a 2D image": {**NEURONS, "labels": {"background": 0, "inside": 255}, "spacing": [0.8, 1.3]},
    "CT with many labels": {**BODY, "labels": None, "spacing": [4.1, 3.7, 5.0], "CT": [-800.0, 900.0, 50.0, 120.0]},
}


def read(path):
    image = sitk.ReadImage(str(SHARED / "data" / path))
    array, spacing = sitk.GetArrayFromImage(image), list(image.GetSpacing()[::-1])
    return (array[None], [999.0, 1.0, 1.0]) if array.ndim == 2 else (array, spacing)


def plans_for(recipe):
    plans = json.loads((SHARED / "reference/real_plans/Dataset004_Hippocampus/nnUNetPlans.json").read_text())
    name = "2d" if len(recipe["spacing"]) == 2 else "3d_fullres"
    order = recipe.get("axis_order", [0, 1, 2])
    plans |= {"transpose_forward": order, "transpose_backward": np.argsort(order).tolist()}
    low, high, mean, std = recipe.get("CT", [0.0] * 4)
    facts = {"percentile_00_5": low, "percentile_99_5": high, "mean": mean, "std": std}
    plans["foreground_intensity_properties_per_channel"] = {"0": facts}
    plans["configurations"][name] |= {"spacing": recipe["spacing"], "use_mask_for_norm": [recipe.get("mask", False)]}
    if "CT" in recipe:
        plans["configurations"][name]["normalization_schemes"] = ["CTNormalization"]
    manager = PlansManager(plans)
    return manager, manager.get_configuration(name)


def sha(array, kind):
    return hashlib.sha256(np.ascontiguousarray(array, kind).tobytes()).hexdigest()[:16]


def some(array):
    """25 values from the first to the last."""
    return array.reshape(-1)[np.linspace(0, array.size - 1, 25).astype(int)].astype(float).tolist()


def facts(recipe):
    (image, spacing), (label, _) = (read(path) for path in recipe["files"])
    if recipe.get("blank"):  # a frame of zeros and a hole
        image[:, :5], image[:, :, -7:], image[10:12, 20:24, 20:22] = 0, 0, 0
    labels = recipe["labels"] or {"background": 0} | {f"label {v}": int(v) for v in np.unique(label)[1:]}
    dataset = {"labels": labels, "channel_names": {"0": "x"}, "file_ending": "x"}
    dataset |= {k: recipe[k] for k in ("regions_class_order",) if k in recipe}
    plans, configuration = plans_for(recipe)
    manager = plans.get_label_manager(dataset)
    properties = {"spacing": spacing}
    data, seg, properties = DefaultPreprocessor(verbose=False).run_case_npy(
        image[None].astype(np.float32), label[None].astype(np.float32), properties, plans, configuration, dataset
    )
    logits = np.random.RandomState(0).normal(size=(manager.num_segmentation_heads, *data.shape[1:])).astype(np.float32)
    exported, probabilities = export(
        torch.from_numpy(logits), plans, configuration, manager, copy.deepcopy(properties), return_probabilities=True
    )
    return {
        **recipe,
        "labels": labels,
        "shape": list(data.shape[1:]),
        "box": [[int(a), int(b)] for a, b in properties["bbox_used_for_cropping"]],
        "range": float(data.max() - data.min()),
        "image": some(data),
        "label": sha(seg[0], "<i2"),
        "locations": [sha(np.reshape(v, (-1, 4))[:, 1:], "<i4") for v in properties["class_locations"].values()],
        "exported": sha(exported, "<i2"),
        "probabilities": some(probabilities),
    }


if __name__ == "__main__":
    golden = {name: facts(recipe) for name, recipe in RECIPES.items()}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(numbers)}" for name, numbers in golden.items())
    Path(__file__).with_name("preprocessing.json").write_text(f"{{\n{lines}\n}}\n")
