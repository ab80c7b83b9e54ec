"""Exported networks predict what autoseg predicts, where autoseg is not installed."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from configurations import LABELS, configuration
from models import random_model

import autoseg
from autoseg.core.errors import ModelError, StorageError
from autoseg.data.images import read_label_map
from autoseg.data.labels import Labels
from autoseg.data.normalization import CTNormalization, RescaleTo01, RGBTo01, ZScore
from autoseg.interop.bundle import export_bundle, harmless, is_dynunet
from autoseg.interop.portable import agreement, export_onnx, export_torchscript, plain_network
from autoseg.interop.runner import from_torch
from autoseg.planning.configuration import Resampling

REGIONS = Labels({"background": 0, "whole": (1, 2), "core": 2}, region_order=(1, 2))
CUBES = configuration().network
DYNUNET = replace(
    CUBES,
    features=(4, 8, 8),
    kernel_sizes=((3,) * 3,) * 3,
    strides=((1,) * 3, (1, 2, 2), (2,) * 3),
    encoder_blocks=(2, 2, 2),
    decoder_blocks=(2, 2),
)
RECIPES = {
    "as it is": configuration(),
    "flat": configuration(spacing=(1.0, 0.7)),
    "coarse slices": configuration(spacing=(5.0, 1.0, 1.0), axis_order=(2, 0, 1)),
    "inside the mask": configuration(mask_background=(True,), spacing=(0.8, 1.2, 0.9), axis_order=(1, 2, 0)),
    "regions": configuration(labels=REGIONS),
    "CT": configuration(normalization=(CTNormalization(low=-9.0, high=200.0, mean=90.0, std=40.0),)),
    "between 0 and 1": configuration(normalization=(RescaleTo01(),)),
    "residual": configuration(network=replace(CUBES, kind="residual", decoder_blocks=(1,))),
    "splines of logits": configuration(resampling=Resampling(probability_order=3, separate_axis=True)),
    "no separate axis": configuration(spacing=(5.0, 1.0, 1.0), resampling=Resampling(separate_axis=False)),
    "two channels": configuration(
        channels=("T1", "T2"),
        normalization=(ZScore(), ZScore()),
        mask_background=(False, True),
        network=replace(CUBES, in_channels=2),
    ),
}


@pytest.fixture
def case():
    """A real file, 40x48x40 voxels of 1 mm."""
    return autoseg.sample_dataset().test[0]


def labels_of(model, case):
    return autoseg.predict(model, case, device="cpu", show_progress=False)[0].label_map


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_runner_computes_what_autoseg_does(recipe, tmp_path):
    model = random_model(RECIPES[recipe])
    found = agreement(model, from_torch(plain_network(model), "cpu"), None, kind="numpy", folder=tmp_path, files=())
    assert found.logits < 1e-4
    assert found.voxels > 0.999


def test_a_second_stage_is_refused_where_only_one_network_runs(tmp_path):
    second = replace(CUBES, in_channels=3)
    model = random_model(configuration(name="3d_cascade_fullres", previous_stage="3d_lowres", network=second))
    for export in (export_onnx, export_torchscript, export_bundle):
        with pytest.raises(ModelError, match=r"refines what '3d_lowres' predicts, and the runner runs one network"):
            export(model, tmp_path / "out")


def test_another_network_is_noticed(tmp_path):
    model, other = random_model(), random_model(configuration(labels=LABELS), base_features=4)
    with pytest.raises(ModelError, match=r"exported as numpy .* does not predict an image of noise as autoseg does"):
        agreement(model, from_torch(plain_network(other), "cpu"), None, kind="numpy", folder=tmp_path, files=())


ALONE = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("autoseg", "torch", "monai"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Block())
import runpy
sys.argv = ["runner.py", *sys.argv[2:]]
runpy.run_path(%r, run_name="__main__")
"""


def test_onnx_runs_without_torch_and_autoseg(tmp_path, case):
    model = random_model()
    export = export_onnx(model, tmp_path / "onnx", case=case)
    assert export.voxels > 0.999
    assert "seahorse_027: logits at most" in repr(export)
    assert "Export" in export._repr_html_()
    code = ALONE % str(tmp_path / "onnx" / "runner.py")
    target = tmp_path / "labels.nii.gz"
    subprocess.run([sys.executable, "-c", code, "-", str(case.image_paths[0]), str(target)], check=True)
    expected = labels_of(model, case)
    found = read_label_map(target, model.labels)
    assert found.grid == expected.grid
    assert len(np.unique(expected.array)) > 1
    assert (found.array == expected.array).mean() > 0.999


def test_without_onnx_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ModelError, match=r"needs onnxscript\. .*: pip install onnx onnxruntime onnxscript$"):
        export_onnx(random_model(), tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


def test_torchscript_runs_without_autoseg(tmp_path):
    export = export_torchscript(random_model(), tmp_path)
    assert export.files == ("network.pt", "preprocessing.json", "runner.py", "README.md")
    assert all((tmp_path / name).stat().st_size for name in export.files)
    batch = torch.rand(3, 1, 16, 16, 16)
    loaded = torch.jit.load(tmp_path / "network.pt")
    assert torch.allclose(loaded(batch), random_model().network()(batch), atol=1e-5)


@pytest.mark.parametrize("network", [CUBES, DYNUNET], ids=["torchscript", "dynunet"])
def test_a_bundle_runs_in_monai(tmp_path, case, network, monkeypatch):
    from monai.bundle import ConfigWorkflow

    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "scripts"]:
        monkeypatch.delitem(sys.modules, name)
    model = random_model(configuration(network=network))
    assert export_bundle(model, tmp_path).voxels > 0.999
    (tmp_path / "images").mkdir()
    shutil.copyfile(case.image_paths[0], tmp_path / "images" / "x_0000.nii.gz")
    workflow = ConfigWorkflow(
        str(tmp_path / "configs" / "inference.json"),
        logging_file=False,
        workflow_type="inference",
        bundle_root=str(tmp_path),
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    assert type(workflow.network_def).__name__ == ("DynUNet" if network is DYNUNET else "RecursiveScriptModule")
    workflow.run()
    found = read_label_map(tmp_path / "labels" / "x_0000_labels.nii.gz", model.labels)
    expected = labels_of(model, case)
    assert found.grid == expected.grid
    assert (found.array == expected.array).mean() > 0.999


RGB = configuration(
    spacing=(1.0, 1.0),
    channels=("red", "green", "blue"),
    normalization=(RGBTo01(),) * 3,
    mask_background=(False,) * 3,
    network=replace(configuration(spacing=(1.0, 1.0)).network, in_channels=3),
)


@pytest.fixture
def photograph(tmp_path):
    """50x70 pixels of noise in three colours."""
    import SimpleITK as sitk

    pixels = np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), str(tmp_path / "photograph.png"))
    for i in range(3):
        plane = sitk.GetImageFromArray(pixels[..., i])
        (tmp_path / "planes").mkdir(exist_ok=True)
        sitk.WriteImage(plane, str(tmp_path / "planes" / f"x_000{i}.nii.gz"))
    return tmp_path / "photograph.png"


def test_the_runner_takes_a_photograph(tmp_path, photograph):
    model = random_model(RGB)
    export_torchscript(model, tmp_path / "out")
    paths = (tmp_path / "out" / "runner.py", photograph, tmp_path / "labels.png")
    subprocess.run([sys.executable, *map(str, paths)], check=True)
    found = read_label_map(tmp_path / "labels.png", model.labels).array
    assert len(np.unique(found)) > 1
    assert (found == labels_of(model, photograph).array).mean() > 0.999


def test_a_bundle_takes_pictures_of_two_axes(tmp_path, photograph, monkeypatch):
    from monai.bundle import ConfigWorkflow

    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "scripts"]:
        monkeypatch.delitem(sys.modules, name)
    model = random_model(RGB)
    export_bundle(model, tmp_path)
    (tmp_path / "planes").rename(tmp_path / "images")
    config = str(tmp_path / "configs" / "inference.json")
    workflow = ConfigWorkflow(config, logging_file=False, workflow_type="inference", bundle_root=str(tmp_path))
    workflow.initialize()
    workflow.run()
    found = read_label_map(tmp_path / "labels" / "x_0000_labels.nii.gz", model.labels).array
    assert (found.reshape(50, 70) == labels_of(model, photograph).array).mean() > 0.999


def test_names_of_a_dataset_are_not_evaluated_by_monai(tmp_path):
    from monai.bundle import ConfigParser

    trace = tmp_path / "it_ran"
    evil = f"$__import__('pathlib').Path('{trace}').touch()"
    labels = Labels({"background": 0, evil: 1, "@run": 2})
    model = random_model(configuration(labels=labels, dataset_name=evil, channels=(evil,)))
    export_bundle(model.with_card(licence=evil, intended_use=f" {evil}", data="%evil"), tmp_path)
    parser = ConfigParser()
    parser.read_config(tmp_path / "configs" / "inference.json")
    parser.read_meta(tmp_path / "configs" / "metadata.json")
    parser.parse()
    for key in json.loads((tmp_path / "configs" / "metadata.json").read_text()):
        parser.get_parsed_content(f"_meta_::{key}")
    assert not trace.exists()
    assert "touch" not in (tmp_path / "configs" / "inference.json").read_text()
    assert harmless("@bundle_root") == "'@bundle_root'"


def test_kernels_that_differ_by_stage_are_not_dynunets():
    """It takes the kernels of the stage below for its decoder, nnU-Net those of the same stage."""
    assert is_dynunet(DYNUNET)
    assert not is_dynunet(replace(DYNUNET, kernel_sizes=((1, 3, 3), (3,) * 3, (3,) * 3)))
    assert not is_dynunet(replace(DYNUNET, decoder_blocks=(1, 1)))


def segresnet(spec):
    from monai.networks.nets import SegResNet

    return SegResNet(
        spatial_dims=spec.dimensions, init_filters=8, in_channels=spec.in_channels, out_channels=spec.classes
    )


def test_a_network_of_monai_trains_predicts_and_is_exported(tmp_path, case):
    dataset = autoseg.sample_dataset()
    few = replace(dataset, training=dataset.training[:6], splits=())
    prepared = autoseg.preprocess(few, configuration(labels=dataset.labels), show_progress=False)
    blueprint = autoseg.Blueprint.nnunet(epochs=1).changed(
        network=segresnet, iterations_per_epoch=2, validation_iterations=1, precision="float32"
    )
    model = autoseg.train(prepared, blueprint=blueprint, show_progress=False).model
    assert labels_of(model, case).array.shape == case.image().grid.shape
    assert export_bundle(model, tmp_path / "bundle").voxels > 0.999
    again = autoseg.TrainedModel.load(model.save(tmp_path / "x.autoseg"), components={"segresnet": segresnet})
    assert torch.equal(again.weights["convInit.conv.weight"], model.weights["convInit.conv.weight"])


@pytest.mark.parametrize("export", [export_bundle, export_torchscript])
def test_a_full_disk_is_said_and_leaves_nothing_half_written(tmp_path, monkeypatch, export):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match="cannot write .*No space left on device"):
        export(random_model(configuration(network=DYNUNET)), tmp_path)
    assert not [*tmp_path.rglob("*.pt"), *tmp_path.rglob("*.ts")]


def test_a_normalization_of_your_own_cannot_go_along(tmp_path):
    model = random_model(configuration(normalization=(lambda channel, inside: channel,)))
    for export in (export_torchscript, export_onnx, export_bundle):
        with pytest.raises(ModelError, match="your own code, which an exported model cannot hold"):
            export(model, tmp_path / "out")


def test_the_runner_is_the_file_in_the_package(tmp_path):
    export_torchscript(random_model(), tmp_path)
    package = Path(autoseg.__file__).parent / "interop" / "runner.py"
    assert (tmp_path / "runner.py").read_text() == package.read_text()
