"""Opening, checking, planning and showing work where torch is not installed."""

from __future__ import annotations

import subprocess
import sys

BLOCK = """
import importlib.abc, sys

class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "monai"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Block())
import autoseg
"""


def run(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", BLOCK + code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_block_works():
    assert "no torch" in run("try:\n    autoseg.train\nexcept ModuleNotFoundError:\n    print('no torch')")


def test_from_files_to_a_plan_and_its_display():
    code = """
dataset = autoseg.sample_dataset()
few = dataset.without(*[case.name for case in dataset][5:])
assert not autoseg.check(few, show_progress=False)
fingerprint = autoseg.extract_fingerprint(few, show_progress=False)
plan = autoseg.make_plan(fingerprint, autoseg.Budget(memory_gb=8))
shown = [few, few.labels, few.training[0], few.training[0].image(), few.training[0].label(), few.fold(0),
         fingerprint, plan, plan["3d_fullres"], plan.trace, plan.trace["target_spacing"]]
for thing in shown:
    html = thing._repr_html_()
    assert html and "(no picture" not in html, (type(thing), html[-300:])
print("torch" in sys.modules, len(shown))
"""
    assert run(code) == "False 11\n"


def test_preprocessing_needs_torch_only_to_resample():
    code = """
dataset = autoseg.sample_dataset()
plan = autoseg.make_plan(autoseg.extract_fingerprint(dataset, show_progress=False))
few = dataset.without(*[case.name for case in dataset][2:])
prepared = autoseg.preprocess(few, plan["3d_fullres"], show_progress=False)
print(len(prepared), "torch" in sys.modules)
"""
    assert run(code) == "2 False\n"
