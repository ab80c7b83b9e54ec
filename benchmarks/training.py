"""How long a training step and augmentation take, beside nnU-Net on the same cores.

    python benchmarks/training.py
    python benchmarks/training.py --nnunet /path/to/nnunet/bin/python

A step is forward, loss with deep supervision, backward, clipping and update on random data of the plan's batch and
patch. nnU-Net's default on a CPU is float32; beside it stands the same under bfloat16 autocast. Augmentation is counted
in samples a second: ours on whole batches in this process, nnU-Net's in as many processes as there are cores.
Both take turns, so that other work on the machine slows both; each counts with its median.
Ends with status 1 where nnU-Net is not slower by the factor that was promised.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from table import row

import autoseg
from autoseg.networks.unet import UNet
from autoseg.planning.configuration import AugmentationSettings, Configuration
from autoseg.planning.network_rules import augmentation
from autoseg.training.augmentation import Augmentation
from autoseg.training.compute import choose_compute
from autoseg.training.heap import kept_memory
from autoseg.training.losses import deep_supervision_loss, default_loss

AUGMENTED = {  # patch: the batch it is augmented in
    (40, 56, 40): 7,
    (128, 128, 128): 2,
}
AUGMENTATION_FACTOR = 8.0
STEP_FACTORS = {"float32": 3.0, "bfloat16": 1.3}  # nnU-Net's default, and under the same autocast


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nnunet", help="the python of an environment with nnunetv2")
    parser.add_argument("--data", type=Path, help="the dataset whose 3d_fullres plan is stepped; default the embedded")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--turns", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    dataset = autoseg.open_dataset(arguments.data) if arguments.data else autoseg.sample_dataset()
    plan = autoseg.make_plan(autoseg.extract_fingerprint(dataset, show_progress=False))
    sound = [compare_augmentation(patch, arguments) for patch in AUGMENTED]
    with tempfile.TemporaryDirectory() as folder:
        sound.append(compare_step(plan, arguments, Path(folder)))
    sys.exit(0 if all(sound) else 1)


def compare_augmentation(patch: tuple[int, ...], arguments: argparse.Namespace) -> bool:
    settings = augmentation(patch_size=patch).value
    task = {"patch": patch, "initial": settings.initial_patch_size, "rotation": 30, "processes": arguments.threads}
    ours, theirs = [], []
    for _ in range(arguments.turns):
        ours += augmentation_seconds(patch, settings)
        if arguments.nnunet:
            theirs += ask_nnunet(arguments.nnunet, "augmentation", {**task, "samples": 20 if max(patch) > 100 else 200})
    name = f"augmentation of {'x'.join(map(str, patch))}"
    print(f"{name}: {1 / statistics.median(ours):.1f} samples a second", end="")
    if not theirs:
        print()
        return True
    factor = statistics.median(theirs) / statistics.median(ours)
    print(
        f", nnU-Net in {arguments.threads} processes {1 / statistics.median(theirs):.1f}: "
        f"{factor:.1f} times as many (promised {AUGMENTATION_FACTOR:g})"
    )
    rates = {"autoseg": f"{1 / statistics.median(ours):.0f} /s", "nnunet": f"{1 / statistics.median(theirs):.1f} /s"}
    row(name, **rates, ratio=factor)
    return factor >= AUGMENTATION_FACTOR


@kept_memory()
def augmentation_seconds(patch: tuple[int, ...], settings: AugmentationSettings) -> list[float]:
    """Of one sample, in each of some batches."""
    batch = AUGMENTED[patch]
    random = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 1, *settings.initial_patch_size)
    labels = torch.zeros((batch, *settings.initial_patch_size), dtype=torch.int16)
    labels[:, 20:40, 20:40, 20:40], labels[:, 40:50, 20:40, 20:40] = 1, 2
    augment, seconds = Augmentation(), []
    for _ in range(12 if max(patch) > 100 else 30):
        begun = time.perf_counter()
        augment((images, labels), settings, patch, random)
        seconds.append((time.perf_counter() - begun) / batch)
    return [statistics.mean(seconds[2:])]  # batches differ in what is drawn


def compare_step(plan: autoseg.Plan, arguments: argparse.Namespace, folder: Path) -> bool:
    configuration = plan["3d_fullres"]
    (folder / "plans.json").write_text(json.dumps(autoseg.plan_to_nnunet(plan)))
    declared = {"labels": {name: value for name, value in configuration.labels.names.items()}}
    (folder / "dataset.json").write_text(json.dumps(declared))
    task = {"plans": str(folder / "plans.json"), "dataset": str(folder / "dataset.json"), "steps": 6}
    task |= {"configuration": "3d_fullres", "threads": arguments.threads}
    ours: list[float] = []
    theirs: dict[str, list[float]] = {name: [] for name in STEP_FACTORS}
    for _ in range(arguments.turns):
        ours += step_seconds(configuration, steps=6)[2:]
        for name in theirs if arguments.nnunet else ():
            theirs[name] += ask_nnunet(arguments.nnunet, "step", {**task, "bfloat16": name == "bfloat16"})[2:]
    size = "x".join(map(str, configuration.patch_size))
    compute = choose_compute()
    print(f"step of {configuration.dataset_name}, {configuration.batch_size} x {size}", end=": ")
    print(f"{statistics.median(ours):.2f} s in {compute.precision}")
    sound = True
    for name, seconds in theirs.items():
        if seconds:
            factor = statistics.median(seconds) / statistics.median(ours)
            print(f"  nnU-Net in {name} {statistics.median(seconds):.2f} s: {factor:.1f} times slower", end=" ")
            print(f"(promised {STEP_FACTORS[name]:g})")
            times = {"autoseg": f"{statistics.median(ours):.2f} s", "nnunet": f"{statistics.median(seconds):.2f} s"}
            row(f"training step, nnU-Net in {name}", **times, ratio=factor)
            sound &= factor >= STEP_FACTORS[name]
    return sound


@kept_memory()
def step_seconds(configuration: Configuration, *, steps: int) -> list[float]:
    compute = choose_compute()
    network = compute.place(UNet(configuration.network), configuration.dimensions)
    network.deep_supervision = True
    optimizer = torch.optim.SGD(network.parameters(), 0.01, weight_decay=3e-5, momentum=0.99, nesterov=True)
    loss = default_loss(configuration.labels, batch_dice=configuration.batch_dice)
    shape = (configuration.batch_size, *configuration.patch_size)
    images = torch.randn(shape[0], configuration.network.in_channels, *shape[1:])
    images = images.contiguous(memory_format=compute.memory_format(configuration.dimensions))
    labels = torch.randint(0, configuration.network.classes, shape)
    seconds = []
    for _ in range(steps):
        begun = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with compute.autocast():
            outputs = network(images)
        deep_supervision_loss(loss, outputs, labels).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimizer.step()
        seconds.append(time.perf_counter() - begun)
    return seconds


def ask_nnunet(python: str, what: str, task: dict) -> list[float]:
    script = Path(__file__).with_name("nnunet_training.py")
    run = subprocess.run([python, script, what, json.dumps(task)], check=True, capture_output=True, text=True)
    return json.loads(run.stdout.splitlines()[-1])["seconds"]


if __name__ == "__main__":
    main()
