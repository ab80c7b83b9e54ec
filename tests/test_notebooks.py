"""Notebooks run from top to bottom, and are kept with outputs that fit into a page."""

from __future__ import annotations

import importlib.util
import re
import time
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MINUTES = {
    "00_quickstart": 3,
    "01_dataset_checks_and_fingerprint": 1,
    "02_the_plan_and_why": 1,
    "03_one_case_through_every_stage": 1,
    "04_training": 3,
    "05_prediction_overlays_and_3d": 2,
    "06_judging": 3,
    "07_choosing": 3,
    "08_your_own_data": 2,
    "09_extending": 3,
    "10_colab_and_bigger": 3,
    "11_nnunet_and_monai": 3,
    "12_hippocampus": 5,
    "20_rule_gym": 1,
    "21_rule_gym_teacher": 1,
}

SHARE = 0.4  # of the minutes that each training takes: what runs, and shows the same, need not be good

CARD = re.compile(r'class="as-kind">([^<]*)<')

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def traits(cell):
    """What the outputs of a cell are, whatever their numbers: their kinds, and the cards in them."""
    found = set()
    for output in cell.outputs:
        data = output.get("data", {})
        found.add((output.output_type, *sorted(data), *CARD.findall(str(data.get("text/html")))))
    return found


@every_notebook
@pytest.mark.slow
def test_it_runs_in_the_time_it_promises(path):
    spec = importlib.util.spec_from_file_location("execute", FOLDER / "execute.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    left_out = (1 - SHARE) * sum(
        float(minutes) for cell in cells(path) for minutes in module.TRAINED.findall(cell.source)
    )
    started = time.monotonic()
    fresh = module.execute(path, share=SHARE)
    assert time.monotonic() - started < 60 * (MINUTES[path.stem] - left_out)
    now = [traits(cell) for cell in fresh.cells if cell.cell_type == "code"]
    assert now == [traits(cell) for cell in cells(path)], "the outputs that are kept are stale: run execute.py"


def test_a_notebook_is_run_by_its_name_or_its_path(monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("execute", FOLDER / "execute.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ran = []
    monkeypatch.setattr(module, "execute", ran.append)
    monkeypatch.setattr(module.nbformat, "write", lambda notebook, path: None)
    module.main(["00_quickstart.ipynb", "notebooks/00_quickstart.ipynb", str(FOLDER / "00_quickstart.ipynb")])
    assert ran == [FOLDER / "00_quickstart.ipynb"] * 3


def test_there_are_notebooks():
    assert {path.stem for path in NOTEBOOKS} == set(MINUTES)


@every_notebook
def test_outputs_are_kept_small_and_without_errors(path):
    nbformat.validate(nbformat.read(path, as_version=4))
    assert path.stat().st_size < 2e6
    outputs = [output for cell in cells(path) for output in cell.outputs]
    assert sum("text/html" in output.get("data", {}) for output in outputs) > 3, "objects show themselves"
    assert not any(output.output_type == "error" for output in outputs)
    assert not any("(no picture" in str(output.get("data", "")) for output in outputs)
    assert not any("<script" in str(output.get("data", "")) for output in outputs)


@every_notebook
def test_every_cell_was_run_in_order(path):
    counts = [cell.execution_count for cell in cells(path)]
    assert counts == list(range(1, len(counts) + 1))


@every_notebook
def test_only_the_first_cell_installs_and_only_on_colab(path):
    first, *others = cells(path)
    assert 'if "google.colab" in sys.modules:' in first.source
    assert re.search(r"^    %pip install .* \{colabs_own\}$", first.source, flags=re.MULTILINE)
    assert all(f"{name}=={{version('{name}')}}" in first.source for name in ("torch", "numpy"))
    assert not any("pip install" in cell.source for cell in others)


@every_notebook
def test_its_badge_opens_it_on_colab(path):
    title = nbformat.read(path, as_version=4).cells[0].source
    assert re.search(
        rf"https://colab\.research\.google\.com/github/[\w-]+/autoseg/blob/main/notebooks/{path.name}\)", title
    )


@every_notebook
def test_it_does_not_say_on_whose_computer_it_ran(path):
    assert not re.search(r"/(home|Users|root|work|tmp)/\w", path.read_text())
