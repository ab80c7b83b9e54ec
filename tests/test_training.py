"""A training can be watched, stopped, and gone on with; what it leaves can predict."""

from __future__ import annotations

import itertools
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_trainings import boxes, configuration, same, short

from autoseg.core.errors import DatasetError, ModelError, StorageError, TrainingError
from autoseg.data.labels import Labels
from autoseg.data.opening import open_dataset
from autoseg.data.samples import sample_dataset
from autoseg.prediction.sliding_window import Window, predict_logits
from autoseg.preprocessing.store import preprocess
from autoseg.training.compute import choose_compute
from autoseg.training.loop import Training
from autoseg.training.model import TrainedModel
from autoseg.training.patches import draw_patches
from autoseg.training.running import finish, resume, train


def test_a_bright_box_is_learned():
    training = train(boxes(), blueprint=short(epochs=8, iterations_per_epoch=40), show_progress=False)
    assert training.finished
    assert training.history.epochs[-1].mean_pseudo_dice > 0.9
    assert training.history.epochs[-1].training_loss < training.history.epochs[0].training_loss


@pytest.mark.parametrize(
    "blueprint", [short(), short(optimizer="sgd", deep_supervision=True, weight_averaging=0.0, mirroring=True)]
)
def test_the_same_seed_trains_the_same_weights(blueprint):
    first, second = (train(boxes(), blueprint=blueprint, show_progress=False).model for _ in range(2))
    assert same(first, second)
    assert not same(first, train(boxes(), blueprint=blueprint.changed(seed=1), show_progress=False).model)


@pytest.mark.parametrize(
    "labels",
    [
        Labels({"background": 0, "box": 1, "core": 2}),
        Labels({"background": 0, "whole": (1, 2), "core": 2}, region_order=(1, 2)),
        Labels({"background": 0, "box": 1}, ignore=2),
    ],
    ids=["labels", "regions", "ignore"],
)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_labels_regions_and_ignore_train_in_2d_and_3d(labels, dimensions):
    prepared = boxes(configuration(labels, dimensions), values=(1, 2))
    training = train(prepared, blueprint=short(deep_supervision=True), show_progress=False)
    assert np.isfinite(training.history.epochs[-1].training_loss)
    assert len(training.history.epochs[-1].pseudo_dice) == len(labels.regions)


def test_leaving_the_loop_keeps_what_was_learned_and_a_new_loop_goes_on():
    interrupted, whole = (Training(boxes(), blueprint=short(epochs=4)) for _ in range(2))
    for _ in itertools.islice(interrupted, 2):
        pass
    assert interrupted.model.history.epochs[-1].number == 1
    assert not interrupted.finished
    list(interrupted)
    list(whole)
    assert same(interrupted.model, whole.model)


def test_a_run_that_was_cut_goes_on_from_the_folder_to_the_same_weights(tmp_path):
    blueprint = short(epochs=4)
    whole = train(boxes(), blueprint=blueprint, show_progress=False)
    for _ in itertools.islice(Training(boxes(), blueprint=blueprint, folder=tmp_path), 2):
        pass
    again = Training(boxes(), blueprint=blueprint, folder=tmp_path)
    assert len(again.history) == 2
    list(again)
    assert same(again.model, whole.model)


def test_a_finished_run_is_not_trained_again(tmp_path):
    first = train(boxes(), blueprint=short(), folder=tmp_path, show_progress=False)
    second = Training(boxes(), blueprint=short(), folder=tmp_path)
    assert second.finished
    assert list(second) == []
    assert same(first.model, second.model)
    assert sorted(p.name for p in first.folder.iterdir()) == [
        "example.safetensors",
        "model.json",
        "run.json",
        "weights.safetensors",
    ]


def test_a_run_goes_on_from_its_folder_alone(tmp_path):
    def prepared():
        dataset = open_dataset(sample_dataset().folder)
        some = dataset.without(*[case.name for case in dataset.training[6:]])
        plan = configuration(dataset.labels, median_shape=(40.0,) * 3, channels=dataset.channels)
        return preprocess(some, plan, folder=tmp_path, show_progress=False)

    whole = train(prepared(), blueprint=short(), folder=tmp_path / "other", show_progress=False)
    for _ in itertools.islice(Training(prepared(), blueprint=short()), 1):
        pass
    again = resume(tmp_path / "runs" / "3d_fullres" / "fold_0")
    assert len(again.history) == 1
    assert same(finish(again, show_progress=False).model, whole.model)


def test_a_run_whose_folder_was_moved_goes_on_from_where_it_is(tmp_path, monkeypatch):
    dataset = open_dataset(sample_dataset().folder)
    some = dataset.without(*[case.name for case in dataset.training[6:]])
    plan = configuration(dataset.labels, median_shape=(40.0,) * 3, channels=dataset.channels)
    prepared = preprocess(some, plan, folder=tmp_path / "there", show_progress=False)
    next(iter(Training(prepared, blueprint=short())))
    (tmp_path / "there").rename(tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here" / "runs" / "3d_fullres")
    again = finish(resume("fold_0"), show_progress=False)
    assert (len(again.history), again.folder) == (2, tmp_path / "here" / "runs" / "3d_fullres" / "fold_0")


def test_a_folder_without_a_run_cannot_be_resumed(tmp_path):
    with pytest.raises(TrainingError, match="holds no training run"):
        resume(tmp_path)
    train(boxes(), blueprint=short(), folder=tmp_path, show_progress=False)
    with pytest.raises(TrainingError, match="the preprocessed data of this run were only in memory"):
        resume(tmp_path / "runs" / "3d_fullres" / "fold_0")


def test_another_blueprint_moves_a_training_aside_and_none_is_lost(tmp_path):
    """Finished or not, each call finds its own again."""
    first = train(boxes(), blueprint=short(), folder=tmp_path, show_progress=False)
    with pytest.warns(UserWarning, match=r"held another training, of other data or .* kept as earlier_fold_0_"):
        second = Training(boxes(), blueprint=short(epochs=4, seed=7), folder=tmp_path)
    assert len(second.history) == 0
    next(iter(second))
    with pytest.warns(UserWarning, match="earlier_fold_0_"):
        again = Training(boxes(), blueprint=short(), folder=tmp_path)
    assert again.finished
    assert same(again.model, first.model)
    with pytest.warns(UserWarning, match="earlier_fold_0_"):
        assert len(Training(boxes(), blueprint=short(epochs=4, seed=7), folder=tmp_path).history) == 1
    assert len(list(first.folder.parent.iterdir())) == 2


def test_an_interrupted_cell_leaves_a_model_that_predicts(tmp_path):
    class Interrupting:
        calls = 0

        def __call__(self, volumes, request, random):
            type(self).calls += 1
            if type(self).calls > 7:
                raise KeyboardInterrupt
            return draw_patches(volumes, request, random)

    blueprint = short(epochs=50, sampler=Interrupting())
    with pytest.warns(UserWarning, match="interrupted after 1 epochs. training.model can predict"):
        training = train(boxes(), blueprint=blueprint, folder=tmp_path, show_progress=False)
    logits = predict_logits(
        training.model.network(),
        np.zeros((1, 12, 12, 12), np.float32),
        Window(patch_size=(8, 8, 8)),
        choose_compute("cpu"),
    )
    assert logits.shape == (2, 12, 12, 12)


def test_a_budget_of_minutes_is_kept():
    training = train(boxes(), blueprint=short(epochs=None, minutes=0.05), show_progress=False)
    assert training.finished
    assert training.seconds < 0.05 * 60 * 1.5
    assert training.history.epochs[-1].learning_rate < 0.2 * training.blueprint.learning_rate


def test_however_short_the_time_there_is_one_step(tmp_path):
    training = train(boxes(), blueprint=short(epochs=None, minutes=1e-6), folder=tmp_path, show_progress=False)
    assert (training.iterations, len(training.epochs), training.finished) == (1, 1, True)
    assert same(TrainedModel.load(training.folder), training.model)


def test_reading_the_cases_is_no_part_of_what_a_step_costs():
    """Else a budget would end early for fear of reading a large dataset once more."""
    training = Training(boxes(), blueprint=short())
    read = training.feed._volume

    def slowly(name):
        time.sleep(0.2)
        return read(name)

    training.feed._volume = slowly
    record = training.run_epoch()
    assert record.timings["reading"] > 0.2 * 6
    assert record.step_seconds * record.iterations < record.seconds - 0.2 * 6


def test_a_loss_that_is_no_number_stops_with_advice():
    broken = short(loss=lambda logits, target: logits.sum() * float("nan"))
    with pytest.raises(TrainingError, match=r"the loss became nan in iteration 0 .* Try a third of the rate"):
        train(boxes(), blueprint=broken, show_progress=False)


def test_own_network_and_loss_are_used_and_asked_back_on_loading(tmp_path):
    def tiny(spec):
        return torch.nn.Conv3d(spec.in_channels, spec.classes, 3, padding=1)

    model = train(boxes(), blueprint=short(network=tiny), show_progress=False).model
    assert set(model.weights) == {"weight", "bias"}
    model.save(tmp_path)
    with pytest.raises(ModelError, match=r"your own component 'tiny'.*components=\{'tiny': tiny\}"):
        TrainedModel.load(tmp_path)
    assert same(TrainedModel.load(tmp_path, components={"tiny": tiny}), model)


def test_a_model_comes_back_from_its_folder(tmp_path):
    model = train(boxes(), blueprint=short(), show_progress=False).model
    loaded = TrainedModel.load(model.save(tmp_path))
    assert same(loaded, model)
    assert (loaded.configuration, loaded.blueprint, loaded.fold) == (model.configuration, model.blueprint, 0)
    assert loaded.history.epochs == model.history.epochs


def test_models_that_cannot_be_read_are_said_to_be_so(tmp_path):
    with pytest.raises(ModelError, match=r"holds no finished model: model.json and weights.safetensors missing"):
        TrainedModel.load(tmp_path)
    train(boxes(), blueprint=short(), show_progress=False).model.save(tmp_path)
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(ModelError, match="damaged or cut short"):
        TrainedModel.load(tmp_path)


def test_weights_of_another_plan_are_refused():
    model = train(boxes(), blueprint=short(), show_progress=False).model
    wider = replace(model, blueprint=model.blueprint.changed(base_features=8))
    with pytest.raises(ModelError, match="the weights do not fit the network of '3d_fullres'"):
        wider.network()


def test_a_checkpoint_in_the_middle_of_an_epoch_goes_on_to_the_same_weights(tmp_path):
    class Stopping:
        def __init__(self, after):
            self.left = after

        def __call__(self, volumes, request, random):
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            return draw_patches(volumes, request, random)

    whole = train(boxes(), blueprint=short(epochs=3), show_progress=False)
    cut = Training(boxes(), blueprint=short(epochs=3), folder=tmp_path)
    cut.checkpoint_seconds = 0.0
    cut.feed.sampler = Stopping(6)  # two validation batches and four training steps: one into the second epoch
    with pytest.raises(KeyboardInterrupt):
        list(cut)
    again = Training(boxes(), blueprint=short(epochs=3), folder=tmp_path)
    assert (len(again.history), len(again.losses)) == (1, 1)
    list(again)
    assert same(again.model, whole.model)


def test_a_drive_that_is_gone_warns_and_training_goes_on(tmp_path):
    training = Training(boxes(), blueprint=short(), folder=tmp_path / "drive")
    shutil.rmtree(tmp_path / "drive")
    (tmp_path / "drive").write_text("gone")
    with pytest.warns(UserWarning, match="training goes on in memory, but could not be saved: cannot write"):
        list(training)
    assert training.finished


def test_an_unwritable_folder_is_named(tmp_path):
    (tmp_path / "runs").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write"):
        train(boxes(), blueprint=short(), folder=tmp_path, show_progress=False)


@pytest.mark.parametrize(
    ("fold", "error", "message"),
    [(9, DatasetError, "fold 9 does not exist"), ("some", TrainingError, "must be a number such as 0, or 'all'")],
)
def test_unknown_folds_are_refused(fold, error, message):
    with pytest.raises(error, match=message):
        Training(boxes(), fold=fold)


def test_the_fold_all_trains_on_every_case():
    assert Training(boxes(), fold="all").feed.training_names == tuple(f"case_{i}" for i in range(6))


def test_devices_that_are_not_there_are_refused():
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(TrainingError, match="the device 'cuda' is not there"):
        Training(boxes(), device="cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float16", "bfloat16", "float32"])
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_goes_on_from_a_checkpoint_in_every_precision(tmp_path, precision):
    blueprint = short(epochs=4, precision=precision)
    next(iter(Training(boxes(), blueprint=blueprint, device="cuda", folder=tmp_path)))
    again = Training(boxes(), blueprint=blueprint, device="cuda", folder=tmp_path)
    list(again)
    assert len(again.history) == 4
    assert np.isfinite(again.epochs[-1].training_loss)
    assert set(again.epochs[-1].timings) >= {"patches", "augmentation", "forward", "backward", "update"}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_full_gpu_says_what_would_fit():
    def greedy(volumes, request, random):
        torch.zeros(1 << 50, device="cuda")
        return draw_patches(volumes, request, random)

    with pytest.raises(TrainingError, match=r"cuda ran out of memory .* blueprint.changed"):
        list(Training(boxes(), blueprint=short(sampler=greedy, batch_size=8), device="cuda"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_it_trains_on_a_gpu():
    training = train(boxes(), blueprint=short(precision="auto"), device="cuda", show_progress=False)
    assert np.isfinite(training.history.epochs[-1].training_loss)
