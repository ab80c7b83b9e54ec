"""nnU-Net's own JSON files of fingerprints and plans, written and read.

Everything here takes and returns plain dicts, as ``json.load`` gives them. Source: nnU-Net 2.8, ``nnUNetPlans.json``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoseg.core.errors import PlanError
from autoseg.core.serialization import from_jsonable
from autoseg.data.fingerprint import CaseFacts, Fingerprint, IntensityFacts
from autoseg.data.labels import labels_from_json
from autoseg.data.normalization import CTNormalization, NoNormalization, Normalization, RescaleTo01, RGBTo01, ZScore
from autoseg.data.normalization import name_of as name_of_normalization
from autoseg.planning.configuration import Configuration, NetworkSpec, Resampling
from autoseg.planning.facts import Facts
from autoseg.planning.plan import Plan
from autoseg.planning.rules import ANISOTROPY

JSON = dict[str, Any]
INTENSITIES = {  # nnU-Net's key: our field
    "max": "maximum",
    "mean": "mean",
    "median": "median",
    "min": "minimum",
    "percentile_00_5": "percentile_00_5",
    "percentile_99_5": "percentile_99_5",
    "std": "std",
}
SCHEMES: dict[str, type[Any]] = {
    "CTNormalization": CTNormalization,
    "NoNormalization": NoNormalization,
    "RescaleTo01Normalization": RescaleTo01,
    "RGBTo01Normalization": RGBTo01,
    "ZScoreNormalization": ZScore,
}
NETWORKS = {
    "plain": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "residual": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
}
RESAMPLING = "resample_data_or_seg_to_shape"
READERS = {".png": "NaturalImage2DIO", ".bmp": "NaturalImage2DIO", ".tiff": "Tiff3DIO", ".nii": "NibabelIO"}


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
    spacings, shapes = (_needed(fingerprint, key, "fingerprint") for key in ("spacings", "shapes_after_crop"))
    if len(spacings) != len(shapes):
        raise PlanError(f"this fingerprint has {len(spacings)} spacings but {len(shapes)} shapes; one a case of each.")
    relative_size = _needed(fingerprint, "median_relative_size_after_cropping", "fingerprint")
    intensities = _needed(fingerprint, "foreground_intensity_properties_per_channel", "fingerprint")
    channels = dataset.get("channel_names") or _needed(dataset, "modality", "dataset.json")
    if len(channels) != len(intensities):
        raise PlanError(f"dataset.json has {len(channels)} channels, the fingerprint knows {len(intensities)}.")
    cases = tuple(
        CaseFacts(
            name=f"case_{number:04d}",
            shape=tuple(shape),
            cropped_shape=tuple(shape),
            spacing=tuple(spacing),
            relative_size=float(relative_size),
        )
        for number, (shape, spacing) in enumerate(zip(shapes, spacings, strict=True))
    )
    declared = int(dataset.get("numTraining", len(cases)))
    return Fingerprint(
        dataset_name=str(name or dataset.get("name", "Dataset")),
        channels=tuple(str(channel) for channel in channels.values()),
        labels=labels_from_json(_needed(dataset, "labels", "dataset.json"), dataset.get("regions_class_order")),
        cases=cases,
        intensities=tuple(_intensity_facts(facts) for facts in intensities.values()),
        file_ending=str(dataset.get("file_ending", ".nii.gz")),
        declared_cases=None if declared == len(cases) else declared,
    )


def _intensity_facts(facts: Mapping[str, Any]) -> IntensityFacts:
    values = {ours: _needed(facts, theirs, "fingerprint's intensities") for theirs, ours in INTENSITIES.items()}
    read: IntensityFacts = from_jsonable(IntensityFacts, values)
    return read


def fingerprint_to_nnunet(fingerprint: Fingerprint) -> JSON:
    """What nnU-Net keeps as ``dataset_fingerprint.json``."""
    return {
        "foreground_intensity_properties_per_channel": {
            str(i): _intensities(facts) for i, facts in enumerate(fingerprint.intensities)
        },
        "median_relative_size_after_cropping": fingerprint.relative_size,
        "shapes_after_crop": [list(case.cropped_shape) for case in fingerprint.cases],
        "spacings": [list(case.spacing) for case in fingerprint.cases],
    }


def _intensities(facts: IntensityFacts) -> JSON:
    return {theirs: getattr(facts, ours) for theirs, ours in INTENSITIES.items()}


def plan_to_nnunet(plan: Plan) -> JSON:
    """A complete ``nnUNetPlans.json`` that nnU-Net 2.8 loads.

    Raises `PlanError` for a normalization of your own, which nnU-Net could not find by its name.
    """
    preset, facts = plan.budget.constants, Facts.of(plan.fingerprint)
    order = plan.configurations[0].axis_order
    return {
        "dataset_name": plan.fingerprint.dataset_name,
        "plans_name": preset.plans_name,
        "original_median_spacing_after_transp": [facts.median_spacing[a] for a in order],
        "original_median_shape_after_transp": [round(facts.median_shape[a]) for a in order],
        "image_reader_writer": _reader(plan),
        "transpose_forward": list(order),
        "transpose_backward": [order.index(axis) for axis in range(3)],
        "configurations": {c.name: _configuration_to_nnunet(plan, c) for c in plan.configurations},
        "experiment_planner_used": preset.planner,
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": _intensities_to_nnunet(plan),
    }


def _reader(plan: Plan) -> str:
    """The class with which nnU-Net reads files of that ending."""
    ending = plan.fingerprint.file_ending.lower()
    if ending == ".tif":
        return "NaturalImage2DIO" if plan.trace["dimensions"].value == (2,) else "Tiff3DIO"
    return READERS.get(ending, "SimpleITKIO")


def _intensities_to_nnunet(plan: Plan) -> JSON:
    """Those of the fingerprint; where a CT normalization was given, the numbers it uses."""
    entries = {str(i): _intensities(facts) for i, facts in enumerate(plan.fingerprint.intensities)}
    for entry, scheme in zip(entries.values(), plan.configurations[0].normalization, strict=True):
        if isinstance(scheme, CTNormalization):
            numbers = {"percentile_00_5": scheme.low, "percentile_99_5": scheme.high}
            entry.update(numbers, mean=scheme.mean, std=scheme.std)
    return entries


def _configuration_to_nnunet(plan: Plan, configuration: Configuration) -> JSON:
    settings = _settings(plan, configuration)
    if configuration.previous_stage is not None:
        full = _settings(plan, plan["3d_fullres"]) | {"data_identifier": settings["data_identifier"]}
        changed = {key: value for key, value in settings.items() if value != full[key]}
        return {"inherits_from": "3d_fullres", "previous_stage": configuration.previous_stage} | changed
    if configuration.name == "3d_lowres" and "3d_cascade_fullres" in plan:
        settings["next_stage"] = "3d_cascade_fullres"
    return settings


def _settings(plan: Plan, configuration: Configuration) -> JSON:
    r = configuration.resampling
    return {
        "data_identifier": _data_identifier(plan, configuration.name),
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": configuration.batch_size,
        "patch_size": list(configuration.patch_size),
        "median_image_size_in_voxels": list(configuration.median_shape),
        "spacing": list(configuration.spacing),
        "normalization_schemes": [_scheme(n) for n in configuration.normalization],
        "use_mask_for_norm": list(configuration.mask_background),
        "resampling_fn_data": RESAMPLING,
        "resampling_fn_seg": RESAMPLING,
        "resampling_fn_data_kwargs": _resampling(r, r.image_order, is_seg=False),
        "resampling_fn_seg_kwargs": _resampling(r, r.label_order, is_seg=True),
        "resampling_fn_probabilities": RESAMPLING,
        "resampling_fn_probabilities_kwargs": _resampling(r, r.probability_order, is_seg=False),
        "architecture": _architecture(configuration.network),
        "batch_dice": configuration.batch_dice,
    }


def _data_identifier(plan: Plan, name: str) -> str:
    """The folder of preprocessed data; those of residual presets are the default's, but for the low resolution."""
    preset = plan.budget.constants
    shared = preset.network == "residual" and name != "3d_lowres"
    return f"{'nnUNetPlans' if shared else preset.plans_name}_{name}"


def _scheme(normalization: Normalization) -> str:
    for name, kind in SCHEMES.items():
        if isinstance(normalization, kind):
            return name
    raise PlanError(
        f"nnU-Net knows no normalization {name_of_normalization(normalization)!r}. "
        f"It has {', '.join(SCHEMES)}; exchange yours for one of them with plan.what_if."
    )


def _resampling(resampling: Resampling, order: int, *, is_seg: bool) -> JSON:
    settings: JSON = {
        "is_seg": is_seg,
        "order": order,
        "order_z": resampling.coarse_axis_order,
        "force_separate_z": resampling.separate_axis,
    }
    if resampling.anisotropy != ANISOTROPY:
        settings["separate_z_anisotropy_threshold"] = resampling.anisotropy
    return settings


def _architecture(network: NetworkSpec) -> JSON:
    n = network.dimensions
    depths = "n_conv_per_stage" if network.kind == "plain" else "n_blocks_per_stage"
    return {
        "network_class_name": NETWORKS[network.kind],
        "arch_kwargs": {
            "n_stages": network.stages,
            "features_per_stage": list(network.features),
            "conv_op": f"torch.nn.modules.conv.Conv{n}d",
            "kernel_sizes": [list(kernel) for kernel in network.kernel_sizes],
            "strides": [list(stride) for stride in network.strides],
            depths: list(network.encoder_blocks),
            "n_conv_per_stage_decoder": list(network.decoder_blocks),
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{n}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def _needed(data: Mapping[str, Any], key: str, what: str) -> Any:
    if key not in data:
        raise PlanError(f"this {what} has no {key!r}; it has {', '.join(map(repr, data)) or 'nothing'}.")
    return data[key]
