"""What a long survey found out about single cases, kept until it is done, so that it can stop and go on."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autoseg.core.serialization import atomic_path

Part = tuple[dict[str, np.ndarray], Any]  # arrays, and whatever JSON holds


@dataclass(frozen=True, slots=True)
class Stash:
    """A folder with one file a case; a part is found again only under the key it was kept with."""

    folder: Path

    def keep(self, name: str, key: str, part: Part) -> None:
        """Write one case's part, in one step. Raises `StorageError` where that cannot be."""
        arrays, facts = part
        about = np.frombuffer(json.dumps({"key": key, "facts": facts}).encode(), np.uint8)
        with atomic_path(self._path(name)) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, about=about, **{f"_{k}": v for k, v in arrays.items()})

    def find(self, name: str, key: str) -> Part | None:
        """What was kept of a case; None where nothing was, it is damaged, or it was made of something else."""
        try:
            with np.load(self._path(name), allow_pickle=False) as stored:
                about = json.loads(bytes(stored["about"]))
                arrays = {k[1:]: stored[k] for k in stored.files if k != "about"}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        return (arrays, about["facts"]) if about.get("key") == key else None

    def clear(self) -> None:
        """The whole is done."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npz"
