"""One colour for each label value, everywhere, and told apart by the colour-blind."""

from __future__ import annotations

import base64
import io
import re
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage.color import rgb2lab

from autoseg.data.labels import Labels
from autoseg.display.colours import IGNORED, OKABE_ITO, colour_of, colour_of_region, legend, named, swatch

# Machado, Oliveira and Fernandes 2009, full severity, on linear RGB
BLIND = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


def as_seen(colour: str, matrix) -> np.ndarray:
    srgb = np.array(list(bytes.fromhex(colour[1:]))) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.asarray(matrix) @ linear, 0, 1)
    back = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    return rgb2lab(back[None, None])[0, 0]


@pytest.mark.parametrize("sight", BLIND)
def test_the_first_seven_labels_are_told_apart(sight):
    seen = [as_seen(colour_of(v), BLIND[sight]) for v in range(1, len(OKABE_ITO) + 1)]
    closest = min(float(np.linalg.norm(a - b)) for a, b in combinations(seen, 2))
    assert closest > 10  # 2.3 is a just noticeable difference


@given(st.integers(1, 100_000))
def test_a_value_has_one_valid_colour(value):
    assert len(bytes.fromhex(colour_of(value)[1:])) == 3
    assert colour_of(value) == colour_of(value) != IGNORED
    assert colour_of(value, ignore=value) == IGNORED


def test_twenty_one_labels_have_colours_of_their_own():
    assert len({colour_of(v) for v in range(1, 22)}) == 21


def test_a_region_has_the_colour_of_the_value_that_is_written_for_it():
    labels = Labels({"background": 0, "whole": (1, 2, 3), "core": (2, 3), "enhancing": 3}, region_order=(1, 2, 3))
    assert [colour_of_region(labels, n) for n in labels.regions] == [colour_of(v) for v in (1, 2, 3)]
    far = Labels({"background": 0, "cell": 255})
    assert colour_of_region(far, "cell") == colour_of(255)


@pytest.mark.parametrize("colour", OKABE_ITO)
def test_a_swatch_is_a_picture_of_its_colour(colour):
    data = swatch(colour).partition("base64,")[2].partition('"')[0]
    assert Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB").getpixel((0, 0)) == tuple(
        bytes.fromhex(colour[1:])
    )


def test_a_long_legend_is_cut():
    labels = Labels({"background": 0, **{f"structure {i}": i for i in range(1, 118)}})
    assert "and 105 more" in legend(labels) and "structure 13" not in legend(labels)


def test_a_value_of_regions_is_named_by_the_smallest_of_them():
    labels = Labels({"background": 0, "tumour": (1, 2, 3), "core": (2, 3), "active": 3}, region_order=(1, 2, 3))
    told = [re.sub("<[^>]*>", "", named(value, labels)).strip() for value in (1, 2, 3)]
    assert told == ["tumour, value 1", "core, value 2", "active"]
