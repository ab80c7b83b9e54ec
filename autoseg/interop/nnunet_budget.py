"""The budget that an ``nnUNetPlans.json`` was planned for, which the file itself does not keep."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from autoseg.core.errors import PlanError
from autoseg.data.fingerprint import Fingerprint
from autoseg.interop.nnunet_decisions import differing, kind_of_network, resolved, with_channels, with_decisions
from autoseg.planning.budget import PRESETS, Budget
from autoseg.planning.configuration import NetworkSpec
from autoseg.planning.memory import MemoryModel
from autoseg.planning.planner import ORDER, make_plan

USUAL = (2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 11.0, 12.0, 16.0, 20.0, 24.0, 32.0, 40.0, 48.0, 64.0, 80.0)  # GB
PARTS = (1, 2, 10, 1_000_000)  # of a GB, to which an unusual target is rounded up: the roundest that explains it


def budget_behind(plans: Mapping[str, Any], wanted: Mapping[str, Any], fingerprint: Fingerprint) -> Budget:
    """The preset of the planner that a plan names, and the memory target that explains most of its values.

    `wanted` is what the plan decides; what follows from an edit counts with it. An unusual target must save two edits,
    or explain all where the preset's own leaves two values: a single one may as well have been edited.
    """
    named = [name for name, preset in PRESETS.items() if preset.planner == plans.get("experiment_planner_used")]
    default = [Budget(preset=name) for name in named or _presets_with_network(plans)]  # type: ignore[arg-type]
    left = {budget: _edits(budget, wanted, fingerprint) for budget in default}
    alone = min(_unexplained(budget, wanted, fingerprint) for budget in default) < 2
    for usual in (Budget(preset=b.preset, memory_gb=gb) for b in default for gb in USUAL):
        if not min(left.values()):
            break
        left[usual] = _edits(usual, wanted, fingerprint)
    best = min(left, key=left.__getitem__)  # of equals the first
    most = max(left[best] - 2, -1 if alone else 0)
    for unusual in (Budget(preset=b.preset, memory_gb=gb) for b in default for gb in _unusual(b, wanted, fingerprint)):
        if not left[best]:
            break
        left[unusual] = _edits(unusual, wanted, fingerprint)
        if left[unusual] <= most and left[unusual] < left[best]:
            best = unusual
    return best


def _unexplained(budget: Budget, wanted: Mapping[str, Any], fingerprint: Fingerprint) -> float:
    """How many values a budget does not give; infinitely many where it allows no plan."""
    try:
        plan = make_plan(fingerprint, budget)
    except PlanError:
        return math.inf
    return len(differing(plan, with_channels(wanted, plan)))


def _edits(budget: Budget, wanted: Mapping[str, Any], fingerprint: Fingerprint) -> float:
    """How many edits lead from what a budget gives to what is wanted: fewer than values, where some follow."""
    different = _unexplained(budget, wanted, fingerprint)
    if different < 2 or math.isinf(different):
        return different
    plan = make_plan(fingerprint, budget)
    try:
        return min(different, len(with_decisions(plan, with_channels(wanted, plan)).given))
    except PlanError:  # together they do not work
        return different


def _unusual(budget: Budget, wanted: Mapping[str, Any], fingerprint: Fingerprint) -> Iterator[float]:
    """The targets that are just enough for a patch of the plan, or for one of its batches; round ones first."""
    memory, least = MemoryModel(budget, fingerprint.labels.declared), set()
    for name in ORDER:
        if f"{name}/topology" not in wanted:
            continue
        patch, topology, features, blocks, batch = (
            wanted[f"{name}/{what}"] for what in ("patch_size", "topology", "features", "blocks", "batch_size")
        )
        network = NetworkSpec(
            kind=budget.constants.network,
            in_channels=1,
            classes=1,
            features=features,
            kernel_sizes=topology.kernel_sizes,
            strides=topology.strides,
            encoder_blocks=blocks[0],
            decoder_blocks=blocks[1],
        )
        elements = memory.elements_of(network, patch)
        least |= {memory.gigabytes(elements, len(patch)), memory.gigabytes(elements, len(patch), batch - 0.5)}
    yield from (math.ceil(parts * gb + 1e-9) / parts for parts in PARTS for gb in sorted(least) if gb > 0)


def _presets_with_network(plans: Mapping[str, Any]) -> Iterable[str]:
    """The presets whose network a plan of an unknown planner uses."""
    first = next(iter(resolved(plans["configurations"]).values()))
    kind = kind_of_network("2d", first["architecture"])
    return [name for name, preset in PRESETS.items() if preset.network == kind]
