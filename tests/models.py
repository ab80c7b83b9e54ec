"""Models with random weights, for tests of what is done with models."""

from __future__ import annotations

import torch
from configurations import configuration

from autoseg.training.blueprint import Blueprint
from autoseg.training.history import History
from autoseg.training.model import TrainedModel, as_cpu, build_network

CUBES = configuration()


def random_model(configuration=CUBES, fold=0, **changes) -> TrainedModel:
    """An untrained model; its biases and norms are random too, so that none can be mistaken for another."""
    blueprint = Blueprint.nnunet(epochs=1).changed(precision="float32", **changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network(configuration, blueprint)
        for weight in network.parameters():
            if weight.ndim == 1:
                torch.nn.init.normal_(weight, 0.5, 0.3)
    weights = as_cpu(network.state_dict())
    history = History((), tuple(configuration.labels.regions))
    return TrainedModel(configuration=configuration, blueprint=blueprint, history=history, fold=fold, weights=weights)
