"""Resizing by matrices gives the numbers of scikit-image and scipy, which nnU-Net calls."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.transform import resize

from autoseg.core.errors import PreprocessingError
from autoseg.planning.configuration import Resampling
from autoseg.preprocessing import label_resampling, resampling
from autoseg.preprocessing.label_resampling import resample_labels
from autoseg.preprocessing.resampling import (
    argmax_resampled,
    axis_matrix,
    coarse_axis,
    new_shape,
    resample_image,
    resample_probabilities,
    resampled_slabs,
)

EVEN = {"spacing_from": (1.0, 1.0, 1.0), "spacing_to": (1.0, 1.0, 1.0)}
COARSE = {"spacing_from": (1.0, 5.0, 1.0), "spacing_to": (1.0, 2.0, 1.0)}
FLAT = {"spacing_from": (1.0, 1.0), "spacing_to": (1.0, 1.0)}
sizes = st.tuples(*[st.integers(1, 11)] * 3)
seeds = st.integers(0, 2**31)


def by_skimage(array, shape, order):
    """What nnU-Net calls for each channel."""
    return np.stack([resize(np.asarray(c, float), shape, order, mode="edge", anti_aliasing=False) for c in array])


def by_nnunet_apart(array, shape, axis, orders):
    """nnU-Net's way for anisotropic cases: slice by slice, then along the coarse axis by map_coordinates."""
    plane = [n for a, n in enumerate(shape) if a != axis]
    slices = [resize(s, plane, orders[0], mode="edge", anti_aliasing=False) for s in np.moveaxis(array, axis, 0)]
    stack = np.stack(slices, axis=axis)
    if stack.shape == tuple(shape):
        return stack
    scale = np.array(stack.shape) / np.array(shape)
    at = [s * (i + 0.5) - 0.5 for s, i in zip(scale, np.indices(shape), strict=True)]
    return ndimage.map_coordinates(stack, at, order=orders[1], mode="nearest")


def noise(shape, seed, offset=0.0):
    return (np.random.RandomState(seed).normal(size=shape) + offset).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(old=sizes, new=sizes, order=st.sampled_from([1, 3]), seed=seeds)
def test_an_image_is_resized_as_by_skimage(old, new, order, seed):
    array = noise((2, *old), seed)
    ours = resample_image(array, new, **EVEN, settings=Resampling(image_order=order))
    assert ours.dtype == np.float32
    assert abs(ours - by_skimage(array, new, order)).max() <= 1e-5 * np.ptp(array) + 1e-6


@settings(max_examples=30, deadline=None)
@given(
    old=sizes, new=sizes, axis=st.integers(0, 2), orders=st.sampled_from([(3, 0), (1, 0), (3, 1), (3, 3)]), seed=seeds
)
def test_a_coarse_axis_is_resampled_apart_as_by_nnunet(old, new, axis, orders, seed):
    spacing = tuple(9.0 if a == axis else 1.0 for a in range(3))
    array = noise((1, *old), seed)
    ours = resample_image(
        array,
        new,
        spacing_from=spacing,
        spacing_to=(1.0,) * 3,
        settings=Resampling(image_order=orders[0], coarse_axis_order=orders[1]),
    )
    theirs = by_nnunet_apart(array[0].astype(float), new, axis, orders) if old != new else array[0]
    assert abs(ours[0] - theirs).max() <= 1e-5 * np.ptp(array) + 1e-6


@pytest.mark.parametrize(("old", "new"), [((30, 100), (47, 63)), ((256, 64), (205, 512))])
def test_long_axes_keep_their_accuracy(old, new):
    array = noise((1, *old), 1)
    ours = resample_image(array, new, **FLAT)
    assert abs(ours - by_skimage(array, new, 3)).max() <= 1e-5 * np.ptp(array)


def test_a_large_offset_does_not_cost_contrast():
    array = noise((1, 20, 30), 2, offset=1e4)
    theirs = by_skimage(array, (31, 43), 3)
    assert abs(resample_image(array, (31, 43), **FLAT) - theirs).max() <= 1e-3 * np.ptp(array)  # float32 ends here


def test_a_constant_image_stays_exactly_constant():
    assert np.unique(resample_image(np.full((1, 5, 6, 7), 0.1, np.float32), (9, 4, 8), **EVEN)) == np.float32(0.1)


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_splines_do_not_leave_the_range_of_a_channel(seed):
    array = noise((2, 6, 7, 5), seed)
    ours = resample_image(array, (9, 4, 11), **EVEN)
    for channel, resized in zip(array, ours, strict=True):
        assert channel.min() <= resized.min()
        assert resized.max() <= channel.max() + 1e-6


def test_the_same_shape_is_the_same_array():
    array, label = noise((1, 4, 5), 0), np.ones((4, 5), np.uint8)
    assert resample_image(array, (4, 5), **FLAT) is array
    assert resample_labels(label, (4, 5), **FLAT) is label


def test_half_precision_stays_half_precision():
    array = noise((3, 4, 5, 6), 0).astype(np.float16)
    ours = resample_probabilities(array, (8, 8, 8), **EVEN)
    assert ours.dtype == np.float16
    assert abs(ours - by_skimage(array, (8, 8, 8), 1)).max() < 4e-3


@pytest.mark.parametrize("arguments", [EVEN, COARSE])
@pytest.mark.parametrize("order", [0, 1, 3])
def test_tensors_give_the_numbers_of_arrays(arguments, order):
    torch = pytest.importorskip("torch")
    array, settings = noise((2, 5, 6, 7), 3), Resampling(image_order=order, probability_order=order)
    ours = resample_image(torch.from_numpy(array), (8, 3, 9), **arguments, settings=settings)
    assert np.allclose(ours.numpy(), resample_image(array, (8, 3, 9), **arguments, settings=settings), atol=1e-6)
    winner = argmax_resampled(torch.from_numpy(array), (8, 3, 9), **arguments, settings=settings)
    assert np.array_equal(winner.numpy(), argmax_resampled(array, (8, 3, 9), **arguments, settings=settings))


@pytest.mark.gpu
def test_the_numbers_of_a_gpu_are_the_same():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    array = noise((2, 40, 64, 64), 3)
    ours = resample_image(torch.from_numpy(array).cuda(), (50, 90, 51), **EVEN)
    assert abs(ours.cpu().numpy() - by_skimage(array, (50, 90, 51), 3)).max() <= 1e-4 * np.ptp(array)


@pytest.mark.parametrize(
    ("spacing_from", "spacing_to", "axis"),
    [
        ((3.0, 1.0, 1.0), (1.0, 1.0, 1.0), None),  # exactly three times is not anisotropic
        ((3.01, 1.0, 1.0), (1.0, 1.0, 1.0), 0),
        ((0.24, 1.25, 1.25), (0.24, 1.25, 1.25), None),  # two coarse axes
        ((1.0, 1.0, 1.0), (5.0, 1.0, 1.0), 0),  # the new spacing decides where the old one does not
        ((1.0, 4.0, 1.0), (9.0, 1.0, 1.0), 1),  # the old one is asked first
        ((999.0, 1.0, 1.0), (999.0, 0.5, 0.5), 0),  # a 2D image
    ],
)
def test_the_coarse_axis_is_nnunets(spacing_from, spacing_to, axis):
    assert coarse_axis(spacing_from, spacing_to) == axis


def test_separate_axis_can_be_forced_and_forbidden():
    even, coarse = (2.0, 1.0, 1.0), (9.0, 1.0, 1.0)
    assert coarse_axis(even, even, Resampling(separate_axis=True)) == 0
    assert coarse_axis(coarse, coarse, Resampling(separate_axis=False)) is None
    assert coarse_axis((1.0, 1.0, 1.0), coarse, Resampling(separate_axis=True)) is None  # all alike before


def test_shapes_are_rounded_half_to_even_and_never_to_nothing():
    assert new_shape((5, 7, 1), (1.0, 1.0, 0.1), (2.0, 2.0, 1.0)) == (2, 4, 1)  # 2.5, 3.5, 0.1


@pytest.mark.parametrize("order", [0, 1, 3])
def test_weights_sum_to_one(order):
    assert np.allclose(axis_matrix(13, 29, order).sum(axis=1), 1)


@pytest.mark.parametrize("shape", [(3, 4), (0, 4, 5)])
def test_axes_that_do_not_match_are_refused(shape):
    with pytest.raises(PreprocessingError, match=r"shape \(2, 3, 4\) cannot be resampled to .* same number of axes"):
        resample_image(np.zeros((1, 2, 3, 4), np.float32), shape, **EVEN)


def naive_labels(label, shape, order):
    """The rule in its own words: every indicator resized, the highest wins, ties to the nearest, else the smallest."""
    values = np.unique(label)
    scores = by_skimage([label == v for v in values], shape, order)
    near = by_skimage([label], shape, 0)[0]
    best = scores == scores.max(axis=0)
    nearest_is_best = (best & (values.reshape(-1, *[1] * label.ndim) == near)).any(axis=0)
    return np.where(nearest_is_best, near, values[best.argmax(axis=0)])


def blobs(shape, count, seed):
    random = np.random.RandomState(seed)
    smooth = ndimage.gaussian_filter(random.normal(size=(count, *shape)), (0, *(1.0,) * len(shape)))
    return smooth.argmax(axis=0).astype(np.int16) * 7 - 1  # -1 as outside of the patient


@settings(max_examples=60, deadline=None)
@given(old=sizes, new=sizes, count=st.integers(1, 6), order=st.sampled_from([0, 1, 1]), seed=seeds)
def test_labels_are_resized_as_the_rule_says(old, new, count, order, seed):
    label = blobs(old, count, seed)
    ours = resample_labels(label, new, **EVEN, settings=Resampling(label_order=order))
    theirs = naive_labels(label, new, order) if order else by_skimage([label], new, 0)[0]
    assert np.array_equal(ours, theirs)
    assert ours.dtype == np.int16


@pytest.mark.parametrize("shape", [(14, 11, 9), (6, 7, 30), (10, 13, 8)])
def test_labels_settled_slab_by_slab_are_the_same(monkeypatch, shape):
    label = blobs((10, 9, 12), 5, 1)
    monkeypatch.setattr(label_resampling, "SLAB", 3 * shape[1] * shape[2])
    monkeypatch.setattr(label_resampling, "MIXED_AT_ONCE", 7)
    assert np.array_equal(resample_labels(label, shape, **EVEN), naive_labels(label, shape, 1))


@settings(max_examples=20, deadline=None)
@given(old=sizes, new=sizes, count=st.integers(1, 6), seed=seeds)
def test_with_cubic_weights_the_highest_label_wins_up_to_rounding(old, new, count, seed):
    label = blobs(old, count, seed)
    ours = resample_labels(label, new, **EVEN, settings=Resampling(label_order=3))
    values = np.unique(label)
    scores = by_skimage([label == v for v in values], new, 3) if old != new else label == values.reshape(-1, 1, 1, 1)
    chosen = np.take_along_axis(scores, np.searchsorted(values, ours)[None], axis=0)[0]
    assert (chosen >= scores.max(axis=0) - 1e-9).all()


@pytest.mark.parametrize("factor", [2, 4])
def test_ties_go_to_the_nearest_label(factor):
    """At an even factor every boundary voxel is a tie somewhere; neither label may grow."""
    label = np.zeros((1, 8, 8), np.uint8)
    label[:, :, 4:] = 1
    assert (resample_labels(label, (1, 8, 8 * factor), **EVEN) == 1).mean() == 0.5


def test_a_tie_without_the_nearest_goes_to_the_smallest():
    block = np.array([3, 1, 1, 1, 2, 2, 2, 3]).reshape(2, 2, 2)
    assert resample_labels(block, (1, 1, 1), **EVEN).item() == 1


@settings(max_examples=20, deadline=None)
@given(old=sizes, new=sizes, seed=seeds)
def test_labels_with_a_coarse_axis_are_resized_slice_by_slice(old, new, seed):
    label = blobs(old, 4, seed)
    ours = resample_labels(label, new, **COARSE)
    slices = [naive_labels(s, (new[0], new[2]), 1) for s in np.moveaxis(label, 1, 0)]
    picked = resampling.nearest_index(old[1], new[1])
    assert np.array_equal(ours, np.stack(slices, axis=1)[:, picked] if old != new else label)


def test_a_label_needs_more_than_half_along_an_interpolated_coarse_axis():
    label = np.array([4, 4, 9, 9]).reshape(1, 4, 1)
    ours = resample_labels(label, (1, 2, 1), **COARSE, settings=Resampling(coarse_axis_order=1))
    assert ours.ravel().tolist() == [4, 9]
    middle = resample_labels(label[:, 1:3], (1, 1, 1), **COARSE, settings=Resampling(coarse_axis_order=1))
    assert middle.item() == 0  # half and half: nnU-Net leaves the voxel empty


@settings(max_examples=25, deadline=None)
@given(old=sizes, new=sizes, order=st.sampled_from([0, 1, 3]), half=st.booleans(), seed=seeds)
@pytest.mark.parametrize("arguments", [EVEN, COARSE])
def test_classes_compete_one_by_one_to_the_same_end(arguments, old, new, order, half, seed):
    logits = noise((5, *old), seed).astype(np.float16 if half else np.float32)
    settings = Resampling(probability_order=order)
    together = resample_probabilities(logits, new, **arguments, settings=settings)
    winner = argmax_resampled(logits, new, **arguments, settings=settings)
    chosen = np.take_along_axis(together, winner[None].astype(int), axis=0)[0]
    assert np.allclose(chosen.astype(float), together.max(axis=0), atol=2e-3 if half else 1e-5)
    assert (winner == together.argmax(axis=0)).mean() > 0.99


def test_slabs_join_to_the_whole(monkeypatch):
    logits = noise((3, 9, 8, 7), 0)
    whole = resample_probabilities(logits, (14, 5, 16), **EVEN)
    monkeypatch.setattr(resampling, "SLAB", 3 * 5 * 16)
    parts = [(rows, np.stack(list(classes))) for rows, classes in resampled_slabs(logits, (14, 5, 16), **EVEN)]
    assert [rows.stop - rows.start for rows, _ in parts] == [3, 3, 3, 3, 2]
    assert np.allclose(np.concatenate([part for _, part in parts], axis=1), whole, atol=1e-6)


def test_logits_are_read_from_a_memory_map_and_from_blosc2(tmp_path):
    blosc2 = pytest.importorskip("blosc2")
    logits = noise((4, 6, 7, 8), 0)
    np.save(tmp_path / "logits.npy", logits)
    expected = argmax_resampled(logits, (9, 9, 9), **EVEN)
    mapped = np.load(tmp_path / "logits.npy", mmap_mode="r")
    assert np.array_equal(argmax_resampled(mapped, (9, 9, 9), **EVEN), expected)
    assert np.array_equal(argmax_resampled(blosc2.asarray(logits), (9, 9, 9), **EVEN), expected)


def test_many_classes_need_the_memory_of_few(monkeypatch):
    logits = noise((40, 12, 16, 16), 0)
    monkeypatch.setattr(resampling, "SLAB", 8 * 96 * 96)
    all_classes = 40 * 48 * 96 * 96 * 4
    tracemalloc.start()
    argmax_resampled(logits, (48, 96, 96), **EVEN)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.05 * all_classes
