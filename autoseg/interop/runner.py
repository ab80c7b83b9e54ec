"""Runs a network that autoseg exported, with numpy and scipy: preprocessing, tiles, and the way back to the scan.

This file stands alone and lies beside every exported network, with ``preprocessing.json``, which says what to do.

    python runner.py scan.nii.gz labels.nii.gz            a network in ONNX (onnxruntime) or TorchScript (torch)

Several channels are several files: ``python runner.py t1.nii.gz t2.nii.gz labels.nii.gz``. Files need SimpleITK.
In Python: ``Runner("folder")(image, spacing)``, where image is (channel, z, y, x) and spacing is (z, y, x) in mm.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

Settings = dict[str, Any]
Network = Callable[[np.ndarray], np.ndarray]  # (batch, channel, *patch) to (batch, output, *patch)
PLANAR_SPACING = 999.0  # mm between the slices of an image that has one
SMALLEST = 1e-8


class Runner:
    """The network of a folder, ready to segment one image after the other."""

    def __init__(self, folder: str | Path, network: Network | None = None) -> None:
        self.settings: Settings = json.loads((Path(folder) / "preprocessing.json").read_text(encoding="utf-8"))
        self.network = network or load_network(Path(folder))

    def __call__(self, image: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
        """The label of each voxel (z, y, x) of an image (channel, z, y, x)."""
        array, geometry = preprocess(image, spacing, self.settings)
        return restore(predict(self.network, array, self.settings), geometry, self.settings)


def load_network(folder: Path) -> Network:
    """The network in ``network.onnx`` or ``network.pt``."""
    if (folder / "network.onnx").exists():
        import onnxruntime

        session = onnxruntime.InferenceSession(folder / "network.onnx", providers=["CPUExecutionProvider"])
        return lambda batch: np.asarray(session.run(None, {"image": batch})[0])
    import torch

    module = torch.jit.load(str(folder / "network.pt"), map_location="cpu")  # type: ignore[no-untyped-call]
    return from_torch(module, "cpu")


def from_torch(module: Any, device: Any) -> Network:
    """A network of torch as one of numpy."""
    import torch

    @torch.inference_mode()
    def network(batch: np.ndarray) -> np.ndarray:
        result: np.ndarray = module(torch.from_numpy(batch).to(device)).float().cpu().numpy()
        return result

    return network


# before the network


def preprocess(image: np.ndarray, spacing: Sequence[float], settings: Settings) -> tuple[np.ndarray, Settings]:
    """Transpose, crop to what is not zero, normalize, resample; and what must be known to come back."""
    order, channels = settings["axis_order"], len(settings["normalization"])
    if image.ndim != 4 or len(image) != channels:
        raise ValueError(f"an image of shape {image.shape} does not fit: ({channels} channel(s), z, y, x) is needed.")
    array = image.transpose(0, *(axis + 1 for axis in order))
    box = _box((array != 0).any(axis=0))
    array, full = array[(slice(None), *box)], array.shape[1:]
    inside = ndimage.binary_fill_holes((array != 0).any(axis=0))
    recipes = zip(array, settings["normalization"], settings["mask_background"], strict=True)
    normal = np.stack([normalize(values, recipe, inside if masked else None) for values, recipe, masked in recipes])
    before = [float(spacing[axis]) for axis in order]
    after = [*before[: 3 - len(settings["spacing"])], *settings["spacing"]]
    lengths = zip(array.shape[1:], before, after, strict=True)
    shape = [max(1, round(old / new * n)) for n, old, new in lengths]
    geometry = {"full": full, "box": box, "shape": array.shape[1:], "before": before, "after": after}
    orders = settings["resampling"]
    return resample(normal, shape, (before, after), orders, orders["image_order"]), geometry


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    hits = [np.flatnonzero(mask.any(axis=tuple(b for b in range(3) if b != a))) for a in range(3)]
    return tuple(slice(int(h[0]), int(h[-1]) + 1) if h.size else slice(0, mask.shape[a]) for a, h in enumerate(hits))


def normalize(values: np.ndarray, recipe: Settings, inside: np.ndarray | None) -> np.ndarray:
    """One channel, float32."""
    values, kind = np.ascontiguousarray(values, np.float32), recipe["type"]
    if kind == "CTNormalization":
        clipped = np.clip(values, np.float32(recipe["low"]), np.float32(recipe["high"]))
        return np.asarray((clipped - np.float32(recipe["mean"])) / np.float32(max(recipe["std"], SMALLEST)))
    if kind == "RescaleTo01":
        shifted = values - values.min()
        return np.asarray(shifted / max(float(shifted.max()), SMALLEST))
    if kind == "RGBTo01":
        return values / np.float32(255)
    if kind == "NoNormalization":
        return values
    if inside is None:
        return np.asarray((values - values.mean()) / max(float(values.std()), SMALLEST))
    part = values[inside]
    if part.size:
        values[inside] = (part - part.mean()) / max(float(part.std()), SMALLEST)
    return values


def resample(
    array: np.ndarray, shape: Sequence[int], spacings: tuple[Sequence[float], ...], settings: Settings, order: int
) -> np.ndarray:
    """Each channel of (channel, *space) by splines; a coarse axis apart from the others."""
    if array.shape[1:] == tuple(shape):
        return array
    apart = coarse_axis(spacings, settings)
    if apart is None:
        return np.stack([resize(values, shape, order) for values in array])
    plane = [n for axis, n in enumerate(shape) if axis != apart]
    result = []
    for values in array:
        slices = np.stack([resize(each, plane, order) for each in np.moveaxis(values, apart, 0)])
        factors = (shape[apart] / len(slices), 1, 1)
        along = settings["coarse_axis_order"]
        if len(slices) != shape[apart]:
            slices = zoom(slices, factors, along)
        result.append(np.moveaxis(slices, 0, apart))
    return np.stack(result)


def coarse_axis(spacings: Sequence[Sequence[float]], settings: Settings) -> int | None:
    """The axis that is resampled apart: the coarsest one before, or else after, where spacings differ enough."""
    if settings["separate_axis"] is False:
        return None
    limit = 0.0 if settings["separate_axis"] else settings["anisotropy"]
    deciding = next((s for s in spacings if max(s) / min(s) > limit), ())
    coarsest = [axis for axis, spacing in enumerate(deciding) if spacing == max(deciding)]
    return coarsest[0] if len(coarsest) == 1 else None


def resize(values: np.ndarray, shape: Sequence[int], order: int) -> np.ndarray:
    """One volume or slice by a spline, clipped to the range it had."""
    factors = [new / old for new, old in zip(shape, values.shape, strict=True)]
    return np.asarray(np.clip(zoom(values.astype(float), factors, order), values.min(), values.max()), np.float32)


def zoom(values: np.ndarray, factors: Sequence[float], order: Any) -> Any:
    """scipy's splines, as nnU-Net calls them."""
    return ndimage.zoom(values, factors, order=order, mode="nearest", grid_mode=True)


# the network, tile by tile


def predict(network: Network, array: np.ndarray, settings: Settings) -> np.ndarray:
    """Logits (output, z, y, x) of a preprocessed image (channel, z, y, x), from overlapping tiles."""
    patch = settings["patch_size"]
    flat = len(patch) == 2
    samples = np.moveaxis(array, 1, 0) if flat else array[None]
    missing = [max(p - n, 0) for p, n in zip(patch, samples.shape[2:], strict=True)]
    padded = np.pad(samples, [(0, 0), (0, 0), *((m // 2, m - m // 2) for m in missing)])
    weights, mirrored = gaussian_weights(patch), mirrorings(settings["mirror_axes"])
    results = []
    for sample in padded:
        total: Any = 0.0
        norm = np.zeros(sample.shape[1:], np.float32)
        for place in tiles(sample.shape[1:], patch, settings["overlap"]):
            tile = sample[(slice(None), *place)][None]
            turned = [np.flip(network(np.ascontiguousarray(np.flip(tile, axes))), axes) for axes in mirrored]
            logits = np.mean(turned, axis=0)[0]
            if np.isscalar(total):
                total = np.zeros((len(logits), *sample.shape[1:]), np.float32)
            total[(slice(None), *place)] += logits * weights
            norm[place] += weights
        results.append(total / norm)
    inside = tuple(slice(m // 2, m // 2 + n) for m, n in zip(missing, samples.shape[2:], strict=True))
    stacked = np.stack(results)[(slice(None), slice(None), *inside)]
    return np.moveaxis(stacked, 0, 1) if flat else stacked[0]


def mirrorings(axes: Sequence[int]) -> list[tuple[int, ...]]:
    """Every combination of axes, as those of a batch."""
    return [tuple(a + 2 for a in c) for n in range(len(axes) + 1) for c in itertools.combinations(axes, n)]


def tiles(shape: Sequence[int], patch: Sequence[int], overlap: float) -> Iterator[tuple[slice, ...]]:
    """Where tiles lie: evenly, so that neighbours share at least `overlap`."""
    starts = []
    for size, edge in zip(shape, patch, strict=True):
        count = math.ceil((size - edge) / (edge * (1 - overlap))) + 1 if size > edge else 1
        starts.append([round(i * (size - edge) / (count - 1)) for i in range(count)] if count > 1 else [0])
    for corner in itertools.product(*starts):
        yield tuple(slice(c, c + p) for c, p in zip(corner, patch, strict=True))


def gaussian_weights(patch: Sequence[int]) -> np.ndarray:
    """How much each voxel of a tile counts."""
    delta = np.zeros(tuple(patch))
    delta[tuple(p // 2 for p in patch)] = 1
    weights: Any = ndimage.gaussian_filter(delta, [p / 8 for p in patch], mode="constant")
    weights = 10 * weights / weights.max()
    half = weights.astype(np.float16)
    return np.asarray(np.maximum(weights, half[half > 0].min()), np.float32)


# after the network


def restore(logits: np.ndarray, geometry: Settings, settings: Settings) -> np.ndarray:
    """The label of each voxel (z, y, x) of the scan."""
    orders, labels = settings["resampling"], settings["labels"]
    spacings = (geometry["after"], geometry["before"])
    scores = resample(logits, geometry["shape"], spacings, orders, orders["probability_order"])
    kind = np.uint8 if max(labels["values"]) < 255 else np.uint16
    if labels["regions"]:
        cut = np.zeros(scores.shape[1:], kind)
        for value, score in zip(labels["region_order"], scores, strict=True):
            cut[score > 0] = value
    else:
        cut = np.asarray(labels["values"], kind)[scores.argmax(axis=0)]
    full = np.zeros(geometry["full"], kind)
    full[geometry["box"]] = cut
    return full.transpose(np.argsort(settings["axis_order"]))


# the parts of a MONAI bundle: callables that a config can name


class Preprocessed:
    """Takes what ``LoadImaged`` gives, (channel, x, y[, z]), and adds the array for the network, in our order."""

    def __init__(self, folder: str) -> None:
        self.settings: Settings = json.loads((Path(folder) / "preprocessing.json").read_text(encoding="utf-8"))

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        image = data["image"]
        turned = np.moveaxis(np.asarray(image).T, -1, 0)  # (channel, [z,] y, x)
        spacing = [float(s) for s in image.pixdim[: turned.ndim - 1]][::-1]
        if turned.ndim == 3:
            turned, spacing = turned[:, None], [PLANAR_SPACING, *spacing]
        array, geometry = preprocess(turned, spacing, self.settings)
        return {**data, "array": array, "geometry": geometry}


class Tiled(Preprocessed):
    """An inferer: the array and a network of torch in, logits out."""

    def __call__(self, data: dict[str, Any], network: Any = None) -> dict[str, Any]:
        device = next(itertools.chain(network.parameters(), network.buffers())).device
        return {**data, "logits": predict(from_torch(network, device), data["array"], self.settings)}


class Restored(Preprocessed):
    """Adds the label map as ``pred``, on the image's own grid."""

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        import torch
        from monai.data import MetaTensor

        labels = restore(data["logits"], data["geometry"], self.settings).transpose(2, 1, 0)
        return {**data, "pred": MetaTensor(torch.from_numpy(labels.copy())[None], meta=dict(data["image"].meta))}


class Evaluator:
    """Segments every case of a MONAI dataset, one after the other."""

    def __init__(self, dataset: Any, network: Any, inferer: Any, postprocessing: Any) -> None:
        self.dataset, self.network, self.inferer, self.postprocessing = dataset, network, inferer, postprocessing

    def run(self) -> None:
        """Predict and keep what the postprocessing writes."""
        for data in self.dataset:
            self.postprocessing(self.inferer(data, self.network))


def find_images(folder: str) -> list[dict[str, Any]]:
    """The cases of a folder, named ``case_0000.nii.gz`` with one file a channel; or one file a case."""
    cases: dict[str, list[str]] = {}
    for path in sorted(Path(folder).glob("*.nii.gz")):
        name, _, number = path.name.removesuffix(".nii.gz").rpartition("_")
        cases.setdefault(name if number.isdigit() and len(number) == 4 else path.name, []).append(str(path))
    return [{"image": paths} for paths in cases.values()]


def main(paths: Sequence[str]) -> None:
    """Read images, segment them, write the label map."""
    import SimpleITK as sitk

    if len(paths) < 2:
        raise SystemExit(__doc__)
    images = [sitk.ReadImage(path) for path in paths[:-1]]
    arrays = [sitk.GetArrayFromImage(image).astype(np.float32) for image in images]
    colours = images[0].GetNumberOfComponentsPerPixel() > 1  # of a photograph, which holds all channels in one file
    array = np.moveaxis(arrays[0], -1, 0) if colours else np.stack(arrays)
    spacing = images[0].GetSpacing()[::-1]
    flat = array.ndim == 3
    labels = Runner(Path(__file__).parent)(
        array[:, None] if flat else array, (PLANAR_SPACING, *spacing) if flat else spacing
    )
    result = sitk.GetImageFromArray(labels[0] if flat else labels)
    result.CopyInformation(images[0])
    sitk.WriteImage(result, paths[-1], useCompression=True)


if __name__ == "__main__":
    main(sys.argv[1:])
