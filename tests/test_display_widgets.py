"""Widgets: what sliders do, what a page without a kernel shows instead, and how fast a slice changes."""

from __future__ import annotations

import base64
import gzip
import io
import re
import sys
import time
from dataclasses import replace
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest
from making import make_dataset
from PIL import Image as Picture
from small_trainings import boxes, short

import autoseg
from autoseg.core.errors import DisplayError, EvaluationError
from autoseg.data.geometry import Grid
from autoseg.data.images import Image, LabelMap
from autoseg.data.labels import Labels
from autoseg.data.opening import open_dataset
from autoseg.display.colours import colour_of
from autoseg.display.raster import Painting, draw_slice, rgb
from autoseg.display.slices import view_of
from autoseg.display.surfaces import directions, draw_surfaces
from autoseg.display.viewers import AGREEMENT, agreement
from autoseg.display.volumes import MOST, steps_for
from autoseg.prediction.inference import Prediction, Predictions

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Six cases whose second label tries to be markup."""
    opened = open_dataset(make_dataset(tmp_path_factory.mktemp("data"), shape=(12, 16, 20)))
    labels = Labels({"background": 0, "organ": 1, EVIL: 2})
    return replace(opened, labels=labels, training=tuple(replace(c, labels=labels) for c in opened.training))


def predicted(case, shift=2) -> Prediction:
    truth = case.label()
    return Prediction(case=case, label_map=LabelMap(np.roll(truth.array, shift, axis=2), truth.grid, truth.labels))


@pytest.fixture(scope="module")
def predictions(dataset):
    return Predictions(tuple(predicted(case, shift) for shift, case in enumerate(dataset.training)))


def pixels(picture) -> np.ndarray:
    return np.asarray(Picture.open(io.BytesIO(picture.value)))


def test_a_slice_changes_faster_than_the_eye():
    grid = Grid.of((20, 512, 512), (3.0, 0.8, 0.8))
    array = np.random.RandomState(0).normal(size=grid.shape).astype(np.float32)
    labels = np.zeros(grid.shape, np.uint8)
    labels[:, 100:300, 100:300], labels[:, 150:200, 150:200] = 1, 2
    painting, took = Painting(filled=labels, outlined=labels), []
    for index in range(12):
        started = time.process_time()  # of the kernel alone, whatever else the machine does
        draw_slice(array, grid, view_of(grid, 0, index), painting, window=(-2, 2), scale=1 / 0.8)
        took.append(time.process_time() - started)
    assert min(took) < 0.06, f"{1000 * np.median(took):.0f} ms"


def test_labels_have_the_colour_they_have_everywhere():
    labels = np.zeros((40, 40), np.uint8)
    labels[10:30, 10:30] = 2
    grid = Grid.of((40, 40))
    drawn = draw_slice(
        np.zeros((40, 40), np.float32), grid, view_of(grid, 0, 0), Painting(filled=labels, opacity=1.0),
        window=(0, 1), scale=4,
    )  # fmt: skip
    assert Picture.open(io.BytesIO(drawn)).getpixel((80, 60)) == rgb(colour_of(2))


def test_every_control_of_a_case_changes_its_pictures(dataset):
    browser = dataset.training[0].browse()
    first = {axis: picture.value for axis, picture in browser.slices.pictures.items()}
    assert len(first) == 3
    axis = browser.slices.axes[1]
    browser.slices.sliders[axis].value -= 3
    now = {a: picture.value for a, picture in browser.slices.pictures.items()}
    assert {a for a in first if now[a] != first[a]} == {axis}, "a slider draws its own picture alone"
    for control, value in ((browser.opacity, 0.9), (browser.window, (90, 120))):
        before = browser.slices.pictures[axis].value
        control.value = value
        assert browser.slices.pictures[axis].value != before


def test_truth_against_prediction(dataset, predictions):
    browser = predictions[2].browse()
    browser.mode.value = "agreement"
    shown = pixels(browser.slices.pictures[0]).reshape(-1, 3)
    outlined = {word for word, colour in AGREEMENT.values() if (shown == rgb(colour)).all(axis=1).any()}
    assert {"both agree", "predicted only", "missed"} <= outlined
    assert all(word in browser.key.value for word, _ in AGREEMENT.values())


def test_nobody_is_judged_where_nobody_annotated():
    truth, guess = np.array([0, 1, 1, 9, 9]), np.array([0, 1, 2, 1, 0])
    assert agreement(truth, guess, ignore=9).tolist() == [0, 1, 4, 0, 0]


def test_a_click_on_a_dot_or_a_row_shows_the_case(dataset, predictions):
    evaluation = autoseg.evaluate(predictions, dataset)
    explorer = evaluation.explore()
    assert explorer.case == evaluation.worst(1)[0]
    shown = explorer.shown.children[1].stands_for.case.name
    assert shown == explorer.case
    explorer.plot.children[-1].click()
    assert explorer.case != shown and explorer.shown.children[1].stands_for.case.name == explorer.case
    assert EVIL in explorer.label.options, "options are text, never markup"
    explorer.label.value = EVIL
    assert explorer.case == min(explorer.values(), key=explorer.values().get)
    with pytest.raises(EvaluationError, match="made without predictions"):
        replace(evaluation, predictions=()).explore()


def test_predictions_side_by_side_move_together(predictions):
    others = Predictions(tuple(predicted(p.case, 0) for p in predictions))
    both = autoseg.compare_predictions({"before": predictions, EVIL: others})
    first, second = both.slices
    before = [s.pictures[s.axes[0]].value for s in (first, second)]
    first.sliders[first.axes[0]].value += 2
    assert second.sliders[second.axes[0]].value == first.sliders[first.axes[0]].value
    assert all(s.pictures[s.axes[0]].value != b for s, b in zip((first, second), before, strict=True))
    both.case.value = both.compared.cases[3]
    assert "1.000" in both.scores.value
    with pytest.raises(EvaluationError, match="at least two predictions, there are 1"):
        autoseg.compare_predictions([predictions])
    with pytest.raises(EvaluationError, match="no case is predicted by all of a, b"):
        autoseg.compare_predictions({"a": predictions[:1], "b": predictions[1:2]})


def test_a_watch_follows_the_training_and_looks_back():
    training = autoseg.Training(boxes(), fold=0, blueprint=short(epochs=4), device="cpu")
    watch = training.watch()
    assert watch.patch.layout.display == "none" and "0% of 4 epochs" in watch.card.value
    for _ in training:
        pass
    assert "finished" in watch.card.value and watch.epoch.options[-1] == 3 == watch.epoch.value
    last = watch.example.value
    watch.epoch.value = 0
    assert watch.example.value != last
    watch.close()
    assert not training.listeners


@pytest.fixture(scope="module")
def widgets(dataset, predictions):
    return [
        dataset.training[0].browse(),
        predictions[0].browse(),
        autoseg.evaluate(predictions, dataset).explore(),
        autoseg.compare_predictions([predictions, predictions]),
        predictions[0].show_3d(),
        autoseg.Training(boxes(), fold=0, blueprint=short(), device="cpu").watch(),
        autoseg.make_plan(autoseg.extract_fingerprint(dataset, show_progress=False)).explore(),
    ]


def test_each_has_a_display_that_needs_no_kernel(widgets):
    for widget in widgets:
        bundle = widget._repr_mimebundle_()
        html = bundle["text/html"]
        assert "application/vnd.jupyter.widget-view+json" in bundle
        assert "as-card" in html and EVIL not in html and len(html) < 300_000, type(widget)
        assert len(bundle["text/plain"]) < 500 and "children" not in bundle["text/plain"], bundle["text/plain"]


def values_of(widget):
    """Everything that a widget and those inside it show as HTML."""
    yield getattr(widget, "value", None) if type(widget).__name__ == "HTML" else None
    for child in getattr(widget, "children", ()):
        yield from values_of(child)


def test_hostile_names_are_text_in_every_widget(widgets):
    written = [v for w in widgets for v in values_of(w) if v]
    assert len(written) > 10 and not any(EVIL in v for v in written)


def test_the_users_matplotlib_never_notices(dataset, predictions):
    import matplotlib
    import matplotlib.pyplot as plt

    mine = plt.figure()
    before = dict(matplotlib.rcParams), matplotlib.get_backend()
    for widget in (predictions[1].browse(), predictions[1].show_3d(), autoseg.evaluate(predictions, dataset).explore()):
        widget._repr_mimebundle_()
    assert (dict(matplotlib.rcParams), matplotlib.get_backend()) == before
    assert plt.get_fignums() == [mine.number] and plt.gcf() is mine
    plt.close(mine)


def test_colab_is_told_to_show_widgets_of_others(dataset, monkeypatch):
    called = []
    colab = ModuleType("google.colab")
    colab.output = ModuleType("google.colab.output")
    colab.output.enable_custom_widget_manager = lambda: called.append(True)
    for name, module in (("google.colab", colab), ("google.colab.output", colab.output)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "google", sys.modules.get("google") or ModuleType("google"))
    monkeypatch.setattr(sys.modules["google"], "colab", colab, raising=False)
    dataset.training[0].browse()
    assert called


# 3D


def oblique(case) -> Image:
    image = case.image()
    direction = ((0.0, 0.6, 0.8), (0.0, -0.8, 0.6), (1.0, 0.0, 0.0))
    return Image(image.array, replace(image.grid, direction=direction, origin=(3.0, -7.0, 11.0)), image.channels)


def test_the_volume_lies_in_the_world_where_the_file_lies(dataset, predictions):
    pytest.importorskip("ipyniivue")
    viewer = predictions[2].show_3d()
    scan, *overlays = (nib.Nifti1Image.from_bytes(gzip.decompress(v.data)) for v in viewer.niivue.volumes)
    file = nib.load(predictions[2].case.image_paths[0])
    assert np.allclose(scan.affine, file.affine) and np.allclose(scan.get_fdata(), file.get_fdata(), atol=1e-3)
    for volume, name in zip(overlays, viewer.volume.maps, strict=True):
        assert np.allclose(volume.affine, file.affine)
        assert np.array_equal(volume.get_fdata().T, viewer.volume.maps[name])
    lut = viewer.niivue.volumes[1].colormap_label.lut
    assert tuple(lut[4:7]) == rgb(colour_of(1)) and tuple(lut[8:11]) == rgb(colour_of(2)) and lut[3] == 0
    viewer.opacities["reference"].value = 0.7
    assert viewer.overlays["reference"].opacity == 0.7


def test_oblique_volumes_too():
    from autoseg.display.volumes import nifti

    direction = ((0.0, 0.6, 0.8), (0.0, -0.8, 0.6), (1.0, 0.0, 0.0))
    grid = Grid((4, 5, 6), (3.0, 2.0, 1.0), (3.0, -7.0, 11.0), direction)
    made = nib.Nifti1Image.from_bytes(gzip.decompress(nifti(np.zeros(grid.shape, np.uint8), grid)))
    left, back, up = grid.to_world((1, 2, 3))
    assert np.allclose(made.affine @ (3, 2, 1, 1), (-left, -back, up, 1), atol=1e-5)


def test_large_volumes_are_thinned_with_a_note(monkeypatch, dataset):
    step = steps_for(Grid.of((100, 512, 512), (2.0, 0.7, 0.7)), MOST)
    assert step[0] == 1 and np.prod([100, *(512 / s for s in step[1:])]) < 1.1 * MOST
    monkeypatch.setattr("autoseg.display.volumes.MOST", 600)
    volume = dataset.training[0].show_3d(backend="picture")
    assert volume.image.size <= 600 and "too large for a browser" in volume._repr_html_()
    centre = dataset.training[0].image().grid
    assert np.allclose(volume.grid.to_world((1, 1, 1)), centre.to_world(volume.step))


def test_what_cannot_be_shown_says_why(dataset, tmp_path):
    with pytest.raises(DisplayError, match="no 3D viewer 'vtk'. Known: niivue, itk, picture"):
        dataset.training[0].show_3d(backend="vtk")
    flat = open_dataset(make_dataset(tmp_path / "flat", shape=(20, 24), ending=".tif"))
    with pytest.raises(DisplayError, match=r"flat image of 20.×.24 pixels: there is nothing to turn"):
        flat.training[0].show_3d()
    if "itkwidgets" not in sys.modules:
        with pytest.raises(DisplayError, match="itkwidgets.*internet"):
            dataset.training[0].show_3d(backend="itk")


def test_without_ipyniivue_the_picture_is_offered(dataset, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipyniivue", None)
    with pytest.raises(DisplayError, match=r'backend="picture"'):
        dataset.training[0].show_3d()
    html = dataset.training[0].show_3d(backend="picture")._repr_html_()
    assert re.search(r'class="as-picture"', html) and "<script" not in html


def test_a_body_is_drawn_where_its_voxels_are():
    grid = Grid.of((30, 34, 38), (2.0, 1.0, 1.5))
    labels = np.zeros(grid.shape, np.uint8)
    labels[5:25, 6:16, 8:30], labels[12:20, 20:30, 10:20] = 1, 3
    drawn = draw_surfaces(labels, grid, size=128)
    colours = {tuple(c) for c in (drawn[drawn[..., 3] > 0][:, :3] // 64)}
    assert len(colours) > 3
    right, down, _ = directions()
    world = np.array([grid.to_world(p) for p in np.argwhere(labels)])
    box = np.array([grid.to_world(p) for p in ((5, 6, 8), (24, 29, 29))])
    across = (drawn[..., 3] > 0).any(axis=0).nonzero()[0]
    length = (world @ right).max() - (world @ right).min()
    edge = 128 / (across[-1] - across[0] + 1) * (length + 1.5)
    corners = np.array([[x, y, z] for x in box[:, 0] for y in box[:, 1] for z in box[:, 2]])
    widest = np.linalg.norm(corners - corners.mean(axis=0), axis=1).max()
    assert edge == pytest.approx(2.2 * (widest + 2.0), rel=0.06), "true proportions"
    assert (world @ down).max() > (world @ down).min()


def test_the_microscope_follows_the_voxel_and_draws_other_augmentations():
    sample = autoseg.sample_dataset()
    plan = autoseg.make_plan(autoseg.extract_fingerprint(sample, show_progress=False))
    widget = autoseg.microscope(sample.training[0], plan["3d_fullres"]).explore()
    before = [pixels(p) for p in widget.pictures]
    widget.voxel[1].value += 3
    moved = [pixels(p) for p in widget.pictures]
    assert all((a != b).any() for a, b in zip(before, moved, strict=True))
    assert widget.seen.stages[0].voxel == tuple(s.value for s in widget.voxel)
    widget.draw.value = 7
    assert widget.stage.value == "augmented" and widget.shown.name == "augmented 7"
    again = pixels(widget.pictures[1])
    widget.draw.value = 8
    assert (again.shape != pixels(widget.pictures[1]).shape) or (again != pixels(widget.pictures[1])).any()
    assert "seed 8" in widget.told.value
    assert "Microscope" in widget.static()


def test_many_organs_are_drawn_as_fast_as_one_and_what_is_ignored_takes_no_room():
    grid = Grid.of((60, 60, 60))
    labels = np.zeros(grid.shape, np.uint8)
    for number, corner in enumerate(np.ndindex(4, 4, 4), start=1):
        labels[tuple(slice(15 * c, 15 * c + 10) for c in corner)] = number
    started = time.process_time()
    drawn = draw_surfaces(labels, grid)
    assert time.process_time() - started < 2.5
    assert (drawn[..., 3] > 0).mean() > 0.1
    few = np.where(labels == 22, 1, 2).astype(np.uint8)
    one, alone = draw_surfaces(few, grid, ignore=2), draw_surfaces(np.where(few == 1, 1, 0), grid)
    assert (one == alone).all() and (alone[..., 3] > 0).any()


def test_a_small_prediction_is_drawn_in_the_scale_of_its_reference():
    case = autoseg.sample_dataset()[0]
    truth = case.label()
    part = replace(truth, array=np.where(truth.array == 1, 1, 0).astype(truth.array.dtype))
    html = Prediction(case=case, label_map=part).show_3d(backend="picture")._repr_html_()
    found = re.findall(r"base64,([^\"]+)\"[^>]*as-picture", html)
    seen = [np.asarray(Picture.open(io.BytesIO(base64.b64decode(f))).convert("RGB")).astype(int) for f in found]
    orange = [(p[..., 0] > p[..., 2] + 80) for p in seen]
    assert orange[0].any() and abs(orange[0].sum() / orange[1].sum() - 1) < 0.25
