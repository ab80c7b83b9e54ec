"""nnU-Net's own JSON files of fingerprints and plans, read and written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoseg.core.errors import PlanError
from autoseg.core.serialization import from_jsonable
from autoseg.data.fingerprint import CaseFacts, Fingerprint, IntensityFacts
from autoseg.data.labels import labels_from_json

INTENSITIES = {
    "mean": "mean",
    "std": "std",
    "median": "median",
    "min": "minimum",
    "max": "maximum",
    "percentile_00_5": "percentile_00_5",
    "percentile_99_5": "percentile_99_5",
}


def fingerprint_from_nnunet(
    fingerprint: Mapping[str, Any], dataset: Mapping[str, Any], *, name: str = "Dataset"
) -> Fingerprint:
    """A fingerprint from nnU-Net's ``dataset_fingerprint.json`` and the dataset's ``dataset.json``, both as dicts.

    nnU-Net keeps no names of cases and only the median of what cropping leaves, so cases are numbered and share it.
    Raises `PlanError` where a key is missing.
    """
    spacings, shapes = (_needed(fingerprint, key, "fingerprint") for key in ("spacings", "shapes_after_crop"))
    relative_size = _needed(fingerprint, "median_relative_size_after_cropping", "fingerprint")
    intensities = _needed(fingerprint, "foreground_intensity_properties_per_channel", "fingerprint")
    channels = dataset.get("channel_names") or _needed(dataset, "modality", "dataset.json")
    cases = tuple(
        CaseFacts(
            name=f"case_{number:04d}",
            shape=tuple(int(n) for n in shape),
            cropped_shape=tuple(int(n) for n in shape),
            spacing=tuple(float(s) for s in spacing),
            relative_size=float(relative_size),
        )
        for number, (shape, spacing) in enumerate(zip(shapes, spacings, strict=True))
    )
    declared = dataset.get("numTraining", len(cases))
    return Fingerprint(
        dataset_name=str(dataset.get("name", name)),
        channels=tuple(str(channel) for channel in channels.values()),
        labels=labels_from_json(_needed(dataset, "labels", "dataset.json"), dataset.get("regions_class_order")),
        cases=cases,
        intensities=tuple(
            from_jsonable(IntensityFacts, {ours: facts[theirs] for theirs, ours in INTENSITIES.items()})
            for facts in intensities.values()
        ),
        file_ending=str(dataset.get("file_ending", ".nii.gz")),
        declared_cases=None if declared == len(cases) else int(declared),
    )


def _needed(data: Mapping[str, Any], key: str, what: str) -> Any:
    if key not in data:
        raise PlanError(f"this {what} has no {key!r}; it has {', '.join(map(repr, data))}. Is it nnU-Net's?")
    return data[key]
