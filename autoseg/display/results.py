"""Displays of predictions and of what they are worth: overlays, and scores with the worst cases first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from autoseg.core.errors import AutosegError
from autoseg.data.dataset import Case
from autoseg.data.images import LabelMap
from autoseg.display import render
from autoseg.display.charts import strip
from autoseg.display.colours import bar, colour_of, colour_of_region, legend, swatch
from autoseg.display.data import affordable, bytes_of, voxel_table
from autoseg.display.html import Html, card, facts, fold, folded_table, gallery, join, names, section, table, tag, text
from autoseg.display.slices import Overlay, thumbnail, views
from autoseg.display.words import count, duration, score
from autoseg.evaluation.intervals import ENOUGH, intervals
from autoseg.evaluation.metrics import known_mean
from autoseg.evaluation.result_card import ResultCard
from autoseg.evaluation.scores import Evaluation
from autoseg.prediction.inference import Prediction, Predictions

THUMBNAILS = 5
WORST = 12  # rows that are open; the others fold
ROWS = 300
LABELS = 12  # rows of labels that are open
HINT = "95% interval over cases; dots are cases"
COLUMNS = 5  # labels with a column of their own


@render.register
def show_prediction(prediction: Prediction) -> str:
    """The prediction on its image, with the reference as a line where there is one."""
    labels = prediction.label_map.labels
    overlay = overlay_of(prediction)
    told = "filled: predicted · line: reference" if overlay.outlined is not None else "filled and outlined: predicted"
    return card(
        "Prediction",
        prediction.case.name,
        views(prediction.case.image(), overlay),
        legend(labels, told),
        section("Predicted", voxel_table(prediction.label_map)),
        note=f"predicted in {duration(prediction.seconds)}" if prediction.seconds else None,
    )


def overlay_of(prediction: Prediction) -> Overlay:
    """The prediction filled, the reference as a line where the case has one."""
    reference = reference_of(prediction.case)
    ignore = prediction.label_map.labels.ignore
    outlined = None if reference is None else reference.array
    return Overlay(filled=prediction.label_map.array, outlined=outlined, ignore=ignore)


def reference_of(case: Case) -> LabelMap | None:
    """The case's label map, if it has one that can be read."""
    if not case.has_label:
        return None
    try:
        return case.label()
    except AutosegError:  # a prediction is worth showing without its reference
        return None


@render.register
def show_predictions(predictions: Predictions) -> str:
    """A look at the first predictions, and the names of all."""
    seconds = sum(p.seconds for p in predictions)
    essence = {"cases": f"{len(predictions):,}"}
    if seconds:  # predictions that were found on disk took none
        essence |= {"time": duration(seconds), "a case": duration(seconds / len(predictions))}
    failed = [tag("li", sentence) for sentence in predictions.failed.values()]
    return card(
        "Predictions",
        count(len(predictions), "case"),
        facts(essence),
        pictures(predictions[:THUMBNAILS]),
        section(f"{count(len(failed), 'case')} could not be predicted", tag("ul", *failed)) if failed else None,
        fold("Cases", names([p.case.name for p in predictions]), hint=count(len(predictions), "case"), long=True),
        note=predictions.stopped or None,
    )


def pictures(predictions: Sequence[Prediction], notes: dict[str, str] | None = None) -> Html | None:
    """A thumbnail of each prediction over its image, as many as are read in a moment."""
    shown = []
    for prediction in affordable(predictions, lambda p: bytes_of(p.case)):
        name = prediction.case.name
        caption = join(name, tag("br"), (notes or {})[name]) if notes else name
        shown.append([(thumbnail(prediction.case.image(), overlay_of(prediction)), caption)])
    if not shown:
        return None
    lined = any(p.case.has_label for p in predictions)
    told = "filled: predicted" + (" · line: reference" if lined else "")
    return join(gallery(*shown), legend(predictions[0].label_map.labels, told))


@render.register
def show_evaluation(evaluation: Evaluation) -> str:
    """The result card with what an evaluation alone knows."""
    return show_result_card(ResultCard(evaluation=evaluation))


@render.register
def show_result_card(result: ResultCard) -> str:
    """Scores with intervals, the worst cases, doubt where it was computed, and what may be concluded."""
    evaluation = result.evaluation
    shown = worst_cases(evaluation)
    cases = case_rows(evaluation)
    return card(
        "Evaluation",
        f"mean Dice {score(evaluation.mean, 4)}",
        facts(_essence(evaluation)),
        section("Labels", label_table(evaluation), hint=HINT),
        section("The worst cases", shown) if shown else None,
        *_doubt(result),
        section("What may be concluded", tag("ul", *(tag("li", s) for s in result.sentences), class_="as-text")),
        section("Cases", case_table(evaluation, cases[:WORST]), hint=_of_labels(evaluation)),
        fold(
            "The other cases",
            case_table(evaluation, cases[WORST:ROWS]),
            hint=count(len(cases) - WORST, "case"),
            long=True,
        )
        if len(cases) > WORST
        else None,
        text(f"and {len(cases) - ROWS:,} more; evaluation.table() has all of them") if len(cases) > ROWS else None,
        note="whole cases on their own grid; a label that a case neither has nor was given does not count",
    )


def worst_cases(evaluation: Evaluation) -> Html | None:
    """Thumbnails of the cases with the lowest Dice, where the predictions are at hand."""
    notes = {name: f"Dice {score(dice)}" for name, dice in evaluation.by_case.items()}
    known = {p.case.name: p for p in evaluation.predictions}
    return pictures([known[n] for n in evaluation.worst(THUMBNAILS) if n in known], notes)


def _doubt(result: ResultCard) -> Iterator[Html]:
    """How sure the models are, as far as it was computed, and what chose them."""
    from autoseg.display.doubt import diagrams, maps, ramp

    if result.choice is not None:
        yield section("What was chosen", *(text(d.reason) for d in result.choice.decisions))
    if result.uncertainty is not None:
        told = result.uncertainty[0].meaning
        yield section("The most uncertain cases", maps(result.uncertainty), ramp(), hint=told)
    if result.calibration is not None:
        yield section("Calibration", diagrams(result.calibration), hint=result.calibration.conclusion)


def _essence(evaluation: Evaluation) -> dict[str, object]:
    worst = evaluation.worst(1)
    return {
        "cases": f"{len(evaluation.cases):,}",
        "labels": len(evaluation.labels),
        "worst case": f"{worst[0]}, {score(evaluation.by_case[worst[0]])}" if worst else "–",
    }


def colours(evaluation: Evaluation) -> dict[str, str]:
    """The colour of each label or region."""
    labels = evaluation.predictions[0].label_map.labels if evaluation.predictions else None
    return {
        name: colour_of(i + 1) if labels is None else colour_of_region(labels, name)
        for i, name in enumerate(evaluation.labels)
    }


def label_table(evaluation: Evaluation) -> Html:
    """Mean Dice of each label with its interval over cases, and every case as a dot."""
    rows, between = [], intervals(evaluation)
    known = [s.dice for s in evaluation.scores if s.dice == s.dice]
    lowest = math.floor(10 * min(known, default=0.0)) / 10
    for name, colour in colours(evaluation).items():
        dice = [s.dice for s in evaluation.scores if s.label == name]
        mean_iou = known_mean(s.iou for s in evaluation.scores if s.label == name)
        sure = f"{score(between[name].low)} to {score(between[name].high)}" if len(dice) >= ENOUGH else ""
        dots = strip(dice, (lowest, 1.0), colour=colour)
        rows.append(
            (
                join(swatch(colour), " ", name),
                join(score(evaluation.by_label[name]), tag("br"), tag("small", sure)),
                score(mean_iou),
                dots,
                sum(d == d for d in dice),
            )
        )
    head = ("label", "mean Dice", "mean IoU", f"Dice of each case, from {lowest:g} to 1", "cases")
    return folded_table(head, rows, most=LABELS, numbers=(1, 2, 4), more="The other labels")


def case_rows(evaluation: Evaluation) -> list[tuple[object, ...]]:
    """Every case with its mean Dice and that of its labels, the worst first."""
    by_case: dict[str, dict[str, float]] = {}
    for s in evaluation.scores:
        by_case.setdefault(s.case, {})[s.label] = s.dice
    means = evaluation.by_case
    order = sorted(by_case, key=lambda name: (means[name] != means[name], means[name]))
    columns = evaluation.labels[:COLUMNS] if len(evaluation.labels) > 1 else ()
    return [
        (
            name,
            bar(means[name], score(means[name]), width=90) if means[name] == means[name] else "–",
            *(score(by_case[name].get(label, float("nan"))) for label in columns),
        )
        for name in order
    ]


def _of_labels(evaluation: Evaluation) -> str:
    more = len(evaluation.labels) - COLUMNS
    return "Dice, the worst first" + (f"; the first {COLUMNS} labels, {more} more in .table()" if more > 0 else "")


def case_table(evaluation: Evaluation, rows: Sequence[Sequence[object]]) -> Html:
    """Rows of `case_rows` with their head."""
    shown = evaluation.labels[:COLUMNS] if len(evaluation.labels) > 1 else ()
    colour = colours(evaluation)
    head = ("case", "mean", *(join(swatch(colour[n]), " ", n) for n in shown))
    return table(head, rows, numbers=tuple(range(2, 2 + len(shown))))
