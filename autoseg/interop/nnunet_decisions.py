"""What an ``nnUNetPlans.json`` decides, under our names of decisions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from autoseg.core.errors import PlanError, did_you_mean
from autoseg.data.fingerprint import Fingerprint
from autoseg.data.normalization import CTNormalization, Normalization
from autoseg.interop.nnunet_names import DEPTHS, JSON, NETWORKS, RESAMPLING, SCHEMES, needed
from autoseg.planning.budget import PRESETS, Budget
from autoseg.planning.configuration import Resampling
from autoseg.planning.plan import Plan
from autoseg.planning.planner import ORDER, make_plan
from autoseg.planning.rules import ANISOTROPY
from autoseg.planning.topology import Topology

MEMORY_TARGETS = (2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 11.0, 12.0, 16.0, 20.0, 24.0, 32.0, 40.0, 48.0, 64.0, 80.0)
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
    "label_manager",
    "foreground_intensity_properties_per_channel",
}
OLD_INTENSITIES = "foreground_intensity_properties_by_modality"
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
FIXED_NETWORK = {  # what our networks always have
    "conv_bias": True,
    "norm_op_kwargs": {"eps": 1e-05, "affine": True},
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}
SEPARATE = "separate_z_anisotropy_threshold"
EXACTLY = 1e-9  # relative; JSON keeps every digit


def decisions_in(plans: Mapping[str, Any]) -> dict[str, Any]:
    """Our decisions' names with the values that the plans hold. Raises `PlanError` where one cannot be understood."""
    check_keys(plans, TOP, {OLD_INTENSITIES}, "this plan")
    configurations = resolved(needed(plans, "configurations", "this plan"))
    if "2d" not in configurations and "3d_fullres" not in configurations:
        raise PlanError(f"this plan has neither '2d' nor '3d_fullres', only {', '.join(configurations) or 'nothing'}.")
    order = tuple(needed(plans, "transpose_forward", "this plan"))
    wanted: dict[str, Any] = {"axis_order": order}
    first = next(iter(configurations.values()))
    intensities = plans.get("foreground_intensity_properties_per_channel", plans.get(OLD_INTENSITIES, {}))
    for index, scheme in enumerate(needed(first, "normalization_schemes", "a configuration")):
        wanted[f"normalization/{index}"] = _normalization(scheme, intensities.get(str(index), {}))
    wanted["mask_background"] = tuple(first["use_mask_for_norm"])
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


def check_keys(data: Mapping[str, Any], required: set[str], optional: set[str], what: str) -> None:
    """Raise `PlanError` for a key that is missing, or one that nnU-Net does not know."""
    renamed = {"foreground_intensity_properties_per_channel"} if OLD_INTENSITIES in data else set()
    missing = sorted(required - set(data) - renamed)
    if missing:
        raise PlanError(f"{what} has no {missing[0]!r}. nnU-Net 2.8 needs {', '.join(sorted(required))}.")
    unknown = sorted(set(data) - required - optional)
    if unknown:
        hint = did_you_mean(unknown[0], required | optional).partition("Known")[0]
        raise PlanError(f"{what} has {unknown[0]!r}, which nnU-Net 2.8 does not know. {hint}".rstrip())


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
    kind = "plain" if configuration["UNet_class_name"] == "PlainConvUNet" else "residual"
    n, depths = len(configuration["patch_size"]), configuration["n_conv_per_stage_encoder"]
    widths = [configuration["UNet_base_num_features"] << stage for stage in range(len(depths))]
    network = {
        "n_stages": len(depths),
        "features_per_stage": [min(width, configuration["unet_max_num_features"]) for width in widths],
        "conv_op": f"torch.nn.modules.conv.Conv{n}d",
        "kernel_sizes": configuration["conv_kernel_sizes"],
        "strides": configuration["pool_op_kernel_sizes"],
        DEPTHS[kind]: depths,
        "n_conv_per_stage_decoder": configuration["n_conv_per_stage_decoder"],
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{n}d",
        **FIXED_NETWORK,
    }
    kept = {key: value for key, value in configuration.items() if key not in OLD_NETWORK}
    architecture = {
        "network_class_name": NETWORKS[kind],
        "arch_kwargs": network,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    return kept | {"architecture": architecture}


def _of_configuration(name: str, configuration: JSON) -> dict[str, Any]:
    network = configuration["architecture"]["arch_kwargs"]
    kind = kind_of_network(name, configuration["architecture"])
    values = {
        "spacing": tuple(configuration["spacing"]),
        "median_shape": tuple(configuration["median_image_size_in_voxels"]),
        "patch_size": tuple(configuration["patch_size"]),
        "topology": Topology(_tuples(network["strides"]), _tuples(network["kernel_sizes"])),
        "features": tuple(network["features_per_stage"]),
        "blocks": (tuple(network[DEPTHS[kind]]), tuple(network["n_conv_per_stage_decoder"])),
        "batch_size": configuration["batch_size"],
        "batch_dice": configuration["batch_dice"],
    }
    return {f"{name}/{what}": value for what, value in values.items()}


def kind_of_network(name: str, architecture: JSON) -> str:
    """``plain`` or ``residual``; a `PlanError` for any other network."""
    class_name = needed(architecture, "network_class_name", f"the architecture of {name!r}")
    kinds = [k for k, theirs in NETWORKS.items() if theirs.rpartition(".")[2] == class_name.rpartition(".")[2]]
    if not kinds:
        raise PlanError(
            f"{name} uses the network {class_name}, which autoseg does not have; it has "
            f"{' and '.join(theirs.rpartition('.')[2] for theirs in NETWORKS.values())}. "
            "Pass a network of your own to the blueprint instead."
        )
    settings = needed(architecture, "arch_kwargs", f"the architecture of {name!r}")
    dimensions = len(needed(settings, "strides", f"the network of {name!r}")[0])
    expected = {
        **FIXED_NETWORK,
        "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
    }
    known = {*expected, "n_stages", "features_per_stage", "kernel_sizes", "strides", "n_conv_per_stage_decoder"}
    check_keys(settings, known | {DEPTHS[kinds[0]]}, set(), f"the network of {name!r}")
    for key, value in expected.items():
        if settings[key] != value:
            raise PlanError(f"{name}: the network's {key} is {settings[key]!r}; autoseg's networks have {value!r}.")
    return kinds[0]


def _normalization(scheme: str, intensities: Mapping[str, float]) -> Normalization:
    if scheme not in SCHEMES:
        raise PlanError(f"nnU-Net's normalization {scheme!r} is unknown here. {did_you_mean(scheme, SCHEMES)}")
    if scheme != "CTNormalization":
        plain: Normalization = SCHEMES[scheme]()
        return plain
    low, high, mean, std = (
        needed(intensities, key, "the plan's intensities of a CT channel")
        for key in ("percentile_00_5", "percentile_99_5", "mean", "std")
    )
    return CTNormalization(low=low, high=high, mean=mean, std=std)


def _resampling(configuration: JSON) -> Resampling:
    purposes = ("data", "seg", "probabilities")
    for purpose in purposes:
        name = configuration[f"resampling_fn_{purpose}"]
        if name != RESAMPLING:
            raise PlanError(f"resampling_fn_{purpose} is {name!r}; autoseg resamples as {RESAMPLING!r} does.")
    image, label, probability = (configuration[f"resampling_fn_{purpose}_kwargs"] for purpose in purposes)
    return Resampling(
        image_order=image["order"],
        label_order=label["order"],
        probability_order=probability["order"],
        coarse_axis_order=image["order_z"],
        anisotropy=image.get(SEPARATE, ANISOTROPY),
        separate_axis=image["force_separate_z"],
    )


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


def same(ours: Any, theirs: Any) -> bool:
    """Whether two values agree, floats to the digits that JSON keeps."""
    if isinstance(ours, tuple) and isinstance(theirs, tuple):
        return len(ours) == len(theirs) and all(same(a, b) for a, b in zip(ours, theirs, strict=True))
    if isinstance(ours, float) and isinstance(theirs, int | float):
        return math.isclose(ours, theirs, rel_tol=EXACTLY)
    return bool(ours == theirs)


def budget_behind(plans: Mapping[str, Any], wanted: Mapping[str, Any], fingerprint: Fingerprint) -> Budget:
    """The preset of the planner that a plan names, and the memory target that explains most of its values.

    nnU-Net keeps neither the target nor the share of the dataset in its plans.
    """
    named = [name for name, preset in PRESETS.items() if preset.planner == plans.get("experiment_planner_used")]
    default = [Budget(preset=name) for name in named or _presets_with_network(plans)]  # type: ignore[arg-type]
    targets = [Budget(preset=b.preset, memory_gb=gb) for b in default for gb in MEMORY_TARGETS]
    best, fewest = default[0], math.inf
    for budget in (*default, *targets):
        plan = make_plan(fingerprint, budget)
        wrong = len(differing(plan, with_channels(wanted, plan)))
        if wrong < fewest:
            best, fewest = budget, wrong
        if not wrong:
            break
    return best


def _presets_with_network(plans: Mapping[str, Any]) -> Iterable[str]:
    """The presets whose network a plan of an unknown planner uses."""
    first = next(iter(resolved(plans["configurations"]).values()))
    kind = kind_of_network("2d", first["architecture"])
    return [name for name, preset in PRESETS.items() if preset.network == kind]


def _tuples(rows: Iterable[Iterable[int]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(row) for row in rows)
