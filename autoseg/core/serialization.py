"""Frozen dataclasses to JSON and back, files that are never half written, and fingerprints of their content.

Reading never executes anything: a type is found by the annotation of the field it fills, never by a name in the file.
Callables of the user's own are written as a reference and asked back when read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import tempfile
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from autoseg.core.errors import StorageError
from autoseg.core.types import PathLike

T = TypeVar("T")
Components = Mapping[str, Callable[..., Any]]
PLAIN: dict[Any, Any] = {bool: bool, int: int, float: int | float, str: str, Path: str}  # what JSON has for it


def to_jsonable(value: Any) -> Any:
    """Plain lists, dicts, numbers and strings for a value made of dataclasses, tuples, numpy numbers and paths.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Point:
    ...     at: tuple[int, ...]
    >>> to_jsonable({"p": Point((1, 2))})
    {'p': {'type': 'Point', 'at': [1, 2]}}
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {"type": type(value).__name__} | {
            f.name: to_jsonable(getattr(value, f.name)) for f in fields(value) if f.init
        }
    if isinstance(value, Mapping):
        return {str(key): to_jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_jsonable(item) for item in value]
    if callable(value):
        return {"component": component_name(value)}
    raise StorageError(f"a {type(value).__name__} cannot be written as JSON: {value!r}")


def component_name(component: Callable[..., Any]) -> str:
    """The name under which a user's callable is asked back on loading."""
    return str(getattr(component, "__name__", type(component).__name__))


def from_jsonable(kind: Any, data: Any, components: Components | None = None) -> Any:
    """The value of the annotated type `kind` that `to_jsonable` wrote as `data`.

    `components` gives back the user's own callables by name; a missing one is a `StorageError` that asks for it.
    """
    if isinstance(data, dict) and "component" in data:
        return _component(str(data["component"]), components or {})
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _from_union(arguments, data, components)
    if origin is tuple:
        kinds = arguments[:1] * len(data) if arguments[1:] == (...,) else arguments
        return tuple(from_jsonable(k, item, components) for k, item in zip(kinds, data, strict=True))
    if origin is list:
        return [from_jsonable(arguments[0], item, components) for item in data]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        key = arguments[0] if arguments[0] in (int, float) else str  # JSON has numbers as keys only in quotes
        return {key(k): from_jsonable(arguments[1], v, components) for k, v in data.items()}
    if is_dataclass(kind):
        return _dataclass_from(kind, data, components)
    if origin is Callable:
        raise StorageError(f"{data!r} is no component")
    if origin is typing.Literal and data not in arguments:
        raise StorageError(f"{data!r} is none of {', '.join(map(repr, arguments))}")
    return _plain(kind, data) if kind in PLAIN else data


def _plain(kind: Any, data: Any) -> Any:
    """A number, a text or a truth value; `StorageError` where JSON holds one of another kind."""
    if kind is float and data is None:
        return math.nan
    whole = kind is int and isinstance(data, float) and data.is_integer()
    if not whole and (not isinstance(data, PLAIN[kind]) or (isinstance(data, bool) and kind is not bool)):
        raise StorageError(f"{data!r} is no {kind.__name__}")
    return kind(data)


def _component(name: str, components: Components) -> Callable[..., Any]:
    if name not in components:
        raise StorageError(
            f"this was made with your own component {name!r}, which is never stored as code. "
            f"Pass it: components={{{name!r}: {name}}}."
        )
    return components[name]


def _from_union(kinds: tuple[Any, ...], data: Any, components: Components | None) -> Any:
    if data is None and type(None) in kinds:
        return None
    if isinstance(data, dict) and "type" in data:
        named = [k for k in kinds if getattr(k, "__name__", "") == data["type"]]
        if not named:
            raise StorageError(f"unknown type {data['type']!r}; expected one of {[str(k) for k in kinds]}")
        return from_jsonable(named[0], data, components)
    concrete = [k for k in kinds if k is not type(None)]
    if isinstance(data, list):
        concrete = [k for k in concrete if typing.get_origin(k) in (tuple, list)] or concrete
    elif isinstance(data, int | float | str):
        concrete = [k for k in concrete if k is type(data)] or concrete
    return from_jsonable(concrete[0], data, components)


def _dataclass_from(kind: Any, data: Any, components: Components | None) -> Any:
    if not isinstance(data, dict):
        raise StorageError(f"expected the fields of a {kind.__name__}, found {type(data).__name__}")
    hints = _hints(kind)
    known = {f.name for f in fields(kind) if f.init}
    unknown = sorted(set(data) - known - {"type"})
    if unknown:
        raise StorageError(f"{kind.__name__} has no field {unknown[0]!r}; was this written by a newer autoseg?")
    given = {name: _field(kind, name, hints[name], data[name], components) for name in known & set(data)}
    try:
        return kind(**given)
    except TypeError as error:
        raise StorageError(f"a {kind.__name__} is incomplete: {error}") from error


_hints = lru_cache(maxsize=None)(typing.get_type_hints)  # they take longer than all else of reading ten thousand cases


def _field(kind: Any, name: str, hint: Any, data: Any, components: Components | None) -> Any:
    """The value of a field; errors say where it is."""
    try:
        return from_jsonable(hint, data, components)
    except (StorageError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise StorageError(f"{kind.__name__}.{name}: {error}") from error


@contextlib.contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it when the block succeeds, and vanishes when it fails.

    Raises `StorageError` where the folder cannot be written or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_suffix(path))
        os.close(handle)
    except OSError as error:
        raise StorageError(_cannot_write(path, error)) from error
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp makes files for the owner only
        temporary.replace(path)
    except OSError as error:
        raise StorageError(_cannot_write(path, error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def require_writable(folder: PathLike) -> Path:
    """Make a folder and prove that files can be written there, before hours of work rely on it.

    Raises `StorageError` where they cannot.
    """
    folder = Path(folder)
    write_text(folder / ".writable", "")
    (folder / ".writable").unlink(missing_ok=True)
    return folder


def _suffix(path: Path) -> str:
    """Readers and writers choose the format by the suffix, and ``.nii.gz`` is one."""
    return "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix


def _cannot_write(path: Path, error: OSError) -> str:
    return (
        f"cannot write {path}: {error.strerror or error}. Nothing half-written was left. "
        "Free some space or choose another folder, then run the same line again: finished parts are kept."
    )


def write_text(path: PathLike, text: str) -> Path:
    """Write a text file in one step."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def write_json(path: PathLike, value: Any) -> Path:
    """Write any value that `to_jsonable` takes."""
    return write_text(path, json.dumps(to_jsonable(value), indent=1))


def read_json(path: PathLike) -> Any:
    """Read JSON; a missing or damaged file is a `StorageError` that says where it breaks."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    return parse_json(content, str(path))


def parse_json(content: bytes, name: str) -> Any:
    """What JSON holds; `StorageError` where it is none, or nested deeper than anything we write."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:  # both kinds of wrong text are ValueErrors
        raise StorageError(f"{name} is not valid JSON: {error}") from error


def digest(value: Any) -> str:
    """Twelve characters that change whenever the content does: the key of every stored result."""
    text = json.dumps(_plain_numbers(to_jsonable(value)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _plain_numbers(value: Any) -> Any:
    """Whole floats as integers: 30 and 30.0 are the same value, and a file does not tell them apart for long."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _plain_numbers(item) for key, item in value.items()}
    return [_plain_numbers(item) for item in value] if isinstance(value, list) else value
