"""How long a full plan takes, and whether nnU-Net makes the same one, in one run.

    python benchmarks/planning.py --golden ../shared/reference/golden_plans.jsonl.gz
    python benchmarks/planning.py --golden ... --nnunet /path/to/nnunet/bin/python --every 20
    python benchmarks/planning.py --random 200 --seed 7 --nnunet /path/to/nnunet/bin/python --seconds 120

With --nnunet, nnU-Net's own planners run on the same fingerprints in their environment, and every value is compared.
They take up to 79 s a plan; --seconds stops them and compares what was finished.
Ends with status 1 where a plan differs, or where ours takes longer than 10 ms in the median or 150 ms at most.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from table import row

from autoseg.core.errors import PlanError
from autoseg.interop.nnunet_plans import fingerprint_from_nnunet, plan_to_nnunet
from autoseg.planning.budget import PRESETS, Budget
from autoseg.planning.planner import make_plan

PRESET_OF = {preset.planner: name for name, preset in PRESETS.items()}
MEDIAN_MS, MOST_MS = 10.0, 150.0
REPEATS = 3
KINDS = ("solid", "flat", "planar", "oblong", "tiny", "huge", "cube", "thin", "even")
IGNORED = {"image_reader_writer"}  # nnU-Net would ask the images, and there are none


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--golden", type=Path, help="fingerprints as in golden_plans.jsonl.gz")
    parser.add_argument("--every", type=int, default=1, help="take every n-th plan of the file")
    parser.add_argument("--random", type=int, default=0, help="so many random fingerprints")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--nnunet", help="the python of an environment with nnunetv2")
    parser.add_argument("--seconds", type=float, help="stop nnU-Net after so long")
    arguments = parser.parse_args()
    jobs = list(golden_jobs(arguments.golden))[:: arguments.every] if arguments.golden else []
    jobs += list(random_jobs(arguments.random, arguments.seed))
    if not jobs:
        parser.error("give --golden FILE or --random N")

    ours = [run_ours(job) for job in jobs]
    seconds = [answer["seconds"] for answer in ours]
    print(f"{len(jobs)} plans with all configurations and the trace")
    print(f"autoseg: {in_words(seconds)}")
    failed = statistics.median(seconds) * 1000 > MEDIAN_MS or max(seconds) * 1000 > MOST_MS
    if arguments.nnunet:
        theirs = run_nnunet(jobs, arguments.nnunet, arguments.seconds)
        if not theirs:
            sys.exit("nnU-Net finished no plan in that time")
        jobs, ours = jobs[: len(theirs)], ours[: len(theirs)]
        print(f"the same {len(jobs)} of them:\nautoseg: {in_words([answer['seconds'] for answer in ours])}")
        print(f"nnU-Net: {in_words([answer['seconds'] for answer in theirs])}")
        mine, other = (statistics.median(answer["seconds"] for answer in answers) for answers in (ours, theirs))
        row(
            f"a plan, median of {len(jobs)}",
            autoseg=f"{1000 * mine:.1f} ms",
            nnunet=f"{other:.2f} s",
            ratio=other / mine,
        )
        failed |= compare(jobs, ours, theirs)
    sys.exit(1 if failed else 0)


def in_words(seconds: list[float]) -> str:
    parts = {"median": statistics.median(seconds), "mean": statistics.mean(seconds), "most": max(seconds)}
    return ", ".join(f"{name} {1000 * value:.1f} ms" for name, value in parts.items())


def golden_jobs(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt") as lines:
        for entry in map(json.loads, lines):
            for planner, plan in entry["plans"].items():
                job = {key: entry[key] for key in ("id", "fingerprint", "dataset")}
                yield job | {"planner": planner, "memory": plan["gpu_memory_target_in_gb"]}


def random_jobs(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Fingerprints of every kind we could think of, the extreme ones too."""
    draw = random.Random(seed)
    for number in range(count):
        planner = draw.choice(list(PRESET_OF))
        memory = draw.choice([None, None, 1.0, 2.0, 3.0, 5.5, 8.0, 11.0, 17.0, 24.0, 48.0, 80.0])
        fingerprint, dataset = random_dataset(draw)
        yield {
            "id": f"seed {seed}, {number}",
            "fingerprint": fingerprint,
            "dataset": dataset,
            "planner": planner,
            "memory": memory,
        }


def random_dataset(draw: random.Random) -> tuple[dict[str, Any], dict[str, Any]]:
    cases = draw.choice([2, 3, 4, 7, 12, 30])
    shape, spacing = random_image(draw, draw.choice(KINDS))
    spread = draw.choice([0.0, 0.0, 0.1, 0.5])
    scale = [[draw.uniform(1 - spread, 1 + spread) for _ in range(3)] for _ in range(cases)]
    shapes, spacings = [], []
    for factors in scale:
        size = [max(1, round(n * f)) for n, f in zip(shape, factors, strict=True)]
        shapes.append([1, *size[1:]] if shape[0] == 1 else size)
        spacings.append([s * draw.uniform(1 - spread, 1 + spread) for s in spacing] if shape[0] > 1 else spacing)
    channels = draw.choices(
        ["CT", "MRI", "T2", "zscore", "noNorm", "rescale_to_0_1", "rgb_to_0_1"], k=draw.randint(1, 6)
    )
    facts = {"max": 900.0, "mean": 80.0, "median": 75.0, "min": -900.0}
    facts |= {"percentile_00_5": -500.0, "percentile_99_5": 600.0, "std": 120.0}
    fingerprint = {
        "spacings": spacings,
        "shapes_after_crop": shapes,
        "median_relative_size_after_cropping": draw.choice([1.0, 0.75, 0.749, 0.3]),
        "foreground_intensity_properties_per_channel": {str(i): facts for i in range(len(channels))},
    }
    dataset = {"channel_names": {str(i): c for i, c in enumerate(channels)}, "file_ending": ".nii.gz"}
    dataset |= random_labels(draw) | {"numTraining": draw.choice([cases, cases, 1, 17, 1000])}
    return fingerprint, dataset


def random_image(draw: random.Random, kind: str) -> tuple[list[int], list[float]]:
    if kind == "planar":
        return [1, draw.randint(5, 4000), draw.randint(5, 4000)], [999.0, 1.0, 1.0]
    if kind == "thin":  # a few large slices
        return [draw.randint(1, 6), draw.randint(500, 3000), draw.randint(500, 3000)], [draw.uniform(0.5, 9), 0.3, 0.3]
    if kind == "even":  # ratios that lie exactly on nnU-Net's limits
        finest = draw.choice([0.1, 0.3, 0.7, 1.0, 1.2])
        spacing = [finest * draw.choice([1, 1, 2, 3, 4]) for _ in range(3)]
        return [draw.choice([8, 12, 16, 24, 48, 100, 144, 300]) for _ in range(3)], spacing
    if kind == "cube":
        edge = draw.choice([6, 9, 16, 64, 100, 128, 256, 400])
        return [edge] * 3, [draw.choice([0.5, 0.8, 1.0])] * 3
    low, high = {"tiny": (3, 30), "huge": (300, 900)}.get(kind, (12, 500))
    shape = [draw.randint(low, high) for _ in range(3)]
    spacing = [draw.uniform(0.3, 2.0) for _ in range(3)]
    if kind == "flat":
        axis = draw.randrange(3)
        spacing = [draw.choice([0.5, 0.7, 1.0])] * 3
        shape[axis], spacing[axis] = draw.randint(4, 40), draw.choice([1.5, 2.1, 3.0, 5.0, 8.0])
    if kind == "oblong":
        spacing = [10 ** draw.uniform(-1, 1) for _ in range(3)]
    return shape, spacing


def random_labels(draw: random.Random) -> dict[str, Any]:
    count = draw.randint(1, 12)
    labels: dict[str, Any] = {"background": 0} | {f"label {i}": i for i in range(1, count + 1)}
    if count >= 3 and draw.random() < 0.3:
        labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "centre": 3}
        order = {"regions_class_order": [1, 2, 3]}
    else:
        order = {}
    if draw.random() < 0.3:
        labels["ignore"] = 4 if order else count + 1
    return {"labels": labels} | order


def run_ours(job: dict[str, Any]) -> dict[str, Any]:
    """The best of a few runs: others work on this machine too."""
    fingerprint = fingerprint_from_nnunet(job["fingerprint"], job["dataset"], name="Dataset001_Benchmark")
    budget = Budget(preset=PRESET_OF[job["planner"]], memory_gb=job["memory"])
    best = float("inf")
    for _ in range(REPEATS):
        start = time.perf_counter()
        try:
            plan = make_plan(fingerprint, budget)
        except PlanError as error:
            return {"seconds": time.perf_counter() - start, "error": str(error)}
        best = min(best, time.perf_counter() - start)
    return {"seconds": best, "plan": plan_to_nnunet(plan)}


def run_nnunet(jobs: list[dict[str, Any]], python: str, seconds: float | None) -> list[dict[str, Any]]:
    """The answers in the order of the jobs; those finished when the time was up."""
    command = [python, "-W", "ignore", str(Path(__file__).with_name("nnunet_planner.py"))]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "nnUNet_n_proc_DA": "1"}
    lines = "\n".join(json.dumps(job) for job in jobs).encode()
    try:
        done = subprocess.run(command, input=lines, capture_output=True, env=environment, timeout=seconds, check=True)
        output = done.stdout
    except subprocess.TimeoutExpired as stopped:
        output = (stopped.stdout or b"").rpartition(b"\n")[0]  # the last line may be cut
    except subprocess.CalledProcessError as failed:
        raise SystemExit(failed.stderr.decode()) from failed
    return [json.loads(line) for line in output.splitlines() if line.startswith(b"{")]


def compare(jobs: list[dict[str, Any]], ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> bool:
    """Print every difference; True where there is one."""
    different, refused = 0, 0
    for job, mine, other in zip(jobs, ours, theirs, strict=True):
        if "error" in mine or "error" in other:
            refused += 1
            print(f"{job['id']} {job['planner']} {job['memory']} GB")
            print(f"  autoseg: {mine.get('error', 'a plan')}\n  nnU-Net: {other.get('error', 'a plan')}")
            different += "error" in mine and "error" not in other
            continue
        found = list(differences(mine["plan"], other["plan"], ""))
        different += bool(found)
        for line in found[:3]:
            print(f"{job['id']} {job['planner']} {job['memory']} GB: {line}")
    print(f"{len(jobs) - different} of {len(jobs)} plans identical in every key; nnU-Net or we refused {refused}")
    return different > 0


def differences(mine: Any, other: Any, where: str) -> Iterator[str]:
    if isinstance(mine, dict) and isinstance(other, dict):
        for key in sorted(set(mine) | set(other) - IGNORED):
            if key not in IGNORED:
                yield from differences(mine.get(key), other.get(key), f"{where}/{key}")
    elif isinstance(mine, list) and isinstance(other, list) and len(mine) == len(other):
        for i, (a, b) in enumerate(zip(mine, other, strict=True)):
            yield from differences(a, b, f"{where}[{i}]")
    elif isinstance(mine, float) and isinstance(other, float):
        if abs(mine - other) > 1e-6 * abs(other):
            yield f"{where}: {mine}, nnU-Net {other}"
    elif mine != other or type(mine) is not type(other):
        yield f"{where}: {mine!r}, nnU-Net {other!r}"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
