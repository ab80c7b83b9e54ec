"""A case goes to the plan's grid as nnU-Net takes it there, and predictions come back as nnU-Net exports them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from configurations import LABELS, configuration
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.core.errors import PreprocessingError
from autoseg.data.geometry import Grid
from autoseg.data.images import Image, LabelMap, read_image, read_label_map
from autoseg.data.labels import Labels, labels_from_json
from autoseg.data.normalization import CTNormalization, RGBTo01, ZScore
from autoseg.preprocessing.cases import (
    class_locations,
    label_map_of,
    preprocess_case,
    restore_label_map,
    restore_logits,
    restore_probabilities,
)

GOLDEN = json.loads((Path(__file__).parent / "golden" / "preprocessing.json").read_text())
REGIONS = Labels({"background": 0, "whole": (1, 2), "core": 2}, region_order=(1, 2))


def sha(array, kind):
    return hashlib.sha256(np.ascontiguousarray(array, kind).tobytes()).hexdigest()[:16]


def some(array):
    return array.reshape(-1)[np.linspace(0, array.size - 1, 25).astype(int)]


@pytest.mark.parametrize("recipe", GOLDEN)
class TestAgainstNnunet:
    """Numbers of nnU-Net 2.8.1 on real cases; tests/golden/make_preprocessing.py wrote them."""

    @pytest.fixture
    def done(self, recipe, shared_data):
        told = GOLDEN[recipe]
        labels = labels_from_json(told["labels"], told.get("regions_class_order"))
        image = read_image([shared_data / told["files"][0]], ["x"])
        label_map = read_label_map(shared_data / told["files"][1], labels)
        if told.get("blank"):
            image.array[0, :, :5], image.array[0, :, :, -7:], image.array[0, 10:12, 20:24, 20:22] = 0, 0, 0
        low, high, mean, std = told.get("CT", [0] * 4)
        plan = configuration(
            labels,
            told["spacing"],
            axis_order=tuple(told.get("axis_order", (0, 1, 2))),
            mask_background=(told.get("mask", False),),
            normalization=(CTNormalization(low=low, high=high, mean=mean, std=std) if "CT" in told else ZScore(),),
        )
        return told, image, preprocess_case("case", image, label_map, plan)

    def test_image_label_and_locations_are_the_same(self, done):
        told, _, case = done
        assert list(case.geometry.shape) == told["shape"] == list(case.array.shape[1:])
        assert [list(b) for b in zip(case.geometry.box.start, case.geometry.box.stop, strict=True)] == told["box"]
        assert abs(some(case.array) - told["image"]).max() <= 1e-5 * told["range"]
        assert sha(case.label, "<i2") == told["label"]
        assert [sha(v, "<i4") for v in case.class_locations.values()] == told["locations"]

    def test_logits_come_back_as_the_same_label_map(self, done):
        told, image, case = done
        labels = case.labels
        logits = np.random.RandomState(0).normal(size=(labels.outputs, *case.geometry.shape)).astype(np.float32)
        restored = restore_logits(logits, case.geometry, labels)
        assert restored.grid == image.grid
        indices = restored.array if labels.has_regions else np.searchsorted(labels.values, restored.array)
        assert sha(indices, "<i2") == told["exported"]  # nnU-Net writes the place of a label, not its value
        probabilities = restore_probabilities(logits, case.geometry, labels)
        assert abs(some(probabilities) - told["probabilities"]).max() < 1e-5
        assert np.array_equal(label_map_of(probabilities, image.grid, labels).array, restored.array)


def ramp(shape, spacing=None, frame=0):
    """An image whose channels are the world coordinates of its voxels, and 0 in a frame around."""
    grid = Grid.of(shape, spacing)
    places = np.array([grid.to_world(i) + 100 for i in np.ndindex(grid.shape)], np.float32)
    array = np.moveaxis(places.reshape(*shape, len(shape)), -1, 0)
    inside = np.pad(np.ones([n - 2 * frame for n in shape], bool), frame)
    return Image(np.where(inside, array, 0), grid, tuple("xyz"[: len(shape)])), inside


def as_is(channel, inside):
    return channel


def plan_for(channels, spacing, **changes):
    names = tuple("xyz"[:channels])
    settings = {"channels": names, "normalization": (as_is,) * channels, "mask_background": (False,) * channels}
    return configuration(LABELS, spacing, **{**settings, **changes})


@settings(max_examples=15, deadline=None)
@given(
    shape=st.tuples(*[st.integers(9, 14)] * 3),
    spacing=st.tuples(*[st.floats(0.5, 1.5)] * 3),
    target=st.tuples(*[st.floats(0.5, 1.5)] * 3),
    axes=st.permutations(range(3)).map(tuple),
)
def test_every_stage_has_a_voxel_at_the_same_place_in_the_world(shape, spacing, target, axes):
    image, _ = ramp(shape, spacing, frame=1)
    case = preprocess_case("ramp", image, None, plan_for(3, target, axis_order=axes))
    geometry = case.geometry
    assert geometry.transposed == image.grid.transpose(axes)
    assert geometry.cropped.shape == tuple(shape[a] - 2 for a in axes)
    assert geometry.resampled.shape == case.array.shape[1:] == geometry.shape
    middle = tuple(n // 2 for n in geometry.shape)
    place = geometry.resampled.to_world(middle)
    assert np.allclose(case.array[(slice(None), *middle)] - 100, place, atol=0.1)
    assert np.allclose(geometry.cropped.to_world(geometry.cropped.to_index(place)), place)


@settings(max_examples=15, deadline=None)
@given(
    shape=st.tuples(*[st.integers(6, 12)] * 3),
    axes=st.permutations(range(3)).map(tuple),
    frame=st.integers(0, 2),
    seed=st.integers(0, 99),
)
def test_without_resampling_a_label_map_comes_back_voxel_for_voxel(shape, axes, frame, seed):
    image, inside = ramp(shape, (1.0, 1.0, 1.0), frame)
    label = LabelMap(np.random.RandomState(seed).randint(0, 3, shape) * inside, image.grid, LABELS)
    case = preprocess_case("ramp", image, label, plan_for(3, (1.0, 1.0, 1.0), axis_order=axes))
    restored = restore_label_map(case.label, case.geometry, LABELS)
    assert np.array_equal(restored.array, label.array)
    assert (restored.array.dtype, restored.grid) == (np.uint8, image.grid)


@settings(max_examples=10, deadline=None)
@given(target=st.tuples(*[st.floats(0.4, 1.2)] * 3), axes=st.permutations(range(3)).map(tuple))
def test_a_ball_survives_the_way_there_and_back(target, axes):
    at = np.indices((20, 22, 24)) - 10
    ball = LabelMap((np.sqrt((at**2).sum(axis=0)) < 7).astype(np.uint8), Grid.of((20, 22, 24)), LABELS)
    image = Image(np.ones((1, 20, 22, 24), np.float32), ball.grid, ("MRI",))
    case = preprocess_case("ball", image, ball, configuration(spacing=target, axis_order=axes))
    logits = np.eye(3, dtype=np.float32)[:, case.label]
    restored = restore_logits(logits, case.geometry, LABELS)
    overlap = 2 * (restored.array & ball.array).sum() / (restored.array.sum() + ball.array.sum())
    assert overlap > 0.93


def test_a_2d_image_comes_back_in_2d():
    image, _ = ramp((12, 15), (2.0, 2.0))
    label = LabelMap((image.array[0] > 110).astype(np.uint8), image.grid, LABELS)
    case = preprocess_case("slice", image, label, plan_for(2, (1.0, 1.0)))
    assert case.array.shape == (2, 1, 24, 30)
    assert case.label.shape == (1, 24, 30)
    restored = restore_label_map(case.label, case.geometry, LABELS)
    assert np.array_equal(restored.array, label.array)
    probabilities = restore_probabilities(np.zeros((3, 1, 24, 30), np.float32), case.geometry, LABELS)
    assert probabilities.shape == (3, 12, 15)


def test_a_2d_configuration_keeps_the_slices_of_each_case():
    image, _ = ramp((6, 10, 10), (7.0, 1.0, 1.0))
    case = preprocess_case("stack", image, None, plan_for(3, (0.5, 0.5)))
    assert case.geometry.shape == (6, 20, 20)
    assert case.geometry.spacing_after == (7.0, 0.5, 0.5)


def test_outside_of_the_patient_is_marked_but_labels_there_are_kept():
    array = np.zeros((1, 7, 7, 7), np.float32)
    array[0, 1:6, 1:6, 1:6] = 5
    array[0, 1, 1, 1], array[0, 3, 3, 3] = 0, 0  # a missing corner, and a hole that is filled
    label = np.zeros((7, 7, 7), np.uint8)
    label[1, 1, 1] = 2
    grid = Grid.of((7, 7, 7))
    array[0, 1, 1, 2] = 0
    case = preprocess_case("cube", Image(array, grid, ("MRI",)), LabelMap(label, grid, LABELS), configuration())
    assert case.geometry.box.start == (1, 1, 1)
    assert case.geometry.shape == (5, 5, 5)
    assert case.label[0, 0, 0] == 2  # a label outside of the mask
    assert case.label[0, 0, 1] == -1
    assert case.label[2, 2, 2] == 0


def test_an_image_of_zeros_keeps_its_size():
    image = Image(np.zeros((1, 4, 5, 6), np.float32), Grid.of((4, 5, 6)), ("MRI",))
    assert preprocess_case("empty", image, None, configuration()).array.shape == (1, 4, 5, 6)


def test_masked_normalization_leaves_the_outside_at_zero():
    array = np.random.RandomState(0).normal(50, 3, (1, 8, 8, 8)).astype(np.float32)
    array[0, :4, :4] = 0
    image = Image(array, Grid.of((8, 8, 8)), ("MRI",))
    case = preprocess_case("half", image, None, configuration(mask_background=(True,)))
    assert (case.array[0, :4, :4] == 0).all()
    assert abs(case.array[array != 0].mean()) < 1e-5
    assert abs(case.array[array != 0].std() - 1) < 1e-5


def test_ones_own_normalization_is_called_with_channel_and_inside():
    seen = []

    def robust(channel, inside):
        seen.append((channel.shape, inside if inside is None else inside.dtype))
        low, high = np.percentile(channel, (1, 99))
        return (channel - low) / (high - low)  # float64, as numpy likes it

    image, _ = ramp((8, 9, 10))
    changes = {"normalization": (robust,) * 3, "mask_background": (True, False, True)}
    case = preprocess_case("own", image, None, plan_for(3, (1.0,) * 3, **changes))
    assert seen == [((8, 9, 10), bool), ((8, 9, 10), None), ((8, 9, 10), bool)]
    assert case.array.dtype == np.float32


def broken(channel, inside):
    raise KeyError("nothing there")


@pytest.mark.parametrize(
    ("normalization", "message"),
    [
        (broken, "case 'bad', channel 'MRI': the normalization broken failed: 'nothing there'"),
        (RGBTo01(), "the normalization RGBTo01 failed: .* holds values from 1 to 900, not 0 to 255"),
        (lambda channel, inside: channel[0], "the normalization <lambda> gives 8x8 values for 8x8x8 voxels"),
        (
            lambda channel, inside: np.log(channel - 1),
            "<lambda> gives 2 voxels that are NaN or infinite",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_a_normalization_that_goes_wrong_names_case_channel_and_itself(normalization, message):
    array = np.full((1, 8, 8, 8), 900, np.float32)
    array[0, 0, 0, :2] = 1
    image = Image(array, Grid.of((8, 8, 8)), ("MRI",))
    with pytest.raises(PreprocessingError, match=message):
        preprocess_case("bad", image, None, configuration(normalization=(normalization,)))


def test_channels_that_the_plan_does_not_know_are_refused():
    image, _ = ramp((4, 4, 4))
    with pytest.raises(PreprocessingError, match=r"case 'a' has 3 channel\(s\) \(x, y, z\), .* for 1: MRI"):
        preprocess_case("a", image, None, configuration())


def test_a_prediction_of_another_case_is_refused():
    image, _ = ramp((4, 4, 4))
    case = preprocess_case("a", image, None, plan_for(3, (1.0,) * 3))
    with pytest.raises(PreprocessingError, match="a prediction of 5x4x4 voxels does not fit .* has 4x4x4"):
        restore_logits(np.zeros((3, 5, 4, 4), np.float32), case.geometry, LABELS)


def test_outside_of_the_crop_everything_is_background_and_no_region():
    image, inside = ramp((8, 8, 8), frame=2)
    geometry = preprocess_case("a", image, None, plan_for(3, (0.8,) * 3)).geometry
    for labels, outside in ((LABELS, [1, 0, 0]), (REGIONS, [0, 0])):
        logits = np.full((labels.outputs, *geometry.shape), 2, np.float32)
        probabilities = restore_probabilities(logits, geometry, labels)
        assert np.array_equal(np.unique(probabilities[:, ~inside], axis=1).ravel(), outside)
        if labels.has_regions:
            assert np.allclose(probabilities[:, inside], 1 / (1 + np.exp(-2)))
        else:
            assert np.allclose(probabilities.sum(axis=0), 1)


def test_regions_are_written_in_their_order():
    image, _ = ramp((4, 4, 4))
    geometry = preprocess_case("a", image, None, plan_for(3, (1.0,) * 3)).geometry
    logits = np.full((2, 4, 4, 4), -1, np.float32)
    logits[0, 1:] = 1
    logits[1, 2:] = 1
    restored = restore_logits(logits, geometry, REGIONS).array[:, 0, 0]
    assert restored.tolist() == [0, 1, 2, 2]


def test_many_labels_are_written_as_uint16():
    many = Labels({"background": 0} | {f"l{v}": v for v in range(1, 300)})
    image, _ = ramp((4, 4, 4))
    geometry = preprocess_case("a", image, None, plan_for(3, (1.0,) * 3)).geometry
    label = np.full((4, 4, 4), 299, np.int16)
    restored = restore_label_map(label, geometry, many)
    assert (restored.array.dtype, restored.array.max()) == (np.uint16, 299)


def test_tensors_are_restored_as_arrays_are():
    torch = pytest.importorskip("torch")
    image, _ = ramp((6, 7, 8), frame=1)
    geometry = preprocess_case("a", image, None, plan_for(3, (0.7,) * 3)).geometry
    logits = np.random.RandomState(0).normal(size=(3, *geometry.shape)).astype(np.float32)
    for labels in (LABELS, Labels({**REGIONS.names, "third": 3}, region_order=(1, 2, 3))):
        ours = restore_logits(torch.from_numpy(logits), geometry, labels)
        assert np.array_equal(ours.array, restore_logits(logits, geometry, labels).array)
        tensor = restore_probabilities(torch.from_numpy(logits), geometry, labels)
        assert np.allclose(tensor, restore_probabilities(logits, geometry, labels), atol=1e-6)


class TestClassLocations:
    def test_small_classes_are_kept_whole_and_large_ones_drawn(self):
        label = np.zeros((40, 50, 60), np.int16)
        label[:, :, :30], label[0, 0, 40:45] = 1, 2
        found = class_locations(label, LABELS)
        assert len(found["anterior"]) == 10_000
        assert len(np.unique(found["anterior"], axis=0)) == 10_000  # none twice
        assert sorted(map(tuple, found["posterior"].tolist())) == [(0, 0, x) for x in range(40, 45)]
        assert (label[tuple(found["anterior"].T)] == 1).all()

    def test_of_very_large_classes_one_percent_is_kept(self):
        label = np.ones((110, 100, 100), np.int16)
        assert len(class_locations(label, LABELS)["anterior"]) == 11_000

    def test_a_class_that_does_not_occur_has_no_voxels(self):
        found = class_locations(np.ones((3, 3, 3), np.int16), LABELS)
        assert found["posterior"].shape == (0, 3)
        empty = class_locations(np.zeros((3, 3, 3), np.int16), LABELS)
        assert [v.shape for v in empty.values()] == [(0, 3), (0, 3)]

    def test_regions_take_all_their_labels(self):
        label = np.array([[[0, 1, 2, 2]]], np.int16)
        found = class_locations(label, REGIONS)
        assert {name: len(v) for name, v in found.items()} == {"whole": 3, "core": 2}

    def test_with_an_ignore_label_annotated_voxels_are_kept_too(self):
        labels = Labels({"background": 0, "cell": 1}, ignore=2)
        found = class_locations(np.array([[[-1, 0, 1, 2, 2]]], np.int16), labels)
        assert sorted(found["annotated"][:, 2].tolist()) == [0, 1, 2]
        assert sorted(found) == ["annotated", "cell"]


def test_the_text_says_what_was_done():
    image, _ = ramp((9, 8, 7), frame=1)
    text = repr(preprocess_case("a", image, None, plan_for(3, (0.5,) * 3)))
    assert text.splitlines() == [
        "PreprocessedCase('a': 14x12x10 voxels of 0.5x0.5x0.5 mm, x, y, z)",
        "  from 9x8x7, cropped to 7x6x5",
    ]


def test_channels_of_the_plans_names_are_brought_to_its_order():
    plan = configuration(channels=("T1", "T2"), normalization=(ZScore(), ZScore()), mask_background=(False, False))
    array = np.random.default_rng(0).normal(size=(2, 10, 12, 14)).astype(np.float32)
    grid = Grid.of(array.shape[1:])
    straight = preprocess_case("a", Image(array, grid, ("T1", "T2")), None, plan)
    exchanged = preprocess_case("a", Image(array[::-1], grid, ("T2", "T1")), None, plan)
    assert np.array_equal(straight.array, exchanged.array) and exchanged.channels == ("T1", "T2")
    assert not np.array_equal(
        straight.array, preprocess_case("a", Image(array[::-1], grid, ("x", "y")), None, plan).array
    )
