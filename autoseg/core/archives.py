"""Zip files from anywhere, read without trusting them: nothing is unpacked to disk, and nothing unexpectedly large."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from autoseg.core.errors import StorageError
from autoseg.core.serialization import atomic_path
from autoseg.core.types import PathLike

LARGEST_RATIO = 100  # of unpacked to packed bytes; weights shrink to nine tenths, JSON to a tenth
LARGEST = 32 << 30  # bytes unpacked: five folds of nnU-Net's largest preset, with their optimizers, are 12 GB
KINDS = {0, stat.S_IFREG, stat.S_IFDIR}  # of entries; 0 where the zip was not made on Unix
SAME_DATE = (1980, 1, 1, 0, 0, 0)  # the same content gives the same file
READING = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError, ValueError)


@dataclass(frozen=True, slots=True)
class Archive:
    """A zip file whose entries were found harmless; `read` gives one of them."""

    name: str
    file: zipfile.ZipFile

    @property
    def names(self) -> tuple[str, ...]:
        """The entries that are files."""
        return tuple(entry.filename for entry in self.file.infolist() if not entry.is_dir())

    def read(self, entry: str) -> bytes:
        """The content of an entry. Raises `StorageError` where there is none, or it is damaged."""
        if entry not in self.names:
            raise StorageError(f"{self.name} holds no {entry}; it holds {', '.join(self.names[:8]) or 'nothing'}.")
        try:
            return self.file.read(entry)
        except READING as error:
            raise StorageError(f"{entry} in {self.name} is damaged: {error}. Get the file again.") from error


@contextmanager
def open_archive(source: PathLike | BinaryIO, name: str | None = None) -> Iterator[Archive]:
    """Open a zip file, or the bytes of one.

    Raises `StorageError` for what is no zip file or is cut short, for entries that point out of their folder, and for
    entries that would unpack to more than a hundred times their size.
    """
    name = name or str(source)
    if isinstance(source, str | Path) and not Path(source).is_file():  # a pipe or a device may have no end
        raise StorageError(f"{name} is no file.")
    try:
        file = zipfile.ZipFile(source)
    except READING as error:
        raise StorageError(f"{name} cannot be read: {error}. It may be damaged or cut short; get it again.") from error
    with file:
        _require_harmless(file.infolist(), name)
        yield Archive(name, file)


def _require_harmless(entries: list[zipfile.ZipInfo], name: str) -> None:
    seen: set[str] = set()
    for entry in entries:
        path = entry.filename
        if path.startswith(("/", "\\")) or ":" in path or ".." in PurePosixPath(path.replace("\\", "/")).parts:
            raise StorageError(f"{name} holds an entry {path!r}, which points out of its folder. It was not opened.")
        if stat.S_IFMT(entry.external_attr >> 16) not in KINDS:
            raise StorageError(f"{name} holds {path!r}, a link or a device, as no model does. It was not opened.")
        if path in seen:
            raise StorageError(f"{name} holds two entries called {path!r}; one could hide the other.")
        seen.add(path)
    packed, unpacked = (sum(getattr(e, size) for e in entries) for size in ("compress_size", "file_size"))
    if unpacked > LARGEST_RATIO * max(packed, 1000) or unpacked > LARGEST:
        raise StorageError(
            f"{name} would unpack {packed:,} bytes to {unpacked:,}, as no model does. It was not opened."
        )


def write_archive(path: PathLike, entries: Mapping[str, bytes | Path], *, compress: bool = False) -> Path:
    """Write a zip file in one step, of bytes or of files, by the names they get. Equal content gives equal bytes."""
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as file:
        for name, content in entries.items():
            info = zipfile.ZipInfo(name, SAME_DATE)
            info.compress_type = kind
            with file.open(info, "w", force_zip64=True) as target:
                target.write(content.read_bytes() if isinstance(content, Path) else content)
    return Path(path)
