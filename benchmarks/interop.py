"""Models in both directions: what nnU-Net trained, predicted by autoseg, and what autoseg trained, by nnU-Net.

    python benchmarks/interop.py ../shared/data/Task04_Hippocampus --nnunet /path/to/nnunet/bin/python

nnU-Net trains each of its networks for forty iterations on a few cases that autoseg exported; autoseg trains for half
a minute. Logits of one random patch are compared, and label maps of cases that no training saw, all in float32.
Then the exports for other runtimes are compared with autoseg on a case. Ends with status 1 where logits differ by more
than 1e-4, or label maps in more than one voxel of ten thousand. (nnU-Net adds up tiles in float16, which decides where
two classes are nearly tied; a network that learned less has more of these voxels.)
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from table import row

import autoseg
from autoseg.data.images import read_label_map

TRAINING, TEST = 10, 4
LOGITS, LABELS = 1e-4, 0.9999
TRAIN = json.dumps({"configuration": "3d_fullres", "iterations": 40, "settings": {"batch_size": 2}, "network": {}})
PLANNERS = ("ExperimentPlanner", "nnUNetPlannerResEncM")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--nnunet", required=True, help="the python of an environment with nnunetv2")
    options = parser.parse_args()
    dataset = autoseg.open_dataset(options.data)
    with tempfile.TemporaryDirectory() as folder:
        sound = list(Comparison(dataset, options.nnunet, Path(folder)).run())
    sys.exit(0 if all(sound) else 1)


class Comparison:
    def __init__(self, dataset, python, folder):
        self.python, self.folder = python, folder
        self.few = replace(dataset, training=dataset.training[:TRAINING], test=(), splits=())
        self.unseen = dataset.training[TRAINING : TRAINING + TEST]
        self.environment = {f"nnUNet_{kind}": str(folder / kind) for kind in ("raw", "preprocessed", "results")}
        for path in self.environment.values():
            Path(path).mkdir()
        (folder / "images").mkdir()
        for case in self.unseen:
            (folder / "images" / f"{case.name}_0000.nii.gz").symlink_to(case.image_paths[0].resolve())

    def run(self):
        raw = autoseg.export_nnunet_dataset(self.few, self.folder / "raw", number=4)
        yield from self.theirs()
        yield from self.ours(raw)

    def ask(self, *arguments):
        """Run the other script in nnU-Net's environment; its last line, if that is JSON."""
        command = [self.python, str(Path(__file__).with_name("nnunet_interop.py")), *map(str, arguments)]
        done = subprocess.run(
            command, env={**os.environ, **self.environment}, check=False, capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(f"nnU-Net failed:\n{done.stderr[-3000:]}")
        last = (done.stdout.splitlines() or [""])[-1]
        return json.loads(last) if last.startswith("{") else {}

    def theirs(self):
        """nnU-Net trains, autoseg opens and predicts."""
        for planner in PLANNERS:
            folder = self.ask("train", 4, planner, TRAIN)["model"]
            model = autoseg.open_nnunet_model(folder)
            print(f"\ntrained by nnU-Net, opened here: {model!r}\n{model.explain()!r}")
            yield from self.compare(model, folder)

    def ours(self, raw):
        """autoseg trains and exports, nnU-Net opens and predicts, from a folder and from a zip."""
        dataset = autoseg.open_dataset(raw)
        plan = autoseg.make_plan(autoseg.extract_fingerprint(dataset, show_progress=False))
        prepared = autoseg.preprocess(dataset, plan["3d_fullres"], show_progress=False)
        quick = autoseg.Blueprint.quick(minutes=0.5, precision="float32")
        model = autoseg.train(prepared, blueprint=quick, show_progress=False).model
        print(f"\ntrained here, opened by nnU-Net: {model!r}")
        yield from self.compare([model], autoseg.export_nnunet_model(model, self.folder / "export", number=4))
        archive = autoseg.export_nnunet_model(model, self.folder / "model.zip", number=5)
        self.ask("install", archive)
        installed = next((self.folder / "results").glob("Dataset005*/*"))
        print(f"from the zip, installed as {installed.parent.name}/{installed.name}")
        yield from self.compare([model], installed)
        for export in (autoseg.export_onnx, autoseg.export_torchscript, autoseg.export_bundle):
            written = export(model, self.folder / export.__name__, case=self.unseen[0])
            print(f"\n{written!r}", flush=True)
            yield written.voxels >= LABELS

    def compare(self, models, folder):
        configuration = models[0].configuration
        source, target = self.folder / "patch.npy", self.folder / "logits.npy"
        shape = (1, len(configuration.channels), *configuration.patch_size)
        np.save(source, np.random.RandomState(0).normal(size=shape).astype(np.float32))
        self.ask("logits", folder, source, target)
        with torch.inference_mode():
            mine = models[0].network()(torch.from_numpy(np.load(source))).numpy()
        theirs = np.load(target)
        apart = float(abs(mine - theirs).max())
        print(
            f"  logits of a patch: at most {apart:.1e} apart, in a range of {np.ptp(theirs):.1f} (promised {LOGITS:g})"
        )
        yield apart <= LOGITS
        self.ask("predict", folder, self.folder / "images", self.folder / "theirs")
        predictions = autoseg.predict(models, self.unseen, device="cpu", show_progress=False)
        share, foreground = agreement(predictions, self.folder / "theirs")
        print(
            f"  label maps: {100 * share:.4f} % of voxels equal (promised {100 * LABELS:g} %), "
            f"{100 * foreground:.1f} % are foreground",
            flush=True,
        )
        row(f"label maps of {models[0]!r}".partition("(")[0] + ", equal voxels", autoseg=f"{100 * share:.4f} %")
        yield share >= LABELS and foreground > 0


def agreement(predictions, folder):
    """The share of voxels in which predictions equal the label maps of a folder, and that of foreground in these."""
    theirs = [read_label_map(folder / f"{p.case.name}.nii.gz", p.label_map.labels).array for p in predictions]
    equal = sum(int((p.label_map.array == t).sum()) for p, t in zip(predictions, theirs, strict=True))
    voxels = sum(t.size for t in theirs)
    return equal / voxels, sum(int((t > 0).sum()) for t in theirs) / voxels


if __name__ == "__main__":
    main()
