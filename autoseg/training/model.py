"""A trained model: weights with everything needed to use them, as files that execute nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autoseg.core.errors import ModelError, StorageError
from autoseg.core.serialization import (
    Components,
    atomic_path,
    component_name,
    from_jsonable,
    to_jsonable,
    write_json,
)
from autoseg.core.shown import Shown
from autoseg.core.types import Axes, PathLike
from autoseg.data.labels import Labels
from autoseg.networks.unet import build_unet
from autoseg.planning.configuration import Configuration, NetworkSpec
from autoseg.training.blueprint import Blueprint
from autoseg.training.history import History

FILES = ("model.json", "weights.safetensors")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainedModel(Shown):
    """A configuration, the blueprint it was trained with, what happened, and the weights."""

    configuration: Configuration
    blueprint: Blueprint
    history: History
    fold: int | str
    weights: Mapping[str, Tensor]

    @property
    def labels(self) -> Labels:
        """What the model predicts."""
        return self.configuration.labels

    @property
    def mirror_axes(self) -> Axes:
        """Axes along which prediction may be averaged over mirror images: those that training mirrored."""
        return self.configuration.augmentation.mirror_axes if self.blueprint.mirroring else ()

    def network(self) -> nn.Module:
        """The network with its weights, ready to predict. Raises `ModelError` where they do not fit together."""
        network = build_network(self.configuration, self.blueprint)
        try:
            network.load_state_dict(dict(self.weights))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[1].strip()
            raise ModelError(f"the weights do not fit the network of {self.configuration.name!r}: {reason}") from error
        return network.eval()

    def save(self, folder: PathLike) -> Path:
        """Write ``model.json`` and ``weights.safetensors`` into a folder; the JSON comes last and makes it complete."""
        folder = Path(folder)
        write_tensors(folder / FILES[1], dict(self.weights))
        meta = {n: getattr(self, n) for n in ("configuration", "blueprint", "history", "fold")}
        write_json(folder / FILES[0], meta)
        return folder

    @staticmethod
    def load(folder: PathLike, *, components: Components | None = None) -> TrainedModel:
        """Read what `save` wrote. `components` gives back a loss, network or normalization of your own, by name.

        Raises `ModelError` where a file is missing or damaged, or such a component is.
        """
        folder = Path(folder)
        missing = [name for name in FILES if not (folder / name).exists()]
        if missing:
            raise ModelError(f"{folder} holds no finished model: {' and '.join(missing)} missing.")
        try:
            meta = json.loads((folder / FILES[0]).read_text())
            kinds = {"configuration": Configuration, "blueprint": Blueprint, "history": History}
            parts: dict[str, Any] = {n: from_jsonable(kind, meta[n], components) for n, kind in kinds.items()}
            weights, _ = read_tensors(folder / FILES[1])
        except (StorageError, ValueError, KeyError) as error:
            raise ModelError(f"the model in {folder} cannot be read: {error}") from error
        return TrainedModel(**parts, fold=meta["fold"], weights=weights)

    def __repr__(self) -> str:
        size = sum(w.numel() for w in self.weights.values())
        return (
            f"TrainedModel({self.configuration.name!r} for {self.configuration.dataset_name!r}, fold {self.fold})\n"
            f"  {size / 1e6:.2f} million weights, blueprint {self.blueprint.name!r}\n  {self.history!r}"
        )


def network_spec(configuration: Configuration, blueprint: Blueprint) -> NetworkSpec:
    """The plan's network, at the blueprint's width where it gives one."""
    spec = configuration.network
    if blueprint.base_features is None:
        return spec
    scale = blueprint.base_features / spec.features[0]
    return replace(spec, features=tuple(max(1, round(f * scale)) for f in spec.features))


def build_network(configuration: Configuration, blueprint: Blueprint) -> nn.Module:
    """A fresh network: the blueprint's own, or the U-Net of the plan."""
    return (blueprint.network or build_unet)(network_spec(configuration, blueprint))


def write_tensors(path: PathLike, tensors: Mapping[str, Tensor], about: Mapping[str, Any] | None = None) -> None:
    """Write tensors, and JSON about them, to one safetensors file in one step."""
    from safetensors.torch import save_file

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(plain, temporary, metadata={"about": json.dumps(to_jsonable(dict(about or {})))})


def read_tensors(path: PathLike) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and the JSON about them. Raises `StorageError` where the file is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118  not a dict
    except (SafetensorError, OSError) as error:
        raise StorageError(f"{path} cannot be read: {error}. It may be damaged or cut short.") from error


def own_components(configuration: Configuration, blueprint: Blueprint) -> dict[str, Callable[..., Any]]:
    """The callables of the user's own that a run uses, by the name under which a file refers to them."""
    parts = (blueprint.network, blueprint.loss, blueprint.sampler, *configuration.normalization)
    return {component_name(part): part for part in parts if part is not None and not is_dataclass(part)}


def as_cpu(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A copy of weights in main memory, contiguous, that later steps do not change."""
    return {name: torch.clone(t.detach().cpu(), memory_format=torch.contiguous_format) for name, t in state.items()}
