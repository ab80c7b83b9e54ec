"""A dataset preprocessed for one configuration, in memory or in a folder: compressed, resumable, never half written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from autoseg.core.errors import AutosegError, DatasetError, PreprocessingError, StorageError, did_you_mean
from autoseg.core.serialization import atomic_path, digest, from_jsonable, read_json, write_json
from autoseg.core.shown import Shown
from autoseg.core.types import ImageArray, LabelArray, PathLike, Shape
from autoseg.data.checks import load_pair
from autoseg.data.dataset import Case, Dataset
from autoseg.data.geometry import Box
from autoseg.data.images import suffix_of
from autoseg.data.labels import Labels
from autoseg.data.splits import Split, make_splits
from autoseg.planning.configuration import Configuration
from autoseg.preprocessing.cases import CaseGeometry, PreprocessedCase, preprocess_case

FORMAT = 1  # raised whenever the same inputs give other arrays
Memory: TypeAlias = Mapping[str, PreprocessedCase]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreprocessedDataset(Shown):
    """The training cases of a dataset on one configuration's grid.

    ``prepared["name"]`` is a case, iterating gives the names, ``prepared.fold(0)`` the names that train and validate,
    ``prepared.read(name, box)`` a part of a case without the rest. With `folder` None everything is in memory.
    """

    folder: Path | None
    configuration: Configuration
    cases: tuple[str, ...]
    key: str
    splits: tuple[Split, ...]
    memory: Memory = field(default_factory=dict, repr=False, hash=False, compare=False)

    def __len__(self) -> int:
        return len(self.cases)

    def __iter__(self) -> Iterator[str]:
        return iter(self.cases)

    def __contains__(self, name: object) -> bool:
        return name in self.cases

    def __getitem__(self, name: str) -> PreprocessedCase:
        self._check(name)
        return self.memory[name] if name in self.memory else _load(self.files(name), self.configuration)

    @property
    def labels(self) -> Labels:
        """What the integers of the label maps mean."""
        return self.configuration.labels

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays when they are in memory, to decide whether they fit."""
        voxel = 4 * len(self.configuration.channels) + 2  # float32 a channel, int16 label
        return sum(int(np.prod(self.geometry(name).shape)) * voxel for name in self.cases)

    def geometry(self, name: str) -> CaseGeometry:
        """How the case got its grid, without reading its voxels."""
        self._check(name)
        if name in self.memory:
            return self.memory[name].geometry
        geometry: CaseGeometry = from_jsonable(CaseGeometry, read_json(self.files(name).facts)["geometry"])
        return geometry

    def class_locations(self, name: str) -> dict[str, np.ndarray]:
        """Voxels (n, 3) of each label or region, without reading the case's arrays."""
        self._check(name)
        return self.memory[name].class_locations if name in self.memory else _read_locations(self.files(name))

    def read(self, name: str, box: Box) -> tuple[ImageArray, LabelArray]:
        """The image (channel, z, y, x) and the label map (z, y, x) inside a box; only its chunks are decompressed."""
        self._check(name)
        if name in self.memory:
            case = self.memory[name]
            return case.array[(slice(None), *box.slices)], _label_of(case)[box.slices]
        files = self.files(name)
        return _open(files.image)[(slice(None), *box.slices)], _open(files.label)[box.slices]

    def fold(self, number: int) -> Split:
        """The names that train and validate in a fold. Raises `DatasetError` for a fold that does not exist."""
        if not 0 <= number < len(self.splits):
            raise DatasetError(
                f"fold {number} does not exist: there are {len(self.splits)} folds, 0 to {len(self.splits) - 1}."
            )
        return self.splits[number]

    def files(self, name: str) -> Files:
        """Where the case is kept. Raises `StorageError` for a dataset that is in memory."""
        if self.folder is None:
            raise StorageError("this dataset was preprocessed in memory; give preprocess() a folder to keep it.")
        return Files.of(self.folder, self.configuration.name, name)

    def _check(self, name: str) -> None:
        if name not in self.cases:
            raise DatasetError(f"no preprocessed case is called {name!r}. {did_you_mean(name, self.cases)}")

    def __repr__(self) -> str:
        where = "in memory" if self.folder is None else f"in {self.folder}"
        return (
            f"PreprocessedDataset({self.configuration.dataset_name!r} for {self.configuration.name}: "
            f"{len(self)} cases {where})\n  {self.nbytes / 1e6:.0f} MB when read, {len(self.splits)} folds"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The files of one case. `facts` is written last: a case without it is not finished."""

    image: Path
    label: Path
    locations: Path
    facts: Path

    @staticmethod
    def of(folder: Path, configuration: str, name: str) -> Files:
        """The files of a case below ``folder/preprocessed/<configuration>``."""
        base = folder / "preprocessed" / configuration
        return Files(
            image=base / f"{name}.b2nd",
            label=base / f"{name}_label.b2nd",
            locations=base / f"{name}.npz",
            facts=base / f"{name}.json",
        )


def preprocess(
    dataset: Dataset,
    configuration: Configuration,
    *,
    folder: PathLike | None = None,
    show_progress: bool = True,
    workers: int = 0,
) -> PreprocessedDataset:
    """Bring every training case to the configuration's grid.

    With a `folder`, cases are kept below ``folder/preprocessed/<configuration>``, one after the other, so that memory
    never holds more than one (or one a worker); those that are there and whose inputs did not change are not computed
    again. Without a folder everything stays in memory. `workers` are threads of this process.

    Raises `DatasetError` or `PreprocessingError` naming the case, `StorageError` where the folder cannot be written.
    """
    from tqdm.auto import tqdm

    folder = None if folder is None else Path(folder)
    keys = {case.name: _key(case, configuration) for case in dataset}
    memory: dict[str, PreprocessedCase] = {}

    def prepare(case: Case) -> None:
        if folder is None:
            memory[case.name] = _prepared(case, configuration)
            return
        files = Files.of(folder, configuration.name, case.name)
        if not _finished(files, keys[case.name]):
            _save(_prepared(case, configuration), files, keys[case.name], configuration)

    steps = _each(prepare, dataset.training, workers)
    title = f"preprocess {configuration.name}"
    for _ in tqdm(steps, total=len(dataset), desc=title, unit="case", disable=not show_progress, leave=False):
        pass
    return PreprocessedDataset(
        folder=folder,
        configuration=configuration,
        cases=tuple(keys),
        key=digest(keys),
        splits=dataset.splits or _splits(tuple(keys)),
        memory=memory,
    )


def _splits(names: tuple[str, ...]) -> tuple[Split, ...]:
    return make_splits(names) if len(names) > 1 else ()


def _each(prepare: Callable[[Case], None], cases: tuple[Case, ...], workers: int) -> Iterator[None]:
    """Prepare each case, here or in threads; the first failure, or Ctrl-C, leaves the rest undone."""
    if workers < 1:
        yield from map(prepare, cases)
        return
    pool = ThreadPoolExecutor(workers)
    try:
        yield from pool.map(prepare, cases)
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


def _key(case: Case, configuration: Configuration) -> str:
    """Changes whenever the arrays of this case would."""
    paths = [*case.image_paths, *([case.label_path] if case.label_path else [])]
    return digest([FORMAT, _settings(configuration), [_state(path) for path in paths]])


def _settings(configuration: Configuration) -> dict[str, Any]:
    names = ("channels", "labels", "axis_order", "spacing", "normalization", "mask_background", "resampling")
    return {name: getattr(configuration, name) for name in names}


def _state(path: Path) -> list[Any]:
    """Path, size and time of a file, and of the files that readers look for beside it."""
    stem = path.name[: -len(suffix_of(path))]
    beside = [path.with_name(f"{name}.json") for name in {stem, stem.rpartition("_")[0]} if name]
    beside += [path.with_suffix(suffix) for suffix in (".raw", ".zraw")]
    found = [p for p in (path, *sorted(beside)) if p.exists()]
    return [[str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns] for p in found]


def _finished(files: Files, key: str) -> bool:
    if not all(p.exists() for p in (files.image, files.label, files.locations, files.facts)):
        return False
    try:
        return bool(read_json(files.facts).get("key") == key)
    except StorageError:
        return False  # it will be written again


def _save(case: PreprocessedCase, files: Files, key: str, configuration: Configuration) -> None:
    files.facts.unlink(missing_ok=True)  # from here until the end the case is unfinished
    patch = (1,) * (3 - configuration.dimensions) + configuration.patch_size
    _write_array(case.array, files.image, (1, *patch))
    _write_array(_label_of(case), files.label, patch)
    with atomic_path(files.locations) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **{f"_{k}": v for k, v in case.class_locations.items()})
    write_json(files.facts, {"key": key, "name": case.name, "geometry": case.geometry})


def _label_of(case: PreprocessedCase) -> LabelArray:
    return case.label if case.label is not None else np.zeros(case.geometry.shape, np.int16)


def _write_array(array: np.ndarray, path: Path, patch: Shape) -> None:
    """Compressed in chunks of about a patch, so that a patch is read without the rest of the case."""
    import blosc2

    chunks = tuple(min(n, p) for n, p in zip(array.shape, patch, strict=True))
    settings = {"codec": blosc2.Codec.LZ4, "clevel": 5, "filters": [blosc2.Filter.SHUFFLE]}
    stored = blosc2.asarray(np.ascontiguousarray(array), chunks=chunks, cparams=settings)
    with atomic_path(path) as temporary:
        temporary.write_bytes(stored.to_cframe())  # blosc2's own writer does not report a full disk


def _open(path: Path) -> Any:
    import blosc2

    try:
        return blosc2.open(str(path), mode="r")
    except (RuntimeError, OSError, ValueError) as error:
        raise StorageError(
            f"cannot read {path}: {error}. Run preprocess() again: it replaces what is damaged."
        ) from error


def _load(files: Files, configuration: Configuration) -> PreprocessedCase:
    facts = read_json(files.facts)
    return PreprocessedCase(
        name=str(facts["name"]),
        array=_open(files.image)[:],
        label=_open(files.label)[:],
        geometry=from_jsonable(CaseGeometry, facts["geometry"]),
        channels=configuration.channels,
        labels=configuration.labels,
        class_locations=_read_locations(files),
    )


def _read_locations(files: Files) -> dict[str, np.ndarray]:
    with np.load(files.locations, allow_pickle=False) as stored:
        return {key[1:]: stored[key] for key in stored.files}
