"""Preprocessed datasets are complete or absent, and are made again exactly when an input changed."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import blosc2
import numpy as np
import pytest
import SimpleITK as sitk
from configurations import LABELS, configuration
from hypothesis import given, settings
from hypothesis import strategies as st

import autoseg
from autoseg.core.errors import DatasetError, PreprocessingError, StorageError
from autoseg.data.dataset import Case, Dataset
from autoseg.data.geometry import Box
from autoseg.data.labels import Labels
from autoseg.data.normalization import NoNormalization
from autoseg.data.opening import open_dataset
from autoseg.data.splits import Split
from autoseg.preprocessing import files
from autoseg.preprocessing.store import preprocess

SHAPE = (10, 12, 14)


def write_case(folder, name, shape=SHAPE, seed=0):
    """An image of noise and a label map, as MetaImage, which is written fast."""
    random = np.random.RandomState(seed)
    image, label = folder / f"{name}.mha", folder / f"{name}_label.mha"
    sitk.WriteImage(sitk.GetImageFromArray(random.normal(size=shape).astype(np.float32)), str(image))
    sitk.WriteImage(sitk.GetImageFromArray(random.randint(0, 3, shape).astype(np.uint8)), str(label))
    return Case(name=name, image_paths=(image,), label_path=label, channels=("MRI",), labels=LABELS)


@pytest.fixture
def dataset(tmp_path):
    (tmp_path / "raw").mkdir()
    cases = tuple(write_case(tmp_path / "raw", f"case_{k}", seed=k) for k in range(6))
    return Dataset(name="noise", folder=None, channels=("MRI",), labels=LABELS, training=cases)


@pytest.fixture
def made(monkeypatch):
    """The names of the cases that are really computed, in order."""
    from autoseg.preprocessing import store

    names, compute = [], store.preprocess_case
    monkeypatch.setattr(store, "preprocess_case", lambda name, *rest: names.append(name) or compute(name, *rest))
    return names


def quiet(dataset, plan=None, **options):
    return preprocess(dataset, plan or configuration(), show_progress=False, **options)


def stored_files(folder):
    return sorted(p.name for p in Path(folder).rglob("*") if p.is_file())


def same(first, second):
    return (
        np.array_equal(first.array, second.array)
        and np.array_equal(first.label, second.label)
        and first.geometry == second.geometry
        and first.class_locations.keys() == second.class_locations.keys()
        and all(np.array_equal(v, second.class_locations[k]) for k, v in first.class_locations.items())
    )


def test_a_folder_holds_what_memory_would(dataset, tmp_path):
    kept, stored = quiet(dataset), quiet(dataset, folder=tmp_path / "work")
    assert list(kept) == list(stored) == [case.name for case in dataset]
    assert all(same(kept[name], stored[name]) for name in kept)
    assert kept.nbytes == stored.nbytes == sum(kept[n].array.nbytes + kept[n].label.nbytes for n in kept)
    assert kept.key == stored.key
    assert stored.geometry("case_1") == kept["case_1"].geometry
    locations = stored.class_locations("case_1")
    assert all(
        locations[k].dtype == np.int32 and np.array_equal(locations[k], v)
        for k, v in kept["case_1"].class_locations.items()
    )


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_box_is_read_alone(data, read_from):
    whole, prepared = read_from
    start = tuple(data.draw(st.integers(0, n - 1)) for n in whole.geometry.shape)
    stop = tuple(data.draw(st.integers(a, n)) for a, n in zip(start, whole.geometry.shape, strict=True))
    image, label = prepared.read("a", Box(start, stop))
    assert np.array_equal(image, whole.array[(slice(None), *Box(start, stop).slices)])
    assert np.array_equal(label, whole.label[Box(start, stop).slices])


@pytest.fixture(scope="module", params=["folder", "memory"])
def read_from(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("boxes")
    case = write_case(folder, "a", (21, 33, 18))
    dataset = Dataset(name="one", folder=None, channels=("MRI",), labels=LABELS, training=(case,))
    plan = configuration(spacing=(0.8, 1.0, 1.1))
    return quiet(dataset, plan)["a"], quiet(dataset, plan, folder=folder if request.param == "folder" else None)


def test_finished_cases_are_not_made_again(dataset, tmp_path, made):
    quiet(dataset, folder=tmp_path)
    assert len(made) == 6
    quiet(dataset, folder=tmp_path)
    assert len(made) == 6


def test_only_what_changed_is_made_again(dataset, tmp_path, made):
    first = quiet(dataset, folder=tmp_path)
    write_case(tmp_path / "raw", "case_2", seed=77)
    label = tmp_path / "raw" / "case_4_label.mha"
    label.write_bytes(label.read_bytes()[:-1] + b"\2")  # of the same size
    os.utime(tmp_path / "raw" / "case_5_label.mha", (0, 0))  # with the same bytes
    made.clear()
    second = quiet(dataset, folder=tmp_path)
    assert made == ["case_2", "case_4"]
    assert first.key != second.key
    assert same(second["case_2"], quiet(dataset)["case_2"])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_dataset_that_was_downloaded_again_elsewhere_is_not_made_again(dataset, tmp_path, made, workers):
    first = quiet(dataset, folder=tmp_path / "work", workers=workers)
    made.clear()
    for place in ("again", "once_more"):
        (tmp_path / place).mkdir()
        cases = tuple(write_case(tmp_path / place, f"case_{k}", seed=k) for k in range(6))
        for case in cases:
            os.utime(case.files[0], (0, 0))
        again = quiet(replace(dataset, training=cases), folder=tmp_path / "work", workers=workers)
        assert made == [] and again.key == first.key
    write_case(tmp_path / "again", "case_1", seed=77)
    assert quiet(replace(dataset, training=cases), folder=tmp_path / "work").key == first.key
    changed = replace(cases[1], image_paths=(tmp_path / "again" / "case_1.mha",))
    quiet(replace(dataset, training=(changed,)), folder=tmp_path / "work")
    assert made == ["case_1"]


def test_without_a_folder_or_with_a_damaged_record_all_is_as_ever(dataset, tmp_path, made):
    quiet(dataset, folder=tmp_path)
    (tmp_path / "files.json").write_text("[1]")
    assert quiet(dataset, folder=tmp_path).key == quiet(dataset).key
    assert len(made) == 12


def scaled(factor):
    return lambda channel, inside: channel * factor


@pytest.mark.parametrize(
    ("before", "after", "again"),
    [
        ({}, {"spacing": (1.0, 1.0, 2.0)}, True),
        ({}, {"normalization": (NoNormalization(),)}, True),
        ({}, {"mask_background": (True,)}, True),
        ({}, {"axis_order": (2, 1, 0)}, True),
        ({}, {"batch_size": 7, "patch_size": (8, 8, 8), "batch_dice": True}, False),  # what training reads
        ({"normalization": (scaled(2),)}, {"normalization": (scaled(2),)}, False),
        ({"normalization": (scaled(2),)}, {"normalization": (scaled(3),)}, True),  # what a function holds
        ({"normalization": (lambda c, i: c,)}, {"normalization": (lambda c, i: -c,)}, True),  # and its body
    ],
)
def test_a_setting_makes_everything_again_only_if_it_matters(dataset, tmp_path, made, before, after, again):
    quiet(dataset, configuration(**before), folder=tmp_path)
    made.clear()
    quiet(dataset, configuration(**after), folder=tmp_path)
    assert bool(made) == again


class TestSharing:
    def test_configurations_on_the_same_grid_share_their_files(self, dataset, tmp_path, made):
        three = quiet(dataset, folder=tmp_path)
        made.clear()
        two = quiet(dataset, configuration(spacing=(1.0, 1.0)), folder=tmp_path)
        assert made == []
        assert all(same(three[name], two[name]) for name in three)
        inodes = {p.stat().st_ino for p in (tmp_path / "preprocessed").rglob("case_0.b2nd")}
        assert len(inodes) == 1
        quiet(dataset, configuration(spacing=(1.0, 1.0)), folder=tmp_path)
        assert made == []

    def test_replacing_one_leaves_the_other(self, dataset, tmp_path):
        quiet(dataset, folder=tmp_path)
        two = quiet(dataset, configuration(spacing=(1.0, 1.0)), folder=tmp_path)
        whole = two["case_0"]
        quiet(dataset, configuration(spacing=(2.0, 2.0, 2.0)), folder=tmp_path)
        assert same(two["case_0"], whole)

    def test_large_arrays_are_stored_again_in_chunks_for_the_other_patch(self, dataset, tmp_path, made, monkeypatch):
        monkeypatch.setattr(files, "SMALL", 0)
        monkeypatch.setattr(files, "BLOCK_BYTES", 4 * 12 * 14)
        monkeypatch.setattr(files, "CHUNK_BYTES", 4 * 12 * 14)
        three = quiet(dataset, folder=tmp_path)
        made.clear()
        two = quiet(dataset, configuration(spacing=(1.0, 1.0)), folder=tmp_path)
        assert made == []
        assert same(three["case_5"], two["case_5"])
        chunks = [blosc2.open(str(p), mode="r").chunks for p in sorted(tmp_path.rglob("case_0.b2nd"))]
        assert chunks == [(1, 1, 12, 14), (1, 10, 12, 14)]

    def test_what_cannot_be_read_there_is_made_here(self, dataset, tmp_path, made, monkeypatch):
        monkeypatch.setattr(files, "SMALL", 0)
        quiet(dataset, folder=tmp_path)
        path = tmp_path / "preprocessed" / "3d_fullres" / "case_3.b2nd"
        path.write_bytes(bytes(path.stat().st_size))
        made.clear()
        quiet(dataset, configuration(spacing=(1.0, 1.0)), folder=tmp_path)
        assert made == ["case_3"]

    def test_another_grid_is_not_shared(self, dataset, tmp_path, made):
        quiet(dataset, folder=tmp_path)
        made.clear()
        quiet(dataset, configuration(spacing=(1.0, 1.1)), folder=tmp_path)
        assert len(made) == 6


def test_what_was_replaced_is_not_read_under_the_old_name(dataset, tmp_path):
    old = quiet(dataset, folder=tmp_path)
    quiet(dataset, configuration(spacing=(2.0, 1.0, 1.0)), folder=tmp_path)
    with pytest.raises(StorageError, match="preprocessed again since, with other settings or from other files"):
        old.read("case_0", Box((0, 0, 0), (1, 1, 1)))


@pytest.mark.parametrize("names", [("a", "a_label", "a_label_"), ("a_label_label", "a_label", "a")])
def test_a_case_named_as_the_label_map_of_another_has_files_of_its_own(dataset, tmp_path, names):
    named = tuple(replace(case, name=name) for case, name in zip(dataset, names, strict=False))
    dataset = replace(dataset, training=named, splits=())
    memory, stored = preprocess(dataset, configuration()), preprocess(dataset, configuration(), folder=tmp_path)
    for name in names:
        whole = Box((0, 0, 0), memory[name].label.shape)
        for mine, expected in zip(stored.read(name, whole), memory.read(name, whole), strict=True):
            np.testing.assert_array_equal(mine, expected)


@pytest.mark.parametrize("ending", [".b2nd", "_label.b2nd", ".npz", ".json"])
def test_a_damaged_or_missing_file_is_noticed_and_replaced(dataset, tmp_path, made, ending):
    prepared = quiet(dataset, folder=tmp_path)
    whole = prepared["case_3"]
    path = tmp_path / "preprocessed" / "3d_fullres" / f"case_3{ending}"
    path.write_bytes(path.read_bytes()[:100])
    made.clear()
    assert same(quiet(dataset, folder=tmp_path)["case_3"], whole)
    path.unlink()
    assert same(quiet(dataset, folder=tmp_path)["case_3"], whole)
    assert made == ["case_3", "case_3"]


@pytest.mark.parametrize("ending", [".b2nd", "_label.b2nd", ".npz", ".json"])
def test_reading_a_damaged_file_says_which(dataset, tmp_path, ending):
    prepared = quiet(dataset, folder=tmp_path)
    path = tmp_path / "preprocessed" / "3d_fullres" / f"case_3{ending}"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StorageError, match=f"case_3{ending}"):
        prepared["case_3"]


class TestFailures:
    @pytest.mark.parametrize("workers", [0, 2])
    def test_a_bad_case_is_named_and_the_finished_ones_stay(self, dataset, tmp_path, made, workers):
        label = dataset["case_3"].label_path
        sound = label.read_bytes()
        sitk.WriteImage(sitk.GetImageFromArray(np.full(SHAPE, 9, np.uint8)), str(label))
        with pytest.raises(DatasetError, match=r"case 'case_3': the label map holds the value\(s\) 9"):
            quiet(dataset, folder=tmp_path / "work", workers=workers)
        label.write_bytes(sound)
        done = set(made)
        made.clear()
        assert len(quiet(dataset, folder=tmp_path / "work", workers=workers)) == 6
        assert {"case_0", "case_1", "case_2"} <= done
        assert not done & set(made)

    def test_what_nobody_expected_is_raised_with_the_case_and_its_cause(self, dataset, monkeypatch):
        from autoseg.preprocessing import store

        def fail(name, *rest):
            raise MemoryError("no room")

        monkeypatch.setattr(store, "preprocess_case", fail)
        with pytest.raises(PreprocessingError, match="case 'case_0' could not be preprocessed: no room") as caught:
            quiet(dataset, workers=1)
        assert isinstance(caught.value.__cause__, MemoryError)

    @pytest.mark.parametrize("workers", [0, 2])
    def test_ctrl_c_leaves_whole_cases_and_goes_on_later(self, dataset, tmp_path, made, workers):
        calls = []

        def stop_at_the_fourth(channel, inside):
            calls.append(1)
            if len(calls) == 4:
                raise KeyboardInterrupt
            return channel

        plan = configuration(normalization=(stop_at_the_fourth,))
        with pytest.raises(KeyboardInterrupt):
            quiet(dataset, plan, folder=tmp_path / "work", workers=workers)
        left = stored_files(tmp_path / "work" / "preprocessed")
        assert left
        assert len(left) % 4 == 0  # four files a case, and no temporary one
        made.clear()
        calls += [1] * 4  # what the function holds is part of the key, so this is another one
        assert len(quiet(dataset, plan, folder=tmp_path / "work", workers=workers)) == 6

    def test_a_file_in_the_folders_place(self, dataset, tmp_path):
        (tmp_path / "work").write_text("I am a file")
        with pytest.raises(StorageError, match="cannot write into .*work.*Choose another folder"):
            quiet(dataset, folder=tmp_path / "work")
        assert (tmp_path / "work").read_text() == "I am a file"

    @pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
    def test_a_file_that_cannot_grow_leaves_nothing_half_written(self, dataset, tmp_path):
        """As on a full disk: writing stops in the middle of a file."""
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
        try:
            with pytest.raises(StorageError, match=r"case_0\.b2nd.*Nothing half-written was left"):
                quiet(dataset, folder=tmp_path / "work")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert stored_files(tmp_path / "work") == []
        assert len(quiet(dataset, folder=tmp_path / "work")) == 6

    def test_a_full_disk_leaves_nothing_half_written(self, dataset, tmp_path):
        disk = tmp_path / "disk"
        disk.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", disk], capture_output=True).returncode:
            pytest.skip("no tiny disk can be mounted here")
        try:
            with pytest.raises(StorageError, match=r"cannot write .*disk.*No space left on device"):
                quiet(dataset, folder=disk)
            left = stored_files(disk)
            assert left
            assert len([name for name in left if name.endswith(".json")]) == len(left) // 4  # whole cases, or less
            assert not [name for name in left if name.startswith(".")]
        finally:
            subprocess.run(["umount", disk], check=True)


class TestReading:
    def test_an_unknown_case_is_answered_with_a_suggestion(self, dataset):
        with pytest.raises(DatasetError, match="no preprocessed case is called 'case_9'. Did you mean 'case_"):
            quiet(dataset)["case_9"]

    def test_folds_are_the_datasets_own_where_it_has_some(self, dataset):
        own = (Split(("case_0",), ("case_1", "case_2")),)
        assert quiet(replace(dataset, splits=own)).fold(0) == own[0]
        assert len(quiet(dataset).splits) == 5
        with pytest.raises(DatasetError, match="fold 5 does not exist: there are 5 folds, 0 to 4"):
            quiet(dataset).fold(5)

    def test_a_single_case_has_no_folds(self, dataset):
        alone = quiet(dataset.without(*[f"case_{k}" for k in range(1, 6)]))
        with pytest.raises(DatasetError, match="a single case cannot be split"):
            alone.fold(0)

    def test_two_configurations_live_side_by_side(self, dataset, tmp_path):
        three, two = quiet(dataset, folder=tmp_path), quiet(dataset, configuration(spacing=(0.5, 0.5)), folder=tmp_path)
        assert three["case_0"].array.shape == (1, 10, 12, 14)
        assert two["case_0"].array.shape == (1, 10, 24, 28)

    def test_the_text_says_where_and_how_large(self, dataset, tmp_path):
        text = repr(quiet(dataset, folder=tmp_path))
        assert text.startswith(f"PreprocessedDataset('by hand' for 3d_fullres: 6 cases in {tmp_path})\n")
        assert "0 MB when read, 5 folds" in text


def test_workers_do_the_same(dataset, tmp_path):
    alone, together = quiet(dataset), quiet(dataset, folder=tmp_path, workers=3)
    assert list(alone) == list(together)
    assert all(same(alone[name], together[name]) for name in alone)


def test_memory_holds_one_case_at_a_time(tmp_path):
    """Twelve cases of 4 MB may not need more than a few of them."""
    import tracemalloc

    shape = (64, 128, 128)
    cases = [write_case(tmp_path, f"c{number}", shape, seed=number) for number in range(12)]
    dataset = Dataset(name="large", folder=None, channels=("MRI",), labels=LABELS, training=tuple(cases))
    quiet(dataset.without(*[f"c{k}" for k in range(1, 12)]), folder=tmp_path)  # caches are warm
    tracemalloc.start()
    quiet(dataset, folder=tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 14 * np.prod(shape) * 4


def test_real_cases_go_to_a_folder_and_back(shared_data, tmp_path):
    dataset = open_dataset(shared_data / "SunnybrookLV3D")
    few = dataset.without(*[case.name for case in dataset.training[2:]])
    prepared = quiet(few, configuration(few.labels, (8.0, 1.6, 1.6), channels=few.channels), folder=tmp_path)
    again = quiet(few, prepared.configuration)
    assert all(same(prepared[name], again[name]) for name in prepared)
    assert prepared[prepared.cases[0]].label.min() == -1


def test_what_is_no_configuration_is_told_how_to_choose_one(dataset):
    plan = autoseg.make_plan(autoseg.extract_fingerprint(dataset, show_progress=False))
    with pytest.raises(PreprocessingError, match=r"not for a Plan\. .*plan\['3d_fullres'\]\)\. It has 2d"):
        preprocess(dataset, plan)
    with pytest.raises(PreprocessingError, match=r"not for a str\. Choose one: preprocess\(dataset, plan\['2d'\]\)"):
        preprocess(dataset, "2d")
    with pytest.raises(PreprocessingError, match="of type Fingerprint; it must be a Dataset"):
        preprocess(autoseg.extract_fingerprint(dataset, show_progress=False), plan["2d"])


def test_a_dataset_whose_labels_mean_something_else_than_the_plans_is_refused(dataset):
    swapped = Labels({name: {0: 0, 1: 2, 2: 1}[value] for name, value in LABELS.names.items()})
    with pytest.raises(PreprocessingError, match=r"made for other labels .* is 2 against 1\. Plan with the dataset"):
        quiet(replace(dataset, labels=swapped))
    more = Labels({**LABELS.names, "third": 3})
    with pytest.raises(PreprocessingError, match=r"values are \(0, 1, 2, 3\) against \(0, 1, 2\)"):
        quiet(replace(dataset, labels=more))
