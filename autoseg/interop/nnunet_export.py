"""Models of autoseg as folders or zips that nnU-Net's own predictor loads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import torch

from autoseg.core.archives import write_archive
from autoseg.core.errors import ModelError
from autoseg.core.serialization import atomic_path
from autoseg.core.types import PathLike
from autoseg.data.normalization import CTNormalization
from autoseg.interop.nnunet_checkpoint import weights_to_nnunet
from autoseg.interop.nnunet_dataset import dataset_json, name_in_nnunet
from autoseg.interop.nnunet_names import JSON, intensities_of, reader_of
from autoseg.interop.nnunet_plans import settings_to_nnunet
from autoseg.planning.configuration import Configuration, NetworkSpec
from autoseg.prediction.predictor import models_of
from autoseg.training.model import TrainedModel, network_spec

TRAINER, PLANS = "nnUNetTrainer", {"plain": "nnUNetPlans", "residual": "nnUNetResEncUNetPlans"}


def export_nnunet_model(
    models: TrainedModel | Sequence[TrainedModel],
    path: PathLike,
    *,
    number: int | None = None,
    file_ending: str = ".nii.gz",
) -> Path:
    """Write models of several folds so that nnU-Net's predictor loads them; returns the folder, or the zip.

    Args:
        models: one, or the folds of one configuration.
        path: a folder such as ``nnUNet_results``, in which ``Dataset.../nnUNetTrainer__nnUNetPlans__...`` is made, or
            ``x.zip``, which ``nnUNetv2_install_pretrained_model_from_zip`` takes.
        number: of the dataset; the one in its name, or 900.
        file_ending: of the images that nnU-Net will be given.

    The result predicts, and starts ``nnUNetv2_train -pretrained_weights``; it holds no optimizer to go on from. Label
    maps get the values that labels stand for. The stages of a cascade are exported one after the other, to the same
    folder or to a zip each. Raises `ModelError` for networks of your own, models that do not belong together and what
    is no trained model, `PlanError` for normalizations of your own.

    >>> autoseg.export_nnunet_model(training.model, "seahorse.zip", number=90).name
    'seahorse.zip'
    """
    models = models_of(models, ModelError)
    spec = _shared_spec(models)
    configuration = models[0].configuration
    name = name_in_nnunet(configuration.dataset_name, number)
    plans = plans_of(configuration, spec, name=name, file_ending=file_ending)
    facts = dataset_json(configuration.channels, configuration.labels, cases=1, ending=file_ending)
    root = f"{name}/{TRAINER}__{plans['plans_name']}__{configuration.name}"
    files = {f"{root}/plans.json": _json(plans), f"{root}/dataset.json": _json(facts)}
    for model in models:
        files[f"{root}/fold_{model.fold}/checkpoint_final.pth"] = _checkpoint(model, spec, plans, facts)
    path = Path(path)
    if path.suffix == ".zip":
        return write_archive(path, files)
    for place, content in files.items():
        with atomic_path(path / place) as temporary:
            temporary.write_bytes(content)
    return path / root


def _shared_spec(models: Sequence[TrainedModel]) -> NetworkSpec:
    """The network of all models, after making sure that it is one of nnU-Net's."""
    first = models[0]
    spec = network_spec(first.configuration, first.blueprint)
    if spec.stages < 2:
        raise ModelError(
            "this network has one stage, for images below 8 voxels; nnU-Net cannot build it. export_onnx takes it."
        )
    for model in models:
        if model.blueprint.network is not None:
            raise ModelError(
                "nnU-Net's predictor builds its two U-Nets only, and this model has a network of your own. "
                "export_bundle and export_onnx take any network."
            )
        if model.configuration != first.configuration or network_spec(model.configuration, model.blueprint) != spec:
            raise ModelError("these models do not belong together: folds must share one plan and one network.")
        if model.mirror_axes != first.mirror_axes:
            raise ModelError("one of these models may be mirrored in prediction and another not; export them apart.")
    folds = [model.fold for model in models]
    if len(set(folds)) < len(folds):
        raise ModelError(f"two of these models are of the same fold: {', '.join(map(str, folds))}.")
    return spec


def plans_of(configuration: Configuration, spec: NetworkSpec, *, name: str, file_ending: str) -> JSON:
    """An ``nnUNetPlans.json`` with this configuration alone. `spec` is its network, at the width it was trained in."""
    identifier = PLANS[spec.kind]
    settings = settings_to_nnunet(configuration, f"{identifier}_{configuration.name}")
    settings["architecture"]["arch_kwargs"]["features_per_stage"] = list(spec.features)
    if configuration.previous_stage is not None:
        settings["previous_stage"] = configuration.previous_stage
    order, flat = configuration.axis_order, configuration.dimensions == 2
    return {
        "dataset_name": name,
        "plans_name": identifier,
        "original_median_spacing_after_transp": [1.0] * flat + list(configuration.spacing),
        "original_median_shape_after_transp": [1] * flat + [round(size) for size in configuration.median_shape],
        "image_reader_writer": reader_of(file_ending, flat=flat),
        "transpose_forward": list(order),
        "transpose_backward": [order.index(axis) for axis in range(3)],
        "configurations": {configuration.name: settings},
        "experiment_planner_used": "autoseg",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": _intensities(configuration),
    }


def _intensities(configuration: Configuration) -> JSON:
    """The numbers that CT normalization uses; other channels need none."""
    return {
        str(number): intensities_of(scheme) if isinstance(scheme, CTNormalization) else {}
        for number, scheme in enumerate(configuration.normalization)
    }


def _checkpoint(model: TrainedModel, spec: NetworkSpec, plans: JSON, facts: JSON) -> bytes:
    fold, name = model.fold, model.configuration.name
    buffer = BytesIO()
    content = {
        "network_weights": weights_to_nnunet(model.weights, spec),
        "init_args": {"plans": plans, "configuration": name, "fold": fold, "dataset_json": facts},
        "trainer_name": TRAINER,
        "inference_allowed_mirroring_axes": model.mirror_axes or None,
    }
    torch.save(content, buffer)
    return buffer.getvalue()


def _json(content: JSON) -> bytes:
    return json.dumps(content, indent=1).encode()
