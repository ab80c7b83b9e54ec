"""Everything that shows itself has a display; none was forgotten."""

from __future__ import annotations

from importlib import import_module

from test_layers import MODULES

from autoseg.core.shown import Shown
from autoseg.display import ROOMS, render


def shown_classes(base=Shown):
    for child in base.__subclasses__():
        yield child
        yield from shown_classes(child)


def is_the_one(cls):
    """Whether it is the class of its module; dataclass leaves the one without slots behind."""
    return getattr(import_module(cls.__module__), cls.__name__, None) is cls


def test_every_object_that_shows_itself_has_a_display():
    for name in MODULES:
        import_module(f"autoseg.{name}".removesuffix("."))
    for room in {r for rooms in ROOMS.values() for r in rooms}:
        import_module(f"autoseg.display.{room}")
    ours = {cls for cls in shown_classes() if cls.__module__.startswith("autoseg.") and is_the_one(cls)}
    assert len(ours) > 30
    plain = render.dispatch(object)
    assert sorted(cls.__name__ for cls in ours if render.dispatch(cls) is plain) == []
