"""nnU-Net's own JSON files of fingerprints and plans: written and read.

Everything here takes and returns plain dicts, as ``json.load`` gives them. Source: nnU-Net 2.8, ``nnUNetPlans.json``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from autoseg.core.errors import PlanError
from autoseg.core.kinds import require
from autoseg.data.fingerprint import Fingerprint
from autoseg.data.normalization import CTNormalization, Normalization
from autoseg.data.normalization import name_of as name_of_normalization
from autoseg.interop.nnunet_budget import budget_behind
from autoseg.interop.nnunet_decisions import decisions_in, kind_of_network, resolved, with_channels, with_decisions
from autoseg.interop.nnunet_fingerprint import fingerprint_from_nnunet as fingerprint_from_nnunet
from autoseg.interop.nnunet_fingerprint import fingerprint_to_nnunet as fingerprint_to_nnunet
from autoseg.interop.nnunet_fingerprint import intensities_to_nnunet
from autoseg.interop.nnunet_names import (
    DEPTHS,
    JSON,
    RESAMPLING,
    SCHEMES,
    architecture_of,
    fixed_network,
    intensities_of,
    reader_of,
)
from autoseg.planning.budget import Budget
from autoseg.planning.configuration import Configuration, NetworkSpec, Resampling
from autoseg.planning.facts import Facts
from autoseg.planning.plan import Plan
from autoseg.planning.planner import make_plan
from autoseg.planning.rules import ANISOTROPY


def plan_to_nnunet(plan: Plan) -> JSON:
    """A complete ``nnUNetPlans.json`` that nnU-Net 2.8 loads.

    Raises `PlanError` for a normalization of your own, which nnU-Net could not find by its name.

    >>> autoseg.plan_to_nnunet(plan)["configurations"]["3d_fullres"]["patch_size"]
    [40, 56, 48]
    """
    require(plan, Plan, PlanError)
    preset, facts = plan.budget.constants, Facts.of(plan.fingerprint)
    order = plan.configurations[0].axis_order
    return {
        "dataset_name": plan.fingerprint.dataset_name,
        "plans_name": preset.plans_name,
        "original_median_spacing_after_transp": [facts.median_spacing[a] for a in order],
        "original_median_shape_after_transp": [round(facts.median_shape[a]) for a in order],
        "image_reader_writer": reader_of(plan.fingerprint.file_ending, flat=plan.trace["dimensions"].value == (2,)),
        "transpose_forward": list(order),
        "transpose_backward": [order.index(axis) for axis in range(3)],
        "configurations": {c.name: _configuration_to_nnunet(plan, c) for c in plan.configurations},
        "experiment_planner_used": preset.planner,
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": _intensities_to_nnunet(plan),
    }


def _intensities_to_nnunet(plan: Plan) -> JSON:
    """Those of the fingerprint; where a CT normalization was given, the numbers it uses."""
    entries = {str(i): intensities_to_nnunet(facts) for i, facts in enumerate(plan.fingerprint.intensities)}
    for entry, scheme in zip(entries.values(), plan.configurations[0].normalization, strict=True):
        if isinstance(scheme, CTNormalization):
            entry.update(intensities_of(scheme))
    return entries


def _configuration_to_nnunet(plan: Plan, configuration: Configuration) -> JSON:
    settings = _settings(plan, configuration)
    if configuration.previous_stage is not None:
        full = _settings(plan, plan["3d_fullres"]) | {"data_identifier": settings["data_identifier"]}
        changed = {key: value for key, value in settings.items() if value != full[key]}
        return {"inherits_from": "3d_fullres", "previous_stage": configuration.previous_stage} | changed
    if configuration.name == "3d_lowres" and "3d_cascade_fullres" in plan:
        settings["next_stage"] = "3d_cascade_fullres"
    return settings


def _settings(plan: Plan, configuration: Configuration) -> JSON:
    return settings_to_nnunet(configuration, _data_identifier(plan, configuration.name))


def settings_to_nnunet(configuration: Configuration, data_identifier: str) -> JSON:
    """One entry of ``configurations``; `data_identifier` names the folder of its preprocessed data."""
    r = configuration.resampling
    return {
        "data_identifier": data_identifier,
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": configuration.batch_size,
        "patch_size": list(configuration.patch_size),
        "median_image_size_in_voxels": list(configuration.median_shape),
        "spacing": list(configuration.spacing),
        "normalization_schemes": [_scheme(n) for n in configuration.normalization],
        "use_mask_for_norm": list(configuration.mask_background),
        "resampling_fn_data": RESAMPLING,
        "resampling_fn_seg": RESAMPLING,
        "resampling_fn_data_kwargs": _resampling(r, r.image_order, is_seg=False),
        "resampling_fn_seg_kwargs": _resampling(r, r.label_order, is_seg=True),
        "resampling_fn_probabilities": RESAMPLING,
        "resampling_fn_probabilities_kwargs": _resampling(r, r.probability_order, is_seg=False),
        "architecture": _architecture(configuration.network),
        "batch_dice": configuration.batch_dice,
    }


def _data_identifier(plan: Plan, name: str) -> str:
    """The folder of preprocessed data; those of residual presets are the default's, but for the low resolution."""
    preset = plan.budget.constants
    shared = preset.network == "residual" and name != "3d_lowres"
    return f"{'nnUNetPlans' if shared else preset.plans_name}_{name}"


def _scheme(normalization: Normalization) -> str:
    for name, kind in SCHEMES.items():
        if isinstance(normalization, kind):
            return name
    raise PlanError(
        f"nnU-Net knows no normalization {name_of_normalization(normalization)!r}. "
        f"It has {', '.join(SCHEMES)}; exchange yours for one of them with plan.what_if."
    )


def _resampling(resampling: Resampling, order: int, *, is_seg: bool) -> JSON:
    settings: JSON = {
        "is_seg": is_seg,
        "order": order,
        "order_z": resampling.coarse_axis_order,
        "force_separate_z": resampling.separate_axis,
    }
    if resampling.anisotropy != ANISOTROPY:
        settings["separate_z_anisotropy_threshold"] = resampling.anisotropy
    return settings


def _architecture(network: NetworkSpec) -> JSON:
    fixed = fixed_network(network.dimensions)
    settings: JSON = {
        "n_stages": network.stages,
        "features_per_stage": list(network.features),
        "conv_op": fixed["conv_op"],  # here, where nnU-Net has it
        "kernel_sizes": [list(kernel) for kernel in network.kernel_sizes],
        "strides": [list(stride) for stride in network.strides],
        DEPTHS[network.kind]: list(network.encoder_blocks),
        "n_conv_per_stage_decoder": list(network.decoder_blocks[::-1]),  # nnU-Net counts it from the coarsest
        **fixed,
    }
    return architecture_of(network.kind, settings)


def plan_from_nnunet(plans: Mapping[str, Any], fingerprint: Fingerprint, *, budget: Budget | None = None) -> Plan:
    """The plan that an ``nnUNetPlans.json`` holds, for the dataset with this fingerprint.

    What nnU-Net's rules give follows from them; every other value becomes a given one. The memory target, which the
    file does not keep, is the one that explains most of it, unless a `budget` is given. Raises `PlanError` for
    missing or unknown keys, and for what autoseg has no counterpart of.

    >>> autoseg.plan_from_nnunet(autoseg.plan_to_nnunet(plan), fingerprint)["2d"] == plan["2d"]
    True
    """
    wanted = decisions_in(plans)
    budget = budget or budget_behind(plans, wanted, fingerprint)
    wanted = with_channels(wanted, make_plan(fingerprint, budget))
    plan = with_decisions(make_plan(fingerprint, budget), wanted)
    kinds = {name: kind_of_network(name, c["architecture"]) for name, c in resolved(plans["configurations"]).items()}
    others = {c.name: kinds[c.name] for c in plan if kinds.get(c.name, c.network.kind) != c.network.kind}
    if others:  # a network that the preset does not build
        networks = {f"{name}/network": replace(plan[name].network, kind=kind) for name, kind in others.items()}
        plan = with_decisions(make_plan(fingerprint, budget, given={**plan.given, **networks}), wanted)
    missing = [name for name in wanted if name not in plan.trace]
    if missing:
        raise PlanError(f"this plan decides {missing[0]!r}, but for this dataset {plan.trace['dimensions'].reason}.")
    return plan
