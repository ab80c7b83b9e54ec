"""Runs nnU-Net's own augmentation and training step; started by training.py in nnU-Net's environment, never imported.

    nnunet_training.py augmentation '{"patch": ..., "initial": ..., "samples": ..., "processes": ...}'
    nnunet_training.py step '{"plans": file, "configuration": name, "dataset": file, "steps": n, "bfloat16": true}'

Prints one line of JSON: ``{"seconds": [...]}``, of each sample or step.
"""

import json
import multiprocessing
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager


def augment(task: dict) -> list[float]:
    """As nnU-Net's workers do: one sample at a time, several processes of one thread each."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(task["processes"]) as pool:
        pool.map(augment_some, [{**task, "samples": 2}] * task["processes"])  # imports, and the first call's cost
        begun = time.perf_counter()
        share = task["samples"] // task["processes"]
        pool.map(augment_some, [{**task, "samples": share}] * task["processes"], chunksize=1)
        return [(time.perf_counter() - begun) / (share * task["processes"])]


def augment_some(task: dict) -> None:
    torch.set_num_threads(1)
    turn = np.deg2rad(task["rotation"])
    transforms = nnUNetTrainer.get_training_transforms(
        task["patch"], (-turn, turn), None, tuple(range(len(task["patch"]))), False, use_mask_for_norm=[False]
    )
    image = torch.randn(1, *task["initial"])
    labels = torch.zeros((1, *task["initial"]), dtype=torch.int16)
    labels[:, 20:40, 20:40, 20:40], labels[:, 40:50, 20:40, 20:40] = 1, 2
    for _ in range(task["samples"]):
        transforms(image=image, segmentation=labels)


def step(task: dict) -> list[float]:
    """A training step on random data: forward, loss with deep supervision, backward, clipping, SGD."""
    torch.set_num_threads(task["threads"])
    plans = PlansManager(task["plans"])
    configuration = plans.get_configuration(task["configuration"])
    labels = json.loads(Path(task["dataset"]).read_text())["labels"]
    network = get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        1,
        len(labels),
        deep_supervision=True,
    )
    strides = np.cumprod(np.vstack(configuration.pool_op_kernel_sizes), axis=0)[:-1]
    shape = (configuration.batch_size, 1, *configuration.patch_size)
    targets = [
        torch.randint(0, len(labels), (*shape[:2], *(int(n // s) for n, s in zip(shape[2:], stride, strict=True))))
        for stride in strides
    ]
    weights = np.array([1 / 2**i for i in range(len(strides))])
    weights[-1] = 0
    loss = DC_and_CE_loss(
        {"batch_dice": configuration.batch_dice, "smooth": 1e-5, "do_bg": False, "ddp": False},
        {},
        dice_class=MemoryEfficientSoftDiceLoss,
    )
    loss = DeepSupervisionWrapper(loss, weights / weights.sum())
    optimizer = torch.optim.SGD(network.parameters(), 0.01, weight_decay=3e-5, momentum=0.99, nesterov=True)
    images = torch.randn(shape)
    seconds = []
    for _ in range(task["steps"]):
        begun = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16) if task["bfloat16"] else nullcontext():
            value = loss(network(images), targets)
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimizer.step()
        seconds.append(time.perf_counter() - begun)
    return seconds


if __name__ == "__main__":
    run = {"augmentation": augment, "step": step}[sys.argv[1]]
    print(json.dumps({"seconds": run(json.loads(sys.argv[2]))}))
