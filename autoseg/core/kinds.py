"""What a function takes: something else in its place is refused at once, with the call that makes the right thing."""

from __future__ import annotations

from autoseg.core.errors import AutosegError

MADE_BY = {
    "Dataset": "dataset = autoseg.open_dataset(folder)",
    "Case": 'case = dataset["name"]',
    "Fingerprint": "fingerprint = autoseg.extract_fingerprint(dataset)",
    "Plan": "plan = autoseg.make_plan(fingerprint)",
    "Configuration": 'configuration = plan["3d_fullres"]',
    "PreprocessedDataset": 'prepared = autoseg.preprocess(dataset, plan["3d_fullres"])',
    "Training": "training = autoseg.train(prepared)",
    "TrainedModel": "training.model, or autoseg.TrainedModel.load(path)",
    "Prediction": "predictions = autoseg.predict(training.model, cases)",
    "Evaluation": "evaluation = autoseg.evaluate(predictions, dataset)",
    "CrossValidation": "runs = autoseg.cross_validate(dataset, plan)",
}


def require(value: object, kind: type, error: type[AutosegError], how: str = "") -> None:
    """Raise an `error` where a value is not what a stage makes; `how` it is given, where that is the usual slip.

    >>> from autoseg.core.errors import DatasetError
    >>> require("data/hippocampus", autoseg.Dataset, DatasetError)
    Traceback (most recent call last):
    autoseg.core.errors.DatasetError: this is of type str; it must be a Dataset: dataset = autoseg.open_dataset(folder).
    """
    if not isinstance(value, kind):
        a = "an" if kind.__name__[0] in "AEIO" else "a"
        how = how or MADE_BY[kind.__name__]
        raise error(f"this is of type {type(value).__name__}; it must be {a} {kind.__name__}: {how}.")
