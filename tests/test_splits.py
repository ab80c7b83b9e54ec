"""Folds are nnU-Net's, and partitions whatever the names."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoseg.core.errors import DatasetError
from autoseg.data.splits import make_splits

case_names = st.lists(st.text("abcdef0123_", min_size=1, max_size=6), min_size=2, max_size=40, unique=True)


def test_the_hippocampus_folds_are_those_of_nnunet(shared_data, reference):
    theirs = json.loads((reference / "hippocampus_splits_nnunet.json").read_text())
    names = [p.name.removesuffix(".nii.gz") for p in (shared_data / "Task04_Hippocampus/imagesTr").glob("*.nii.gz")]
    ours = make_splits(names)
    assert [{"train": list(s.training), "val": list(s.validation)} for s in ours] == theirs


@given(case_names)
def test_each_case_validates_exactly_once_and_trains_otherwise(names):
    splits = make_splits(names)
    assert sorted(n for s in splits for n in s.validation) == sorted(names)
    for split in splits:
        assert set(split.training) == set(names) - set(split.validation)


@given(case_names)
def test_folds_differ_in_size_by_one_case_at_most(names):
    sizes = [len(s.validation) for s in make_splits(names)]
    assert len(sizes) == min(5, len(names))
    assert max(sizes) - min(sizes) <= 1


@given(case_names)
def test_the_order_of_the_names_does_not_matter(names):
    assert make_splits(names) == make_splits(names[::-1])


@pytest.mark.parametrize("names", [[], ["one"]])
def test_one_case_cannot_be_split(names):
    with pytest.raises(DatasetError, match=rf"^{len(names)} case\(s\) cannot be split .* fold='all'"):
        make_splits(names)
