"""What goes wrong when predicting is said in a sentence; what is finished is kept, and nothing is half-written."""

from __future__ import annotations

import os
import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from models import random_model

import autoseg
from autoseg.core.errors import (
    DatasetError,
    ImageError,
    ModelError,
    PredictionError,
    PreprocessingError,
    StorageError,
    TrainingError,
)
from autoseg.core.serialization import read_json
from autoseg.data.geometry import Grid
from autoseg.data.images import read_label_map
from autoseg.prediction import memory, predictor
from autoseg.prediction.memory import forecast_memory
from autoseg.prediction.results import Stored
from autoseg.prediction.sliding_window import Window, predict_logits
from autoseg.training.compute import choose_compute

MODEL = random_model()
SPACE = MODEL.configuration.patch_size


def noise(shape=SPACE, seed=0):
    return np.random.RandomState(seed).normal(size=shape).astype(np.float32)


def write(folder, name, array=None, spacing=(1.0, 1.0, 1.0)):
    import SimpleITK as sitk

    folder.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(noise() if array is None else array)
    image.SetSpacing(spacing[::-1])
    sitk.WriteImage(image, str(folder / name))
    return folder / name


def predict(what, model=MODEL, **options):
    return autoseg.predict(model, what, **{"device": "cpu", "show_progress": False, **options})


# images


def test_a_wrong_number_of_channels_is_counted():
    both = autoseg.Image.of(np.stack([noise(), noise()]), channels=("a", "b"))
    with pytest.raises(DatasetError, match=r"case 'image_0': the image has 2 channel\(s\), but 1 are declared: MRI"):
        predict(both)
    case = autoseg.dataset_from_arrays([both], [np.zeros(SPACE, np.uint8)], channels=("a", "b"))[0]
    with pytest.raises(PreprocessingError, match=r"has 2 channel\(s\) \(a, b\), but the plan was made for 1: MRI"):
        predict(case)


def test_an_unknown_format_lists_what_is_read(tmp_path):
    path = tmp_path / "scan.docx"
    path.write_bytes(b"PK")
    with pytest.raises(DatasetError, match=r"scan\.docx: the format \.docx is not known\. Readable: nii"):
        predict(path)


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(DatasetError, match=rf"{re.escape(str(tmp_path))} holds no images\. Readable: .*nii\.gz"):
        predict(tmp_path)
    with pytest.raises(PredictionError, match="there are no cases to predict"):
        predict([])


@pytest.mark.parametrize("shape", [(0, 5, 5), (4, 0, 3)])
def test_an_empty_image_is_none(shape):
    with pytest.raises(DatasetError, match=r"this cannot be predicted: an array of shape .* none of them empty"):
        predict(np.zeros(shape, np.float32))


def test_a_spacing_that_is_one_number_is_refused():
    with pytest.raises(DatasetError, match=r"spacing has 1 number\(s\), \(2.0,\), but the image .* has 3 axes"):
        predict(noise(), spacing=2.0)


def test_a_given_spacing_counts_more_than_a_header(tmp_path):
    path = write(tmp_path, "a.nii.gz", spacing=(1.0, 1.0, 1.0))
    assert predict(path, spacing=(1.0, 1.0, 1.5))[0].label_map.grid.spacing == (1.0, 1.0, 1.5)


def test_an_array_may_bring_its_spacing():
    pair = (noise(), (2.0, 1.5, 1.0))
    found = [predict(pair)[0], *predict([pair, noise()])]
    assert [p.label_map.grid.spacing for p in found] == [pair[1], pair[1], (1.0, 1.0, 1.0)]
    assert [p.case.name for p in found] == ["image_0", "image_0", "image_1"]
    assert isinstance(found[0].native, np.ndarray)


def test_a_tuple_of_paths_is_one_case_for_a_model_of_as_many_channels(tmp_path):
    paths = tuple(write(tmp_path, f"scan_000{c}.nii.gz", noise(seed=c)) for c in (0, 1))
    (found,) = predict(paths, random_model(two_channels()))
    assert (found.case.name, len(found.case.image_paths)) == ("scan", 2)
    assert [p.case.name for p in predict(paths)] == ["scan", "scan_0001"], "two scans for a model of one channel"


def two_channels():
    one = MODEL.configuration
    network = replace(one.network, in_channels=2)
    return replace(
        one, channels=("a", "b"), network=network, normalization=one.normalization * 2, mask_background=(False, False)
    )


def test_an_image_smaller_than_the_patch_is_predicted():
    small = tuple(max(2, n // 3) for n in SPACE)
    (found,) = predict(noise(small))
    assert found.label_map.array.shape == small


def test_a_spacing_far_from_training_is_predicted_with_a_warning():
    with pytest.warns(UserWarning, match=r"voxels of 9x1x1 mm, but the model works on .* check that the spacing"):
        (found,) = predict(noise((4, 16, 16)), spacing=(9, 1, 1))
    assert found.label_map.array.shape == (4, 16, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predict(noise(), spacing=MODEL.configuration.spacing)


def test_a_label_map_given_as_an_image_is_doubted():
    label_map = (noise() > 0).astype(np.uint8)
    with pytest.warns(UserWarning, match="case 'image_0' holds only whole numbers from 0 to 1, as a label map does"):
        predict(label_map)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predict((100 * noise()).astype(np.int16))


# models


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((4, 4, 4)), "this is no trained model, but of type ndarray. The models come first"),
        (None, "of type NoneType. The models come first"),
        ("runs/fold_0", r"of type str. Open it: autoseg.open_models\('runs/fold_0'\)"),
        ([MODEL, MODEL.network()], "of type UNet. The models come first"),
        ([], "no model was given"),
    ],
)
def test_what_is_no_model_is_named(given, message):
    for verb in (autoseg.predict, autoseg.uncertainty):
        with pytest.raises(PredictionError, match=message):
            verb(given, noise())


def test_models_of_which_one_saw_no_mirror_images_are_not_mirrored_in_any_order():
    plain = replace(MODEL, blueprint=MODEL.blueprint.changed(mirroring=not MODEL.blueprint.mirroring))
    one, other = (
        predict(noise(), models, probabilities=True)[0].probabilities for models in ([MODEL, plain], [plain, MODEL])
    )
    assert np.array_equal(one, other)
    assert np.array_equal(one, predict(noise(), MODEL, mirroring=False, probabilities=True)[0].probabilities)


def test_models_of_several_precisions_predict_in_float32_in_any_order():
    half = replace(MODEL, blueprint=MODEL.blueprint.changed(precision="bfloat16"))
    one, other, plain = (
        predict(noise(), models, probabilities=True)[0].probabilities
        for models in ([MODEL, half], [half, MODEL], [MODEL, MODEL])
    )
    assert np.array_equal(one, other)
    assert np.array_equal(one, plain)
    assert predictor.common_compute([half, half], "cpu").precision == "bfloat16"


def test_a_training_is_not_trained_by_predicting_with_it():
    dataset = autoseg.sample_dataset()
    plan = autoseg.make_plan(autoseg.extract_fingerprint(dataset, show_progress=False))
    few = replace(dataset, training=dataset.training[:5], splits=())
    prepared = autoseg.preprocess(few, plan["2d"], show_progress=False)
    training = autoseg.Training(prepared, blueprint=autoseg.Blueprint.quick(minutes=1, base_features=2))
    with pytest.raises(PredictionError, match=r"of type Training\. Pass training\.model"):
        predict(noise(), training)
    assert not training.epochs


@pytest.mark.parametrize("missing", ["model.json", "weights.safetensors"])
def test_a_model_folder_with_a_missing_file_is_named(tmp_path, missing):
    folder = MODEL.save(tmp_path / "fold_0")
    (folder / missing).unlink()
    for path in (folder, tmp_path):
        with pytest.raises(ModelError, match=rf"fold_0 holds no finished model: {missing} missing"):
            autoseg.open_models(path)


def test_a_folder_without_a_model_says_what_it_holds(tmp_path):
    write(tmp_path, "scan.nii.gz")
    with pytest.raises(ModelError, match=r"holds no model, but scan\.nii\.gz\. Give a run with model\.json"):
        autoseg.open_models(tmp_path)


def test_what_is_no_path_of_a_model_is_named():
    with pytest.raises(ModelError, match="a NoneType is no path. Give that of a run"):
        autoseg.open_models(None)


def test_weights_that_do_not_fit_the_plan_are_refused():
    wider = replace(MODEL, blueprint=MODEL.blueprint.changed(base_features=7))
    with pytest.raises(ModelError, match="the weights do not fit the network"):
        predict(noise(), wider)


def test_models_wherever_they_lie(tmp_path):
    folder = tmp_path / "runs/3d_fullres"
    for fold in (0, 1):
        random_model(fold=fold).save(folder / f"fold_{fold}")
    assert [m.fold for m in autoseg.open_models(folder)] == [0, 1]
    assert [m.fold for m in autoseg.open_models(folder / "fold_1")] == [1]
    assert len(autoseg.open_models(MODEL.save(tmp_path / "one.autoseg"))) == 1
    exported = autoseg.export_nnunet_model(MODEL, tmp_path / "theirs.zip")
    assert autoseg.open_models(exported).trainer


def test_a_cascade_finds_its_first_stage_beside_it(tmp_path):
    runs, second = (
        tmp_path / "runs",
        replace(MODEL.configuration, name="3d_cascade_fullres", previous_stage="3d_lowres"),
    )
    replace(MODEL, configuration=second).save(runs / "3d_cascade_fullres/fold_0")
    with pytest.raises(ModelError, match="refines what 3d_lowres predicts, and there is no trained model of that in"):
        autoseg.open_models(runs / "3d_cascade_fullres")
    for fold in (0, 1):
        random_model(replace(MODEL.configuration, name="3d_lowres"), fold=fold).save(runs / f"3d_lowres/fold_{fold}")
    found = autoseg.open_models(runs / "3d_cascade_fullres/fold_0")
    assert [(m.configuration.name, m.fold) for m in found] == [("3d_lowres", 0), ("3d_cascade_fullres", 0)]


def test_stages_of_a_cascade_with_other_labels_are_refused():
    names = MODEL.configuration.labels.names
    (first, one), (second, two), *rest = ((n, v) for n, v in names.items() if n != "background")
    swapped = replace(MODEL.configuration.labels, names={"background": 0, first: two, second: one, **dict(rest)})
    lowres = replace(MODEL, configuration=replace(MODEL.configuration, name="3d_lowres", labels=swapped))
    stage = {"name": "3d_cascade_fullres", "previous_stage": "3d_lowres"}
    full = replace(MODEL, configuration=replace(MODEL.configuration, **stage))
    with pytest.raises(PredictionError, match=f"stages of the cascade have other labels, .*'{first}' is {two} against"):
        predict(noise(), [lowres, full])


@pytest.mark.parametrize("overlap", [-0.1, 1.0, None, "a"])
def test_an_overlap_that_is_none_is_refused(overlap):
    with pytest.raises(PredictionError, match="neighbouring tiles share a part of their edge, from 0 to below 1"):
        predict(noise(), overlap=overlap)


def test_a_device_that_is_not_there_is_named():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(TrainingError, match="the device 'cuda' is not there"):
        predict(noise(), device="cuda")


def test_a_model_that_answers_nan_is_an_error_and_no_empty_label_map():
    broken = replace(MODEL, weights={name: weight * float("nan") for name, weight in MODEL.weights.items()})
    with pytest.raises(PredictionError, match=r"case 'image_0': the model's output is NaN"):
        predict(noise(), broken)


# many cases


def test_a_broken_scan_is_reported_and_the_others_are_predicted(tmp_path):
    scans, out = tmp_path / "scans", tmp_path / "out"
    for name in ("a.nii.gz", "c.nii.gz"):
        write(scans, name)
    (scans / "b.nii.gz").write_bytes(b"no image")
    found = predict(scans, folder=out)
    assert [p.case.name for p in found] == ["a", "c"]
    assert list(found.failed) == list(found[1:].failed) == ["b"]
    assert found[np.int64(1)].case.name == "c"
    assert "case 'b'" in found.failed["b"]
    assert "1 failed" in repr(found)
    assert "1 case could not be predicted" in re.sub("<[^>]+>", "", found._repr_html_())
    with pytest.raises(PredictionError, match="no prediction of a case 'b': case 'b': .*b.nii.gz"):
        found["b"]
    assert sorted(p.name for p in out.iterdir()) == ["a.nii.gz", "c.nii.gz", "predictions.json"]


def test_where_all_fail_it_is_an_error(tmp_path):
    for name in ("a.nii.gz", "b.nii.gz"):
        (tmp_path / name).write_bytes(b"no image")
    with pytest.raises(PredictionError, match="none of 2 cases could be predicted. The first: case 'a'"):
        predict(tmp_path)


@pytest.mark.parametrize("content", ["{bad", "[]", '{"key": "x"}', '{"key": "x", "files": ["a"]}'])
def test_damaged_notes_about_a_folder_say_to_delete_them(tmp_path, content):
    scan, out = write(tmp_path / "scans", "a.nii.gz"), tmp_path / "out"
    first = predict(scan, folder=out)
    (out / "predictions.json").write_text(content)
    assert first["a"].case.name == "a"
    with pytest.raises(StorageError, match=r"predictions\.json is not what predict wrote.*Delete it"):
        predict(scan, folder=out)


def test_two_cases_of_one_name_are_refused_before_one_overwrites_the_other(tmp_path):
    paths = [write(tmp_path / side, "scan.nii.gz") for side in ("left", "right")]
    with pytest.raises(PredictionError, match=r"2 cases would be written to the same file, scan\.nii\.gz"):
        predict(paths, folder=tmp_path / "out")


def test_no_label_map_is_written_over_an_image(tmp_path):
    for name in ("scan_0000.nii.gz", "other.nii.gz"):
        write(tmp_path, name)
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    for what in (tmp_path, tmp_path / "other.nii.gz"):
        with pytest.raises(PredictionError, match="holds the images, and .* Give another folder for the label maps"):
            predict(what, folder=tmp_path)
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before
    predict(tmp_path / "scan_0000.nii.gz", folder=tmp_path)
    assert (tmp_path / "scan.nii.gz").exists(), "as nnU-Net calls it"


def test_no_label_map_is_written_over_its_reference(tmp_path, monkeypatch):
    image = write(tmp_path / "imagesTr", "a_0000.nii.gz")
    label = write(tmp_path / "labelsTr", "a.nii.gz", np.ones(SPACE, np.uint8))
    case = autoseg.Case(
        name="a", image_paths=(image,), label_path=label, channels=("MRI",), labels=MODEL.configuration.labels
    )
    before = label.read_bytes()
    _must_not_compute(monkeypatch)
    with pytest.raises(PredictionError, match=r"labelsTr holds the reference label maps, and a\.nii\.gz would be"):
        predict([case], folder=tmp_path / "labelsTr")
    assert label.read_bytes() == before


def test_what_was_not_predicted_in_a_folder_is_moved_aside_and_never_written_over(tmp_path):
    write(tmp_path / "scans", "a.nii.gz")
    out = tmp_path / "out"
    out.mkdir()
    for number, mine in enumerate((b"drawn by hand", b"drawn again"), start=1):
        (out / "a.nii.gz").write_bytes(mine)
        (out / "predictions.json").unlink(missing_ok=True)
        with pytest.warns(UserWarning, match=rf"held 1 file that .* a\.nii\.gz.*Now in earlier_files_{number}"):
            predict(tmp_path / "scans", folder=out)
        assert (out / f"earlier_files_{number}/a.nii.gz").read_bytes() == mine


def test_the_label_map_of_another_array_of_the_same_name_is_moved_aside(tmp_path):
    first = predict(noise(seed=1), folder=tmp_path)[0].label_map.array
    with pytest.warns(UserWarning, match="of another array of that name"):
        predict(noise(seed=2), folder=tmp_path)
    kept = read_label_map(tmp_path / "earlier_files_1/image_0.nii.gz", MODEL.configuration.labels)
    np.testing.assert_array_equal(kept.array, first)
    predict(noise(seed=2), folder=tmp_path)


def test_a_rerun_computes_what_is_missing_and_what_changed(tmp_path, monkeypatch):
    scans, out = tmp_path / "scans", tmp_path / "out"
    for seed, name in enumerate("abc"):
        write(scans, f"{name}.nii.gz", noise(seed=seed))
    seen = []
    real = predictor.load_image
    monkeypatch.setattr(predictor, "load_image", lambda case: seen.append(case.name) or real(case))
    predict(scans, folder=out)
    (out / "b.nii.gz").unlink()
    write(scans, "c.nii.gz", noise(seed=9))
    (out / "a.nii.gz").write_bytes((out / "a.nii.gz").read_bytes()[:40])  # damaged
    seen.clear()
    predict(scans, folder=out)
    assert seen == ["a", "b", "c"]
    seen.clear()
    predict(scans, folder=out)
    assert seen == []
    predict(scans, folder=out, mirroring=False)
    assert seen == ["a", "b", "c"], "other settings are other predictions"


def test_predictions_in_a_folder_are_read_when_they_are_asked_for(tmp_path):
    for seed, name in enumerate("abc"):
        write(tmp_path / "scans", f"{name}.nii.gz", noise(seed=seed))
    predictions = predict(tmp_path / "scans", folder=tmp_path / "out")
    assert all(isinstance(item, Stored) for item in predictions.items), "no label map is held"
    in_memory = predict(tmp_path / "scans")
    for stored, held in zip(predictions, in_memory, strict=True):
        np.testing.assert_array_equal(stored.label_map.array, held.label_map.array)
    (tmp_path / "out/b.nii.gz").unlink()
    with pytest.raises(ImageError, match="b.nii.gz"):
        predictions["b"]


def test_a_prediction_in_a_folder_is_not_taken_for_one_that_another_model_made_since(tmp_path):
    write(tmp_path / "scans", "a.nii.gz")
    first = predict(tmp_path / "scans", folder=tmp_path / "out")
    expected = first["a"].label_map.array
    with pytest.warns(UserWarning, match="held 1 label maps that another model predicted"):
        second = predict(tmp_path / "scans", folder=tmp_path / "out", mirroring=False)
    with pytest.raises(
        PredictionError, match=r"'a': .*out by now holds predictions of another model.*now .*a\.nii\.gz"
    ):
        first["a"]
    assert second["a"].case.name == "a"
    with pytest.warns(UserWarning, match="held 1 label maps"):
        predict(tmp_path / "scans", folder=tmp_path / "out")
    np.testing.assert_array_equal(first["a"].label_map.array, expected)


def test_a_prediction_in_a_folder_is_not_taken_for_that_of_a_changed_image(tmp_path):
    write(tmp_path / "scans", "a.nii.gz")
    first = predict(tmp_path / "scans", folder=tmp_path / "out")
    write(tmp_path / "scans", "a.nii.gz", noise(seed=9))
    second = predict(tmp_path / "scans", folder=tmp_path / "out")
    with pytest.raises(
        PredictionError, match=r"a\.nii\.gz in .*out was predicted again from an image that has changed"
    ):
        first["a"]
    assert second["a"].case.name == "a"
    (tmp_path / "out/predictions.json").unlink()
    assert first["a"].case.name == "a", "nothing tells that it is another"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="only ordinary users of Unix can be kept out")
def test_a_folder_that_may_not_be_written_fails_before_anything_is_computed(tmp_path, monkeypatch):
    folder = tmp_path / "out"
    predict(noise(), folder=folder)
    folder.chmod(0o500)
    _must_not_compute(monkeypatch)
    with pytest.raises(StorageError, match="cannot write .*out"):
        predict([noise(), noise()], folder=folder)
    folder.chmod(0o700)


def test_a_folder_that_is_a_file_fails_before_anything_is_computed(tmp_path, monkeypatch):
    (tmp_path / "out").write_text("")
    _must_not_compute(monkeypatch)
    with pytest.raises(StorageError, match="cannot write .*out"):
        predict(noise(), folder=tmp_path / "out")


def _must_not_compute(monkeypatch):
    monkeypatch.setattr(predictor, "predict_logits", lambda *_: pytest.fail("it was computed"))


# Ctrl-C


def _pressed_at(monkeypatch, number):
    """Ctrl-C while a case is being predicted."""
    real, calls = predictor.predict_logits, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == number:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(predictor, "predict_logits", interrupted)


def test_ctrl_c_returns_what_is_finished(monkeypatch):
    _pressed_at(monkeypatch, 3)
    with pytest.warns(UserWarning, match="prediction was interrupted: 2 of 4 cases are predicted, and returned"):
        found = predict([noise(seed=i) for i in range(4)])
    assert len(found) == 2
    assert "interrupted: 2 of 4" in repr(found)
    assert "interrupted: 2 of 4" in found._repr_html_()


def test_ctrl_c_with_a_folder_keeps_what_is_finished_and_the_same_call_goes_on(tmp_path, monkeypatch):
    scans, out = tmp_path / "scans", tmp_path / "out"
    for name in "abc":
        write(scans, f"{name}.nii.gz")
    with monkeypatch.context() as patch:
        _pressed_at(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            predict(scans, folder=out)
    assert sorted(p.name for p in out.iterdir()) == ["a.nii.gz", "predictions.json"], "nothing half-written"
    written = (out / "a.nii.gz").stat().st_mtime_ns
    assert len(predict(scans, folder=out)) == 3
    assert (out / "a.nii.gz").stat().st_mtime_ns == written
    assert list(read_json(out / "predictions.json")["files"]) == ["a.nii.gz", "b.nii.gz", "c.nii.gz"]


def test_ctrl_c_before_the_first_case_is_finished_is_ctrl_c(monkeypatch):
    _pressed_at(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        predict([noise(), noise()])


# memory


def _with_free(monkeypatch, tmp_path, kilobytes):
    (tmp_path / "meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable: {kilobytes} kB\n")
    monkeypatch.setattr(memory, "MEMORY", tmp_path / "meminfo")


def test_too_little_memory_is_said_before_it_is_computed(monkeypatch, tmp_path):
    needed = forecast_memory("x", Grid.of((32, 32, 32)), MODEL.configuration)
    _with_free(monkeypatch, tmp_path, int(0.9 * needed.needed_gb * 1e6))
    with pytest.warns(UserWarning, match=r"case 'image_0' needs about .* GB of memory, .* GB are free\. It may be"):
        predict(noise((32, 32, 32)))


def test_what_cannot_fit_is_not_tried(monkeypatch, tmp_path):
    _with_free(monkeypatch, tmp_path, 1)
    _must_not_compute(monkeypatch)
    with pytest.raises(PredictionError, match=r"GB are free\. That cannot work: .*cut the scan"):
        predict(noise((32, 32, 32)))


def test_memory_that_ends_on_the_way_is_said_too(monkeypatch):
    def full(*_):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(predictor, "predict_logits", full)
    with pytest.raises(PredictionError, match="out of memory: case 'image_0' needs about"):
        predict(noise())


def test_a_machine_that_does_not_tell_its_memory_is_no_obstacle(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "MEMORY", tmp_path / "nothing")
    assert forecast_memory("x", Grid.of((999, 999, 999)), MODEL.configuration).fits
    assert forecast_memory("x", Grid.of((9, 9, 9)), MODEL.configuration).free_gb is None


def test_probabilities_and_outputs_cost_memory():
    plain = forecast_memory("x", Grid.of((64, 64, 64)), MODEL.configuration)
    kept = forecast_memory("x", Grid.of((64, 64, 64)), MODEL.configuration, probabilities=True)
    assert plain.probabilities_gb == 0 < kept.probabilities_gb
    assert plain.logits_gb == pytest.approx(4e-9 * MODEL.labels.outputs * 64**3, rel=0.2)


# tiles


def test_even_tiles_are_computed_once_and_the_result_is_the_same():
    network, tiles = MODEL.network(), []
    network.register_forward_hook(lambda _, given, __: tiles.append(len(given[0])))
    image = np.full((1, *(3 * n for n in SPACE)), 0.5, np.float32)
    image[(0, *(slice(n) for n in SPACE))] = noise()
    window = Window(patch_size=SPACE, mirror_axes=(0,))
    logits = predict_logits(network, image, window, choose_compute("cpu", "float32"))
    assert sum(tiles) == 2 * (8 + 1), "eight hold a corner of the noise, all others are alike"
    image[image == 0.5] += np.float32(1e-7)  # the least that a number near one half can change
    image[0, ::2] -= np.float32(1e-7)
    apart = predict_logits(network, image, window, choose_compute("cpu", "float32"))
    assert sum(tiles) > 2 * (8 + 1) + 9
    assert torch.equal(logits.argmax(0), apart.argmax(0))


def test_a_predictor_can_be_sent_to_a_worker():
    import pickle

    ready = predictor.Predictor([[MODEL]], predictor.Options(), "cpu")
    again = pickle.loads(pickle.dumps(ready))
    assert again.key == ready.key
