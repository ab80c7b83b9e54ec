"""The fingerprint: the facts of a dataset that planning reads, kept case by case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from autoseg.core.errors import DatasetError, StorageError
from autoseg.core.kinds import require
from autoseg.core.serialization import digest, from_jsonable, read_json, write_json
from autoseg.core.shown import Shown
from autoseg.core.types import PathLike, by, count
from autoseg.data.case_facts import FORMAT, CaseFacts, Foreground, seen
from autoseg.data.dataset import Dataset
from autoseg.data.geometry import PLANAR_SPACING
from autoseg.data.known import KnownFiles
from autoseg.data.labels import Labels
from autoseg.data.stash import Stash

if TYPE_CHECKING:
    import pandas as pd

SAMPLES = 10_000_000  # foreground voxels kept over all cases and a channel; beyond it a fixed random share of each
BINS = 64
FAR = 6.0  # times the median distance from the median: beyond it a case is named
FEW_CASES = 5
PERCENTILES = (0.5, 50.0, 99.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class IntensityFacts:
    """The foreground intensities of one channel over all cases, each case weighing the same."""

    mean: float
    std: float
    median: float
    minimum: float
    maximum: float
    percentile_00_5: float
    percentile_99_5: float
    histogram: tuple[float, ...] = ()  # shares of the range from minimum to maximum, in equal bins
    everywhere: tuple[float, ...] = ()  # the same bins of all voxels, whatever their label

    def __str__(self) -> str:
        inner = f"99% between {self.percentile_00_5:.4g} and {self.percentile_99_5:.4g}"
        return f"mean {self.mean:.4g}, deviation {self.std:.4g}, median {self.median:.4g}, {inner}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlier:
    """One case that is far from the others in one fact."""

    case: str
    fact: str
    value: float
    median: float
    times: float  # how far from the median, in units of the distance that half of the cases stay within


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint(Shown):
    """Everything a plan is made from: shapes, spacings and intensities, and what channels and labels mean.

    >>> fingerprint
    Fingerprint('Seahorse': 26 cases)
      median shape 38x50x41 voxels, median spacing 1x1x1 mm
      channels: MRI; 2 foreground labels
    >>> fingerprint.cases[0].shape, fingerprint.intensities[0].median
    ((43, 45, 44), 313.0)
    """

    dataset_name: str
    channels: tuple[str, ...]
    labels: Labels
    cases: tuple[CaseFacts, ...]
    intensities: tuple[IntensityFacts, ...]
    file_ending: str = ".nii.gz"
    declared_cases: int | None = None  # where the dataset declares another number of cases than it has facts of
    key: str = field(default="", compare=False, repr=False)  # of the files it was read from

    @property
    def case_count(self) -> int:
        """Training cases: as many as there are facts of, unless the dataset declares another number."""
        return len(self.cases) if self.declared_cases is None else self.declared_cases

    @property
    def spacings(self) -> np.ndarray:
        """All spacings, shape (case, 3)."""
        return np.array([case.spacing for case in self.cases])

    @property
    def shapes(self) -> np.ndarray:
        """All shapes after cropping, shape (case, 3)."""
        return np.array([case.cropped_shape for case in self.cases])

    def outliers(self) -> tuple[Outlier, ...]:
        """Cases far from the others in some fact, the furthest first."""
        return tuple(sorted(_outliers(self), key=lambda o: -o.times))

    @property
    def relative_size(self) -> float:
        """Median share of voxels that cropping leaves."""
        return float(np.median([case.relative_size for case in self.cases]))

    def table(self) -> pd.DataFrame:
        """One row a case."""
        import pandas as pd

        rows = [
            {
                "case": c.name,
                "shape": c.shape,
                "cropped_shape": c.cropped_shape,
                "spacing": c.spacing,
                **{self.labels.name_of(v): n for v, n in c.label_voxels.items()},
            }
            for c in self.cases
        ]
        return pd.DataFrame(rows).set_index("case")

    def save(self, path: PathLike) -> Path:
        """Write as JSON."""
        return write_json(path, self)

    @staticmethod
    def load(path: PathLike) -> Fingerprint:
        """Read what `save` wrote. Raises `StorageError` where it is damaged."""
        loaded: Fingerprint = from_jsonable(Fingerprint, read_json(path))
        if not loaded.cases:
            raise StorageError(f"{path} is a fingerprint without cases.")
        return loaded

    @property
    def planar(self) -> bool:
        """Whether the cases are pictures; the spacing of their missing slices is nnU-Net's mark and not measured."""
        return np.allclose(self.spacings[:, 0], PLANAR_SPACING * self.spacings[:, 1:].max(axis=1))

    def __repr__(self) -> str:
        shape = by(np.median(self.shapes, axis=0))
        spacing = by(np.median(self.spacings, axis=0), 3)
        flat = " (pictures: no slices)" if self.planar else ""
        return (
            f"Fingerprint({self.dataset_name!r}: {count(len(self.cases), 'case')})\n"
            f"  median shape {shape} voxels, median spacing {spacing} mm{flat}\n"
            f"  channels: {', '.join(self.channels)}; {count(len(self.labels.foreground), 'foreground label')}"
        )


def _outliers(fingerprint: Fingerprint) -> Iterator[Outlier]:
    """For sizes, spacings, intensities and label volumes, on a logarithmic scale where all values are positive."""
    for fact, found in _measured(fingerprint).items():
        values = np.array(list(found.values()), float)
        if len(values) < FEW_CASES:
            continue
        scale = np.log(values) if values.min() > 0 else values
        away = np.abs(scale - np.median(scale))
        usual = max(float(np.median(away)), (0.05 if values.min() > 0 else 0.05 * float(np.abs(scale).max())) or 1.0)
        for name, value, far in zip(found, values.tolist(), away / usual, strict=True):
            if far > FAR:
                yield Outlier(case=name, fact=fact, value=value, median=float(np.median(values)), times=float(far))


def _measured(fingerprint: Fingerprint) -> dict[str, Mapping[str, float]]:
    """One number a case, for every fact that cases can differ in."""
    cases = fingerprint.cases
    measured: dict[str, Mapping[str, float]] = {}
    measured |= {f"shape along {axis}": {c.name: c.cropped_shape[i] for c in cases} for i, axis in enumerate("zyx")}
    measured |= {f"spacing along {axis}": {c.name: c.spacing[i] for c in cases} for i, axis in enumerate("zyx")}
    for i, channel in enumerate(fingerprint.channels):
        known = {c.name: c.intensity_mean[i] for c in cases if len(c.intensity_mean) > i}
        measured[f"mean intensity of {channel}"] = known
    for value in fingerprint.labels.foreground:
        axes, what = (2, "area") if fingerprint.planar else (3, "volume")
        size = {c.name: float(np.prod(c.spacing[-axes:])) for c in cases}
        found = {c.name: c.label_voxels[value] * size[c.name] for c in cases if c.label_voxels.get(value)}
        measured[f"{what} of {fingerprint.labels.name_of(value)}"] = found
    return measured


def extract_fingerprint(dataset: Dataset, *, folder: PathLike | None = None, show_progress: bool = True) -> Fingerprint:
    """Read every training case once and collect the facts that planning needs.

    With a `folder`, the result is kept there as ``fingerprint.json``, and read back from there for as long as no file
    of the dataset changes, which copying or downloading it again is not; stopped in the middle of large scans, it goes
    on where it was.

    Raises `DatasetError` naming the case that cannot be used.

    Source: Isensee et al. 2021, Methods, 'Dataset fingerprints'. Where nnU-Net draws voxels at random with
    replacement, every foreground voxel counts here: the value its sampling scatters around.

    >>> import autoseg
    >>> autoseg.extract_fingerprint(autoseg.sample_dataset(), show_progress=False).cases[0].spacing
    (1.0, 1.0, 1.0)
    """
    require(dataset, Dataset, DatasetError)
    from tqdm.auto import tqdm

    path = None if folder is None else Path(folder) / "fingerprint.json"
    known = KnownFiles(folder)
    key = digest([FORMAT, dataset.name, dataset.channels, dataset.labels, [known.state(case) for case in dataset]])
    kept = None if path is None else _kept(path, key)
    if kept is not None:
        known.close()
        return kept
    cases, foregrounds = [], []
    stash = None if path is None else Stash(path.with_suffix(".parts"))
    look = partial(seen, room=SAMPLES // len(dataset), stash=stash)
    for case in tqdm(dataset.training, desc="fingerprint", unit="case", disable=not show_progress, leave=False):
        facts, foreground = look(case)
        cases.append(facts)
        foregrounds.append(foreground)
        known.keep(case)
    fingerprint = Fingerprint(
        dataset_name=dataset.name,
        channels=dataset.channels,
        labels=dataset.labels,
        cases=tuple(cases),
        intensities=tuple(_pool([f[c] for f in foregrounds if f]) for c in range(len(dataset.channels))),
        file_ending=dataset.training[0].file_ending,
        key=key,
    )
    if path is not None and stash is not None:
        fingerprint.save(path)
        known.close()
        stash.clear()
    return fingerprint


def _kept(path: Path, key: str) -> Fingerprint | None:
    """The fingerprint that was made of the same files before, if there is one."""
    try:
        found = Fingerprint.load(path)
    except StorageError:  # nothing there, or damaged: then it is made again
        return None
    return found if found.key == key else None


def _pool(cases: Sequence[Foreground]) -> IntensityFacts:
    """One channel over all cases, each case with the same weight whatever its size."""
    if not cases:  # no voxel of any case is labelled
        return IntensityFacts(
            mean=0.0, std=1.0, median=0.0, minimum=0.0, maximum=0.0, percentile_00_5=0.0, percentile_99_5=0.0
        )
    mean = float(np.mean([c.mean for c in cases]))
    variance = float(np.mean([c.square for c in cases])) - mean**2
    low, high = min(c.low for c in cases), max(c.high for c in cases)
    values = np.concatenate([c.values for c in cases])
    weights = np.concatenate([np.full(len(c.values), 1 / len(c.values)) for c in cases])
    span = (low, high if high > low else low + 1)
    p_low, median, p_high = _weighted_percentiles(values, weights)
    return IntensityFacts(
        mean=mean,
        std=max(variance, 0.0) ** 0.5,
        median=median,
        minimum=low,
        maximum=high,
        percentile_00_5=p_low,
        percentile_99_5=p_high,
        histogram=_histogram([c.values for c in cases], span),
        everywhere=_histogram([c.anywhere for c in cases], span),
    )


def _histogram(cases: Sequence[np.ndarray], span: tuple[float, float]) -> tuple[float, ...]:
    """Shares of equal bins, each case with the same weight; values beyond the span are in no bin."""
    weights = np.concatenate([np.full(len(v), 1 / (len(v) * len(cases))) for v in cases])
    values = np.concatenate(cases).astype(np.float64)
    return tuple(np.histogram(values, bins=BINS, range=span, weights=weights)[0].tolist())


def _weighted_percentiles(values: np.ndarray, weights: np.ndarray) -> list[float]:
    """The values below which 0.5, 50 and 99.5 percent of the weight lies."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order])
    positions = np.searchsorted(below, np.array(PERCENTILES) / 100 * below[-1])
    return [float(v) for v in values[order][np.minimum(positions, len(values) - 1)]]
