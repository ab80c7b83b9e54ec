"""The embedded dataset is what its script makes, sound, and there wherever autoseg is installed."""

from __future__ import annotations

import gzip
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import autoseg
from autoseg.core.errors import DatasetError

ROOT = Path(__file__).resolve().parents[1]
SEAHORSE = ROOT / "data_samples" / "Task90_Seahorse"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_samples", ROOT / "data_samples" / "make_samples.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_is_small_and_sound():
    assert sum(p.stat().st_size for p in SEAHORSE.rglob("*") if p.is_file()) < 5e6
    dataset = autoseg.sample_dataset()
    assert (len(dataset), len(dataset.test)) == (26, 4)
    assert not autoseg.check(dataset, show_progress=False)


def test_every_case_shows_both_parts_of_the_organ():
    for case in autoseg.sample_dataset():
        counts = np.bincount(case.label().array.ravel(), minlength=3)
        assert (counts[1:] > 200).all(), case.name
        assert counts[0] > 0.8 * counts.sum()


@pytest.mark.parametrize("number", [1, 14, 27])
def test_the_script_makes_the_same_voxels(script, number):
    image, label = script.make_case(number)
    case = autoseg.sample_dataset()[f"seahorse_{number:03d}"]
    np.testing.assert_array_equal(case.image().array[0], image.T)
    if case.label_path:
        np.testing.assert_array_equal(case.label().array, label.T)


def test_the_script_makes_the_same_files(script, tmp_path):
    """Byte for byte once unpacked; zip libraries differ in how they pack the same bytes."""
    script.write_nifti(script.make_case(3)[0], tmp_path / "again.nii.gz")
    kept = (SEAHORSE / "imagesTr/seahorse_003.nii.gz").read_bytes()
    again = (tmp_path / "again.nii.gz").read_bytes()
    assert gzip.decompress(again) == gzip.decompress(kept)
    assert again[4:8] == kept[4:8] == bytes(4), "no time stamp"
    assert json.loads((SEAHORSE / "dataset.json").read_text()) == script.describe()


def test_files_that_are_right_are_left_alone(script, tmp_path):
    path = tmp_path / "seahorse.nii.gz"
    image = script.make_case(3)[0]
    script.write_nifti(image, path)
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=1))
    before = path.read_bytes()
    script.write_nifti(image, path)
    assert path.read_bytes() == before
    script.write_nifti(image + 1, path)
    assert path.read_bytes() != before


def test_an_unknown_sample_is_named():
    with pytest.raises(DatasetError, match=r"no sample dataset is called 'seehorse'\. Did you mean 'seahorse'\?"):
        autoseg.sample_dataset("seehorse")
