"""A dataset preprocessed for one configuration, in memory or in a folder: compressed, resumable, never half written."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from autoseg.core.cluster import on_workers, shared_folder
from autoseg.core.errors import AutosegError, DatasetError, PreprocessingError, StorageError, did_you_mean
from autoseg.core.kinds import require
from autoseg.core.serialization import digest
from autoseg.core.shown import Shown
from autoseg.core.types import ImageArray, LabelArray, PathLike, Shape, count
from autoseg.data.checks import load_pair
from autoseg.data.dataset import Case, Dataset
from autoseg.data.geometry import Box
from autoseg.data.known import KnownFiles, State
from autoseg.data.labels import Labels
from autoseg.data.splits import Split, make_splits
from autoseg.planning.configuration import Configuration
from autoseg.planning.plan import Plan
from autoseg.preprocessing.cases import CaseGeometry, PreprocessedCase, preprocess_case
from autoseg.preprocessing.files import CaseFiles
from autoseg.preprocessing.keys import content_key, inputs_key


@dataclass(frozen=True, slots=True)
class Entry:
    """One case of a preprocessed dataset: what its arrays were made from, as a key, and their shape."""

    key: str
    shape: Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class PreprocessedDataset(Shown):
    """The training cases of a dataset on one configuration's grid.

    ``prepared["name"]`` is a case, iterating gives the names, ``prepared.fold(0)`` the names that train and validate,
    ``prepared.read(name, box)`` a part of a case without the rest. With `folder` None everything is in memory.

    >>> prepared["seahorse_009"]
    PreprocessedCase('seahorse_009': 38x47x41 voxels of 1x1x1 mm, MRI)
      from 38x47x41, cropped to 38x47x41
    >>> len(prepared.fold(0).training), len(prepared.fold(0).validation)
    (20, 6)
    """

    folder: Path | None
    configuration: Configuration
    entries: Mapping[str, Entry] = field(repr=False, hash=False)
    splits: tuple[Split, ...]
    memory: Mapping[str, PreprocessedCase] = field(default_factory=dict, repr=False, hash=False, compare=False)

    @property
    def cases(self) -> tuple[str, ...]:
        """The names of the cases, in the dataset's order."""
        return tuple(self.entries)

    @property
    def key(self) -> str:
        """Changes whenever an input of any case does."""
        return digest({name: entry.key for name, entry in self.entries.items()})

    @property
    def labels(self) -> Labels:
        """What the integers of the label maps mean."""
        return self.configuration.labels

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays when they are in memory, to decide whether they fit."""
        voxel = 4 * len(self.configuration.channels) + 2  # float32 a channel, int16 label
        return sum(int(np.prod(entry.shape)) * voxel for entry in self.entries.values())

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def __getitem__(self, name: str) -> PreprocessedCase:
        files = self._stored(name)
        return self.memory[name] if files is None else files.load(self.entries[name].key, self.configuration)

    def geometry(self, name: str) -> CaseGeometry:
        """How the case got its grid, without reading its voxels."""
        files = self._stored(name)
        return self.memory[name].geometry if files is None else files.geometry(self.entries[name].key)

    def class_locations(self, name: str) -> dict[str, np.ndarray]:
        """Voxels (n, 3) of each label or region, without reading the case's arrays."""
        files = self._stored(name)
        return self.memory[name].class_locations if files is None else files.class_locations()

    def read(self, name: str, box: Box) -> tuple[ImageArray, LabelArray]:
        """The image (channel, z, y, x) and the label map (z, y, x) inside a box; only its chunks are decompressed."""
        files = self._stored(name)
        if files is not None:
            return files.read(box, self.entries[name].key)
        case = self.memory[name]
        assert case.label is not None  # training cases have one
        return case.array[(slice(None), *box.slices)], case.label[box.slices]

    def fold(self, number: int) -> Split:
        """The names that train and validate in a fold. Raises `DatasetError` for a fold that does not exist."""
        if not 0 <= number < len(self.splits):
            raise DatasetError(
                f"fold {number} does not exist: there are {len(self.splits)} folds, 0 to {len(self.splits) - 1}."
                if self.splits
                else f"fold {number} does not exist: a single case cannot be split. Train on everything: fold='all'."
            )
        return self.splits[number]

    def _stored(self, name: str) -> CaseFiles | None:
        """The files of a case, or None where it is in memory."""
        if name not in self.entries:
            raise DatasetError(f"no preprocessed case is called {name!r}. {did_you_mean(name, self.entries)}")
        if self.folder is None:
            return None
        return CaseFiles(self.folder, self.configuration.name, name)

    def __repr__(self) -> str:
        cases, folds = count(len(self), "case"), count(len(self.splits), "fold")
        where = "in memory" if self.folder is None else f"in {self.folder}"
        return (
            f"PreprocessedDataset({self.configuration.dataset_name!r} for {self.configuration.name}: "
            f"{cases} {where})\n  {self.nbytes / 1e6:.0f} MB when read, {folds}"
        )


def preprocess(
    dataset: Dataset,
    configuration: Configuration,
    *,
    folder: PathLike | None = None,
    show_progress: bool = True,
    workers: int = 0,
    client: Any = None,
) -> PreprocessedDataset:
    """Bring every training case to the configuration's grid.

    With a `folder`, cases are kept below ``folder/preprocessed/<configuration>``, one after the other, so that memory
    never holds more than one (or one a worker); those that are there and whose inputs did not change are not computed
    again, not even where the dataset was copied or downloaded again. Without a folder everything stays in memory.
    `workers` are threads of this process; with a `client` of ``dask.distributed``, each case is a task for its workers,
    and the folder one that they all see.

    Configurations that bring a case to the same grid share its arrays.

    Raises `DatasetError` or `PreprocessingError` naming the case, `StorageError` where the folder cannot be written.

    >>> prepared = autoseg.preprocess(dataset, plan["2d"], folder="work")
    >>> prepared
    PreprocessedDataset('Seahorse' for 2d: 26 cases in work)
      12 MB when read, 5 folds
    """
    from tqdm.auto import tqdm

    _require_kinds(dataset, configuration)
    _require_labels(dataset, configuration)
    memory: dict[str, PreprocessedCase] = {}
    if client is not None:
        folder = shared_folder(folder, "preprocess")
    if folder is None:
        prepare = partial(_keep, configuration=configuration, memory=memory)
    else:
        others = _other_configurations(Path(folder), configuration)
        prepare = partial(_store, configuration=configuration, folder=Path(folder), others=others)
    title = f"preprocess {configuration.name}"
    known, cases = KnownFiles(folder), {case.name: case for case in dataset}
    jobs = ((case, known.state(case)) for case in dataset)
    if client is None:
        steps = _each(prepare, jobs, workers)
    else:
        steps = on_workers(client, prepare, list(jobs), names=[f"preprocess-{case.name}" for case in dataset])
    entries: dict[str, Entry] = {}
    with contextlib.closing(known):
        for name, entry in tqdm(
            steps, total=len(dataset), desc=title, unit="case", disable=not show_progress, leave=False
        ):
            entries[name] = entry
            known.keep(cases[name])
    return PreprocessedDataset(
        folder=None if folder is None else Path(folder),
        configuration=configuration,
        entries=entries,
        splits=dataset.splits or (make_splits(tuple(entries)) if len(entries) > 1 else ()),
        memory=memory,
    )


def _require_kinds(dataset: object, configuration: object) -> None:
    """Raise `PreprocessingError` for a plan, or the name of a configuration, in its place, and what is no dataset."""
    require(dataset, Dataset, PreprocessingError)
    if not isinstance(configuration, Configuration):
        names = [c.name for c in configuration] if isinstance(configuration, Plan) else []
        known = f" It has {', '.join(names)}." if names else ""
        name = configuration if isinstance(configuration, str) else names[-1] if names else "3d_fullres"
        raise PreprocessingError(
            f"a dataset is preprocessed for one configuration of a plan, not for a {type(configuration).__name__}. "
            f"Choose one: preprocess(dataset, plan[{name!r}]).{known}"
        )


def _require_labels(dataset: Dataset, configuration: Configuration) -> None:
    """Raise `PreprocessingError` where the plan was made for labels with other values."""
    ours, theirs = dataset.labels, configuration.labels
    difference = ours.difference(theirs)
    if not difference and ours.permitted != theirs.permitted:
        difference = f"the values are {ours.permitted} against {theirs.permitted}"
    if difference:
        raise PreprocessingError(
            f"the plan was made for other labels than this dataset has: {difference}. Plan with the dataset that is "
            "preprocessed: make_plan(extract_fingerprint(dataset))."
        )


def _keep(
    job: tuple[Case, State], *, configuration: Configuration, memory: dict[str, PreprocessedCase]
) -> tuple[str, Entry]:
    """Prepare a case and keep it in memory."""
    case, state = job
    memory[case.name] = prepared = _prepared(case, configuration)
    key = content_key(inputs_key(state, configuration), prepared.geometry.spacing_after)
    return case.name, Entry(key, prepared.geometry.shape)


def _store(
    job: tuple[Case, State], *, configuration: Configuration, folder: Path, others: Sequence[str]
) -> tuple[str, Entry]:
    """Prepare a case and keep it in the folder, unless it is there, or another configuration has the same arrays."""
    case, state = job
    inputs, files = inputs_key(state, configuration), CaseFiles(folder, configuration.name, case.name)
    for name in (configuration.name, *others):
        found = CaseFiles(folder, name, case.name)
        if geometry := found.find(inputs, configuration):
            key = content_key(inputs, geometry.spacing_after)
            if found == files or _shared(files, found, key, configuration):
                return case.name, Entry(key, geometry.shape)
    prepared = _prepared(case, configuration)
    key = content_key(inputs, prepared.geometry.spacing_after)
    files.save(prepared, key, configuration)
    return case.name, Entry(key, prepared.geometry.shape)


def _shared(files: CaseFiles, found: CaseFiles, key: str, configuration: Configuration) -> bool:
    """Whether the arrays of another configuration could be taken over; if not, making them anew will tell why."""
    with contextlib.suppress(StorageError):
        files.save_as(found, key, configuration)
        return True
    return False


def _other_configurations(folder: Path, configuration: Configuration) -> list[str]:
    parent = folder / "preprocessed"
    return sorted(p.name for p in parent.iterdir() if p.name != configuration.name) if parent.is_dir() else []


def _each(
    prepare: Callable[[tuple[Case, State]], tuple[str, Entry]], jobs: Iterable[tuple[Case, State]], workers: int
) -> Iterator[tuple[str, Entry]]:
    """Prepare each case, here or in threads; after the first failure, or Ctrl-C, no other case is begun."""
    if workers < 1:
        yield from map(prepare, jobs)
        return
    pool = ThreadPoolExecutor(workers)
    try:
        yield from pool.map(prepare, jobs)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _prepared(case: Case, configuration: Configuration) -> PreprocessedCase:
    image, label_map = load_pair(case)
    try:
        return preprocess_case(case.name, image, label_map, configuration)
    except AutosegError:
        raise  # it names the case already
    except Exception as error:
        raise PreprocessingError(f"case {case.name!r} could not be preprocessed: {error}") from error
