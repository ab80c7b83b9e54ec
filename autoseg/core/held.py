"""What a callable of the user's own computes with beside its code: two of one name are told apart by it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from types import CellType, CodeType
from typing import Any

import numpy as np

from autoseg.core.serialization import component_name, digest

NOTHING: tuple[Any, ...] = (None, [], {})


def held(component: Any) -> list[Any]:
    """The values of its closure, its defaults, its attributes and the arguments of a partial; empty without any.

    >>> def weighted(w):
    ...     return lambda logits, target: w * logits
    >>> held(weighted(1.0)) == held(weighted(1.0)), held(weighted(1.0)) == held(weighted(100.0))
    (True, False)
    """
    return _Contents().held(component)


def body(function: Any) -> Any:
    """What changes with the code of a function, or of any method of a class, but not with its place or comments.

    >>> body(lambda x: x + 1) == body(lambda x: x + 1), body(lambda x: x + 1) == body(lambda x: x + 2)
    (True, False)
    """
    if isinstance(function, type):
        return {name: body(method) for name, method in vars(function).items() if hasattr(method, "__code__")}
    return _compiled(getattr(function, "__code__", None))


def _compiled(code: CodeType | None) -> Any:
    if code is None:
        return None
    constants = [_compiled(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return [code.co_code.hex(), list(code.co_names), constants]


class _Contents:
    """Reads objects, each once, however they refer to each other."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[Any, str]] = {}  # with the object, or another could get its id

    def held(self, component: Any) -> list[Any]:
        """What a callable holds."""
        if isinstance(component, partial):
            found = [self.held(component.func), self.of(component.args), self.of(component.keywords)]
        elif isinstance(component, type):
            found = [self.held(method) for method in vars(component).values() if hasattr(method, "__code__")]
        elif hasattr(component, "__code__"):
            attributes = ("__defaults__", "__kwdefaults__", "__dict__", "__self__")
            found = [self.of(_closure(component)), *(self.of(getattr(component, name, None)) for name in attributes)]
        else:
            found = [self.of(_attributes(component)), self.held(type(component))]
        return [part for part in found if part not in NOTHING]

    def of(self, value: Any) -> Any:
        """Characters or plain values that change with the content of anything; nothing for what is empty."""
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else repr(value)
        if id(value) not in self.known:
            self.known[id(value)] = value, type(value).__name__  # what it is called where it holds itself
            content = self._read(value)
            self.known[id(value)] = value, content if content in NOTHING else digest(content)
        return self.known[id(value)][1]

    def _read(self, value: Any) -> Any:
        if isinstance(value, Path):
            return str(value)
        if hasattr(value, "detach") and hasattr(value, "numpy"):  # a tensor
            value = value.detach().cpu().double().numpy()
        if isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
            return [value.dtype.str, value.shape, hashlib.sha256(np.ascontiguousarray(value).data).hexdigest()]
        if isinstance(value, Mapping):
            return self._named(value.items())
        if isinstance(value, list | tuple):
            return [self.of(item) for item in value]
        if isinstance(value, set | frozenset):
            return sorted(map(str, map(self.of, value)))
        if callable(value):
            return [component_name(value), body(value), self.held(value)]
        attributes = self._named(_attributes(value).items())
        text = repr(value)
        return [type(value).__name__, attributes or (None if " at 0x" in text else text)]

    def _named(self, items: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
        """Without what is empty, such as the many hooks that a module of torch could have."""
        found = {str(name): self.of(item) for name, item in items}
        return {name: item for name, item in found.items() if item not in NOTHING}


def _closure(function: Any) -> dict[str, Any]:
    named = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    return {name: _inside(cell) for name, cell in named if name != "__class__"}


def _inside(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _attributes(value: Any) -> dict[str, Any]:
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in fields(value)}
    return dict(getattr(value, "__dict__", {}))
