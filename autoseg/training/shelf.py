"""Where a run is kept on disk: ``run.json``, a checkpoint while it lasts, the model when it is finished."""

from __future__ import annotations

import inspect
import shutil
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoseg.core.errors import ModelError, StorageError, warn
from autoseg.core.held import held
from autoseg.core.serialization import Components, digest, read_json, require_writable
from autoseg.core.types import PathLike
from autoseg.training.checkpoints import CHECKPOINT, RUN, Checkpoint, PreparedData, Progress, Run
from autoseg.training.example import Example
from autoseg.training.model import FILES, TrainedModel, own_components, read_tensors, write_tensors

if TYPE_CHECKING:
    from autoseg.training.loop import Training

EXAMPLE = "example.safetensors"


@dataclass(frozen=True, slots=True)
class Shelf:
    """The folder of one run."""

    folder: Path
    run: Run
    components: Components

    @staticmethod
    def of(training: Training, folder: PathLike | None) -> Shelf | None:
        """The shelf of a training below `folder`, or beside its prepared data; None where all is in memory."""
        root = folder if folder is not None else training.prepared.folder
        if root is None:
            return None
        data = training.prepared.key, training.feed.content
        parts: list[Any] = [training.blueprint, training.configuration, training.fold, *data]
        if training.transfer is not None:
            parts.append(training.transfer.key)
        components = own_components(training.configuration, training.blueprint)
        if kept := what_is_held(components):
            parts.append(kept)
        run = Run(
            key=digest(parts),
            finished=False,
            fold=training.fold,
            blueprint=training.blueprint,
            prepared=PreparedData.of(training.prepared),
            transfer=training.transfer,
            sources={name: _source_of(part) for name, part in components.items()},
            held=kept,
        )
        return Shelf(Path(root) / "runs" / training.configuration.name / f"fold_{training.fold}", run, components)

    def make_room(self) -> None:
        """Move a training of another kind aside, and this one back where that had happened to it: none is lost."""
        there, earlier = self._key_there(), self._aside(self.run.key)
        if there == self.run.key:
            self._compare_sources(self._there())
        elif self._holds_weights():
            require_writable(self.folder)
            aside = self._aside(there)
            shutil.rmtree(aside, ignore_errors=True)
            self.folder.rename(aside)
            warn(
                f"{self.folder} held another training, of other data or with another blueprint. It is kept as "
                f"{aside.name}, and the call that began it goes on with it."
            )
        if earlier.exists() and not self._holds_weights():
            shutil.rmtree(self.folder, ignore_errors=True)
            earlier.rename(self.folder)

    def _compare_sources(self, there: Run | None) -> None:
        """Warn where a function of the user's own has another text than when this run began."""
        before = {} if there is None else there.sources
        edited = [name for name, now in self.run.sources.items() if now and before.get(name, now) not in ("", now)]
        if edited:
            warn(
                f"{', '.join(edited)} changed since the run in {self.folder} began, which goes on with what was "
                "learned before. For a training of its own, give the function another name, or delete the folder."
            )

    def _aside(self, key: str) -> Path:
        return self.folder.with_name(f"earlier_{self.folder.name}_{key}")

    def _holds_weights(self) -> bool:
        return any((self.folder / name).exists() for name in (CHECKPOINT, *FILES))

    def finished(self) -> tuple[TrainedModel, Progress] | None:
        """Model and progress of this very run, if it was trained to its end.

        Raises `StorageError` where its files are damaged.
        """
        there = self._there()
        if there is None or there.progress is None:
            return None
        try:
            return TrainedModel.load(self.folder, components=self.components), there.progress
        except ModelError as error:
            raise StorageError(f"{error} Delete {self.folder} to train this run from its beginning.") from error

    def open(self) -> Checkpoint | None:
        """Begin, or go on: the checkpoint of this very run.

        Raises `StorageError` where the folder cannot be written.
        """
        require_writable(self.folder)
        for half in self.folder.glob(".*.*.*"):  # what a killed process was writing
            half.unlink(missing_ok=True)
        self.run.write(self.folder)
        return Checkpoint.read(self.folder, self.run.key)

    def _there(self) -> Run | None:
        """This very run as the folder holds it; None where it holds none, or one of another kind.

        Raises `StorageError` where it cannot be read, as of a newer version.
        """
        if self._key_there() != self.run.key:
            return None
        try:
            return Run.read(self.folder, self.components)
        except StorageError as error:
            raise StorageError(f"{error} Delete {self.folder} to train this run from its beginning.") from error

    def _key_there(self) -> str:
        """The key of the run that the folder holds; of one that cannot be told, a name of its own."""
        try:
            return str(read_json(self.folder / RUN)["key"])
        except (StorageError, LookupError, TypeError):
            return f"unknown_{self.folder.stat().st_mtime_ns}" if self.folder.exists() else ""

    def _take_back(self) -> None:
        """Make room once more where another training has begun here in the meantime."""
        if self._key_there() != self.run.key:
            self.make_room()
            self.run.write(self.folder)

    def keep(self, checkpoint: Checkpoint, example: Example | None) -> None:
        """Write the checkpoint of a run that goes on."""
        self._take_back()
        self._keep_example(example)
        checkpoint.write(self.folder, self.run.key)

    def finish(self, model: TrainedModel, progress: Progress, example: Example | None) -> None:
        """Write the model of a finished run; then its checkpoint is no longer needed."""
        self._take_back()
        self._keep_example(example)
        model.save(self.folder)
        replace(self.run, finished=True, progress=progress).write(self.folder)

    def _keep_example(self, example: Example | None) -> None:
        if example is not None:
            write_tensors(self.folder / EXAMPLE, example.tensors(), {"key": self.run.key})

    def example(self) -> Example | None:
        """The example of this very run, if there is one; a damaged one is as good as none."""
        try:
            tensors, about = read_tensors(self.folder / EXAMPLE)
        except StorageError:
            return None
        return Example.from_tensors(tensors) if about.get("key") == self.run.key else None


def what_is_held(components: Components) -> dict[str, str]:
    """Characters that change with the values that a callable holds, for each that holds any."""
    return {name: digest(kept) for name, part in components.items() if (kept := held(part))}


def _source_of(component: Callable[..., Any]) -> str:
    """Characters that change with the text of a function or class; empty where there is none to read."""
    component = getattr(component, "func", component)  # of a partial
    named = hasattr(component, "__code__") or isinstance(component, type)
    try:
        return digest(textwrap.dedent(inspect.getsource(component if named else type(component))))
    except (OSError, TypeError):
        return ""
