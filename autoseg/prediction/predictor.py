"""Models that predict together: folds of one configuration, and the stages of a cascade, one after the other."""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import nn

from autoseg.core.errors import AutosegError, PredictionError
from autoseg.core.numbers import is_number
from autoseg.core.serialization import digest
from autoseg.core.types import ImageArray, by
from autoseg.data.checks import load_image
from autoseg.data.dataset import Case
from autoseg.data.images import Image, LabelMap
from autoseg.planning.configuration import Configuration
from autoseg.prediction.memory import MemoryForecast, forecast_memory
from autoseg.prediction.postprocessing import Postprocessing
from autoseg.prediction.results import Prediction
from autoseg.prediction.sliding_window import Window, has_only_numbers, predict_logits
from autoseg.preprocessing.cases import (
    PreprocessedCase,
    label_map_of,
    preprocess_case,
    restore_logits,
    restore_probabilities,
)
from autoseg.training.cascade import brought, labels_apart, onehot
from autoseg.training.compute import Compute, choose_compute
from autoseg.training.fitting import out_of_memory
from autoseg.training.model import TrainedModel

FAR = 4.0  # times as fine or as coarse as the grid the model works on: beyond what datasets usually hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a window slides, what is kept of what it finds, and which islands of it go."""

    mirroring: bool = True
    overlap: float = 0.5
    probabilities: bool = False
    postprocessing: Postprocessing = Postprocessing()

    def __post_init__(self) -> None:
        if not (is_number(self.overlap) and 0 <= self.overlap < 1):
            raise PredictionError(
                f"overlap is {self.overlap!r}; neighbouring tiles share a part of their edge, from 0 to below 1. "
                "nnU-Net's is 0.5."
            )


def default_window(models: Sequence[TrainedModel], options: Options = Options()) -> Window:  # noqa: B008  it is frozen
    """The plan's patch, the axes along which all models may be mirrored, and nnU-Net's way of adding tiles."""
    common = (a for a in models[0].mirror_axes if all(a in model.mirror_axes for model in models))
    axes = tuple(common) if options.mirroring else ()
    patch = models[0].configuration.patch_size
    return Window(patch_size=patch, overlap=options.overlap, mirror_axes=axes, adds_in="float16")


def common_compute(models: Sequence[TrainedModel], device: str | torch.device | None) -> Compute:
    """The device, and the precision that all models are to run in; where they differ, float32.

    Weights are float32, so every network is sound in it; one that asks for it may not be in half precision.
    """
    asked = [choose_compute(device, model.blueprint.precision) for model in models]
    alike = len({compute.precision for compute in asked}) == 1
    return asked[0] if alike else choose_compute(device, "float32")


def models_of(given: Any, error: type[AutosegError] = PredictionError) -> list[TrainedModel]:
    """One model or several as a list. Raises an `error` for anything else, with what to pass instead."""
    if isinstance(given, TrainedModel):
        return [given]
    found = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    wrong = [model for model in found if not isinstance(model, TrainedModel)]
    if not found:
        raise error("no model was given. Pass training.model, or a list of models of several folds.")
    if wrong:
        kind = type(wrong[0]).__name__
        instead = {
            "Training": "Pass training.model.",
            "CrossValidation": "Pass the models of a run: run.together.",
            "Choice": "It predicts itself: choice.predict(what).",
        }
        path = f"Open it: autoseg.open_models({str(wrong[0])!r})." if isinstance(wrong[0], str | PathLike) else ""
        order = "The models come first, then what they predict: predict(training.model, case)."
        raise error(f"this is no trained model, but of type {kind}. {path or instead.get(kind, order)}")
    return found


def stages_of(models: Iterable[TrainedModel]) -> list[list[TrainedModel]]:
    """The models of each stage, the first stage first. Raises `PredictionError` where they do not belong together."""
    models = models_of(models)
    final = [m for m in models if m.configuration.previous_stage is not None] or models
    name = final[0].configuration.previous_stage
    earlier = [m for m in models if all(m is not other for other in final)]
    if name is not None and (not earlier or any(m.configuration.name != name for m in earlier)):
        raise PredictionError(
            f"{final[0].configuration.name!r} refines what {name!r} predicts, and "
            f"{'no model of that' if not earlier else f'there are models of {earlier[0].configuration.name!r}'} was "
            "given. Pass the models of both stages in one list: predict([*lowres_models, *cascade_models], ...)."
        )
    stages = [earlier, final] if name is not None else [final]
    for stage in stages:
        _same_configuration(stage)
    if difference := labels_apart(stages[0][0].labels, final[0].labels):
        raise PredictionError(
            f"the stages of the cascade have other labels, {stages[0][0].configuration.name!r} against "
            f"{final[0].configuration.name!r}: {difference}. Give stages that were trained on one dataset."
        )
    return stages


def _same_configuration(models: Sequence[TrainedModel]) -> None:
    first = models[0].configuration
    for model in models[1:]:
        if model.configuration != first:
            raise PredictionError(
                f"the models belong to different configurations ({first.name!r} and {model.configuration.name!r}, or "
                "two plans); logits can only be averaged on one grid. Predict with each, then combine the predictions."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Networks of one configuration, ready to predict."""

    models: Sequence[TrainedModel]
    window: Window
    compute: Compute
    networks: list[nn.Module] = field(init=False)

    def __post_init__(self) -> None:
        networks = [self.compute.place(m.network(), len(self.window.patch_size)) for m in self.models]
        object.__setattr__(self, "networks", networks)

    @property
    def configuration(self) -> Configuration:
        """What the models share."""
        return self.models[0].configuration

    @torch.inference_mode()
    def logits(self, name: str, image: Image, previous: LabelMap | None) -> tuple[torch.Tensor, PreprocessedCase]:
        """The mean of all models on the plan's grid, and the case as they saw it."""
        prepared = preprocess_case(name, image, None, self.configuration)
        array = prepared.array if previous is None else _with(previous, prepared, self.configuration)
        total = predict_logits(self.networks[0], array, self.window, self.compute)
        for network in self.networks[1:]:
            total += predict_logits(network, array, self.window, self.compute)
        if not has_only_numbers(total):
            raise PredictionError(
                f"case {name!r}: the model's output is NaN, and no label follows from that. Its weights are damaged, "
                f"its training diverged (see model.history), or numbers overflow in {self.compute.precision}, which "
                'Blueprint(precision="float32") avoids.'
            )
        return total.div_(len(self.networks)), prepared


def _with(previous: LabelMap, prepared: PreprocessedCase, configuration: Configuration) -> ImageArray:
    """The case with a channel for each label that the previous stage found."""
    labels = brought(previous, prepared.geometry, configuration.resampling)
    channels = onehot(torch.from_numpy(np.ascontiguousarray(labels).astype(np.int16))[None], configuration.labels)
    return np.concatenate((prepared.array, channels[0].numpy()))


class Predictor:
    """Predicts one case after the other; what a worker needs, and nothing else, so that it can be sent to one.

    `groups` are the models of several configurations, whose probabilities are averaged; within each, folds are averaged
    as logits, and the stages of a cascade follow each other. Source: nnU-Net 2.8 ``ensemble_folders``.
    """

    def __init__(
        self, groups: Sequence[Iterable[TrainedModel]], options: Options, device: str | torch.device | None
    ) -> None:
        self.options, self.device = options, device
        self.groups = [[_stage(models, options, device) for models in stages_of(group)] for group in groups]
        if not self.groups:
            raise PredictionError("no model was given. Pass training.model, or a list of models of several folds.")
        self.configuration = self.groups[0][-1].configuration

    def __reduce__(self) -> tuple[Any, ...]:
        """Sent to a worker it is made there anew, on the best device of that machine where none was asked for."""
        groups = [[model for stage in group for model in stage.models] for group in self.groups]
        return Predictor, (groups, self.options, self.device)

    @property
    def key(self) -> str:
        """Changes with the weights, the plan and the window: what stored predictions are recognised by."""
        parts: list[Any] = [self.options.postprocessing]
        for stage in (stage for group in self.groups for stage in group):
            weights = hashlib.sha256()
            for model in stage.models:
                for name, tensor in sorted(model.weights.items()):
                    weights.update(name.encode() + tensor.numpy().tobytes())
            parts += [weights.hexdigest(), stage.configuration, stage.window, stage.compute.precision]
        return digest(parts)

    def __call__(self, case: Case) -> Prediction:
        """Predict one case. Raises an `AutosegError` that names it."""
        started, image = time.perf_counter(), load_image(case)
        needed = self._look_at(case, image)
        try:
            label_map, kept = self._decide(case.name, image)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise PredictionError(f"out of memory: {needed.advice()}") from error
        label_map, seconds = self.options.postprocessing.of(label_map), time.perf_counter() - started
        return Prediction(case=case, label_map=label_map, probabilities=kept, seconds=seconds)

    def _decide(self, name: str, image: Image) -> tuple[LabelMap, ImageArray | None]:
        """The label map of all groups together, and the probabilities where they are to be kept."""
        several = len(self.groups) > 1
        mean: ImageArray | None = None
        for group in self.groups:
            label_map, found = self._follow(group, name, image, probabilities=several or self.options.probabilities)
            if found is not None:
                mean = found if mean is None else np.add(mean, found, out=mean)
        if several and mean is not None:
            mean /= len(self.groups)
            label_map = label_map_of(mean, image.grid, self.configuration.labels)
        return label_map, mean if self.options.probabilities else None

    def _follow(
        self, stages: Sequence[Stage], name: str, image: Image, *, probabilities: bool
    ) -> tuple[LabelMap, ImageArray | None]:
        """One stage after the other; the label map of the last, and its probabilities where they are wanted."""
        label_map: LabelMap | None = None
        for stage in stages[:-1]:
            logits, prepared = stage.logits(name, image, label_map)
            label_map = _restored(logits, prepared, stage.configuration)
        logits, prepared = stages[-1].logits(name, image, label_map)
        configuration = stages[-1].configuration
        if not probabilities:
            return _restored(logits, prepared, configuration), None
        found = restore_probabilities(
            logits, prepared.geometry, configuration.labels, settings=configuration.resampling
        )
        return label_map_of(found, image.grid, configuration.labels), found

    def _look_at(self, case: Case, image: Image) -> MemoryForecast:
        """Say what may go wrong before it is computed. Raises `PredictionError` where it cannot go well."""
        probabilities = self.options.probabilities or len(self.groups) > 1
        models = max(len(stage.models) for group in self.groups for stage in group)
        needed = forecast_memory(case.name, image.grid, self.configuration, models=models, probabilities=probabilities)
        if needed.hopeless:
            raise PredictionError(needed.advice())
        if not needed.fits:
            warnings.warn(needed.advice(), stacklevel=2)
        for doubt in (far_from_training, like_a_label_map):
            if sentence := doubt(case.name, image, self.configuration):
                warnings.warn(sentence, stacklevel=2)
        return needed


def _stage(models: Sequence[TrainedModel], options: Options, device: str | torch.device | None) -> Stage:
    return Stage(models=models, window=default_window(models, options), compute=common_compute(models, device))


def _restored(logits: torch.Tensor, prepared: PreprocessedCase, configuration: Configuration) -> LabelMap:
    return restore_logits(logits, prepared.geometry, configuration.labels, settings=configuration.resampling)


def far_from_training(name: str, image: Image, configuration: Configuration) -> str:
    """A sentence where an image is much finer or coarser than the grid that the model works on; empty otherwise."""
    before = image.grid.as_3d().transpose(configuration.axis_order).spacing[-len(configuration.spacing) :]
    factors = [max(a / b, b / a) for a, b in zip(before, configuration.spacing, strict=True)]
    if max(factors) < FAR:
        return ""
    here, there = (by(spacing, 3) for spacing in (before, configuration.spacing))
    return (
        f"case {name!r} has voxels of {here} mm, but the model works on {there} mm: up to {max(factors):.2g} times "
        "apart, probably unlike any training case. It is resampled and predicted; look at the result, and check that "
        "the spacing in the file is true."
    )


def like_a_label_map(name: str, image: Image, configuration: Configuration) -> str:
    """A sentence where an image holds nothing but values of labels; empty otherwise."""
    low, high, highest = image.array.min(), image.array.max(), max(configuration.labels.permitted)
    if low < 0 or high > highest or (image.array != np.round(image.array)).any():
        return ""
    return (
        f"case {name!r} holds only whole numbers from {low:g} to {high:g}, as a label map does. It is predicted as "
        "a scan; did you give the folder of the labels?"
    )
