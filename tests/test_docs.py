"""The documentation can be built without internet, its links lead somewhere, and its cells run."""

from __future__ import annotations

import doctest
import importlib.util
import inspect
import re
from pathlib import Path

import numpy as np
import pytest

import autoseg

DOCS = Path(__file__).resolve().parents[1] / "docs"


def load_builder():
    spec = importlib.util.spec_from_file_location("build", DOCS / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_site_is_built_with_every_notebook_and_name(tmp_path):
    load_builder().build(tmp_path)
    index = (tmp_path / "index.html").read_text()
    for notebook in (DOCS.parent / "notebooks").glob("*.ipynb"):
        assert f"notebooks/{notebook.stem}.html" in index
    for page in (*tmp_path.glob("*.html"), *(tmp_path / "notebooks").glob("*.html")):
        assert not re.findall(r'src="https?://', page.read_text()), f"{page.name} loads something from elsewhere"
    reference = (tmp_path / "reference" / "autoseg.html").read_text()
    assert [name for name in autoseg.PUBLIC if f'id="{name}"' not in reference] == []


def test_a_link_that_leads_nowhere_is_named(tmp_path):
    (tmp_path / "page.html").write_text('<a href="there.html#part">x</a> <a href="https://x.org">y</a>')
    builder = load_builder()
    assert builder.broken_links(tmp_path) == ["page.html: there.html"]
    (tmp_path / "there.html").touch()
    assert builder.broken_links(tmp_path) == []


def test_nothing_installs_the_other_project_that_is_called_autoseg_on_pypi():
    root = DOCS.parent
    texts = [root / "README.md", *DOCS.glob("*.md"), *root.glob("notebooks/*.ipynb"), *root.glob("autoseg/**/*.py")]
    by_name = re.compile(r"pip install (?:-\S+ )*\\?['\"]?autoseg\b(?!.*git\+)")
    assert [path.name for path in texts if by_name.search(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("name", autoseg.PUBLIC)
def test_every_public_name_has_an_example_that_is_run(name):
    examples = doctest.DocTestParser().get_examples(inspect.getdoc(getattr(autoseg, name)) or "")
    assert examples
    assert not any(doctest.SKIP in example.options for example in examples)


@pytest.mark.parametrize("sample", ["seahorse", "ct", "rgb_undeclared"])
def test_the_cells_that_answer_the_ten_questions_run_whatever_the_data(sample):
    text = (DOCS / "questions.md").read_text()
    assert [int(n) for n in re.findall(r"^## (\d+)\.", text, flags=re.MULTILINE)] == list(range(1, 11))
    namespace: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
        code = block.replace('open_dataset("your folder")', f"sample_dataset({sample!r})")
        exec(compile(code.replace("minutes=5", "minutes=0.02"), "questions.md", "exec"), namespace)
    assert namespace["evaluation"].mean >= 0
    constant, spiked = np.full((4, 4), 7.0, np.float32), np.linspace(0, 1, 400, dtype=np.float32).reshape(20, 20)
    spiked[0, 0] = 1e6
    assert np.isfinite(namespace["robust"](constant, None)).all()
    assert namespace["robust"](spiked, None).mean() > 0.4, "one bright voxel sets no scale"
    plan = namespace["plan"]
    changed = plan.compare(plan.what_if(spacing=namespace["wrong"])).changes
    assert any(change.name.endswith("/topology") for change in changed), "another spacing makes another network"


def test_the_solutions_for_teachers_are_right():
    text = (DOCS / "solutions.md").read_text()
    namespace: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
        exec(compile(block, "solutions.md", "exec"), namespace)
    assert callable(namespace["kept"])
