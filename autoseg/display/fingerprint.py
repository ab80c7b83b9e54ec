"""The display of a dataset's fingerprint: how its cases differ in size, spacing, intensity and labels."""

from __future__ import annotations

import warnings

import numpy as np

from autoseg.core.errors import PlanError
from autoseg.data.fingerprint import Fingerprint, IntensityFacts
from autoseg.display import render
from autoseg.display.charts import Mark, histogram, strip
from autoseg.display.colours import colour_of, named
from autoseg.display.html import Html, beside, card, facts, fold, folded_table, join, section, table, tag, text
from autoseg.display.words import count, number, share, times
from autoseg.planning.planner import make_plan

AXES = ("z", "y", "x")
ROWS = 200
LOPSIDED = 0.5  # a histogram with so much in one bin shows nothing; the cases' means on a logarithmic line do
READERS = 4
OUTLIERS = 8
LABELS = 12  # rows that are open
READ = {  # what planning calls the facts that stand under one heading here
    "size": ("median_shape", "fingerprint", "dataset_shape", "cases", "relative_size"),
    "spacing": ("median_spacing", "fine_spacing"),
    "intensities": ("channel", "intensities", "channels"),
    "labels": ("labels",),
}
HEAD = ("smallest", "all cases", "largest", "median")


@render.register
def show_fingerprint(fingerprint: Fingerprint) -> str:
    """How the cases differ: sizes, spacings, intensities and labels, each case a dot."""
    shape, spacing = np.median(fingerprint.shapes, axis=0), np.median(fingerprint.spacings, axis=0)
    flat = bool((fingerprint.shapes[:, 0] == 1).all())
    essence = {
        "cases": f"{len(fingerprint.cases):,}",
        "median shape": times(shape, "voxels"),
        "median spacing": times(spacing, "mm"),
        "left after cropping": share(fingerprint.relative_size),
    }
    channels = enumerate(zip(fingerprint.channels, fingerprint.intensities, strict=True))
    readers = readers_of(fingerprint)
    return card(
        "Fingerprint",
        fingerprint.dataset_name,
        facts(essence),
        section(
            "Size of the cases",
            sizes(fingerprint),
            read_by(readers, "size"),
            hint="voxels; each dot is a case, the bar is the median",
        ),
        section("Spacing", spacings(fingerprint), read_by(readers, "spacing"), hint="mm from voxel to voxel"),
        *(intensities(name, i, fact, fingerprint) for i, (name, fact) in channels),
        read_by(readers, "intensities"),
        section(
            "Labels",
            presence(fingerprint),
            read_by(readers, "labels"),
            hint="voxels of each label in the cases that have it",
        ),
        outlying(fingerprint),
        fold("Cases", case_table(fingerprint), hint=count(len(fingerprint.cases), "case"), long=True),
        note="flat images are one slice each, whose thickness says nothing" if flat else None,
    )


def readers_of(fingerprint: Fingerprint) -> dict[str, list[str]]:
    """Which decisions of a plan with the usual budget read each fact themselves; those build the others."""
    try:
        with warnings.catch_warnings():  # whoever looks at facts has asked for no plan
            warnings.simplefilter("ignore")
            trace = make_plan(fingerprint).trace
    except PlanError:  # facts that allow no plan are still shown
        return {}
    facts_ = {name: fact for fact, names in READ.items() for name in names}
    found: dict[str, list[str]] = {}
    for decision in trace:
        for source in decision.inputs:
            if source.decision is None and source.name in facts_:
                found.setdefault(facts_[source.name], []).append(decision.name)
    return {fact: list(dict.fromkeys(names)) for fact, names in found.items()}


def read_by(readers: dict[str, list[str]], fact: str) -> Html | None:
    """A quiet line with the decisions that read a fact."""
    names = readers.get(fact)
    if not names:
        return None
    shown = join(*(tag("code", name) for name in names[:READERS]), by=", ")
    more = f" and {len(names) - READERS} more" if len(names) > READERS else ""
    return tag("p", tag("small", "read by ", shown, more), class_="as-read")


def outlying(fingerprint: Fingerprint) -> Html | None:
    """Cases far from the others, named."""
    found = fingerprint.outliers()
    if not found:
        return None
    rows = [(o.case, o.fact, number(o.value), number(o.median)) for o in found[:OUTLIERS]]
    more = (
        text(f"and {len(found) - OUTLIERS:,} more; fingerprint.outliers() has all") if len(found) > OUTLIERS else None
    )
    shown = table(("case", "fact", "value", "median of all"), rows, numbers=(2, 3))
    return section("Cases far from the others", shown, more, hint="worth a look: dataset[name].browse()")


def sizes(fingerprint: Fingerprint) -> Html:
    """How many voxels the cases have along each axis."""
    rows = zip(AXES, fingerprint.shapes.T, strict=True)
    return table(("axis", *HEAD), [(axis, *_spread(column)) for axis, column in rows], numbers=(1, 4))


def spacings(fingerprint: Fingerprint) -> Html:
    """How far voxels are apart along each axis; one line where all cases agree."""
    if np.allclose(fingerprint.spacings, fingerprint.spacings[0], rtol=1e-4):
        mark = "; pictures have no slices, and the first number is nnU-Net's mark of that" if fingerprint.planar else ""
        return text(f"every case has {times(fingerprint.spacings[0], 'mm')} (z, y, x){mark}")
    rows = zip(AXES, fingerprint.spacings.T, strict=True)
    return table(("axis", *HEAD), [(axis, *_spread(column)) for axis, column in rows], numbers=(1, 4))


def _spread(values: np.ndarray, colour: str | None = None) -> tuple[object, ...]:
    """Smallest, a dot for each value, largest, median."""
    low, high = float(values.min()), float(values.max())
    dots = strip(values.tolist(), (low, high)) if colour is None else strip(values.tolist(), (low, high), colour=colour)
    return number(low), dots if high > low else "all the same", number(high), number(float(np.median(values)))


def intensities(channel: str, position: int, intensity: IntensityFacts, fingerprint: Fingerprint) -> Html:
    """The foreground intensities of one channel: their distribution and the numbers that normalization reads."""
    numbers = {
        "mean": intensity.mean,
        "deviation": intensity.std,
        "median": intensity.median,
        "0.5% are below": intensity.percentile_00_5,
        "99.5% are below": intensity.percentile_99_5,
        "lowest": intensity.minimum,
        "highest": intensity.maximum,
    }
    shown = facts({name: number(value) for name, value in numbers.items()})
    means = np.array([c.intensity_mean[position] for c in fingerprint.cases if len(c.intensity_mean) > position])
    title = f"Intensities of {channel}"
    if not intensity.histogram or intensity.maximum <= intensity.minimum:
        return section(title, shown, hint="foreground only")
    if max(intensity.histogram) > LOPSIDED and means.size and means.min() > 0:
        return section(title, _scales(means), shown, hint="foreground only; means of the cases on a logarithmic line")
    marks = (
        Mark(intensity.percentile_00_5, "0.5%"),
        Mark(intensity.median, "median"),
        Mark(intensity.percentile_99_5, "99.5%"),
    )
    chart = histogram(intensity.histogram, (intensity.minimum, intensity.maximum), marks, behind=intensity.everywhere)
    hint = (
        "blue: foreground, on which planning is based; grey: all voxels" if intensity.everywhere else "foreground only"
    )
    return section(title, beside(chart, shown), hint=f"{hint}; each case counts the same")


def _scales(means: np.ndarray) -> Html:
    """The cases' mean intensities where they differ by orders of magnitude."""
    low, high = float(means.min()), float(means.max())
    dots = strip(means.tolist(), (low, high), logarithmic=True)
    row = ("mean of a case", number(low), dots, number(high), number(float(np.median(means))))
    return table(("", *HEAD), [row], numbers=(1, 4))


def presence(fingerprint: Fingerprint) -> Html:
    """In how many cases each label occurs, and how large it is there."""
    rows: list[tuple[object, ...]] = []
    for value in fingerprint.labels.foreground:
        found = np.array([c.label_voxels[value] for c in fingerprint.cases if c.label_voxels.get(value)])
        spread = _spread(found, colour_of(value)) if found.size else ("–",) * 4
        rows.append(
            (named(value, fingerprint.labels), f"{found.size:,}\u00a0of\u00a0{len(fingerprint.cases):,}", *spread)
        )
    return folded_table(("label", "in cases", *HEAD), rows, most=LABELS, numbers=(2, 5), more="The other labels")


def case_table(fingerprint: Fingerprint) -> Html:
    """One row a case."""
    rows = [
        (case.name, times(case.shape), times(case.spacing), f"{sum(case.label_voxels.values()):,}")
        for case in fingerprint.cases[:ROWS]
    ]
    shown = table(("case", "shape", "spacing in mm", "labelled voxels"), rows, numbers=(3,))
    rest = len(fingerprint.cases) - ROWS
    return join(shown, text(f"and {rest:,} more; fingerprint.table() has all of them") if rest > 0 else None)
