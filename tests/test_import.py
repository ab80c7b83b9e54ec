"""Importing autoseg costs nothing; its names are there when they are used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import autoseg

HEAVY = ("torch", "monai", "matplotlib", "SimpleITK", "pandas", "numpy", "scipy")


def run(code: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *options, "-c", code], capture_output=True, text=True, check=True)


def test_importing_takes_less_than_a_third_of_a_second():
    def milliseconds() -> float:
        last = run("import autoseg", "-X", "importtime").stderr.strip().splitlines()[-1]
        assert last.split("|")[2].strip() == "autoseg"
        return int(last.split("|")[1]) / 1000

    assert min(milliseconds() for _ in range(3)) < 300


def test_importing_loads_no_heavy_library():
    loaded = run(f"import autoseg, sys; print([m for m in {HEAVY} if m in sys.modules])").stdout
    assert loaded.strip() == "[]"


def test_opening_a_dataset_loads_no_heavy_library():
    heavy = tuple(m for m in HEAVY if m not in ("numpy", "scipy"))
    loaded = run(
        f"import autoseg, sys; autoseg.sample_dataset(); print([m for m in {heavy} if m in sys.modules])"
    ).stdout
    assert loaded.strip() == "[]"


@pytest.mark.parametrize("name", autoseg.__all__)
def test_every_public_name_is_there_and_documented(name):
    thing = getattr(autoseg, name)
    assert thing.__name__ == name
    assert thing.__doc__


def test_names_are_listed_for_completion():
    assert set(autoseg.__all__) < set(dir(autoseg))
    assert "import_module" not in dir(autoseg)


def test_a_misspelt_name_gets_a_suggestion():
    with pytest.raises(AttributeError, match=r"no attribute 'make_plam'\. Did you mean 'make_plan'\?"):
        autoseg.make_plam  # noqa: B018


def test_type_checkers_see_the_same_names_from_the_same_modules():
    tree = ast.parse(Path(autoseg.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen == {name: f"autoseg.{module}" for name, module in autoseg.PUBLIC.items()}
