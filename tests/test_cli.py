"""The command line does what the lines of Python do, says what it did, and goes on where it was."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from making import make_dataset

import autoseg
from autoseg.cli import VERBS, main
from autoseg.demo import run_demo

SECONDS = "0.04"  # of a minute
LONG_ENOUGH = 0.5  # minutes of training, to be stopped in the middle of it


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("cli") / "Ball", test=2)


@pytest.fixture(scope="module")
def work(tmp_path_factory, data):
    """What ``autoseg demo`` leaves behind."""
    folder = tmp_path_factory.mktemp("cli") / "demo"
    assert main(["demo", "--data", str(data), "--minutes", SECONDS, "--out", str(folder)]) == 0
    return folder


def test_the_demo_leaves_everything(work):
    left = {str(p.relative_to(work)) for p in work.rglob("*") if p.is_file()}
    run = {f"runs/3d_fullres/fold_0/{name}" for name in ("model.json", "weights.safetensors")}
    assert {"fingerprint.json", "plan.json", "evaluation.csv", "report.html"} | run <= left
    validation = ["case_3", "case_5"]
    assert {f"predictions/{name}.nii.gz" for name in validation} <= left
    assert any(name.startswith("preprocessed/3d_fullres/case_5") for name in left)
    assert not any(part.startswith(".") for name in left for part in name.split("/")), "nothing half-written"
    assert list(pd.read_csv(work / "evaluation.csv")["case"].unique()) == validation


def test_the_report_needs_no_other_file(work):
    page = (work / "report.html").read_text()
    assert page.count("data:image/png;base64,") + page.count("<svg") > 5
    assert "<script" not in page
    assert 'src="http' not in page
    assert "Mean Dice" in page


def test_a_second_demo_computes_nothing_again(data, work, capsys):
    def times():
        return {p: p.stat().st_mtime_ns for p in work.rglob("*") if p.is_file() and "preprocessed" in p.parts}

    before, weights = times(), (work / "runs/3d_fullres/fold_0/weights.safetensors").read_bytes()
    assert main(["demo", "--data", str(data), "--minutes", SECONDS, "--out", str(work)]) == 0
    assert times() == before
    assert (work / "runs/3d_fullres/fold_0/weights.safetensors").read_bytes() == weights
    assert "7/7 Evaluation" in capsys.readouterr().out


def test_the_demo_says_every_stage(data, tmp_path):
    said = []
    evaluation = run_demo(autoseg.open_dataset(data), tmp_path / "x", minutes=float(SECONDS), say=said.append)
    assert [text[:3] for text in said] == [f"{i}/7" for i in range(1, 8)]
    assert 0 <= evaluation.mean <= 1


DEMO = """
import sys
import autoseg.cli, autoseg.demo
autoseg.demo.CHECKPOINT_SECONDS = 0.5
sys.exit(autoseg.cli.main(["demo", *sys.argv[1:]]))
"""


def start(data, out):
    return subprocess.Popen(
        [sys.executable, "-c", DEMO, "--data", data, "--minutes", str(LONG_ENOUGH), "--out", out],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def wait_for(path, process):
    """Until the file is there."""
    for _ in range(1200):
        if path.exists():
            return
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    pytest.fail(f"{path} never came")


def seconds_trained(data, out):
    """What is on disk of the run."""
    configuration = autoseg.Plan.load(out / "plan.json")["3d_fullres"]
    prepared = autoseg.preprocess(autoseg.open_dataset(data), configuration, folder=out, show_progress=False)
    return autoseg.Training(prepared, blueprint=autoseg.Blueprint.quick(minutes=LONG_ENOUGH)).seconds


def stop_while_training(data, out, blow):
    """Start a demo, stop it by a signal after its first checkpoint, and return how it ended."""
    process = start(data, out)
    wait_for(out / "runs/3d_fullres/fold_0/checkpoint.safetensors", process)
    process.send_signal(blow)
    output, errors = process.communicate(timeout=60)
    assert "4/7" in output
    assert "5/7" not in output
    assert 0 < seconds_trained(data, out) < 60 * LONG_ENOUGH, "what was trained is kept"
    return process.returncode, errors


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent the way Unix does")
def test_ctrl_c_while_training_is_answered_by_one_sentence(data, tmp_path):
    code, errors = stop_while_training(data, tmp_path, signal.SIGINT)
    assert code == 130
    assert errors.strip().endswith("Stopped. What was finished is kept: the same command goes on from there.")
    assert "Traceback" not in errors
    assert "Warning" not in errors


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent the way Unix does")
def test_a_demo_that_was_killed_while_training_goes_on(data, tmp_path):
    stop_while_training(data, tmp_path, signal.SIGKILL)
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "preprocessed").rglob("*")}
    again = start(data, tmp_path)
    _, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    assert (tmp_path / "report.html").exists()
    assert 60 * LONG_ENOUGH * 0.7 < seconds_trained(data, tmp_path) <= 60 * LONG_ENOUGH, "all of its time was used"


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent the way Unix does")
@pytest.mark.parametrize("after", ["fingerprint.json", "plan.json"])
def test_a_demo_that_was_killed_early_goes_on(data, tmp_path, after):
    process = start(data, tmp_path)
    wait_for(tmp_path / after, process)
    process.kill()
    process.communicate()
    kept = (tmp_path / "fingerprint.json").stat().st_mtime_ns
    again = start(data, tmp_path)
    wait_for(tmp_path / "runs", again)
    again.kill()
    again.communicate()
    assert (tmp_path / "fingerprint.json").stat().st_mtime_ns == kept


# the other verbs


def test_check_tells_a_sound_dataset_from_a_broken_one(data, tmp_path, capsys):
    assert main(["check", str(data)]) == 0
    assert "All 6 training cases can be used." in capsys.readouterr().out
    broken = make_dataset(tmp_path / "Broken", cases=3)
    (broken / "imagesTr/case_1_0000.nii.gz").write_bytes(b"")
    assert main(["check", str(broken)]) == 1
    assert "error: case 'case_1'" in capsys.readouterr().out


def test_fingerprint_and_plan(data, tmp_path, capsys):
    assert main(["fingerprint", str(data), "--out", str(tmp_path)]) == 0
    assert main(["plan", str(data), "--out", str(tmp_path), "--memory", "4", "--why", "patch_size"]) == 0
    output = capsys.readouterr().out
    assert "Fingerprint('Ball': 6 cases)" in output
    assert "Plan for 'Ball' (4 GB, default)" in output
    assert "3d_fullres/patch_size = " in output
    assert "batch_dice = " not in output
    assert autoseg.Plan.load(tmp_path / "plan.json").budget.gpu_memory_gb == 4


def test_stage_by_stage(data, tmp_path, capsys):
    work, run = str(tmp_path / "work"), str(tmp_path / "work/runs/2d/fold_0")
    assert main(["preprocess", str(data), "--out", work, "--configuration", "2d"]) == 0
    assert main(["train", str(data), "--out", work, "--configuration", "2d", "--minutes", SECONDS]) == 0
    assert main(["predict", run, str(data), str(tmp_path / "test")]) == 0
    assert {p.name for p in (tmp_path / "test").glob("*.gz")} == {"test_0.nii.gz", "test_1.nii.gz"}
    folder = tmp_path / "predictions"
    assert main(["predict", run, str(data), str(folder), "--fold", "0", "--no-mirroring"]) == 0
    written = ["--csv", str(tmp_path / "scores.csv"), "--json", str(tmp_path / "summary.json")]
    assert main(["evaluate", str(folder), str(data), *written]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [case["prediction_file"] for case in summary["metric_per_case"]] == ["case_3.nii.gz", "case_5.nii.gz"]
    assert set(pd.read_csv(tmp_path / "scores.csv")["case"]) == {"case_3", "case_5"}
    assert "Evaluation(2 cases, mean Dice" in capsys.readouterr().out


def test_single_images_can_be_predicted(data, work, tmp_path):
    image = data / "imagesTs/test_1_0000.nii.gz"
    run = work / "runs/3d_fullres/fold_0"
    assert main(["predict", str(run), str(image), str(tmp_path), "--overlap", "0.25", "--device", "cpu"]) == 0
    assert (tmp_path / "test_1.nii.gz").exists(), "as nnU-Net calls it"


def test_a_folder_of_images_is_predicted_but_for_a_broken_one(data, work, tmp_path, capsys):
    images, out = tmp_path / "images", tmp_path / "out"
    shutil.copytree(data / "imagesTs", images)
    (images / "broken.nii.gz").write_bytes(b"no image")
    assert main(["predict", str(work / "runs/3d_fullres"), str(images), str(out)]) == 1
    assert {p.name for p in out.glob("*.gz")} == {"test_0.nii.gz", "test_1.nii.gz"}
    assert "case 'broken'" in capsys.readouterr().err
    (images / "broken.nii.gz").unlink()
    assert main(["predict", str(work / "runs/3d_fullres"), str(images), str(out)]) == 0


def test_a_fold_of_what_is_no_dataset_is_refused(data, work, tmp_path, capsys):
    run = str(work / "runs/3d_fullres/fold_0")
    assert main(["predict", run, str(data / "imagesTs"), str(tmp_path / "out"), "--fold", "0"]) == 1
    assert "is no dataset (it holds no dataset.json), so it has no folds" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_error_is_its_message_alone(tmp_path, capsys):
    assert main(["check", str(tmp_path)]) == 1
    errors = capsys.readouterr().err
    assert errors.startswith(f"{tmp_path} has no dataset.json (it is empty).")
    assert "Traceback" not in errors


@pytest.mark.skipif(sys.platform == "win32", reason="pipes break the way Unix does")
def test_a_reader_that_leaves_is_no_error(data, tmp_path):
    command = [sys.executable, "-m", "autoseg", "plan", str(data), "--out", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 141
    assert "Error" not in errors


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only some systems have a full file to write to")
def test_a_full_output_is_one_sentence(data, tmp_path):
    command = [sys.executable, "-m", "autoseg", "plan", str(data), "--out", str(tmp_path)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("output: No space left on device\n")
    assert "Traceback" not in done.stderr


def test_evaluating_a_folder_without_predictions(data, tmp_path, capsys):
    assert main(["evaluate", str(tmp_path), str(data)]) == 1
    assert "holds no file named after a training case of 'Ball', such as case_0.nii.gz" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["segment"], ["train"], ["demo", "--minutes", "soon"]])
def test_what_cannot_be_understood_shows_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    assert exit.value.code == 2
    assert "usage: autoseg" in capsys.readouterr().err


def test_help_names_every_verb_and_loads_nothing_heavy():
    code = "import sys\nfrom autoseg.cli import main\ntry: main(['--help'])\nfinally: assert 'torch' not in sys.modules"
    text = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert all(verb in text for verb in VERBS)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--minutes", "-1"], "the blueprint's minutes is -1.0"),
        (["--epochs", "0"], "the blueprint's epochs is 0"),
        (["--fold", "7"], "fold 7 does not exist"),
    ],
)
def test_what_cannot_be_trained_is_said_before_anything_is_made(data, tmp_path, capsys, wrong, message):
    assert main(["train", str(data), "--out", str(tmp_path / "work"), *wrong]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


def test_a_fold_that_is_no_number_is_told_what_there_is(data, capsys):
    with pytest.raises(SystemExit):
        main(["train", str(data), "--fold", "abc"])
    assert "'abc' is no fold: 0 to 4, or all" in capsys.readouterr().err
