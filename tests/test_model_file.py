"""One file a model: complete, readable anywhere, with its card; nothing in it is ever run."""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import replace

import pytest
import torch
from configurations import configuration
from models import random_model

import autoseg
from autoseg.core.errors import ModelError
from autoseg.data.normalization import CTNormalization
from autoseg.training.model import TrainedModel, tensor_bytes


@pytest.fixture
def file(tmp_path):
    model = random_model().with_card(licence="CC-BY-SA 4.0", intended_use="Teaching", data="208 cases")
    return model.save(tmp_path / "x.autoseg")


def rewritten(path, **changes):
    """The file with other entries; None leaves one out."""
    with zipfile.ZipFile(path) as old:
        entries = {name: old.read(name) for name in old.namelist()} | changes
    with zipfile.ZipFile(path, "w") as new:
        for name, content in entries.items():
            if content is not None:
                new.writestr(name, content)
    return path


def test_a_model_comes_back_whole(file):
    model = TrainedModel.load(file)
    expected = random_model()
    assert (model.configuration, model.blueprint, model.fold) == (expected.configuration, expected.blueprint, 0)
    assert all(torch.equal(model.weights[name], weight) for name, weight in expected.weights.items())
    assert model.card.licence == "CC-BY-SA 4.0"
    patch = torch.ones(1, 1, 16, 16, 16)
    assert torch.equal(model.network()(patch), expected.network()(patch))


def test_the_same_model_gives_the_same_bytes(tmp_path, file):
    assert TrainedModel.load(file).save(tmp_path / "again.autoseg").read_bytes() == file.read_bytes()


def test_the_card_is_in_the_file_in_plain_words(file):
    with zipfile.ZipFile(file) as archive:
        text = archive.read("README.md").decode()
    assert "**Licence**: CC-BY-SA 4.0" in text
    assert f"autoseg {autoseg.__version__}, torch {torch.__version__}" in text


def test_a_card_that_nobody_filled_in_promises_nothing():
    card = random_model().card
    assert "Not a medical device" in card.intended_use
    assert card.licence.startswith("Not stated")
    assert "Model card" in random_model()._repr_html_()
    assert "&lt;script&gt;" in random_model().with_card(licence="<script>")._repr_html_()


def test_a_folder_of_an_older_version_has_a_default_card(tmp_path):
    folder = random_model().save(tmp_path)
    meta = json.loads((folder / "model.json").read_text())
    del meta["card"]
    (folder / "model.json").write_text(json.dumps(meta))
    assert TrainedModel.load(folder).card.licence.startswith("Not stated")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.json": b"{"}, "cannot be read: model.json is not valid JSON"),
        ({"model.json": b"[" * 10**5}, "cannot be read: model.json is not valid JSON"),
        ({"model.json": b"[]"}, "cannot be read"),
        ({"model.json": None}, "holds no model.json; it holds weights.safetensors, README.md"),
        ({"weights.safetensors": b"x" * 40}, "weights.safetensors in x.autoseg is damaged"),
        ({"../evil": b""}, "points out of its folder"),
        ({"weights.safetensors": tensor_bytes({"a": torch.ones(2)})}, "there are 1 weights, too few"),
    ],
)
def test_damaged_files_are_refused_with_a_sentence(file, changes, message):
    with pytest.raises(ModelError, match=message):
        TrainedModel.load(rewritten(file, **changes))


WRONG = {  # where, what, and what is said of it
    "features": (("configuration", "network", "features"), [8, 10**30], "no network can be built"),
    "wider": (("configuration", "network", "features"), [8, 32], "is (16, 8, 3, 3, 3), and the network's (32, 8"),
    "blocks": (("configuration", "network", "encoder_blocks"), [10**9, 2], "weights, too few for the plan's"),
    "kind": (("configuration", "network", "kind"), "os.system", "NetworkSpec.kind: 'os.system' is none of 'plain', "),
    "spacing": (("configuration", "spacing"), ["a"] * 3, "Configuration.spacing: 'a' is no float"),
    "batch size": (("configuration", "batch_size"), True, "Configuration.batch_size: True is no int"),
    "network": (("blueprint", "network"), -1, "Blueprint.network: -1 is no component"),
    "fold": (("fold",), None, "None is no int"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_value_of_the_wrong_kind_is_refused_before_a_network_is_made(file, what):
    keys, value, message = WRONG[what]
    inner = meta = json.loads(zipfile.ZipFile(file).read("model.json"))
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    with pytest.raises(ModelError, match=re.escape(message)):
        TrainedModel.load(rewritten(file, **{"model.json": json.dumps(meta).encode()}))


def test_a_file_of_another_version_says_which(file):
    meta = json.loads(zipfile.ZipFile(file).read("model.json"))
    meta["card"]["made_with"] = ["autoseg 99.1", "torch 9"]
    opened = TrainedModel.load(rewritten(file, **{"model.json": json.dumps(meta).encode()}))
    assert opened.card.made_with[0] == "autoseg 99.1"
    meta["blueprint"]["attention"] = 3
    with pytest.raises(ModelError, match=r"no field 'attention'.*made with autoseg 99.1, and this is autoseg \d"):
        TrainedModel.load(rewritten(file, **{"model.json": json.dumps(meta).encode()}))


def test_a_name_in_the_file_is_never_imported(file):
    meta = json.loads(zipfile.ZipFile(file).read("model.json"))
    meta["blueprint"]["network"] = {"component": "os.system"}
    with pytest.raises(ModelError, match=r"your own component 'os.system', which is never stored as code"):
        TrainedModel.load(rewritten(file, **{"model.json": json.dumps(meta).encode()}))


def test_a_truncated_file_and_a_missing_one_say_so(tmp_path, file):
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelError, match="damaged or cut short"):
        TrainedModel.load(file)
    with pytest.raises(ModelError, match="there is no such folder or file"):
        TrainedModel.load(tmp_path / "nothing.autoseg")


def test_a_model_of_nnunet_is_recognised(tmp_path):
    folder = autoseg.export_nnunet_model(random_model(), tmp_path)
    with pytest.raises(ModelError, match=r"It looks like nnU-Net's: autoseg.open_nnunet_model"):
        TrainedModel.load(folder)


def test_numbers_of_a_normalization_are_kept(tmp_path):
    scheme = CTNormalization(low=-100.5, high=300.25, mean=40.1, std=0.1)
    model = random_model(replace(configuration(), normalization=(scheme,)))
    assert TrainedModel.load(model.save(tmp_path / "ct.autoseg")).configuration.normalization == (scheme,)
