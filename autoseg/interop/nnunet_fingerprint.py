"""nnU-Net's ``dataset_fingerprint.json``, read and written as plain dicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoseg.core.errors import PlanError
from autoseg.core.kinds import require
from autoseg.core.serialization import from_jsonable
from autoseg.data.case_facts import CaseFacts
from autoseg.data.fingerprint import Fingerprint, IntensityFacts
from autoseg.data.labels import labels_from_json
from autoseg.interop.nnunet_names import INTENSITIES, JSON, needed, numbers


def fingerprint_from_nnunet(
    fingerprint: Mapping[str, Any], dataset: Mapping[str, Any], *, name: str | None = None
) -> Fingerprint:
    """A fingerprint from ``dataset_fingerprint.json`` and ``dataset.json``.

    nnU-Net keeps no names of cases and only the median of what cropping leaves, so cases are numbered and share it.
    Raises `PlanError` where a key is missing.

    >>> facts = {"spacings": [[3.0, 1.0, 1.0]] * 2, "shapes_after_crop": [[20, 90, 80]] * 2,
    ...          "median_relative_size_after_cropping": 1.0, "foreground_intensity_properties_per_channel": {"0":
    ...          dict(max=9, mean=4, median=4, min=0, percentile_00_5=0, percentile_99_5=9, std=2)}}
    >>> dataset = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}, "numTraining": 2}
    >>> fingerprint_from_nnunet(facts, dataset, name="Dataset042_Liver").case_count
    2
    """
    spacings, shapes = (needed(fingerprint, key, "this fingerprint") for key in ("spacings", "shapes_after_crop"))
    if len(spacings) != len(shapes):
        raise PlanError(f"this fingerprint has {len(spacings)} spacings but {len(shapes)} shapes; one a case of each.")
    relative_size = needed(fingerprint, "median_relative_size_after_cropping", "this fingerprint")
    intensities = needed(fingerprint, "foreground_intensity_properties_per_channel", "this fingerprint")
    channels = dataset.get("channel_names") or needed(dataset, "modality", "dataset.json")
    if len(channels) != len(intensities):
        raise PlanError(f"dataset.json has {len(channels)} channels, the fingerprint knows {len(intensities)}.")
    cases = tuple(
        CaseFacts(
            name=f"case_{number:04d}",
            shape=shape,
            cropped_shape=shape,
            spacing=numbers({"a spacing": spacing}, "a spacing", "this fingerprint", 3, whole=False),
            relative_size=float(relative_size),
        )
        for number, (given, spacing) in enumerate(zip(shapes, spacings, strict=True))
        for shape in [numbers({"a shape": given}, "a shape", "this fingerprint", 3)]
    )
    declared = int(dataset.get("numTraining", len(cases)))
    return Fingerprint(
        dataset_name=str(name or dataset.get("name", "Dataset")),
        channels=tuple(str(channel) for channel in channels.values()),
        labels=labels_from_json(needed(dataset, "labels", "dataset.json"), dataset.get("regions_class_order")),
        cases=cases,
        intensities=tuple(_intensity_facts(facts) for facts in intensities.values()),
        file_ending=str(dataset.get("file_ending", ".nii.gz")),
        declared_cases=None if declared == len(cases) else declared,
    )


def _intensity_facts(facts: Mapping[str, Any]) -> IntensityFacts:
    values = {ours: needed(facts, theirs, "this fingerprint's intensities") for theirs, ours in INTENSITIES.items()}
    read: IntensityFacts = from_jsonable(IntensityFacts, values)
    return read


def fingerprint_to_nnunet(fingerprint: Fingerprint) -> JSON:
    """What nnU-Net keeps as ``dataset_fingerprint.json``.

    >>> autoseg.fingerprint_to_nnunet(fingerprint)["spacings"][0]
    [1.0, 1.0, 1.0]
    """
    require(fingerprint, Fingerprint, PlanError)
    return {
        "foreground_intensity_properties_per_channel": {
            str(i): intensities_to_nnunet(facts) for i, facts in enumerate(fingerprint.intensities)
        },
        "median_relative_size_after_cropping": fingerprint.relative_size,
        "shapes_after_crop": [list(case.cropped_shape) for case in fingerprint.cases],
        "spacings": [list(case.spacing) for case in fingerprint.cases],
    }


def intensities_to_nnunet(facts: IntensityFacts) -> JSON:
    return {theirs: getattr(facts, ours) for theirs, ours in INTENSITIES.items()}
