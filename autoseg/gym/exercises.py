"""The rule gym: predict what the planner decides, or find the fault; answers are checked and explained."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import EllipsisType
from typing import Any

from autoseg.core.errors import DatasetError, did_you_mean
from autoseg.core.numbers import is_number, is_whole, number
from autoseg.core.shown import Shown
from autoseg.data.checks import Findings, check
from autoseg.data.dataset import Dataset
from autoseg.data.fingerprint import Fingerprint, extract_fingerprint
from autoseg.data.samples import sample_dataset
from autoseg.gym.questions import EXERCISES, LOOK, NOTHING, Question
from autoseg.planning.answers import Answer
from autoseg.planning.budget import Budget
from autoseg.planning.planner import make_plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked(Shown):
    """An answer, whether it is right, why, and once it is right what the planner or the check-up said."""

    said: Any
    right: bool
    told: str
    evidence: Answer | Findings | None = None

    def __repr__(self) -> str:
        return f"{self.told}\n\n{self.evidence!r}" if self.evidence is not None else self.told


@dataclass(frozen=True, slots=True, kw_only=True)
class Exercise(Shown):
    """A dataset and a question about it; ``exercise.answer(...)`` checks, ``exercise.solution()`` gives up.

    `fingerprint` and `budget` are what the planner reads; a dataset with a fault has none, and is looked at itself.
    """

    number: int
    question: Question
    dataset: Dataset = field(repr=False)
    fingerprint: Fingerprint | None = field(default=None, repr=False)
    budget: Budget = field(default=Budget(), repr=False)

    def answer(self, said: str | float | EllipsisType = ..., *, case: str | None = None) -> Checked:
        """Check one of the choices or, where there are none, a number; with `case`, also where the fault lies.

        Raises `DatasetError` for what cannot be an answer.
        """
        if said is ...:
            return Checked(said=said, right=False, told="Put your answer in place of the three dots.")
        said = self._understood(said)
        right, evidence = self._solved()
        if said not in right:
            return Checked(said=said, right=False, told=f"Not {said!r}. {self._hint(said, evidence)}")
        if case is not None and isinstance(evidence, Findings):
            case = self.dataset[case].name  # an error where there is none
            concerned = [name for f in evidence[str(said)] for name in f.cases]
            if concerned and case not in concerned:
                told = f"{said!r} is right, but not in {case!r}. Look at others."
                return Checked(said=said, right=False, told=told)
        return Checked(said=said, right=True, told=f"Right: {said!r}. {_because(evidence)}", evidence=evidence)

    def solution(self) -> Checked:
        """The right answer with its explanation."""
        right, _ = self._solved()
        return self.answer(right[0])

    def _understood(self, said: Any) -> str | int:
        """The choice or the number that is meant: capitals and spaces around do not count, and 4.0 is 4."""
        choices = self.question.choices
        if choices:
            words = said.strip().casefold() if isinstance(said, str) else str(said)
            meant = {choice.casefold(): choice for choice in choices}
            if words not in meant:
                raise DatasetError(f"{said!r} is none of the choices. {did_you_mean(words, choices)}")
            return meant[words]
        if not is_number(said) or said % 1 != 0:  # as NaN's is not, nor that of infinity
            raise DatasetError(f"{said!r} is not a whole number, which is what exercise {self.number} asks for.")
        return int(said)

    def _solved(self) -> tuple[tuple[Any, ...], Answer | Findings]:
        """Asked of the planner, or of the check-up: no answer is written down anywhere."""
        if self.fingerprint is None:
            findings = check(self.dataset, show_progress=False)
            return tuple(dict.fromkeys(f.check for f in findings)) or (NOTHING,), findings
        why = make_plan(self.fingerprint, self.budget).why(self.question.decision)
        return (self.question.reads(why.decisions[0]),), why

    def _hint(self, said: str | int, evidence: Answer | Findings) -> str:
        if isinstance(evidence, Findings):
            found = "The check-up finds something." if said == NOTHING else "It finds nothing of the kind."
            return f"{found} {LOOK[str(said)]}"
        numbers = [
            f"Is {number(t.value, 4)} {t.relation} {number(t.limit, 4)}{f' {t.unit}' if t.unit else ''} ({t.quantity})?"
            for t in evidence.decisions[0].thresholds
        ]
        return " ".join([self.question.hint, *numbers])

    def __repr__(self) -> str:
        lines = [f"Exercise {self.number}: {self.question.asks}"]
        lines += [f"  {name!r}: {meaning}" for name, meaning in self.question.choices.items()]
        given = [repr(self.dataset)] if self.fingerprint is None else [repr(self.fingerprint), repr(self.budget)]
        return "\n".join([*lines, *given])


def _because(evidence: Answer | Findings) -> str:
    if isinstance(evidence, Findings):
        return " ".join(_sentence(f"{f.message} {f.advice}".strip()) for f in evidence) or "The check-up finds nothing."
    return _sentence(f"{evidence.decisions[0].reason}.")


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


def exercise(which: int | str) -> Exercise:
    """An exercise by its number or, for teachers, by the name of its sample dataset, which tells the answer.

    Raises `DatasetError` for one that there is not.

    >>> exercise(4)
    Exercise 4: Which target spacing does the planner choose along the coarsest axis?
      'median': the median of all cases, as along every other axis
    ...
    >>> exercise(4).answer(...).told
    'Put your answer in place of the three dots.'
    """
    names = [name for name, _, _ in EXERCISES]
    numbered = is_whole(which)
    if which not in (range(1, len(names) + 1) if numbered else names):
        known = isinstance(which, str) and not which.isdigit()
        hint = did_you_mean(str(which), names) if known else f"They are numbered 1 to {len(names)}."
        raise DatasetError(f"there is no exercise {which!r}. {hint}")
    number = int(which) if numbered else names.index(str(which)) + 1
    name, question, memory = EXERCISES[number - 1]
    dataset = replace(sample_dataset(name), name=f"exercise {number}")
    return Exercise(
        number=number,
        question=question,
        dataset=dataset,
        fingerprint=extract_fingerprint(dataset, show_progress=False) if question.decision else None,
        budget=Budget(memory_gb=memory),
    )
