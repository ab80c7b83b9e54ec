"""Slices stand the way a radiologist holds a scan, in true proportions, where most can be seen."""

from __future__ import annotations

import base64
import io
import re
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from autoseg.data.geometry import Grid
from autoseg.data.images import Image
from autoseg.display.colours import colour_of
from autoseg.display.marks import bar_length
from autoseg.display.slices import (
    Overlay,
    fullest_slice,
    orientation_of,
    slice_axis,
    thumbnail,
    view_of,
    views,
    window_of,
)

WORLD = {"superior": (0, 0, 1), "anterior": (0, -1, 0), "right": (-1, 0, 0)}


def scan(order, flips, shape=(7, 9, 11)) -> Grid:
    """A grid whose axes are the world's axes in some order, some of them running backwards."""
    direction = np.zeros((3, 3))
    for axis, (world, flip) in enumerate(zip(order, flips, strict=True)):
        direction[world, axis] = -1.0 if flip else 1.0
    return Grid(shape, (1.0, 1.0, 1.0), (5.0, 6.0, 7.0), tuple(map(tuple, direction.tolist())))


def mark(grid: Grid, towards: str) -> np.ndarray:
    """An array that is one on the face that lies furthest in a direction."""
    toward = np.asarray(grid.direction).T @ np.array(WORLD[towards])
    axis = int(np.argmax(abs(toward)))
    array = np.zeros(grid.shape)
    index: list = [slice(None)] * 3
    index[axis] = -1 if toward[axis] > 0 else 0
    array[tuple(index)] = 1
    return array


def side(picture: np.ndarray) -> str:
    """Which edge of a picture is all ones."""
    edges = {"top": picture[0], "bottom": picture[-1], "left": picture[:, 0], "right": picture[:, -1]}
    return next(name for name, edge in edges.items() if edge.all())


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("flips", [(False,) * 3, (True, False, True), (False, True, False), (True,) * 3])
def test_however_a_scan_is_stored_it_is_shown_the_same_way(order, flips):
    grid = scan(order, flips)
    expected = {
        "axial": {"anterior": "top", "right": "left"},
        "coronal": {"superior": "top", "right": "left"},
        "sagittal": {"superior": "top", "anterior": "left"},
    }
    seen = {view.name: view for view in (view_of(grid, axis, 3) for axis in range(3))}
    assert set(seen) == set(expected)
    for plane, sides in expected.items():
        for towards, where in sides.items():
            assert side(seen[plane].lay(mark(grid, towards))) == where
            assert seen[plane].letters[("top", "right", "bottom", "left").index(where)] == towards[0].upper()


def test_a_grid_that_says_nothing_of_a_patient_has_no_letters():
    assert orientation_of(Grid.of((4, 5, 6))) is None
    assert view_of(Grid.of((4, 5, 6)), 1, 2).letters is None
    assert orientation_of(scan((2, 1, 0), (False,) * 3)) is not None


def test_the_fullest_slice_is_chosen():
    labels = np.zeros((5, 6, 7), np.uint8)
    labels[3, 2:4, 2:4] = 1
    labels[1, 0, 0] = 2
    assert fullest_slice(labels, Grid.of(labels.shape), 0) == 3
    assert fullest_slice(None, Grid.of(labels.shape), 0) == 2
    assert fullest_slice(np.zeros_like(labels), Grid.of(labels.shape), 2) == 3


def test_what_nobody_annotated_does_not_choose_the_slice():
    labels = np.zeros((5, 6, 7), np.uint8)
    labels[3, 2:4, 2:4] = 1
    labels[1] = 2
    assert fullest_slice(labels, Grid.of(labels.shape), 0, ignore=2) == 3
    labels[labels == 1] = 2
    assert fullest_slice(labels, Grid.of(labels.shape), 0, ignore=2) == 2


def test_a_very_wide_picture_and_its_labels_stand_below_each_other():
    image = Image(np.zeros((1, 60, 900), np.float32), Grid.of((60, 900)), ("X-ray",))
    labels = np.zeros((60, 900), np.uint8)
    labels[20:40, 100:200] = 1
    assert all(width > 500 for width, _ in sizes(views(image, Overlay(filled=labels))))
    assert len(pictures(views(image, Overlay(filled=labels), twice=False))) == 1


def test_voxels_that_were_not_measured_are_black():
    array = np.ones((1, 20, 20), np.float32)
    array[0, :10] = np.nan
    (shown,) = pictures(views(Image(array, Grid.of((20, 20)), ("MRI",)), Overlay()))
    assert max(shown.getpixel((shown.width // 2, 20))) < 20


def test_the_sharpest_plane_leads():
    assert slice_axis(Grid.of((10, 256, 256), (8, 1.4, 1.4))) == 0
    assert slice_axis(Grid.of((256, 256, 10), (1, 1, 5))) == 2


def pictures(html: str) -> list[Picture.Image]:
    found = re.findall(r'src="data:image/png;base64,([^"]+)"[^>]*class="as-picture"', html)
    return [Picture.open(io.BytesIO(base64.b64decode(f))).convert("RGB") for f in found]


def sizes(html: str) -> list[tuple[int, int]]:
    found = re.findall(r'width="(\d+)" height="(\d+)"[^>]*class="as-picture"', html)
    return [(int(w), int(h)) for w, h in found]


spaces = st.tuples(*[st.integers(4, 60)] * 3)
spacings = st.tuples(*[st.floats(0.2, 8)] * 3)


@settings(max_examples=15, deadline=None)
@given(spaces, spacings)
def test_views_are_in_true_proportions_on_one_scale_and_fit_the_page(shape, spacing):
    grid = Grid.of(shape, spacing)
    html = views(Image(np.zeros((1, *shape), np.float32), grid, ("MRI",)), Overlay())
    main = slice_axis(grid)
    wanted = [view_of(grid, a, 0).extent(grid) for a in (main, *(a for a in range(3) if a != main))]
    shown = sizes(html)
    lengths = [pair for pixels, mm in zip(shown, wanted, strict=True) for pair in zip(pixels, mm, strict=True)]
    longest, its_mm = max(lengths)
    assert all(width <= 672 and height <= 310 for width, height in shown)
    for pixels, mm in lengths:
        assert pixels == pytest.approx(max(longest / its_mm * mm, 24), rel=0.02, abs=1)


def test_small_scans_are_shown_large():
    grid = Grid.of((35, 50, 34))
    shown = sizes(views(Image(np.zeros((1, *grid.shape), np.float32), grid, ("MRI",)), Overlay()))
    assert max(h for _, h in shown) > 200


def test_labels_are_drawn_in_their_colours():
    array = np.zeros((1, 40, 40), np.float32)
    labels = np.zeros((40, 40), np.uint8)
    labels[5:35, 5:15], labels[5:35, 25:35] = 1, 2
    grid = Grid.of(labels.shape)
    plain, drawn = pictures(views(Image(array, grid, ("MRI",)), Overlay(filled=labels, opacity=1.0)))
    assert {c for _, c in plain.crop((0, 0, plain.width, plain.height // 2)).getcolors(10_000)} == {(0, 0, 0)}
    for value, column in ((1, 10), (2, 30)):
        at = (drawn.width * column // 40, drawn.height // 2)
        assert np.allclose(drawn.getpixel(at), list(bytes.fromhex(colour_of(value)[1:])), atol=8)


def test_a_colour_picture_is_shown_in_colour():
    array = np.zeros((3, 30, 30), np.float32)
    array[0, :, :15], array[1, :, 15:] = 1, 1
    (shown,) = pictures(views(Image(array, Grid.of((30, 30)), ("R", "G", "B")), Overlay()))
    middle = shown.height // 2
    red, green = shown.getpixel((shown.width // 4, middle)), shown.getpixel((3 * shown.width // 4, middle))
    assert red[0] > 200 > 60 > red[1] and green[1] > 200 > 60 > green[0]


def test_every_channel_is_shown():
    image = Image(np.zeros((4, 8, 20, 20), np.float32), Grid.of((8, 20, 20)), ("T1", "T1ce", "T2", "FLAIR"))
    html = views(image, Overlay())
    assert len(pictures(html)) == 4 and all(name in html for name in image.channels)


def test_even_noise_stays_small():
    noise = np.random.RandomState(0).normal(size=(1, 400, 400)).astype(np.float32)
    labels = np.zeros((400, 400), np.uint8)
    labels[100:300, 100:300] = 1
    image = Image(noise, Grid.of((400, 400)), ("MRI",))
    assert len(views(image, Overlay(filled=labels))) < 280_000
    assert len(thumbnail(image, Overlay(filled=labels))) < 100_000


@given(st.floats(1e-4, 1e5))
def test_a_scale_bar_is_a_round_length_that_fits(longest):
    length = bar_length(longest)
    assert longest / 2.5 * 0.999 <= length <= longest * 1.000001
    assert f"{length:.0e}"[0] in "125"


def test_windows_ignore_extremes_and_know_ct():
    values = np.concatenate([np.linspace(0, 1, 9999), [1e6]]).reshape(100, 100)
    assert window_of(values, "MRI")[1] < 2
    assert window_of(values, "CT") == (-160.0, 240.0)
    assert window_of(np.full((3, 3), np.nan), "MRI") == (0.0, 1.0)
    hounsfield = np.random.default_rng(0).normal(0, 300, (50, 50))
    assert window_of(hounsfield, "ct") == (-160.0, 240.0)
    assert window_of(hounsfield + 1024, "CT")[1] > 1500, "shifted as scanners store it"
    assert window_of(hounsfield / 300, "CT")[1] < 4, "normalized"
