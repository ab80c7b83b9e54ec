"""Mean Dice on the validation cases of a fold after so many minutes of training, for several seeds, beside nnU-Net.

    python benchmarks/accuracy.py ../shared/data/Task04_Hippocampus --minutes 5 --seeds 3
    python benchmarks/accuracy.py ../shared/data/SunnybrookLV3D --minutes 5 --nnunet /path/to/nnunet/bin/python
    python benchmarks/accuracy.py ../shared/data/Task04_Hippocampus --iterations 500

Runs as a user would: everything at its default, one seed after the other, nothing kept between them. Autoseg's minutes
hold everything, its validations too; nnU-Net's are all training steps, on the same cases and cores, with its schedule
over time. With `--iterations` the published recipe is trained for so many steps instead.
Ends with status 1 where nnU-Net is better.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from table import row

import autoseg

EPOCH = 250  # iterations of the published recipe's epochs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--iterations", type=int, help=f"of the published recipe; a multiple of {EPOCH}")
    parser.add_argument("--configuration", help="2d or 3d_fullres; the latter where the plan has it")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--nnunet", help="the python of an environment with nnunetv2")
    options = parser.parse_args()

    dataset = autoseg.open_dataset(options.data)
    plan = autoseg.make_plan(autoseg.extract_fingerprint(dataset, show_progress=False))
    if options.configuration is None:
        options.configuration = "3d_fullres" if "3d_fullres" in [c.name for c in plan] else "2d"
    prepared = autoseg.preprocess(dataset, plan[options.configuration], show_progress=False)
    length = f"{options.iterations} iterations" if options.iterations else f"{options.minutes:g} minutes"
    print(f"{dataset.name}, {options.configuration}, fold {options.fold}, {length}")
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    scores = [run(dataset, prepared, options, seed) for seed in range(options.seeds)]
    spread = f", standard deviation {statistics.stdev(scores):.4f}" if len(scores) > 1 else ""
    print(f"autoseg: mean Dice {statistics.mean(scores):.4f}{spread}")
    what = f"mean Dice of {dataset.name}, {options.configuration}, after {length}"
    found = {"autoseg": f"{statistics.mean(scores):.4f}"}
    if not options.nnunet:
        row(what, **found)
    else:
        theirs = ask_nnunet(dataset, options)
        print(f"nnU-Net: mean Dice {theirs['dice']:.4f} after {theirs['iterations']} iterations")
        found["nnunet"] = f"{theirs['dice']:.4f}"
        row(what, **found)
        sys.exit(0 if statistics.mean(scores) >= theirs["dice"] else 1)


def run(
    dataset: autoseg.Dataset, prepared: autoseg.PreprocessedDataset, options: argparse.Namespace, seed: int
) -> float:
    """Train with one seed and judge it; the mean Dice."""
    blueprint = autoseg.Blueprint.quick(minutes=options.minutes, seed=seed)
    if options.iterations:
        blueprint = autoseg.Blueprint.nnunet(epochs=options.iterations // EPOCH).changed(seed=seed)
    started = time.perf_counter()
    training = autoseg.train(prepared, fold=options.fold, blueprint=blueprint, show_progress=False)
    trained = time.perf_counter()
    predictions = autoseg.predict(training.model, dataset.fold(options.fold).validation, show_progress=False)
    evaluation = autoseg.evaluate(predictions, dataset)
    print(
        f"seed {seed}: Dice {evaluation.mean:.4f} after {training.iterations} iterations in {trained - started:.0f} s; "
        f"{len(predictions)} cases predicted in {time.perf_counter() - trained:.0f} s",
        flush=True,
    )
    return evaluation.mean


def ask_nnunet(dataset: autoseg.Dataset, options: argparse.Namespace) -> dict[str, float]:
    """The same cases, fold and minutes with nnU-Net itself."""
    with tempfile.TemporaryDirectory() as folder:
        places = {f"nnUNet_{kind}": str(Path(folder) / kind) for kind in ("raw", "preprocessed", "results")}
        for place in places.values():
            Path(place).mkdir()
        exported = autoseg.export_nnunet_dataset(dataset, places["nnUNet_raw"])
        folds = [dataset.fold(number) for number in range(options.fold + 1)]
        splits = [{"train": [c.name for c in f.training], "val": [c.name for c in f.validation]} for f in folds]
        task = {"dataset": int(Path(exported).name[7:10]), "splits": splits}
        task |= {name: getattr(options, name) for name in ("configuration", "fold", "minutes")}
        script = Path(__file__).with_name("nnunet_accuracy.py")
        asked = subprocess.run(
            [options.nnunet, str(script), json.dumps(task)],
            env={**os.environ, **places, "OMP_NUM_THREADS": str(torch.get_num_threads())},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        found: dict[str, float] = json.loads(asked.stdout.strip().splitlines()[-1])
        return found


if __name__ == "__main__":
    main()
