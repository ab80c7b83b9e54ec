"""Displays of decisions: the value, why, and behind a fold everything it was made from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from autoseg.core.decisions import Attempt, Decision, Input, Threshold, Trace
from autoseg.display import render
from autoseg.display.html import Html, card, chip, facts, join, section, table, tag, text
from autoseg.display.words import count, value_of

SIGNS = {">=": "≥", "<=": "≤", "!=": "≠"}
ATTEMPTS = 24  # rows of a search that are shown; the middle of a longer one is left out


@render.register
def show_decision(decision: Decision) -> str:
    """The value, the reason, and everything the decision was made from."""
    return card(
        "Decision",
        decision.name,
        facts({"value": value_of(decision.value, decision.name)}),
        tag("p", chip(decision.kind), " ", decision.reason),
        *origins(decision),
    )


@render.register
def show_trace(trace: Trace) -> str:
    """All decisions with their reasons."""
    return card("Trace", count(len(trace), "decision"), decision_table(trace), note=kinds_in_words(trace))


def kinds_in_words(decisions: Iterable[Decision]) -> str:
    """How many decisions of each kind there are."""
    kinds = [d.kind for d in decisions]
    return ", ".join(f"{kinds.count(k)} {k}" for k in ("rule-based", "fixed", "empirical", "given") if k in kinds)


def decision_table(decisions: Iterable[Decision], *, within: str = "") -> Html:
    """Each decision with value, kind and reason; how it came about folds out below it. `within` is left off names."""
    return table(("decision", "value and reason"), [_row(d, d.name.removeprefix(f"{within}/")) for d in decisions])


def _row(decision: Decision, name: str) -> tuple[Html, Html]:
    group, _, last = name.rpartition("/")
    over = join(tag("small", f"{group}/"), tag("br")) if group else None
    left = join(over, tag("code", last), tag("br"), chip(decision.kind))
    value = tag("b", value_of(decision.value, decision.name))
    return left, join(value, tag("br"), tag("span", decision.reason, class_="as-reason"), how(decision))


def how(decision: Decision) -> Html | None:
    """What a decision was made from, folded into one line; nothing where there is nothing to tell."""
    parts = origins(decision)
    if not parts:
        return None
    told = ((decision.tried, "candidate"), (decision.thresholds, "comparison"), (decision.inputs, "input"))
    words = ", ".join(count(len(d), word) for d, word in told if d) or "source"
    return tag(
        "details", tag("summary", tag("small", words)), tag("div", *parts, class_="as-inside"), class_="as-small"
    )


def origins(decision: Decision) -> list[Html]:
    """What was compared, read and tried, and where the rule comes from."""
    parts = []
    if decision.thresholds:
        parts.append(section("Compared", *(comparison(t) for t in decision.thresholds)))
    inputs = [i for i in decision.inputs if i.value != decision.thresholds]  # those are under "Compared" already
    if inputs:
        parts.append(section("Made from", *(source_of(i) for i in inputs)))
    if decision.tried:
        parts.append(section("Tried", attempts_table(decision.tried, decision.short_name)))
    if decision.purpose:
        parts.append(text("Why the rule: ", decision.purpose))
    if decision.source:
        parts.append(text("Source: ", decision.source))
    return parts


def comparison(threshold: Threshold) -> Html:
    """One comparison, whether it holds, and how far it is from turning over."""
    value, limit, margin = map(threshold.written, (threshold.value, threshold.limit, threshold.margin))
    verdict = chip("holds", kind="empirical") if threshold.holds else chip("does not hold")
    relation = SIGNS.get(threshold.relation, threshold.relation)
    told = tag("small", f"({margin} away)")
    return tag(
        "p", verdict, f" {threshold.quantity}: ", tag("b", f"{value} {relation} {limit}"), " ", told, class_="as-line"
    )


def source_of(given: Input) -> Html:
    """One input: its name, its value, and the decision it comes from."""
    origin = tag("small", " from ", tag("code", given.decision)) if given.decision else None
    return tag("p", tag("code", given.name), " = ", value_of(given.value, given.name), origin, class_="as-line")


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
            tag("b" if a.accepted else "span", value_of(a.value, name), class_="as-whole"),
            *(value_of(a.numbers.get(c, ""), c) for c in columns),
            tag("b" if a.accepted else "span", a.outcome),
        )
        for a in shown
    ]
    return table(
        ("candidate", *(c.replace("_gb", ", GB").replace("_", " ") for c in columns), "outcome"),
        rows,
        numbers=tuple(range(1, len(columns) + 1)),
    )
