"""Where an ``nnUNetPlans.json`` of somebody else departs from the rules, key by key, and what they would have given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from autoseg.core.errors import PlanError
from autoseg.core.shown import Shown
from autoseg.data.fingerprint import Fingerprint
from autoseg.interop.nnunet_budget import budget_behind
from autoseg.interop.nnunet_decisions import LINKS, decisions_in, inherited, modern, same
from autoseg.interop.nnunet_names import JSON, READERS
from autoseg.interop.nnunet_plans import plan_from_nnunet, plan_to_nnunet
from autoseg.planning.answers import in_words
from autoseg.planning.budget import PRESETS, Budget
from autoseg.planning.plan import DECIDING, Plan
from autoseg.planning.planner import ORDER, make_plan

if TYPE_CHECKING:
    import pandas as pd

Origin = Literal["as the rules give", "follows from an edited value", "edited by hand", "from another planner"]
FREE = {"dataset_name", "plans_name", "data_identifier"}  # names that anyone may choose
NO_SUCH_KEY = "nnU-Net 2.8 writes no such key for this dataset"
OWN = "a configuration of somebody's own, beside those that the rules plan"
LACKING = "the file lacks it"
DECIDED = {  # the keys with a decision behind them that have its name, or a special one
    *("spacing", "patch_size", "batch_size", "batch_dice", "normalization_schemes"),
    *(f"resampling_fn_{purpose}_kwargs" for purpose in ("data", "seg", "probabilities")),
}
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
    "inherits_from": "cascade",
    "previous_stage": "cascade",
}
WRITTEN = {  # what no rule decides: where nnU-Net has it from
    "original_median_spacing_after_transp": "the median spacing of all cases as they are; nothing reads it",
    "original_median_shape_after_transp": "the median shape of all cases as they are; nothing reads it",
    "2d": "it is planned for every dataset",
    "image_reader_writer": "the first of nnU-Net's readers that opens files of that ending",
    "label_manager": "nnU-Net has no other",
    "preprocessor_name": "the default of every planner",
    "experiment_planner_used": "the planner whose rules explain most of the file",
    "foreground_intensity_properties_per_channel": "copied from the fingerprint",
    **dict.fromkeys(
        ("conv_op", "conv_bias", "norm_op", "norm_op_kwargs", "dropout_op", "dropout_op_kwargs", "nonlin"),
        "fixed: the same in every network that nnU-Net plans",
    ),
    "nonlin_kwargs": "fixed: the same in every network that nnU-Net plans",
    "_kw_requires_import": "fixed: the settings of a network that are names of classes",
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
        line = f"{self.key} = {in_words(self.value, self.key)}: {self.origin}"
        if self.origin == "as the rules give":
            return line
        reason = f" ({self.reason})" if self.reason else ""
        return f"{line}; the rules give {in_words(self.rules_give, self.key)}{reason}"


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
    most. What the rules write and the file lacks is listed as None. Raises `PlanError` where the file has no
    configurations.

    >>> plans = autoseg.plan_to_nnunet(plan)                   # or json.load(open("nnUNetPlans.json"))
    >>> plans["configurations"]["3d_fullres"]["batch_size"] = 4
    >>> autoseg.explain_plan(plans, fingerprint)
    ExperimentPlanner: 71 of 72 keys as default with 8 GB gives
      3d_fullres/batch_size = 4: edited by hand; the rules give 2 (...)
    """
    configurations = _configurations(plans)
    planner = str(plans.get("experiment_planner_used", "an unnamed planner"))
    known = [name for name, preset in PRESETS.items() if preset.planner == planner]
    guess = budget or Budget(preset=known[0] if known else "default")  # type: ignore[arg-type]
    understood, read = _read({**plans, "configurations": configurations}, make_plan(fingerprint, guess), budget)
    rules = make_plan(fingerprint, understood)
    written = plan_to_nnunet(rules)
    compared = _Compared(
        rules=rules,
        read=read,
        ours=_given_by_rules(configurations, written),
        as_read=dict(_flat(plan_to_nnunet(read))) if read else {},
        known=bool(known),
    )
    theirs = dict(_flat({**plans, "configurations": configurations}))
    lacking = _lacking(plans, configurations, written)
    return ExplainedPlan(
        planner=planner,
        budget=understood,
        keys=(*(compared.explained(*item) for item in theirs.items()), *(compared.lacking(key) for key in lacking)),
    )


def _configurations(plans: Mapping[str, Any]) -> dict[str, JSON]:
    """The configurations of a file, in today's format."""
    configurations = plans.get("configurations") if isinstance(plans, Mapping) else None
    if not isinstance(configurations, Mapping):
        raise PlanError("this file has no 'configurations'; is it an nnUNetPlans.json?")
    odd = [name for name, settings in configurations.items() if not isinstance(settings, Mapping)]
    if odd:
        raise PlanError(f"configuration {odd[0]!r} is {configurations[odd[0]]!r}; it must be a dictionary.")
    return {name: modern(dict(settings)) for name, settings in configurations.items()}


def _read(plans: JSON, rules: Plan, budget: Budget | None) -> tuple[Budget, Plan | None]:
    """The budget behind a file and the plan that it holds, as far as both can be understood."""
    for file in (plans, _with_decisions_alone(plans, plan_to_nnunet(rules))):
        try:
            found = budget or budget_behind(file, decisions_in(file), rules.fingerprint)
            return found, plan_from_nnunet(file, rules.fingerprint, budget=found)
        except PlanError:  # parts of it have no counterpart here; what can be compared still is
            continue
    return rules.budget, None


def _with_decisions_alone(plans: JSON, ours: JSON) -> JSON:
    """The file's decisions, and all else as the rules write it: without what another hand added."""
    planned, configurations = ours["configurations"], {}
    for name in (name for name in ORDER if name in plans["configurations"]):
        like = inherited(name if name in planned else "3d_fullres" if "3d_fullres" in planned else "2d", planned)
        try:
            theirs = inherited(name, plans["configurations"])
        except PlanError:  # a parent that is missing, or a circle of them
            theirs = plans["configurations"][name]
        theirs_network = dict(_flat({"configurations": {"": theirs}}))  # flat: its keys are those of no other settings
        network = _kept(like["architecture"]["arch_kwargs"], {k.lstrip("/"): v for k, v in theirs_network.items()})
        architecture = {**like["architecture"], "arch_kwargs": network}
        configurations[name] = {**_kept(like, theirs), "architecture": architecture}
    return {**ours, **_kept(ours, plans), "configurations": configurations}


def _kept(ours: JSON, theirs: Mapping[str, Any]) -> JSON:
    """Our settings, those that decisions are behind as the others have them."""
    decided = DECIDED | DECIDED_AS.keys()
    return {key: theirs.get(key, value) if key in decided else value for key, value in ours.items()}


def _given_by_rules(configurations: Mapping[str, JSON], written: JSON) -> JSON:
    """What the rules give for each key, inherited ones included: for those of a further configuration, its parent's."""
    planned = {name: inherited(name, written["configurations"]) for name in written["configurations"]}
    for name, settings in configurations.items():
        parent = settings.get("inherits_from")
        if name not in planned and parent in planned:
            planned[name] = {key: value for key, value in planned[parent].items() if key not in LINKS}
    return dict(_flat({**written, "configurations": planned}))


def _lacking(plans: Mapping[str, Any], configurations: Mapping[str, JSON], written: JSON) -> Iterator[str]:
    """What the rules write and a file has not: whole configurations, or keys."""
    for name in written["configurations"]:
        if name not in configurations:
            yield name
    try:
        there = {name: inherited(name, configurations) for name in configurations}
    except PlanError:  # a parent that is missing is named by its own key
        there = dict(configurations)
    theirs = dict(_flat({**plans, "configurations": there}))
    for key, _ in _flat(written):
        if key not in theirs and (key.partition("/")[0] in configurations or "/" not in key):
            yield key


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compared:
    """A file beside the rules: their plan, the plan that was `read` from the file (None: it was not understood)."""

    rules: Plan
    read: Plan | None
    ours: JSON
    as_read: JSON
    known: bool  # whether the file names a planner with our rules

    def explained(self, key: str, value: Any) -> ExplainedKey:
        """Where the value of a key comes from."""
        if _is_ruled(key, value, self.ours):
            return ExplainedKey(key=key, value=value, origin="as the rules give", rules_give=value)
        origin, reason = self._origin(key, value)
        return ExplainedKey(key=key, value=value, origin=origin, rules_give=self.ours.get(key), reason=reason)

    def lacking(self, key: str) -> ExplainedKey:
        """A key, or a configuration, that the rules write and the file has not."""
        names = [DECIDING[key]] if key in DECIDING else _decisions_behind(key, self.rules)
        ours = "planned" if key in ORDER else self.ours.get(key)
        origin, reason = self._hand, f"{LACKING}: {self._reason(key, names)}"
        read = self.read if self.known and not any(f"{k}/".startswith(f"{key}/") for k in self.as_read) else None
        if read is not None and not any(name in read.given for name in names):
            origin, reason = "follows from an edited value", f"{LACKING}: {_cause(names, read)}"
        return ExplainedKey(key=key, value=None, origin=origin, rules_give=ours, reason=reason)

    @property
    def _hand(self) -> Origin:
        return "edited by hand" if self.known else "from another planner"

    def _origin(self, key: str, value: Any) -> tuple[Origin, str]:
        names = _decisions_behind(key, self.read or self.rules)
        if self.read is not None and self.known and key in self.as_read and same(self.as_read[key], value):
            edited = [name for name in names if name in self.read.given]
            if self.read.given and not edited:
                return "follows from an edited value", _cause(names, self.read)
            names = edited or names
        return self._hand, self._reason(key, names)

    def _reason(self, key: str, names: list[str]) -> str:
        """Why the rules give what they give, or why they give nothing."""
        name, _, last = key.rpartition("/")
        if last in WRITTEN:
            return WRITTEN[last]
        if name and name not in ORDER:
            return OWN
        if name in DECIDING and name not in self.rules:
            return self.rules.trace[DECIDING[name]].reason
        ruled = [decision for decision in names if decision in self.rules.trace]
        return self.rules.trace[ruled[0]].reason if ruled else NO_SUCH_KEY


def _is_ruled(key: str, value: Any, ours: JSON) -> bool:
    """Whether the rules give this value, or anyone may choose it."""
    last = key.rpartition("/")[2]
    reader = last == "image_reader_writer" and value in [*READERS.values(), "SimpleITKIO"]
    return last in FREE or reader or (key in ours and same(ours[key], value))


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
    return f"it follows from {', '.join(dict.fromkeys(upstream or plan.given))}"


def _flat(plans: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """One key a value: those of the file, of each configuration, and of its network."""
    for key, value in plans.items():
        if key != "configurations":
            yield key, value
    for name, configuration in plans["configurations"].items():
        for key, value in configuration.items():
            if key != "architecture" or not isinstance(value, Mapping):
                yield f"{name}/{key}", value
                continue
            for setting, number in value.items():
                if setting != "arch_kwargs" or not isinstance(number, Mapping):
                    yield f"{name}/{setting}", number
                    continue
                yield from ((f"{name}/{own}", each) for own, each in number.items())
