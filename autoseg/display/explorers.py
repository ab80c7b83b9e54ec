"""Widgets of results: from a score to its case, and several predictions of one case beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets

from autoseg.core.errors import EvaluationError
from autoseg.core.shown import Shown
from autoseg.display import render
from autoseg.display.colours import swatch
from autoseg.display.html import card, join, table, tag
from autoseg.display.results import colours, pictures
from autoseg.display.slices import window_of
from autoseg.display.viewers import AGREES, LABELS, CaseBrowser, Slices, layers_of_prediction
from autoseg.display.widgets import WIDE, Interactive, paragraph, row, words
from autoseg.display.words import number, score
from autoseg.evaluation.scores import Evaluation, predictions_of, score_case
from autoseg.prediction.inference import Prediction, Predictions

DOTS = 150  # of one label: each is a button; of more, the worst
MEAN = "mean of all labels"
WIDTH, HEIGHT = 620, 64  # page pixels of the plot
PLOT = """<style>.autoseg-plot { position: relative; }
.autoseg-plot .autoseg-dot { position: absolute; padding: 0; border-radius: 50%; opacity: 0.75; min-width: 0; }
.autoseg-plot .autoseg-dot:is(:hover, :focus) { opacity: 1; outline: 2px solid currentColor; }</style>"""


class EvaluationExplorer(Interactive):
    """A dot and a row for each case; a click on either shows the case. `.case` is the one that is shown."""

    def __init__(self, evaluation: Evaluation) -> None:
        if not evaluation.predictions:
            raise EvaluationError(
                "this evaluation was made without predictions to look at. Use evaluate(predictions, dataset)."
            )
        self.known = {p.case.name: p for p in evaluation.predictions}
        self.evaluation = evaluation
        self.label = widgets.Dropdown(options=[MEAN, *evaluation.labels], description="Dice of", style=WIDE)
        self.plot = widgets.Box(layout=widgets.Layout(width=f"{WIDTH}px", height=f"{HEIGHT}px", overflow="hidden"))
        self.plot.add_class("autoseg-plot")
        self.ends = words()
        self.table = widgets.Select(rows=8, layout=widgets.Layout(width="640px"))
        self.shown = widgets.VBox()
        self.label.observe(self._rank, names="value")
        self.table.observe(self._show, names="value")
        parts = [row(self.label, widgets.HTML(PLOT)), self.plot, self.ends, self.table, self.shown]
        super().__init__(parts, evaluation)
        self._rank(None)

    @property
    def case(self) -> str | None:
        """The name of the case that is shown."""
        value: str | None = self.table.value
        return value

    def values(self) -> dict[str, float]:
        """Dice of each case for the label that is chosen, the worst first; cases where it does not count are last."""
        if self.label.value == MEAN:
            dice = self.evaluation.by_case
        else:
            dice = {s.case: s.dice for s in self.evaluation.scores if s.label == self.label.value}
        order = sorted((n for n in dice if n in self.known), key=lambda n: (dice[n] != dice[n], dice[n]))
        return {name: dice[name] for name in order}

    def _rank(self, change: Any) -> None:
        """Dots and rows for the chosen label; the worst case is shown."""
        values = self.values()
        kept = {name: value for name, value in values.items() if value == value}
        low = min([*kept.values(), 0.99])
        colour = colours(self.evaluation).get(self.label.value, "#3d8fd1")
        for dot in self.plot.children:
            dot.close()
        self.plot.children = [self._dot(i, n, v, (low, 1.0), colour) for i, (n, v) in enumerate([*kept.items()][:DOTS])]
        told = f"{number(low)} at the left, 1 at the right; each dot is a case"
        self.ends.value = paragraph(tag("small", told if len(kept) <= DOTS else f"{told}; the {DOTS} worst"))
        self.table.options = [(f"{score(value)}   {name}", name) for name, value in values.items()]
        self.table.value = next(iter(values), None)

    def _dot(self, position: int, name: str, value: float, span: tuple[float, float], colour: str) -> widgets.Button:
        left = 6 + (WIDTH - 26) * (value - span[0]) / (span[1] - span[0])
        top = 6 + (HEIGHT - 26) * ((position * 0.618034) % 1)  # golden ratio: neighbours end up far apart
        layout = widgets.Layout(left=f"{left:.0f}px", top=f"{top:.0f}px", width="13px", height="13px", margin="0")
        dot = widgets.Button(tooltip=f"{name}: {score(value)}", layout=layout, style={"button_color": colour})
        dot.add_class("autoseg-dot")
        dot.on_click(lambda _: setattr(self.table, "value", name))
        return dot

    def _show(self, change: Any) -> None:
        if self.case is None:
            return
        browser = CaseBrowser(layers_of_prediction(self.known[self.case]), self.known[self.case])
        dice = {s.label: score(s.dice) for s in self.evaluation.scores if s.case == self.case}
        colour = colours(self.evaluation)
        told = [
            tag("span", swatch(colour[label]), f" {label} {value}", class_="as-key") for label, value in dice.items()
        ]
        title = words(tag("p", tag("b", self.case), "  ", join(*told, by=" "), class_="as-legend"))
        for old in self.shown.children:
            old.close()
        self.shown.children = [title, browser]


@dataclass(frozen=True, slots=True)
class Compared(Shown):
    """Several predictions of the same cases, each under a name."""

    predictions: Mapping[str, Predictions]

    @property
    def cases(self) -> tuple[str, ...]:
        """The cases that all of them predict, in the order of the first."""
        first, *others = ({p.case.name for p in ps} for ps in self.predictions.values())
        common = first.intersection(*others)
        return tuple(p.case.name for p in next(iter(self.predictions.values())) if p.case.name in common)

    def dice(self, name: str, case: str) -> dict[str, float]:
        """Dice of each label, where the case has a reference; else nothing."""
        known = layers_of_prediction(self.predictions[name][case])
        if known.truth is None:
            return {}
        predicted = self.predictions[name][case].label_map
        reference = type(predicted)(known.truth, predicted.grid, predicted.labels)
        return {s.label: s.dice for s in score_case(case, predicted, reference)}

    def __repr__(self) -> str:
        return f"{' against '.join(self.predictions)} on {len(self.cases)} cases"


@render.register
def show_compared(compared: Compared) -> str:
    """The first cases as each of them predicts it, and their Dice side by side."""
    shown = [join(tag("p", tag("b", name)), pictures([ps[case] for case in compared.cases[:3]])) for name, ps in
             compared.predictions.items()]  # fmt: skip
    return card(
        "Predictions compared", " · ".join(compared.predictions), *shown, dice_table(compared, compared.cases[:10])
    )


def dice_table(compared: Compared, cases: Sequence[str]) -> object:
    """One row a case and label, one column a prediction."""
    rows = []
    for case in cases:
        dice = {name: compared.dice(name, case) for name in compared.predictions}
        labels = next(iter(dice.values()))
        rows += [(case, label, *(score(d[label]) for d in dice.values())) for label in labels]
    if not rows:
        return None
    return table(("case", "label", *compared.predictions), rows, numbers=tuple(range(2, 2 + len(compared.predictions))))


class PredictionsComparison(Interactive):
    """One picture a prediction, of the same slice. `.case`, `.slice` and `.mode` are its controls."""

    def __init__(self, compared: Compared) -> None:
        self.compared = compared
        self.case = widgets.Dropdown(options=compared.cases, description="case", style=WIDE)
        self.mode = widgets.ToggleButtons(options=[LABELS, AGREES], value=LABELS, style={"button_width": "110px"})
        self.key, self.scores, self.views = words(), words(), row()
        self.slices: list[Slices] = []
        self.case.observe(self._new_case, names="value")
        self.mode.observe(self._draw, names="value")
        super().__init__([row(self.case, self.mode), self.views, self.key, self.scores], compared)
        self._new_case(None)

    def _new_case(self, change: Any) -> None:
        items = {name: ps[self.case.value] for name, ps in self.compared.predictions.items()}
        self.layers = {name: layers_of_prediction(p) for name, p in items.items()}
        room = 650.0 / min(len(items), 3) - 12
        self.slices = [Slices(k, room=(room, 330.0), planes=1) for k in self.layers.values()]
        for at in zip(*(s.sliders.values() for s in self.slices), strict=True):
            for other in at[1:]:
                widgets.link((at[0], "value"), (other, "value"))
        named = zip(self.layers, self.slices, strict=True)
        self.views.children = [widgets.VBox([words(tag("b", name)), slices]) for name, slices in named]
        self.scores.value = paragraph(dice_table(self.compared, (self.case.value,)))
        self._draw(None)

    def _draw(self, change: Any) -> None:
        for known, slices in zip(self.layers.values(), self.slices, strict=True):
            channel = known.image.array[0]
            slices.show(channel, known.painting(self.mode.value, 0.4), window_of(channel, known.image.channels[0]))
        self.key.value = paragraph(next(iter(self.layers.values())).key(self.mode.value))


def compare_predictions(
    predictions: Mapping[str, Prediction | Predictions] | Sequence[Prediction | Predictions],
) -> PredictionsComparison:
    """A widget that shows predictions of the same cases side by side: two models, two folds, before and after.

    Give them under names, or in a list. Raises `EvaluationError` for fewer than two, or where they share no case.

    >>> import autoseg
    >>> case = autoseg.sample_dataset().training[0]
    >>> truth = autoseg.Prediction(case=case, label_map=case.label())
    >>> autoseg.compare_predictions({"one": truth, "another": truth})
    PredictionsComparison of one against another on 1 cases
    """
    if not isinstance(predictions, Mapping):
        predictions = {f"prediction {i}": p for i, p in enumerate(predictions, start=1)}
    if len(predictions) < 2:
        raise EvaluationError(f"a comparison needs at least two predictions, there are {len(predictions)}.")
    kept = {str(n): p if isinstance(p, Predictions) else Predictions(predictions_of(p)) for n, p in predictions.items()}
    compared = Compared(kept)
    if not compared.cases:
        raise EvaluationError(f"no case is predicted by all of {', '.join(kept)}. Predict the same cases with each.")
    return PredictionsComparison(compared)
