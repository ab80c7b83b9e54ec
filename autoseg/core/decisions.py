"""Values with reasons: what a rule returns, what is kept of it, and the trace of a whole plan.

A rule is a pure, keyword-only function that returns `Because(value, reason)`. A `Ledger` calls the rules one after the
other and keeps a `Decision` of each; what it was given is what the decision depends on, so the finished `Trace` is a
graph that can be walked up (`upstream`) and down (`downstream`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from autoseg.core.errors import PlanError, did_you_mean
from autoseg.core.numbers import number
from autoseg.core.shown import Shown

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")
Kind = Literal["fixed", "rule-based", "empirical", "given"]
Relation = Literal[">", ">=", "<", "<=", "!="]
SINGULAR = {"voxels": "voxel", "slices": "slice", "patches": "patch"}
NO_REASON = "nnU-Net's choice; its authors give no reason"  # of a rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """One comparison that decided which branch a rule took.

    >>> Threshold(quantity="spacing ratio", value=2.8, relation=">", limit=3.0)
    Threshold(spacing ratio: 2.8 > 3 does not hold, 0.2 away)
    """

    quantity: str
    value: float
    relation: Relation
    limit: float
    unit: str = ""

    @property
    def holds(self) -> bool:
        """Whether the comparison is true."""
        comparisons = {
            ">": self.value > self.limit,
            ">=": self.value >= self.limit,
            "<": self.value < self.limit,
            "<=": self.value <= self.limit,
            "!=": self.value != self.limit,
        }
        return comparisons[self.relation]

    @property
    def margin(self) -> float:
        """How far the value is from the limit, in its own unit."""
        return abs(self.value - self.limit)

    def written(self, value: float) -> str:
        """A value in the unit of this comparison."""
        unit = SINGULAR.get(self.unit, self.unit) if value == 1 else self.unit
        return f"{number(value, 4)} {unit}".rstrip()

    def __str__(self) -> str:
        verdict = "holds" if self.holds else "does not hold"
        return f"{self.quantity}: {self.written(self.value)} {self.relation} {self.written(self.limit)} {verdict}"

    def __repr__(self) -> str:
        return f"Threshold({self}, {number(self.margin, 4)} away)"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One candidate of a search: the value, what came of it, and the numbers that decided."""

    value: Any
    outcome: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    accepted: bool = False


@dataclass(frozen=True, slots=True)
class Because(Generic[T]):
    """What a rule returns: a value, why, what it compared and tried on the way, and which of its branches it took."""

    value: T
    reason: str
    tried: tuple[Attempt, ...] = ()
    thresholds: tuple[Threshold, ...] = ()
    branch: str = ""


@dataclass(frozen=True, slots=True)
class Input:
    """What a decision was made from: a fact, or (`decision` set) the value of an earlier decision."""

    name: str
    value: Any
    decision: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision(Shown):
    """One chosen value with its reason, its inputs, and where the rule comes from."""

    name: str
    value: Any
    kind: Kind
    reason: str
    inputs: tuple[Input, ...] = ()
    tried: tuple[Attempt, ...] = ()
    thresholds: tuple[Threshold, ...] = ()
    branch: str = ""
    rule: str = ""
    source: str = ""
    purpose: str = ""  # of the rule, as its authors give it

    @property
    def short_name(self) -> str:
        """The name without its configuration: ``patch_size`` of ``3d_fullres/patch_size``."""
        return self.name.rpartition("/")[2]

    def __repr__(self) -> str:
        written = getattr(self.value, "__name__", None) or repr(self.value)  # a function goes by its name
        lines = [f"{self.name} = {written} ({self.kind})", f"  because {self.reason}"]
        if self.tried:
            lines.append(f"  {len(self.tried)} candidates were tried")
        if self.source:
            lines.append(f"  source: {self.source}")
        return "\n".join(lines)


Rule = Callable[..., Because[Any]]


def source(
    citation: str, *, kind: Kind = "rule-based", purpose: str = ""
) -> Callable[[Callable[..., Because[T]]], Callable[..., Because[T]]]:
    """Mark a rule with where it comes from, the kind of what it decides, and why its authors have such a rule.

    >>> @source("Isensee et al. 2021")
    ... def rule(*, cases):
    ...     return Because(2, f"{cases} cases")
    >>> source_of(rule)
    'Isensee et al. 2021'
    """

    def mark(rule: Callable[..., Because[T]]) -> Callable[..., Because[T]]:
        rule.__dict__.update(source=citation, kind=kind, purpose=purpose)
        return rule

    return mark


def source_of(rule: Callable[..., object]) -> str:
    """The citation that `source` put on a rule, or nothing for a rule of the user's own."""
    return str(getattr(rule, "source", ""))


Check = Callable[..., Any]


def accepts(check: Check) -> Callable[[Callable[..., Because[T]]], Callable[..., Because[T]]]:
    """Mark a rule with what examines a given value that replaces it.

    The check is called with the decision's name, the given value, and the rule's inputs by name. It returns the value
    as the rule would have (a list becomes a tuple) or raises an error that says what would fit.
    """

    def mark(rule: Callable[..., Because[T]]) -> Callable[..., Because[T]]:
        rule.__dict__["accepts"] = check
        return rule

    return mark


@dataclass(frozen=True, slots=True)
class Trace(Shown):
    """All decisions of a plan, in the order in which they were made."""

    decisions: tuple[Decision, ...]

    def __iter__(self) -> Iterator[Decision]:
        return iter(self.decisions)

    def __len__(self) -> int:
        return len(self.decisions)

    def __contains__(self, name: object) -> bool:
        return any(decision.name == name for decision in self.decisions)

    def __getitem__(self, name: str) -> Decision:
        for decision in self.decisions:
            if decision.name == name:
                return decision
        raise PlanError(f"no decision is called {name!r}. {did_you_mean(name, [d.name for d in self.decisions])}")

    def named(self, short_name: str) -> tuple[Decision, ...]:
        """Every decision with that name, whatever its configuration; an unknown name is an error.

        The first part of a name stands for all that follows: ``3d_fullres``, ``normalization``.
        """
        names = {d.name: d for d in self.decisions}
        if short_name in names:
            return (names[short_name],)
        found = tuple(d for d in self.decisions if short_name in (d.short_name, d.name.partition("/")[0]))
        return found or (self[short_name],)

    def upstream(self, name: str) -> tuple[Decision, ...]:
        """The decisions this one depends on, directly or through others, in order."""
        wanted: set[str] = set()
        frontier = [self[name]]
        while frontier:
            parents = {i.decision for i in frontier.pop().inputs if i.decision is not None} - wanted
            wanted |= parents
            frontier.extend(self[parent] for parent in parents)
        return tuple(d for d in self.decisions if d.name in wanted)

    def downstream(self, name: str) -> tuple[Decision, ...]:
        """The decisions that depend on this one, directly or through others, in order."""
        reached = {self[name].name}
        for decision in self.decisions:  # made in order, so one pass reaches everything
            if any(i.decision in reached for i in decision.inputs):
                reached.add(decision.name)
        return tuple(d for d in self.decisions if d.name in reached and d.name != name)

    def of_kind(self, kind: Kind) -> tuple[Decision, ...]:
        """The decisions of one kind: fixed, rule-based, empirical or given."""
        return tuple(d for d in self.decisions if d.kind == kind)

    def table(self) -> pd.DataFrame:
        """One row a decision: name, value, kind, reason, source."""
        import pandas as pd

        columns = ("name", "value", "kind", "reason", "source")
        return pd.DataFrame([{c: getattr(d, c) for c in columns} for d in self.decisions], columns=list(columns))

    def __repr__(self) -> str:
        given = len(self.of_kind("given"))
        return f"Trace({len(self)} decisions, {given} given by the user)"


class Ledger:
    """Stamps each decision while a plan is made; the only mutable thing in planning.

    `given` holds values that replace a rule, by full name (``3d_fullres/patch_size``).
    """

    def __init__(self, given: Mapping[str, Any] | None = None) -> None:
        self.given = dict(given or {})
        self.decisions: list[Decision] = []

    def decide(self, name: str, rule: Rule, **inputs: Any) -> Decision:
        """Call the rule with the inputs and keep what it says.

        An input that is a `Decision`, or a tuple of them, is handed to the rule as its value, and becomes an edge of
        the trace.
        """
        values = {key: _value(given) for key, given in inputs.items()}
        because = self._given(name, rule, values) if name in self.given else rule(**values)
        decision = Decision(
            name=name,
            value=because.value,
            kind="given" if name in self.given else getattr(rule, "kind", "rule-based"),
            reason=because.reason,
            inputs=tuple(i for key, given in inputs.items() for i in _inputs(key, given)),
            tried=because.tried,
            thresholds=because.thresholds,
            branch=because.branch,
            rule=getattr(rule, "__name__", type(rule).__name__),
            source=source_of(rule),
            purpose=getattr(rule, "purpose", ""),
        )
        self.decisions.append(decision)
        return decision

    def _given(self, name: str, rule: Rule, inputs: Mapping[str, Any]) -> Because[Any]:
        check: Check | None = getattr(rule, "accepts", None)
        value = self.given[name]
        return Because(value if check is None else check(name, value, **inputs), "given by you")

    @property
    def unused(self) -> tuple[str, ...]:
        """Given names that no decision has asked for."""
        return tuple(name for name in self.given if name not in {d.name for d in self.decisions})

    def trace(self) -> Trace:
        """Everything decided so far."""
        return Trace(tuple(self.decisions))


def _value(given: Any) -> Any:
    if isinstance(given, tuple):
        return tuple(_value(item) for item in given)
    return given.value if isinstance(given, Decision) else given


def _inputs(key: str, given: Any) -> tuple[Input, ...]:
    if isinstance(given, Decision):
        return (Input(key, given.value, given.name),)
    if isinstance(given, tuple) and given and all(isinstance(item, Decision) for item in given):
        return tuple(Input(item.name, item.value, item.name) for item in given)
    return (Input(key, given),)
