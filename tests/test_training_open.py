"""Training takes parts of one's own, begins with other weights, tells loggers, and says what it saw."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_trainings import boxes, configuration, same, short

import autoseg
from autoseg.core.errors import StorageError, TrainingError
from autoseg.data.labels import Labels
from autoseg.prediction.inference import Predictions
from autoseg.training.augmentation import Augmentation
from autoseg.training.blueprint import Blueprint
from autoseg.training.compute import Compute, choose_compute
from autoseg.training.learner import Learner
from autoseg.training.loop import Training
from autoseg.training.patches import draw_patches
from autoseg.training.running import finish, train
from autoseg.training.sampled import count_labels

WIDTH = 4
TWO = Labels({"background": 0, "box": 1, "core": 2})


def test_a_network_of_monai_trains_and_comes_back(tmp_path):
    def segresnet(spec):
        from monai.networks.nets import SegResNet

        return SegResNet(spec.dimensions, 8, in_channels=spec.in_channels, out_channels=spec.classes, dropout_prob=0.2)

    blueprint = short(epochs=3, iterations_per_epoch=8, network=segresnet)
    training = train(boxes(), blueprint=blueprint, folder=tmp_path, show_progress=False)
    assert training.epochs[-1].training_loss < training.epochs[0].training_loss
    loaded = autoseg.TrainedModel.load(training.folder, components={"segresnet": segresnet})
    assert same(loaded, training.model)
    again = train(boxes(), blueprint=blueprint, show_progress=False)
    assert same(again.model, training.model), "dropout is drawn from the seed, too"


def test_a_transformer_of_monai_trains():
    pytest.importorskip("einops", reason="MONAI's SwinUNETR needs it")

    def swin_unetr(spec):
        from monai.networks.nets import SwinUNETR

        return SwinUNETR(spec.in_channels, spec.classes, spatial_dims=spec.dimensions, feature_size=12)

    flat = configuration(dimensions=2)
    large = replace(flat.augmentation, initial_patch_size=(70, 70))
    config = replace(flat, patch_size=(64, 64), augmentation=large)
    training = train(boxes(config), blueprint=short(epochs=1, network=swin_unetr), show_progress=False)
    assert np.isfinite(training.epochs[-1].training_loss)


def test_own_augmentation_and_schedule_are_used_and_asked_back(tmp_path):
    seen = []

    def black(batch, settings, patch, random):
        images, labels = Augmentation()(batch, settings, patch, random)
        return images * 0, labels

    def stairs(progress):
        seen.append(progress)
        return 1.0 if progress < 0.5 else 0.1

    blueprint = short(augmentation=black, schedule=stairs)
    training = train(boxes(), blueprint=blueprint, folder=tmp_path, show_progress=False)
    assert [round(e.learning_rate, 6) for e in training.epochs] == [3e-3, 3e-4]
    assert seen[0] == 0
    with pytest.raises(autoseg.AutosegError, match="your own component '(black|stairs)'"):
        autoseg.TrainedModel.load(training.folder)
    assert autoseg.TrainedModel.load(training.folder, components={"black": black, "stairs": stairs}).fold == 0
    images, _ = training.feed.augment(training.feed.draw(training.random), training.random)
    assert not images.any()


def test_a_network_with_the_wrong_output_is_refused():
    def coarse(spec):
        return torch.nn.Conv3d(spec.in_channels, 7, 2, stride=2)

    with pytest.raises(TrainingError, match=r"returned \(2, 7, 4, 4, 4\) .* must return logits of \(2, 2, 8, 8, 8\)"):
        train(boxes(), blueprint=short(network=coarse), show_progress=False)


def test_an_augmentation_that_forgets_to_cut_is_refused():
    def nothing(batch, settings, patch, random):
        return batch

    with pytest.raises(TrainingError, match=r"returned \(\(2, 1, 10, 10, 10\), .* cut to the patch, \(8, 8, 8\)"):
        train(boxes(), blueprint=short(augmentation=nothing), show_progress=False)


def test_what_is_chosen_by_the_user_is_said_to_be():
    trace = short(learning_rate=0.5, schedule=lambda progress: 1.0).trace
    assert {d.name for d in trace if d.reason == "chosen by you"} >= {"learning_rate", "schedule"}
    assert trace["optimizer"].kind == "fixed"


def test_each_epoch_is_told_to_callbacks_in_plain_numbers():
    told = []
    training = train(boxes(), blueprint=short(), callbacks=[told.append], show_progress=False)
    assert told == list(training.epochs)
    names = {"seconds", "training_loss", "validation_loss", "learning_rate", "mean_pseudo_dice", "mean_case_dice"}
    assert set(told[-1].numbers) == names
    assert all(isinstance(value, float) for value in told[-1].numbers.values())


def test_one_callback_needs_no_list():
    told = []
    training = train(boxes(), blueprint=short(), callbacks=told.append, show_progress=False)
    finish(training, callbacks=told.append, show_progress=False)
    assert told == training.epochs


@pytest.mark.parametrize("wrong", [None, [1], "print", 3])
def test_callbacks_that_are_no_functions_are_refused_before_an_epoch_is_trained(wrong):
    training = Training(boxes(), blueprint=short())
    for verb, what in ((finish, training), (train, boxes())):
        with pytest.raises(
            TrainingError, match=r"callbacks=.* is no function and no list of functions\. Each is called"
        ):
            verb(what, callbacks=wrong, show_progress=False)
    assert not training.iterations


@pytest.mark.parametrize("wrong", ["2", None, 1.5, [0, 1]])
def test_gpus_are_a_number(wrong):
    with pytest.raises(TrainingError, match=rf"gpus=.* is of type {type(wrong).__name__}; it is a number of GPUs"):
        train(boxes(), blueprint=short(), gpus=wrong)


@pytest.mark.parametrize("wrong", [{}, {"epochs": 2}, "nnunet", Blueprint, Blueprint.nnunet])
def test_what_is_no_blueprint_is_named(wrong):
    for verb in (train, Training, lambda *given, **options: autoseg.repeat(*given, 2, **options)):
        with pytest.raises(TrainingError, match=rf"blueprint is of type {type(wrong).__name__}; give one such as"):
            verb(boxes(), blueprint=wrong)


def test_a_dataset_is_not_trained_on_before_it_is_preprocessed():
    dataset = autoseg.dataset_from_arrays([np.zeros((4, 5, 6))], [np.zeros((4, 5, 6), int)])
    for verb in (train, Training):
        with pytest.raises(
            TrainingError, match=r"of type Dataset; .*: prepared = autoseg\.preprocess\(dataset, plan\["
        ):
            verb(dataset)


def test_fine_tuning_takes_over_what_fits_and_says_what_does_not(tmp_path):
    model = train(boxes(), blueprint=short(), show_progress=False).model
    tuned = Training(boxes(configuration(TWO), values=(1, 2)), blueprint=short(seed=5), start_from=model)
    left = {m.name: m.outcome for m in tuned.transfer.left}
    assert left == {"heads.0.weight": "other shape", "heads.0.bias": "other shape"}
    assert all(
        torch.equal(tensor, model.weights[name]) for name, tensor in tuned.model.weights.items() if name not in left
    )
    assert "fresh: heads.0.weight (other shape: 2x4x1x1x1 there, 3x4x1x1x1 here)" in repr(tuned.transfer)
    assert tuned.transfer.table().outcome.value_counts()["taken"] == tuned.transfer.taken
    list(tuned)
    assert tuned.epochs[-1].number == 1


def test_fine_tuning_goes_on_from_its_folder(tmp_path):
    model = train(boxes(), blueprint=short(), show_progress=False).model
    whole = train(boxes(), blueprint=short(seed=5), start_from=model, show_progress=False)
    Training(boxes(), blueprint=short(seed=5), start_from=model, folder=tmp_path)  # killed before its first step
    again = Training(boxes(), blueprint=short(seed=5), folder=tmp_path, start_from=whole.transfer)  # as resume does
    list(again)
    assert same(again.model, whole.model)
    with pytest.raises(TrainingError, match="holds no checkpoint, and the weights it began with .* start_from=model"):
        Training(boxes(), blueprint=short(seed=5), folder=tmp_path / "elsewhere", start_from=whole.transfer)
    other = Training(boxes(), blueprint=short(seed=5), folder=tmp_path)
    assert not other.epochs, "a run that began otherwise is another run"


def test_a_model_of_which_nothing_fits_is_refused():
    model = train(boxes(), blueprint=short(), show_progress=False).model
    with pytest.raises(TrainingError, match=r"no weight of the model .*changed\(base_features=4\)"):
        Training(boxes(configuration(dimensions=2)), blueprint=short(base_features=6), start_from=model)


def test_repeats_show_the_spread(tmp_path):
    repeats = autoseg.repeat(boxes(), 3, blueprint=short(seed=2), folder=tmp_path, show_progress=False)
    assert repeats.seeds == (2, 3, 4)
    assert repeats.spread == pytest.approx(np.std(repeats.values, ddof=1))
    assert len(set(repeats.values)) > 1
    again = autoseg.repeat(boxes(), 3, blueprint=short(seed=2), folder=tmp_path, show_progress=False)
    assert again.values == repeats.values
    assert "±" in again._repr_html_()
    with pytest.raises(TrainingError, match="1 training shows no spread"):
        autoseg.repeat(boxes(), 1)


@pytest.mark.filterwarnings("ignore:training was interrupted")
@pytest.mark.parametrize("step", [2, 5])
def test_an_interruption_stops_all_repeats(tmp_path, monkeypatch, step):
    steps, update = iter(range(1, 1000)), Learner.update

    def interrupted(*arguments):
        if next(steps) == step:
            raise KeyboardInterrupt
        return update(*arguments)

    monkeypatch.setattr(Learner, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        autoseg.repeat(boxes(), 2, blueprint=short(), folder=tmp_path, show_progress=False)
    assert [place.name for place in tmp_path.iterdir()] == ["seed_0"]
    assert all(t.finished for t in autoseg.repeat(boxes(), 2, blueprint=short(), folder=tmp_path, show_progress=False))


@pytest.mark.parametrize("n", ["3", None, 2.5])
def test_the_number_of_repeats_is_a_number(n):
    with pytest.raises(TrainingError, match="it is how many seeds to train with"):
        autoseg.repeat(boxes(), n, blueprint=short())


def test_what_was_sampled_is_counted():
    def only_two(volumes, request, random):
        some = {name: volumes[name] for name in list(volumes)[:2]}
        return draw_patches(some, request, random)

    training = train(boxes(), blueprint=short(sampler=only_two), show_progress=False)
    sampled = training.sampled
    assert sampled.patches == 2 * 3 * 2
    assert sampled.voxels == sampled.patches * 8**3
    assert set(sampled.cases) == {"case_0", "case_1"} & set(training.feed.training_names) or len(sampled.cases) == 2
    assert sum(sampled.cases.values()) == sampled.patches
    assert [e.patches for e in training.epochs] == [6, 6]
    assert sampled.table().share_of_patches[0] == sampled.patch_shares[0]


def test_regions_are_counted_as_unions_and_ignored_voxels_as_none():
    labels = Labels({"background": 0, "whole": (1, 2), "core": 2}, region_order=(1, 2), ignore=3)
    counted = count_labels(torch.tensor([[1, 2, 3, 0], [3, 3, 3, 3]]), ["a", "a"], labels)
    assert (counted.holding, counted.labelled, counted.cases) == ((1, 1), (2, 1), {"a": 2})


def test_whole_cases_are_validated_at_intervals_and_not_where_nobody_wants_it():
    training = train(boxes(), blueprint=short(epochs=3), show_progress=False)
    assert [len(e.case_dice) for e in training.epochs] == [1, 1, 1]
    silent = train(boxes(), blueprint=short(epochs=3, validation_cases=0), show_progress=False)
    assert silent.history.validated == ()
    long = Training(boxes(), blueprint=short(epochs=1000))
    due = []
    for number in range(120):
        due += [number] if long.whole_cases.due(long.epochs, 0.0) else []
        long.epochs.append(training.epochs[0])
    assert due == [49, 99]


def test_the_dice_of_whole_cases_is_what_prediction_gets():
    """On the plan's grid, which is the cases' own here."""
    training = train(
        boxes(), blueprint=short(epochs=4, iterations_per_epoch=30, validation_cases=1), show_progress=False
    )
    name = training.feed.validation_names[0]
    from autoseg.prediction.sliding_window import Window, predict_logits

    case = training.prepared[name]
    logits = predict_logits(training.model.network(), case.array, Window(patch_size=(8, 8, 8)), training.compute)
    predicted, true = logits.argmax(0).numpy() == 1, case.label == 1
    dice = 2 * (predicted & true).sum() / (predicted.sum() + true.sum())
    assert training.epochs[-1].case_dice == pytest.approx((dice,))
    assert dice > 0.5


def test_the_example_is_kept_after_powers_of_two_and_comes_back(tmp_path):
    training = train(boxes(), blueprint=short(epochs=6), folder=tmp_path, show_progress=False)
    example = training.example
    assert example.epochs == (0, 1, 3, 5)
    assert (example.reference > 0).any()
    opened = Training(boxes(), blueprint=short(epochs=6), folder=tmp_path)
    assert opened.example.epochs == example.epochs
    assert all(torch.equal(a, b) for a, b in zip(opened.example.predictions, example.predictions, strict=True))
    assert opened.sampled == training.sampled
    assert "after epoch 5" in opened._repr_html_()


def test_time_left_is_told_once_an_epoch_gives_a_measure():
    training = Training(boxes(), blueprint=short(epochs=4))
    assert training.seconds_left is None
    training.run_epoch()
    assert training.seconds_left == pytest.approx(3 * training.seconds)
    list(training)
    assert training.seconds_left == 0


def test_a_terminal_gets_a_line_an_epoch(capsys):
    model = train(boxes(), blueprint=short(), show_progress=False).model
    finish(Training(boxes(), blueprint=short(), start_from=model))
    lines = capsys.readouterr().err
    assert "16 of 16 weights taken over" in lines
    assert "epoch 0: loss" in lines
    assert "epoch 1: loss" in lines
    assert "6/6" in lines


@pytest.mark.parametrize(
    ("capability", "precision", "why"),
    [
        ((9, 0), "bfloat16", "computes bfloat16 fast"),
        ((7, 5), "float16", "so the loss is scaled"),
        ((6, 1), "float32", "slow"),
    ],
)
def test_a_gpu_computes_in_what_it_is_fast_in(monkeypatch, capability, precision, why):
    """The answers of a driver that is not here."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    compute = choose_compute("cuda")
    assert compute.precision == precision
    assert why in compute.reason


def test_apples_gpu_gets_what_it_can_do():
    compute = Compute(device=torch.device("mps"), precision="float32", reason="")
    assert compute.augmenting_device.type == "cpu"
    assert compute.memory_format(3) == torch.contiguous_format
    with compute.autocast():
        assert not torch.is_autocast_enabled("cpu")


def test_float16_with_scaled_losses_trains_and_its_scale_comes_back(tmp_path):
    """On a CPU float16 is slow, but it is the same code as on a T4."""
    blueprint = short(precision="float16", epochs=4)
    whole = train(boxes(), blueprint=blueprint, show_progress=False)
    assert whole.learner.scaler.is_enabled()
    assert whole.epochs[-1].training_loss < whole.epochs[0].training_loss
    next(iter(Training(boxes(), blueprint=blueprint, folder=tmp_path)))
    again = Training(boxes(), blueprint=blueprint, folder=tmp_path)
    list(again)
    assert again.learner.scaler.get_scale() == whole.learner.scaler.get_scale()
    assert same(again.model, whole.model)


def test_only_who_asks_gets_a_compiled_network():
    learner = Training(boxes(), blueprint=short()).learner
    assert learner.called is learner.network


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_a_compiled_network_trains_and_keeps_plain_names():
    training = train(boxes(), blueprint=short(compiled=True), show_progress=False)
    assert training.learner.called is not training.learner.network
    assert not any("_orig_mod" in name for name in training.model.weights)
    assert np.isfinite(training.epochs[-1].training_loss)


def test_an_edited_loss_of_the_same_name_is_told(tmp_path, recwarn):
    def first(logits, target):
        return torch.nn.functional.cross_entropy(logits.float(), target)

    def second(logits, target):
        return 2 * torch.nn.functional.cross_entropy(logits.float(), target)

    second.__name__ = first.__name__
    train(boxes(), blueprint=short(loss=first), folder=tmp_path, show_progress=False)
    train(boxes(), blueprint=short(loss=first), folder=tmp_path, show_progress=False)
    assert not [w for w in recwarn if "changed since" in str(w.message)]
    with pytest.warns(UserWarning, match="first changed since the run in .* began"):
        train(boxes(), blueprint=short(loss=second), folder=tmp_path, show_progress=False)


def weighted(w):
    def loss(logits, target):
        return torch.nn.functional.cross_entropy(logits, target, weight=torch.tensor([1.0, w]))

    return loss


@pytest.mark.filterwarnings("ignore:.*held another training")
def test_a_loss_with_another_strength_is_another_training(tmp_path):
    first = train(boxes(), blueprint=short(loss=weighted(1.0)), folder=tmp_path, show_progress=False)
    other = train(boxes(), blueprint=short(loss=weighted(100.0)), folder=tmp_path, show_progress=False)
    assert not same(first.model, other.model)
    again = Training(boxes(), blueprint=short(loss=weighted(1.0)), folder=tmp_path)
    assert again.finished and same(again.model, first.model)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_loss_gets_float32_and_its_weights_are_on_the_device(precision):
    devices = []

    class Loss(torch.nn.CrossEntropyLoss):
        def to(self, device):
            devices.append(device)
            return super().to(device)

    loss = Loss(weight=torch.tensor([1.0, 5.0]))
    training = train(boxes(), blueprint=short(epochs=1, loss=loss, precision=precision), show_progress=False)
    assert np.isfinite(training.epochs[-1].training_loss)
    assert devices == [training.compute.device]


def of_width(width):
    def network(spec):
        layers = (torch.nn.Conv3d(spec.in_channels, width, 1), torch.nn.Conv3d(width, spec.classes, 1))
        return torch.nn.Sequential(*layers)

    return network


@pytest.mark.filterwarnings("ignore:.*held another training")
def test_a_network_of_another_width_is_another_training(tmp_path):
    for width in (4, 8):
        training = train(boxes(), blueprint=short(network=of_width(width)), folder=tmp_path, show_progress=False)
        assert len(training.model.weights["0.bias"]) == width


def test_a_finished_model_that_does_not_fit_an_edited_network_is_named(tmp_path, monkeypatch):
    def network(spec):
        return of_width(WIDTH)(spec)

    monkeypatch.setitem(globals(), "WIDTH", 4)
    train(boxes(), blueprint=short(network=network), folder=tmp_path, show_progress=False)
    monkeypatch.setitem(globals(), "WIDTH", 8)
    with pytest.raises(StorageError, match=r"fold_0 do not fit the network of this training: size mismatch.* Delete"):
        Training(boxes(), blueprint=short(network=network), folder=tmp_path)


def test_a_run_does_not_go_on_with_a_component_that_holds_other_values(tmp_path):
    data = autoseg.sample_dataset("few_cases")
    plan = autoseg.make_plan(autoseg.extract_fingerprint(data, show_progress=False))
    prepared = autoseg.preprocess(data, plan["2d"], folder=tmp_path, show_progress=False)
    folder = train(prepared, blueprint=short(epochs=1, loss=weighted(2.0)), show_progress=False).folder
    with pytest.raises(TrainingError, match="loss holds other values than when the run in .* began"):
        autoseg.resume(folder, components={"loss": weighted(1.0)})
    assert autoseg.resume(folder, components={"loss": weighted(2.0)}).finished


@pytest.mark.parametrize("wrong", ["model.safetensors", {}, ["model"]])
def test_only_a_model_can_be_started_from(wrong):
    with pytest.raises(TrainingError, match="it must be a model: training.model, or"):
        Training(boxes(), blueprint=short(), start_from=wrong)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda logits, _target: 0.5, "the loss returned 0.5; it must return a tensor with one number"),
        (lambda logits, _target: logits.mean((1, 2, 3, 4)), r"a tensor of shape \(2,\)"),
        (lambda logits, _target: None, "the loss returned None"),
        (lambda logits, _target: logits.mean().detach(), "depends on no weight: it was detached"),
    ],
)
def test_a_loss_that_cannot_be_differentiated_is_named(loss, message):
    with pytest.raises(TrainingError, match=message):
        train(boxes(), blueprint=short(loss=loss), show_progress=False)


@pytest.mark.parametrize("factor", [None, -1.0, float("nan"), float("inf")])
def test_a_schedule_that_returns_no_share_is_named(factor):
    with pytest.raises(TrainingError, match="the schedule returned .* at a progress of 0"):
        train(boxes(), blueprint=short(schedule=lambda _progress: factor), show_progress=False)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (lambda spec: None, "network made a NoneType; it must return a torch.nn.Module with weights"),
        (lambda spec: torch.nn.Identity(), "network made a network without weights"),
        (lambda spec: torch.nn.Conv2d(1, spec.classes, 1), "weight is of 2D convolutions, and the patches have 3 dim"),
        (lambda spec: torch.nn.Conv3d(7, spec.classes, 1), r"does not take images of .* 7 channels.*spec.in_channels"),
        (lambda spec: Returning(None), "the network returned NoneType for images of"),
        (lambda spec: Returning([]), "the network returned NoneType for images of"),
    ],
)
def test_a_network_that_cannot_be_trained_is_named(network, message):
    with pytest.raises(TrainingError, match=message):
        train(boxes(), blueprint=short(network=network), show_progress=False)


class Returning(torch.nn.Linear):
    def __init__(self, what):
        super().__init__(1, 1)
        self.what = what

    def forward(self, images):
        return self.what


@pytest.mark.parametrize("places", [None, [1, 2], "case_0", [("case_0", (0, 0, 0))]])
def test_what_a_sampler_returns_are_places(places):
    with pytest.raises(TrainingError, match="the sampler returned .*; it must return a list of places"):
        train(boxes(), blueprint=short(sampler=lambda *_: places), show_progress=False)


def test_predictions_of_a_first_stage_are_given_by_name():
    with pytest.raises(TrainingError, match=r"are of type Predictions; give them by .*\{p.case.name: p.label_map for"):
        autoseg.previous_stage(boxes(), Predictions(()))


def test_a_sampler_without_places_a_device_and_a_fold_that_are_not_there_are_named():
    with pytest.raises(TrainingError, match="the sampler returned no places"):
        train(boxes(), blueprint=short(sampler=lambda *_: []), show_progress=False)
    with pytest.raises(TrainingError, match="there is no device 'gpu'"):
        Training(boxes(), blueprint=short(), device="gpu")
    with pytest.raises(TrainingError, match="the fold is True"):
        Training(boxes(), blueprint=short(), fold=True)
    with pytest.raises(TrainingError, match="the fold is None"):
        Training(boxes(), blueprint=short(), fold=None)
    assert Training(boxes(), blueprint=short(seed=np.int64(3)), fold=np.int64(1)).fold == 1


def test_a_network_that_returns_all_resolutions_predicts_with_the_first(tmp_path):
    class Listing(torch.nn.Conv3d):
        def forward(self, image):
            whole = super().forward(image)
            return [whole, torch.nn.functional.avg_pool3d(whole, 2)]

    def listing(spec):
        return Listing(spec.in_channels, spec.classes, 3, padding=1)

    training = train(boxes(), blueprint=short(network=listing, validation_cases=1), show_progress=False)
    array = np.random.default_rng(0).normal(size=(12, 12, 12)).astype(np.float32)
    assert autoseg.predict(training.model, array, show_progress=False)[0].label_map.array.shape == array.shape
    assert autoseg.export_torchscript(training.model, tmp_path).voxels == 1.0


@pytest.mark.parametrize(
    "augmentation",
    [
        lambda batch, *_: None,
        lambda batch, *_: (batch[0][:1, :, :8, :8, :8], batch[1][:1, :8, :8, :8]),
        lambda batch, *_: (batch[0][..., :8, :8, :8].numpy(), batch[1][..., :8, :8, :8].numpy()),
    ],
)
def test_an_augmentation_that_returns_another_batch_is_named(augmentation):
    with pytest.raises(TrainingError, match="the augmentation returned .* it must return tensors of images and label"):
        train(boxes(), blueprint=short(augmentation=augmentation), show_progress=False)


def test_an_augmentation_may_compute_in_another_precision():
    def doubled(batch, settings, patch, random):
        images, labels = Augmentation()(batch, settings, patch, random)
        return images.double(), labels

    plain = train(boxes(), blueprint=short(), show_progress=False)
    assert same(train(boxes(), blueprint=short(augmentation=doubled), show_progress=False).model, plain.model)


def test_warnings_point_to_the_line_that_trains(tmp_path, recwarn):
    def stop(_record):
        raise KeyboardInterrupt

    train(boxes(), blueprint=short(), folder=tmp_path, show_progress=False)
    train(boxes(), blueprint=short(seed=1), folder=tmp_path, callbacks=stop, show_progress=False)
    told = [w for w in recwarn if re.search("held another training|was interrupted", str(w.message))]
    assert [w.filename for w in told] == [__file__] * 2


def test_two_functions_without_a_name_are_not_kept_in_a_folder_that_would_mix_them_up(tmp_path):
    twins = short(sampler=lambda *given: draw_patches(*given), schedule=lambda progress: 1 - progress)
    with pytest.raises(TrainingError, match="two parts of your own are both called '<lambda>'.*def my_loss"):
        train(boxes(), blueprint=twins, folder=tmp_path, show_progress=False)
    assert train(boxes(), blueprint=twins, show_progress=False).finished
