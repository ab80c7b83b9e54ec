"""What an ``nnUNetPlans.json`` decides, under our names of decisions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from autoseg.core.errors import PlanError, did_you_mean
from autoseg.data.normalization import CTNormalization, Normalization
from autoseg.interop.nnunet_names import (
    DEPTHS,
    INTENSITIES_KEY,
    JSON,
    NETWORKS,
    OLD_INTENSITIES,
    RESAMPLING,
    SCHEMES,
    Kind,
    architecture_of,
    check_keys,
    fixed_network,
    listed,
    needed,
    number,
    numbers,
    truth,
)
from autoseg.planning.configuration import Resampling
from autoseg.planning.plan import Plan
from autoseg.planning.planner import ORDER, make_plan
from autoseg.planning.rules import ANISOTROPY
from autoseg.planning.topology import Topology

TOP = {
    "dataset_name",
    "plans_name",
    "original_median_spacing_after_transp",
    "original_median_shape_after_transp",
    "image_reader_writer",
    "transpose_forward",
    "transpose_backward",
    "configurations",
    "experiment_planner_used",
    "foreground_intensity_properties_per_channel",
}
LABEL_MANAGER = "label_manager"  # nnU-Net takes its own where a plan of the first versions names none
SETTINGS = {
    "data_identifier",
    "preprocessor_name",
    "batch_size",
    "patch_size",
    "median_image_size_in_voxels",
    "spacing",
    "normalization_schemes",
    "use_mask_for_norm",
    "resampling_fn_data",
    "resampling_fn_seg",
    "resampling_fn_data_kwargs",
    "resampling_fn_seg_kwargs",
    "resampling_fn_probabilities",
    "resampling_fn_probabilities_kwargs",
    "architecture",
    "batch_dice",
}
LINKS = {"inherits_from", "previous_stage", "next_stage"}
OLD_NETWORK = {  # of plans that nnU-Net wrote before version 2.4
    "UNet_class_name",
    "UNet_base_num_features",
    "unet_max_num_features",
    "n_conv_per_stage_encoder",
    "n_conv_per_stage_decoder",
    "num_pool_per_axis",
    "pool_op_kernel_sizes",
    "conv_kernel_sizes",
}
SEPARATE = "separate_z_anisotropy_threshold"
EXACTLY = 1e-9  # relative; JSON keeps every digit


def decisions_in(plans: Mapping[str, Any]) -> dict[str, Any]:
    """Our decisions' names with the values that the plans hold. Raises `PlanError` where one cannot be understood."""
    check_keys(plans, TOP, {LABEL_MANAGER, OLD_INTENSITIES}, "this plan")
    configurations = resolved(needed(plans, "configurations", "this plan"))
    if "2d" not in configurations and "3d_fullres" not in configurations:
        raise PlanError(f"this plan has neither '2d' nor '3d_fullres', only {', '.join(configurations) or 'nothing'}.")
    order = _axis_order(plans)
    wanted: dict[str, Any] = {"axis_order": order}
    first = next(iter(configurations.values()))
    intensities = plans.get(INTENSITIES_KEY, plans.get(OLD_INTENSITIES, {}))
    for index, scheme in enumerate(listed(first, "normalization_schemes", "a configuration")):
        wanted[f"normalization/{index}"] = _normalization(scheme, intensities.get(str(index), {}))
    masks = listed(first, "use_mask_for_norm", "a configuration")
    wanted["mask_background"] = tuple(truth(value, "use_mask_for_norm") for value in masks)
    wanted["resampling"] = _resampling(first)
    for name, configuration in configurations.items():
        _check_shared(name, configuration, first)
        if name != "3d_cascade_fullres":
            wanted |= _of_configuration(name, configuration)
    if "3d_fullres" in configurations:
        spacing = dict(zip(order, configurations["3d_fullres"]["spacing"], strict=True))
        wanted["target_spacing"] = tuple(spacing[axis] for axis in range(3))
        wanted["lowres"] = wanted.get("3d_lowres/spacing")
        wanted["cascade"] = "3d_cascade_fullres" in configurations
        wanted |= _overridden(configurations)
    return wanted


def _axis_order(plans: Mapping[str, Any]) -> tuple[int, ...]:
    order, back = (listed(plans, key, "this plan") for key in ("transpose_forward", "transpose_backward"))
    if sorted(map(str, order)) != ["0", "1", "2"] or back != tuple(order.index(axis) for axis in range(3)):
        raise PlanError(
            f"transpose_forward {list(order)} and transpose_backward {list(back)} must each hold 0, 1 and 2, and undo "
            "each other, such as [2, 0, 1] and [1, 2, 0]."
        )
    return order


def resolved(configurations: Mapping[str, JSON]) -> dict[str, JSON]:
    """Each configuration with what it inherits, in our order, in the format of nnU-Net 2.8.

    Raises `PlanError` for keys that are missing or unknown, and configurations that autoseg does not plan.
    """
    own = sorted(set(configurations) - set(ORDER))
    if own:
        raise PlanError(
            f"this plan has a configuration {own[0]!r}, which autoseg does not plan; it plans {', '.join(ORDER)}. "
            f"Leave it out: plans['configurations'].pop({own[0]!r})."
        )
    complete = {n: modern(inherited(n, configurations)) for n in ORDER if n in configurations}
    for name, configuration in complete.items():
        check_keys(configuration, SETTINGS, LINKS, f"configuration {name!r}")
    return complete


def inherited(name: str, configurations: Mapping[str, JSON], seen: tuple[str, ...] = ()) -> JSON:
    """One configuration with what it inherits. Raises `PlanError` where a parent is missing, or they form a circle."""
    configuration = needed(configurations, name, "'configurations'")
    if not isinstance(configuration, Mapping):
        raise PlanError(f"configuration {name!r} is {configuration!r}; it must be a dictionary.")
    parent = configuration.get("inherits_from")
    if parent is None:
        return dict(configuration)
    if parent in seen:
        raise PlanError(f"the configurations {', '.join((*seen, name))} inherit from each other in a circle.")
    return {**inherited(parent, configurations, (*seen, name)), **configuration}


def modern(configuration: JSON) -> JSON:
    """A configuration of nnU-Net before 2.4 in today's format; others as they are."""
    if "architecture" in configuration or "UNet_class_name" not in configuration:
        return configuration
    for key in OLD_NETWORK:
        needed(configuration, key, "this configuration of an older nnU-Net")
    kind = _kind_called(str(configuration["UNet_class_name"]), "this configuration")
    depths = configuration["n_conv_per_stage_encoder"]
    widths = [configuration["UNet_base_num_features"] << stage for stage in range(len(depths))]
    network = {
        "n_stages": len(depths),
        "features_per_stage": [min(width, configuration["unet_max_num_features"]) for width in widths],
        "kernel_sizes": configuration["conv_kernel_sizes"],
        "strides": configuration["pool_op_kernel_sizes"],
        DEPTHS[kind]: depths,
        "n_conv_per_stage_decoder": configuration["n_conv_per_stage_decoder"],
        **fixed_network(len(configuration["patch_size"])),
    }
    kept = {key: value for key, value in configuration.items() if key not in OLD_NETWORK}
    return kept | {"architecture": architecture_of(kind, network)}


def _of_configuration(name: str, configuration: JSON) -> dict[str, Any]:
    kind, where, within = kind_of_network(name, configuration["architecture"]), f"configuration {name!r}", "the network"
    network, n = configuration["architecture"]["arch_kwargs"], 2 if name == "2d" else 3
    strides, kernels = (
        tuple(numbers({key: row}, key, f"{within} of {name!r}", n) for row in listed(network, key, within))
        for key in ("strides", "kernel_sizes")
    )
    stages = len(strides)
    if network["n_stages"] != stages:
        raise PlanError(f"the network of {name!r} has n_stages {network['n_stages']!r}, but {stages} strides.")
    features, encoder, decoder = (
        numbers(network, key, f"{within} of {name!r}", count)
        for key, count in (
            ("features_per_stage", stages),
            (DEPTHS[kind], stages),
            ("n_conv_per_stage_decoder", stages - 1),
        )
    )
    values = {
        "spacing": numbers(configuration, "spacing", where, n, whole=False),
        "median_shape": numbers(configuration, "median_image_size_in_voxels", where, n, whole=False),
        "patch_size": numbers(configuration, "patch_size", where, n),
        "topology": Topology(strides, kernels),
        "features": features,
        "blocks": (encoder, decoder[::-1]),  # nnU-Net counts the decoder's from the coarsest
        "batch_size": number(configuration["batch_size"], f"batch_size of {name!r}"),
        "batch_dice": truth(configuration["batch_dice"], f"batch_dice of {name!r}"),
    }
    return {f"{name}/{what}": value for what, value in values.items()}


def kind_of_network(name: str, architecture: JSON) -> Kind:
    """``plain`` or ``residual``; a `PlanError` for any other network."""
    kind = _kind_called(str(needed(architecture, "network_class_name", f"the architecture of {name!r}")), name)
    settings = needed(architecture, "arch_kwargs", f"the architecture of {name!r}")
    first = (listed(settings, "strides", f"the network of {name!r}") or ((),))[0]
    expected = fixed_network(len(first) if isinstance(first, tuple) else 0)
    known = {*expected, "n_stages", "features_per_stage", "kernel_sizes", "strides", "n_conv_per_stage_decoder"}
    check_keys(settings, known | {DEPTHS[kind]}, set(), f"the network of {name!r}")
    for key, value in expected.items():
        if settings[key] != value:
            raise PlanError(f"{name}: the network's {key} is {settings[key]!r}; autoseg's networks have {value!r}.")
    return kind


def _kind_called(class_name: str, name: str) -> Kind:
    """The kind of network that nnU-Net calls so, in whatever module it lay."""
    for kind, theirs in NETWORKS.items():
        if theirs.rpartition(".")[2] == class_name.rpartition(".")[2]:
            return kind
    raise PlanError(
        f"{name} uses the network {class_name}, which autoseg does not have; it has "
        f"{' and '.join(theirs.rpartition('.')[2] for theirs in NETWORKS.values())}. "
        "Pass a network of your own to the blueprint instead."
    )


def _normalization(scheme: str, intensities: Mapping[str, float]) -> Normalization:
    if str(scheme) not in SCHEMES:
        raise PlanError(f"nnU-Net's normalization {scheme!r} is unknown here. {did_you_mean(str(scheme), SCHEMES)}")
    if scheme != "CTNormalization":
        plain: Normalization = SCHEMES[scheme]()
        return plain
    low, high, mean, std = (
        needed(intensities, key, "the plan's intensities of a CT channel")
        for key in ("percentile_00_5", "percentile_99_5", "mean", "std")
    )
    return CTNormalization(low=low, high=high, mean=mean, std=std)


def _resampling(configuration: JSON) -> Resampling:
    image, label, probability = (_resampled(configuration, purpose) for purpose in ("data", "seg", "probabilities"))
    for key in ("order_z", "force_separate_z", SEPARATE):
        values = [settings.get(key) for settings in (image, label, probability)]
        if values != values[:1] * 3:
            raise PlanError(
                f"images, labels and probabilities are resampled with {key} {values}; give the same to all."
            )
    orders = (image["order"], label["order"], probability["order"], image["order_z"])
    if not all(order in range(6) for order in orders):
        raise PlanError(f"resampling has the spline orders {orders}; they go from 0 to 5.")
    if (apart := image["force_separate_z"]) not in (None, True, False):
        raise PlanError(f"force_separate_z is {apart!r}; it must be true, false or null.")
    return Resampling(
        image_order=orders[0],
        label_order=orders[1],
        probability_order=orders[2],
        coarse_axis_order=orders[3],
        anisotropy=number(image.get(SEPARATE, ANISOTROPY), SEPARATE, whole=False),
        separate_axis=apart,
    )


def _resampled(configuration: JSON, purpose: str) -> Mapping[str, Any]:
    """How images (``data``), labels (``seg``) or ``probabilities`` are resampled."""
    key = f"resampling_fn_{purpose}"
    if configuration[key] != RESAMPLING:
        raise PlanError(f"{key} is {configuration[key]!r}; autoseg resamples as {RESAMPLING!r} does.")
    settings = configuration[f"{key}_kwargs"]
    check_keys(settings, {"is_seg", "order", "order_z", "force_separate_z"}, {SEPARATE}, f"{key}_kwargs")
    if settings["is_seg"] is not (purpose == "seg"):
        raise PlanError(f"{key}_kwargs has is_seg {settings['is_seg']!r}; it must be {purpose == 'seg'}.")
    return dict(settings)


def _check_shared(name: str, configuration: JSON, first: JSON) -> None:
    """What autoseg decides once for all configurations must agree in all of them."""
    if configuration["preprocessor_name"] != "DefaultPreprocessor":
        raise PlanError(f"{name} uses {configuration['preprocessor_name']!r}; autoseg has only DefaultPreprocessor.")
    for key in ("normalization_schemes", "use_mask_for_norm"):
        if configuration[key] != first[key]:
            raise PlanError(f"{name} has {key} {configuration[key]}, another configuration {first[key]}.")
    if _resampling(configuration) != _resampling(first):
        raise PlanError(f"{name} resamples otherwise than another configuration; give the same to all.")


def _overridden(configurations: Mapping[str, JSON]) -> dict[str, Any]:
    """What the cascade's second stage says otherwise than the full resolution it inherits from."""
    if "3d_cascade_fullres" not in configurations:
        return {}
    if configurations["3d_cascade_fullres"].get("previous_stage") != "3d_lowres":
        raise PlanError("3d_cascade_fullres needs 'previous_stage': '3d_lowres'; autoseg knows no other cascade.")
    full, cascade = (_of_configuration(n, configurations[n]) for n in ("3d_fullres", "3d_cascade_fullres"))
    renamed = {name.replace("3d_fullres", "3d_cascade_fullres"): value for name, value in full.items()}
    return {name: value for name, value in cascade.items() if not same(value, renamed[name])}


def with_channels(wanted: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    """The same with the channels' names in place of their numbers."""
    names = [d.name for d in plan.trace if d.name.startswith("normalization/")]
    numbered = [name for name in wanted if name.startswith("normalization/")]
    if len(names) != len(numbered):
        raise PlanError(f"this plan is for {len(numbered)} channel(s), the fingerprint has {len(names)}.")
    renamed = dict(zip(numbered, names, strict=True))
    return {renamed.get(name, name): value for name, value in wanted.items()}


def differing(plan: Plan, wanted: Mapping[str, Any]) -> list[str]:
    """The names that a plan decides otherwise than wanted, in the order of its decisions."""
    return [d.name for d in plan.trace if d.name in wanted and not same(d.value, wanted[d.name])]


def with_decisions(plan: Plan, wanted: Mapping[str, Any]) -> Plan:
    """The plan with every wanted value; those that its rules do not give become given ones."""
    given = dict(plan.given)
    while different := [name for name in differing(plan, wanted) if name not in given]:
        given[different[0]] = wanted[different[0]]  # what follows from it may then agree
        plan = make_plan(plan.fingerprint, plan.budget, given=given)
    return plan


def same(ours: Any, theirs: Any) -> bool:
    """Whether two values agree, floats to the digits that JSON keeps; a list is as good as a tuple."""
    if isinstance(ours, list | tuple) and isinstance(theirs, list | tuple):
        return len(ours) == len(theirs) and all(same(a, b) for a, b in zip(ours, theirs, strict=True))
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, float) and isinstance(theirs, int | float):
        return math.isclose(ours, theirs, rel_tol=EXACTLY) or (math.isnan(ours) and math.isnan(theirs))
    return bool(ours == theirs)
