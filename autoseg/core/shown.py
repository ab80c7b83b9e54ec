"""The one place where objects know that displays exist: they ask for one by name when a notebook asks them."""

from __future__ import annotations

import importlib
from html import escape
from typing import Any


def ask_display(module: str, verb: str, *arguments: object, **options: object) -> Any:
    """Call a function of ``autoseg.display`` by name, for objects that offer a widget or a picture of themselves."""
    return getattr(importlib.import_module(f"autoseg.display.{module}"), verb)(*arguments, **options)


class Shown:
    """Mixin of everything that shows itself in a notebook.

    The markup lives in ``autoseg.display``, which is imported on the first request. If drawing fails, the cell shows
    the plain text and the error in one line: a broken picture must never take a result away.
    """

    __slots__ = ()

    def _repr_html_(self) -> str:
        try:
            html: str = importlib.import_module("autoseg.display").render(self)
        except Exception as error:  # noqa: BLE001  any failure of a display must leave the text
            note = f"(no picture: {type(error).__name__}: {error})"
            return f"<pre>{escape(repr(self))}\n{escape(note)}</pre>"
        return html
