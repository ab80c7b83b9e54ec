"""What the examples in docstrings begin with: the names of `help(autoseg)`, from a training of seconds."""

from __future__ import annotations

from typing import Any

import pytest
from _pytest.doctest import DoctestItem

import autoseg


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, Any]]:
    """An empty folder and, kept in it, every stage of the embedded dataset."""
    folder = tmp_path_factory.mktemp("examples")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        dataset = autoseg.sample_dataset()
        fingerprint = autoseg.extract_fingerprint(dataset, show_progress=False)
        plan = autoseg.make_plan(fingerprint)
        prepared = autoseg.preprocess(dataset, plan["2d"], folder="work", show_progress=False)
        quick = autoseg.Blueprint.quick(minutes=1, base_features=8, batch_size=8, validation_cases=0)
        few = quick.changed(minutes=None, epochs=2, iterations_per_epoch=12, validation_iterations=1)
        training = autoseg.train(prepared, blueprint=few, show_progress=False)
        predictions = autoseg.predict(training.model, dataset.fold(0).validation, show_progress=False)
    return folder, {
        "autoseg": autoseg,
        "dataset": dataset,
        "fingerprint": fingerprint,
        "plan": plan,
        "prepared": prepared,
        "training": training,
        "predictions": predictions,
        "evaluation": autoseg.evaluate(predictions, dataset),
    }


@pytest.fixture(autouse=True)
def names_in_docstrings(
    request: pytest.FixtureRequest, doctest_namespace: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if isinstance(request.node, DoctestItem):
        folder, names = request.getfixturevalue("work")
        monkeypatch.chdir(folder)
        doctest_namespace.update(names)
