"""The planner: one page to read from top to bottom. What each line computes, and why, is in `rules`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autoseg.core.decisions import Decision, Ledger, Rule
from autoseg.data.fingerprint import Fingerprint
from autoseg.planning import network_rules, resolution_rules, rules
from autoseg.planning.budget import Budget
from autoseg.planning.configuration import Configuration
from autoseg.planning.facts import Facts, check_fingerprint, is_planar
from autoseg.planning.given import check_budget, check_names, plain_values
from autoseg.planning.memory import MemoryModel
from autoseg.planning.plan import Plan
from autoseg.planning.topology import Topology, check_divides

DEFAULT = Budget()
ORDER = ("2d", "3d_lowres", "3d_fullres", "3d_cascade_fullres")


def make_plan(fingerprint: Fingerprint, budget: Budget = DEFAULT, *, given: Mapping[str, Any] | None = None) -> Plan:
    """Every decision that nnU-Net makes for these facts, with its reason.

    `given` holds values that replace rules, by the decision's full name: ``{"3d_fullres/patch_size": (64, 64, 64)}``.
    Raises `PlanError` where the facts allow no plan, or a given value does not work.
    Source: Isensee et al. 2021; the same values as nnU-Net 2.8.

    >>> import autoseg
    >>> dataset = autoseg.sample_dataset()
    >>> plan = autoseg.make_plan(autoseg.extract_fingerprint(dataset, show_progress=False))
    >>> plan["3d_fullres"].spacing
    (1.0, 1.0, 1.0)
    """
    check_fingerprint(fingerprint)
    check_budget(budget)
    log, facts = Ledger(plain_values(given)), Facts.of(fingerprint)
    images = _decide_images(log, fingerprint, facts)
    network = _Networks(log, images, budget, MemoryModel(budget, fingerprint.labels.declared), facts.cases)
    drafts: dict[str, dict[str, Decision]] = {}

    if 3 in images.dimensions.value:
        spacing = log.decide("3d_fullres/spacing", rules.full_spacing, **images.target)
        full = drafts["3d_fullres"] = network.decide("3d_fullres", spacing)
        lowres = log.decide(
            "lowres",
            resolution_rules.lowres,
            spacing=spacing,
            median_shape=full["median_shape"],
            patch_size=full["patch_size"],
            memory=network.memory,
        )
    else:
        lowres = log.decide("lowres", resolution_rules.no_lowres, dimensions=images.dimensions)
    low = {"lowres": lowres, "lowres_reason": lowres.reason}
    cascade = log.decide("cascade", resolution_rules.cascade, **low, compared=lowres.thresholds)
    if lowres.value is not None:
        coarse = log.decide("3d_lowres/spacing", rules.coarse_spacing, lowres=lowres)
        drafts["3d_lowres"] = network.decide("3d_lowres", coarse)
    within = log.decide("2d/spacing", rules.slice_spacing, **images.target)
    drafts["2d"] = network.decide("2d", within)

    for name, draft in drafts.items():
        draft["batch_dice"] = log.decide(f"{name}/batch_dice", resolution_rules.batch_dice, configuration=name, **low)
    if cascade.value:
        drafts["3d_cascade_fullres"] = network.inherit("3d_cascade_fullres", drafts["3d_fullres"])

    check_names(log.unused, [decision.name for decision in log.decisions])
    trace = log.trace()
    return Plan(
        fingerprint=fingerprint,
        budget=budget,
        configurations=tuple(_configuration(name, drafts[name], images) for name in ORDER if name in drafts),
        trace=trace,
        given={name: trace[name].value for name in given or {}},  # as examined: lists are tuples
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Images:
    """What is decided once for all configurations."""

    fingerprint: Fingerprint
    target_spacing: Decision
    axis_order: Decision
    median_shape: Decision
    dimensions: Decision
    normalizations: tuple[Decision, ...]
    mask_background: Decision
    resampling: Decision

    @property
    def target(self) -> dict[str, Decision]:
        """The two decisions that every spacing follows from."""
        return {"target_spacing": self.target_spacing, "axis_order": self.axis_order}


def _decide_images(log: Ledger, fingerprint: Fingerprint, facts: Facts) -> _Images:
    target = log.decide(
        "target_spacing",
        rules.target_spacing,
        median_spacing=facts.median_spacing,
        fine_spacing=facts.fine_spacing,
        median_shape=facts.median_shape,
        pictures=all(map(is_planar, fingerprint.cases)),
    )
    order = log.decide("axis_order", rules.axis_order, target_spacing=target)
    shape = log.decide(
        "median_shape", rules.median_shape, fingerprint=fingerprint, target_spacing=target, axis_order=order
    )
    dimensions = log.decide("dimensions", rules.dimensions, median_shape=shape)
    normalizations = tuple(
        log.decide(f"normalization/{name}", rules.normalization, channel=channel, intensities=intensities)
        for name, channel, intensities in _channels(fingerprint)
    )
    mask = log.decide(
        "mask_background",
        rules.mask_background,
        relative_size=facts.relative_size,
        normalizations=normalizations,
    )
    resampling = log.decide("resampling", rules.resampling, target_spacing=target)
    return _Images(
        fingerprint=fingerprint,
        target_spacing=target,
        axis_order=order,
        median_shape=shape,
        dimensions=dimensions,
        normalizations=normalizations,
        mask_background=mask,
        resampling=resampling,
    )


def _channels(fingerprint: Fingerprint) -> list[tuple[str, str, Any]]:
    """A name of its own for each channel, the channel, and its intensities; twins are numbered."""
    names = list(fingerprint.channels)
    own = [f"{n} ({names[: i + 1].count(n)})" if names.count(n) > 1 else n for i, n in enumerate(names)]
    return list(zip(own, names, fingerprint.intensities, strict=True))


@dataclass(frozen=True, slots=True)
class _Networks:
    """Decides patch, network and batch of one configuration after the other."""

    log: Ledger
    images: _Images
    budget: Budget
    memory: MemoryModel
    cases: int

    def decide(self, name: str, spacing: Decision) -> dict[str, Decision]:
        """All decisions of a configuration at this spacing, but for batch Dice."""
        images, memory, budget = self.images, self.memory, self.budget
        draft = {"spacing": spacing}

        def decide(what: str, rule: Rule, **inputs: Any) -> Decision:
            draft[what] = self.log.decide(f"{name}/{what}", rule, **inputs)
            return draft[what]

        shape = decide(
            "median_shape", rules.shape_at, spacing=spacing, median_shape=images.median_shape, **images.target
        )
        start = decide("initial_patch_size", network_rules.initial_patch_size, spacing=spacing, median_shape=shape)
        patch = decide(
            "patch_size",
            network_rules.patch_size,
            spacing=spacing,
            initial_patch_size=start,
            median_shape=shape,
            memory=memory,
        )
        topology = decide(
            "topology", network_rules.topology, spacing=spacing, initial_patch_size=start, patch_size=patch
        )
        features = decide("features", network_rules.features, topology=topology)
        blocks = decide("blocks", network_rules.blocks, topology=topology, budget=budget)
        network = decide(
            "network",
            network_rules.network,
            topology=topology,
            features=features,
            blocks=blocks,
            **self._ends(None),
        )
        decide(
            "batch_size",
            network_rules.batch_size,
            patch_size=patch,
            network=network,
            memory=memory,
            dataset_shape=self._dataset_shape(spacing.value),
            cases=self.cases,
        )
        decide("augmentation", network_rules.augmentation, patch_size=patch)
        return draft

    def inherit(self, name: str, full: Mapping[str, Decision]) -> dict[str, Decision]:
        """The second stage of the cascade: the full resolution with the first stage's result as further input."""
        draft = {
            what: self.log.decide(f"{name}/{what}", resolution_rules.inherited, full_resolution=decision)
            for what, decision in full.items()
            if what != "network"
        }
        parts = {part: draft[part] for part in ("topology", "features", "blocks")}
        draft["network"] = self.log.decide(f"{name}/network", network_rules.network, **parts, **self._ends("3d_lowres"))
        return draft

    def _ends(self, previous_stage: str | None) -> dict[str, Any]:
        """What a network's first and last layer depend on."""
        fingerprint = self.images.fingerprint
        return {
            "channels": fingerprint.channels,
            "labels": fingerprint.labels,
            "previous_stage": previous_stage,
            "budget": self.budget,
        }

    def _dataset_shape(self, spacing: tuple[float, ...]) -> tuple[float, ...]:
        """The median shape that the dataset's voxels are counted with; of whole images for 2d, as nnU-Net does."""
        shape: tuple[float, ...] = self.images.median_shape.value
        if len(spacing) == 2:
            return shape
        full = rules.ordered(self.images.target_spacing.value, self.images.axis_order.value)
        return rules.scaled(shape, full, spacing)


def _configuration(name: str, draft: Mapping[str, Decision], images: _Images) -> Configuration:
    values = {what: decision.value for what, decision in draft.items()}
    network = values["network"]
    check_divides(values["patch_size"], Topology(network.strides, network.kernel_sizes))
    fingerprint = images.fingerprint
    return Configuration(
        name=name,
        dataset_name=fingerprint.dataset_name,
        channels=fingerprint.channels,
        labels=fingerprint.labels,
        axis_order=images.axis_order.value,
        spacing=values["spacing"],
        median_shape=values["median_shape"],
        patch_size=values["patch_size"],
        batch_size=values["batch_size"],
        network=network,
        normalization=tuple(decision.value for decision in images.normalizations),
        mask_background=images.mask_background.value,
        resampling=images.resampling.value,
        augmentation=values["augmentation"],
        batch_dice=values["batch_dice"],
        previous_stage="3d_lowres" if name == "3d_cascade_fullres" else None,
    )
