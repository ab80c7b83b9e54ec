"""What prediction returns: label maps on the scans' own grids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, overload

from autoseg.core.errors import PredictionError, StorageError
from autoseg.core.numbers import is_whole
from autoseg.core.serialization import read_json
from autoseg.core.shown import Shown, ask_display
from autoseg.core.types import ImageArray, count, listed
from autoseg.data.dataset import Case
from autoseg.data.images import LabelMap, read_label_map
from autoseg.data.labels import Labels

KEY_FILE = "predictions.json"  # of a folder: which models predicted it, and of what each file was made
SHOWN = 3  # failures in a line of text; `.failed` has all


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prediction(Shown):
    """The label map that models give one case, on the case's own grid.

    `probabilities`, where asked for, are (output, z, y, x) on the same grid.

    >>> predictions["seahorse_009"].label_map
    LabelMap(38x47x41 voxels, Labels(0 background, 1 head, 2 tail))
    """

    case: Case
    label_map: LabelMap
    probabilities: ImageArray | None = None
    seconds: float = 0.0

    def __repr__(self) -> str:
        labels, array = self.label_map.labels, self.label_map.array
        counts = {labels.name_of(v): int((array == v).sum()) for v in labels.foreground}
        return f"Prediction({self.case.name!r}: " + listed(f"{n} {count(c, 'voxel')}" for n, c in counts.items()) + ")"

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A prediction in a file, read whenever it is asked for: of many large scans one is in memory at a time.

    `key` and `made_of` are what its folder says of the models and of the image.
    """

    case: Case
    path: Path
    labels: Labels
    key: str
    made_of: str
    seconds: float = 0.0

    def read(self) -> Prediction:
        """The prediction.

        Raises `PredictionError` where its folder holds another one by now, `ImageError` where the file is gone or
        damaged.
        """
        self._require_the_same()
        label_map = read_label_map(self.path, self.labels)
        return Prediction(case=self.case, label_map=label_map, seconds=self.seconds)

    def _require_the_same(self) -> None:
        folder, name = self.path.parent, self.path.name
        try:
            key, files = noted(folder)
        except StorageError:  # nothing tells
            return
        if key != self.key:
            aside = earlier(folder, self.key) / name
            moved = f"; this one is now {aside}" if aside.exists() else ""
            raise PredictionError(
                f"case {self.case.name!r}: {folder} by now holds predictions of another model, or made with other "
                f"settings{moved}. Predict with each into a folder of its own."
            )
        if files.get(name, self.made_of) != self.made_of:
            raise PredictionError(
                f"case {self.case.name!r}: {name} in {folder} was predicted again from an image that has changed. Use "
                "what that later call to predict returned."
            )


def noted(folder: Path) -> tuple[str, dict[str, str]]:
    """Which models predicted into a folder, and of what each file was made.

    Raises `StorageError` where that cannot be read or is not what `predict` writes.
    """
    path = folder / KEY_FILE
    try:
        kept = read_json(path)
        key, files = kept["key"], {Path(name).name: str(made_of) for name, made_of in kept["files"].items()}
    except (StorageError, LookupError, TypeError, AttributeError) as error:
        raise StorageError(
            f"{path} is not what predict wrote: {error}. Delete it; label maps in {folder} are then moved aside where "
            "they would be written over."
        ) from error
    return str(key), files


def earlier(folder: Path, key: str) -> Path:
    """Where label maps go that the models with this key predicted, when others predict into their folder."""
    return folder / f"earlier_{key}"


@dataclass(frozen=True, slots=True)
class Predictions(Shown, Sequence[Prediction]):
    """Predictions of several cases, in order; ``predictions["name"]`` finds one.

    Those that lie in a folder are read from there each time. `failed` says of each case that could not be predicted
    why; `stopped` is not empty where you interrupted it.
    """

    items: tuple[Prediction | Stored, ...]
    failed: Mapping[str, str] = field(default_factory=dict)
    stopped: str = ""

    @overload
    def __getitem__(self, index: int | str) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> Predictions: ...
    def __getitem__(self, index: int | str | slice) -> Prediction | Predictions:
        if isinstance(index, slice):
            return replace(self, items=self.items[index])
        if is_whole(index):
            return _read(self.items[index])
        for item in self.items:
            if item.case.name == index:
                return _read(item)
        why = f": {self.failed[str(index)]}" if index in self.failed else f"; there are {len(self.items)} others."
        raise PredictionError(f"no prediction of a case {index!r}{why}")

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        failed = f", {len(self.failed)} failed" if self.failed else ""
        said = [f"Predictions({count(len(self), 'case')}{failed}, {sum(p.seconds for p in self.items):.1f} s)"]
        said += [f"  failed: {reason}" for reason in list(self.failed.values())[:SHOWN]]
        return "\n".join([*said, f"  {self.stopped}"] if self.stopped else said)


def _read(item: Prediction | Stored) -> Prediction:
    return item.read() if isinstance(item, Stored) else item
