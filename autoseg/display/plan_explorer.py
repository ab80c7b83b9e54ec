"""A plan to turn knobs on: memory, spacing, shape, cases, channels and preset, with what follows from them at once."""

from __future__ import annotations

from typing import Any

import ipywidgets as widgets
import numpy as np

from autoseg.core.errors import PlanError
from autoseg.display import render
from autoseg.display.html import card, text
from autoseg.display.plan import show_configuration
from autoseg.display.widgets import Interactive
from autoseg.planning.budget import PRESETS
from autoseg.planning.plan import Plan

AXES = ("z", "y", "x")
WIDE = {"description_width": "110px"}


class PlanExplorer(Interactive):
    """Sliders above, the plan and its difference from the one it began with below; `.plan` is the plan it shows."""

    def __init__(self, plan: Plan) -> None:
        self.start = self.plan = plan
        self.knobs = _knobs(plan)
        self.shown = widgets.ToggleButtons(options=[c.name for c in plan], value=plan.configurations[-1].name)
        self.configuration, self.difference = widgets.HTML(), widgets.HTML()
        for knob in self.knobs.values():
            knob.observe(self._update, names="value")
        self.shown.observe(self._draw, names="value")
        below = widgets.HBox([self.configuration, self.difference], layout=widgets.Layout(flex_flow="row wrap"))
        super().__init__([_grid(self.knobs), self.shown, below], plan)
        self._update(None)

    def changes(self) -> dict[str, Any]:
        """What the knobs say, as arguments of `plan.what_if`; knobs that were not moved say nothing."""
        value = {name: knob.value for name, knob in self.knobs.items()}
        start = _positions(self.start)
        moved: dict[str, Any] = {
            name: value[name] for name in ("memory_gb", "cases", "channels") if value[name] != start[name]
        }
        for fact in ("spacing", "shape"):
            names = [f"{fact} {axis}" for axis in AXES]
            if any(value[name] != start[name] for name in names):
                moved[fact] = tuple(value[name] for name in names)
        if value["preset"] != start["preset"]:
            moved["preset"] = value["preset"]
            moved.setdefault("memory_gb", None)
        return moved

    def _update(self, change: Any) -> None:
        try:
            self.plan = self.start.what_if(self.changes())
        except PlanError as error:
            self.difference.value = card("No plan", "these facts allow none", text(str(error)))
            return
        names = tuple(c.name for c in self.plan)
        if tuple(self.shown.options) != names:
            kept = self.shown.value if self.shown.value in names else names[-1]
            self.shown.unobserve(self._draw, names="value")  # new options change the value twice
            self.shown.options, self.shown.value = names, kept
            self.shown.observe(self._draw, names="value")
        self._draw(None)

    def _draw(self, change: Any) -> None:
        self.configuration.value = show_configuration(self.plan[self.shown.value])
        self.difference.value = render(self.start.compare(self.plan))


def _positions(plan: Plan) -> dict[str, Any]:
    """Where the knobs stand for a plan's own facts."""
    fingerprint = plan.fingerprint
    spacing, shape = np.median(fingerprint.spacings, axis=0), np.median(fingerprint.shapes, axis=0)
    return {
        "memory_gb": float(plan.budget.gpu_memory_gb),
        "preset": plan.budget.preset,
        "cases": len(fingerprint.cases) if fingerprint.declared_cases is None else fingerprint.declared_cases,
        "channels": len(fingerprint.channels),
        **{f"spacing {axis}": float(s) for axis, s in zip(AXES, spacing, strict=True)},
        **{f"shape {axis}": round(float(s)) for axis, s in zip(AXES, shape, strict=True)},
    }


def _knobs(plan: Plan) -> dict[str, widgets.Widget]:
    at = _positions(plan)

    def slider(name: str, kind: Any, low: Any, high: Any, step: Any) -> widgets.Widget:
        low, high = min(low, at[name]), max(high, at[name])
        return kind(
            value=at[name], min=low, max=high, step=step, description=name.replace("_", " "), style=WIDE,
            continuous_update=True, readout_format=".3g" if kind is widgets.FloatSlider else "d",
        )  # fmt: skip

    knobs: dict[str, widgets.Widget] = {
        "memory_gb": slider("memory_gb", widgets.FloatSlider, 2.0, 80.0, 0.5),
        "preset": widgets.Dropdown(options=list(PRESETS), value=at["preset"], description="preset", style=WIDE),
        "cases": slider("cases", widgets.IntSlider, 2, 1000, 1),
        "channels": slider("channels", widgets.IntSlider, 1, 8, 1),
    }
    for axis in AXES:
        name = f"spacing {axis}"
        knobs[name] = slider(name, widgets.FloatSlider, at[name] / 8, at[name] * 8, at[name] / 32)
    for axis in AXES:
        name = f"shape {axis}"
        knobs[name] = slider(name, widgets.IntSlider, 1, max(4 * at[name], 64), 1)
    return knobs


def _grid(knobs: dict[str, widgets.Widget]) -> widgets.Widget:
    for knob in knobs.values():
        knob.layout = widgets.Layout(width="330px")
    return widgets.HBox(list(knobs.values()), layout=widgets.Layout(flex_flow="row wrap"))
