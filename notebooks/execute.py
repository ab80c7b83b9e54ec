"""Runs notebooks from top to bottom, in the environment of the Python that runs this, and keeps their outputs.

    python notebooks/execute.py                     # every notebook here
    python notebooks/execute.py 00_quickstart.ipynb notebooks/01_dataset_checks_and_fingerprint.ipynb

Progress bars are left out of what is kept, for they show nothing once the kernel is gone, and so is where on this
computer the repository lies.
"""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent
WIDGET = "application/vnd.jupyter.widget-view+json"
TRAINED = re.compile(
    r"minutes=(0\.\d+|1(?:\.\d+)?|2)(?![\d.])"
)  # budgets of trainings, not those that are only asked about


def execute(path: Path, *, share: float = 1.0, timeout: int = 600) -> nbformat.NotebookNode:
    """Run a notebook and return it with its outputs. Raises `CellExecutionError` at the first cell that fails.

    With a `share` below 1 its trainings last only so much of their minutes: enough to see that every cell runs.
    """
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.source = TRAINED.sub(lambda found: f"minutes={share * float(found[1]):g}", cell.source)
    client = NotebookClient(notebook, timeout=timeout, kernel_name="python3", resources={"metadata": {"path": HERE}})
    client.execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of day
        if cell.cell_type == "code":
            cell.outputs = [_static(output) for output in cell.outputs if not _is_progress(output)]
    notebook.metadata.pop("widgets", None)
    return _without_place(notebook)


def _without_place(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    text = nbformat.writes(notebook).replace(f"{HERE.parent}/", "").replace(f"{HERE.parent.parent}/", "../")
    return nbformat.reads(text, as_version=4)


def _is_progress(output: nbformat.NotebookNode) -> bool:
    data = output.get("data", {})
    return (WIDGET in data and "text/html" not in data) or output.get("name") == "stderr"


def _static(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A widget as the display that it has for pages without a kernel."""
    output.get("data", {}).pop(WIDGET, None)
    return output


def main(names: list[str]) -> None:
    """Run the notebooks and keep their outputs."""
    for path in [HERE / Path(name).name for name in names] or sorted(HERE.glob("*.ipynb")):
        started = time.perf_counter()
        nbformat.write(execute(path), path)
        print(f"{path.name}: {time.perf_counter() - started:.0f} s, {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(sys.argv[1:])
