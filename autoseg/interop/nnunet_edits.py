"""Where an ``nnUNetPlans.json`` of somebody else departs from the rules, key by key, and what they would have given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from autoseg.core.errors import PlanError
from autoseg.core.shown import Shown
from autoseg.data.fingerprint import Fingerprint
from autoseg.interop.nnunet_decisions import budget_behind, decisions_in, same
from autoseg.interop.nnunet_names import JSON, READERS
from autoseg.interop.nnunet_plans import plan_from_nnunet, plan_to_nnunet
from autoseg.planning.answers import in_words
from autoseg.planning.budget import PRESETS, Budget
from autoseg.planning.plan import Plan
from autoseg.planning.planner import make_plan

if TYPE_CHECKING:
    import pandas as pd

Origin = Literal["as the rules give", "follows from an edited value", "edited by hand", "from another planner"]
FREE = {"dataset_name", "plans_name", "data_identifier"}  # names that anyone may choose
NO_SUCH_KEY = "nnU-Net 2.8 writes no such key for this dataset"
DECIDED_AS = {  # nnU-Net's key of a configuration: the decision behind it
    "median_image_size_in_voxels": "median_shape",
    "strides": "topology",
    "kernel_sizes": "topology",
    "n_stages": "topology",
    "features_per_stage": "features",
    "n_conv_per_stage": "blocks",
    "n_blocks_per_stage": "blocks",
    "n_conv_per_stage_decoder": "blocks",
    "network_class_name": "network",
    "use_mask_for_norm": "mask_background",
    "next_stage": "cascade",
    "transpose_forward": "axis_order",
    "transpose_backward": "axis_order",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedKey:
    """One key of a plans file: its value, where it comes from, and what the rules give, with their reason."""

    key: str
    value: Any
    origin: Origin
    rules_give: Any = None
    reason: str = ""

    def __str__(self) -> str:
        line = f"{self.key} = {in_words(_tupled(self.value))}: {self.origin}"
        if self.origin == "as the rules give":
            return line
        reason = f" ({self.reason})" if self.reason else ""
        return f"{line}; the rules give {in_words(_tupled(self.rules_give))}{reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedPlan(Shown):
    """Every key of a plans file, and the budget whose rules explain most of it."""

    planner: str
    budget: Budget
    keys: tuple[ExplainedKey, ...]

    def __iter__(self) -> Iterator[ExplainedKey]:
        return iter(self.keys)

    def __getitem__(self, key: str) -> ExplainedKey:
        for explained in self.keys:
            if explained.key == key:
                return explained
        raise PlanError(f"this plans file has no {key!r}.")

    def of_origin(self, origin: Origin) -> tuple[ExplainedKey, ...]:
        """The keys of one origin."""
        return tuple(explained for explained in self.keys if explained.origin == origin)

    @property
    def departures(self) -> tuple[ExplainedKey, ...]:
        """The keys that are not as the rules give."""
        return tuple(explained for explained in self.keys if explained.origin != "as the rules give")

    def table(self) -> pd.DataFrame:
        """One row a key."""
        import pandas as pd

        columns = ("key", "value", "origin", "rules_give", "reason")
        return pd.DataFrame([{c: getattr(k, c) for c in columns} for k in self.keys], columns=list(columns))

    def __repr__(self) -> str:
        budget = f"{self.budget.preset} with {self.budget.gpu_memory_gb:g} GB"
        lines = [f"{self.planner}: {len(self.keys) - len(self.departures)} of {len(self.keys)} keys as {budget} gives"]
        return "\n".join(lines + [f"  {explained}" for explained in self.departures])


def explain_plan(plans: Mapping[str, Any], fingerprint: Fingerprint, *, budget: Budget | None = None) -> ExplainedPlan:
    """Say of every key of any ``nnUNetPlans.json`` whether the rules give it, a hand wrote it, or another planner.

    Without a `budget`, the preset is that of the planner the file names, and the memory target the one that explains
    most. Raises `PlanError` where the file has no configurations.

    >>> plans = autoseg.plan_to_nnunet(plan)                   # or json.load(open("nnUNetPlans.json"))
    >>> plans["configurations"]["3d_fullres"]["batch_size"] = 4
    >>> autoseg.explain_plan(plans, fingerprint)
    ExperimentPlanner: 69 of 70 keys as default with 8 GB gives
      3d_fullres/batch_size = 4: edited by hand; the rules give 2 (...)
    """
    planner = str(plans.get("experiment_planner_used", "an unnamed planner"))
    known = [name for name, preset in PRESETS.items() if preset.planner == planner]
    try:
        budget = budget or budget_behind(plans, decisions_in(plans), fingerprint)
        read: Plan | None = plan_from_nnunet(plans, fingerprint, budget=budget)
    except PlanError:  # parts of it have no counterpart here; what can be compared still is
        budget, read = budget or Budget(preset=known[0] if known else "default"), None  # type: ignore[arg-type]
    rules = make_plan(fingerprint, budget)
    theirs, ours = dict(_flat(plans)), dict(_flat(plan_to_nnunet(rules)))
    return ExplainedPlan(
        planner=planner,
        budget=budget,
        keys=tuple(
            _explained(key, value, ours, rules, read) if known else _foreign(key, value, ours)
            for key, value in theirs.items()
        ),
    )


def _explained(key: str, value: Any, ours: JSON, rules: Plan, read: Plan | None) -> ExplainedKey:
    """One key of a file whose planner has our rules; `read` is the whole of it, where that could be understood."""
    if _is_ruled(key, value, ours):
        return ExplainedKey(key=key, value=value, origin="as the rules give", rules_give=value)
    names = _decisions_behind(key, read or rules)
    edited = [name for name in names if read is not None and name in read.given]
    if read is not None and names and not edited:
        origin: Origin = "follows from an edited value"
        return ExplainedKey(key=key, value=value, origin=origin, rules_give=ours.get(key), reason=_cause(names, read))
    reason = "" if key in ours else NO_SUCH_KEY
    if read is None and names:
        reason = rules.trace[names[0]].reason
    elif read is not None and edited:
        reason = _ruled(edited[0], read)
    return ExplainedKey(key=key, value=value, origin="edited by hand", rules_give=ours.get(key), reason=reason)


def _foreign(key: str, value: Any, ours: JSON) -> ExplainedKey:
    """One key of a file from a planner with rules of its own."""
    if _is_ruled(key, value, ours):
        return ExplainedKey(key=key, value=value, origin="as the rules give", rules_give=value)
    reason = "" if key in ours else NO_SUCH_KEY
    return ExplainedKey(key=key, value=value, origin="from another planner", rules_give=ours.get(key), reason=reason)


def _is_ruled(key: str, value: Any, ours: JSON) -> bool:
    """Whether the rules give this value, or anyone may choose it."""
    last = key.rpartition("/")[2]
    reader = last == "image_reader_writer" and value in {*READERS.values(), "SimpleITKIO"}
    return last in FREE or reader or (key in ours and same(_tupled(value), _tupled(ours[key])))


def _decisions_behind(key: str, plan: Plan) -> list[str]:
    """The names of the decisions that a key's value comes from."""
    configuration, _, last = key.rpartition("/")
    if last == "normalization_schemes" or key.startswith("foreground_intensity"):
        return [d.name for d in plan.trace if d.name.startswith("normalization/")]
    if last.startswith("resampling"):
        return ["resampling"]
    name = DECIDED_AS.get(last, last)
    found = [n for n in (f"{configuration}/{name}", name) if n in plan.trace]
    if last == "spacing":  # each spacing may come from one that is decided before it
        found += [n for n in ("target_spacing", "lowres") if n in plan.given]
    return found


def _cause(names: list[str], plan: Plan) -> str:
    """The edited values that these decisions depend on."""
    upstream = [d.name for name in names for d in plan.trace.upstream(name) if d.kind == "given"]
    return f"it follows from {', '.join(dict.fromkeys(upstream))}" if upstream else ""


def _ruled(name: str, plan: Plan) -> str:
    """Why the rule would decide otherwise, all other values as they are."""
    others = {key: value for key, value in plan.given.items() if key != name}
    try:
        trace = make_plan(plan.fingerprint, plan.budget, given=others).trace
    except PlanError as error:  # the other values only work together with this one
        return str(error)
    return trace[name].reason if name in trace else ""


def _flat(plans: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """One key a value: those of the file, of each configuration, and of its network."""
    for key, value in plans.items():
        if key != "configurations":
            yield key, value
    if not isinstance(plans.get("configurations"), Mapping):
        raise PlanError("this file has no 'configurations'; is it an nnUNetPlans.json?")
    for name, configuration in plans["configurations"].items():
        for key, value in configuration.items():
            if key != "architecture":
                yield f"{name}/{key}", value
                continue
            yield f"{name}/network_class_name", value.get("network_class_name")
            for setting, number in value.get("arch_kwargs", {}).items():
                yield f"{name}/{setting}", number


def _tupled(value: Any) -> Any:
    return tuple(_tupled(item) for item in value) if isinstance(value, list) else value
