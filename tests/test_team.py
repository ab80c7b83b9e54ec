"""Two processes train as one does: the same batches, the same losses, the same weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from making import make_dataset
from small_trainings import boxes, configuration, short

import autoseg
from autoseg.core.errors import TrainingError
from autoseg.training.team import Team

pytest.importorskip("accelerate", reason="pip install accelerate")
HERE = Path(__file__).resolve().parent
MEMBER = """
import json, sys
sys.path.insert(0, {here!r})
from test_team import losses
from autoseg.training.launch import join
team = join(cpu=True)
found = losses(batch_dice={batch_dice}, batch_size={batch_size})
if team.leads:
    print("FOUND" + json.dumps(found))
"""


def losses(*, batch_dice, batch_size):
    """The losses of a seeded training without augmentation, and the sum of its weights."""
    config = configuration(batch_dice=batch_dice, batch_size=batch_size)
    blueprint = short(epochs=2, iterations_per_epoch=5, augmentation=None, batch_size=batch_size, precision="float32")
    training = autoseg.Training(boxes(config), blueprint=blueprint)
    records = list(training)
    weights = sum(float(w.double().abs().sum()) for w in training.model.weights.values())
    return [*(r.training_loss for r in records), *(r.validation_loss for r in records), weights]


def run(*arguments, cwd):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def together(script, *arguments, cwd):
    return run("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, script, *arguments, cwd=cwd)


@pytest.mark.parametrize(("batch_dice", "batch_size"), [(False, 4), (True, 4), (False, 3), (True, 3)])
def test_two_processes_have_the_losses_and_weights_of_one(tmp_path, batch_dice, batch_size):
    script = tmp_path / "member.py"
    script.write_text(MEMBER.format(here=str(HERE), batch_dice=batch_dice, batch_size=batch_size))
    (found,) = [line for line in together(script, cwd=tmp_path).splitlines() if line.startswith("FOUND")]
    alone = losses(batch_dice=batch_dice, batch_size=batch_size)
    assert json.loads(found.removeprefix("FOUND")) == pytest.approx(alone, rel=1e-4)


def test_a_notebook_starts_several_and_gets_the_model(tmp_path):
    make_dataset(tmp_path / "data", cases=5, shape=(16, 20, 24))
    script = tmp_path / "notebook.py"
    script.write_text("""
import autoseg
dataset = autoseg.open_dataset("data")
plan = autoseg.make_plan(autoseg.extract_fingerprint(dataset, show_progress=False))
prepared = autoseg.preprocess(dataset, plan["2d"], folder="work", show_progress=False)
short = autoseg.Blueprint.quick(minutes=1).changed(
    epochs=2, minutes=None, iterations_per_epoch=4, validation_iterations=1, base_features=4)
training = autoseg.train(prepared, blueprint=short, gpus=2, device="cpu")
print("FINISHED", training.finished, len(training.history), training.iterations)
def enough(epoch):
    raise KeyboardInterrupt
left = autoseg.train(prepared, fold=1, blueprint=short, gpus=2, device="cpu", callbacks=[enough])
print("LEFT", left.finished, len(left.history))
try:
    autoseg.train(prepared, fold=9, blueprint=short, gpus=2, device="cpu")
except autoseg.AutosegError as error:
    print("TOLD", type(error).__name__, error)
print(autoseg.predict(training.model, dataset.fold(0).validation, show_progress=False))
""")
    told = run(script, cwd=tmp_path)
    assert "FINISHED True 2 8" in told
    assert "LEFT False 1" in told
    assert "TOLD DatasetError fold 9 does not exist: there are 5 folds" in told
    assert "Predictions(1 case" in told


ENDED = """
import autoseg, multiprocessing, os, signal, threading, time
from autoseg.core.errors import TrainingError
from autoseg.training.launch import launch
def end():
    while sum(name.startswith("began") for name in os.listdir()) < 2:
        time.sleep(0.05)
    {end}
threading.Thread(target=end, daemon=True).start()
def member():
    open(f"began_{{os.getpid()}}", "w").close()
    try:
        time.sleep(100)
    except KeyboardInterrupt:
        open(f"saved_{{os.getpid()}}", "w").close()
try:
    launch(member, 2, cpu=True)
    print("RETURNED", len([name for name in os.listdir() if name.startswith("saved")]))
except TrainingError as error:
    print("TOLD", error)
"""
KILL = "os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)"
INTERRUPT = "time.sleep(1); os.kill(os.getpid(), signal.SIGINT)"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")
@pytest.mark.parametrize(
    ("end", "told"), [(KILL, "TOLD one of the 2 processes was killed, perhaps because"), (INTERRUPT, "RETURNED 2")]
)
def test_a_killed_process_is_named_and_an_interruption_lets_all_save(tmp_path, end, told):
    script = tmp_path / "ended.py"
    script.write_text(ENDED.format(end=end))
    assert told in run(script, cwd=tmp_path)


def test_torchrun_starts_the_command_line(tmp_path):
    make_dataset(tmp_path / "data", cases=5, shape=(16, 20, 24))
    arguments = ("train", "data", "--out", "work", "--configuration", "2d", "--minutes", "0.05")
    told = together("-m", "autoseg.cli", *arguments, cwd=tmp_path)
    assert told.count("The model is in") == 1
    assert autoseg.TrainedModel.load(tmp_path / "work/runs/2d/fold_0").history.epochs


def test_more_gpus_than_there_are_and_no_folder_are_explained(tmp_path):
    with pytest.raises(TrainingError, match="leaves its model in a folder"):
        autoseg.train(boxes(), blueprint=short(), gpus=2)
    with pytest.raises(TrainingError, match="gpus=0: training needs one process at least"):
        autoseg.train(boxes(), blueprint=short(), gpus=0, folder=tmp_path)
    if torch.cuda.device_count() < 64:
        with pytest.raises(TrainingError, match="64 GPUs were asked for, and"):
            autoseg.train(boxes(), blueprint=short(), gpus=64, folder=tmp_path)


def test_alone_nothing_is_shared_and_random_numbers_stay_the_same():
    alone, random = Team.current(), torch.Generator()
    assert alone == Team() and alone.leads and alone.share([1, 2]) == [1, 2]
    assert alone.own(random) is random
    assert [Team(k, 3).share([0, 1, 2, 3, 4, 5, 6]) for k in range(3)] == [[0, 1, 2], [3, 4], [5, 6]]
