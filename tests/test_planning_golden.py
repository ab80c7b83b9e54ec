"""The plans that nnU-Net 2.8.1 wrote for 240 random fingerprints and four real datasets, value for value."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from autoseg.interop.nnunet_plans import fingerprint_from_nnunet, plan_to_nnunet
from autoseg.planning.budget import PRESETS, Budget
from autoseg.planning.plan import Plan
from autoseg.planning.planner import make_plan

PRESET_OF = {preset.planner: name for name, preset in PRESETS.items()}
REAL = ["Dataset004_Hippocampus", "Dataset101_ISBI2012EM", "Dataset107_OvuleNuclei3D", "Dataset117_ProstateMRsmall"]


def golden(reference: Path) -> list[dict[str, Any]]:
    with gzip.open(reference / "golden_plans.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


def as_golden(plan: Plan) -> dict[str, Any]:
    """nnU-Net's plan of ours, in the shorter form of the golden file."""
    full = plan_to_nnunet(plan)
    keys = ("transpose_forward", "transpose_backward")
    keys += ("original_median_spacing_after_transp", "original_median_shape_after_transp")
    return {key: full[key] for key in keys} | {
        "configurations": {name: _shortened(c) for name, c in full["configurations"].items()}
    }


def _shortened(configuration: dict[str, Any]) -> dict[str, Any]:
    dropped = ("data_identifier", "preprocessor_name", "architecture")
    kept = {k: v for k, v in configuration.items() if k not in dropped and not k.startswith("resampling")}
    if "architecture" not in configuration:
        return kept
    network = configuration["architecture"]["arch_kwargs"]
    kept |= {key: network[key] for key in ("n_stages", "features_per_stage", "kernel_sizes", "strides")}
    depths = network.get("n_conv_per_stage") or network["n_blocks_per_stage"]
    return kept | {"n_conv": depths, "n_conv_decoder": network["n_conv_per_stage_decoder"]}


def differences(ours: Any, theirs: Any, where: str = "") -> list[str]:
    """Paths at which two JSON values differ: exact for integers, 1e-6 for floats, every key on both sides."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        both, one = set(ours) & set(theirs), set(ours) ^ set(theirs)
        found = [f"{where}/{key} is only on one side" for key in one]
        return found + [d for key in both for d in differences(ours[key], theirs[key], f"{where}/{key}")]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [d for i, pair in enumerate(zip(ours, theirs, strict=True)) for d in differences(*pair, f"{where}[{i}]")]
    if isinstance(ours, float) and isinstance(theirs, float):
        return [] if ours == pytest.approx(theirs, rel=1e-6) else [f"{where}: {ours} instead of {theirs}"]
    return [] if ours == theirs and type(ours) is type(theirs) else [f"{where}: {ours} instead of {theirs}"]


def test_all_golden_plans_are_identical(reference: Path) -> None:
    compared, wrong = 0, []
    for entry in golden(reference):
        fingerprint = fingerprint_from_nnunet(entry["fingerprint"], entry["dataset"])
        for planner, expected in entry["plans"].items():
            memory = expected.pop("gpu_memory_target_in_gb")
            plan = make_plan(fingerprint, Budget(preset=PRESET_OF[planner], memory_gb=memory))
            wrong += [f"{entry['id']} {planner} {d}" for d in differences(as_golden(plan), expected)]
            compared += 1
    assert compared == 600
    assert wrong == []


@pytest.mark.parametrize("name", REAL)
def test_plans_of_real_datasets_are_identical_in_every_key(reference: Path, name: str) -> None:
    folder = reference / "real_plans" / name
    facts, dataset, expected = (
        json.loads((folder / file).read_text())
        for file in ("dataset_fingerprint.json", "dataset.json", "nnUNetPlans.json")
    )
    plan = make_plan(fingerprint_from_nnunet(facts, dataset, name=name))
    assert differences(plan_to_nnunet(plan), expected) == []


def test_the_comparison_sees_a_changed_number() -> None:
    theirs = {"patch": [128, 96], "spacing": [1.0, 0.7]}
    found = differences({"patch": [128, 97], "spacing": [1.0, 0.70001]}, theirs)
    assert sorted(found) == ["/patch[1]: 97 instead of 96", "/spacing[1]: 0.70001 instead of 0.7"]


AGREES = {  # branch of a decision: what is said of the candidate it takes
    "memory decides": "as many patches as memory holds",
    "dataset decides": "% of the dataset's voxels",
    "smallest batch": "the smallest batch allowed",
    "median": "the median of all cases",
    "10th percentile": "10th percentile",
    "just above the next axis": "just above the next axis",
    "the median image fits": "fits: ",
    "shortened until it fits": "fits: ",
    "planned": "a patch of ",
}


def test_of_all_candidates_one_is_marked_as_chosen_and_it_is_what_was_decided(reference: Path) -> None:
    seen = set()
    for entry in golden(reference):
        fingerprint = fingerprint_from_nnunet(entry["fingerprint"], entry["dataset"])
        for memory in (8, 0.5):
            for decision in make_plan(fingerprint, Budget(memory_gb=memory)).trace:
                chosen = [attempt for attempt in decision.tried if attempt.accepted]
                if not decision.tried or decision.branch == "dropped":
                    assert chosen == []
                    continue
                assert [attempt.value for attempt in chosen] == [decision.value], (entry["id"], decision.name)
                assert AGREES[decision.branch] in chosen[0].outcome, (entry["id"], decision.name)
                assert len({(a.value, a.outcome) for a in decision.tried}) == len(decision.tried)
                seen.add(decision.branch)
    assert seen == set(AGREES) - {"just above the next axis"}, "no golden dataset is finer than its next axis"
