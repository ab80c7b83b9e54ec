"""The blueprint: published values, what differs in the quick one, and why."""

from __future__ import annotations

import pytest

from autoseg.core.errors import TrainingError
from autoseg.core.serialization import from_jsonable, to_jsonable
from autoseg.training.blueprint import DIFFERENT, QUICK, REASONS, Blueprint
from autoseg.training.schedule import learning_rate_factor


def test_the_published_recipe_has_nnunets_numbers():
    b = Blueprint.nnunet()
    assert (b.epochs, b.iterations_per_epoch, b.validation_iterations) == (1000, 250, 50)
    assert (b.optimizer, b.learning_rate, b.momentum, b.weight_decay) == ("sgd", 0.01, 0.99, 3e-5)
    assert (b.gradient_clip, b.foreground_fraction, b.deep_supervision, b.mirroring) == (12, 0.33, True, True)


@pytest.mark.parametrize(("epoch", "rate"), [(0, 0.01), (1, 0.00999100), (500, 0.00535887), (999, 1.9953e-5)])
def test_the_learning_rate_equals_nnunets(epoch, rate):
    assert 0.01 * learning_rate_factor("polynomial", epoch / 1000) == pytest.approx(rate, rel=1e-4)


def test_every_value_of_the_quick_recipe_says_why_it_differs():
    trace = Blueprint.quick(minutes=5).trace
    for name in set(QUICK) - {"name", "validation_iterations"}:
        assert trace[name].reason == DIFFERENT[name]
    assert {d.name for d in trace} == set(REASONS)
    assert trace["foreground_fraction"].source.startswith("Isensee")


def test_changed_values_are_recorded_as_given():
    trace = Blueprint.nnunet().changed(learning_rate=0.1, name="mine").trace
    assert (trace["learning_rate"].kind, trace["momentum"].kind) == ("given", "fixed")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 5}, "either epochs or minutes, got epochs=5 and minutes=2"),
        ({"minutes": None}, "either epochs or minutes"),
        ({"minutes": -1}, "the blueprint's minutes is -1; it must be more than 0"),
        ({"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_impossible_values_are_refused(changes, message):
    with pytest.raises(TrainingError, match=message):
        Blueprint.quick(minutes=2).changed(**changes)


def test_a_blueprint_comes_back_from_json():
    blueprint = Blueprint.quick(minutes=3, seed=4)
    assert from_jsonable(Blueprint, to_jsonable(blueprint)) == blueprint
