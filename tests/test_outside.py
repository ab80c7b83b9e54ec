"""A scan unlike the training cases is told in plain sentences, with the numbers."""

from __future__ import annotations

import numpy as np
import pytest
from making import make_dataset

import autoseg
from autoseg.core.errors import DatasetError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return autoseg.open_dataset(make_dataset(tmp_path_factory.mktemp("data"), cases=4, shape=(16, 20, 24)))


@pytest.fixture(scope="module")
def fingerprint(dataset):
    return autoseg.extract_fingerprint(dataset, show_progress=False)


def messages(what, fingerprint, **options):
    return [f.message for f in autoseg.outside_range(what, fingerprint, **options).findings]


def test_training_cases_are_inside(dataset, fingerprint):
    for case in dataset:
        found = autoseg.outside_range(case, fingerprint)
        assert found.inside and found.training_cases == 4
        assert "inside the training range" in found._repr_html_()


def test_a_spacing_is_named_along_its_axis(dataset, fingerprint):
    array = dataset[0].image().array[0]
    told = messages(array, fingerprint, spacing=(5, 1, 1))
    assert told == ["spacing 5 mm along z; training 1 mm.", "field of view 80 mm along z; training 16 mm."]
    assert messages(array, fingerprint, spacing=(1.05, 1, 1)) == []


def test_a_size_is_named(dataset, fingerprint):
    array = dataset[0].image().array[0][:, :10]
    told = messages(array, fingerprint)
    assert told == ["size 10 voxels along y; training 20 voxels.", "field of view 10 mm along y; training 20 mm."]


@pytest.mark.parametrize("change", [lambda a: a / 1000, lambda a: a + 2000])
def test_another_unit_is_named(dataset, fingerprint, change):
    (told,) = messages(change(dataset[0].image().array[0]), fingerprint)
    assert told.startswith("0.0% of MRI has the intensities of the labelled structures, ")
    assert "in training" in told


def test_pixels_have_no_slice_axis():
    images = [np.random.RandomState(i).rand(30, 40) + 1 for i in range(3)]
    flat = autoseg.dataset_from_arrays(images, [i > 1.5 for i in images])
    fingerprint = autoseg.extract_fingerprint(flat, show_progress=False)
    assert autoseg.outside_range(images[0], fingerprint).inside
    assert messages(np.tile(images[0], (2, 1)), fingerprint)[0].startswith("size 60 voxels along y; training 30")
    assert all("along z" not in m for m in messages(np.tile(images[0], (2, 1)), fingerprint))


def test_the_card_says_each_thing_and_shows_the_scan(dataset, fingerprint):
    found = autoseg.outside_range(dataset[0].image().array[0] / 1000, fingerprint, spacing=(5, 1, 1))
    html = found._repr_html_()
    assert "outside the training range" in html and "spacing 5 mm along z" in html and "as-picture" in html
    assert "outside" in repr(found)


def test_what_is_no_such_scan_is_refused(fingerprint):
    with pytest.raises(DatasetError, match="does not exist"):
        autoseg.outside_range("nowhere.nii.gz", fingerprint)
    with pytest.raises(DatasetError, match="channel"):
        autoseg.outside_range(np.random.RandomState(0).rand(3, 8, 8, 8), fingerprint)
