"""Networks for other runtimes: ONNX or TorchScript, with their preprocessing as JSON and a runner in numpy."""

from __future__ import annotations

import copy
import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import nn

from autoseg.core.errors import ModelError
from autoseg.core.kinds import require
from autoseg.core.serialization import atomic_path, write_json, write_text
from autoseg.core.shown import Shown
from autoseg.core.types import PathLike
from autoseg.data.checks import load_image
from autoseg.data.dataset import Case
from autoseg.data.geometry import Grid
from autoseg.data.images import Image
from autoseg.data.normalization import name_of
from autoseg.interop import runner
from autoseg.interop.nnunet_names import SCHEMES
from autoseg.networks.blocks import EPSILON, InstanceNorm, VolumeConv
from autoseg.networks.unet import UNet, full_resolution
from autoseg.prediction.predictor import default_window
from autoseg.prediction.sliding_window import predict_logits
from autoseg.preprocessing.cases import preprocess_case, restore_logits
from autoseg.training.compute import choose_compute
from autoseg.training.model import TrainedModel

NORMS = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
SAME_LOGITS = 1e-3  # of their range: float32 sums in another order
SAME_VOXELS = 0.999
TRANSLATION = 1.1  # the check's image is resampled, cropped and padded: every step is in it


@dataclass(frozen=True, slots=True, kw_only=True)
class Export(Shown):
    """An exported model, and how it agrees with autoseg's own prediction of one case, both in float32.

    `logits` is the largest difference as a share of their range, `voxels` the share of equal ones in the label map.
    """

    kind: str
    folder: Path
    files: tuple[str, ...]
    checked_on: str
    logits: float
    voxels: float

    def __repr__(self) -> str:
        return (
            f"Export(as {self.kind} to {self.folder}: {', '.join(self.files)})\n"
            f"  on {self.checked_on}: logits at most {self.logits:.1e} of their range from autoseg's own, "
            f"{self.voxels:.4%} of voxels equal"
        )


def export_onnx(model: TrainedModel, folder: PathLike, *, case: Case | None = None) -> Export:
    """Write a model for ONNX Runtime: ``network.onnx``, ``preprocessing.json``, ``runner.py`` and its card.

    The runner needs numpy, scipy and onnxruntime, not autoseg. Its prediction of `case` (of noise where none is given)
    is compared with autoseg's; `ModelError` where they differ, for normalizations of your own, and where onnx,
    onnxruntime or onnxscript is not installed.

    >>> autoseg.export_onnx(training.model, "onnx", case=dataset.test[0])
    Export(as ONNX to onnx: network.onnx, preprocessing.json, runner.py, README.md)
      on seahorse_027: logits at most ... of their range from autoseg's own, ...% of voxels equal
    """
    require(model, TrainedModel, ModelError)
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModelError(
            f"export to ONNX needs {error.name}. Install all of it: pip install onnx onnxruntime onnxscript"
        ) from error
    folder = write_settings(model, folder)
    network, example = plain_network(model), _example(model, batch=2)  # of one, the exporter makes a constant
    batch = torch.export.Dim("batch", min=1, max=1024)
    with atomic_path(folder / "network.onnx") as temporary, _quietly():
        torch.onnx.export(
            network,
            (example,),
            temporary,
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=({0: batch},),
            external_data=False,
            dynamo=True,
            verbose=False,
        )
    return _checked(model, folder, "network.onnx", "ONNX", case)


def export_torchscript(model: TrainedModel, folder: PathLike, *, case: Case | None = None) -> Export:
    """Write a model as TorchScript: ``network.pt``, ``preprocessing.json``, ``runner.py`` and its card.

    What `export_onnx` says holds here too, with torch in the place of onnxruntime.

    >>> autoseg.export_torchscript(training.model, "torchscript", case=dataset.test[0])
    Export(as TorchScript to torchscript: network.pt, preprocessing.json, runner.py, README.md)
      on seahorse_027: logits at most ... of their range from autoseg's own, ...% of voxels equal
    """
    require(model, TrainedModel, ModelError)
    folder = write_settings(model, folder)
    write_torchscript(model, folder / "network.pt")
    return _checked(model, folder, "network.pt", "TorchScript", case)


def write_torchscript(model: TrainedModel, path: Path) -> None:
    """The network alone, traced."""
    with atomic_path(path) as temporary, _quietly():
        traced = torch.jit.trace(plain_network(model), _example(model, batch=1))  # type: ignore[no-untyped-call]
        torch.jit.save(traced, buffer := BytesIO())  # its own writer hides a full disk
        temporary.write_bytes(buffer.getvalue())


@contextmanager
def _quietly() -> Iterator[None]:
    """torch warns that TorchScript is old, that there is no torchvision, and of branches that depend on no data."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        log.setLevel(level)


def _example(model: TrainedModel, *, batch: int) -> torch.Tensor:
    configuration = model.configuration
    return torch.zeros(batch, configuration.network.in_channels, *configuration.patch_size)


def plain_network(model: TrainedModel) -> nn.Module:
    """The network out of torch's own layers: ours are made for speed on CPUs, and exporters do not know them."""
    network = copy.deepcopy(model.network())
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, VolumeConv):
                child.__class__ = nn.Conv3d  # type: ignore[assignment]  # the same weights, without the slicing
            elif isinstance(child, InstanceNorm):
                norm = NORMS[model.configuration.dimensions](len(child.weight), eps=EPSILON, affine=True)
                norm.load_state_dict(child.state_dict())
                setattr(parent, name, norm)
    return (network if isinstance(network, UNet) else _Finest(network)).eval()


class _Finest(nn.Module):
    """A network of the user's own, whose output may be a list, with the first of it alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return full_resolution(self.network(image))


def write_settings(model: TrainedModel, folder: PathLike) -> Path:
    """``preprocessing.json``, ``runner.py`` and the card: all but the network."""
    folder = Path(folder)
    settings = settings_of(model)
    write_json(folder / "preprocessing.json", settings)
    with atomic_path(folder / "runner.py") as temporary:
        shutil.copyfile(runner.__file__, temporary)
    title = f"{model.configuration.dataset_name}, {model.configuration.name}"
    write_text(folder / "README.md", model.card.to_markdown(title))
    return folder


def settings_of(model: TrainedModel) -> dict[str, Any]:
    """All that the runner must know. Raises `ModelError` for a normalization of your own."""
    configuration, labels = model.configuration, model.labels
    if configuration.previous_stage is not None:
        raise ModelError(
            f"{configuration.name!r} refines what {configuration.previous_stage!r} predicts, and the runner runs one "
            "network. export_nnunet_model takes each stage of a cascade, and the first can be exported alone."
        )
    window = default_window([model])
    return {
        "made_with": model.card.made_with,
        "channels": configuration.channels,
        "labels": {
            "names": labels.names,
            "values": labels.values,
            "regions": labels.has_regions,
            "region_order": labels.region_order,
        },
        "axis_order": configuration.axis_order,
        "spacing": configuration.spacing,
        "normalization": [_recipe(scheme) for scheme in configuration.normalization],
        "mask_background": configuration.mask_background,
        "resampling": {f.name: getattr(configuration.resampling, f.name) for f in fields(configuration.resampling)},
        "patch_size": configuration.patch_size,
        "overlap": window.overlap,
        "mirror_axes": window.mirror_axes,
    }


def _recipe(scheme: Any) -> dict[str, Any]:
    if not is_dataclass(scheme) or type(scheme) not in SCHEMES.values():
        raise ModelError(
            f"the normalization {name_of(scheme)!r} is your own code, which an exported model cannot hold. "
            "Train with one of autoseg's, or export the network with model.network()."
        )
    return {"type": type(scheme).__name__, **{f.name: getattr(scheme, f.name) for f in fields(scheme)}}


def _checked(model: TrainedModel, folder: Path, file: str, kind: str, case: Case | None) -> Export:
    files = (file, "preprocessing.json", "runner.py", "README.md")
    return agreement(model, runner.load_network(folder), case, kind=kind, folder=folder, files=files)


def agreement(
    model: TrainedModel, network: runner.Network, case: Case | None, *, kind: str, folder: Path, files: tuple[str, ...]
) -> Export:
    """Predict a case with autoseg and with the runner. Raises `ModelError` where they do not agree."""
    image = load_image(case) if case is not None else noise(model)
    configuration, labels = model.configuration, model.labels
    window = replace(default_window([model]), adds_in="float32")  # as the runner does
    if case is None:
        window = replace(
            window, mirror_axes=window.mirror_axes[:1]
        )  # one shows that it works, in a quarter of the time
    prepared = preprocess_case("the check", image, None, configuration)
    compute = choose_compute("cpu", "float32")
    placed = compute.place(model.network(), configuration.dimensions)
    logits = predict_logits(placed, prepared.array, window, compute)
    label_map = restore_logits(logits, prepared.geometry, labels, settings=configuration.resampling).array
    settings, grid = settings_of(model) | {"mirror_axes": window.mirror_axes}, image.grid.as_3d()
    array, geometry = runner.preprocess(image.array.reshape(-1, *grid.shape), grid.spacing, settings)
    theirs = runner.predict(network, array, settings)
    found = runner.restore(theirs, geometry, settings).reshape(label_map.shape)
    apart = float(abs(theirs - logits.numpy()).max() / max(float(np.ptp(theirs)), 1e-6))
    equal = float((found == label_map).mean())
    name = case.name if case is not None else "an image of noise"
    if apart > SAME_LOGITS or equal < SAME_VOXELS:
        raise ModelError(
            f"the model exported as {kind} to {folder} does not predict {name} as autoseg does: logits are "
            f"{apart:.1e} of their range apart, {equal:.2%} of voxels are equal. Do not use it; please report."
        )
    return Export(kind=kind, folder=folder, files=files, checked_on=name, logits=apart, voxels=equal)


def noise(model: TrainedModel) -> Image:
    """An image of about one patch, with a frame of zeros, that has to be resampled."""
    configuration = model.configuration
    order = np.argsort(configuration.axis_order)
    lead = 3 - configuration.dimensions
    shape = [2] * lead + [max(4, round(edge / TRANSLATION) - 2) for edge in configuration.patch_size]
    spacing = [5.0] * lead + [TRANSLATION * s for s in configuration.spacing]
    random = np.random.default_rng(0).uniform(0, 255, (len(configuration.channels), *(shape[a] for a in order)))
    smooth = np.stack([ndimage.gaussian_filter(channel, 2) for channel in random]).astype(np.float32)
    framed = np.pad(smooth, [(0, 0), (1, 1), (1, 1), (1, 1)])
    grid = Grid.of(framed.shape[1:], tuple(spacing[a] for a in order))
    return Image(framed, grid, configuration.channels)
