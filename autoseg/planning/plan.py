"""The plan: configurations, the trace of reasons behind them, and what both were made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoseg.core.decisions import Trace
from autoseg.core.errors import PlanError, StorageError, did_you_mean
from autoseg.core.serialization import Components, from_jsonable, read_json, to_jsonable, write_json
from autoseg.core.shown import Shown, ask_display
from autoseg.core.types import Axes, PathLike, Shape, Spacing, by, count
from autoseg.data.fingerprint import Fingerprint
from autoseg.data.normalization import Normalization
from autoseg.planning.alternatives import Comparison, changed_plan, compare_plans
from autoseg.planning.answers import BLUEPRINT, Answer, of_the_blueprint
from autoseg.planning.budget import Budget
from autoseg.planning.configuration import AugmentationSettings, Configuration, NetworkSpec, Resampling
from autoseg.planning.margins import Margins, margins_of
from autoseg.planning.topology import Topology

DECIDING = {"3d_fullres": "dimensions", "3d_lowres": "lowres", "3d_cascade_fullres": "cascade"}  # whether there is one
KINDS_OF_VALUES: dict[str, Any] = {  # of what may be given, for reading it back
    "axis_order": Axes,
    "target_spacing": Spacing,
    "median_shape": tuple[float, ...],
    "dimensions": tuple[int, ...],
    "normalization": Normalization,
    "mask_background": tuple[bool, ...],
    "resampling": Resampling,
    "lowres": Spacing | None,
    "cascade": bool,
    "spacing": Spacing,
    "initial_patch_size": tuple[float, ...],
    "patch_size": Shape,
    "topology": Topology,
    "features": tuple[int, ...],
    "blocks": tuple[tuple[int, ...], tuple[int, ...]],
    "network": NetworkSpec,
    "batch_size": int,
    "batch_dice": bool,
    "augmentation": AugmentationSettings,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(Shown):
    """Everything that was decided for a dataset; a pure function of the fingerprint, the budget and the given values.

    ``plan["3d_fullres"]`` is a configuration, ``plan.why("patch_size")`` a reason.

    >>> plan
    Plan for 'Seahorse' (8 GB, default)
      2d: patch 56x48 at 1x1 mm, batch 38, 4 stages
      3d_fullres: patch 40x56x48 at 1x1x1 mm, batch 2, 4 stages
    >>> plan["3d_fullres"].patch_size, plan.what_if(memory_gb=0.2)["3d_fullres"].patch_size
    ((40, 56, 48), (32, 48, 40))
    """

    fingerprint: Fingerprint
    budget: Budget
    configurations: tuple[Configuration, ...]
    trace: Trace
    given: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __iter__(self) -> Iterator[Configuration]:
        return iter(self.configurations)

    def __len__(self) -> int:
        return len(self.configurations)

    def __contains__(self, name: object) -> bool:
        return any(configuration.name == name for configuration in self.configurations)

    def __getitem__(self, name: str) -> Configuration:
        for configuration in self.configurations:
            if configuration.name == name:
                return configuration
        names = [configuration.name for configuration in self.configurations]
        reason = f": {self.trace[DECIDING[name]].reason}." if name in DECIDING else f". {did_you_mean(name, names)}"
        rest = "" if "Known" in reason else f" It has {', '.join(names)}."
        raise PlanError(f"this plan has no configuration {name!r}{reason}{rest}")

    def why(self, name: str) -> Answer:
        """Why a decision was taken: its rule, inputs, thresholds, every candidate of a search, and its source.

        A short name such as ``patch_size`` answers for every configuration; ``"3d_fullres"`` answers for all of its
        decisions; a configuration that there is not answers why; what the blueprint fixes, such as ``loss``, answers
        where to look. Raises `PlanError` with a suggestion for other names.
        """
        if name in DECIDING and name not in self:
            return Answer(name, (self.trace[DECIDING[name]],), self.trace)
        if name in BLUEPRINT.split():
            return of_the_blueprint(name)
        return Answer(name, self.trace.named(name), self.trace)

    def what_if(self, changes: Mapping[str, Any] | None = None, /, **named: Any) -> Plan:
        """The plan that follows from other facts, another budget or other decisions; no argument gives the same plan.

        By name: a field of the budget (``memory_gb=4``, ``preset="resenc_l"``); a fact of the fingerprint (``spacing``
        and ``shape`` scale all cases to that median, ``cases``, ``channels``, ``labels``, ``relative_size``); or a
        decision (``patch_size=(64, 64, 64)`` for every configuration with as many axes). A dictionary takes full
        names: ``{"3d_fullres/patch_size": (64, 64, 64)}``.
        """
        return changed_plan(self, {**(changes or {}), **named})

    def compare(self, other: Plan) -> Comparison:
        """What is different in `other`, and the first decision that took another branch and pulled others along."""
        return compare_plans(self, other)

    def margins(self) -> Margins:
        """How far every thresholded decision is from another choice, and which single case would tip it."""
        return margins_of(self)

    def explore(self) -> Any:
        """A widget: sliders for memory, spacing, shape, cases, channels and preset, and what follows, at once."""
        return ask_display("plan_explorer", "PlanExplorer", self)

    def save(self, path: PathLike) -> Path:
        """Write ``plan.json``: what the plan was made from, and what was decided."""
        content = {
            "fingerprint": self.fingerprint,
            "budget": self.budget,
            "given": self.given,
            "configurations": self.configurations,
        }
        return write_json(path, content)

    @staticmethod
    def load(path: PathLike, components: Components | None = None) -> Plan:
        """Read what `save` wrote: the plan is made again, and must come out as it was written.

        `components` gives back callables of your own by name. Raises `StorageError` where the file is damaged or was
        changed by hand.
        """
        from autoseg.planning.planner import make_plan

        content = read_json(path)
        if not isinstance(content, dict) or not {"fingerprint", "budget", "given", "configurations"} <= set(content):
            raise StorageError(f"{path} is not a plan that autoseg saved. nnU-Net's plans: autoseg.plan_from_nnunet.")
        given = {name: from_jsonable(_kind_of(name), v, components) for name, v in content["given"].items()}
        plan = make_plan(
            from_jsonable(Fingerprint, content["fingerprint"], components),
            from_jsonable(Budget, content["budget"]),
            given=given,
        )
        _check_same(path, to_jsonable(plan.configurations), content["configurations"])
        return plan

    def __repr__(self) -> str:
        lines = [f"Plan for {self.fingerprint.dataset_name!r} ({self.budget.gpu_memory_gb:g} GB, {self.budget.preset})"]
        for c in self.configurations:
            patch = f"patch {by(c.patch_size)} at {by(c.spacing, 3)} mm"
            lines.append(f"  {c.name}: {patch}, batch {c.batch_size}, {count(c.network.stages, 'stage')}")
        return "\n".join(lines)


def _kind_of(name: str) -> Any:
    first, _, last = name.partition("/")
    if first == "normalization":
        return Normalization
    if (last or first) not in KINDS_OF_VALUES:
        raise StorageError(f"the stored plan gives {name!r}, which this version does not decide.")
    return KINDS_OF_VALUES[last or first]


def _check_same(path: PathLike, made: list[dict[str, Any]], stored: list[dict[str, Any]]) -> None:
    """Raise `StorageError` naming the first value that was stored otherwise than it is decided now."""
    if [c["name"] for c in made] != [c.get("name") for c in stored]:
        raise StorageError(f"{path} holds other configurations than its facts give. {REMAKE}")
    for now, then in zip(made, stored, strict=True):
        for key, value in now.items():
            if then.get(key) != value:
                raise StorageError(
                    f"{path}: {now['name']}/{key} is stored as {then.get(key)!r}, but the facts in the same file give "
                    f"{value!r}. {REMAKE}"
                )


REMAKE = (
    "It was changed by hand or written by another version. To change a value, use "
    "plan.what_if({'3d_fullres/patch_size': ...}) and save that."
)
