"""Decisions, their trace, and the ledger that keeps them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoseg.core.decisions import Attempt, Because, Decision, Input, Ledger, Threshold, Trace, accepts, source
from autoseg.core.errors import PlanError

FINITE = st.floats(-1e6, 1e6)


@source("a book")
def double(*, number: int) -> Because[int]:
    return Because(2 * number, f"twice {number}", (Attempt(number, "too small"),), branch="doubled")


@source("another book", kind="fixed")
def three(**_: Any) -> Because[int]:
    return Because(3, "always")


def only_even(name: str, value: Any, *, number: int) -> int:
    if value % 2:
        raise PlanError(f"{name} is {value}, which is odd; {number} is not asked.")
    return int(value)


@accepts(only_even)
def even(*, number: int) -> Because[int]:
    return Because(4, "even")


def chain() -> Trace:
    log = Ledger()
    first = log.decide("first", three)
    second = log.decide("3d/second", double, number=first)
    log.decide("3d/third", double, number=second)
    log.decide("2d/second", double, number=5)
    return log.trace()


@pytest.mark.parametrize(("relation", "below", "at", "above"), [(">", 0, 0, 1), (">=", 0, 1, 1), ("<", 1, 0, 0),
                                                               ("<=", 1, 1, 0), ("!=", 1, 0, 1)])  # fmt: skip
def test_a_threshold_holds_as_its_relation_says(relation: Any, below: bool, at: bool, above: bool) -> None:
    held = [Threshold(quantity="q", value=v, relation=relation, limit=3.0).holds for v in (2.0, 3.0, 4.0)]
    assert held == [below, at, above]


@given(value=FINITE, limit=FINITE, relation=st.sampled_from([">", "<", ">=", "<="]))
def test_past_its_margin_a_threshold_turns_over(value: float, limit: float, relation: Any) -> None:
    before = Threshold(quantity="q", value=value, relation=relation, limit=limit)
    further = (before.margin + 1.0) * (1 if value <= limit else -1)
    after = Threshold(quantity="q", value=value + further, relation=relation, limit=limit)
    if value != limit:
        assert after.holds != before.holds


def test_a_threshold_says_its_numbers_and_units() -> None:
    threshold = Threshold(quantity="spacing", value=3.6, relation=">", limit=1.5, unit="mm")
    assert str(threshold) == "spacing: 3.6 mm > 1.5 mm holds"
    one = Threshold(quantity="slices", value=1, relation="!=", limit=2, unit="slices")
    assert str(one) == "slices: 1 slice != 2 slices holds"
    assert one.written(one.margin) == "1 slice"


def test_the_ledger_keeps_what_the_rule_said() -> None:
    decision = Ledger().decide("number", double, number=4)
    assert (decision.value, decision.kind, decision.reason, decision.branch) == (8, "rule-based", "twice 4", "doubled")
    assert (decision.rule, decision.source, decision.inputs) == ("double", "a book", (Input("number", 4),))


def test_a_rule_says_its_kind() -> None:
    assert Ledger().decide("number", three).kind == "fixed"


def test_a_decision_as_input_is_an_edge() -> None:
    assert chain()["3d/second"].inputs == (Input("number", 3, "first"),)


def test_a_tuple_of_decisions_is_an_edge_each() -> None:
    log = Ledger()
    parts = (log.decide("a", three), log.decide("b", three))
    assert [i.decision for i in log.decide("sum", three, parts=parts).inputs] == ["a", "b"]


def test_upstream_and_downstream_follow_the_edges_through() -> None:
    trace = chain()
    assert [d.name for d in trace.upstream("3d/third")] == ["first", "3d/second"]
    assert [d.name for d in trace.downstream("first")] == ["3d/second", "3d/third"]
    assert trace.downstream("2d/second") == ()


def test_short_names_and_first_parts_stand_for_several() -> None:
    trace = chain()
    assert [d.name for d in trace.named("second")] == ["3d/second", "2d/second"]
    assert [d.name for d in trace.named("3d")] == ["3d/second", "3d/third"]
    assert [d.name for d in trace.named("first")] == ["first"]


def test_an_unknown_name_suggests_a_known_one() -> None:
    with pytest.raises(PlanError, match=r"no decision is called 'frist'\. Did you mean 'first'\?"):
        chain().named("frist")


def test_a_given_value_replaces_the_rule_and_is_marked() -> None:
    decision = Ledger({"number": 7}).decide("number", double, number=4)
    assert (decision.value, decision.kind, decision.reason) == (7, "given", "given by you")


def test_a_given_value_is_checked_by_what_the_rule_accepts() -> None:
    assert Ledger({"n": 6}).decide("n", even, number=1).value == 6
    with pytest.raises(PlanError, match="n is 5, which is odd; 1 is not asked"):
        Ledger({"n": 5}).decide("n", even, number=1)


def test_given_names_that_nothing_asked_for_are_known() -> None:
    log = Ledger({"number": 7, "nmuber": 8})
    log.decide("number", double, number=4)
    assert log.unused == ("nmuber",)


def test_the_table_has_a_row_a_decision() -> None:
    table = chain().table()
    assert list(table["name"]) == ["first", "3d/second", "3d/third", "2d/second"]
    assert list(table["value"]) == [3, 6, 12, 10]


def test_decisions_of_one_kind() -> None:
    assert [d.name for d in chain().of_kind("fixed")] == ["first"]


def test_a_decision_prints_value_reason_and_source() -> None:
    shown = repr(Decision(name="a", value=1, kind="fixed", reason="so", source="a book"))
    assert shown == "a = 1 (fixed)\n  because so\n  source: a book"
