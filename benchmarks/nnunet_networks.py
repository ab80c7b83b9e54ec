"""Loads plans with nnU-Net's own code and builds their networks; started by plans_in_nnunet.py, never imported.

Reads lines of JSON ``{"id", "plans", "dataset"}`` and writes for each configuration a line
``{"id", "configuration", "network", "parameters", "patch", "outputs"}``; the forward pass is of a whole patch.
"""

import json
import sys

import torch


def main() -> None:
    torch.set_num_threads(1)
    for line in sys.stdin:
        job = json.loads(line)
        for answer in built(job["plans"], job["dataset"]):
            print(json.dumps({"id": job["id"]} | answer), flush=True)


def built(plans: dict, dataset: dict):
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
    from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(plans)
    labels = manager.get_label_manager(dataset)
    for name in plans["configurations"]:
        configuration = manager.get_configuration(name)
        channels = determine_num_input_channels(manager, configuration, dataset)
        network = get_network_from_plans(
            configuration.network_arch_class_name,
            configuration.network_arch_init_kwargs,
            configuration.network_arch_init_kwargs_req_import,
            channels,
            labels.num_segmentation_heads,
            deep_supervision=True,
        )
        with torch.inference_mode():
            outputs = network(torch.zeros(1, channels, *configuration.patch_size))
        yield {
            "configuration": name,
            "network": type(network).__name__,
            "parameters": sum(p.numel() for p in network.parameters()),
            "patch": list(configuration.patch_size),
            "outputs": [list(o.shape[1:]) for o in outputs],
        }


if __name__ == "__main__":
    main()
