"""Trained models wherever they lie: a run, its folds, a cascade, one file, or what nnU-Net keeps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autoseg.core.archives import open_archive
from autoseg.core.errors import ModelError
from autoseg.core.serialization import Components
from autoseg.core.types import PathLike
from autoseg.interop.nnunet_model import open_nnunet_model
from autoseg.training.model import FILES, SUFFIX, TrainedModel


def open_models(path: PathLike, *, components: Components | None = None) -> Sequence[TrainedModel]:
    """Open what is to predict together: ``autoseg.predict(autoseg.open_models("work/runs/3d_fullres"), case)``.

    Args:
        path: a run (``work/runs/2d/fold_0``), a folder of folds (``work/runs/2d``), a ``.autoseg`` file, or nnU-Net's
            model folder or zip. The first stage of a cascade is found beside it: ``work/runs/3d_lowres``, and for
            nnU-Net ``nnUNetTrainer__nnUNetPlans__3d_lowres``.
        components: see `TrainedModel.load`.

    Raises `ModelError` where there is no model, or a file of it is missing or damaged.

    >>> autoseg.predict(autoseg.open_models("work/runs/2d"), dataset.test[:2], show_progress=False)
    Predictions(2 cases, ... s)
    """
    if not isinstance(path, str | Path):
        raise ModelError(f"a {type(path).__name__} is no path. Give that of a run, such as work/runs/2d/fold_0.")
    path = Path(path)
    if path.is_file() and path.suffix != SUFFIX and _is_nnunets(path):
        return _nnunets(path)
    if not path.is_dir() or any((path / name).exists() for name in FILES):
        return _with_first_stage([TrainedModel.load(path, components=components)], path.parent.parent, components)
    folds = [p for p in sorted(path.glob("fold_*")) if any((p / name).exists() for name in FILES)]
    if folds:
        models = [TrainedModel.load(fold, components=components) for fold in folds]
        return _with_first_stage(models, path.parent, components)
    if any(path.glob("**/plans.json")):
        return _nnunets(path)
    inside = ", ".join(sorted(p.name for p in path.iterdir())[:5]) or "nothing"
    raise ModelError(
        f"{path} holds no model, but {inside}. Give a run with model.json and weights.safetensors (such as "
        "work/runs/2d/fold_0), the folder of its folds, a .autoseg file, or nnU-Net's model folder or zip."
    )


def _is_nnunets(path: Path) -> bool:
    with open_archive(path, path.name) as archive:
        return any(name.endswith("plans.json") for name in archive.names)


def _nnunets(path: Path) -> Sequence[TrainedModel]:
    """nnU-Net's models; before those of a cascade's second stage all of its first, from the folder beside."""
    model = open_nnunet_model(path)
    first, second = model.configuration.previous_stage, model.configuration.name
    if first is None:
        return model
    wanted = path.resolve().name.removesuffix(second) + first
    beside = [folder for folder in path.resolve().parent.iterdir() if folder.name == wanted]
    if not beside:
        raise ModelError(
            f"{path} refines what {first} predicts, and there is no folder {wanted} beside it. Open both stages in "
            "Python: predict([*open_nnunet_model(lowres), *open_nnunet_model(cascade)], ...)."
        )
    return [*open_nnunet_model(beside[0]), *model]


def _with_first_stage(models: list[TrainedModel], runs: Path, components: Components | None) -> list[TrainedModel]:
    """For a cascade, the same folds of its first stage too; all of them where not all are there."""
    first = models[0].configuration.previous_stage
    if first is None:
        return models
    there = {p.name: p for p in sorted((runs / first).glob("fold_*")) if (p / FILES[0]).exists()}
    same = [there[f"fold_{m.fold}"] for m in models if f"fold_{m.fold}" in there]
    chosen = same if len(same) == len(models) else list(there.values())
    if not chosen:
        raise ModelError(
            f"{models[0].configuration.name} refines what {first} predicts, and there is no trained model of that in "
            f"{runs / first}. Train it, or predict in Python with the models of both stages in one list."
        )
    return [*(TrainedModel.load(fold, components=components) for fold in chosen), *models]
