"""The speed of prediction beside nnU-Net on this processor with the same weights, and whether label maps are equal.

    python benchmarks/prediction.py ../shared/data/Task04_Hippocampus --nnunet /path/to/nnunet/bin/python
    python benchmarks/prediction.py --nnunet /path/to/nnunet/bin/python --no-mirroring  # the CT alone

Models are trained here for `--minutes` and exported; nnU-Net's own predictor loads them and predicts in float32, which
is all it does on a CPU. autoseg predicts once in float32 and once in the precision it would choose. Hippocampus: cases
of the validation fold. CT: 256x256x200 voxels with a large and a small organ in noise, a network of 32 to 320
features, tiles of 128x128x128. Both programs mirror along the same axes; times are of reading, preprocessing,
predicting and writing, without loading the model. Ends with status 1 where float32 gives other label maps in more than
one voxel of ten thousand; times are printed, not judged, those of the processor too,
which other programs on the machine hardly change.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from table import row

import autoseg
from autoseg.data.images import read_label_map
from autoseg.training.compute import choose_compute

EQUAL = 0.9999
SHAPE, PATCH = (200, 256, 256), (128, 128, 128)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", help="the hippocampus dataset; left out where none is given")
    parser.add_argument("--nnunet", required=True, help="the python of an environment with nnunetv2")
    parser.add_argument("--minutes", type=float, default=2.0, help="of training each model (%(default)s)")
    parser.add_argument("--cases", type=int, default=5, help="of the hippocampus (%(default)s)")
    parser.add_argument("--mirror-axes", type=int, nargs="*", default=[0, 1, 2], help="of the CT (%(default)s)")
    parser.add_argument("--no-mirroring", action="store_true", help="in neither program")
    parser.add_argument("--precision", nargs="+", default=["auto", "float32"], help="of autoseg (%(default)s)")
    parser.add_argument("--no-ct", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    sound = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.data:
            sound.append(Beside(options, folder / "hippocampus").compare(*hippocampus(options), "hippocampus"))
        if not options.no_ct:
            sound.append(Beside(options, folder / "ct").compare(*large_ct(folder, options), "CT of 256x256x200"))
    sys.exit(0 if all(sound) else 1)


def hippocampus(options):
    """A model of fold 0, as wide as nnU-Net's, and cases it did not see."""
    dataset = autoseg.open_dataset(options.data)
    plan = autoseg.make_plan(autoseg.extract_fingerprint(dataset, show_progress=False))
    prepared = autoseg.preprocess(dataset, plan["3d_fullres"], show_progress=False)
    blueprint = autoseg.Blueprint.quick(minutes=options.minutes, mirroring=True, base_features=None)
    model = autoseg.train(prepared, blueprint=blueprint, show_progress=False).model
    return model, dataset.fold(0).validation[: options.cases]


def large_ct(folder, options):
    """A network of full width, trained on small patches of such scans, that predicts in tiles of 128 voxels."""
    images, labels = zip(*(scan(seed, (72, 96, 96)) for seed in range(5)), strict=True)
    dataset = autoseg.dataset_from_arrays(
        images, labels, channels=["CT"], label_names={"background": 0, "large": 1, "small": 2}, name="CT"
    )
    plan = autoseg.make_plan(autoseg.extract_fingerprint(dataset, show_progress=False))
    stages = ((1, 1, 1), *((2, 2, 2),) * 5)
    network = replace(
        plan["3d_fullres"].network,
        features=(32, 64, 128, 256, 320, 320),
        strides=stages,
        kernel_sizes=((3, 3, 3),) * 6,
        encoder_blocks=(2,) * 6,
        decoder_blocks=(2,) * 5,
    )
    augmentation = replace(
        plan["3d_fullres"].augmentation, initial_patch_size=(72, 72, 72), mirror_axes=tuple(options.mirror_axes)
    )
    small = replace(
        plan["3d_fullres"], patch_size=(64, 64, 64), batch_size=2, network=network, augmentation=augmentation
    )
    prepared = autoseg.preprocess(dataset, small, show_progress=False)
    blueprint = autoseg.Blueprint.quick(
        minutes=options.minutes, base_features=32, iterations_per_epoch=10, mirroring=True
    )
    model = autoseg.train(prepared, blueprint=blueprint, show_progress=False).model
    model = replace(model, configuration=replace(small, patch_size=PATCH))
    path = folder / "scan.nii.gz"
    write(scan(99, SHAPE)[0], path)
    case = autoseg.Case(name="scan", image_paths=(path,), label_path=None, channels=("CT",), labels=model.labels)
    return model, (case,)


def scan(seed, shape):
    """A body in air, with noise: a bright large organ, a dark small one, and bone that is no label."""
    random = np.random.RandomState(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    inside = np.sqrt(sum(a**2 for a in axes)) < 0.95
    label = np.zeros(shape, np.uint8)
    for value, radius in ((1, 0.4), (2, 0.15)):
        centre = random.uniform(-0.4, 0.4, 3)
        bumps = ndimage.zoom(random.normal(size=(6, 6, 6)), [n / 6 for n in shape], order=1)
        label[np.sqrt(sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True))) < radius * (1 + 0.1 * bumps)] = (
            value
        )
    image = np.where(inside, 40.0, -1000.0) + 110 * (label == 1) - 90 * (label == 2)
    image[inside] += random.normal(0, 25, int(inside.sum()))
    return image.astype(np.float32), label


def write(array, path):
    import SimpleITK as sitk

    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))


class Beside:
    """Both programs on the same cases."""

    def __init__(self, options, folder):
        self.python, self.folder, self.mirroring = options.nnunet, folder, not options.no_mirroring
        automatic = choose_compute("cpu").precision
        self.precisions = dict.fromkeys(automatic if p == "auto" else p for p in options.precision)
        (folder / "images").mkdir(parents=True)

    def compare(self, model, cases, what):
        """Predict with both; whether float32 gives the same label maps."""
        exported = autoseg.export_nnunet_model(model, self.folder / "model", number=7)
        for case in cases:
            (self.folder / "images" / f"{case.name}_0000.nii.gz").symlink_to(case.image_paths[0].resolve())
        axes = model.mirror_axes if self.mirroring else "no axis"
        print(f"{what}: {len(cases)} cases, mirrored along {axes}, trained here: {model!r}", flush=True)
        found = {precision: self.ours(model, cases, precision) for precision in self.precisions}
        theirs = self.theirs(exported)
        print(f"  nnU-Net, float32: {theirs[0]:.1f} s, {theirs[1]:.1f} s of the processor")
        shares = {}
        for precision, (seconds, predictions) in found.items():
            share, foreground = self.agreement(predictions)
            shares[precision] = share
            print(
                f"  autoseg, {precision}: {seconds[0]:.1f} s, {seconds[1]:.1f} s of the processor: "
                f"{theirs[0] / seconds[0]:.2f} and {theirs[1] / seconds[1]:.2f} times as fast; "
                f"{100 * share:.4f} % of voxels equal, {100 * foreground:.2f} % are foreground",
                flush=True,
            )
            row(
                f"prediction of {what}, {precision}, {100 * share:.3f} % of voxels equal",
                autoseg=f"{seconds[1]:.1f} s of the processor",
                nnunet=f"{theirs[1]:.1f} s",
                ratio=theirs[1] / seconds[1],
            )
        return shares.get("float32", 1.0) >= EQUAL

    def ours(self, model, cases, precision):
        exact = replace(model, blueprint=model.blueprint.changed(precision=precision))
        begun, computed = time.perf_counter(), time.process_time()
        folder = self.folder / precision
        options = {"mirroring": self.mirroring, "device": "cpu", "show_progress": False}
        predictions = autoseg.predict(exact, cases, folder=folder, **options)
        return (time.perf_counter() - begun, time.process_time() - computed), predictions

    def theirs(self, model):
        command = [self.python, str(Path(__file__).with_name("nnunet_prediction.py"))]
        command += [str(model), str(self.folder / "images"), str(self.folder / "theirs")]
        command += [] if self.mirroring else ["--no-mirroring"]
        needed = {f"nnUNet_{kind}": str(self.folder) for kind in ("raw", "preprocessed", "results")}
        done = subprocess.run(command, env={**os.environ, **needed}, check=False, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"nnU-Net failed:\n{done.stderr[-3000:]}")
        return json.loads(done.stdout.splitlines()[-1])

    def agreement(self, predictions):
        """The share of voxels that equal nnU-Net's, and that of foreground in these."""
        files = [self.folder / "theirs" / f"{p.case.name}.nii.gz" for p in predictions]
        theirs = [read_label_map(f, p.label_map.labels).array for f, p in zip(files, predictions, strict=True)]
        equal = sum(int((p.label_map.array == t).sum()) for p, t in zip(predictions, theirs, strict=True))
        voxels = sum(t.size for t in theirs)
        return equal / voxels, sum(int((t > 0).sum()) for t in theirs) / voxels


if __name__ == "__main__":
    main()
