"""What every widget of autoseg is: controls and pictures, and a static display of the same for where no kernel runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets

from autoseg.display import render
from autoseg.display.html import Html, join, style, tag

WIDE = {"description_width": "initial"}


class Interactive(widgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """A column of widgets. `stands_for` is the object whose display says the same without a kernel."""

    def __init__(self, children: Sequence[widgets.Widget], stands_for: Any) -> None:
        self.stands_for = stands_for
        super().__init__(list(children))
        welcome_colab()

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """The widget, and beside it what nbconvert, GitHub and a closed notebook show in its place."""
        bundle: dict[str, Any] = super()._repr_mimebundle_(**options) or {}
        return bundle | {"text/plain": repr(self), "text/html": self.static()}

    def static(self) -> str:
        """The HTML that needs no kernel."""
        return render(self.stands_for)

    def __repr__(self) -> str:
        return f"{type(self).__name__} of {self.stands_for!r}"


def welcome_colab() -> None:
    """Colab shows widgets that are not ipywidgets' own only after this call; elsewhere there is nothing to do."""
    if "google.colab" in sys.modules:
        from google.colab import output

        output.enable_custom_widget_manager()


def words(*parts: object) -> widgets.HTML:
    """Text in the style of the cards."""
    return widgets.HTML(paragraph(*parts))


def paragraph(*parts: object) -> Html:
    """The HTML of `words`."""
    return join(style(), tag("div", *parts, class_="autoseg"))


def row(*children: widgets.Widget) -> widgets.Box:
    """Side by side, wrapping where the page is narrow."""
    return widgets.Box(
        list(children), layout=widgets.Layout(flex_flow="row wrap", align_items="center", overflow="hidden")
    )
