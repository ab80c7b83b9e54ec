"""Runs every benchmark beside nnU-Net and writes a table and a picture of what they measured into `results/`.

    python benchmarks/all.py --nnunet /path/to/nnunet/bin/python --data ../shared/data --golden golden_plans.jsonl.gz
    python benchmarks/all.py --nnunet ... --data ... --golden ... --only preprocessing training

All of them take two hours on two cores; with `--only`, the rows of the others are kept as they were. Ratios are of one
run, in which both took turns on the same cores. Ends with status 1 where a benchmark did not keep its promise.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
HIPPOCAMPUS = "Task04_Hippocampus"
JOBS = {  # name: the script and its arguments, with {nnunet}, {data} and {golden} filled in
    "planning": "planning.py --golden {golden} --every 10 --nnunet {nnunet} --seconds 180",
    "networks": "plans_in_nnunet.py {nnunet}",
    "preprocessing": "preprocessing.py --nnunet {nnunet} --data {data}/" + HIPPOCAMPUS,
    "export": "export_memory.py",
    "training": "training.py --nnunet {nnunet} --data {data}/" + HIPPOCAMPUS,
    "prediction": "prediction.py {data}/" + HIPPOCAMPUS + " --nnunet {nnunet} --minutes 4 --no-ct",
    "interop": "interop.py {data}/" + HIPPOCAMPUS + " --nnunet {nnunet}",
    "hippocampus": "accuracy.py {data}/" + HIPPOCAMPUS + " --minutes 5 --seeds 3 --nnunet {nnunet}",
    "hippocampus_10": "accuracy.py {data}/" + HIPPOCAMPUS + " --minutes 10 --seeds 3",
    "recipe": "accuracy.py {data}/" + HIPPOCAMPUS + " --iterations 500",
    "membranes": "accuracy.py {data}/ISBI2012_EM --minutes 5 --nnunet {nnunet}",
    "heart": "accuracy.py {data}/SunnybrookLV3D --minutes 5 --nnunet {nnunet}",
    "nuclei": "accuracy.py {data}/OvuleNuclei3D --minutes 5 --nnunet {nnunet}",
    "heart_2d": "accuracy.py {data}/SunnybrookLV3D --configuration 2d --minutes 5 --nnunet {nnunet}",
    "nuclei_2d": "accuracy.py {data}/OvuleNuclei3D --configuration 2d --minutes 5 --nnunet {nnunet}",
    "doubt": "doubt.py {data}/" + HIPPOCAMPUS,
    "scaling": "scaling.py {data}/" + HIPPOCAMPUS,
    "full_run": "full_run.py {data}/" + HIPPOCAMPUS + " --minutes 2",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--nnunet", required=True, type=os.path.abspath, help="the python of an environment with nnunetv2"
    )
    parser.add_argument("--data", required=True, type=os.path.abspath, help="the folder that holds the datasets")
    parser.add_argument("--golden", required=True, type=os.path.abspath, help="recorded plans, golden_plans.jsonl.gz")
    parser.add_argument("--only", nargs="+", choices=sorted(JOBS), default=list(JOBS), metavar="NAME")
    options = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    known = json.loads(path.read_text()) if (path := RESULTS / "results.json").exists() else {}
    for name in options.only:
        known[name] = run(name, JOBS[name].format(**vars(options)))
        path.write_text(json.dumps(known, indent=1))
        write_table(known)
    draw_ratios(known)
    sys.exit(1 if any(known[name]["status"] for name in options.only) else 0)


def run(name: str, command: str) -> dict[str, Any]:
    """One benchmark; what it printed is kept as text, what it measured as rows."""
    print(f"{name}: {command}", flush=True)
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows"
        done = subprocess.run(
            [sys.executable, *shlex.split(command)],
            cwd=HERE,
            env={**os.environ, "AUTOSEG_RESULTS": str(rows)},
            capture_output=True,
            text=True,
            check=False,
        )
        found = [json.loads(line) for line in rows.read_text().splitlines()] if rows.exists() else []
    (RESULTS / f"{name}.txt").write_text(done.stdout if not done.returncode else done.stdout + done.stderr[-3000:])
    return {
        "rows": found,
        "command": command.split()[0],
        "status": done.returncode,
        "minutes": round((time.perf_counter() - begun) / 60, 1),
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
    }


def machine() -> str:
    """Processor, cores, and the versions that matter."""
    import torch

    model = platform.processor() or platform.machine()
    if (path := Path("/proc/cpuinfo")).exists():
        names = [line.partition(":")[2].strip() for line in path.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores, Python {platform.python_version()}, torch {torch.__version__}"


def write_table(known: dict[str, Any]) -> None:
    lines = ["# Results", "", "Written by `python benchmarks/all.py`; what each benchmark printed is in its `.txt`."]
    lines += [
        "",
        "![Ratios](ratios.png)",
        "",
        "| what | autoseg | nnU-Net 2.8.1 | ratio | benchmark |",
        "|---|---|---|---|---|",
    ]
    for name, result in known.items():
        for row in result["rows"]:
            ratio = "" if row["ratio"] is None else f"{row['ratio']:.1f}"
            lines.append(f"| {row['what']} | {row['autoseg']} | {row['nnunet']} | {ratio} | [{name}]({name}.txt) |")
    lines += ["", "| benchmark | date | minutes | all promises kept | machine |", "|---|---|---|---|---|"]
    for name, result in known.items():
        kept = "no" if result["status"] else "yes"
        lines.append(
            f"| {name}: `{result['command']}` | {result['date']} | {result['minutes']} | {kept} | {result['machine']} |"
        )
    (RESULTS / "README.md").write_text("\n".join(lines) + "\n")


def draw_ratios(known: dict[str, Any]) -> None:
    """Bars of every ratio, on a logarithmic scale."""
    from matplotlib.figure import Figure

    rows = [row for result in known.values() for row in result["rows"] if row["ratio"] is not None][::-1]
    figure = Figure(figsize=(8, 0.6 + 0.3 * max(len(rows), 1)), layout="constrained")
    axes = figure.add_subplot()
    bars = axes.barh([row["what"] for row in rows], [row["ratio"] for row in rows], color="#0072b2")
    axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
    axes.axvline(1, color="#888888", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlabel("times faster than nnU-Net 2.8.1 on the same cores")
    axes.tick_params(axis="y", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(RESULTS / "ratios.png", dpi=110)


if __name__ == "__main__":
    main()
