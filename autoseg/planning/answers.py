"""Why: the answer to a question about a plan, as text and as a display."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from autoseg.core.decisions import Decision, Input, Trace
from autoseg.core.numbers import is_number, number
from autoseg.core.shown import Shown

WIDEST = 96  # characters of a value in text
BLUEPRINT = (  # decided once for all datasets, by what planning cannot see
    "epochs minutes iterations_per_epoch batch_voxels patch_voxels base_features wide_patch_voxels optimizer "
    "learning_rate schedule momentum weight_decay gradient_clip weight_averaging deep_supervision foreground_fraction "
    "mirroring precision compiled validation_cases loss sampler"
)


@dataclass(frozen=True, slots=True)
class Answer(Shown):
    """The decisions that a question is about, with what each came from and what it led to."""

    question: str
    decisions: tuple[Decision, ...]
    trace: Trace

    def __iter__(self) -> Iterator[Decision]:
        return iter(self.decisions)

    def __len__(self) -> int:
        return len(self.decisions)

    def __repr__(self) -> str:
        return "\n\n".join("\n".join(self._lines(decision)) for decision in self.decisions)

    def _lines(self, decision: Decision) -> Iterator[str]:
        yield f"{decision.name} = {in_words(decision.value, decision.name)} ({decision.kind})"
        yield f"  because {decision.reason}"
        if decision.purpose:
            yield f"  why the rule: {decision.purpose}"
        if decision.branch:
            yield f"  branch taken: {decision.branch}"
        yield from _block("compared", [f"{t}, {number(t.margin)} away" for t in decision.thresholds])
        inputs = [f"{i.name} = {in_words(i.value, i.name)}{_origin(i)}" for i in decision.inputs]
        yield from _block("from", inputs)
        tried = [f"{'*' if a.accepted else ' '} {in_words(a.value)}: {a.outcome}" for a in decision.tried]
        yield from _block("tried", tried)
        after = [d.name for d in self.trace.downstream(decision.name)]
        yield from _block("decides", [", ".join(after)] if after else [])
        if decision.source:
            yield f"  rule {decision.rule}: {decision.source}"


def of_the_blueprint(name: str) -> Answer:
    """Where the answer is to a question that no dataset has a say in."""
    reason = f"it does not depend on the data; autoseg.Blueprint.nnunet().trace[{name!r}] says what is used, and why"
    fixed = Decision(name=name, value="the same for every dataset", kind="fixed", reason=reason)
    return Answer(name, (fixed,), Trace((fixed,)))


def _block(title: str, lines: list[str]) -> Iterator[str]:
    if lines:
        yield f"  {title}"
        yield from (f"    {line}" for line in lines)


def _origin(given: Input) -> str:
    return "" if given.decision in (None, given.name) else f", decided as {given.decision}"


SIZES = ("size", "shape", "divisor", "spacing", "lowres", "start")  # of these names numbers lie along the axes


def in_words(value: Any, name: str = "patch_size") -> str:
    """A value on one line; `name` tells whether numbers are sizes along axes.

    >>> in_words((128, 96, 96)), in_words((1.0, 0.78125)), in_words(None)
    ('128x96x96', '1x0.7812', 'none')
    >>> in_words((2, 3), "dimensions")
    '2, 3'
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value, 4) if abs(value) >= 1e4 else f"{value:.4g}"
    if isinstance(value, list | tuple):
        joined = "x" if name.endswith(SIZES) and value and all(map(is_number, value)) else ", "
        return _cut(joined.join(map(in_words, value)))
    return _cut(getattr(value, "__name__", None) or str(value).partition("\n")[0])


def _cut(text: str) -> str:
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"
