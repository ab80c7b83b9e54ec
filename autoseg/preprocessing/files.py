"""The files of one preprocessed case: arrays in compressed chunks, written so that a finished one can be told apart."""

from __future__ import annotations

import re
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autoseg.core.errors import StorageError
from autoseg.core.serialization import atomic_path, from_jsonable, read_json, write_json
from autoseg.core.types import ImageArray, LabelArray, Shape
from autoseg.data.geometry import Box
from autoseg.planning.configuration import Configuration
from autoseg.preprocessing.cases import CaseGeometry, PreprocessedCase, target_spacing
from autoseg.preprocessing.keys import content_key

AGAIN = "Run preprocess() again: it replaces what is damaged or out of date."
BLOCK_BYTES = 1 << 17  # a patch of 128^3 anywhere is read in 16 ms, with blosc2's own choice in 27 ms
CHUNK_BYTES = 1 << 20  # every chunk costs 0.2 ms when it is written
SMALL = 1 << 24  # a compressed image of so many bytes is read as a whole, so its chunks may suit another patch
LEVEL = 1  # of zstd: images shrink to two thirds at 300 MB/s; level 5 takes four times as long to save 2% more


@dataclass(frozen=True, slots=True)
class CaseFiles:
    """Where one case is kept: ``folder/preprocessed/<configuration>/<name>`` with four endings.

    The JSON is written last and says what the arrays were made from, so a case without it is not finished.
    """

    folder: Path
    configuration: str
    name: str

    def path(self, ending: str) -> Path:
        """The file with that ending; a name that ends as the label map of another case does gets one letter more."""
        name = re.sub(r"(_label_*)$", r"\1_", self.name)
        return self.folder / "preprocessed" / self.configuration / f"{name}{ending}"

    @property
    def arrays(self) -> tuple[Path, Path, Path]:
        """Image, label map and class locations."""
        return self.path(".b2nd"), self.path("_label.b2nd"), self.path(".npz")

    def find(self, inputs: str, configuration: Configuration) -> CaseGeometry | None:
        """The geometry of a case that is there, whole, and as this configuration would make it; else None."""
        try:
            facts = read_json(self.path(".json"))
            geometry: CaseGeometry = from_jsonable(CaseGeometry, facts["geometry"])
            expected = content_key(inputs, target_spacing(geometry.spacing_before, configuration))
            whole = facts["bytes"] == [path.stat().st_size for path in self.arrays]
        except (StorageError, OSError, KeyError, TypeError, ValueError):
            return None  # whatever is wrong with it, it is written again
        return geometry if whole and facts["key"] == expected else None

    def save(self, case: PreprocessedCase, key: str, configuration: Configuration) -> None:
        """Write the case. Raises `StorageError` where the folder cannot be written or the disk is full."""
        image, label, locations = self.arrays
        self._begin()
        patch = (1,) * (3 - configuration.dimensions) + configuration.patch_size
        changed = case.geometry.shape != case.geometry.shape_before_resampling
        _write_array(case.array, image, chunks=(1, *patch), key=key, shuffle=changed)
        assert case.label is not None  # training cases have one
        _write_array(case.label, label, chunks=patch, key=key, shuffle=True)
        with atomic_path(locations) as temporary, temporary.open("wb") as file:
            small = np.min_scalar_type(max(case.geometry.shape))
            np.savez(file, allow_pickle=False, **{f"_{k}": v.astype(small) for k, v in case.class_locations.items()})
        self._finish(key, case.geometry)

    def save_as(self, other: CaseFiles, key: str, configuration: Configuration) -> None:
        """The same arrays as another configuration has: small ones as links to its files, others in chunks of our own.

        Raises `StorageError` where that cannot be written.
        """
        if other.arrays[0].stat().st_size > SMALL:
            self.save(other.load(key, configuration), key, configuration)
            return
        self._begin()
        for source, target in zip(other.arrays, self.arrays, strict=True):
            with atomic_path(target) as temporary:
                temporary.unlink()
                try:
                    temporary.hardlink_to(source)
                except OSError:  # a file system without links
                    shutil.copyfile(source, temporary)
        self._finish(key, other.geometry(key))

    def _finish(self, key: str, geometry: CaseGeometry) -> None:
        sizes = [path.stat().st_size for path in self.arrays]
        write_json(self.path(".json"), {"key": key, "name": self.name, "bytes": sizes, "geometry": geometry})

    def _begin(self) -> None:
        """From here until the JSON is there again, the case is unfinished."""
        path = self.path(".json")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(
                f"cannot write into {path.parent}: {error.strerror or error}. Choose another folder, or make room."
            ) from error

    def load(self, key: str, configuration: Configuration) -> PreprocessedCase:
        """Read everything. Raises `StorageError` where it is damaged or was replaced."""
        image, label, _ = self.arrays
        return PreprocessedCase(
            name=self.name,
            array=_open(image, key)[:],
            label=_open(label, key)[:],
            geometry=self.geometry(key),
            channels=configuration.channels,
            labels=configuration.labels,
            class_locations=self.class_locations(),
        )

    def geometry(self, key: str) -> CaseGeometry:
        """How the case got its grid."""
        path = self.path(".json")
        facts = read_json(path)
        _check_key(path, facts["key"], key)
        geometry: CaseGeometry = from_jsonable(CaseGeometry, facts["geometry"])
        return geometry

    def class_locations(self) -> dict[str, np.ndarray]:
        """Voxels (n, 3), int32, of each label or region."""
        path = self.path(".npz")
        try:
            with np.load(path, allow_pickle=False) as stored:
                return {name[1:]: stored[name].astype(np.int32) for name in stored.files}
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise StorageError(f"cannot read {path}: {error}. {AGAIN}") from error

    def read(self, box: Box, key: str) -> tuple[ImageArray, LabelArray]:
        """Image and label map inside a box."""
        image, label, _ = self.arrays
        return _open(image, key)[(slice(None), *box.slices)], _open(label, key)[box.slices]


def _write_array(array: np.ndarray, path: Path, *, chunks: Shape, key: str, shuffle: bool) -> None:
    """Compressed in chunks of about a patch, so that a patch is read without the rest of the case.

    Bytes are shuffled where values were interpolated; where they still repeat exactly, that would hide it.
    """
    import blosc2

    part = tuple(min(n, c) for n, c in zip(array.shape, chunks, strict=True))
    blocks = _grown(_halved(part, array.itemsize), array.shape, BLOCK_BYTES // array.itemsize)
    chunks = _grown(tuple(map(max, part, blocks)), array.shape, CHUNK_BYTES // array.itemsize)
    settings = {
        "codec": blosc2.Codec.ZSTD,
        "clevel": LEVEL,
        "filters": [blosc2.Filter.SHUFFLE if shuffle else blosc2.Filter.NOFILTER],
        "nthreads": 1,  # a second thread made small cases slower and large ones no faster
    }
    stored = blosc2.asarray(
        np.ascontiguousarray(array), chunks=chunks, blocks=blocks, cparams=settings, meta={"autoseg": {"key": key}}
    )
    with atomic_path(path) as temporary:
        temporary.write_bytes(stored.to_cframe())  # blosc2's own writer does not report a full disk


def _halved(part: Shape, itemsize: int) -> Shape:
    """What of a patch is decompressed alone: its longest edges are halved until it is small enough.

    >>> _halved((1, 128, 128, 128), 4)
    (1, 32, 32, 32)
    """
    blocks = list(part)
    while int(np.prod(blocks)) * itemsize > BLOCK_BYTES:
        longest = blocks.index(max(blocks))
        blocks[longest] = (blocks[longest] + 1) // 2
    return tuple(blocks)


def _grown(part: Shape, whole: Shape, voxels: int) -> Shape:
    """A part with edges doubled, those first that are the smallest share of the whole, until it is large enough.

    >>> _grown((1, 1, 56, 40), (1, 35, 56, 40), 30_000)
    (1, 16, 56, 40)
    """
    edges = list(part)
    while int(np.prod(edges)) < min(voxels, int(np.prod(whole))):
        shares = [e / n for e, n in zip(edges, whole, strict=True)]
        smallest = shares.index(min(shares))
        edges[smallest] = min(2 * edges[smallest], whole[smallest])
    return tuple(edges)


def _open(path: Path, key: str) -> Any:
    """An array whose parts are read when it is sliced."""
    import blosc2

    try:
        stored = blosc2.open(str(path), mode="r", dparams={"nthreads": 1})
        found = stored.schunk.meta["autoseg"]["key"]
    except (RuntimeError, OSError, ValueError, KeyError) as error:
        raise StorageError(f"cannot read {path}: {error}. {AGAIN}") from error
    _check_key(path, found, key)
    return stored


def _check_key(path: Path, found: str, key: str) -> None:
    if found != key:
        raise StorageError(f"{path} was preprocessed again since, with other settings or from other files. {AGAIN}")
