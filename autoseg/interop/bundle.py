"""Models as MONAI bundles, which ``monai.bundle`` runs without autoseg.

A plain U-Net with two convolutions of one size in each stage, as nnU-Net plans for nearly isotropic images, becomes
MONAI's own DynUNet, to be trained further there; any other network goes along as TorchScript.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import autoseg
from autoseg.core.errors import ModelError
from autoseg.core.kinds import require
from autoseg.core.serialization import atomic_path, write_json, write_text
from autoseg.core.types import PathLike
from autoseg.data.dataset import Case
from autoseg.interop.portable import Export, agreement, plain_network, write_settings, write_torchscript
from autoseg.interop.runner import from_torch
from autoseg.networks.blocks import EPSILON, SLOPE
from autoseg.planning.configuration import NetworkSpec
from autoseg.training.model import TrainedModel, network_spec

JSON = dict[str, Any]
SPECIAL = "$@%"  # with these MONAI begins what it evaluates or looks up
ROOT = "@bundle_root + '/scripts'"
FIND_SCRIPTS = "$sys.path.insert(1, @bundle_root)"
FORMAT = "0.1.0"


def export_bundle(model: TrainedModel, folder: PathLike, *, case: Case | None = None) -> Export:
    """Write a model as a MONAI bundle: ``configs``, ``models``, ``scripts`` and ``docs``.

        pip install fire            # which MONAI's command line needs
        python -m monai.bundle run --config_file configs/inference.json --bundle_root . --dataset_dir IMAGES

    MONAI reads and writes the files and runs the network; preprocessing and tiles are those of ``scripts/runner.py``,
    which computes what autoseg does. The network's prediction of `case` (of noise where none is given) is compared with
    autoseg's; `ModelError` where they differ, and for normalizations of your own.

    >>> autoseg.export_bundle(training.model, "bundle", case=dataset.test[0])
    Export(as a MONAI bundle to bundle: ...)
      on seahorse_027: logits at most ... of their range from autoseg's own, 100.0000% of voxels equal
    """
    require(model, TrainedModel, ModelError)
    folder = Path(folder)
    definition, network = _network(model, folder)
    write_settings(model, folder / "scripts")
    write_text(folder / "scripts" / "__init__.py", "")
    (folder / "docs").mkdir(parents=True, exist_ok=True)
    (folder / "scripts" / "README.md").replace(folder / "docs" / "README.md")
    write_json(folder / "configs" / "metadata.json", metadata(model))
    write_json(folder / "configs" / "inference.json", inference(definition))
    files = ("configs/inference.json", "configs/metadata.json", "scripts/runner.py", "models", "docs/README.md")
    runner_network = from_torch(network, "cpu")
    return agreement(model, runner_network, case, kind="a MONAI bundle", folder=folder, files=files)


def _network(model: TrainedModel, folder: Path) -> tuple[JSON, nn.Module]:
    """The bundle's entries about the network, written beside its weights; and the network itself."""
    (folder / "models").mkdir(parents=True, exist_ok=True)
    spec = network_spec(model.configuration, model.blueprint)
    if model.blueprint.network is not None or not is_dynunet(spec):
        write_torchscript(model, folder / "models" / "model.ts")
        load = "$torch.jit.load(@bundle_root + '/models/model.ts')"
        return {"network_def": load, "initialize": [FIND_SCRIPTS]}, plain_network(model)
    from monai.networks.nets import DynUNet

    settings = dynunet_settings(spec)
    network = DynUNet(**settings)
    network.load_state_dict(dynunet_weights(model.weights, spec), strict=False)  # its skip_layers are the same again
    with atomic_path(folder / "models" / "model.pt") as temporary:
        torch.save(network.state_dict(), buffer := BytesIO())  # its own writer hides a full disk
        temporary.write_bytes(buffer.getvalue())
    load = "$@network.load_state_dict(torch.load(@checkpoint, map_location=@device, weights_only=True))"
    entries = {
        "network_def": {"_target_": "DynUNet", **settings},
        "checkpoint": "$@bundle_root + '/models/model.pt'",
        "initialize": [FIND_SCRIPTS, load],
    }
    return entries, network.eval()


def is_dynunet(spec: NetworkSpec) -> bool:
    """Whether MONAI's DynUNet can be this network: it decodes with the kernels of the stage below."""
    alike = {*spec.encoder_blocks, *spec.decoder_blocks} == {2} and len({*spec.kernel_sizes}) == 1
    return spec.kind == "plain" and alike and spec.stages > 2 and set(spec.strides[0]) == {1}


def dynunet_settings(spec: NetworkSpec) -> JSON:
    """The arguments of MONAI's DynUNet for a network."""
    return {
        "spatial_dims": spec.dimensions,
        "in_channels": spec.in_channels,
        "out_channels": spec.classes,
        "kernel_size": [list(kernel) for kernel in spec.kernel_sizes],
        "strides": [list(stride) for stride in spec.strides],
        "upsample_kernel_size": [list(stride) for stride in spec.strides[1:]],
        "filters": list(spec.features),
        "norm_name": ["INSTANCE", {"affine": True, "eps": EPSILON}],
        "act_name": ["leakyrelu", {"inplace": True, "negative_slope": SLOPE}],
        "trans_bias": True,
    }


def dynunet_weights(weights: Mapping[str, Tensor], spec: NetworkSpec) -> dict[str, Tensor]:
    """Weights by DynUNet's names; its convolutions have no bias, and none is needed before instance normalization."""
    bottom = spec.stages - 1
    places = {"input_block": "encoder.0", "bottleneck": f"encoder.{bottom}"}
    places |= {f"downsamples.{i - 1}": f"encoder.{i}" for i in range(1, bottom)}
    places |= {f"upsamples.{bottom - 1 - i}.conv_block": f"decoder.{i}" for i in range(bottom)}
    found: dict[str, Tensor] = {}
    for (theirs, ours), unit in itertools.product(places.items(), (1, 2)):
        layers = {f"conv{unit}.conv.weight": "0.weight", f"norm{unit}.weight": "1.weight", f"norm{unit}.bias": "1.bias"}
        found |= {f"{theirs}.{name}": weights[f"{ours}.{unit - 1}.{layer}"] for name, layer in layers.items()}
    for what in ("weight", "bias"):
        found |= {
            f"upsamples.{bottom - 1 - i}.transp_conv.conv.{what}": weights[f"upsampling.{i}.{what}"]
            for i in range(bottom)
        }
        found[f"output_block.conv.conv.{what}"] = weights[f"heads.0.{what}"]
    return found


def inference(definition: JSON) -> JSON:
    """The content of ``inference.json``; no text of a dataset is in it, since MONAI evaluates what it finds there."""
    read = {"_target_": "LoadImaged", "keys": "image", "image_only": True, "ensure_channel_first": True}
    write = {
        "_target_": "SaveImaged",
        "keys": "pred",
        "output_dir": "@output_dir",
        "output_postfix": "labels",
        "output_dtype": "$numpy.uint16",
        "separate_folder": False,
        "resample": False,
        "squeeze_end_dims": False,  # of pictures: MONAI cannot write what has two axes
    }
    parts = {name: {"_target_": f"scripts.runner.{name}", "folder": f"${ROOT}"} for name in RUNNER_PARTS}
    return {
        "imports": ["$import sys", "$import numpy", "$import torch"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/labels'",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        **definition,
        "network": "$@network_def.to(@device).eval()",
        "preprocessing": {"_target_": "Compose", "transforms": [read, parts["Preprocessed"]]},
        "datalist": {"_target_": "scripts.runner.find_images", "folder": "@dataset_dir"},
        "dataset": {"_target_": "Dataset", "data": "@datalist", "transform": "@preprocessing"},
        "inferer": parts["Tiled"],
        "postprocessing": {"_target_": "Compose", "transforms": [parts["Restored"], write]},
        "evaluator": {
            "_target_": "scripts.runner.Evaluator",
            "dataset": "@dataset",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
        },
        "run": ["$@evaluator.run()"],
    }


RUNNER_PARTS = ("Preprocessed", "Tiled", "Restored")


def metadata(model: TrainedModel) -> JSON:
    """The content of ``metadata.json``, the model card in MONAI's words; texts are kept from being evaluated."""
    import monai
    import numpy as np

    configuration, labels, card = model.configuration, model.labels, model.card
    outputs = labels.regions if labels.has_regions else {labels.name_of(v): v for v in labels.values}
    patch = list(configuration.patch_size)
    image = {"type": "image", "format": "magnitude", "modality": "any", "num_channels": len(configuration.channels)}
    array = {"spatial_shape": patch, "dtype": "float32", "value_range": [], "is_patch_data": True}
    inputs = {str(i): harmless(name) for i, name in enumerate(configuration.channels)}
    classes = {str(i): harmless(name) for i, name in enumerate(outputs)}
    prediction = {"type": "image", "format": "segmentation", "num_channels": labels.outputs}
    return {
        "version": FORMAT,
        "changelog": {FORMAT: f"written by autoseg {autoseg.__version__}"},
        "monai_version": monai.__version__,
        "pytorch_version": torch.__version__.partition("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": {"scipy": "1.11", "nibabel": "5.2", "fire": "0.6"},
        "name": harmless(f"{configuration.dataset_name} {configuration.name}"),
        "task": harmless(f"Segmentation of {', '.join(labels.regions)}"),
        "description": harmless(f"{configuration.network}, trained for {card.data}"),
        "authors": "not stated",
        "copyright": harmless(card.licence),
        "intended_use": harmless(card.intended_use),
        "data_source": harmless(card.data),
        "network_data_format": {
            "inputs": {"image": {**image, **array, "channel_def": inputs}},
            "outputs": {"pred": {**prediction, **array, "channel_def": classes}},
        },
    }


def harmless(text: str) -> str:
    """A text that MONAI takes for a text.

    >>> harmless("$import os"), harmless("liver")
    ("'$import os'", 'liver')
    """
    return f"'{text}'" if text.strip().startswith(tuple(SPECIAL)) else text
