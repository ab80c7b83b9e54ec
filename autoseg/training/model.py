"""A trained model: weights with everything needed to use them, as files that execute nothing."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autoseg.core.archives import open_archive, write_archive
from autoseg.core.errors import AutosegError, ModelError, StorageError, TrainingError
from autoseg.core.serialization import (
    Components,
    atomic_path,
    component_name,
    from_jsonable,
    parse_json,
    read_json,
    to_jsonable,
    write_json,
)
from autoseg.core.shown import Shown
from autoseg.core.types import Axes, PathLike
from autoseg.data.labels import Labels
from autoseg.networks.unet import build_unet, weight_shapes
from autoseg.planning.configuration import Configuration, NetworkSpec
from autoseg.training.blueprint import Blueprint
from autoseg.training.history import History
from autoseg.training.model_card import ModelCard as ModelCard
from autoseg.training.model_card import versions

FILES = ("model.json", "weights.safetensors")
CHECKSUM = "crc32"  # of all tensors by name, beside what a safetensors file says about them
SUFFIX = ".autoseg"  # of a model in one file: a zip of the two above and a README
BROKEN = (AutosegError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError)  # of wrong content


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainedModel(Shown):
    """A configuration, the blueprint it was trained with, what happened, and the weights.

    >>> autoseg.TrainedModel.load(training.model.save("seahorse.autoseg"))
    TrainedModel('2d' for 'Seahorse', fold 0)
    ...
    """

    configuration: Configuration
    blueprint: Blueprint
    history: History
    fold: int | str
    weights: Mapping[str, Tensor]
    card: ModelCard = field(default_factory=ModelCard)

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

    def with_card(self, **changes: str) -> TrainedModel:
        """The model with other entries on its card: ``intended_use``, ``licence``, ``limitations``, ``data``."""
        return replace(self, card=replace(self.card, **changes))  # type: ignore[arg-type]

    def save(self, path: PathLike) -> Path:
        """Write the model to one file, ``x.autoseg``, or to a folder.

        The file is a zip of ``model.json``, ``weights.safetensors`` and the card as ``README.md``; a folder gets the
        first two, the JSON last, which makes it complete.
        """
        path = Path(path)
        meta = {n: getattr(self, n) for n in ("configuration", "blueprint", "history", "fold", "card")}
        if path.suffix != SUFFIX:
            write_tensors(path / FILES[1], dict(self.weights))
            write_json(path / FILES[0], meta)
            return path
        title = f"{self.configuration.dataset_name}, {self.configuration.name}, fold {self.fold}"
        entries = {
            FILES[0]: json.dumps(to_jsonable(meta), indent=1).encode(),
            FILES[1]: tensor_bytes(self.weights),
            "README.md": self.card.to_markdown(title).encode(),
        }
        return write_archive(path, entries)

    @staticmethod
    def load(path: PathLike, *, components: Components | None = None) -> TrainedModel:
        """Read what `save` wrote. `components` gives back a loss, network or normalization of your own, by name.

        Nothing in the files is run. Raises `ModelError` where one is missing or damaged, or such a component is.
        """
        path = Path(path)
        meta: Any = None
        try:
            meta, weights = _read_folder(path) if path.is_dir() else _read_file(path)
            kinds = {"configuration": Configuration, "blueprint": Blueprint, "history": History, "card": ModelCard}
            parts = {n: from_jsonable(kind, meta[n], components) for n, kind in kinds.items() if n in meta}
            model = TrainedModel(**parts, fold=from_jsonable(int | str, meta["fold"]), weights=weights)
            _require_fitting(model)
            return model
        except BROKEN as error:
            reason = str(error) if isinstance(error, AutosegError) else repr(error)
            raise ModelError(f"the model in {path} cannot be read: {reason}{_of_another_version(meta)}") from error

    def __repr__(self) -> str:
        size = sum(w.numel() for w in self.weights.values())
        return (
            f"TrainedModel({self.configuration.name!r} for {self.configuration.dataset_name!r}, fold {self.fold})\n"
            f"  {size / 1e6:.2f} million weights, blueprint {self.blueprint.name!r}\n  {self.history!r}"
        )


def _read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    missing = [name for name in FILES if not (folder / name).exists()]
    if missing:
        hint = " It looks like nnU-Net's: autoseg.open_nnunet_model." if (folder / "plans.json").exists() else ""
        raise ModelError(f"{folder} holds no finished model: {' and '.join(missing)} missing.{hint}")
    return read_json(folder / FILES[0]), read_tensors(folder / FILES[1])[0]


def _read_file(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    if not path.exists():
        raise ModelError("there is no such folder or file.")
    with open_archive(path, path.name) as archive:
        try:
            return parse_json(archive.read(FILES[0]), FILES[0]), load(archive.read(FILES[1]))
        except SafetensorError as error:
            raise StorageError(f"{FILES[1]} in {path.name} is damaged: {error}. Get the file again.") from error


def _of_another_version(meta: Any) -> str:
    """A sentence where a file says that another version made it."""
    card = meta.get("card") if isinstance(meta, dict) else None
    made_with = card.get("made_with") if isinstance(card, dict) else None
    made, here = str(made_with[0]) if isinstance(made_with, list) and made_with else "", versions()[0]
    known = made.startswith("autoseg ") and made != here
    return f" It was made with {made}, and this is {here}: install that version to open it." if known else ""


def _require_fitting(model: TrainedModel) -> None:
    """Raise `ModelError` where the weights are not those of the network, before one as large as it says is made."""
    if model.blueprint.network is not None:
        return
    shapes = weight_shapes(network_spec(model.configuration, model.blueprint), among=len(model.weights))
    found = {name: tuple(weight.shape) for name, weight in model.weights.items()}
    for name in {**shapes, **found}:
        if found.get(name) != shapes.get(name):
            raise ModelError(
                f"the weight {name} is {found.get(name, 'missing')}, and the network's {shapes.get(name, 'missing')}."
            )


def network_spec(configuration: Configuration, blueprint: Blueprint) -> NetworkSpec:
    """The plan's network, at the blueprint's width where it gives one."""
    spec = configuration.network
    if (wide := blueprint.features_for(configuration)) is None:
        return spec
    scale = wide / spec.features[0]
    return replace(spec, features=tuple(max(1, round(f * scale)) for f in spec.features))


def build_network(configuration: Configuration, blueprint: Blueprint) -> nn.Module:
    """A fresh network: the blueprint's own, or the U-Net of the plan."""
    return (blueprint.network or build_unet)(network_spec(configuration, blueprint))


def write_tensors(path: PathLike, tensors: Mapping[str, Tensor], about: Mapping[str, Any] | None = None) -> None:
    """Write tensors, and JSON about them, to one safetensors file in one step."""
    content = tensor_bytes(tensors, about)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(content)  # safetensors' own writer hides a full disk in an error of another kind
        file.flush()
        os.fsync(file.fileno())  # or a power cut may leave the new name without its content


def tensor_bytes(tensors: Mapping[str, Tensor], about: Mapping[str, Any] | None = None) -> bytes:
    """Tensors and JSON about them as the bytes of a safetensors file, the same for the same."""
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    known = json.dumps({CHECKSUM: checksum(plain), **to_jsonable(dict(about or {}))})
    content: bytes = save(plain, metadata={"about": known})  # one entry: safetensors writes several in any order
    return content


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """A number that changes with any bit of the tensors, in the CPU's memory and contiguous."""
    crc = 0
    for name in sorted(tensors):
        crc = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, crc)
    return f"{crc:08x}"


def read_tensors(path: PathLike) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and the JSON about them. Raises `StorageError` where the file is damaged, if only by a bit."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
    except (SafetensorError, OSError) as error:
        raise StorageError(f"{path} cannot be read: {error}. It may be damaged or cut short.") from error
    if about.pop(CHECKSUM, None) not in (None, checksum(tensors)):
        raise StorageError(f"{path} is damaged: its numbers are no longer those that were written.")
    return tensors, about


def own_components(configuration: Configuration, blueprint: Blueprint) -> dict[str, Callable[..., Any]]:
    """The callables of the user's own that a run uses, by the name under which a file refers to them.

    Raises `TrainingError` where two have one name, as two lambdas do: a file could not tell them apart.
    """
    own = (getattr(blueprint, name) for name in ("network", "loss", "sampler", "augmentation", "schedule"))
    named: dict[str, Callable[..., Any]] = {}
    for part in (*own, *configuration.normalization):
        if callable(part) and not is_dataclass(part) and named.setdefault(component_name(part), part) != part:
            raise TrainingError(
                f"two parts of your own are both called {component_name(part)!r}, and a folder could mix them up. "
                "Write each as a function with a name of its own: def my_loss(logits, labels): ..."
            )
    return named


def as_cpu(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A copy of weights in main memory, contiguous, that later steps do not change."""
    return {name: torch.clone(t.detach().cpu(), memory_format=torch.contiguous_format) for name, t in state.items()}
