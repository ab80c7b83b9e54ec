"""The blueprint: published values, what differs in the quick one, and why."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_trainings import configuration
from torch import nn

from autoseg.core.errors import TrainingError
from autoseg.core.serialization import from_jsonable, to_jsonable
from autoseg.training.blueprint import REASONS, Blueprint, shortened
from autoseg.training.model import network_spec
from autoseg.training.quick import DIFFERENT, QUICK, quick_sizes
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
    for name in {*QUICK, *quick_sizes(5)} - {"name", "validation_iterations"}:
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
        ({"minutes": float("inf")}, "minutes is inf; it must be more than 0, and finite"),
        ({"minutes": "5"}, "minutes is '5'"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 2.5}, "batch_size is 2.5; it must be a whole number"),
        ({"mirroring": 0}, "mirroring is 0; it must be True or False"),
        ({"learning_rate": True}, "learning_rate is True"),
        ({"minutes": None, "epochs": True}, "epochs is True"),
        ({"seed": 1 << 64}, "seed is"),
        ({"name": 3}, "name is 3; it must be a word"),
        ({"optimizer": "adam"}, "optimizer is 'adam'; it must be 'sgd' or 'adamw'"),
        ({"schedule": "cosine"}, "schedule is 'cosine'; it must be 'polynomial', 'one_cycle', or a function"),
        ({"precision": "fp16"}, "precision is 'fp16'"),
        ({"foreground_fraction": 1.5}, "foreground_fraction is 1.5; it must be between 0 and 1"),
        ({"momentum": 1}, "momentum is 1; it must be 0 or more and less than 1"),
        ({"loss": "dice"}, "loss is 'dice'; it must be a function of your own"),
        ({"network": nn.Conv2d(1, 2, 3)}, r"network is Conv2d\(1, 2.*; it must be a function that gets the plan's num"),
    ],
)
def test_impossible_values_are_refused(changes, message):
    with pytest.raises(TrainingError, match=message):
        Blueprint.quick(minutes=2).changed(**changes)


def test_training_without_augmentation_is_chosen_by_you():
    assert Blueprint.quick(minutes=2, augmentation=None).trace["augmentation"].reason == "chosen by you"


def test_a_blueprint_comes_back_from_json():
    blueprint = Blueprint.quick(minutes=3, seed=4)
    assert from_jsonable(Blueprint, to_jsonable(blueprint)) == blueprint


@given(st.lists(st.tuples(st.integers(1, 9), st.sampled_from([1, 2, 8, 32])), min_size=2, max_size=3))
def test_a_shortened_patch_is_divided_by_the_network_and_never_longer(axes):
    patch, divisor = tuple(n * d for n, d in axes), tuple(d for _, d in axes)
    shorter = shortened(patch, divisor, 60_000)
    assert all(s % d == 0 and min(p, 2 * d) <= s <= p for s, p, d in zip(shorter, patch, divisor, strict=True))
    assert math.prod(shorter) <= 60_000 or all(s <= 2 * d for s, d in zip(shorter, divisor, strict=True))
    assert shortened(patch, divisor, None) == patch


def test_the_quick_recipe_cuts_small_patches_of_large_ones_and_leaves_others_alone():
    small, large = configuration(), configuration(patch_size=(128,) * 3)
    quick = Blueprint.quick(minutes=5)
    assert quick.fitted(small) is small
    assert Blueprint.nnunet().fitted(large) is large
    fitted = quick.fitted(large)
    assert (fitted.patch_size, fitted.augmentation.initial_patch_size) == ((80, 80, 80), (128, 128, 128))
    assert quick.batch_size_for(fitted) == 1
    assert quick.changed(patch_voxels=None).fitted(large) is large


@pytest.mark.parametrize(
    ("patch", "minutes", "width"),
    [((40, 56, 40), 5, 16), ((80, 80, 80), 5, 8), ((80, 80, 80), 30, 16), ((640, 640), 5, 16), ((128,) * 3, 120, 16)],
)
def test_the_quick_network_is_narrow_where_volumes_are_large_and_time_is_short(patch, minutes, width):
    large = configuration(dimensions=len(patch), patch_size=patch)
    quick = Blueprint.quick(minutes=minutes)
    assert quick.features_for(large) == network_spec(large, quick).features[0] == width
    assert network_spec(large, quick.changed(base_features=5)).features[0] == 5
    assert network_spec(large, Blueprint.nnunet()) == large.network
    assert quick.trace["base_features"].reason == "what wide_patch_voxels and the patch leave"


@pytest.mark.parametrize(("size", "batch"), [(1000, 1), (50, 3), (8, 256)])
def test_a_batch_has_one_patch_at_least_and_never_thousands(size, batch):
    assert Blueprint.quick(minutes=5).batch_size_for(configuration(patch_size=(size,) * 3)) == batch


@pytest.mark.parametrize("gpu", [True, False])
def test_what_the_quick_recipe_chose_is_never_taken_for_yours(gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    quick = Blueprint.quick(minutes=5)
    monkeypatch.undo()
    assert (quick.patch_voxels > 2_000_000) is gpu
    assert {quick.trace[name].kind for name in quick_sizes(5)} == {"fixed"}


def test_the_minutes_are_yours_and_the_batch_follows_from_its_voxels():
    trace = Blueprint.quick(minutes=5).trace
    assert trace["minutes"].kind == "given"
    assert trace["batch_size"].reason == "what batch_voxels and the patch leave"
    assert trace["augmentation"].value.mirror == 0 and trace["augmentation"].reason.endswith("but mirroring")
    assert Blueprint.nnunet().trace["augmentation"].value == Blueprint.nnunet().augmentation
    assert Blueprint.nnunet().trace["batch_size"].reason == "what the plan found to fit in memory"
