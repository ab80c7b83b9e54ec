"""Mean Dice on the validation cases of a fold after so many minutes of training, for several seeds.

    python benchmarks/accuracy.py ../shared/data/Task04_Hippocampus --minutes 5 --seeds 3
    python benchmarks/accuracy.py ../shared/data/ProstateMRsmall --minutes 5 --configuration 2d

Runs as a user would: everything at its default, one seed after the other, nothing kept between them.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time

import torch

import autoseg


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--configuration", default="3d_fullres")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()

    dataset = autoseg.open_dataset(options.data)
    plan = autoseg.make_plan(autoseg.extract_fingerprint(dataset, show_progress=False))
    prepared = autoseg.preprocess(dataset, plan[options.configuration], show_progress=False)
    print(f"{dataset.name}, {options.configuration}, fold {options.fold}, {options.minutes:g} minutes")
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    scores = [run(dataset, prepared, options, seed) for seed in range(options.seeds)]
    spread = f", standard deviation {statistics.stdev(scores):.4f}" if len(scores) > 1 else ""
    print(f"mean Dice {statistics.mean(scores):.4f}{spread}")


def run(dataset, prepared, options, seed):
    """Train with one seed and judge it; the mean Dice."""
    blueprint = autoseg.Blueprint.quick(minutes=options.minutes, seed=seed)
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


if __name__ == "__main__":
    main()
