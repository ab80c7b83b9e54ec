"""Pictures never touch the user's matplotlib, whatever it is set to."""

from __future__ import annotations

import subprocess
import sys

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from autoseg.display import charts as drawing
from autoseg.display.charts import DOTS, Line, Mark, curves, histogram, strip
from autoseg.display.figures import picture


def charts() -> list[str]:
    random = np.random.RandomState(0)
    return [
        histogram([0.1, 0.5, 0.4], (0.0, 30.0), [Mark(2.0, "0.5%"), Mark(29.0, "99.5%")]),
        strip(random.random(30).tolist(), (0.0, 1.0)),
        strip(random.random(DOTS + 1).tolist(), (0.0, 1.0)),
        strip([10.0, 1e5], (10.0, 1e5), logarithmic=True),
        strip([], (0.0, 0.0)),
        strip([1.0, float("nan")], (1.0, 1.0)),
        curves([0, 1, 2], [Line([3.0, 2.0, 1.0], "#123456"), Line([1, float("nan"), 1], "#654321")], size=(300, 150)),
        curves([0], [Line([3.0], "#123456")], size=(300, 150), y_span=(0.0, 1.0)),
    ]


def test_backend_style_and_figures_stay_as_they_are():
    mine = plt.figure()
    before, backend = dict(matplotlib.rcParams), matplotlib.get_backend()
    charts()
    assert dict(matplotlib.rcParams) == before
    assert matplotlib.get_backend() == backend
    assert plt.get_fignums() == [mine.number] and plt.gcf() is mine
    plt.close(mine)


@pytest.mark.parametrize(
    "taste", [{"text.usetex": True}, {"font.size": 40, "axes.facecolor": "red"}, "dark_background"]
)
def test_the_users_style_does_not_show_in_our_pictures(taste):
    plain = charts()
    with plt.style.context(taste):
        assert charts() == plain


def test_a_failing_picture_puts_the_style_back():
    def fail(figure):
        raise RuntimeError("no paint")

    before = dict(matplotlib.rcParams)
    with pytest.raises(RuntimeError, match="no paint"):
        picture(fail, (10, 10), alt="")
    assert dict(matplotlib.rcParams) == before


def test_drawing_needs_no_pyplot_and_importing_displays_no_torch():
    code = """
import sys
import autoseg.display
assert not {"torch", "matplotlib", "pandas"} & set(sys.modules), "heavy"
import autoseg
dataset = autoseg.sample_dataset()
html = dataset._repr_html_() + dataset.training[0]._repr_html_()
assert html.count("as-picture") > 5, html[:300]
assert "matplotlib.pyplot" not in sys.modules
import matplotlib
assert matplotlib.rcParams._get_backend_or_none() is None
assert "torch" not in sys.modules
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_charts_are_small():
    assert all(len(chart) < 40_000 for chart in charts())


def test_the_axes_of_a_single_epoch_say_its_number_and_values_that_fit(monkeypatch):
    figure = Figure(figsize=(3.2, 0.84))
    monkeypatch.setattr(drawing, "picture", lambda paint, size, alt: paint(figure))
    curves([0], [Line([0.00015], "#123456")], size=(320.0, 84.0))
    figure.canvas.draw()
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0"]
    left = min(t.get_window_extent().x0 for t in axes.get_yticklabels() if 0 <= t.get_window_extent().y0 <= 84)
    assert left >= 0

    huge = Figure(figsize=(3.2, 1.7))
    monkeypatch.setattr(drawing, "picture", lambda paint, size, alt: paint(huge))
    curves([0, 1], [Line([1e21, 3e21], "#123456")], size=(320.0, 170.0))
    huge.canvas.draw()
    assert not huge.axes[0].yaxis.get_offset_text().get_text()
