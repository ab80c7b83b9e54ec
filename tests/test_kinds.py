"""What is given in the place of something else is refused with the call that makes the right thing."""

from __future__ import annotations

import pytest

import autoseg
from autoseg.core.kinds import MADE_BY, require


@pytest.fixture(scope="module")
def dataset():
    return autoseg.sample_dataset()


@pytest.fixture(scope="module")
def plan(dataset):
    return autoseg.make_plan(autoseg.extract_fingerprint(dataset, show_progress=False))


REFUSED = {  # each call, and the kind it wants instead of what it was given
    "check": (lambda d, p, wrong: autoseg.check(wrong), "Dataset"),
    "extract_fingerprint": (lambda d, p, wrong: autoseg.extract_fingerprint(wrong), "Dataset"),
    "make_plan": (lambda d, p, wrong: autoseg.make_plan(wrong), "Fingerprint"),
    "fit_session": (lambda d, p, wrong: autoseg.fit_session(wrong, minutes=3), "Fingerprint"),
    "probe_steps": (lambda d, p, wrong: autoseg.probe_steps(wrong), "Configuration"),
    "plan_to_nnunet": (lambda d, p, wrong: autoseg.plan_to_nnunet(wrong), "Plan"),
    "fingerprint_to_nnunet": (lambda d, p, wrong: autoseg.fingerprint_to_nnunet(wrong), "Fingerprint"),
    "preprocess": (lambda d, p, wrong: autoseg.preprocess(wrong, p["2d"]), "Dataset"),
    "microscope": (lambda d, p, wrong: autoseg.microscope(wrong, p["2d"]), "Case"),
    "microscope, by": (lambda d, p, wrong: autoseg.microscope(d.training[0], wrong), "Configuration"),
    "train": (lambda d, p, wrong: autoseg.train(wrong), "PreprocessedDataset"),
    "finish": (lambda d, p, wrong: autoseg.finish(wrong), "Training"),
    "repeat": (lambda d, p, wrong: autoseg.repeat(wrong), "PreprocessedDataset"),
    "previous_stage": (lambda d, p, wrong: autoseg.previous_stage(wrong, {}), "PreprocessedDataset"),
    "cross_validate": (lambda d, p, wrong: autoseg.cross_validate(wrong, p), "Dataset"),
    "cross_validate, by": (lambda d, p, wrong: autoseg.cross_validate(d, wrong), "Plan"),
    "choose_best": (lambda d, p, wrong: autoseg.choose_best([wrong]), "CrossValidation"),
    "evaluate, against": (lambda d, p, wrong: autoseg.evaluate([truth(d)], wrong), "Dataset"),
    "surface_table, against": (lambda d, p, wrong: autoseg.surface_table([truth(d)], wrong), "Dataset"),
    "lesion_table, against": (lambda d, p, wrong: autoseg.lesion_table([truth(d)], wrong), "Dataset"),
    "compare_evaluations": (lambda d, p, wrong: autoseg.compare_evaluations(wrong, wrong), "Evaluation"),
    "outside_range": (lambda d, p, wrong: autoseg.outside_range(d.training[0], wrong), "Fingerprint"),
    "suspicious_labels": (lambda d, p, wrong: autoseg.suspicious_labels(wrong), "Evaluation"),
    "result_card": (lambda d, p, wrong: autoseg.result_card(wrong), "Evaluation"),
    "export_nnunet_dataset": (lambda d, p, wrong: autoseg.export_nnunet_dataset(wrong, "out"), "Dataset"),
    "export_onnx": (lambda d, p, wrong: autoseg.export_onnx(wrong, "out"), "TrainedModel"),
    "export_torchscript": (lambda d, p, wrong: autoseg.export_torchscript(wrong, "out"), "TrainedModel"),
    "export_bundle": (lambda d, p, wrong: autoseg.export_bundle(wrong, "out"), "TrainedModel"),
}


def truth(dataset):
    case = dataset.training[0]
    return autoseg.Prediction(case=case, label_map=case.label())


@pytest.mark.parametrize("wrong", ["a/folder", None, {"a": 1}, 3], ids=["path", "None", "dictionary", "number"])
@pytest.mark.parametrize("name", REFUSED)
def test_every_stage_refuses_what_another_thing_is_and_says_what_makes_the_right_one(
    name, wrong, dataset, plan, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    call, kind = REFUSED[name]
    with pytest.raises(autoseg.AutosegError) as raised:
        call(dataset, plan, wrong)
    assert str(raised.value).startswith(f"this is of type {type(wrong).__name__}; it must be a")
    assert kind in str(raised.value)
    assert MADE_BY[kind] in str(raised.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("table", [autoseg.surface_table, autoseg.lesion_table, autoseg.evaluate])
@pytest.mark.parametrize("wrong", ["a/folder", None, 3, [3]])
def test_what_is_no_prediction_is_told_what_one_is(table, wrong, dataset):
    with pytest.raises(autoseg.AutosegError, match=r"does not say which case it predicts\. Give what predict\(\)"):
        table(wrong, dataset)


@pytest.mark.parametrize("compared", ["ab", {"one": 3, "two": 4}])
def test_what_is_no_prediction_cannot_be_compared(compared):
    with pytest.raises(autoseg.AutosegError, match="does not say which case it predicts"):
        autoseg.compare_predictions(compared)


@pytest.mark.parametrize("wrong", ["a/folder", None, 3])
def test_what_is_no_model_cannot_be_exported(wrong, tmp_path):
    with pytest.raises(autoseg.AutosegError, match="this is no trained model"):
        autoseg.export_nnunet_model(wrong, tmp_path)


def test_the_right_thing_passes_a_kind_derived_from_it_too(dataset):
    class Own(autoseg.Dataset):
        pass

    require(dataset, autoseg.Dataset, autoseg.AutosegError)
    own = object.__new__(Own)
    require(own, autoseg.Dataset, autoseg.AutosegError)
