"""Trained models of nnU-Net v2, opened from their folder or from the zip that nnU-Net exports."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, overload

from autoseg.core.archives import open_archive
from autoseg.core.errors import AutosegError, ModelError, PlanError, did_you_mean
from autoseg.core.serialization import parse_json
from autoseg.core.shown import Shown
from autoseg.core.types import PathLike, count
from autoseg.data.fingerprint import Fingerprint
from autoseg.data.labels import labels_from_json
from autoseg.interop.nnunet_checkpoint import Checkpoint, read_checkpoint, weights_from_nnunet
from autoseg.interop.nnunet_decisions import LINKS, decisions_in, inherited, kind_of_network, modern
from autoseg.interop.nnunet_edits import ExplainedPlan, explain_plan
from autoseg.interop.nnunet_fingerprint import fingerprint_from_nnunet
from autoseg.interop.nnunet_names import JSON, NOT_UNDERSTOOD, READERS, needed
from autoseg.planning.configuration import Configuration, NetworkSpec
from autoseg.planning.network_rules import augmentation
from autoseg.planning.planner import ORDER
from autoseg.planning.topology import check_divides
from autoseg.training.blueprint import Blueprint
from autoseg.training.model import ModelCard, TrainedModel

LARGEST_JSON = 100 << 20  # bytes; a fingerprint of ten thousand cases is 2 MB
CHECKPOINTS = ("final", "best", "latest")
KNOWN_READERS = {*READERS.values(), "SimpleITKIO"}
LICENCE = "Not stated: ask whoever trained it. Licences of training data may hold for the model too."


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NnunetModel(Shown, Sequence[TrainedModel]):
    """What one of nnU-Net's model folders holds: a `TrainedModel` for each fold, and the plan they follow.

    Takes the place of a list of models: ``autoseg.predict(model, cases)`` averages the folds as nnU-Net does.

    >>> autoseg.open_nnunet_model(autoseg.export_nnunet_model(training.model, "opened.zip"))
    NnunetModel(nnUNetTrainer, 1 fold: 0)
    ...
    """

    source: str
    trainer: str
    plans: Mapping[str, Any]
    fingerprint: Fingerprint | None
    models: tuple[TrainedModel, ...]

    @overload
    def __getitem__(self, index: int) -> TrainedModel: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[TrainedModel, ...]: ...
    def __getitem__(self, index: int | slice) -> TrainedModel | tuple[TrainedModel, ...]:
        return self.models[index]

    def __len__(self) -> int:
        return len(self.models)

    @property
    def configuration(self) -> Configuration:
        """The configuration that all folds share."""
        return self.models[0].configuration

    def explain(self) -> ExplainedPlan:
        """Where the plan departs from nnU-Net's rules. Raises `PlanError` where no fingerprint lies beside the plan."""
        if self.fingerprint is None:
            raise PlanError(
                f"{self.source} holds no dataset_fingerprint.json, the facts that a plan follows from. "
                "With the training data at hand: autoseg.explain_plan(model.plans, extract_fingerprint(dataset))."
            )
        return explain_plan(self.plans, self.fingerprint)

    def __repr__(self) -> str:
        folds = ", ".join(str(model.fold) for model in self.models)
        return f"NnunetModel({self.trainer}, {count(len(self), 'fold')}: {folds})\n  {self.configuration!r}"


def open_nnunet_model(
    path: PathLike,
    *,
    configuration: str | None = None,
    folds: Sequence[int | str] | int | str | None = None,
    checkpoint: str = "final",
) -> NnunetModel:
    """Open a model that nnU-Net v2 trained, to show, predict with, fine-tune, or save as ``.autoseg``.

    Args:
        path: the folder with ``plans.json``, ``dataset.json`` and ``fold_*``, one above it, or a zip of nnU-Net.
        configuration: which one, where there are several.
        folds: those to open, or one; all that were trained where none are given.
        checkpoint: ``final``, ``best`` or ``latest``; another one where a fold has not got it.

    Nothing in the files is run, and names in them are compared with those that are known. Raises `ModelError` where
    files are missing or damaged, or ask for something autoseg does not have; `PlanError` for plans of that kind.

        model = autoseg.open_nnunet_model("nnUNetTrainer__nnUNetPlans__3d_fullres")
        predictions = autoseg.predict(model, dataset.test)

    A cascade is two models, predicted together: ``autoseg.predict([*lowres, *cascade], dataset.test)``. `open_models`
    opens both.

    >>> model = autoseg.open_nnunet_model(autoseg.export_nnunet_model(training.model, "theirs.zip"))
    >>> autoseg.predict(model, dataset.test[:1], show_progress=False)
    Predictions(1 case, ... s)
    """
    if checkpoint not in CHECKPOINTS:
        raise ModelError(f"there is no checkpoint {checkpoint!r}. {did_you_mean(checkpoint, CHECKPOINTS)}")
    folds = (folds,) if isinstance(folds, int | str) else folds
    try:
        with _files_of(Path(path)) as files:
            return _open(files, _Wanted(configuration, folds, checkpoint))
    except AutosegError as error:
        raise type(error)(f"{path}: {error}") from error
    except NOT_UNDERSTOOD as error:
        raise ModelError(f"{path} cannot be understood: {error!r}. Was one of its files edited by hand?") from error


@dataclass(frozen=True, slots=True)
class _Files:
    """The files of a model, wherever they are."""

    names: tuple[str, ...]
    open: Callable[[str], BinaryIO]

    def json(self, name: str) -> JSON:
        if name not in self.names:
            raise ModelError(f"there is no {name}. nnU-Net keeps plans.json and dataset.json above the folds.")
        with self.open(name) as file:
            text = file.read(LARGEST_JSON + 1)
        if len(text) > LARGEST_JSON:
            raise ModelError(f"{name} has more than {LARGEST_JSON:,} bytes, as none of nnU-Net's has.")
        content = parse_json(text, name)
        if not isinstance(content, dict):
            raise ModelError(f"{name} must hold an object {{...}}, it holds a {type(content).__name__}.")
        return content


@dataclass(frozen=True, slots=True)
class _Wanted:
    configuration: str | None
    folds: Sequence[int | str] | None
    checkpoint: str


@contextmanager
def _files_of(path: Path) -> Iterator[_Files]:
    if path.is_dir():
        patterns = ("*.json", "fold_*/checkpoint_*.pth")
        found = [p for above in ("", "*/", "*/*/") for pattern in patterns for p in path.glob(above + pattern)]
        names = tuple(sorted(p.relative_to(path).as_posix() for p in found if p.is_file()))
        yield _Files(names, lambda name: (path / name).open("rb"))
        return
    if not path.exists():
        raise ModelError("there is no such folder or file.")
    with open_archive(path, path.name) as archive:
        yield _Files(archive.names, lambda name: BytesIO(archive.read(name)))


def _open(files: _Files, wanted: _Wanted) -> NnunetModel:
    root = _root(files, wanted.configuration)
    plans, dataset = (files.json(f"{root}{name}.json") for name in ("plans", "dataset"))
    checkpoints = _checkpoints(files, root, wanted)
    facts = _fingerprint(files, root, dataset)
    models: list[TrainedModel] = []
    read: list[Checkpoint] = []
    for fold, name in checkpoints.items():
        with files.open(name) as file:
            read.append(read_checkpoint(file, name))
        found = configuration_from_nnunet(plans, dataset, read[0].configuration)
        if wanted.configuration not in (None, found.name):
            raise ModelError(f"it holds a model of {found.name!r}, not of {wanted.configuration!r}.")
        axes = replace(found.augmentation, mirror_axes=read[0].mirror_axes)
        models.append(_model(replace(found, augmentation=axes), read[-1], fold, name))
    name = str(plans.get("dataset_name", root))
    return NnunetModel(source=name, trainer=read[0].trainer, plans=plans, fingerprint=facts, models=tuple(models))


def _fingerprint(files: _Files, root: str, dataset: JSON) -> Fingerprint | None:
    name = f"{root}dataset_fingerprint.json"
    if name not in files.names:
        return None
    return fingerprint_from_nnunet(files.json(name), dataset)


def _root(files: _Files, configuration: str | None) -> str:
    """The folder of the one model that is meant, with a slash at its end."""
    trained = {name.rpartition("/fold_")[0] for name in files.names if re.search(r"(^|/)fold_\w+/checkpoint_", name)}
    roots = {f"{root}/" if root else "" for root in trained}
    if configuration is not None:
        roots = {root for root in roots if not root or root.endswith(f"__{configuration}/")}
    if not roots:
        raise ModelError(
            "there is no trained model of nnU-Net: a folder with plans.json, dataset.json and "
            f"fold_0/checkpoint_final.pth. There is {', '.join(files.names[:5]) or 'nothing'}."
        )
    if len(roots) > 1:
        names = ", ".join(sorted(root.rstrip("/") for root in roots))
        raise ModelError(
            f"there are several models, {names}: choose with open_nnunet_model(..., configuration=...), or give the "
            "folder of one."
        )
    return roots.pop()


def _checkpoints(files: _Files, root: str, wanted: _Wanted) -> dict[int | str, str]:
    """The file of each fold; the model of all cases only where no fold was trained, as nnU-Net does."""
    there: dict[int | str, dict[str, str]] = {}
    for name in files.names:
        match = re.fullmatch(re.escape(root) + r"fold_(\d+|all)/checkpoint_(\w+)\.pth", name)
        if match:
            there.setdefault(int(match[1]) if match[1] != "all" else "all", {})[match[2]] = name
    numbered = sorted(fold for fold in there if isinstance(fold, int))
    trained: Sequence[int | str] = numbered or list(there)
    folds = trained if wanted.folds is None else wanted.folds
    missing = [fold for fold in folds if fold not in there]
    if missing or not folds:
        raise ModelError(
            f"fold {missing[0] if missing else '?'} was not trained; there are {', '.join(map(str, there))}."
        )
    order = (wanted.checkpoint, *CHECKPOINTS)
    return {fold: next(there[fold][kind] for kind in order if kind in there[fold]) for fold in folds}


def _model(configuration: Configuration, checkpoint: Checkpoint, fold: int | str, name: str) -> TrainedModel:
    if checkpoint.configuration != configuration.name:
        raise ModelError(f"{name} was trained for {checkpoint.configuration!r}, the others for {configuration.name!r}.")
    axes = checkpoint.mirror_axes
    if len({*axes, *range(configuration.dimensions)}) > configuration.dimensions:
        raise ModelError(f"{name} mirrors the axes {axes}, but its patches have {configuration.dimensions}.")
    history = checkpoint.history(tuple(configuration.labels.regions))
    blueprint = Blueprint(
        name=checkpoint.trainer,
        epochs=max(len(history), 1),
        mirroring=bool(configuration.augmentation.mirror_axes),
        precision="float32",  # as nnU-Net predicts on a CPU: in bfloat16 one voxel of a thousand came out otherwise
    )
    return TrainedModel(
        configuration=configuration,
        blueprint=blueprint,
        history=history,
        fold=fold,
        weights=weights_from_nnunet(checkpoint.weights, configuration.network, name),
        card=ModelCard(licence=LICENCE, data=f"{configuration.dataset_name}, by nnU-Net", made_with=("nnU-Net 2",)),
    )


def configuration_from_nnunet(plans: Mapping[str, Any], dataset: Mapping[str, Any], name: str) -> Configuration:
    """One configuration of an ``nnUNetPlans.json``, with the channels and labels of the ``dataset.json`` beside it.

    Raises `PlanError` for what autoseg has no counterpart of.
    """
    settings = modern(inherited(name, needed(plans, "configurations", "this plan")))
    _require_known(plans)
    previous = settings.get("previous_stage")
    if previous is not None and previous not in {*ORDER, *plans["configurations"]}:
        raise PlanError(f"{name} refines what {previous!r} predicts, and this plan has no such configuration.")
    role = "2d" if len(settings["patch_size"]) == 2 else "3d_fullres"
    alone = {**plans, "configurations": {role: {k: v for k, v in settings.items() if k not in LINKS}}}
    values = {key.removeprefix(f"{role}/"): value for key, value in decisions_in(alone).items()}
    labels = labels_from_json(needed(dataset, "labels", "dataset.json"), dataset.get("regions_class_order"))
    channels = dataset.get("channel_names") or needed(dataset, "modality", "dataset.json")
    normalization = tuple(values[f"normalization/{i}"] for i in range(len(channels)))
    encoder, decoder = values["blocks"]
    kind = kind_of_network(name, settings["architecture"])
    check_divides(values["patch_size"], values["topology"])
    return Configuration(
        name=name,
        dataset_name=str(plans["dataset_name"]),
        channels=tuple(map(str, channels.values())),
        labels=labels,
        axis_order=values["axis_order"],
        spacing=values["spacing"],
        median_shape=values["median_shape"],
        patch_size=values["patch_size"],
        batch_size=values["batch_size"],
        network=NetworkSpec(
            kind=kind,
            in_channels=len(channels) + (len(labels.foreground) if previous is not None else 0),
            classes=labels.outputs,
            features=values["features"],
            kernel_sizes=values["topology"].kernel_sizes,
            strides=values["topology"].strides,
            encoder_blocks=encoder,
            decoder_blocks=decoder,
        ),
        normalization=normalization,
        mask_background=values["mask_background"],
        resampling=values["resampling"],
        augmentation=augmentation(patch_size=values["patch_size"]).value,
        batch_dice=values["batch_dice"],
        previous_stage=previous,
    )


def _require_known(plans: Mapping[str, Any]) -> None:
    """Names that nnU-Net would import are compared with those we know the behaviour of."""
    known = {"image_reader_writer": KNOWN_READERS, "label_manager": {"LabelManager"}}
    for key, names in known.items():
        found = plans.get(key)
        if found is not None and found not in names:
            raise PlanError(
                f"{key} is {found!r}, which autoseg does not have; it reads images and labels as "
                f"{', '.join(sorted(names))} does. Names in a plan are never imported."
            )
