"""nnU-Net you can look inside: biomedical image segmentation that configures itself and says why.

    dataset     = autoseg.open_dataset("data/Task04_Hippocampus")
    fingerprint = autoseg.extract_fingerprint(dataset)
    plan        = autoseg.make_plan(fingerprint, autoseg.Budget(memory_gb=8))
    prepared    = autoseg.preprocess(dataset, plan["3d_fullres"], folder="work")
    training    = autoseg.train(prepared, fold=0, blueprint=autoseg.Blueprint.quick(minutes=5))
    predictions = autoseg.predict(training.model, dataset.fold(0).validation)
    evaluation  = autoseg.evaluate(predictions, dataset)

Examples begin with what these lines make. Every name below is loaded when it is first used, so that importing autoseg
costs nothing and planning needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autoseg.core.errors import AutosegError as AutosegError
    from autoseg.data.checks import check as check
    from autoseg.data.dataset import Case as Case
    from autoseg.data.dataset import Dataset as Dataset
    from autoseg.data.fingerprint import Fingerprint as Fingerprint
    from autoseg.data.fingerprint import extract_fingerprint as extract_fingerprint
    from autoseg.data.images import Image as Image
    from autoseg.data.images import LabelMap as LabelMap
    from autoseg.data.labels import Labels as Labels
    from autoseg.data.memory import dataset_from_arrays as dataset_from_arrays
    from autoseg.data.opening import open_dataset as open_dataset
    from autoseg.data.pairs import dataset_from_files as dataset_from_files
    from autoseg.data.samples import sample_dataset as sample_dataset
    from autoseg.data.samples import samples as samples
    from autoseg.display.explorers import compare_predictions as compare_predictions
    from autoseg.display.report import report as report
    from autoseg.evaluation.calibration import calibrate as calibrate
    from autoseg.evaluation.doubt import uncertainty as uncertainty
    from autoseg.evaluation.intervals import compare_evaluations as compare_evaluations
    from autoseg.evaluation.lesions import lesion_table as lesion_table
    from autoseg.evaluation.outside import outside_range as outside_range
    from autoseg.evaluation.result_card import result_card as result_card
    from autoseg.evaluation.scores import Evaluation as Evaluation
    from autoseg.evaluation.scores import evaluate as evaluate
    from autoseg.evaluation.selection import choose_best as choose_best
    from autoseg.evaluation.selection import cross_validate as cross_validate
    from autoseg.evaluation.surfaces import surface_table as surface_table
    from autoseg.evaluation.suspicious import suspicious_labels as suspicious_labels
    from autoseg.gym.exercises import exercise as exercise
    from autoseg.interop.bundle import export_bundle as export_bundle
    from autoseg.interop.downloads import download_dataset as download_dataset
    from autoseg.interop.models import open_models as open_models
    from autoseg.interop.nnunet_dataset import export_nnunet_dataset as export_nnunet_dataset
    from autoseg.interop.nnunet_edits import explain_plan as explain_plan
    from autoseg.interop.nnunet_export import export_nnunet_model as export_nnunet_model
    from autoseg.interop.nnunet_model import NnunetModel as NnunetModel
    from autoseg.interop.nnunet_model import open_nnunet_model as open_nnunet_model
    from autoseg.interop.nnunet_plans import fingerprint_from_nnunet as fingerprint_from_nnunet
    from autoseg.interop.nnunet_plans import fingerprint_to_nnunet as fingerprint_to_nnunet
    from autoseg.interop.nnunet_plans import plan_from_nnunet as plan_from_nnunet
    from autoseg.interop.nnunet_plans import plan_to_nnunet as plan_to_nnunet
    from autoseg.interop.portable import export_onnx as export_onnx
    from autoseg.interop.portable import export_torchscript as export_torchscript
    from autoseg.planning.budget import Budget as Budget
    from autoseg.planning.forecast import forecast as forecast
    from autoseg.planning.plan import Plan as Plan
    from autoseg.planning.planner import make_plan as make_plan
    from autoseg.prediction.inference import Prediction as Prediction
    from autoseg.prediction.inference import predict as predict
    from autoseg.preprocessing.store import PreprocessedDataset as PreprocessedDataset
    from autoseg.preprocessing.store import preprocess as preprocess
    from autoseg.training.blueprint import Blueprint as Blueprint
    from autoseg.training.cascade import previous_stage as previous_stage
    from autoseg.training.loop import Training as Training
    from autoseg.training.microscope import microscope as microscope
    from autoseg.training.model import TrainedModel as TrainedModel
    from autoseg.training.repeats import repeat as repeat
    from autoseg.training.running import finish as finish
    from autoseg.training.running import resume as resume
    from autoseg.training.running import train as train
    from autoseg.training.session import fit_session as fit_session
    from autoseg.training.session import probe_steps as probe_steps

__version__ = "0.1.0"

PUBLIC = {  # name: the module it lives in, in the order of the work
    "open_dataset": "data.opening",
    "dataset_from_files": "data.pairs",
    "dataset_from_arrays": "data.memory",
    "Dataset": "data.dataset",
    "Case": "data.dataset",
    "Image": "data.images",
    "LabelMap": "data.images",
    "Labels": "data.labels",
    "sample_dataset": "data.samples",
    "samples": "data.samples",
    "download_dataset": "interop.downloads",
    "check": "data.checks",
    "extract_fingerprint": "data.fingerprint",
    "Fingerprint": "data.fingerprint",
    "make_plan": "planning.planner",
    "Plan": "planning.plan",
    "Budget": "planning.budget",
    "forecast": "planning.forecast",
    "fit_session": "training.session",
    "probe_steps": "training.session",
    "exercise": "gym.exercises",
    "explain_plan": "interop.nnunet_edits",
    "fingerprint_from_nnunet": "interop.nnunet_plans",
    "fingerprint_to_nnunet": "interop.nnunet_plans",
    "plan_from_nnunet": "interop.nnunet_plans",
    "plan_to_nnunet": "interop.nnunet_plans",
    "preprocess": "preprocessing.store",
    "PreprocessedDataset": "preprocessing.store",
    "microscope": "training.microscope",
    "Blueprint": "training.blueprint",
    "train": "training.running",
    "Training": "training.loop",
    "finish": "training.running",
    "resume": "training.running",
    "repeat": "training.repeats",
    "previous_stage": "training.cascade",
    "TrainedModel": "training.model",
    "open_models": "interop.models",
    "predict": "prediction.inference",
    "Prediction": "prediction.inference",
    "evaluate": "evaluation.scores",
    "compare_evaluations": "evaluation.intervals",
    "surface_table": "evaluation.surfaces",
    "lesion_table": "evaluation.lesions",
    "uncertainty": "evaluation.doubt",
    "calibrate": "evaluation.calibration",
    "outside_range": "evaluation.outside",
    "suspicious_labels": "evaluation.suspicious",
    "result_card": "evaluation.result_card",
    "cross_validate": "evaluation.selection",
    "choose_best": "evaluation.selection",
    "Evaluation": "evaluation.scores",
    "compare_predictions": "display.explorers",
    "open_nnunet_model": "interop.nnunet_model",
    "NnunetModel": "interop.nnunet_model",
    "export_nnunet_dataset": "interop.nnunet_dataset",
    "export_nnunet_model": "interop.nnunet_export",
    "export_bundle": "interop.bundle",
    "export_onnx": "interop.portable",
    "export_torchscript": "interop.portable",
    "report": "display.report",
    "AutosegError": "core.errors",
}

__all__ = list(PUBLIC)


def __getattr__(name: str) -> Any:
    """Load a public name on first use; PEP 562."""
    if name not in PUBLIC:
        from autoseg.core.errors import did_you_mean

        raise AttributeError(f"module 'autoseg' has no attribute {name!r}. {did_you_mean(name, PUBLIC)}")
    return getattr(import_module(f"autoseg.{PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*PUBLIC, "__version__"])
