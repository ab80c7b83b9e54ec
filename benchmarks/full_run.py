"""From a dataset to a decision and a prediction: cross-validation, selection, ensemble, postprocessing, a DICOM series.

    python benchmarks/full_run.py ../shared/data/Task04_Hippocampus --minutes 2
    python benchmarks/full_run.py ../shared/data/Task04_Hippocampus --minutes 0.2 --folds 2     # a look at it

Trains `3d_fullres` and `2d` for `--minutes` on each fold, judges both and their ensemble on the cases that no model
saw, decides on the postprocessing, and predicts the DICOM series beside the dataset with what was chosen. (That series
shows no hippocampus: it is there to show that one goes in, and that its label map comes out on its grid.) With
`--folder`, a stopped run goes on. Ends with status 1 where the chosen one is worse than one that was tried, or the
DICOM series does not come back on its own grid.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path

import pandas as pd
from table import row

import autoseg

CONFIGURATIONS = ("3d_fullres", "2d")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=2.0, help="of training each fold (%(default)s)")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--folder", help="keeps everything, so that a stopped run goes on")
    parser.add_argument("--dicom", type=Path, help="a DICOM series; samples/dicom_series beside the dataset")
    options = parser.parse_args()
    seconds: dict[str, float] = {}
    began = time.perf_counter()
    dataset = autoseg.open_dataset(options.data)
    plan = autoseg.make_plan(autoseg.extract_fingerprint(dataset, show_progress=False))
    seconds["fingerprint and plan"] = time.perf_counter() - began
    blueprint = autoseg.Blueprint.quick(minutes=options.minutes)
    runs = []
    for name in CONFIGURATIONS:
        began = time.perf_counter()
        runs += autoseg.cross_validate(
            dataset,
            plan,
            [name],
            folds=range(options.folds),
            blueprint=blueprint,
            folder=options.folder,
            show_progress=False,
        )
        seconds[f"{name}: {options.folds} folds of {options.minutes:g} min, and predicting"] = (
            time.perf_counter() - began
        )
        print(runs[-1], flush=True)
    began = time.perf_counter()
    choice = autoseg.choose_best(runs, dataset, show_progress=False)
    seconds["selection, with the ensemble and the postprocessing"] = time.perf_counter() - began
    print(choice)
    began = time.perf_counter()
    sound = predict_series(choice, options.dicom or options.data.parent / "samples" / "dicom_series")
    seconds["prediction of the DICOM series"] = time.perf_counter() - began
    best = show(choice, seconds)
    sys.exit(0 if sound and best else 1)


def predict_series(choice, path):
    """Whether the label map comes back on the series' own grid."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # its voxels are unlike the hippocampus's, as expected
        (prediction,) = choice.predict(path, mirroring=False, show_progress=False)
    image = prediction.case.image()
    same = prediction.label_map.grid == image.grid
    print(f"{path.name}: {image!r}, predicted {'on its own grid' if same else 'ON ANOTHER GRID'}: {prediction!r}")
    return same


def show(choice, seconds):
    """The table of all that was tried; whether the best of it was chosen."""
    configuration, postprocessing = choice.decisions
    tried = [("configuration", a.value, a.numbers["mean Dice"], a.accepted) for a in configuration.tried]
    tried += [("largest component", a.value, a.numbers["after"], a.accepted) for a in postprocessing.tried]
    table = pd.DataFrame(tried, columns=["decision", "candidate", "mean Dice", "chosen"])
    print(f"\n{table.to_string(index=False, float_format=lambda v: f'{v:.4f}')}\n")
    by_label = ", ".join(f"{name} {dice:.4f}" for name, dice in choice.evaluation.by_label.items())
    print(f"chosen, postprocessed: mean Dice {choice.evaluation.mean:.4f} ({by_label})\n")
    times = pd.Series({name: f"{s:.0f} s" for name, s in seconds.items()})
    print(times.to_string())
    for _, name, dice, _ in tried[: len(configuration.tried)]:
        row(f"cross-validation of the hippocampus, mean Dice of {name}", autoseg=f"{dice:.4f}")
    row("the same, chosen and postprocessed", autoseg=f"{choice.evaluation.mean:.4f}")
    return choice.evaluation.mean >= max(dice for kind, _, dice, _ in tried if kind == "configuration")


if __name__ == "__main__":
    main()
