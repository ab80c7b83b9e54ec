"""Whether doubt is worth something: does uncertainty rank bad cases first, does a temperature help, are faults found.

    python benchmarks/doubt.py ../shared/data/Task04_Hippocampus --minutes 1 --cases 52

The cases of fold 0's validation are put aside; three folds of the rest are trained for so many minutes each, and one
once more with mirroring, so that its mirror images can be compared. No model saw the cases that are judged. Wrong
labels are made on purpose in a copy in memory.
Ends with status 1 where uncertainty ranks no better than chance, calibration is worse, or a wrong label is not found.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace

import numpy as np
from scipy import stats
from table import row

import autoseg
from autoseg.data.dataset import Held

FOLDS = 3
CANDIDATES = ("disagreement", "entropy", "mutual_information")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--cases", type=int, default=52, help="held-out cases that are judged")
    parser.add_argument("--folder", help="kept there, so that a second call trains nothing")
    options = parser.parse_args()
    whole = autoseg.open_dataset(options.data)
    aside = whole.fold(0).validation
    models, mirrored = train(whole.without(*(case.name for case in aside)), options)
    cases = list(aside[: options.cases])
    judged = [rank(models, mirrored, cases, whole), calibration(models, cases), labels(models[0], cases)]
    sys.exit(0 if all(judged) else 1)


def train(
    dataset: autoseg.Dataset, options: argparse.Namespace
) -> tuple[list[autoseg.TrainedModel], autoseg.TrainedModel]:
    """The folds, and the first of them with mirroring."""
    plan = autoseg.make_plan(autoseg.extract_fingerprint(dataset, show_progress=False))
    name = "3d_fullres" if "3d_fullres" in [c.name for c in plan] else "2d"
    prepared = autoseg.preprocess(dataset, plan[name], folder=options.folder, show_progress=False)
    blueprint = autoseg.Blueprint.quick(minutes=options.minutes)
    runs = [(fold, blueprint, options.folder) for fold in range(FOLDS)]
    runs.append((0, blueprint.changed(mirroring=True), options.folder and f"{options.folder}/mirrored"))
    models = [
        autoseg.train(prepared, fold=fold, blueprint=how, folder=where, show_progress=False).model
        for fold, how, where in runs
    ]
    return models[:FOLDS], models[FOLDS]


def rank(
    models: list[autoseg.TrainedModel],
    mirrored: autoseg.TrainedModel,
    cases: list[autoseg.Case],
    dataset: autoseg.Dataset,
) -> bool:
    """Rank correlation with the true Dice: of three numbers, and two kinds of members."""
    dice = autoseg.evaluate(autoseg.predict(models, cases, show_progress=False), dataset).by_case
    print(f"{len(cases)} cases, mean Dice {np.mean(list(dice.values())):.4f}, worst {min(dice.values()):.4f}")
    best = None
    for who, asked, members in (("folds", models, "models"), ("mirrorings of one", mirrored, "mirrorings")):
        started = time.perf_counter()
        found = autoseg.uncertainty(asked, cases, members=members, show_progress=False)
        seconds = (time.perf_counter() - started) / len(cases)
        truth = dice
        if asked is mirrored:
            truth = autoseg.evaluate(autoseg.predict(asked, cases, show_progress=False), dataset).by_case
        told = []
        for name in CANDIDATES:
            result = stats.spearmanr([getattr(i, name) for i in found], [truth[i.case.name] for i in found])
            told.append(f"{name} {result.statistic:+.3f} (p {result.pvalue:.1g})")
            best = result if (who, name) == ("folds", "disagreement") else best
        print(f"rank correlation with the Dice, {who}: {', '.join(told)}; {seconds:.2f} s a case", flush=True)
    row("rank correlation of fold disagreement with the Dice", autoseg=f"{best.statistic:+.3f} (p {best.pvalue:.1g})")
    return best.statistic < 0 and best.pvalue < 0.05


def calibration(models: list[autoseg.TrainedModel], cases: list[autoseg.Case]) -> bool:
    """One model, and their mean: error before and after on cases that did not fit the temperature."""
    fine = True
    for who, asked in (("one model", models[0]), ("three folds", models)):
        found = autoseg.calibrate(asked, cases, show_progress=False)
        print(f"{who}: {found!r}")
        row(f"ECE of {who}, before and after", autoseg=f"{found.ece_before:.4f} {found.ece_after:.4f}")
        fine &= found.ece_after <= found.ece_before
    return fine


def labels(model: autoseg.TrainedModel, cases: list[autoseg.Case]) -> bool:
    """Faults in four label maps, in memory; all four must rank before every other case."""
    faults = {"moved": moved, "swapped": swapped, "one missing": one_missing, "invented piece": invented}
    wrong = [broken(case, fault) for case, fault in zip(cases, faults.values(), strict=False)]
    changed = [*wrong, *cases[len(wrong) :]]
    dataset = autoseg.Dataset(
        name="wrong", folder=None, channels=cases[0].channels, labels=cases[0].labels, training=tuple(changed)
    )
    suspects = autoseg.suspicious_labels(
        autoseg.evaluate(autoseg.predict(model, changed, show_progress=False), dataset)
    )
    order = [s.case for s in suspects]
    for name, case in zip(faults, wrong, strict=True):
        print(f"{name}: rank {order.index(case.name) + 1} of {len(order)}; {suspects[case.name]!r}")
    print(f"the first that was not broken: {next(s for s in suspects if s.case not in {c.name for c in wrong})!r}")
    found = sum(c.name in order[: len(wrong)] for c in wrong)
    row("wrong labels among the first", autoseg=f"{found} of {len(wrong)}")
    return found == len(wrong)


def broken(case: autoseg.Case, fault) -> autoseg.Case:
    image, label = case.image(), case.label()
    return replace(case, image_paths=(), label_path=None, held=Held(image, fault(label.array.copy())[None]))


def moved(label: np.ndarray) -> np.ndarray:
    return np.roll(label, 6, axis=1)


def swapped(label: np.ndarray) -> np.ndarray:
    return np.choose(label, [0, 2, 1]).astype(label.dtype)


def one_missing(label: np.ndarray) -> np.ndarray:
    label[label == 1] = 0
    return label


def invented(label: np.ndarray) -> np.ndarray:
    label[2:9, 2:9, 2:9] = 2
    return label


if __name__ == "__main__":
    main()
