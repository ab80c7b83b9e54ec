"""Pace: how far a training is, whether its blueprint counts epochs or minutes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoseg.training.blueprint import Blueprint
from autoseg.training.history import EpochRecord
from autoseg.training.pace import Pace

MINUTES = Blueprint.quick(minutes=1)


def epochs(count, validation=1.0):
    timings = {"forward": 4.0, "validation": validation}
    return [
        EpochRecord(
            number=number,
            iterations=8,
            seconds=5.0 * (number + 1),
            training_loss=0.0,
            validation_loss=0.0,
            pseudo_dice=(0.5,),
            learning_rate=0.01,
            timings=timings,
        )
        for number in range(count)
    ]


@given(st.integers(0, 20), st.integers(0, 249))
def test_epochs_are_counted_where_the_blueprint_does(done, steps):
    pace = Pace(Blueprint.nnunet(epochs=10), epochs(done), steps, 60.0 * done)
    assert pace.progress == min(done / 10, 1)
    assert pace.finished == (done >= 10)
    assert not pace.epoch_is_over(0.0)


def test_what_is_left_follows_from_what_was_done():
    assert Pace(Blueprint.nnunet(epochs=10), epochs(2), 125, 250.0).seconds_left == pytest.approx(750.0)
    assert Pace(Blueprint.nnunet(epochs=10), [], 0, 3.0).seconds_left is None
    assert Pace(MINUTES, epochs(2), 3, 20.0).seconds_left == 40.0
    assert Pace(MINUTES, epochs(2), 0, 60.0).seconds_left == 0.0


def test_however_short_the_time_there_is_one_epoch():
    assert not Pace(MINUTES, [], 1, 1000.0).finished
    assert Pace(MINUTES, epochs(1), 0, 1000.0).finished


def test_a_step_and_a_validation_that_do_not_fit_end_a_training_of_minutes():
    assert not Pace(MINUTES, epochs(1), 0, 57.0).finished  # a validation, half a second of a step, one to save
    assert Pace(MINUTES, epochs(1), 0, 58.0).finished


def test_epochs_of_minutes_are_as_long_as_their_validation_pays():
    assert not Pace(MINUTES, [], 5, 3.9).epoch_is_over(0.0)
    assert Pace(MINUTES, [], 5, 4.0).epoch_is_over(0.0)
    assert not Pace(MINUTES, epochs(1, validation=0.5), 5, 12.9).epoch_is_over(5.0)
    assert Pace(MINUTES, epochs(1, validation=0.5), 5, 13.0).epoch_is_over(5.0)
    assert Pace(MINUTES, epochs(1, validation=10.0), 5, 20.0).epoch_is_over(5.0)


def test_the_learning_rate_follows_the_progress():
    start, end = (Pace(Blueprint.nnunet(epochs=10), epochs(n), 0, 0.0).learning_rate for n in (0, 10))
    assert start == 0.01 and end == 0.0
