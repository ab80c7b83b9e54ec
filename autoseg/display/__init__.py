"""How objects show themselves in a notebook: cards of facts, pictures, charts and tables, as HTML without scripts.

`render(obj)` gives the HTML of one of autoseg's objects. Each room's displays are imported when the first object of
that room is shown, so showing a plan never loads torch.
"""

from __future__ import annotations

from functools import singledispatch
from importlib import import_module

ROOMS = {  # the folder of an object's class: the modules that display what lives there
    "core": ("decisions",),
    "data": ("data", "fingerprint", "findings"),
    "planning": ("plan", "answers"),
    "preprocessing": ("preprocessing",),
    "training": ("training", "training_parts", "microscope", "model_card"),
    "prediction": ("results",),
    "evaluation": ("results", "selection", "doubt"),
    "interop": ("answers", "exchange"),
    "gym": ("gym",),
}


@singledispatch
def render(obj: object) -> str:
    """The HTML of an object of autoseg. Raises `TypeError` for anything that has no display.

    >>> from autoseg.data.labels import Labels
    >>> "liver" in render(Labels({"background": 0, "liver": 1}))
    True
    """
    package, _, rest = type(obj).__module__.partition(".")
    for room in ROOMS.get(rest.partition(".")[0], ()) if package == "autoseg" else ():
        import_module(f"autoseg.display.{room}")  # registers the room's displays
    display = render.dispatch(type(obj))
    if display is render.dispatch(object):
        raise TypeError(f"a {type(obj).__name__} has no display")
    return display(obj)


@render.register
def _(objects: tuple) -> str:  # type: ignore[type-arg]  # singledispatch takes plain classes only
    """Several objects, one below the other."""
    return "".join(render(item) for item in objects)
