"""Costs are forecast by arithmetic that agrees with what is built, and sessions end in time."""

from __future__ import annotations

import re

import pytest
import torch
from planning_examples import fingerprint_of
from torch.utils.flop_counter import FlopCounterMode

import autoseg
from autoseg.core.errors import PlanError, TrainingError
from autoseg.core.numbers import duration
from autoseg.networks.unet import build_unet
from autoseg.planning.forecast import dataset_bytes, forecast, forward_operations
from autoseg.planning.planner import make_plan
from autoseg.training.blueprint import Blueprint
from autoseg.training.session import fit_session, probe_steps

BRAIN = fingerprint_of((138, 170, 138), cases=484, channels=("T1", "T2", "FLAIR", "T1c"), foreground=3)
SMALL = fingerprint_of((36, 50, 35), cases=260)


@pytest.mark.parametrize("preset", ["default", "resenc_m"])
def test_operations_agree_with_what_torch_counts(preset):
    configuration = make_plan(SMALL).what_if(preset=preset)["3d_fullres"]
    with torch.device("meta"):
        network = build_unet(configuration.network)
        image = torch.empty(1, 1, *configuration.patch_size)
    with FlopCounterMode(display=False) as counter:
        network(image)
    estimated = forward_operations(configuration.network, configuration.patch_size)
    assert estimated == pytest.approx(counter.get_total_flops(), rel=0.15)  # heads, stems and upsampling are left out


def test_memory_is_that_of_the_plans_reference():
    plan = make_plan(BRAIN)
    assert forecast(plan).gpu_memory_gb <= plan.budget.gpu_memory_gb
    assert forecast(plan).gpu_memory_gb == pytest.approx(454_893_568 / 560e6 * 8, rel=1e-6)


def test_disk_is_the_size_of_what_preprocessing_makes():
    dataset = autoseg.sample_dataset()
    plan = make_plan(autoseg.extract_fingerprint(dataset, show_progress=False))
    prepared = autoseg.preprocess(dataset, plan["3d_fullres"], show_progress=False)
    assert dataset_bytes(plan, plan["3d_fullres"]) == pytest.approx(prepared.nbytes, rel=0.02)


def test_it_says_what_was_measured_and_what_estimated():
    measured = forecast(make_plan(SMALL), probe=lambda configuration: 2.0)
    assert measured.measured == ("time",)
    assert measured.epoch_seconds == pytest.approx(2.0 * (250 + 50 / 3))
    assert forecast(make_plan(SMALL)).epoch_seconds is None
    assert "time" in forecast(make_plan(SMALL), gpu="T4").estimated


def test_a_faster_gpu_is_forecast_faster():
    plan = make_plan(BRAIN)
    seconds = [forecast(plan, gpu=gpu).epoch_seconds for gpu in ("T4", "A100", "H100")]
    assert seconds == sorted(seconds, reverse=True)


def test_a_probe_takes_real_steps():
    plan = make_plan(fingerprint_of((12, 16, 12), cases=20))
    assert 0 < probe_steps(plan["3d_fullres"], steps=1) < 60


def test_a_forecast_needs_a_plan_and_a_probe_a_step():
    plan = make_plan(fingerprint_of((60, 70, 60)))
    with pytest.raises(PlanError, match=r"of type Configuration; it must be a Plan: forecast\(plan, '2d'\)"):
        forecast(plan["3d_fullres"])
    with pytest.raises(TrainingError, match="steps=0: at least one step must be measured"):
        probe_steps(plan["3d_fullres"], steps=0)


def test_a_long_session_gets_the_published_recipe_at_the_length_that_fits():
    session = fit_session(SMALL, minutes=24 * 60, gpu="T4")
    assert session.blueprint.name == "nnunet"
    assert session.blueprint.epochs * session.forecast.epoch_seconds <= 24 * 3600


def test_a_short_session_gets_the_quick_recipe_and_says_what_is_given_up():
    session = fit_session(BRAIN, minutes=60, gpu="T4")
    assert session.blueprint == Blueprint.quick(minutes=60)
    assert "1,000 epochs would take" in session.given_up[0]
    assert session.plan == make_plan(BRAIN, autoseg.Budget(memory_gb=8))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"minutes": 0}, TrainingError, "leaves no time to train"),
        ({"minutes": 5, "gpu": "T5"}, PlanError, "no figures of a GPU 'T5'"),
    ],
)
def test_impossible_sessions_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        fit_session(SMALL, **arguments)


def test_forecasts_and_sessions_show_themselves():
    session = fit_session(SMALL, minutes=5, gpu="T4")
    assert "GPU memory" in session.forecast._repr_html_()
    assert "Given up" in session._repr_html_()
    assert re.search(r"disk</small><br><b>[\d.]+ (kB|MB)<", session.forecast._repr_html_())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gpu": "t4"}, "no figures of a GPU 't4'. Did you mean 'T4'"),
        ({"gpu": "T4", "steps": 0}, "an epoch of 0 steps"),
        ({"probe": 3}, "the probe is 3; it must be a function"),
        ({"probe": lambda configuration: float("nan")}, "the probe measured nan seconds"),
    ],
)
def test_impossible_forecasts_are_refused(arguments, message):
    with pytest.raises(PlanError, match=message):
        forecast(make_plan(fingerprint_of((60, 70, 60))), **arguments)


@pytest.mark.parametrize(("preset", "hours"), [("default", 9), ("resenc_m", 12), ("resenc_l", 35), ("resenc_xl", 66)])
def test_an_estimate_is_near_the_published_hours_of_each_preset(preset, hours):
    estimated = forecast(make_plan(BRAIN, autoseg.Budget(preset=preset)), gpu="A100").epoch_seconds * 1000 / 3600
    assert estimated == pytest.approx(hours, rel=0.2)


def test_small_patches_take_the_time_that_launching_them_takes():
    plan = make_plan(SMALL).what_if({"2d/batch_size": 366})
    assert forecast(plan, "2d", gpu="A100").epoch_seconds == pytest.approx(10, rel=0.2)  # as published
    assert forecast(plan, "3d_fullres", gpu="H100").epoch_seconds > 5


def test_a_time_is_told_alike_in_text_and_on_the_card_and_how_sure_it_is():
    costs = forecast(make_plan(SMALL), "2d", gpu="A100")
    for shown in (repr(costs), costs._repr_html_()):
        assert duration(costs.epoch_seconds) in shown
        assert "a rough estimate, often off by a factor of two" in shown
    measured = forecast(make_plan(SMALL), probe=lambda configuration: 2.0)
    assert "rough" not in repr(measured) + measured._repr_html_()
