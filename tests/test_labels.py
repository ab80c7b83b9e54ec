"""Labels mean in autoseg what they mean in nnU-Net's dataset.json."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoseg.core.errors import DatasetError
from autoseg.data.labels import Labels, labels_from_json, labels_to_json

names = st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=8)
reserved = {"background", "ignore"}


@st.composite
def some_labels(draw):
    """Single labels and regions, with or without an ignore label."""
    words = draw(
        st.lists(names.filter(lambda n: n not in reserved and not n.isdigit()), min_size=1, max_size=6, unique=True)
    )
    top = draw(st.integers(1, 9))
    value = st.integers(1, top)
    regions = st.lists(value, min_size=2, max_size=3, unique=True).map(tuple) if top > 1 else value
    values = {w: draw(st.one_of(value, regions)) for w in words}
    several = any(isinstance(v, tuple) for v in values.values())
    order = tuple(range(1, len(words) + 1)) if several else ()
    highest = max(v if isinstance(v, int) else max(v) for v in values.values())
    return Labels({"background": 0, **values}, order, draw(st.sampled_from((None, highest + 1))))


@given(some_labels())
def test_what_is_written_is_read_back(labels):
    assert labels_from_json(labels_to_json(labels), list(labels.region_order)) == labels


@given(some_labels())
def test_outputs_are_regions_or_classes_with_background(labels):
    assert labels.outputs == (len(labels.regions) if labels.has_regions else len(labels.foreground) + 1)
    assert labels.values[0] == 0
    assert labels.declared == len(labels_to_json(labels))


@given(some_labels())
def test_every_permitted_value_has_a_name(labels):
    assert all(labels.name_of(value) for value in labels.permitted)
    assert (labels.ignore in labels.permitted) == (labels.ignore is not None)


def test_the_decathlon_writes_values_first():
    assert labels_from_json({"0": "Hintergrund", "1": "Anterior"}).names == {"background": 0, "Anterior": 1}


def test_a_list_of_one_is_not_a_region():
    labels = labels_from_json({"background": 0, "liver": [1]})
    assert not labels.has_regions
    assert labels.names["liver"] == 1


def test_values_only_regions_speak_of_are_numbered():
    labels = Labels({"background": 0, "whole": (1, 2), "core": 2}, region_order=(1, 2))
    assert [labels.name_of(v) for v in (0, 1, 2)] == ["background", "label 1", "core"]


def test_the_text_names_everything_in_one_line():
    assert repr(Labels({"background": 0, "b": (1, 2)}, (1,), ignore=3)) == "Labels(0 background, [1, 2] b, 3 ignore)"


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({}, "'labels' in dataset.json is empty"),
        ({"organ": 1}, "no 'background' with value 0"),
        ({"background": 1, "organ": 2}, "no 'background' with value 0"),
        ({"background": 0, "organ": "one"}, "label 'organ' has the value 'one'"),
        ({"background": 0, "organ": 1.5}, "label 'organ' has the value 1.5"),
        ({"background": 0, "organ": "--3"}, "label 'organ' has the value '--3'"),
        ({"0": "background", "1": "organ", "2": "organ"}, "two values in 'labels' are called 'organ'"),
        ({"background": 0, "organ": True}, "label 'organ' has the value True"),
        ({"background": 0, "organ": []}, r"label 'organ' has the value \[\]"),
        ({"background": 0, "organ": 1, "ignore": 5}, "the ignore label is 5, but it must be .* plus one, 2"),
        ({"background": 0, "organ": 1, "ignore": [2, 3]}, "ignore label must be one whole number"),
        (
            {"background": 0, "whole": [1, 2]},
            r"1 regions \(whole\) need as many entries in 'regions_class_order', found 0",
        ),
    ],
)
def test_declarations_that_mean_nothing_are_refused(declared, message):
    with pytest.raises(DatasetError, match=message):
        labels_from_json(declared)


def test_many_labels_with_long_names_are_a_few_lines_of_text():
    names = {"background": 0} | {f"label {n} {'x' * 90}": n for n in range(1, 101)}
    labels = Labels(names)
    assert repr(labels).endswith(" and 98 more)")
    assert len(repr(labels)) < 400
