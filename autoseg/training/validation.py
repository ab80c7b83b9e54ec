"""Validation: the quick one on patches, and the true one on whole cases by sliding window, as prediction works."""

from __future__ import annotations

import importlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from autoseg.data.labels import Labels
from autoseg.evaluation.metrics import overlap
from autoseg.training.feed import Feed
from autoseg.training.history import EpochRecord
from autoseg.training.learner import Learner
from autoseg.training.pseudo_dice import PseudoDice

SHARE = 0.05  # of a budget of minutes may go into validating whole cases
TIMES = 20  # in a training that counts epochs


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseValidation:
    """Dice of each label or region, the mean over whole cases of their own grid, and what it cost."""

    dice: tuple[float, ...]
    seconds: float


@torch.no_grad()
def validate_patches(learner: Learner, feed: Feed, longest: float) -> tuple[float, tuple[float, ...]]:
    """Mean loss and pseudo Dice over patches of the validation cases, the same ones in every epoch.

    After `longest` seconds no other batch is begun, but there is one at least.
    """
    started, blueprint = time.perf_counter(), feed.blueprint
    random = torch.Generator().manual_seed(blueprint.seed + 1)
    counts, losses = PseudoDice(feed.configuration.labels), []
    for _ in range(blueprint.validation_iterations):
        images, labels = feed.draw_validation(random)
        logits, loss = learner.evaluate(images, labels)
        counts.add(logits, labels)
        losses.append(float(loss))
        if time.perf_counter() - started > longest:
            break
    return float(np.mean(losses)), counts.result()


def estimated_seconds(feed: Feed, names: Sequence[str], epochs: Sequence[EpochRecord]) -> float:
    """Seconds of predicting whole cases, before it was ever done: four tiles over each voxel, forwards only."""
    if not epochs:
        return float("inf")
    voxels = sum(np.prod(feed.prepared.entries[name].shape) for name in names)
    batch = feed.batch_size * np.prod(feed.configuration.patch_size)
    forward = epochs[-1].timings["forward"] / epochs[-1].iterations
    return float(4 * forward * max(voxels / batch, len(names) / feed.batch_size))


def validate_cases(network: nn.Module, feed: Feed, names: Sequence[str]) -> CaseValidation:
    """Predict whole validation cases by sliding window, without mirroring, and compare with their label maps."""
    started = time.perf_counter()
    labels = feed.configuration.labels
    scores = []
    for name in names:
        image, label = feed.whole(name)
        predicted = predicted_values(_sliding_window(network, feed, image), labels, axis=0).numpy()
        annotated = None if labels.ignore is None else label != labels.ignore
        regions = labels.regions.values()
        scores.append([overlap(np.isin(predicted, v), np.isin(label, v), annotated).dice for v in regions])
    return CaseValidation(dice=_means(np.array(scores)), seconds=time.perf_counter() - started)


def _means(scores: np.ndarray) -> tuple[float, ...]:
    """The mean of each column, over the cases that hold the label or had it predicted."""
    columns = (column[~np.isnan(column)] for column in scores.T)
    return tuple(float(column.mean()) if len(column) else float("nan") for column in columns)


def _sliding_window(network: nn.Module, feed: Feed, image: np.ndarray) -> Tensor:
    """Prediction stands above training; it is reached by name, when asked for, as displays are."""
    room = importlib.import_module("autoseg.prediction.sliding_window")
    window = room.Window(patch_size=feed.configuration.patch_size)
    logits: Tensor = room.predict_logits(network, image, window, feed.compute)
    return logits


def predicted_values(logits: Tensor, labels: Labels, *, axis: int) -> Tensor:
    """Label values from logits with their outputs along `axis`: the best class, or regions written in their order.

    >>> labels = Labels({"background": 0, "box": 5})
    >>> predicted_values(torch.tensor([[0.0, 2.0], [1.0, 1.0]]), labels, axis=0)
    tensor([5, 0], dtype=torch.int16)
    """
    if not labels.has_regions:
        values = torch.tensor(labels.values, dtype=torch.int16, device=logits.device)
        return values[logits.argmax(axis)]
    outputs = logits.unbind(axis)
    written = torch.zeros(outputs[0].shape, dtype=torch.int16, device=logits.device)
    for value, output in zip(labels.region_order, outputs, strict=True):
        written[output > 0] = value
    return written
