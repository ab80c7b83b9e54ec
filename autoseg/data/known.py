"""Files that were copied or downloaded again are known by their bytes, so that what was made of them still counts."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import Any

from autoseg.core.errors import StorageError
from autoseg.core.serialization import read_json, to_jsonable, write_json
from autoseg.core.types import PathLike
from autoseg.data.dataset import Case

State = list[Any]


class KnownFiles:
    """For each case the state in which its files were first read, kept in ``files.json`` with a checksum of them."""

    def __init__(self, folder: PathLike | None) -> None:
        self.path, self.cases = None if folder is None else Path(folder) / "files.json", dict[str, Any]()
        if self.path is not None:
            with contextlib.suppress(StorageError, TypeError, ValueError):  # nothing there, or damaged
                self.cases = dict(read_json(self.path))

    def state(self, case: Case) -> State:
        """What the case is read from; of files with the names and bytes of those that were read before, as it was."""
        now, known = to_jsonable(case.state), self.cases.get(case.name)
        if known is None or known["now"] == now:
            return now if known is None else list(known["first"])
        if _placeless(known["now"], case) != _placeless(now, case) or known["checksum"] != _checksum(now, case):
            return list(now)
        self.cases[case.name] = {**known, "now": now}
        return list(known["first"])

    def keep(self, case: Case) -> None:
        """Remember the files of a case that have just been read."""
        now, known = to_jsonable(case.state), self.cases.get(case.name)
        if self.path is not None and case.files and (known is None or known["now"] != now):
            self.cases[case.name] = {"first": now, "now": now, "checksum": _checksum(now, case)}

    def close(self) -> None:
        """Write what is known."""
        if self.path is not None and self.cases:
            write_json(self.path, self.cases)


def _placeless(state: State, case: Case) -> State:
    """The state with names for paths, and without times."""
    end = 2 + len(case.files)
    return [*state[:2], *([[Path(p).name, size] for p, size, _ in s] for s in state[2:end]), *state[end:]]


def _checksum(state: State, case: Case) -> str:
    total = hashlib.sha256()
    for path in (Path(p) for files in state[2 : 2 + len(case.files)] for p, _, _ in files):
        for part in filter(Path.is_file, sorted(path.rglob("*")) if path.is_dir() else [path]):
            with part.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
