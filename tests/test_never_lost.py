"""A run can be killed, interrupted, starved of disk and memory: what was learned stays."""

from __future__ import annotations

import itertools
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_trainings import boxes, configuration, same, short
from torch import nn

from autoseg.core.errors import StorageError, TrainingError
from autoseg.training.augmentation import Augmentation
from autoseg.training.fitting import OutOfMemory, fitting_blueprint, step_gigabytes
from autoseg.training.interrupts import undisturbed
from autoseg.training.learner import Diverged
from autoseg.training.loop import Training
from autoseg.training.losses import default_loss
from autoseg.training.patches import draw_patches
from autoseg.training.running import finish, resume, train

LONG = short(epochs=8, iterations_per_epoch=6)
CHILD = """
import sys, torch
torch.set_num_threads(1)
from small_trainings import boxes
from test_never_lost import LONG
from autoseg.training.loop import Training
training = Training(boxes(), blueprint=LONG, folder=sys.argv[1])
training.checkpoint_seconds = 0.05
print("begun", flush=True)
list(training)
print(training.iterations, flush=True)
"""


def child(folder) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}
    return subprocess.Popen([sys.executable, "-c", CHILD, str(folder)], stdout=subprocess.PIPE, env=environment)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Sums depend on how many threads share them, so a run is the same only with as many."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def whole():
    """The run that nothing happened to."""
    return train(boxes(), blueprint=LONG, show_progress=False).model


def kill_once(folder, moment: random.Random) -> Training:
    """Start the run, kill it at a random moment, and open what it left."""
    with child(folder) as process:
        assert process.stdout.readline() == b"begun\n"
        time.sleep(moment.uniform(0, 1.0))
        process.send_signal(signal.SIGKILL)
    return Training(boxes(), blueprint=LONG, folder=folder)


def require_same_end(folder, moment: random.Random, whole) -> None:
    training = kill_once(folder, moment)
    list(training)
    assert not list(training.folder.glob(".*")), "what was half-written is swept away"
    assert same(training.model, whole)
    assert [e.training_loss for e in training.epochs] == [e.training_loss for e in whole.history.epochs]


def test_a_run_killed_at_any_moment_ends_with_the_same_weights(tmp_path, whole):
    require_same_end(tmp_path, random.Random(3), whole)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_twenty_kills(tmp_path, whole, seed):
    require_same_end(tmp_path, random.Random(seed), whole)


def test_ctrl_c_waits_for_the_end_of_what_may_not_be_torn_apart():
    done = []
    with pytest.raises(KeyboardInterrupt):  # noqa: SIM117  the interrupt leaves the inner block at its end
        with undisturbed():
            signal.raise_signal(signal.SIGINT)
            done.append("all of it")
    assert done == ["all of it"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_during_training_leaves_a_state_that_ends_with_the_same_weights(whole):
    """Real signals, at moments nobody chose."""
    training = Training(boxes(), blueprint=LONG)
    interrupts = 0
    for delay in (0.02, 0.05, 0.11, 0.17):
        timer = threading.Timer(delay, signal.raise_signal, [signal.SIGINT])
        timer.start()
        try:
            list(training)
        except KeyboardInterrupt:
            interrupts += 1
        timer.join()
    list(training)
    assert interrupts >= 2
    assert same(training.model, whole)


def test_an_interrupted_cell_says_how_to_go_on_and_goes_on(whole):
    training = Training(boxes(), blueprint=LONG)

    def press(record):
        if record.number == 2:
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match=r"interrupted after 3 epochs. training.model can predict; finish\(training\)"):
        finish(training, callbacks=[press], show_progress=False)
    assert training.model.network()(torch.zeros(1, 1, 8, 8, 8)).shape == (1, 2, 8, 8, 8)
    assert same(finish(training, show_progress=False).model, whole)


def test_a_full_disk_warns_and_what_was_there_stays(tmp_path, whole):
    """The kernel itself refuses to write more than a few bytes, as a full disk does."""
    training = Training(boxes(), blueprint=LONG, folder=tmp_path)
    training.checkpoint_seconds = 0.0
    list(itertools.islice(training, 1))
    before = (training.folder / "checkpoint.safetensors").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.warns(UserWarning, match="training goes on in memory, but could not be saved: cannot write"):
            list(itertools.islice(training, 1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (training.folder / "checkpoint.safetensors").read_bytes() == before
    assert {p.name for p in training.folder.iterdir()} == {
        "checkpoint.safetensors",
        "example.safetensors",
        "run.json",
    }, "nothing half-written is left"
    list(training)
    assert same(training.model, whole)
    assert (training.folder / "model.json").exists()


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda content: content[:100], "damaged or cut short"),
        (lambda content: b"", "damaged or cut short"),
        (lambda content: content.replace(b"progress", b"progrezz"), "KeyError"),
        (lambda content: content.replace(b"network/encoder", b"network/encodex"), "Missing key"),
        (lambda content: content[:-9] + bytes([content[-9] ^ 64]) + content[-8:], "no longer those that were written"),
    ],
    ids=["cut short", "empty", "no progress", "other weights", "a bit"],
)
def test_a_damaged_checkpoint_is_named(tmp_path, damage, found):
    list(itertools.islice(Training(boxes(), blueprint=LONG, folder=tmp_path), 1))
    checkpoint = tmp_path / "runs" / "3d_fullres" / "fold_0" / "checkpoint.safetensors"
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))
    with pytest.raises(StorageError, match=rf"(?s){found}.* Delete it to train this run"):
        Training(boxes(), blueprint=LONG, folder=tmp_path)


def test_damaged_files_of_a_finished_run_are_named(tmp_path):
    folder = train(boxes(), blueprint=short(), folder=tmp_path, show_progress=False).folder
    (folder / "weights.safetensors").write_bytes(b"")
    with pytest.raises(StorageError, match=r"damaged or cut short. Delete .*fold_0 to train this run from its begin"):
        Training(boxes(), blueprint=short(), folder=tmp_path)
    (folder / "run.json").write_text("")
    with pytest.raises(StorageError, match=r"is not valid JSON.* Or go on with the call that began the run"):
        resume(folder)


class Breaking:
    """A loss that is sound for so many calls."""

    def __init__(self, labels, sound):
        self.loss, self.sound = default_loss(labels, batch_dice=False), sound
        self.__name__ = "breaking"

    def __call__(self, logits, target):
        self.sound -= logits.requires_grad
        return self.loss(logits, target) * (1.0 if self.sound >= 0 else float("nan"))


def test_a_loss_that_is_no_number_brings_the_last_good_state_back():
    blueprint = short(epochs=4)
    good = Training(boxes(), blueprint=blueprint)
    list(itertools.islice(good, 2))
    training = Training(boxes(), blueprint=blueprint.changed(loss=Breaking(configuration().labels, 7)))
    with pytest.raises(Diverged, match=r"nan in iteration 7 .* after epoch 1 is back.*learning_rate=0.001"):
        list(training)
    assert same(training.model, good.model)
    assert "the loss became nan" in repr(training)


def test_train_returns_the_last_good_state_with_the_reason():
    blueprint = short(epochs=4, loss=Breaking(configuration().labels, 7))
    with pytest.warns(UserWarning, match="the loss became nan in iteration 7"):
        training = train(boxes(), blueprint=blueprint, show_progress=False)
    assert len(training.history) == 2
    assert training.stopped.startswith("the loss became nan")


def test_weights_are_not_touched_by_a_gradient_that_is_no_number():
    def infinite_slope(logits, target):
        return torch.sqrt(logits.flatten()[0] * 0).sum() + logits.mean() * 0  # value 0, slope inf * 0

    training = Training(boxes(), blueprint=short(loss=infinite_slope))
    before = training.model
    with pytest.raises(Diverged, match="the gradient of the loss became nan"):
        list(training)
    assert same(training.model, before)


def batch_normed(spec):
    layers = nn.Conv3d(spec.in_channels, 4, 3, padding=1), nn.BatchNorm3d(4), nn.Conv3d(4, spec.classes, 1)
    return nn.Sequential(*layers)


class Spoiling:
    """Augments as ever, but for one batch that becomes NaN."""

    def __init__(self, call: int):
        self.calls, self.call = 0, call

    def __call__(self, batch, settings, patch, random):
        self.calls += 1
        images, labels = Augmentation()(batch, settings, patch, random)
        return (images * float("nan") if self.calls == self.call else images), labels


@pytest.mark.parametrize("averaging", [0.0, 0.9])
@pytest.mark.parametrize("call", [2, 5])
def test_statistics_of_a_batch_norm_are_those_of_the_last_good_step_after_a_batch_of_nan(call, averaging):
    blueprint = short(network=batch_normed, augmentation=Spoiling(call), weight_averaging=averaging)
    training = Training(boxes(), blueprint=blueprint)
    with pytest.raises(Diverged, match="became nan"):
        list(training)
    assert int(training.learner.network[1].num_batches_tracked) == training.iterations
    assert all(weight.isfinite().all() for weight in training.model.weights.values())


def test_a_step_of_half_precision_that_is_left_out_leaves_no_nan_in_a_batch_norm():
    blueprint = short(network=batch_normed, augmentation=Spoiling(2), precision="float16", weight_averaging=0.0)
    training = Training(boxes(), blueprint=blueprint)
    list(training)
    assert training.finished
    assert all(weight.isfinite().all() for weight in training.model.weights.values())


def test_an_interrupted_step_leaves_no_trace_in_a_batch_norm():
    calls = []

    def interrupted_once(logits, target):
        calls.append(len(calls))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return default_loss(configuration().labels, batch_dice=False)(logits, target)

    training, undisturbed_one = (
        Training(boxes(), blueprint=short(network=batch_normed, loss=loss))
        for loss in (interrupted_once, default_loss(configuration().labels, batch_dice=False))
    )
    with pytest.raises(KeyboardInterrupt):
        list(training)
    list(training)
    list(undisturbed_one)
    assert same(training.model, undisturbed_one.model)


def test_a_full_memory_says_what_would_fit_and_offers_it():
    def greedy(volumes, request, random):
        torch.zeros(1 << 50)
        return draw_patches(volumes, request, random)

    big = configuration(patch_size=(128,) * 3)
    training = Training(boxes(), blueprint=short(sampler=greedy, batch_size=8))
    with pytest.raises(OutOfMemory, match=r"cpu ran out of memory with 8 patches of 8x8x8.* blueprint.changed\(batch_"):
        list(training)
    offered = fitting_blueprint(big, short(batch_size=8), 0.7 * step_gigabytes(big, short(batch_size=8)))
    assert offered.batch_size == 5
    assert step_gigabytes(big, offered) <= 0.7 * step_gigabytes(big, short(batch_size=8))


def test_what_fits_shrinks_the_width_when_a_single_patch_is_too_much():
    big, blueprint = configuration(patch_size=(128,) * 3), short(batch_size=1, base_features=32)
    room = 0.6 * step_gigabytes(big, blueprint)
    assert (fitting_blueprint(big, blueprint, room).base_features, fitting_blueprint(big, blueprint, 0.0)) == (16, None)


def test_other_runtime_errors_are_not_taken_for_a_full_memory():
    def wrong(volumes, request, random):
        raise RuntimeError("a bug of mine")

    with pytest.raises(RuntimeError, match="a bug of mine"):
        list(Training(boxes(), blueprint=short(sampler=wrong)))


def stop(_record):
    raise KeyboardInterrupt


def shifted(data):
    """The same cases in other folds."""
    return replace(data, splits=(*data.splits[1:], data.splits[0]))


@pytest.mark.filterwarnings("ignore:.*held another training")
def test_other_cases_in_a_fold_are_another_run(tmp_path):
    data = boxes()
    first = train(data, blueprint=short(), folder=tmp_path, show_progress=False)
    again = train(shifted(data), blueprint=short(), folder=tmp_path, show_progress=False)
    assert not same(first.model, again.model)
    assert same(again.model, train(shifted(data), blueprint=short(), show_progress=False).model)


@pytest.mark.filterwarnings("ignore:.*held another training", "ignore:training was interrupted")
def test_a_run_that_goes_on_leaves_one_that_came_between_where_it_is_found(tmp_path):
    first = train(boxes(), blueprint=short(epochs=3), folder=tmp_path, callbacks=[stop], show_progress=False)
    other = train(boxes(), blueprint=short(seed=1), folder=tmp_path, show_progress=False)
    finish(first, show_progress=False)
    assert same(train(boxes(), blueprint=short(seed=1), folder=tmp_path, show_progress=False).model, other.model)
    assert same(train(boxes(), blueprint=short(epochs=3), folder=tmp_path, show_progress=False).model, first.model)


RATE = {"factor": 1.0}  # not held by the schedule, or another rate would be another run


@pytest.mark.filterwarnings("ignore:training was interrupted", "ignore:training stopped")
def test_the_last_good_state_comes_back_after_going_on_from_disk(tmp_path, monkeypatch):
    blueprint = short(epochs=4, iterations_per_epoch=6, weight_averaging=0.0, schedule=lambda _progress: RATE["factor"])
    good = train(boxes(), blueprint=blueprint, folder=tmp_path, callbacks=[stop], show_progress=False).model
    monkeypatch.setitem(RATE, "factor", 1e12)
    stopped = train(boxes(), blueprint=blueprint, folder=tmp_path, show_progress=False)
    assert stopped.stopped is not None and "The state after epoch 0 is back" in stopped.stopped
    assert same(stopped.model, good)
    assert same(Training(boxes(), blueprint=blueprint, folder=tmp_path).model, good)


@pytest.mark.filterwarnings("ignore:training was interrupted")
def test_interrupted_in_its_first_validation_a_run_goes_on(tmp_path, monkeypatch):
    def interrupted(*_arguments):
        raise KeyboardInterrupt

    blueprint = short(epochs=None, minutes=0.02)
    with monkeypatch.context() as patched:
        patched.setattr("autoseg.training.loop.validate_patches", interrupted)
        begun = train(boxes(), blueprint=blueprint, folder=tmp_path, show_progress=False)
    assert not begun.epochs and begun.iterations
    assert train(boxes(), blueprint=blueprint, folder=tmp_path, show_progress=False).finished


def test_a_renamed_run_is_not_begun_anew_elsewhere(tmp_path):
    folder = train(boxes(), blueprint=short(), folder=tmp_path / "work", show_progress=False).folder
    renamed = folder.rename(folder.with_name("my_run"))
    with pytest.raises(TrainingError, match=r"was renamed or copied\. Let its path end as it did, in runs/3d_fullres"):
        resume(renamed)
    assert [path.name for path in folder.parent.iterdir()] == ["my_run"]


def test_a_callback_that_stops_after_the_last_epoch_stops_nothing(recwarn):
    assert train(boxes(), blueprint=short(epochs=1), callbacks=[stop], show_progress=False).finished
    assert not [w for w in recwarn if "interrupted" in str(w.message)]


def own_loss(logits, target):
    return default_loss(configuration().labels, batch_dice=False)(logits, target)


@pytest.mark.parametrize("epochs", [2, 4], ids=["finished", "half done"])
@pytest.mark.filterwarnings("ignore:training was interrupted", "ignore:.*held another training")
def test_a_run_with_a_loss_of_ones_own_outlives_one_without(tmp_path, epochs):
    blueprint = short(epochs=epochs, loss=own_loss)
    first = train(boxes(), blueprint=blueprint, folder=tmp_path, callbacks=[second_stops], show_progress=False)
    train(boxes(), blueprint=short(), folder=tmp_path, show_progress=False)
    again = Training(boxes(), blueprint=blueprint, folder=tmp_path)
    assert len(again.history) == 2 and same(again.model, first.model)


def second_stops(record):
    if record.number == 1:
        raise KeyboardInterrupt


@pytest.mark.parametrize("content", ["", '{"key": "abc", "new_field": 1}'])
def test_weights_whose_run_cannot_be_read_are_moved_aside(tmp_path, content):
    folder = train(boxes(), blueprint=short(), folder=tmp_path, show_progress=False).folder
    before = (folder / "weights.safetensors").read_bytes()
    (folder / "run.json").write_text(content)
    with pytest.warns(UserWarning, match=r"held another training.* kept as earlier_fold_0_(abc|unknown)"):
        train(boxes(), blueprint=short(seed=1), folder=tmp_path, show_progress=False)
    (aside,) = folder.parent.glob("earlier_*")
    assert (aside / "weights.safetensors").read_bytes() == before


def test_the_same_run_written_by_a_newer_version_is_not_trained_over(tmp_path):
    run = train(boxes(), blueprint=short(), folder=tmp_path, show_progress=False).folder / "run.json"
    run.write_text(run.read_text().replace('"finished"', '"new_field": 1, "finished"'))
    with pytest.raises(StorageError, match=r"no field 'new_field'.* Delete .*fold_0 to train this run from its begin"):
        Training(boxes(), blueprint=short(), folder=tmp_path)
