"""Whether nnU-Net loads the plans that autoseg writes, and builds the same networks from them.

    python benchmarks/plans_in_nnunet.py /path/to/nnunet/bin/python

Each configuration is built by both, with one forward pass of a whole patch. Ends with status 1 where the number of
parameters or the shapes of the outputs differ.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from table import row

import autoseg
from autoseg.interop.nnunet_dataset import dataset_json
from autoseg.networks.unet import build_unet
from autoseg.planning.configuration import Configuration


def plans() -> dict[str, autoseg.Plan]:
    """Small patches, so that a forward pass takes seconds: a hippocampus, a brain in little memory, slices."""
    small = autoseg.make_plan(autoseg.extract_fingerprint(autoseg.sample_dataset(), show_progress=False))
    large = small.what_if(shape=(180, 220, 180), channels=4, labels=3)
    return {
        "default": small,
        "resenc_m": small.what_if(preset="resenc_m"),
        "resenc_l": small.what_if(preset="resenc_l"),
        "cascade": large.what_if(memory_gb=2),
        "cascade, resenc_m": large.what_if(memory_gb=2, preset="resenc_m"),
        "coarse slices": small.what_if(spacing=(5, 1, 1), shape=(16, 120, 120), channels=("CT", "T2")),
        "own values": small.what_if({"3d_fullres/patch_size": (32, 32, 64)}, batch_size=3),
    }


def main() -> None:
    cases = plans()
    jobs = [
        {"id": name, "plans": autoseg.plan_to_nnunet(plan), "dataset": facts_of(plan)} for name, plan in cases.items()
    ]
    theirs = asked(sys.argv[1], jobs)
    wrong = 0
    for name, plan in cases.items():
        for configuration in plan:
            other = theirs.pop((name, configuration.name))
            mine = built(configuration)
            same = all(mine[key] == other[key] for key in mine)
            wrong += not same
            size = "x".join(map(str, configuration.patch_size))
            print(
                f"{name:18} {configuration.name:19} {size:>12} {other['network']:20} {other['parameters']:>11,} "
                f"parameters, {len(other['outputs'])} outputs: {'the same' if same else f'autoseg has {mine}'}"
            )
    count = sum(len(list(plan)) for plan in cases.values())
    row("networks that nnU-Net builds alike from our plans", autoseg=f"{count - wrong} of {count}")
    sys.exit(1 if wrong or theirs else 0)


def facts_of(plan: autoseg.Plan) -> dict[str, Any]:
    facts = plan.fingerprint
    return dataset_json(facts.channels, facts.labels, cases=len(facts.cases), ending=facts.file_ending)


def built(configuration: Configuration) -> dict[str, Any]:
    network = build_unet(configuration.network)
    network.deep_supervision = True
    with torch.inference_mode():
        outputs = network(torch.zeros(1, configuration.network.in_channels, *configuration.patch_size))
    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        "patch": list(configuration.patch_size),
        "outputs": [list(o.shape[1:]) for o in outputs],
    }


def asked(python: str, jobs: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    done = subprocess.run(
        [python, "-W", "ignore", str(Path(__file__).with_name("nnunet_networks.py"))],
        input="\n".join(map(json.dumps, jobs)),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"nnU-Net failed:\n{done.stderr[-3000:]}")
    lines: Iterator[dict[str, Any]] = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    return {(answer["id"], answer["configuration"]): answer for answer in lines}


if __name__ == "__main__":
    main()
