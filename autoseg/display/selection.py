"""Empirical decisions: what was tried, what was chosen, and how sure that is."""

from __future__ import annotations

from autoseg.display import render
from autoseg.display.charts import strip
from autoseg.display.decisions import attempts_table
from autoseg.display.html import Html, card, facts, fold, section, table, text
from autoseg.display.results import HINT, label_table, worst_cases
from autoseg.display.words import MINUS, number, score
from autoseg.evaluation.intervals import ModelComparison
from autoseg.evaluation.selection import Choice, CrossValidation

ENDS = 6  # cases at either end that are named


@render.register
def show_cross_validation(run: CrossValidation) -> str:
    """The scores of cases that each model never saw, and the worst of them."""
    weak = f"{run.covered}: this estimate is weak" if run.covered else f"all {len(run.folds)} folds"
    essence = {"mean Dice": score(run.evaluation.mean, 4), "cases": len(run.predictions), "models": len(run.models)}
    shown = worst_cases(run.evaluation)
    return card(
        "Cross-validation",
        run.configuration,
        facts(essence),
        section("Labels", label_table(run.evaluation), hint=HINT),
        section("The worst cases", shown) if shown else None,
        note=weak,
    )


@render.register
def show_choice(choice: Choice) -> str:
    """What was chosen, each decision with everything that was tried."""
    return card(
        "Choice",
        " + ".join(choice.configurations),
        facts({"mean Dice": score(choice.evaluation.mean, 4), "models": sum(map(len, choice.models))}),
        *(section(d.name, text(d.reason), attempts_table(d.tried, d.name)) for d in choice.decisions),
        section("Scores of what was chosen", label_table(choice.evaluation), hint=HINT),
    )


@render.register
def show_model_comparison(found: ModelComparison) -> str:
    """The mean difference with its interval, every case as a dot, and what may be concluded."""
    interval = found.interval
    mean, low, high = (f"{v:+.4f}".replace("-", MINUS) for v in (interval.mean, interval.low, interval.high))
    better = sum(d > 0 for d in found.differences.values())
    essence = {
        "mean difference of the Dice": mean,
        "95% of redrawn cases": f"{low} to {high}",
        "second better": f"{better} of {len(found.differences)} cases",
    }
    order = sorted(found.differences, key=lambda name: found.differences[name])
    ends = order if len(order) <= 2 * ENDS else [*order[:ENDS], *order[-ENDS:]]
    rows = [(name, f"{found.differences[name]:+.3f}".replace("-", MINUS)) for name in ends]
    left = f"; {len(order) - len(ends)} between them" if len(order) > len(ends) else ""
    return card(
        "Comparison of two models",
        found.conclusion,
        facts(essence),
        section("Every case", spread(found), hint="right of the line the second is better; the bar is the median"),
        fold("Cases", table(("case", "difference"), rows, numbers=(1,)), hint=f"second minus first{left}"),
    )


def spread(found: ModelComparison) -> Html:
    """The differences of all cases around zero."""
    values = list(found.differences.values())
    far = max(*map(abs, values), 1e-3)
    ends = (f"{MINUS}{number(far)}", f"+{number(far)}")
    return table(("", "", ""), [(ends[0], strip(values, (-far, far), zero=True), ends[1])], numbers=(0,))
