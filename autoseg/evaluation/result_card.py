"""The result on one page: scores, how sure they are, and sentences on what may and may not be concluded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import stats

from autoseg.core.errors import EvaluationError
from autoseg.core.kinds import require
from autoseg.core.shown import Shown
from autoseg.data.checks.survey import few
from autoseg.evaluation.calibration import Calibration
from autoseg.evaluation.doubt import Uncertainties
from autoseg.evaluation.intervals import ENOUGH, bootstrap, intervals
from autoseg.evaluation.scores import Evaluation
from autoseg.evaluation.selection import Choice

CHANCE = 0.05  # below which a correlation counts
WIDE = 0.05  # of an interval, up or down: a difference of models that people report


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultCard(Shown):
    """An evaluation with what else is known of it; `sentences` say what may be concluded."""

    evaluation: Evaluation
    calibration: Calibration | None = None
    uncertainty: Uncertainties | None = None
    choice: Choice | None = None

    @property
    def rank_correlation(self) -> float:
        """Spearman's, of uncertainty with Dice: -1 where it ranks the worst cases first; NaN for too few cases."""
        return self._ranked()[0]

    def _ranked(self) -> tuple[float, float]:
        """That correlation, and the probability of one as strong by chance."""
        known = self.uncertainty.by_case if self.uncertainty else {}
        dice = {n: d for n, d in self.evaluation.by_case.items() if n in known and not np.isnan(d)}
        if len(dice) < ENOUGH:
            return float("nan"), float("nan")
        found = stats.spearmanr([known[n] for n in dice], list(dice.values()))
        return float(found.statistic), float(found.pvalue)

    @property
    def sentences(self) -> tuple[str, ...]:
        """What the numbers allow to say, and what they do not."""
        return (*_of_cases(self.evaluation), *_of_labels(self.evaluation), *self._of_doubt(), *_of_use(self.choice))

    def _of_doubt(self) -> Iterator[str]:
        correlation, chance = self._ranked()
        if not np.isnan(correlation):
            sure = correlation < 0 and chance < CHANCE
            helps = "it ranks bad cases first" if sure else "it does not rank bad cases first beyond chance"
            yield f"The uncertainty of a case correlates with its Dice by {correlation:+.2f} (ranks): {helps}."
        if self.calibration is not None:
            yield (
                f"Around the structures the probabilities are off by {self.calibration.ece_before:.3f} on average, "
                f"and by {self.calibration.ece_after:.3f} with temperature {self.calibration.temperature:.2f}, judged "
                f"on cases that did not fit it ({len(self.calibration.judged_on)})."
            )

    def __repr__(self) -> str:
        return "\n".join([repr(self.evaluation), *(f"  {sentence}" for sentence in self.sentences)])


def result_card(
    evaluation: Evaluation,
    *,
    calibration: Calibration | None = None,
    uncertainty: Uncertainties | None = None,
    choice: Choice | None = None,
) -> ResultCard:
    """One page on a result: what `evaluation` shows, with the doubt that was computed and the choice that was made.

    Raises `EvaluationError` where the uncertainty is of none of the evaluated cases.

    >>> autoseg.result_card(evaluation)
    Evaluation(6 cases, mean Dice ...)
    ...
      Not for clinical use.
    """
    require(evaluation, Evaluation, EvaluationError)
    if uncertainty is not None and not set(uncertainty.by_case) & set(evaluation.cases):
        raise EvaluationError(
            f"the uncertainty is of {', '.join(uncertainty.most(3))} ..., none of which was evaluated. "
            "Compute it for the evaluated cases."
        )
    return ResultCard(evaluation=evaluation, calibration=calibration, uncertainty=uncertainty, choice=choice)


def _of_cases(evaluation: Evaluation) -> Iterator[str]:
    count = len(evaluation.cases)
    if count < ENOUGH:
        number = f"{count} cases are" if count > 1 else "1 case is"
        yield f"{number} too few to say how good the models are; the intervals say nothing."
        return
    overall = bootstrap(list(evaluation.by_case.values()))
    half = (overall.high - overall.low) / 2
    yield (
        f"On {count} cases the mean over cases is known to about ±{half:.3f}: two models that differ by less on other "
        "cases cannot be told apart. Compare models on the same cases, with autoseg.compare_evaluations."
    )
    loose = [name for name, i in intervals(evaluation).items() if i.high - i.low > 2 * WIDE]
    if loose:
        yield f"The Dice of {few(loose, 4)} is known to no better than ±{WIDE:g}; more cases would tell."


def _of_labels(evaluation: Evaluation) -> Iterator[str]:
    present = {n: sum(s.overlap.present > 0 for s in evaluation.scores if s.label == n) for n in evaluation.labels}
    rare = [f"{n} is in {k} of {len(evaluation.cases)} cases" for n, k in present.items() if k < len(evaluation.cases)]
    if rare:
        yield f"{few(rare, 4)}; where a label is neither there nor predicted, the case does not count for it."


def _of_use(choice: Choice | None) -> Iterator[str]:
    if choice is not None:
        part = f", from {choice.covered}," if choice.covered else ""
        yield (
            f"Configuration and postprocessing were chosen on these cases{part} so their scores are a little too good; "
            "only cases that chose nothing give an unbiased score."
        )
    else:
        yield "The scores are honest only if no model saw these cases and none was chosen by them."
    yield "They are of scans like these: another site, scanner, protocol or population may do worse."
    yield "Not for clinical use."
