"""Models go from nnU-Net to autoseg and back without a difference, and files that are up to something are refused.

``golden/interop`` holds tiny models as the real nnU-Net trained and kept them, with what it predicts.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from configurations import configuration
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from models import random_model

import autoseg
from autoseg.core.errors import AutosegError, ModelError, PlanError
from autoseg.data.labels import Labels
from autoseg.data.normalization import CTNormalization, ZScore
from autoseg.interop.nnunet_export import export_nnunet_model
from autoseg.interop.nnunet_model import open_nnunet_model

GOLDEN = Path(__file__).parent / "golden" / "interop"
STEP = 3
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("os.system")
JSON_VALUES = SCALARS | st.lists(SCALARS, max_size=4) | st.dictionaries(st.text(max_size=3), SCALARS, max_size=2)
CUBES = configuration().network
REGIONS = Labels({"background": 0, "whole": (1, 2), "core": 2}, region_order=(1, 2))
KINDS = {
    "plain": configuration(network=replace(CUBES, encoder_blocks=(1, 3), decoder_blocks=(2,))),
    "residual": configuration(network=replace(CUBES, kind="residual", encoder_blocks=(1, 3), decoder_blocks=(1,))),
    "flat": configuration(spacing=(1.0, 0.7)),
    "regions": configuration(labels=REGIONS, normalization=(CTNormalization(low=-1.0, high=9.0, mean=2.0, std=3.0),)),
}


# what the real nnU-Net trained


@pytest.mark.parametrize("kind", ["plain", "residual", "flat"])
class TestRecorded:
    def test_logits_are_those_of_nnunets_own_network(self, kind):
        model = open_nnunet_model(GOLDEN / f"{kind}.zip")[0]
        patch = np.random.RandomState(0).normal(size=(1, 1, *model.configuration.patch_size)).astype(np.float32)
        with torch.inference_mode():
            logits = model.network()(torch.from_numpy(patch)).numpy()
        expected = np.load(GOLDEN / f"{kind}.npz")["logits"]
        every = (slice(None), slice(None), *[slice(None, None, STEP)] * (logits.ndim - 2))
        assert np.ptp(expected) > 1
        assert abs(logits[every] - expected).max() < 1e-4

    def test_label_maps_are_those_of_nnunets_own_predictor(self, kind):
        case = autoseg.sample_dataset().test[0]
        found = autoseg.predict(open_nnunet_model(GOLDEN / f"{kind}.zip"), case, device="cpu", show_progress=False)
        expected = np.load(GOLDEN / f"{kind}.npz")["label_map"]
        assert (expected > 0).sum() > 1000
        assert (found[0].label_map.array == expected).mean() >= 0.9999

    def test_the_plan_is_explained_key_by_key(self, kind):
        explained = open_nnunet_model(GOLDEN / f"{kind}.zip").explain()
        name = "2d" if kind == "flat" else "3d_fullres"
        edited = explained[f"{name}/patch_size"]
        assert (edited.origin, edited.value) == ("edited by hand", [32, 32] if kind == "flat" else [16, 16, 16])

    def test_a_folder_opens_as_its_zip_does(self, kind, tmp_path):
        zipfile.ZipFile(GOLDEN / f"{kind}.zip").extractall(tmp_path)
        from_zip, from_folder = (open_nnunet_model(p)[0] for p in (GOLDEN / f"{kind}.zip", tmp_path))
        assert from_zip.configuration == from_folder.configuration
        assert all(torch.equal(from_zip.weights[name], weight) for name, weight in from_folder.weights.items())


def test_nnunets_log_becomes_the_history():
    model = open_nnunet_model(GOLDEN / "plain.zip")
    (epoch,) = model[0].history.epochs
    assert 0 < epoch.training_loss < 2
    assert len(epoch.pseudo_dice) == 2
    assert "nnUNetTrainer" in repr(model)
    assert "edited by hand" in model._repr_html_()


# there and back


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", ["", ".zip"])
def test_an_export_opens_as_the_same_model(tmp_path, kind, suffix):
    models = [random_model(KINDS[kind], fold=fold) for fold in (0, 3)]
    opened = open_nnunet_model(export_nnunet_model(models, tmp_path / f"out{suffix}", number=7))
    assert [model.fold for model in opened] == [0, 3]
    for model, expected in zip(opened, models, strict=True):
        assert all(torch.equal(model.weights[name], weight) for name, weight in expected.weights.items())
        same = replace(model.configuration, dataset_name="by hand", augmentation=expected.configuration.augmentation)
        assert same == expected.configuration
        assert model.mirror_axes == expected.mirror_axes


def test_a_width_of_the_blueprints_own_is_exported(tmp_path):
    model = random_model(base_features=4)
    opened = open_nnunet_model(export_nnunet_model(model, tmp_path))
    assert opened.configuration.network.features == (4, 8)


def test_without_mirroring_there_is_none_in_the_export(tmp_path):
    opened = open_nnunet_model(export_nnunet_model(random_model(mirroring=False), tmp_path))
    assert opened[0].mirror_axes == ()


def test_every_alias_of_a_weight_is_written(tmp_path):
    folder = export_nnunet_model(random_model(), tmp_path)
    weights = torch.load(folder / "fold_0" / "checkpoint_final.pth", weights_only=True)["network_weights"]
    names = ("encoder.stages.0.0.convs.0.conv.weight", "encoder.stages.0.0.convs.0.all_modules.0.weight")
    for name in (*names, *(f"decoder.{name}" for name in names)):
        assert torch.equal(weights[name], random_model().weights["encoder.0.0.0.weight"])


def test_what_nnunet_cannot_hold_is_refused(tmp_path):
    with pytest.raises(ModelError, match="a network of your own. export_bundle and export_onnx take any"):
        export_nnunet_model(random_model(network=lambda spec: torch.nn.Conv3d(1, 3, 1)), tmp_path)
    with pytest.raises(PlanError, match="nnU-Net knows no normalization 'own'"):
        export_nnunet_model(random_model(configuration(normalization=(own,))), tmp_path)
    with pytest.raises(ModelError, match="folds must share one plan"):
        export_nnunet_model([random_model(), random_model(base_features=4, fold=1)], tmp_path)
    with pytest.raises(ModelError, match="two of these models are of the same fold: 0, 0"):
        export_nnunet_model([random_model(), random_model()], tmp_path)
    with pytest.raises(ModelError, match="no model was given"):
        export_nnunet_model([], tmp_path)
    flat = configuration().network
    one_stage = replace(
        flat,
        features=(8,),
        kernel_sizes=flat.kernel_sizes[:1],
        strides=flat.strides[:1],
        encoder_blocks=(2,),
        decoder_blocks=(),
    )
    with pytest.raises(ModelError, match="one stage, for images below 8 voxels; nnU-Net cannot build it"):
        export_nnunet_model(random_model(configuration(network=one_stage)), tmp_path)
    assert not list(tmp_path.iterdir())


def own(channel, inside):
    return channel


# files that are damaged, or up to something


@pytest.fixture
def folder(tmp_path):
    return export_nnunet_model(random_model(), tmp_path / "results")


def test_a_decoder_that_deepens_is_counted_from_the_coarsest_resolution(tmp_path):
    ones, twos, threes = ((n,) * 3 for n in (1, 2, 3))
    shape = {"features": (4, 8, 8), "strides": (ones, twos, twos), "kernel_sizes": (threes,) * 3}
    uneven = replace(CUBES, **shape, encoder_blocks=(1, 2, 1), decoder_blocks=(1, 3), kind="plain")
    model = random_model(configuration(network=uneven))
    folder = export_nnunet_model(model, tmp_path / "results")
    architecture = json.loads((folder / "plans.json").read_text())["configurations"]["3d_fullres"]["architecture"]
    assert architecture["arch_kwargs"]["n_conv_per_stage_decoder"] == [3, 1]
    weights = torch.load(folder / "fold_0/checkpoint_final.pth", weights_only=True)["network_weights"]
    assert "decoder.stages.0.convs.2.conv.weight" in weights
    assert "decoder.stages.1.convs.1.conv.weight" not in weights
    assert open_nnunet_model(folder)[0].configuration.network == uneven


def test_a_missing_model_says_what_was_found(tmp_path, folder):
    with pytest.raises(ModelError, match="there is no such folder or file"):
        open_nnunet_model(tmp_path / "nothing")
    with pytest.raises(ModelError, match=r"there is no trained model of nnU-Net.*There is nothing"):
        open_nnunet_model(folder / "fold_0")
    with pytest.raises(ModelError, match="fold 4 was not trained; there are 0"):
        open_nnunet_model(folder, folds=[4])
    with pytest.raises(ModelError, match="no checkpoint 'finale'. Did you mean 'final'?"):
        open_nnunet_model(folder, checkpoint="finale")
    (folder / "plans.json").unlink()
    with pytest.raises(ModelError, match=r"there is no plans.json"):
        open_nnunet_model(folder)


def test_of_several_models_one_is_chosen(tmp_path):
    export_nnunet_model(random_model(), tmp_path)
    export_nnunet_model(random_model(configuration(spacing=(1.0, 1.0))), tmp_path)
    with pytest.raises(ModelError, match=r"there are several models, .*__2d, .*__3d_fullres: choose with"):
        open_nnunet_model(tmp_path)
    assert open_nnunet_model(tmp_path, configuration="2d").configuration.name == "2d"


def test_another_configuration_than_the_one_asked_for_is_refused(folder):
    with pytest.raises(ModelError, match="it holds a model of '3d_fullres', not of '2d'"):
        open_nnunet_model(folder, configuration="2d")


def test_one_fold_needs_no_list(folder):
    assert [model.fold for model in open_nnunet_model(folder, folds=0)] == [0]


def test_a_folder_named_like_a_checkpoint_is_none(folder):
    (folder / "fold_0/checkpoint_final.pth").unlink()
    (folder / "fold_0/checkpoint_final.pth").mkdir()
    with pytest.raises(ModelError, match="there is no trained model of nnU-Net"):
        open_nnunet_model(folder)


class Evil:
    """Pickled, it writes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, folder):
    trace, checkpoint = tmp_path / "it_ran", folder / "fold_0" / "checkpoint_final.pth"
    content = torch.load(checkpoint, weights_only=True) | {"logging": Evil(trace)}
    torch.save(content, checkpoint)
    with pytest.raises(ModelError, match=r"asks for (posix|nt).system to be called.*It was not opened"):
        open_nnunet_model(folder)
    checkpoint.write_bytes(pickle.dumps(Evil(trace)))
    with pytest.raises(ModelError, match="checkpoint_final.pth cannot be read"):
        open_nnunet_model(folder)
    assert not trace.exists()


def test_stand_ins_for_numpy_do_not_let_numpy_in(tmp_path, folder):
    class Sneaky:
        def __reduce__(self):
            return np.memmap, (str(tmp_path / "made"), "u1", "w+", 0, (4,))

    checkpoint = folder / "fold_0" / "checkpoint_final.pth"
    torch.save(torch.load(checkpoint, weights_only=True) | {"logging": Sneaky()}, checkpoint)
    with pytest.raises(ModelError, match="asks for numpy.*memmap"):
        open_nnunet_model(folder)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("share", [0.1, 0.6, 0.99])
def test_a_truncated_checkpoint_and_a_truncated_zip_say_so(tmp_path, folder, share):
    checkpoint = folder / "fold_0" / "checkpoint_final.pth"
    checkpoint.write_bytes(checkpoint.read_bytes()[: int(share * checkpoint.stat().st_size)])
    with pytest.raises(ModelError, match="damaged or cut short"):
        open_nnunet_model(folder)
    archive = export_nnunet_model(random_model(), tmp_path / "x.zip")
    archive.write_bytes(archive.read_bytes()[: int(share * archive.stat().st_size)])
    with pytest.raises(AutosegError, match=r"x.zip: .*damaged or cut short"):
        open_nnunet_model(archive)


def test_a_zip_with_entries_elsewhere_is_refused_and_nothing_is_written(tmp_path):
    path = tmp_path / "inside" / "x.zip"
    export_nnunet_model(random_model(), path)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("../evil.txt", "evil")
    with pytest.raises(AutosegError, match=r"holds an entry '../evil.txt', which points out of its folder"):
        open_nnunet_model(path)
    assert [p.name for p in tmp_path.rglob("*")] == ["inside", "x.zip"]


def test_zip_bombs_are_refused_outside_and_inside(tmp_path, folder):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("fold_0/checkpoint_final.pth", bytes(30_000_000))
    with pytest.raises(AutosegError, match=r"would unpack .* bytes to 30,000,000"):
        open_nnunet_model(path)
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x/data.pkl", np.random.RandomState(0).bytes(1000) + bytes(9000))
    (folder / "fold_0" / "checkpoint_final.pth").write_bytes(inner.getvalue())
    with pytest.raises(ModelError, match=r"holds x/data.pkl compressed, as torch never writes it"):
        open_nnunet_model(folder)


EVIL_PLANS = {
    "network": (("configurations", "3d_fullres", "architecture", "network_class_name"), "uses the network os.system"),
    "norm": (("configurations", "3d_fullres", "architecture", "arch_kwargs", "norm_op"), "norm_op is 'os.system'"),
    "normalization": (("configurations", "3d_fullres", "normalization_schemes", 0), "normalization 'os.system'"),
    "resampling": (("configurations", "3d_fullres", "resampling_fn_data"), "resampling_fn_data is 'os.system'"),
    "preprocessor": (("configurations", "3d_fullres", "preprocessor_name"), "uses 'os.system'"),
    "reader": (("image_reader_writer",), "Names in a plan are never imported"),
    "labels": (("label_manager",), "label_manager is 'os.system'"),
}


@pytest.mark.parametrize("where", EVIL_PLANS)
def test_a_plan_that_names_os_system_is_refused(folder, where):
    keys, message = EVIL_PLANS[where]
    plans = json.loads((folder / "plans.json").read_text())
    inner = plans
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = "os.system"
    (folder / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(PlanError, match=message):
        open_nnunet_model(folder)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("strides",), 7, "has strides 7; it must be a list"),
        (("n_conv_per_stage",), [None, 2], r"n_conv_per_stage \[None, 2\]; it must hold 2 positive whole number"),
        (("features_per_stage",), [8, 10**4], r"does not fit the plan.*must be \(10000,"),
        (("features_per_stage",), [8, 10**9], "no network can be built of the plan's numbers"),
        (("features_per_stage",), [8, -1], r"features_per_stage \[8, -1\]; it must hold 2 positive whole number"),
        (("n_conv_per_stage",), [10**9, 2], ".* weights, too few for the plan's"),
        (("n_conv_per_stage",), [2, 1], "which the plan's .* does not have"),
    ],
)
def test_a_plan_that_does_not_fit_its_weights_is_refused(folder, keys, value, message):
    plans = json.loads((folder / "plans.json").read_text())
    plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"][keys[0]] = value
    (folder / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(AutosegError, match=message):
        open_nnunet_model(folder)


@pytest.mark.parametrize("seed", range(8))
def test_a_checkpoint_that_is_damaged_anywhere_is_refused_or_reads_the_same(folder, seed):
    checkpoint = folder / "fold_0" / "checkpoint_final.pth"
    expected, content = open_nnunet_model(folder)[0], bytearray(checkpoint.read_bytes())
    content[np.random.RandomState(seed).randint(len(content))] ^= 255
    checkpoint.write_bytes(content)
    try:
        found = open_nnunet_model(folder)[0]
    except AutosegError:
        return
    assert all(torch.equal(found.weights[name], weight) for name, weight in expected.weights.items())


def changed(folder, change):
    """The folder's plans.json, changed in place."""
    plans = json.loads((folder / "plans.json").read_text())
    change(plans, plans["configurations"]["3d_fullres"])
    (folder / "plans.json").write_text(json.dumps(plans))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("spacing", [1.0, "1", 1.0], "has spacing .*'1'.*; it must hold 3 positive number"),
        ("patch_size", [15, 16, 16], "a patch of 15x16x16 voxels cannot be divided by the network's strides"),
        ("batch_size", True, "batch_size of '3d_fullres' is True; it must be a whole number above 0"),
        ("batch_dice", 1, "batch_dice of '3d_fullres' is 1; it must be true or false"),
        ("use_mask_for_norm", [None], "use_mask_for_norm is None; it must be true or false"),
        ("previous_stage", "../3d", r"refines what '../3d' predicts, and this plan has no such configuration"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(folder, key, value, message):
    changed(folder, lambda plans, settings: settings.update({key: value}))
    with pytest.raises(PlanError, match=message):
        open_nnunet_model(folder)


def test_orders_that_no_spline_has_are_refused(folder):
    changed(folder, lambda plans, settings: settings["resampling_fn_data_kwargs"].update(order=9))
    with pytest.raises(PlanError, match=r"the spline orders \(9, 1, 1, 0\); they go from 0 to 5"):
        open_nnunet_model(folder)
    changed(folder, lambda plans, settings: settings["resampling_fn_data_kwargs"].update(order=3))
    for purpose in ("data", "seg", "probabilities"):
        kwargs = f"resampling_fn_{purpose}_kwargs"
        changed(folder, lambda plans, settings, kwargs=kwargs: settings[kwargs].update(force_separate_z="x"))
    with pytest.raises(PlanError, match="force_separate_z is 'x'; it must be true, false or null"):
        open_nnunet_model(folder)
    changed(folder, lambda plans, settings: plans.update(transpose_forward=[0, 0, 1]))
    with pytest.raises(PlanError, match=r"transpose_forward \[0, 0, 1\] and .* must each hold 0, 1 and 2"):
        open_nnunet_model(folder)


def older(plans, settings):
    """A plan as nnU-Net wrote it before version 2.4: the network's numbers among the configuration's."""
    network = settings.pop("architecture")["arch_kwargs"]
    settings |= {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": network["features_per_stage"][0],
        "unet_max_num_features": network["features_per_stage"][-1],
        "n_conv_per_stage_encoder": network["n_conv_per_stage"],
        "n_conv_per_stage_decoder": network["n_conv_per_stage_decoder"],
        "num_pool_per_axis": [1, 1, 1],
        "pool_op_kernel_sizes": network["strides"],
        "conv_kernel_sizes": network["kernel_sizes"],
    }


def test_a_plan_of_before_version_2_4_opens_as_the_same(folder):
    expected = open_nnunet_model(folder).configuration
    changed(folder, older)
    assert open_nnunet_model(folder).configuration == expected
    changed(folder, lambda plans, settings: plans.pop("label_manager"))  # the first versions had none
    assert open_nnunet_model(folder).configuration == expected
    changed(folder, lambda plans, settings: settings.update(UNet_class_name="os.system"))
    with pytest.raises(PlanError, match="this configuration uses the network os.system, which autoseg does not have"):
        open_nnunet_model(folder)


def test_a_plan_of_before_version_2_4_is_explained_as_the_same_of_today():
    archive = zipfile.ZipFile(GOLDEN / "plain.zip")
    plans = json.loads(archive.read(next(name for name in archive.namelist() if name.endswith("/plans.json"))))
    facts = open_nnunet_model(GOLDEN / "plain.zip").fingerprint
    expected = {k.key: k.origin for k in autoseg.explain_plan(plans, facts)}
    full = plans["configurations"]["3d_fullres"]
    full["architecture"]["arch_kwargs"]["features_per_stage"] = [8, 16]
    older(plans, full)
    found = {k.key: k.origin for k in autoseg.explain_plan(plans, facts)}
    assert set(found) == set(expected)


@pytest.mark.parametrize("file", ["plans", "dataset", "dataset_fingerprint"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_stands_in_a_file_only_our_errors_come_out(file, tmp_path, data):
    if not any(tmp_path.iterdir()):
        zipfile.ZipFile(GOLDEN / "plain.zip").extractall(tmp_path)
    (path,) = tmp_path.glob(f"*/*/{file}.json")
    (original := path.with_suffix(".kept")).exists() or original.write_bytes(path.read_bytes())
    content = json.loads(original.read_text())
    inner, key = data.draw(st.sampled_from(list(places(content))))
    inner[key] = data.draw(JSON_VALUES)
    path.write_text(json.dumps(content))
    try:
        model = open_nnunet_model(tmp_path)
        assert repr(model) and repr(model.explain()) and model[0].network()
    except AutosegError:
        pass


def places(content):
    """Every container of a JSON document, with each of its keys."""
    for key in content if isinstance(content, dict) else range(len(content)):
        yield content, key
        if isinstance(content[key], dict | list):
            yield from places(content[key])


# a cascade


@pytest.fixture
def cascade():
    """Models of both stages: the second has a channel more for each label of the first."""
    second = replace(CUBES, in_channels=CUBES.in_channels + 2)
    stage = {"name": "3d_cascade_fullres", "previous_stage": "3d_lowres", "network": second}
    return random_model(configuration(name="3d_lowres", spacing=(2.0, 2.0, 2.0))), random_model(configuration(**stage))


def test_a_cascade_is_exported_stage_by_stage_and_opened_together(tmp_path, cascade):
    low, full = (export_nnunet_model(model, tmp_path) for model in cascade)
    assert json.loads((full / "plans.json").read_text())["configurations"]["3d_cascade_fullres"]["previous_stage"]
    models = autoseg.open_models(full)
    assert [m.configuration.name for m in models] == ["3d_lowres", "3d_cascade_fullres"]
    assert models[1].configuration.network == cascade[1].configuration.network
    image = np.random.RandomState(0).normal(size=(18, 20, 20)).astype(np.float32)
    options = {"spacing": (1, 1, 1), "mirroring": False, "device": "cpu", "show_progress": False}
    (found,), (expected,) = (autoseg.predict(group, image, **options) for group in (models, cascade))
    np.testing.assert_array_equal(found.label_map.array, expected.label_map.array)
    low.rename(low.with_name("elsewhere"))
    with pytest.raises(ModelError, match=r"refines what 3d_lowres predicts, and there is no folder .*__3d_lowres"):
        autoseg.open_models(full)


def test_labels_and_channels_come_from_the_dataset_file():
    assert open_nnunet_model(GOLDEN / "plain.zip").configuration.normalization == (ZScore(),)
    assert open_nnunet_model(GOLDEN / "plain.zip").configuration.labels == autoseg.sample_dataset().labels
