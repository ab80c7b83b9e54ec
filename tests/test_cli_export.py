"""``autoseg export``: one line for each place a model may go to."""

from __future__ import annotations

import pytest
from models import random_model

import autoseg
from autoseg.cli import main


@pytest.fixture
def run(tmp_path):
    return str(random_model().save(tmp_path / "fold_0"))


def test_one_file(run, tmp_path, capsys):
    assert main(["export", run, "--to", "autoseg", "--out", str(tmp_path / "x.autoseg")]) == 0
    assert "Not a medical device" in capsys.readouterr().out
    assert autoseg.TrainedModel.load(tmp_path / "x.autoseg").fold == 0


def test_a_file_goes_on_to_nnunet(run, tmp_path, capsys):
    file = str(autoseg.TrainedModel.load(run).save(tmp_path / "x.autoseg"))
    assert main(["export", file, "--to", "nnunet", "--out", str(tmp_path / "x.zip")]) == 0
    assert "nnU-Net's predictor loads" in capsys.readouterr().out
    assert len(autoseg.open_nnunet_model(tmp_path / "x.zip")) == 1


@pytest.mark.parametrize("place", ["bundle", "torchscript"])
def test_the_agreement_is_printed(run, tmp_path, capsys, place):
    assert main(["export", run, "--to", place, "--out", str(tmp_path / "out")]) == 0
    assert "% of voxels equal" in capsys.readouterr().out


def test_several_folds_go_only_to_nnunet(run, tmp_path, capsys):
    assert main(["export", run, run, "--to", "onnx", "--out", str(tmp_path / "out")]) == 1
    assert "2 models were given, but only nnU-Net keeps several folds together" in capsys.readouterr().err


def test_what_is_no_model_is_said_in_one_line(tmp_path, capsys):
    assert main(["export", str(tmp_path), "--to", "onnx", "--out", str(tmp_path / "out")]) == 1
    assert "holds no finished model" in capsys.readouterr().err
