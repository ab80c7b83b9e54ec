"""A plan's answers show themselves, and its explorer follows the knobs."""

from __future__ import annotations

import re

import pytest

import autoseg
from autoseg.display import render
from autoseg.interop.nnunet_edits import explain_plan
from autoseg.interop.nnunet_plans import plan_to_nnunet


@pytest.fixture(scope="module")
def plan():
    fingerprint = autoseg.extract_fingerprint(autoseg.sample_dataset(), show_progress=False)
    return autoseg.make_plan(fingerprint).what_if(shape=(300, 400, 400), spacing=(1.0, 0.7, 0.7))


def words(html):
    return re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL))


def test_why_shows_the_search_as_a_chart_and_a_table(plan):
    html = render(plan.why("3d_fullres/patch_size"))
    decision = plan.trace["3d_fullres/patch_size"]
    assert len(decision.tried) > 5
    assert f"{len(decision.tried)} candidates" in words(html)
    assert html.count("data:image/png") == 1
    assert "too large" in words(html)


def test_why_of_all_configurations_folds_each(plan):
    html = render(plan.why("batch_size"))
    assert html.count("<details") >= len(plan)
    assert "3d_lowres/batch_size" in html


def test_why_there_is_no_cascade_names_the_number(plan):
    small = plan.what_if(shape=(40, 40, 40))
    assert "cascade" in words(render(small.why("cascade")))
    assert "%" in words(render(small.why("cascade")))


def test_a_comparison_names_what_turned_first_and_both_values(plan):
    other = plan.what_if(memory_gb=4)
    text = words(render(plan.compare(other)))
    assert "8 → 4" in text
    assert "First to turn" in text
    assert "patch_size" in text


def test_the_same_plan_is_said_to_be_the_same(plan):
    assert "the same plan" in words(render(plan.compare(plan.what_if())))


def test_margins_show_the_nearest_first(plan):
    margins = plan.margins()
    text = words(render(margins))
    assert margins.closest[0].threshold.quantity in text
    assert "hang on a single case" in text


def test_an_edited_foreign_plan_shows_the_edit(plan):
    plans = plan_to_nnunet(plan)
    assert "Every key is as the rules give" in words(render(explain_plan(plans, plan.fingerprint)))
    plans["configurations"]["3d_fullres"]["batch_size"] += 3
    assert "edited by hand" in words(render(explain_plan(plans, plan.fingerprint)))


def test_the_explorer_follows_its_knobs(plan):
    explorer = plan.explore()
    assert explorer.changes() == {}
    assert explorer.plan == plan
    explorer.knobs["memory_gb"].value = 4.0
    assert explorer.plan == plan.what_if(memory_gb=4.0)
    assert "different" in words(explorer.difference.value)
    explorer.knobs["cases"].value = 400
    assert explorer.plan == plan.what_if(memory_gb=4.0, cases=400)


def test_the_explorer_shows_the_configurations_there_are(plan):
    explorer = plan.explore()
    assert "3d_cascade_fullres" in explorer.shown.options
    explorer.shown.value = "2d"
    for axis in "zyx":
        explorer.knobs[f"shape {axis}"].value = 60
    assert tuple(explorer.shown.options) == ("2d", "3d_fullres")
    assert explorer.shown.value == "2d"


def test_facts_that_allow_no_plan_are_said_in_the_explorer(plan):
    explorer = plan.explore()
    explorer.knobs["memory_gb"].min = 0.0
    explorer.knobs["memory_gb"].value = 1e-7
    assert "No plan" in words(explorer.difference.value)


def test_the_explorer_draws_once_a_move_also_where_configurations_come_or_go(plan):
    explorer = plan.explore()
    drawn = []
    explorer.configuration.observe(drawn.append, names="value")
    for axis in "zyx":
        drawn.clear()
        explorer.knobs[f"shape {axis}"].value = 60
        assert len(drawn) == 1
    assert "3d_lowres" not in explorer.shown.options
