"""Cases and folds as tasks of a real dask cluster of processes, one of which is killed in the middle."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from making import make_dataset
from models import random_model

import autoseg
from autoseg.core.cluster import on_workers
from autoseg.core.errors import StorageError
from autoseg.data.images import read_label_map
from autoseg.training.compute import choose_compute

distributed = pytest.importorskip("distributed", reason="pip install 'dask[distributed]'")
SHORT = autoseg.Blueprint.quick(minutes=1).changed(
    epochs=2, minutes=None, iterations_per_epoch=6, validation_iterations=1, base_features=4, precision="float32"
)


@pytest.fixture(autouse=True)
def one_thread():
    """As dask's workers have: more of them add up in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def client():
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return autoseg.open_dataset(make_dataset(tmp_path_factory.mktemp("data"), cases=5, shape=(16, 20, 24)))


@pytest.fixture(scope="module")
def plan(dataset):
    return autoseg.make_plan(autoseg.extract_fingerprint(dataset, show_progress=False))


def test_cases_are_prepared_as_without_a_cluster(client, dataset, plan, tmp_path):
    there = autoseg.preprocess(dataset, plan["3d_fullres"], folder=tmp_path, client=client, show_progress=False)
    here = autoseg.preprocess(dataset, plan["3d_fullres"], show_progress=False)
    assert there.key == here.key and there.cases == here.cases
    for name in here:
        np.testing.assert_array_equal(there[name].array, here[name].array)


def test_a_fault_in_a_case_is_raised_as_it_is_without_a_cluster(client, dataset, plan, tmp_path):
    (broken := tmp_path / "broken.nii.gz").write_text("not an image")
    bad = replace(dataset.training[0], image_paths=(broken,))
    faulty = replace(dataset, training=(bad, *dataset.training[1:]))
    with pytest.raises(autoseg.AutosegError, match=bad.name):
        autoseg.preprocess(faulty, plan["2d"], folder=tmp_path / "work", client=client, show_progress=False)


def test_a_killed_worker_costs_its_task_only(client, dataset, plan, tmp_path):
    over, killed = threading.Event(), []

    def kill_one_at_its_first_training():
        while not over.is_set():
            for worker, keys in client.processing().items():
                if any("train-" in str(key) for key in keys):
                    time.sleep(0.3)  # it is in the middle
                    killed.append(client.run(os.getpid, workers=[worker])[worker])
                    os.kill(killed[0], signal.SIGKILL)
                    return
            time.sleep(0.02)

    watch = threading.Thread(target=kill_one_at_its_first_training)
    watch.start()
    options = {"folds": [0, 1], "blueprint": SHORT, "show_progress": False}
    try:
        (there,) = autoseg.cross_validate(dataset, plan, ["2d"], folder=tmp_path / "work", client=client, **options)
    finally:
        over.set()
        watch.join()
    assert killed, "nobody was killed, so nothing was shown"
    (here,) = autoseg.cross_validate(dataset, plan, ["2d"], **options)
    assert there.evaluation.by_case == pytest.approx(here.evaluation.by_case)


def test_label_maps_are_those_without_a_cluster_and_one_broken_scan_stops_nothing(client, dataset, plan, tmp_path):
    prepared = autoseg.preprocess(dataset, plan["2d"], show_progress=False)
    model = autoseg.train(prepared, blueprint=SHORT, show_progress=False).model
    (broken := tmp_path / "broken.nii.gz").write_text("not an image")
    cases = [*dataset.training[:3], replace(dataset.training[3], image_paths=(broken,))]
    found = autoseg.predict(model, cases, folder=tmp_path / "out", client=client, show_progress=False)
    assert list(found.failed) == [cases[3].name]
    for prediction, same in zip(found, autoseg.predict(model, cases[:3], show_progress=False), strict=True):
        np.testing.assert_array_equal(prediction.label_map.array, same.label_map.array)
        stored = read_label_map(tmp_path / "out" / f"{prediction.case.name}.nii.gz", dataset.labels)
        np.testing.assert_array_equal(stored.array, same.label_map.array)


def test_without_a_shared_folder_nothing_begins(client, dataset, plan):
    with pytest.raises(StorageError, match=r"preprocess\(.*client=.*\) needs a folder that every worker sees"):
        autoseg.preprocess(dataset, plan["2d"], client=client)


def test_a_task_that_fails_now_and_then_is_tried_again(client, tmp_path):
    def fails_once(path):
        if not path.exists():
            path.touch()
            raise OSError("the network drive blinked")
        return path.name

    assert list(on_workers(client, fails_once, [tmp_path / "a", tmp_path / "b"], names=["x-a", "x-b"])) == ["a", "b"]


def test_a_training_holds_one_gpu_where_workers_declare_them():
    options = {"n_workers": 1, "threads_per_worker": 2, "processes": False, "dashboard_address": None}

    def task(number):
        begun = time.monotonic()
        time.sleep(0.1)
        return begun, time.monotonic()

    with distributed.LocalCluster(resources={"GPU": 1}, **options) as cluster, distributed.Client(cluster) as client:
        times = sorted(on_workers(client, task, [0, 1, 2], names=["t-0", "t-1", "t-2"], gpu=True))
    assert all(end <= begun for (_, end), (begun, _) in zip(times, times[1:], strict=False))


def test_a_predictor_that_is_sent_is_made_anew_on_the_device_of_the_worker(monkeypatch):
    from autoseg.prediction import predictor

    asked = []
    monkeypatch.setattr(
        predictor, "choose_compute", lambda device, precision: asked.append(device) or choose_compute("cpu", precision)
    )
    sent = pickle.loads(pickle.dumps(predictor.Predictor([[random_model()]], predictor.Options(), None)))
    assert asked == [None, None], "the device is chosen where it is used"
    case = autoseg.sample_dataset().test[0]
    assert sent(case).label_map.array.shape == case.image().grid.shape
