"""Training in a real notebook kernel: one display that changes in place, and a stop button that loses nothing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from jupyter_client.manager import start_new_kernel

from autoseg.training.blueprint import Blueprint
from autoseg.training.live import progress_bar

SETUP = f"""
import sys, warnings
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[1])!r}]
import torch; torch.set_num_threads(1)
import autoseg
from small_trainings import boxes, short
"""
SECONDS = 60


@pytest.fixture(scope="module")
def kernel():
    manager, client = start_new_kernel(kernel_name="python3")
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def run(kernel, code, stop_at=None):
    """The messages of a cell; the kernel is interrupted when `stop_at` first says so."""
    manager, client = kernel
    sent, messages = client.execute(code), []
    while True:
        message = client.get_iopub_msg(timeout=SECONDS)
        if message["parent_header"].get("msg_id") != sent:
            continue
        messages.append((message["msg_type"], message["content"]))
        if stop_at and stop_at(messages):
            manager.interrupt_kernel()
            stop_at = None
        if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            return messages


def of_kind(messages, *kinds):
    return [content for kind, content in messages if kind in kinds]


@pytest.fixture(scope="module")
def interrupted(kernel):
    """A cell that was stopped after its third change."""
    run(kernel, SETUP)
    return run(
        kernel,
        "training = autoseg.train(boxes(), blueprint=short(epochs=100000))\ntraining",
        stop_at=lambda messages: len(of_kind(messages, "update_display_data")) == 3,
    )


def test_the_stop_button_warns_and_raises_nothing(interrupted):
    assert not of_kind(interrupted, "error")
    said = "".join(content["text"] for content in of_kind(interrupted, "stream"))
    assert "training was interrupted after" in said
    assert "finish(training) goes on" in said


def test_a_cell_shows_its_training_once(interrupted):
    (shown,) = of_kind(interrupted, "display_data", "execute_result")
    assert "No epoch is finished yet" in shown["data"]["text/html"]
    changes = of_kind(interrupted, "update_display_data")
    assert {c["transient"]["display_id"] for c in changes} == {shown["transient"]["display_id"]}
    assert "100,000 epochs" in changes[-1]["data"]["text/html"]
    assert "after epoch" in changes[-1]["data"]["text/html"], "the example is there"


def test_another_cell_shows_it_again_and_it_can_predict_and_go_on(kernel, interrupted):
    (shown,) = of_kind(run(kernel, "training"), "display_data", "execute_result")
    assert "Dice" in shown["data"]["text/html"]
    assert "3d_fullres" in shown["data"]["text/plain"]
    told = run(
        kernel,
        "before = len(training.epochs)\nnext(iter(training))\n"
        "(len(training.epochs) - before, training.model.network()(torch.zeros(1, 1, 8, 8, 8)).shape)",
    )
    (result,) = of_kind(told, "execute_result")
    assert result["data"]["text/plain"] == "(1, torch.Size([1, 2, 8, 8, 8]))"


def test_drawing_takes_little_of_the_time(kernel, interrupted):
    """Epochs of a few milliseconds, as nobody has: curves may not be drawn after each."""
    code = "autoseg.train(boxes(), blueprint=short(epochs=200), callbacks=[lambda epoch: None]);"
    messages = run(kernel, code)
    assert not of_kind(messages, "error")
    assert len(of_kind(messages, "update_display_data")) < 100


def test_a_bar_of_seconds_shows_no_rate(capsys):
    session = SimpleNamespace(
        blueprint=Blueprint.quick(minutes=1),
        configuration=SimpleNamespace(name="2d"),
        **{"listeners": [], "transfer": None, "epochs": (), "seconds": 2.0},
    )
    with progress_bar(session, show_progress=True):
        session.listeners[0]()
    written = capsys.readouterr().err
    assert "2/60 s" in written
    assert "s/s" not in written
