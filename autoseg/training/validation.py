"""Validation: the quick one on patches, and the true one on whole cases by sliding window, as prediction works."""

from __future__ import annotations

import importlib
import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from autoseg.data.labels import Labels
from autoseg.evaluation.metrics import known_mean, overlap
from autoseg.training.feed import Feed
from autoseg.training.history import EpochRecord
from autoseg.training.learner import Learner
from autoseg.training.pseudo_dice import PseudoDice

SHARE = 0.03  # of a budget of minutes may go into validating whole cases
TIMES = 20  # in a training that counts epochs


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


class CaseValidator:
    """Predicts whole validation cases now and then: how often, and how many, is what the time allows."""

    def __init__(self, feed: Feed) -> None:
        self.feed, self.blueprint = feed, feed.blueprint
        self.wanted = feed.validation_names[: feed.blueprint.validation_cases]
        self.cost, self.validated_at = 0.0, 0.0

    def due(self, epochs: Sequence[EpochRecord], seconds: float) -> bool:
        """Every so many epochs; with a budget of minutes, when it would take so little of the time since the last."""
        if not self.wanted:
            return False
        if self.blueprint.epochs is not None:
            every = max(1, round(self.blueprint.epochs / TIMES))
            return (len(epochs) + 1) % every == 0 or len(epochs) + 1 == self.blueprint.epochs
        if not epochs:
            return False
        budget = 60 * (self.blueprint.minutes or 0)
        if not self.cost:
            self.wanted = self._affordable(epochs[0], budget)
        cost = self.cost or estimated_seconds(self.feed, self.wanted, epochs[0])
        return cost <= SHARE * (seconds - self.validated_at) and seconds + cost < budget

    def _affordable(self, first: EpochRecord, budget: float) -> tuple[str, ...]:
        """As many cases as could be predicted four times; one at least."""
        enough = (
            self.wanted[:n]
            for n in range(len(self.wanted), 1, -1)
            if 4 * estimated_seconds(self.feed, self.wanted[:n], first) <= SHARE * budget
        )
        return next(enough, self.wanted[:1])

    def validate(self, learner: Learner, seconds: float) -> tuple[float, ...]:
        """Mean Dice of each label or region over the cases, predicted whole."""
        started = time.perf_counter()
        with learner.at_full_resolution() as network:
            dice = validate_cases(network, self.feed, self.wanted)
        self.cost, self.validated_at = time.perf_counter() - started, seconds
        return dice


def estimated_seconds(feed: Feed, names: Sequence[str], epoch: EpochRecord) -> float:
    """Seconds of predicting whole cases, before it was ever done: four tiles over each voxel, forwards only."""
    voxels = sum(np.prod(feed.prepared.entries[name].shape) for name in names)
    batch = feed.batch_size * np.prod(feed.configuration.patch_size)
    forward = epoch.timings.get("forward", epoch.seconds) / epoch.iterations  # interrupted, an epoch lost its timings
    return float(4 * forward * max(voxels / batch, len(names) / feed.batch_size))


def validate_cases(network: nn.Module, feed: Feed, names: Sequence[str]) -> tuple[float, ...]:
    """Predict whole cases by sliding window, without mirroring; the mean Dice of each label over those that have it."""
    labels = feed.configuration.labels
    scores = []
    for name in names:
        image, label = feed.whole(name)
        predicted = predicted_values(_sliding_window(network, feed, image), labels, axis=0).numpy()
        annotated = None if labels.ignore is None else label != labels.ignore
        regions = labels.regions.values()
        scores.append([overlap(np.isin(predicted, v), np.isin(label, v), annotated).dice for v in regions])
    return tuple(map(known_mean, zip(*scores, strict=True)))


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
