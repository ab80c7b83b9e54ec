"""Empirical decisions: what was tried, what was chosen, and how sure that is."""

from __future__ import annotations

from autoseg.display import render
from autoseg.display.decisions import attempts_table
from autoseg.display.html import Html, card, facts, section, table, text
from autoseg.evaluation.intervals import ModelComparison, intervals
from autoseg.evaluation.scores import Evaluation
from autoseg.evaluation.selection import FOLDS, Choice, CrossValidation


@render.register
def show_cross_validation(run: CrossValidation) -> str:
    """The scores of cases that each model never saw."""
    weak = f"{len(run.folds)} of {FOLDS} folds: this estimate is weak" if len(run.folds) < FOLDS else "all five folds"
    essence = {"mean Dice": f"{run.evaluation.mean:.4f}", "cases": len(run.predictions), "models": len(run.models)}
    return card("Cross-validation", run.configuration, facts(essence), scores(run.evaluation), note=weak)


@render.register
def show_choice(choice: Choice) -> str:
    """What was chosen, each decision with everything that was tried."""
    return card(
        "Choice",
        " + ".join(choice.configurations),
        facts({"mean Dice": f"{choice.evaluation.mean:.4f}", "models": sum(map(len, choice.models))}),
        *(section(d.name, text(d.reason), attempts_table(d.tried, d.name)) for d in choice.decisions),
        section("Scores of what was chosen", scores(choice.evaluation)),
    )


@render.register
def show_model_comparison(found: ModelComparison) -> str:
    """The mean difference with its interval, and what may be concluded."""
    i = found.interval
    better = sum(d > 0 for d in found.differences.values())
    essence = {
        "mean difference of the Dice": f"{i.mean:+.4f}",
        "95 % of redrawn cases": f"{i.low:+.4f} to {i.high:+.4f}",
        "second better": f"{better} of {len(found.differences)} cases",
    }
    return card("Comparison of two models", found.conclusion, facts(essence))


def scores(evaluation: Evaluation) -> Html:
    """The mean Dice of each label with its interval over cases."""
    rows = [(name, f"{i.mean:.3f}", f"{i.low:.3f} to {i.high:.3f}") for name, i in intervals(evaluation).items()]
    return table(("label", "mean Dice", "95 % interval over cases"), rows, numbers=(1, 2))
