"""How long resampling, and fingerprint and preprocessing of a whole dataset take, beside nnU-Net on the same cores.

    python benchmarks/preprocessing.py
    python benchmarks/preprocessing.py --nnunet /path/to/nnunet/bin/python
    python benchmarks/preprocessing.py --nnunet ... --data ../shared/data/Task04_Hippocampus

With --nnunet, nnU-Net's own functions and commands run in their environment, and the largest difference is printed.
Both take turns, so that other work on the machine slows both; each counts with its fastest turn.
Ends with status 1 where a number differs, or where nnU-Net is not slower by the factor that was promised.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import ndimage
from table import row

from autoseg.preprocessing.label_resampling import resample_labels
from autoseg.preprocessing.resampling import resample_image, resample_probabilities

# name: kind, shape of the input, new shape, factor that was promised
JOBS: dict[str, tuple[str, tuple[int, ...], tuple[int, ...], float]] = {
    "image, order 3": ("image", (1, 100, 256, 256), (160, 205, 205), 10),
    "labels": ("labels", (1, 100, 256, 256), (160, 205, 205), 10),
    "10 probability channels, order 1": ("probabilities", (10, 80, 128, 128), (160, 256, 256), 8),
}
REPEATS = 3  # in a row, by both: the first use of fresh memory can take longer than all else
COMMANDS_FACTOR = 3.0
FINGERPRINT = """
import sys, autoseg
autoseg.extract_fingerprint(autoseg.open_dataset(sys.argv[1]), folder=sys.argv[2])
"""
PREPROCESS = """
import sys, autoseg
dataset = autoseg.open_dataset(sys.argv[1])
plan = autoseg.make_plan(autoseg.extract_fingerprint(dataset, folder=sys.argv[2]))
for name in ("2d", "3d_fullres"):
    autoseg.preprocess(dataset, plan[name], folder=sys.argv[2])
"""
TOLERANCE = 1e-4  # of the range of values; labels may not differ at all
EVEN = {"spacing_from": (1.0, 1.0, 1.0), "spacing_to": (1.0, 1.0, 1.0)}
RESAMPLE: dict[str, Callable[[np.ndarray, tuple[int, ...]], np.ndarray]] = {
    "image": lambda array, shape: resample_image(array, shape, **EVEN),
    "labels": lambda array, shape: resample_labels(array[0], shape, **EVEN)[None],
    "probabilities": lambda array, shape: resample_probabilities(array, shape, **EVEN),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nnunet", help="the python of an environment with nnunetv2")
    parser.add_argument("--data", type=Path, help="also compare whole commands on this dataset, in Decathlon layout")
    parser.add_argument("--turns", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sound = [compare_resampling(name, arguments, Path(folder)) for name in JOBS]
        if arguments.data:
            sound.append(compare_commands(arguments, Path(folder)))
    sys.exit(0 if all(sound) else 1)


def compare_resampling(name: str, arguments: argparse.Namespace, folder: Path) -> bool:
    kind, old, new, promised = JOBS[name]
    array = make_array(kind, old)
    RESAMPLE[kind](array, new)  # the weights are computed once for each pair of lengths
    ours, theirs, answer = [], [], None
    np.save(folder / "input.npy", array)
    for _ in range(arguments.turns):
        for _ in range(REPEATS):
            begun = time.perf_counter()
            result = RESAMPLE[kind](array, new)
            ours.append(time.perf_counter() - begun)
        if arguments.nnunet:
            answer = ask_nnunet(arguments.nnunet, kind, new, folder)
            theirs += answer["seconds"]
    print(f"{name}, {'x'.join(map(str, old))} to {'x'.join(map(str, new))}: {min(ours):.3f} s", end="")
    if answer is None:
        print()
        return True
    expected = np.load(folder / "output.npy")
    different = float(abs(result - expected).max() / np.ptp(expected)) if kind != "labels" else None
    wrong = int((result != expected).sum())
    factor = min(theirs) / min(ours)
    print(f", nnU-Net {min(theirs):.2f} s: {factor:.1f} times faster (promised {promised:g})", end="; ")
    row(f"resampling: {name}", autoseg=f"{min(ours):.3f} s", nnunet=f"{min(theirs):.2f} s", ratio=factor)
    print(f"{wrong} voxels differ" if different is None else f"largest difference {different:.1e} of the range")
    return factor >= promised and (wrong == 0 if different is None else different <= TOLERANCE)


def make_array(kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Noise with structure; for labels a few organs on a background."""
    random = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(random.normal(size=shape).astype(np.float32), (0, 6, 6, 6))
    if kind == "labels":
        return np.digitize(smooth, np.quantile(smooth, [0.8, 0.9])).astype(np.int16)
    return smooth / smooth.std() + random.normal(size=shape).astype(np.float32) / 10


def ask_nnunet(python: str, kind: str, shape: tuple[int, ...], folder: Path) -> dict:
    script = Path(__file__).with_name("nnunet_resampling.py")
    run = subprocess.run(
        [python, script, kind, json.dumps(shape), str(folder), str(REPEATS)], check=True, capture_output=True, text=True
    )
    return json.loads(run.stdout.splitlines()[-1])


def compare_commands(arguments: argparse.Namespace, folder: Path) -> bool:
    """Fingerprint, then preprocessing of 2d and 3d_fullres, from the shell to the last file."""
    environment = nnunet_dataset(arguments.data, folder) if arguments.nnunet else {}
    ours: dict[str, list[float]] = {"fingerprint": [], "preprocess": []}
    theirs: dict[str, list[float]] = {"fingerprint": [], "preprocess": []}
    for turn in range(arguments.turns):
        out = str(folder / f"work_{turn}")
        ours["fingerprint"].append(timed([sys.executable, "-c", FINGERPRINT, str(arguments.data), out]))
        ours["preprocess"].append(timed([sys.executable, "-c", PREPROCESS, str(arguments.data), out]))
        if arguments.nnunet:
            call = [str(Path(arguments.nnunet).with_name("nnUNetv2_"))]
            command = [call[0] + "extract_fingerprint", "-d", "4", "-np", "2", "--clean"]
            theirs["fingerprint"].append(timed(command, environment))
            timed([call[0] + "plan_experiment", "-d", "4"], environment)
            command = [call[0] + "preprocess", "-d", "4", "-c", "2d", "3d_fullres", "-np", "2", "2"]
            theirs["preprocess"].append(timed(command, environment))
        cases = len(json.loads((arguments.data / "dataset.json").read_text())["training"])
        for configuration in ("2d", "3d_fullres"):
            done = len(list((folder / f"work_{turn}" / "preprocessed" / configuration).glob("*.json")))
            assert done == cases, f"{done} of {cases} cases were preprocessed for {configuration}"
    sound = True
    for stage, seconds in ours.items():
        print(f"autoseg {stage} of {arguments.data.name}: {min(seconds):.1f} s", end="")
        if theirs[stage]:
            factor = min(theirs[stage]) / min(seconds)
            print(
                f", nnU-Net {min(theirs[stage]):.1f} s: {factor:.1f} times faster (promised {COMMANDS_FACTOR:g})",
                end="",
            )
            times = {"autoseg": f"{min(seconds):.1f} s", "nnunet": f"{min(theirs[stage]):.1f} s"}
            row(f"{stage} of {arguments.data.name}, whole command", **times, ratio=factor)
            sound &= factor >= COMMANDS_FACTOR
        print()
    return sound


def timed(command: list[str], environment: dict[str, str] | None = None) -> float:
    begun = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **(environment or {})})
    return time.perf_counter() - begun


def nnunet_dataset(data: Path, folder: Path) -> dict[str, str]:
    """The dataset in nnU-Net's layout, by links, and the variables that tell nnU-Net where it is."""
    raw = folder / "nnUNet_raw" / "Dataset004_Benchmark"
    for name in ("imagesTr", "labelsTr"):
        (raw / name).mkdir(parents=True)
    declared = json.loads((data / "dataset.json").read_text())
    for entry in declared["training"]:
        image, label = (data / entry[k] for k in ("image", "label"))
        (raw / "imagesTr" / image.name.replace(".nii.gz", "_0000.nii.gz")).symlink_to(image.resolve())
        (raw / "labelsTr" / label.name).symlink_to(label.resolve())
    labels = {name: int(value) for value, name in declared["labels"].items()}
    facts = {"channel_names": {"0": "MRI"}, "labels": labels, "numTraining": len(declared["training"])}
    (raw / "dataset.json").write_text(json.dumps({**facts, "file_ending": ".nii.gz"}))
    return {f"nnUNet_{kind}": str(folder / f"nnUNet_{kind}") for kind in ("raw", "preprocessed", "results")}


if __name__ == "__main__":
    main()
