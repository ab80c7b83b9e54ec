"""Predicting cases: preprocess, slide the window, and bring the result back to the scan."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch

from autoseg.core.errors import ImageError, PredictionError
from autoseg.core.serialization import digest, read_json, write_json
from autoseg.core.shown import Shown, ask_display
from autoseg.core.types import ImageArray, PathLike
from autoseg.data.checks import load_image
from autoseg.data.dataset import Case, Dataset
from autoseg.data.images import LabelMap, read_label_map, write_label_map
from autoseg.data.labels import Labels
from autoseg.data.memory import case_from
from autoseg.data.pairs import images_in
from autoseg.planning.configuration import Configuration
from autoseg.prediction.sliding_window import Window, predict_logits
from autoseg.preprocessing.cases import label_map_of, preprocess_case, restore_logits, restore_probabilities
from autoseg.training.compute import Compute, choose_compute
from autoseg.training.model import TrainedModel

KEY_FILE = "predictions.json"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prediction(Shown):
    """The label map that models give one case, on the case's own grid.

    `probabilities`, where asked for, are (output, z, y, x) on the same grid.
    """

    case: Case
    label_map: LabelMap
    probabilities: ImageArray | None = None
    seconds: float = 0.0

    def __repr__(self) -> str:
        counts = {self.label_map.labels.name_of(v): int((self.label_map.array == v).sum()) for v in self._values}
        return f"Prediction({self.case.name!r}: " + ", ".join(f"{n} {c} voxels" for n, c in counts.items()) + ")"

    def browse(self) -> Any:
        """A widget: slices on three axes, the prediction against the reference, and where they agree."""
        return ask_display("viewers", "browse_prediction", self)

    def show_3d(self, *, backend: str = "niivue") -> Any:
        """Image, reference and prediction in 3D to turn: with ``"niivue"``, ``"itk"`` (itkwidgets) or a ``"picture"``.

        Raises `DisplayError` where that viewer is not installed or the image has no volume.
        """
        return ask_display("volumes", "show_prediction_3d", self, backend=backend)

    @property
    def native(self) -> Any:
        """The label map as what was given to `predict`: an array, or an image of SimpleITK, nibabel or TorchIO."""
        return self.label_map.to(self.case.held.library if self.case.held else "")

    @property
    def _values(self) -> tuple[int, ...]:
        return self.label_map.labels.foreground


@dataclass(frozen=True, slots=True)
class Predictions(Shown, Sequence[Prediction]):
    """Predictions of several cases, in order; ``predictions["name"]`` finds one."""

    items: tuple[Prediction, ...]

    @overload
    def __getitem__(self, index: int | str) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> Predictions: ...
    def __getitem__(self, index: int | str | slice) -> Prediction | Predictions:
        if isinstance(index, slice):
            return Predictions(self.items[index])
        if isinstance(index, int):
            return self.items[index]
        for item in self.items:
            if item.case.name == index:
                return item
        raise PredictionError(f"no prediction of a case {index!r}; there are {len(self.items)} others.")

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Prediction]:
        return iter(self.items)

    def __repr__(self) -> str:
        return f"Predictions({len(self)} cases, {sum(p.seconds for p in self.items):.1f} s)"


def predict(
    models: TrainedModel | Sequence[TrainedModel],
    what: Any,
    *,
    spacing: Sequence[float] | None = None,
    folder: PathLike | None = None,
    window: Window | None = None,
    probabilities: bool = False,
    device: str | torch.device | None = None,
    show_progress: bool = True,
) -> Predictions:
    """Segment cases with one model, or with the mean of several (folds).

    Args:
        models: models of one configuration; their logits are averaged.
        what: a case, or several; a dataset, whose test cases are then predicted; the path of a file, of a folder with
            images or with a DICOM series, or a tuple of paths, one a channel; a numpy array, or an image of SimpleITK,
            nibabel or TorchIO. ``prediction.native`` is of the type that was given, on the same grid.
        spacing: of arrays, mm in the array's order.
        folder: label maps are written there as soon as they are made; the same call again computes only what is
            missing.
        window: tile size, overlap and mirroring; the plan's patch with half overlap and the axes the models were
            trained to mirror where none is given.
        probabilities: keep them with each prediction.

    Raises `PredictionError` where models do not belong together or there is nothing to predict, `DatasetError` for an
    image that cannot be used. Source: Isensee et al. 2021, Methods, 'Inference'.
    """
    from tqdm.auto import tqdm

    models = [models] if isinstance(models, TrainedModel) else list(models)
    window = window or default_window(models)
    cases = _cases(what, models[0].configuration, spacing)
    compute = choose_compute(device, models[0].blueprint.precision)
    predictor = Predictor(models, window, compute, probabilities=probabilities)
    shelf = None if folder is None else Shelf(Path(folder), predictor.key, predictor.configuration.labels)
    done = []
    for case in tqdm(cases, desc="predict", unit="case", disable=not show_progress, leave=False):
        finished = shelf.find(case) if shelf and not probabilities else None
        prediction = finished or predictor(case)
        if shelf and not finished:
            shelf.put(prediction)
        done.append(prediction)
    return Predictions(tuple(done))


def default_window(models: Sequence[TrainedModel]) -> Window:
    """The plan's patch, half overlap, and the axes along which the models may be mirrored."""
    if not models:
        raise PredictionError("no model was given. Pass training.model, or a list of models of several folds.")
    first = models[0].configuration
    for model in models[1:]:
        if model.configuration != first:
            raise PredictionError(
                f"the models belong to different configurations ({first.name!r} and {model.configuration.name!r}, or "
                "two plans); logits can only be averaged on one grid. Predict with each, then combine the predictions."
            )
    return Window(patch_size=first.patch_size, mirror_axes=models[0].mirror_axes)


def _cases(what: Any, configuration: Configuration, spacing: Sequence[float] | None) -> Sequence[Case]:
    """The cases of whatever was given."""
    make = partial(case_from, channels=configuration.channels, labels=configuration.labels, spacing=spacing)
    if isinstance(what, Dataset):
        cases: Sequence[Any] = what.test
    elif isinstance(what, str | Path) and Path(what).is_dir():
        cases = images_in(Path(what), len(configuration.channels))
    elif isinstance(what, list | tuple):
        cases = what
    else:
        cases = [what]
    if not len(cases):
        raise PredictionError("there are no cases to predict. Pass some, for example dataset.fold(0).validation.")
    return [make(case, name=None if _has_a_name(case) else f"image_{i}") for i, case in enumerate(cases)]


def _has_a_name(what: Any) -> bool:
    return isinstance(what, Case | str | Path | tuple)


class Predictor:
    """Networks ready to predict one case after the other."""

    def __init__(
        self, models: Sequence[TrainedModel], window: Window, compute: Compute, *, probabilities: bool
    ) -> None:
        self.models, self.window, self.compute, self.probabilities = models, window, compute, probabilities
        self.configuration = models[0].configuration
        self.networks = [compute.place(model.network(), len(window.patch_size)) for model in models]

    @property
    def key(self) -> str:
        """Changes with the weights, the plan and the window: what stored predictions are recognised by."""
        weights = hashlib.sha256()
        for model in self.models:
            for name, tensor in sorted(model.weights.items()):
                weights.update(name.encode() + tensor.numpy().tobytes())
        return digest([weights.hexdigest(), self.configuration, self.window])

    def __call__(self, case: Case) -> Prediction:
        """Predict one case."""
        started = time.perf_counter()
        prepared = preprocess_case(case.name, load_image(case), None, self.configuration)
        logits: torch.Tensor = sum(  # type: ignore[assignment]
            predict_logits(network, prepared.array, self.window, self.compute) for network in self.networks
        )
        logits = logits / len(self.networks)
        labels, settings = self.configuration.labels, self.configuration.resampling
        kept: np.ndarray | None = None
        if self.probabilities:
            kept = restore_probabilities(logits, prepared.geometry, labels, settings=settings)
            label_map = label_map_of(kept, prepared.geometry.original, labels)
        else:
            label_map = restore_logits(logits, prepared.geometry, labels, settings=settings)
        return Prediction(case=case, label_map=label_map, probabilities=kept, seconds=time.perf_counter() - started)


class Shelf:
    """A folder of finished predictions, all of the same models."""

    def __init__(self, folder: Path, key: str, labels: Labels) -> None:
        self.folder, self.labels = folder, labels
        path = folder / KEY_FILE
        if not path.exists() or read_json(path).get("key") != key:
            for stale in self._listed(path):
                (folder / stale).unlink(missing_ok=True)
            write_json(path, {"key": key, "files": []})
        self.key, self.files = key, set(self._listed(path))

    @staticmethod
    def _listed(path: Path) -> list[str]:
        return list(read_json(path).get("files", [])) if path.exists() else []

    def path_of(self, case: Case) -> Path:
        """The file of a case: its own name and format."""
        return self.folder / f"{case.name}{case.file_ending}"

    def find(self, case: Case) -> Prediction | None:
        """The finished prediction of a case, if these models made it."""
        path = self.path_of(case)
        if path.name not in self.files or not path.exists():
            return None
        try:
            return Prediction(case=case, label_map=read_label_map(path, self.labels))
        except ImageError:  # a damaged file is as good as none: predict again
            return None

    def put(self, prediction: Prediction) -> None:
        """Write the label map, then note it as finished."""
        path = write_label_map(prediction.label_map, self.path_of(prediction.case))
        self.files.add(path.name)
        write_json(self.folder / KEY_FILE, {"key": self.key, "files": sorted(self.files)})
