"""One page with what may be concluded, and what may not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from making import make_dataset

import autoseg
from autoseg.core.errors import EvaluationError
from autoseg.evaluation.calibration import Calibration, Reliability
from autoseg.evaluation.doubt import Uncertainties, Uncertainty
from autoseg.evaluation.selection import Choice, choose_postprocessing
from autoseg.prediction.inference import Prediction, Predictions

LIMIT = 300_000


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return autoseg.open_dataset(make_dataset(tmp_path_factory.mktemp("data"), cases=8, shape=(16, 20, 24)))


@pytest.fixture(scope="module")
def evaluation(dataset):
    """Each case is predicted a little further from the truth than the one before."""
    made = []
    for i, case in enumerate(dataset):
        truth = case.label()
        made.append(Prediction(case=case, label_map=replace(truth, array=np.roll(truth.array, i // 2, axis=2))))
    return autoseg.evaluate(Predictions(tuple(made)), dataset)


def doubt(evaluation, values):
    """An uncertainty of each evaluated case."""
    made = [
        Uncertainty(
            case=p.case,
            label_map=p.label_map,
            map=np.zeros(p.label_map.array.shape, np.float16),
            members=("fold 0", "fold 1"),
            disagreement=value,
            entropy=0.1,
            mutual_information=0.05,
        )
        for p, value in zip(evaluation.predictions, values, strict=False)
    ]
    return Uncertainties(tuple(made))


def calibration():
    before, after = (
        Reliability(voxels=(10,) * 15, confidence=tuple(np.arange(15) / 15), accuracy=tuple(np.arange(15) / 15 * s))
        for s in (0.7, 0.9)
    )
    return Calibration(
        temperature=1.5,
        before=before,
        after=after,
        likelihood_before=0.3,
        likelihood_after=0.2,
        fitted_on=("a",),
        judged_on=("b", "c"),
    )


def test_an_evaluation_alone_shows_intervals_and_conclusions(evaluation):
    html = evaluation._repr_html_()
    assert "95% interval" in html and "What may be concluded" in html and "Not for clinical use" in html
    assert "On 8 cases the mean over cases is known to about ±" in html
    assert "Calibration" not in html
    assert len(html) < LIMIT


def test_what_was_computed_is_added(evaluation):
    found = autoseg.result_card(
        evaluation, calibration=calibration(), uncertainty=doubt(evaluation, np.arange(8) / 100)
    )
    assert found.rank_correlation < -0.9
    html = found._repr_html_()
    assert "it ranks bad cases first" in html and "The most uncertain cases" in html
    assert "with temperature 1.50, judged on cases that did not fit it (2)" in html
    assert html.count('alt="reliability') == 2
    assert len(html) < LIMIT


def test_doubt_that_ranks_nothing_is_said_so(evaluation):
    found = autoseg.result_card(evaluation, uncertainty=doubt(evaluation, -np.arange(8) / 100))
    assert any("does not rank bad cases first beyond chance" in s for s in found.sentences)
    few = autoseg.result_card(evaluation, uncertainty=doubt(evaluation, [0.1, 0.2]))
    assert np.isnan(few.rank_correlation)


def test_few_cases_and_rare_labels_are_said(dataset, evaluation):
    two = autoseg.evaluate(evaluation.predictions[:2], dataset)
    assert "2 cases are too few" in " ".join(autoseg.result_card(two).sentences)
    scores = tuple(
        replace(s, overlap=replace(s.overlap, true_positive=0, false_negative=0))
        if s.label == "lesion" and s.case == "case_0"
        else s
        for s in evaluation.scores
    )
    rare = autoseg.result_card(replace(evaluation, scores=scores))
    assert "lesion is in 7 of 8 cases" in " ".join(rare.sentences)


def test_scores_of_cases_that_chose_are_too_good(dataset, evaluation):
    rule, decision = choose_postprocessing(Predictions(evaluation.predictions), dataset)
    choice = Choice(
        configurations=("2d",),
        models=((None, None),),
        postprocessing=rule,
        evaluation=evaluation,
        decisions=(decision,),
        covered="2 of 5 folds",
    )
    found = autoseg.result_card(evaluation, choice=choice)
    assert any("chosen on these cases, from 2 of 5 folds, so their scores are" in s for s in found.sentences)
    assert decision.reason in found._repr_html_()


def test_the_uncertainty_of_other_cases_is_refused(dataset, evaluation):
    others = doubt(evaluation, np.arange(8))[:1]
    rest = autoseg.evaluate(evaluation.predictions[1:], dataset)
    with pytest.raises(EvaluationError, match="none of which was evaluated"):
        autoseg.result_card(rest, uncertainty=others)
