"""The verb: cases of any kind in, label maps on their own grids out, and nothing lost on the way."""

from __future__ import annotations

import itertools
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from autoseg.core.cluster import on_workers, shared_folder
from autoseg.core.errors import AutosegError, ImageError, PredictionError, StorageError
from autoseg.core.serialization import digest, write_json
from autoseg.core.types import PathLike, count
from autoseg.data.dataset import Case, Dataset
from autoseg.data.images import read_label_map, write_label_map
from autoseg.data.labels import Labels
from autoseg.data.memory import case_from, is_spaced
from autoseg.data.pairs import images_in, names_of
from autoseg.planning.configuration import Configuration
from autoseg.prediction.postprocessing import Postprocessing
from autoseg.prediction.predictor import Options, Predictor, models_of
from autoseg.prediction.results import KEY_FILE, Stored, earlier, noted
from autoseg.prediction.results import Prediction as Prediction
from autoseg.prediction.results import Predictions as Predictions
from autoseg.training.interrupts import undisturbed
from autoseg.training.model import TrainedModel


def predict(
    models: TrainedModel | Iterable[TrainedModel],
    what: Any,
    *,
    spacing: Sequence[float] | None = None,
    folder: PathLike | None = None,
    mirroring: bool = True,
    overlap: float = 0.5,
    probabilities: bool = False,
    device: str | torch.device | None = None,
    client: Any = None,
    show_progress: bool = True,
) -> Predictions:
    """Segment cases with one model, with the mean of several (folds), or with a cascade.

    Args:
        models: models of one configuration, whose logits are averaged; of a cascade those of both stages in one list.
        what: a case, or several; a dataset, whose test cases are then predicted; the path of a file, of a folder with
            images or with a DICOM series, or a tuple of paths, one a channel; a numpy array, a tuple of an array and
            its spacing, or an image of SimpleITK, nibabel or TorchIO. ``prediction.native`` is of the type that was
            given, on the same grid.
        spacing: mm in the array's order, of arrays, and of images whose header is not to be believed.
        folder: label maps are written there as soon as they are made; the same call again computes only what is
            missing, or with ``probabilities``, which are not written, everything.
        mirroring: average over the mirror images that training has shown too; without it 3D takes an eighth of the
            time.
        overlap: what neighbouring tiles share of their edge.
        probabilities: keep them with each prediction, in memory.
        client: of ``dask.distributed``: each case is a task for its workers, and the folder one that they all see.

    A case that cannot be predicted does not stop the others: ``predictions.failed`` says why. Interrupted without a
    folder, what is finished is returned; with one, it is there already, and the same call goes on.

    Raises `PredictionError` where models do not belong together or there is nothing to predict, `StorageError` where
    the folder cannot be written, and the error of the case where none could be predicted. Source: Isensee et al. 2021,
    Methods, 'Inference'.

    >>> autoseg.predict(training.model, dataset.fold(0).validation, show_progress=False)
    Predictions(6 cases, ... s)
    >>> array = dataset.test[0].image().array[0]
    >>> autoseg.predict(training.model, array, spacing=(1, 1, 1), show_progress=False)[0].native.shape == array.shape
    True
    """
    options = Options(mirroring=mirroring, overlap=overlap, probabilities=probabilities)
    if client is not None:
        folder = shared_folder(folder, "predict")
    run = partial(_predict, spacing=spacing, folder=folder, device=device, client=client, show_progress=show_progress)
    return run([models_of(models)], what, options)


def predict_together(
    groups: Sequence[Iterable[TrainedModel]],
    what: Any,
    *,
    spacing: Sequence[float] | None = None,
    folder: PathLike | None = None,
    mirroring: bool = True,
    overlap: float = 0.5,
    probabilities: bool = False,
    postprocessing: Postprocessing = Postprocessing(),  # noqa: B008  it is frozen
    device: str | torch.device | None = None,
    show_progress: bool = True,
) -> Predictions:
    """The mean probabilities of several configurations, decoded and postprocessed; everything else as in `predict`."""
    options = Options(mirroring=mirroring, overlap=overlap, probabilities=probabilities, postprocessing=postprocessing)
    return _predict(groups, what, options, spacing=spacing, folder=folder, device=device, show_progress=show_progress)


def _predict(
    groups: Sequence[Iterable[TrainedModel]],
    what: Any,
    options: Options,
    *,
    spacing: Sequence[float] | None,
    folder: PathLike | None,
    device: str | torch.device | None,
    client: Any = None,
    show_progress: bool,
) -> Predictions:
    predictor = Predictor(groups, options, device)
    cases = cases_of(what, predictor.configuration, spacing)
    if folder is not None:
        _require_files_of_their_own(cases, Path(folder), what)
    shelf = None if folder is None else Shelf(Path(folder), predictor.key, predictor.configuration.labels)
    if shelf is not None:
        shelf.make_room(cases)
    run = _Run(predictor, shelf)
    try:
        outcomes = map(run.attempt, cases) if client is None else run.on_workers(client, cases)
        run.over(cases, outcomes, show_progress=show_progress)
    except KeyboardInterrupt:
        if shelf or not run.done:  # nothing is lost: the same call goes on
            raise
        stopped = f"interrupted: {len(run.done)} of {len(cases)} cases are predicted, and returned"
        warnings.warn(f"prediction was {stopped}.", stacklevel=3)
        return Predictions(tuple(run.done), failed=run.failed(), stopped=stopped)
    return Predictions(tuple(run.done), failed=run.failed())


class _Run:
    """What is finished of a list of cases, and what went wrong."""

    def __init__(self, predictor: Predictor, shelf: Shelf | None) -> None:
        self.predictor, self.shelf = predictor, shelf
        self.done: list[Prediction | Stored] = []
        self.errors: dict[str, AutosegError] = {}

    def over(self, cases: Sequence[Case], outcomes: Iterable[Outcome], *, show_progress: bool) -> None:
        """Collect what became of each case. Raises the error of a case where not one could be predicted."""
        from tqdm.auto import tqdm

        shown = tqdm(outcomes, total=len(cases), desc="predict", unit="case", disable=not show_progress, leave=False)
        for case, outcome in zip(cases, shown, strict=True):
            if isinstance(outcome, AutosegError):
                self.errors[case.name] = outcome
            else:
                self.done.append(self._kept(outcome))
        if not self.done:
            first = next(iter(self.errors.values()))
            if len(self.errors) == 1:
                raise first
            raise PredictionError(f"none of {len(cases)} cases could be predicted. The first: {first}") from first

    def attempt(self, case: Case) -> Outcome:
        """The prediction of a case, or the error that it ends in."""
        try:
            return self._one(case)
        except StorageError:  # the folder's, and of all cases alike
            raise
        except AutosegError as error:
            return error

    def on_workers(self, client: Any, cases: Sequence[Case]) -> Iterator[Outcome]:
        """The same of all cases, those that are missing computed by the workers of a dask client."""
        assert self.shelf is not None  # a client needs a folder
        missing = [(case, self.shelf.path_of(case)) for case in cases if not self.shelf.find(case)]
        names = [f"predict-{case.name}" for case, _ in missing]
        predictor = client.scatter(self.predictor, broadcast=True)
        computed = on_workers(client, _write_prediction, missing, names=names, gpu=True, predictor=predictor)
        waiting = {case.name for case, _ in missing}
        for case in cases:
            error = next(computed) if case.name in waiting else None
            if case.name in waiting and error is None:
                self.shelf.note(case)
            yield error or self._one(case)

    def _one(self, case: Case) -> Prediction:
        finished = self.shelf.find(case) if self.shelf and not self.predictor.options.probabilities else None
        prediction = finished or self.predictor(case)
        if self.shelf and not finished:
            self.shelf.put(prediction)
        return prediction

    def _kept(self, prediction: Prediction) -> Prediction | Stored:
        """What stays in memory: of a file's prediction in a folder only where it lies, but for probabilities."""
        case = prediction.case
        if self.shelf is None or case.held is not None or prediction.probabilities is not None:
            return prediction
        return self.shelf.stored(case, prediction.seconds)

    def failed(self) -> dict[str, str]:
        """The sentence of each case that could not be predicted; it names the case."""
        return {name: f"{e}" if name in str(e) else f"case {name!r}: {e}" for name, e in self.errors.items()}


Outcome = Prediction | AutosegError


def _write_prediction(job: tuple[Case, Path], *, predictor: Predictor) -> AutosegError | None:
    """A worker's task: predict a case and write its label map; the error where the case cannot be predicted."""
    case, path = job
    try:
        write_label_map(predictor(case).label_map, path)
    except StorageError:
        raise
    except AutosegError as error:
        return error
    return None


def _require_files_of_their_own(cases: Sequence[Case], folder: Path, what: Any) -> None:
    """Each case writes a file of its own, and none is written over an image or a reference label map."""
    name, times = Counter(_path_of(case, folder).name for case in cases).most_common(1)[0]
    if times > 1:
        raise PredictionError(
            f"{times} cases would be written to the same file, {name}. Give them names of their own, or predict each "
            "into a folder of its own."
        )
    images = {path.resolve() for case in cases for path in case.image_paths}
    written = [_path_of(case, folder).resolve() for case in cases]
    references = {case.label_path.resolve() for case in cases if case.label_path is not None}
    among = isinstance(what, str | Path) and Path(what).is_dir() and Path(what).resolve() == folder.resolve()
    if among or images.intersection(written):
        raise PredictionError(
            f"{folder} holds the images, and {name} and others would be written over them or be taken for images the "
            "next time. Give another folder for the label maps."
        )
    if over := sorted(references.intersection(written)):
        raise PredictionError(
            f"{folder} holds the reference label maps, and {over[0].name} would be written over one. Give another "
            "folder for what is predicted."
        )


def _path_of(case: Case, folder: Path) -> Path:
    """The file of a case's label map: its own name and format."""
    return folder / f"{case.name}{case.file_ending}"


def cases_of(what: Any, configuration: Configuration, spacing: Sequence[float] | None) -> Sequence[Case]:
    """The cases of whatever was given. Raises `PredictionError` where there are none."""
    channels = configuration.channels
    make = partial(case_from, channels=channels, labels=configuration.labels, spacing=spacing)
    if isinstance(what, Dataset):
        cases: Sequence[Any] = what.test
    elif isinstance(what, str | Path) and Path(what).is_dir():
        images = images_in(Path(what), len(channels))
        cases = [make(paths, name=name) for paths, name in zip(images, names_of(images), strict=True)]
    elif isinstance(what, list | tuple) and not _is_one(what, len(channels)):
        cases = what
    else:
        cases = [what]
    if not len(cases):
        raise PredictionError("there are no cases to predict. Pass some, for example dataset.fold(0).validation.")
    return [make(case, name=None if _has_a_name(case) else f"image_{i}") for i, case in enumerate(cases)]


def _is_one(what: Sequence[Any], channels: int) -> bool:
    """Whether a tuple is one case: a path for each channel, or an array with its spacing."""
    paths = all(isinstance(part, str | Path) for part in what)
    return isinstance(what, tuple) and ((paths and len(what) == channels > 1) or is_spaced(what))


def _has_a_name(what: Any) -> bool:
    return isinstance(what, Case | str | Path) or (isinstance(what, tuple) and not is_spaced(what))


class Shelf:
    """A folder of finished predictions, all of the same models; a case whose image changed is predicted again."""

    def __init__(self, folder: Path, key: str, labels: Labels) -> None:
        self.folder, self.labels, self.key = folder, labels, key
        before, files = noted(folder) if (folder / KEY_FILE).exists() else (key, {})
        self.files = files if before == key else {}  # the image that each was made of
        self._note()  # fails here, before anything is computed, where the folder cannot be written
        others = [path for name in set(files) - set(self.files) if (path := folder / name).exists()]
        if others:
            aside = earlier(folder, before)
            warnings.warn(
                f"{folder} held {len(others)} label maps that another model predicted; they are now in {aside.name}.",
                stacklevel=2,
            )
            aside.mkdir(exist_ok=True)
        for path in others:
            path.replace(aside / path.name)

    def make_room(self, cases: Sequence[Case]) -> None:
        """Move aside what lies where cases will be written and was not predicted here, or of another array."""
        paths = [self.path_of(case) for case in cases if self._is_foreign(case)]
        if not paths:
            return
        aside = next(p for n in itertools.count(1) if not (p := self.folder / f"earlier_files_{n}").exists())
        aside.mkdir()
        for path in paths:
            path.replace(aside / path.name)
        warnings.warn(
            f"{self.folder} held {count(len(paths), 'file')} that would have been written over, such as "
            f"{paths[0].name}: not predicted there, or of another array of that name. Now in {aside.name}.",
            stacklevel=4,
        )

    def _is_foreign(self, case: Case) -> bool:
        path = self.path_of(case)
        made_of = self.files.get(path.name)
        another = made_of is None or (case.held is not None and made_of != digest(case.state))
        return another and path.exists()

    def path_of(self, case: Case) -> Path:
        """The file of a case."""
        return _path_of(case, self.folder)

    def stored(self, case: Case, seconds: float) -> Stored:
        """A finished prediction as where it lies."""
        path = self.path_of(case).absolute()
        return Stored(
            case=case, path=path, labels=self.labels, key=self.key, made_of=self.files[path.name], seconds=seconds
        )

    def find(self, case: Case) -> Prediction | None:
        """The finished prediction of a case, if these models made it of this image."""
        path = self.path_of(case)
        if self.files.get(path.name) != digest(case.state) or not path.exists():
            return None
        try:
            return Prediction(case=case, label_map=read_label_map(path, self.labels))
        except ImageError:  # a damaged file is as good as none: predict again
            return None

    def put(self, prediction: Prediction) -> None:
        """Write the label map, then note it as finished; Ctrl-C waits for both."""
        with undisturbed():
            write_label_map(prediction.label_map, self.path_of(prediction.case))
            self.note(prediction.case)

    def note(self, case: Case) -> None:
        """The label map of a case is written, and finished."""
        self.files[self.path_of(case).name] = digest(case.state)
        self._note()

    def _note(self) -> None:
        write_json(self.folder / KEY_FILE, {"key": self.key, "files": dict(sorted(self.files.items()))})
