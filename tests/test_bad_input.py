"""Whatever is wrong with the input is said: what, where, and what to do. Nothing half-written stays."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from making import ball, make_dataset, voxels, write_volume

import autoseg
from autoseg.core.errors import AutosegError, DatasetError, PlanError, StorageError
from autoseg.core.serialization import read_json


@pytest.fixture
def folder(tmp_path):
    return make_dataset(tmp_path / "data", test=1)


# the folder and its dataset.json


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(DatasetError, match=r"nowhere is not a folder\. Give the folder that holds dataset\.json"):
        autoseg.open_dataset(tmp_path / "nowhere")


def test_an_empty_folder(tmp_path):
    with pytest.raises(DatasetError, match=r"has no dataset\.json \(it is empty\)\. It must say at least"):
        autoseg.open_dataset(tmp_path)


def test_a_folder_without_dataset_json_says_what_it_holds(folder):
    (folder / "dataset.json").unlink()
    (folder / "labelsTr").rename(folder / "answers")
    with pytest.raises(DatasetError, match=r"has no dataset\.json \(it holds answers, imagesTr, imagesTs\)"):
        autoseg.open_dataset(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"dataset\.json is broken: .* is not valid JSON"),
        ('{"labels": ', r"dataset\.json is broken: .* is not valid JSON"),
        ("[1, 2]", r"must hold an object \{\.\.\.\}, it holds a list"),
        ("{}", "has no 'channel_names' object"),
        ('{"channel_names": {"0": "MRI"}}', "has no 'labels' object; it has 'channel_names'"),
        ('{"channel_names": ["MRI"], "labels": {"background": 0}}', "has no 'channel_names' object"),
        ('{"channel_names": {}, "labels": {"background": 0, "a": 1}}', "'channel_names' .* is empty"),
        ('{"channel_names": {"0": "MRI"}, "labels": {}}', "'labels' in dataset.json is empty"),
        ('{"channel_names": {"0": "MRI"}, "labels": {"a": 1}}', "no 'background' with value 0"),
        ('{"channel_names": {"0": "MRI"}, "labels": {"background": 0, "a": 1}}', "has no 'file_ending'"),
        (
            '{"channel_names": {"0": "M"}, "labels": {"background": 0, "a": [1, 2]}, "regions_class_order": "first"}',
            "'regions_class_order' .* must be a list of whole numbers",
        ),
        (
            '{"channel_names": {"0": "M"}, "labels": {"background": 0, "a": 1}, "training": ["a.nii.gz"]}',
            r"an entry of 'training' is 'a\.nii\.gz'; it needs 'image' and 'label'",
        ),
        (
            '{"channel_names": {"0": "M"}, "labels": {"background": 0, "a": 1},'
            ' "training": [{"image": "no.nii.gz", "label": "no.nii.gz"}]}',
            r"case 'no': .*no\.nii\.gz is listed in dataset\.json but does not exist",
        ),
    ],
)
def test_a_broken_dataset_json(folder, content, message):
    (folder / "dataset.json").write_text(content)
    with pytest.raises(DatasetError, match=message):
        autoseg.open_dataset(folder)


def test_no_images(folder):
    for path in (folder / "imagesTr").iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match=r"holds no training images that end in \.nii\.gz\. Put them in .*imagesTr"):
        autoseg.open_dataset(folder)
    (folder / "imagesTr").rmdir()
    with pytest.raises(DatasetError, match="has no folder imagesTr"):
        autoseg.open_dataset(folder)


def test_an_image_without_label(folder):
    (folder / "labelsTr/case_3.nii.gz").unlink()
    with pytest.raises(DatasetError, match=r"'case_3' has an image but no label map: .*case_3\.nii\.gz does not exist"):
        autoseg.open_dataset(folder)


def test_an_image_without_channel_number(folder):
    (folder / "imagesTr/case_0_0000.nii.gz").rename(folder / "imagesTr/case_0.nii.gz")
    with pytest.raises(DatasetError, match=r"case_0\.nii\.gz .* has no channel number\. Name it <case>_0000\.nii\.gz"):
        autoseg.open_dataset(folder)


@pytest.mark.parametrize("number", [-1, 5])
def test_a_fold_that_does_not_exist(folder, number):
    dataset = autoseg.open_dataset(folder)
    with pytest.raises(DatasetError, match=f"fold {number} does not exist: dataset 'data' has 5 folds, 0 to 4"):
        dataset.fold(number)


# single cases: named by check, and refused by every stage that reads them


def shorter(folder):
    write_volume(ball((8, 10, 11)), folder / "labelsTr/case_2.nii.gz")


def other_spacing(folder):
    write_volume(ball(), folder / "labelsTr/case_2.nii.gz", spacing=(1, 1, 2))


def undeclared(folder):
    write_volume(ball() * np.uint8(3), folder / "labelsTr/case_2.nii.gz")


def not_a_number(folder):
    image = voxels(20)
    image[1, 2, 3] = np.nan
    image[4, 5, 6] = np.inf
    write_volume(image, folder / "imagesTr/case_2_0000.nii.gz")


def cut_short(folder):
    path = folder / "imagesTr/case_2_0000.nii.gz"
    path.write_bytes(path.read_bytes()[:500])


def empty_file(folder):
    (folder / "imagesTr/case_2_0000.nii.gz").write_bytes(b"")


def text_file(folder):
    (folder / "labelsTr/case_2.nii.gz").write_text("not an image")


def two_channels(folder):
    nib.save(nib.Nifti1Image(np.zeros((12, 10, 8, 2), np.float32), np.eye(4)), folder / "imagesTr/case_2_0000.nii.gz")


FAULTS = {
    shorter: r"label map is 8x10x11 voxels of 1x1x1 mm but the image is 8x10x12 .* must share a grid",
    other_spacing: r"label map is 8x10x12 voxels of 1x1x2 mm but the image is 8x10x12 voxels of 1x1x1 mm",
    undeclared: r"the label map holds the value\(s\) 3, 6, but dataset\.json declares only 0, 1, 2\. Declare them",
    not_a_number: r"2 voxels of the image are NaN or infinite, the first at \(1, 2, 3\) of channel 'MRI'",
    cut_short: r"case_2_0000\.nii\.gz cannot be read as \.nii\.gz: .* may be damaged or cut short: it has 500 bytes",
    empty_file: r"case_2_0000\.nii\.gz cannot be read as \.nii\.gz: .* it has 0 bytes",
    text_file: r"labelsTr/case_2\.nii\.gz cannot be read as \.nii\.gz: .* Copy it again from its source",
    two_channels: r"the image has 2 channel\(s\), but 1 are declared: MRI",
}
faults = pytest.mark.parametrize(("fault", "message"), FAULTS.items(), ids=lambda f: getattr(f, "__name__", None))


@faults
def test_check_names_the_case_and_goes_on(folder, fault, message):
    fault(folder)
    (finding,) = autoseg.check(autoseg.open_dataset(folder), show_progress=False)
    assert (finding.severity, finding.cases) == ("error", ("case_2",))
    with pytest.raises(DatasetError, match=f"case 'case_2': .*{message}"):
        raise DatasetError(finding.message)


@faults
def test_the_fingerprint_refuses_the_case_and_writes_nothing(folder, tmp_path, fault, message):
    fault(folder)
    dataset = autoseg.open_dataset(folder)
    with pytest.raises(DatasetError, match=f"case 'case_2': .*{message}"):
        autoseg.extract_fingerprint(dataset, folder=tmp_path / "work", show_progress=False)
    assert not (tmp_path / "work").exists()


@faults
def test_leaving_the_case_out_helps(folder, fault, message):
    fault(folder)
    dataset = autoseg.open_dataset(folder).without("case_2")
    assert len(autoseg.check(dataset, show_progress=False)) == 0
    assert len(autoseg.extract_fingerprint(dataset, show_progress=False).cases) == 5


@pytest.mark.parametrize("fault", [shorter, not_a_number, cut_short])
def test_preprocessing_keeps_what_is_finished_and_names_the_case(folder, tmp_path, fault):
    configuration = plan_of(folder)["3d_fullres"]
    kept = (folder / "imagesTr/case_2_0000.nii.gz").read_bytes(), (folder / "labelsTr/case_2.nii.gz").read_bytes()
    fault(folder)
    with pytest.raises(DatasetError, match="case 'case_2'"):
        prepare(folder, configuration, tmp_path / "work")
    assert not any(p.name.startswith(".") for p in (tmp_path / "work").rglob("*")), "nothing temporary stays"
    (folder / "imagesTr/case_2_0000.nii.gz").write_bytes(kept[0])
    (folder / "labelsTr/case_2.nii.gz").write_bytes(kept[1])
    assert len(prepare(folder, configuration, tmp_path / "work")) == 6


def test_nan_in_an_mha(tmp_path):
    make_dataset(tmp_path, cases=2, ending=".mha")
    image = voxels(10)
    image[0, 0, 0] = np.nan
    write_volume(image, tmp_path / "imagesTr/case_1_0000.mha")
    with pytest.raises(DatasetError, match=r"case 'case_1': 1 voxels of the image are NaN or infinite"):
        autoseg.extract_fingerprint(autoseg.open_dataset(tmp_path), show_progress=False)


# plans


def plan_of(folder, **budget):
    dataset = autoseg.open_dataset(folder)
    fingerprint = autoseg.extract_fingerprint(dataset, show_progress=False)
    return autoseg.make_plan(fingerprint, autoseg.Budget(**budget))


def test_a_budget_too_small_for_any_patch(folder):
    message = r"no patch fits in 1e-06 GB: the smallest one tried, .* voxels, still needs more\. Raise Budget\("
    with pytest.raises(PlanError, match=message):
        plan_of(folder, memory_gb=1e-6)


@pytest.mark.parametrize("gigabytes", [0, -1, float("nan"), float("inf")])
def test_a_budget_that_is_no_amount(gigabytes):
    with pytest.raises(PlanError, match="is not a positive number"):
        autoseg.Budget(memory_gb=gigabytes)


def test_a_configuration_that_the_plan_does_not_have(folder):
    with pytest.raises(PlanError, match="no configuration '3d_fulres'.* It has "):
        plan_of(folder)["3d_fulres"]


# folders that cannot be written, and disks that are full; root may write anywhere, so a file stands in the way


def prepare(folder, configuration, work):
    return autoseg.preprocess(autoseg.open_dataset(folder), configuration, folder=work, show_progress=False)


@pytest.fixture
def occupied(tmp_path):
    (tmp_path / "work").write_text("a file where the folder should be")
    return tmp_path / "work"


def test_a_fingerprint_for_a_folder_that_cannot_be(folder, occupied):
    with pytest.raises(StorageError, match=r"cannot write .*work/fingerprint\.json"):
        autoseg.extract_fingerprint(autoseg.open_dataset(folder), folder=occupied, show_progress=False)
    assert occupied.is_file()


def test_a_plan_for_a_folder_that_cannot_be(folder, occupied):
    with pytest.raises(StorageError, match=r"cannot write .*work/plan\.json"):
        plan_of(folder).save(occupied / "plan.json")


def test_preprocessing_into_a_folder_that_cannot_be(folder, occupied):
    with pytest.raises(StorageError, match="cannot write .*work"):
        prepare(folder, plan_of(folder)["3d_fullres"], occupied)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A dataset, its preprocessed cases and a model that was trained for a second."""
    dataset = autoseg.open_dataset(make_dataset(tmp_path_factory.mktemp("trained") / "data", test=3))
    plan = autoseg.make_plan(autoseg.extract_fingerprint(dataset, show_progress=False))
    prepared = autoseg.preprocess(dataset, plan["3d_fullres"], show_progress=False)
    blueprint = autoseg.Blueprint.quick(minutes=0.02)
    return dataset, prepared, autoseg.train(prepared, blueprint=blueprint, show_progress=False).model


def test_training_into_a_folder_that_cannot_be_fails_before_it_begins(trained, occupied):
    with pytest.raises(StorageError, match="cannot write .*work"):
        autoseg.train(trained[1], blueprint=autoseg.Blueprint.quick(minutes=60), folder=occupied, show_progress=False)


def test_results_for_a_folder_that_cannot_be(trained, occupied):
    dataset, _, model = trained
    with pytest.raises(StorageError, match="cannot write .*work"):
        model.save(occupied)
    with pytest.raises(StorageError, match="cannot write .*work"):
        autoseg.predict(model, dataset, folder=occupied, show_progress=False)
    predictions = autoseg.predict(model, dataset.fold(0).validation, show_progress=False)
    with pytest.raises(StorageError, match=r"cannot write .*scores\.csv"):
        autoseg.evaluate(predictions, dataset).to_csv(occupied / "scores.csv")
    with pytest.raises(StorageError, match=r"cannot write .*report\.html"):
        autoseg.report(occupied / "report.html", dataset=dataset)
    assert occupied.is_file()


def test_predicting_a_bad_image_names_it_and_keeps_the_others(trained, tmp_path):
    dataset, _, model = trained
    (tmp_path / "bad_0000.nii.gz").write_bytes(dataset["test_1"].image_paths[0].read_bytes()[:300])
    bad = replace(dataset["test_1"], name="bad", image_paths=(tmp_path / "bad_0000.nii.gz",))
    found = autoseg.predict(model, [bad, dataset["test_0"]], folder=tmp_path / "out", show_progress=False)
    assert re.search(r"case 'bad': .*bad_0000\.nii\.gz cannot be read", found.failed["bad"])
    with pytest.raises(DatasetError, match=r"case 'bad': .*bad_0000\.nii\.gz cannot be read"):
        autoseg.predict(model, bad, show_progress=False)
    assert (tmp_path / "out" / "test_0.nii.gz").exists()
    assert not (tmp_path / "out" / "bad.nii.gz").exists()


LIMITED = """
import resource, signal, sys
import autoseg
from autoseg.core.errors import StorageError
dataset = autoseg.open_dataset(sys.argv[1])
plan = autoseg.make_plan(autoseg.extract_fingerprint(dataset, show_progress=False))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    autoseg.preprocess(dataset, plan["3d_fullres"], folder=sys.argv[2], show_progress=False)
except StorageError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on file sizes to test with")
def test_a_disk_that_fills_up_while_preprocessing(folder, tmp_path):
    work = tmp_path / "work"
    result = subprocess.run(
        [sys.executable, "-c", LIMITED, folder, work], capture_output=True, text=True, check=True, env=quiet()
    )
    assert "Nothing half-written was left. Free some space or choose another folder" in result.stdout
    assert not any(p.name.startswith(".") for p in work.rglob("*"))
    assert len(prepare(folder, plan_of(folder)["3d_fullres"], work)) == 6


# Ctrl-C


def quiet() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


STAGES = """
import sys, time
import autoseg
from autoseg.data.checks import run
folder, work, stage = sys.argv[1:]
dataset = autoseg.open_dataset(folder)
plan = autoseg.make_plan(autoseg.extract_fingerprint(dataset, show_progress=False))

def slowly(name, function):  # so that the signal arrives in the middle
    def slow(*arguments, **options):
        result = function(*arguments, **options)
        print("now", flush=True)
        time.sleep(0.3)
        return result
    return slow

if stage == "fingerprint":
    from autoseg.data import case_facts
    case_facts.load_pair = slowly(stage, case_facts.load_pair)
    autoseg.extract_fingerprint(dataset, folder=work, show_progress=False)
elif stage == "preprocess":
    from autoseg.preprocessing import store
    store.load_pair = slowly(stage, store.load_pair)
    autoseg.preprocess(dataset, plan["3d_fullres"], folder=work, show_progress=False)
elif stage == "predict":
    from autoseg.prediction import predictor
    prepared = autoseg.preprocess(dataset, plan["3d_fullres"], show_progress=False)
    model = autoseg.train(prepared, blueprint=autoseg.Blueprint.quick(minutes=0.02), show_progress=False).model
    predictor.load_image = slowly(stage, predictor.load_image)
    autoseg.predict(model, dataset.training, folder=work, show_progress=False)
elif stage == "check":
    run.look_at = slowly(stage, run.look_at)
    autoseg.check(dataset)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent the way Unix does")
@pytest.mark.parametrize("stage", ["check", "fingerprint", "preprocess", "predict"])
def test_ctrl_c_stops_a_stage_and_leaves_nothing_half_written(folder, tmp_path, stage):
    work = tmp_path / "work"
    process = subprocess.Popen(
        [sys.executable, "-c", STAGES, folder, work, stage],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=quiet(),
    )
    for _ in range(3):
        process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT, errors
    assert errors.strip().endswith("KeyboardInterrupt")
    assert not any(p.name.startswith(".") for p in work.rglob("*")), "nothing temporary stays"
    assert not (work / "fingerprint.json").exists()
    if stage == "predict":
        kept = read_json(work / "predictions.json")["files"]
        assert len(kept) >= 1
        assert {p.name for p in work.glob("*.nii.gz")} == set(kept)
    if stage == "preprocess":
        finished = {p.name: p.stat().st_mtime_ns for p in work.rglob("*.b2nd")}
        assert finished, "what was finished is kept"
        configuration = plan_of(folder)["3d_fullres"]
        assert len(prepare(folder, configuration, work)) == 6
        kept = {p.name: p.stat().st_mtime_ns for p in work.rglob("*.b2nd") if p.name in finished}
        assert kept == finished, "and not computed again"


def test_every_error_has_one_parent():
    assert issubclass(DatasetError, AutosegError)
    assert autoseg.AutosegError is AutosegError
