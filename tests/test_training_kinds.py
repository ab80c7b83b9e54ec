"""Every kind of training the plan can ask for runs, and learns, on cases with a bright box."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_trainings import boxes, configuration, short

import autoseg
from autoseg.core.errors import TrainingError
from autoseg.data.geometry import Grid
from autoseg.data.images import LabelMap
from autoseg.data.labels import Labels
from autoseg.training.cascade import Codes, Corruption, morphed, onehot, with_previous
from autoseg.training.loop import Training
from autoseg.training.running import train

TWO = Labels({"background": 0, "box": 1, "core": 2})
SPARSE = Labels({"background": 0, "box": 2, "core": 5})


def cascade(labels=TWO):
    plain = configuration(labels)
    network = replace(plain.network, in_channels=1 + len(labels.foreground))
    return replace(plain, name="3d_cascade_fullres", previous_stage="3d_lowres", network=network)


def truth(prepared):
    """A first stage that is always right."""
    return {name: np.maximum(prepared[name].label, 0) for name in prepared}


def learns(training):
    first, *_, last = training.epochs
    return last.training_loss < first.training_loss - 0.1


QUICK = short(epochs=4, iterations_per_epoch=12)


@pytest.mark.parametrize("name", ["3d_lowres", "3d_fullres"])
def test_3d_configurations_train(name):
    training = train(boxes(replace(configuration(), name=name)), blueprint=QUICK, show_progress=False)
    assert learns(training)
    assert training.model.configuration.name == name


@pytest.mark.parametrize("dimensions", [2, 3])
def test_residual_encoders_train(dimensions):
    plain = configuration(dimensions=dimensions)
    config = replace(plain, network=replace(plain.network, kind="residual", encoder_blocks=(1, 2)))
    assert learns(train(boxes(config), blueprint=QUICK.changed(deep_supervision=True), show_progress=False))


def test_stacks_of_thick_slices_train_with_2d_augmentation():
    plain = configuration()
    flat = replace(plain.augmentation, dummy_2d=True, rotation_degrees=180.0, initial_patch_size=(8, 12, 12))
    assert learns(train(boxes(replace(plain, augmentation=flat)), blueprint=QUICK, show_progress=False))


def test_the_published_recipe_trains_at_its_own_learning_rate():
    blueprint = autoseg.Blueprint.nnunet(epochs=4).changed(
        iterations_per_epoch=25, validation_iterations=2, base_features=4, precision="float32", momentum=0.9
    )
    assert learns(train(boxes(), blueprint=blueprint, show_progress=False))


def test_a_cascade_learns_from_the_previous_stage():
    prepared = boxes(cascade(), values=(1, 2))
    training = train(prepared, blueprint=QUICK, previous=truth(prepared), show_progress=False)
    assert learns(training)
    assert training.learner.network.encoder[0][0][0].in_channels == 3
    assert len(training.history.validated[-1].case_dice) == 2


def test_a_cascade_goes_on_with_the_same_weights(tmp_path):
    prepared = boxes(cascade(), values=(1, 2))
    whole = Training(prepared, blueprint=short(), previous=truth(prepared))
    list(whole)
    next(iter(Training(prepared, blueprint=short(), previous=truth(prepared), folder=tmp_path)))
    again = Training(prepared, blueprint=short(), previous=truth(prepared), folder=tmp_path)
    assert len(again.history) == 1
    list(again)
    assert all(torch.equal(w, whole.model.weights[n]) for n, w in again.model.weights.items())


def test_the_previous_stage_is_one_channel_a_label_that_moves_with_the_image():
    prepared = boxes(cascade(SPARSE), values=(2, 5))
    training = Training(prepared, blueprint=short(mirroring=True), previous=truth(prepared))
    feed, random = training.feed, torch.Generator().manual_seed(0)
    for _ in range(10):
        images, labels = feed._to_device(
            feed.blueprint.augmentation(feed.draw(random), feed.configuration.augmentation, (8, 8, 8), random)
        )
        assert images.shape[1] == 3
        assert torch.equal(images[:, 1:].bool(), onehot(labels, SPARSE).bool())


def test_a_cascade_without_predictions_or_on_another_grid_is_refused():
    prepared = boxes(cascade(), values=(1, 2))
    with pytest.raises(TrainingError, match="needs what 3d_lowres predicts for each case; 6 of 6 are missing"):
        Training(prepared)
    wrong = {name: array[:-1] for name, array in truth(prepared).items()}
    with pytest.raises(TrainingError, match="has 11x12x12 voxels and the prepared case 12x12x12"):
        Training(prepared, previous=wrong)
    with pytest.raises(TrainingError, match="'3d_fullres' has no previous stage"):
        Training(boxes(), previous=wrong)


@pytest.mark.parametrize(("value", "kind"), [(3, np.uint8), (-1, np.int16), (2**32 + 1, np.int64), (0.5, np.float32)])
def test_previous_predictions_with_a_value_that_no_label_has_are_refused(value, kind):
    prepared = boxes(cascade(), values=(1, 2))
    wrong = truth(prepared) | {"case_2": np.full((12, 12, 12), value, kind)}
    message = rf"'case_2': the prediction .* holds the value\(s\) {value:.10g}, and the labels .* are 0, 1, 2\."
    with pytest.raises(TrainingError, match=message):
        Training(prepared, previous=wrong)


def test_a_first_stage_of_other_labels_is_refused():
    prepared, grid = boxes(cascade(), values=(1, 2)), Grid.of((12, 12, 12))
    for labels, message in (
        (Labels({"background": 0, "core": 1, "box": 2}), "'core' is 1 against 2"),
        (Labels({"background": 0, "box": 1}), r"the values are \(0, 1\) against \(0, 1, 2\)"),
    ):
        other = {"case_1": LabelMap(truth(prepared)["case_1"].astype(np.uint8), grid, labels)}
        with pytest.raises(TrainingError, match=rf"'case_1': the first stage predicted other labels .*: {message}"):
            autoseg.previous_stage(prepared, other)
    with pytest.raises(TrainingError, match=r"'case_0': this is of type ndarray; it must be a label map"):
        autoseg.previous_stage(prepared, truth(prepared))


def test_predictions_are_brought_to_the_grid_of_the_second_stage():
    prepared = boxes(cascade(), values=(1, 2))
    own = {name: LabelMap(truth(prepared)[name].astype(np.uint8), Grid.of((12, 12, 12)), TWO) for name in prepared}
    brought = autoseg.previous_stage(prepared, own)
    assert all(np.array_equal(brought[name], array) for name, array in truth(prepared).items())


def test_a_cascade_of_more_labels_than_sixteen_bits_join_is_refused():
    names = {"background": 0, **{f"organ {k}": k for k in range(1, 182)}}
    with pytest.raises(TrainingError, match="at most 181 label values, and these are 182"):
        Codes(Labels(names))
    names.popitem()
    top = np.array([180])
    label, previous = Codes(Labels(names)).split(torch.from_numpy(Codes(Labels(names)).join(top, top)))
    assert int(label) == int(previous) == 180


def test_codes_keep_both_maps_for_labels_with_gaps():
    codes, random = Codes(SPARSE), np.random.RandomState(0)
    label, previous = (random.choice([0, 2, 5], (4, 5, 6)) for _ in range(2))
    label[0] = -1
    found, before = codes.split(torch.from_numpy(codes.join(label, previous)))
    assert np.array_equal(found, label)
    assert np.array_equal(before[1:], previous[1:])
    assert not before[0].any(), "nothing was predicted outside of the patient"


def test_previous_predictions_are_spoiled_as_often_as_in_nnunet():
    """Each of two labels is reshaped in 0.4 * 0.5 of the samples and loses a part in 0.2 * 0.5."""
    base = torch.zeros(600, 2, 12, 12)
    base[:, 0, 2:5, 2:5] = base[:, 1, 7:10, 7:10] = 1
    random = torch.Generator().manual_seed(0)
    reshaped = Corruption(remove=0.0)(base, random)
    removed = Corruption(reshape=0.0)(base, random)
    grown = (reshaped[:, 0] != base[:, 0]).flatten(1).any(1).float().mean()
    gone = (removed[:, 0].flatten(1).sum(1) == 0).float().mean()
    assert 0.08 < grown < 0.24  # closing leaves a square as it is, opening by a small ball too
    assert 0.06 < gone < 0.14


def test_what_a_label_gains_the_others_lose():
    base = torch.zeros(300, 2, 12, 12)
    base[:, 0, :, :6] = base[:, 1, :, 6:] = 1
    spoiled = Corruption(reshape=1.0, remove=0.0)(base, torch.Generator().manual_seed(1))
    assert spoiled.sum(1).max() == 1


def test_large_components_are_never_removed():
    base = torch.zeros(100, 1, 10, 10)
    base[:, :, :8] = 1
    assert torch.equal(Corruption(reshape=0.0, remove=1.0, remove_each=1.0)(base, torch.Generator()), base)


@pytest.mark.parametrize("radius", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("operation", ["dilation", "erosion", "closing", "opening"])
def test_morphology_equals_that_with_a_ball(operation, radius):
    from skimage import morphology

    mask = np.random.RandomState(0).uniform(size=(14, 15, 16)) > 0.6
    padded = np.pad(mask, 8)  # away from edges, where conventions differ
    expected = getattr(morphology, operation)(padded, morphology.ball(int(radius)))
    assert np.array_equal(morphed(padded, operation, radius)[4:-4, 4:-4, 4:-4], expected[4:-4, 4:-4, 4:-4])


def test_validation_sees_previous_predictions_as_they_are():
    prepared = boxes(cascade(), values=(1, 2))
    feed = Training(prepared, blueprint=short(), previous=truth(prepared)).feed
    images, labels = feed.draw_validation(torch.Generator().manual_seed(0))
    assert torch.equal(images[:, 1:].bool(), onehot(labels, TWO).bool())
    joined = torch.from_numpy(Codes(TWO).join(np.ones((1, 4, 4), int), np.full((1, 4, 4), 2)))
    images, _ = with_previous((torch.zeros(1, 1, 4, 4), joined), TWO, None, torch.Generator())
    assert images[0, :, 0, 0].tolist() == [0.0, 0.0, 1.0]
