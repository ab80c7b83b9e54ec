"""What a preprocessed case was made from, as a short key: a stored case with another key is out of date."""

from __future__ import annotations

from typing import Any

from autoseg.core.held import body, held
from autoseg.core.serialization import component_name, digest
from autoseg.core.types import Spacing
from autoseg.data.known import State
from autoseg.data.normalization import CTNormalization, NoNormalization, RescaleTo01, RGBTo01, ZScore
from autoseg.planning.configuration import Configuration

FORMAT = 1  # raised whenever the same inputs give other arrays
OURS = (ZScore, CTNormalization, RescaleTo01, RGBTo01, NoNormalization)


def inputs_key(state: State, configuration: Configuration) -> str:
    """Changes with the state of a case, a setting (but the spacing), or the body of the user's own normalization.

    Files are recognised by path, size and time, so that nothing has to be read to know that nothing changed.
    """
    names = ("channels", "labels", "axis_order", "mask_background", "resampling")
    settings = {name: getattr(configuration, name) for name in names}
    normalization = [n if isinstance(n, OURS) else _code(n) for n in configuration.normalization]
    return digest([FORMAT, settings, normalization, state])


def content_key(inputs: str, spacing: Spacing) -> str:
    """The key of arrays made from these inputs at this spacing of three axes.

    Configurations that bring a case to the same spacing have the same arrays: often ``2d`` and ``3d_fullres``.
    """
    return digest([inputs, spacing])


def _code(component: Any) -> list[Any]:
    """A callable of the user's own by its name, its compiled body and the values it holds.

    >>> _code(lambda channel, inside: channel + 1) == _code(lambda channel, inside: channel + 1)
    True
    >>> _code(lambda channel, inside: channel + 1) == _code(lambda channel, inside: channel + 2)
    False
    """
    function = component if hasattr(component, "__code__") else type(component).__call__
    return [component_name(component), body(function), held(component)]
