"""What a notebook shows of training: whose names they are does not matter, and what happened is said."""

from __future__ import annotations

import pytest
import torch
from small_trainings import boxes, configuration, short

from autoseg.data.labels import Labels
from autoseg.display import render
from autoseg.training.blueprint import Blueprint
from autoseg.training.example import Example
from autoseg.training.history import EpochRecord, History
from autoseg.training.loop import Training
from autoseg.training.running import train
from autoseg.training.sampled import count_labels
from autoseg.training.transfer import Match, Transfer

EVIL = "<img src=x onerror=alert(1)>"
LABELS = Labels({"background": 0, EVIL: 1})


@pytest.fixture(scope="module")
def training():
    return train(boxes(configuration(LABELS)), blueprint=short(epochs=3), show_progress=False)


def test_what_was_sampled_is_a_table_with_the_weights_of_the_loss(training):
    html = render(training.sampled)
    assert "weight in Dice" in html
    assert "18 patches of" in html


def test_no_name_becomes_markup():
    sampled = count_labels(torch.ones(1, 4, 4, dtype=torch.long), [EVIL], LABELS)
    transfer = Transfer(source=EVIL, key="", matches=(Match(name=EVIL, shape=(1, 2), theirs=None),))
    blank = torch.zeros(4, 4)
    example = Example(case=EVIL, image=blank, reference=blank.short(), epochs=(0,), predictions=(blank.short(),))
    for html in map(render, (sampled, transfer, example)):
        assert EVIL not in html
        assert "&lt;img" in html


def test_a_training_tells_pace_reading_example_and_samples(training):
    html = render(training)
    for said in ("finished", "patches a second", "How to read it", "What each line is", "after epoch 2", "whole cases"):
        assert said in html


def test_each_curve_says_what_it_is_over_and_which_of_two_grey_lines_is_which(training):
    html = render(training)
    assert html.count("over epochs</") == 3
    assert "mean (dashed)" in html
    assert "whole cases, mean (solid)" in html


def test_a_training_that_has_not_begun_shows_no_curve():
    html = render(Training(boxes(), blueprint=short()))
    assert "No epoch is finished yet" in html
    assert "What was sampled" not in html


def test_why_it_stopped_is_said_on_top():
    training = Training(boxes(), blueprint=short())
    training.stopped = "the loss became nan in iteration 3"
    assert "the loss became nan in iteration 3" in render(training)
    assert "the loss became nan in iteration 3" in repr(training)


@pytest.mark.parametrize("blueprint", [Blueprint.nnunet(), Blueprint.quick(minutes=5)])
def test_a_blueprint_says_what_holds_where_nothing_was_chosen(blueprint):
    html = render(blueprint)
    assert "<b>none</b>" not in html
    assert "<b>the plan&#x27;s U-Net</b>" in html
    assert "<b>Dice + cross-entropy</b>" in html


def test_a_function_without_a_name_is_not_called_lambda():
    html = render(Blueprint.quick(minutes=5, schedule=lambda progress: 1.0))
    assert "lambda" not in html
    assert "a function without a name" in html


def test_the_curves_of_many_labels_tell_how_many_have_no_key():
    names = tuple(f"label {i}" for i in range(30))
    epoch = EpochRecord(
        number=0,
        seconds=1.0,
        learning_rate=0.1,
        iterations=1,
        training_loss=1.0,
        validation_loss=1.0,
        pseudo_dice=(0.5,) * 30,
        timings={},
    )
    html = render(History((epoch,), names))
    assert "and 18 more" in html
    assert "mean (dashed)" in html
