"""A notebook with every object and widget, converted to a page without a kernel: each display is there."""

from __future__ import annotations

import nbformat
import pytest

EVIL = "<img src=x onerror=alert(1)>"
START = f"""
from dataclasses import replace
import autoseg
dataset = autoseg.sample_dataset()
labels = autoseg.Labels({{"background": 0, {EVIL!r}: 1, "tail": 2}})
dataset = replace(dataset, labels=labels, training=tuple(replace(c, labels=labels) for c in dataset.training[:6]))
case = dataset.training[0]
prediction = autoseg.Prediction(case=case, label_map=case.label())
evaluation = autoseg.evaluate([prediction], dataset)
fingerprint = autoseg.extract_fingerprint(dataset, show_progress=False)
plan = autoseg.make_plan(fingerprint)
import matplotlib.pyplot
matplotlib.rcParams["font.size"] = 21

before = dict(matplotlib.rcParams), matplotlib.get_backend()
"""
SHOWN = {  # cell: words that its static display must hold
    "dataset": "training cases",
    "labels": "tail",
    "case": "Case",
    "fingerprint": "read by",
    "plan": "Plan",
    "prediction": "Prediction",
    "evaluation": "mean Dice",
    "case.browse()": "Case",
    "prediction.browse()": "Prediction",
    "prediction.show_3d()": "In 3D",
    'case.show_3d(backend="picture")': "In 3D",
    "evaluation.explore()": "mean Dice",
    "autoseg.compare_predictions([prediction, prediction])": "Predictions compared",
    "plan.explore()": "Plan",
}
END = "assert before == (dict(matplotlib.rcParams), matplotlib.get_backend())"


@pytest.fixture(scope="module")
def executed():
    from nbclient import NotebookClient

    cells = [nbformat.v4.new_code_cell(code) for code in (START, *SHOWN, END)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=120, kernel_name="python3", store_widget_state=False).execute()
    return notebook


def test_every_static_display_is_in_the_page(executed):
    from bs4 import BeautifulSoup
    from nbconvert import HTMLExporter

    html, _ = HTMLExporter().from_notebook_node(executed)
    page = BeautifulSoup(html, "html.parser")
    cells = page.select(".jp-CodeCell")[1:-1]
    assert len(cells) == len(SHOWN)
    for cell, (code, word) in zip(cells, SHOWN.items(), strict=True):
        outputs = cell.select(".jp-OutputArea-output .autoseg .as-card")
        assert outputs, f"{code} is not in the page"
        assert word in outputs[0].get_text(" "), code
        assert not cell.select(".jp-OutputArea-output script"), code
    assert not page.find("img", src="x") and not page.find(onerror=True), "a label's name became markup"
    assert page.get_text().count(EVIL) > 8


def test_no_output_is_large(executed):
    for cell in executed.cells[1:-1]:
        for output in cell.outputs:
            sizes = {mime: len(str(data)) for mime, data in output.get("data", {}).items()}
            assert sum(sizes.values()) < 300_000, f"{cell.source}: {sizes}"
