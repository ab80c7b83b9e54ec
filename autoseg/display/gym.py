"""Displays of the rule gym: the question with what it is about, and the answer with its explanation."""

from __future__ import annotations

from autoseg.display import render
from autoseg.display.html import Html, card, chip, facts, gallery, join, section, table, tag, text
from autoseg.display.slices import Overlay, thumbnail
from autoseg.display.words import number
from autoseg.gym.exercises import Checked, Exercise

SMALL = 64.0  # page pixels of a case


@render.register
def show_exercise(exercise: Exercise) -> str:
    """The question, its choices, and the fingerprint or the cases that it is about; never the answer."""
    question = exercise.question
    rows = [(tag("code", f'"{name}"'), meaning) for name, meaning in question.choices.items()]
    planned = exercise.fingerprint is not None
    task = card(
        "Exercise",
        str(exercise.number),
        tag("p", tag("b", question.asks), class_="as-text"),
        table(("answer", "meaning"), rows) if rows else text("Answer with a number."),
        facts({"GPU memory": f"{number(exercise.budget.gpu_memory_gb)} GB"}) if planned else unlabelled(exercise),
        text("Check your answer: ", tag("code", "exercise.answer(...)")),
    )
    return join(task, Html(render(exercise.fingerprint))) if planned else task


def unlabelled(exercise: Exercise) -> Html:
    """What is told of a dataset with a fault; its label maps are left to be looked at."""
    dataset = exercise.dataset
    shown = [[(thumbnail(case.image(), Overlay(), height=SMALL), case.name)] for case in dataset]
    declared = {
        "cases": len(dataset),
        "channel": ", ".join(dataset.channels),
        "labels": ", ".join(dataset.labels.names),
    }
    hint = "only images; exercise.dataset has the label maps, exercise.dataset[0].browse() shows both"
    return join(facts(declared), section("Cases", gallery(*shown), hint=hint))


@render.register
def show_checked(checked: Checked) -> str:
    """Right or not, and why; below a right answer, what the planner or the check-up says."""
    verdict = chip("right", kind="empirical") if checked.right else chip("not yet", kind="warning")
    told = card("Answer", "" if checked.said is ... else str(checked.said), tag("p", verdict, " ", checked.told))
    return told if checked.evidence is None else join(told, Html(render(checked.evidence)))
