"""Displays of decisions: the value, why, and behind a fold everything it was made from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from autoseg.core.decisions import Attempt, Decision, Input, Threshold, Trace
from autoseg.display import render
from autoseg.display.html import Html, card, chip, facts, fold, join, section, table, tag, text
from autoseg.display.words import count, number, value_of

ATTEMPTS = 24  # rows of a search that are shown; the middle of a longer one is left out


@render.register
def show_decision(decision: Decision) -> str:
    source = f"rule: {decision.rule}" if decision.rule else ""
    source += f" · {decision.source}" if decision.source else ""
    return card(
        "Decision",
        decision.name,
        facts({"value": value_of(decision.value, decision.name)}),
        tag("p", chip(decision.kind), " ", decision.reason),
        section("Compared", thresholds_table(decision.thresholds)) if decision.thresholds else None,
        section("Made from", inputs_table(decision.inputs)) if decision.inputs else None,
        section("Tried", attempts_table(decision.tried, decision.short_name)) if decision.tried else None,
        text(source) if source else None,
    )


@render.register
def show_trace(trace: Trace) -> str:
    return card("Trace", count(len(trace), "decision"), decision_table(trace), note=kinds_in_words(trace))


def kinds_in_words(decisions: Iterable[Decision]) -> str:
    """How many decisions of each kind there are."""
    kinds = [d.kind for d in decisions]
    return ", ".join(f"{kinds.count(k)} {k}" for k in ("rule-based", "fixed", "empirical", "given") if k in kinds)


def decision_table(decisions: Iterable[Decision], *, short: bool = False) -> Html:
    """Each decision with value, kind and reason; how it came about folds out below it."""
    return table(("decision", "value and reason"), [_row(decision, short=short) for decision in decisions])


def _row(decision: Decision, *, short: bool) -> tuple[Html, Html]:
    name = decision.short_name if short else decision.name
    group, _, last = name.rpartition("/")
    over = join(tag("small", f"{group}/"), tag("br")) if group else None
    left = join(over, tag("code", last), tag("br"), chip(decision.kind))
    value = tag("b", value_of(decision.value, decision.name))
    return left, join(value, tag("br"), tag("span", decision.reason, class_="as-reason"), how(decision))


def how(decision: Decision) -> Html | None:
    """What a decision was made from, folded; nothing where there is nothing to tell."""
    told = [
        (decision.thresholds, "compared", thresholds_table(decision.thresholds)),
        (decision.inputs, "made from", inputs_table(decision.inputs)),
        (decision.tried, "tried", attempts_table(decision.tried, decision.short_name)),
    ]
    parts = [section(title, shown) for given, title, shown in told if given]
    if not parts and not decision.source:
        return None
    words = [count(len(d), w) for d, w in ((decision.tried, "candidate"), (decision.thresholds, "comparison")) if d]
    origin = text(" · ".join(filter(None, (decision.rule and f"rule {decision.rule}", decision.source))))
    return fold_small("how" if parts else "source", *parts, origin, hint=", ".join(words))


def fold_small(title: str, *body: object, hint: str = "") -> Html:
    """A fold inside a table's cell."""
    line = tag("summary", tag("small", title, f" ({hint})" if hint else None))
    return tag("details", line, tag("div", *body, class_="as-inside"), class_="as-small")


def thresholds_table(thresholds: Sequence[Threshold]) -> Html:
    """Each comparison, whether it holds, and how far it is from turning over."""
    rows = [
        (
            t.quantity,
            f"{number(t.value, 4)} {t.unit}".rstrip(),
            f"{t.relation} {number(t.limit, 4)} {t.unit}".rstrip(),
            "holds" if t.holds else "does not hold",
            number(t.margin),
        )
        for t in thresholds
    ]
    return table(("quantity", "value", "limit", "", "margin"), rows, numbers=(1, 4))


def inputs_table(inputs: Sequence[Input]) -> Html:
    """What a decision was made from; an arrow names the decision a value comes from."""
    rows = [
        (tag("code", i.name), value_of(i.value, i.name), tag("code", f"← {i.decision}") if i.decision else "a fact")
        for i in inputs
    ]
    return table(("input", "value", "from"), rows)


def attempts_table(attempts: Sequence[Attempt], name: str) -> Html:
    """The candidates of a search, in the order in which they were tried."""
    if not attempts:
        return Html()
    columns = list(dict.fromkeys(key for a in attempts for key in a.numbers))
    shown: list[Attempt | None] = list(attempts)
    if len(attempts) > ATTEMPTS:
        half = ATTEMPTS // 2
        shown = [*attempts[:half], None, *attempts[-half:]]
    rows = [
        (f"… {len(attempts) - ATTEMPTS} more", *("" for _ in columns), "")
        if a is None
        else (
            tag("b" if a.accepted else "span", value_of(a.value, name)),
            *(value_of(a.numbers.get(c, ""), c) for c in columns),
            tag("b" if a.accepted else "span", a.outcome),
        )
        for a in shown
    ]
    return table(("candidate", *(c.replace("_", " ") for c in columns), "outcome"), rows,
                 numbers=tuple(range(1, len(columns) + 1)))
