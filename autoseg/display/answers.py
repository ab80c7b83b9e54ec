"""Displays of a plan's answers: why, what differs, how close to another choice, and where a foreign plan departs."""

from __future__ import annotations

from typing import Any

from autoseg.core.decisions import Decision
from autoseg.display import render
from autoseg.display.charts import TICKS, inset, quiet
from autoseg.display.colours import ACCENT, FAINT, INK
from autoseg.display.decisions import comparison, origins
from autoseg.display.figures import picture
from autoseg.display.html import Html, card, chip, facts, fold, join, section, table, tag, text
from autoseg.display.words import count, duration, number, size, times, value_of
from autoseg.interop.nnunet_edits import ExplainedKey, ExplainedPlan
from autoseg.planning.alternatives import Change, Comparison
from autoseg.planning.answers import Answer, in_words
from autoseg.planning.forecast import OFF, Forecast
from autoseg.planning.margins import Margin, Margins

OPEN = 3  # decisions shown at full length; of more, each folds
ROWS = 40


@render.register
def show_answer(answer: Answer) -> str:
    """Each decision that was asked for: its value, its reason, and everything it was made from."""
    parts = [_decision(d, answer) for d in answer.decisions]
    if len(parts) > OPEN:
        parts = [
            fold(d.name, part, hint=value_of(d.value, d.name)) for d, part in zip(answer.decisions, parts, strict=True)
        ]
    return card("Why", answer.question, *parts)


def _decision(decision: Decision, answer: Answer) -> Html:
    after = [d.name for d in answer.trace.downstream(decision.name)]
    decides = text("Decides: ", ", ".join(after)) if after else None
    label = "value" if decision.name == answer.question else decision.name
    branch = text("Branch taken: ", tag("b", decision.branch)) if decision.branch else None
    return tag(
        "div",
        facts({label: value_of(decision.value, decision.name)}),
        tag("p", chip(decision.kind), " ", decision.reason),
        branch,
        search_chart(decision),
        *origins(decision),
        decides,
        class_="as-answer",
    )


def search_chart(decision: Decision) -> Html | None:
    """Every candidate of a search against the memory it would take, the budget as a line; None without a search."""
    steps = [a for a in decision.tried if "memory_gb" in a.numbers]
    limits = [t.limit for t in decision.thresholds if t.unit == "GB"]
    if len(steps) < 2 or not limits:
        return None
    height = 20.0 * len(steps) + 42

    def paint(figure: Any) -> None:
        axes = inset(figure, (560, height), (118, 38, 12, 4))
        quiet(axes, grid="x")
        memory = [float(a.numbers["memory_gb"]) for a in steps]
        colours = [ACCENT if a.accepted else FAINT for a in steps]
        axes.barh(range(len(steps)), memory, color=colours, height=0.62)
        axes.axvline(limits[0], color=INK, linewidth=1.2, linestyle="--")
        axes.set_yticks(range(len(steps)), [times(a.value) for a in steps])
        axes.set_ylim(len(steps) - 0.4, -0.6)
        axes.set_xlabel("GPU memory, GB", color=INK, fontsize=TICKS)

    drawing = picture(paint, (560, height), alt="memory of each candidate against the budget")
    told = f"each step of the search; the dashed line is the budget of {number(limits[0])} GB"
    return section("The search", drawing, hint=f"{count(len(steps), 'candidate')}: {told}")


@render.register
def show_comparison(compared: Comparison) -> str:
    """What was changed, the decision that took another branch first, and all that came out differently."""
    if not compared.changes:
        told = text(_arrows(", ".join(compared.causes)), " changed nothing") if compared.causes else None
        return card("Comparison", "the same plan", told, note="no decision comes out differently")
    first, followers = compared.first, {c.name for c in compared.followers}
    rows = [_change(change, followers) for change in compared.changes]
    causes = section("Changed", *(text(_arrows(cause)) for cause in compared.causes)) if compared.causes else None
    head = (
        section(
            "First to turn",
            tag("p", tag("code", first.name), " ", _arrows(first.flipped), class_="as-line"),
            text(f"{compared.earlier}.") if compared.earlier else None,
        )
        if first and first.flipped
        else None
    )
    columns = ("decision", "before", "after", "")
    title = f"{count(len(rows), 'decision')} different"
    return card("Comparison", title, causes, head, table(columns, rows))


def _arrows(words: str) -> str:
    return words.replace(" -> ", " → ")


def _change(change: Change, followers: set[str]) -> tuple[object, ...]:
    before, after = (
        value_of(d.value, d.name) if d is not None else "not decided" for d in (change.before, change.after)
    )
    mark = chip("turned", kind="given") if change.flipped else "follows" if change.name in followers else ""
    return tag("code", change.name), before, tag("b", after), mark


@render.register
def show_margins(margins: Margins) -> str:
    """The comparisons nearest to turning over first, and the cases that alone would do it."""
    fragile = margins.fragile
    essence = {"comparisons": len(margins), "hang on a single case": len(fragile)}
    nearest = [_margin(m) for m in margins.closest[:8]]
    rest = [_margin(m) for m in margins.closest[8:ROWS]]
    head = ("decision", "comparison", "a case that tips it")
    more = fold("All others", table(head, rest), hint=str(len(rest)), long=True) if rest else None
    return card("Margins", "how close to another choice", facts(essence), table(head, nearest), more)


def _margin(margin: Margin) -> tuple[object, ...]:
    others = len(margin.tipping_cases) - 1
    tipping = join(*margin.tipping_cases[:1], f" and {others} others" if others > 0 else None)
    return tag("code", margin.decision), comparison(margin.threshold), tipping


@render.register
def show_forecast(costs: Forecast) -> str:
    """What a configuration will cost, and how each figure is known."""
    return card("Forecast", costs.configuration, *forecast_parts(costs))


def forecast_parts(costs: Forecast) -> list[Html]:
    """Memory, disk and time, and which of them was measured."""
    essence = {
        "GPU memory": f"{number(costs.gpu_memory_gb)} GB",
        "RAM": f"{number(costs.ram_gb)} GB",
        "disk": size(1e9 * costs.disk_gb),
        "a training step": "unknown" if costs.step_seconds is None else duration(costs.step_seconds),
        "an epoch": "unknown" if costs.epoch_seconds is None else duration(costs.epoch_seconds),
    }
    known = ", ".join(costs.measured) or "nothing"
    note = f" The time is {OFF}." if costs.rough else ""
    return [facts(essence), text(f"Measured: {known}. Estimated: {', '.join(costs.estimated)}.{note}")]


@render.register
def show_explained_plan(explained: ExplainedPlan) -> str:
    """The keys that are not as the rules give, then all of them behind a fold."""
    kept = len(explained.keys) - len(explained.departures)
    essence = {
        "as the rules give": f"{kept} of {len(explained.keys)} keys",
        "preset": explained.budget.preset,
        "GPU memory": f"{number(explained.budget.gpu_memory_gb)} GB",
    }
    head = ("key", "value", "where from", "the rules give")
    departures = table(head, [_key(k) for k in explained.departures]) if explained.departures else None
    told = text("Every key is as the rules give.") if departures is None else None
    all_keys = fold(
        "All keys", table(head, [_key(k) for k in explained.keys]), hint=str(len(explained.keys)), long=True
    )
    return card("Foreign plan", explained.planner, facts(essence), told, departures, all_keys)


def _key(key: ExplainedKey) -> tuple[object, ...]:
    as_given = key.origin == "as the rules give"
    rules = "" if as_given else join(in_words(key.rules_give), tag("br"), tag("small", key.reason))
    return tag("code", key.key), in_words(key.value), key.origin if as_given else tag("b", key.origin), rules
