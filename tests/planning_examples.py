"""Fingerprints to plan for, made of a few numbers."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from autoseg.data.case_facts import CaseFacts
from autoseg.data.fingerprint import Fingerprint, IntensityFacts
from autoseg.data.labels import Labels

FACTS = IntensityFacts(
    mean=80.0, std=120.0, median=75.0, minimum=-900.0, maximum=900.0, percentile_00_5=-500.0, percentile_99_5=600.0
)


def fingerprint_of(
    shape: Sequence[int],
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    *,
    cases: int = 20,
    channels: Sequence[str] = ("MRI",),
    foreground: int = 2,
    relative_size: float = 1.0,
) -> Fingerprint:
    """All cases alike."""
    return fingerprint_from(
        [(tuple(shape), tuple(spacing))] * cases,
        channels=channels,
        foreground=foreground,
        relative_size=relative_size,
    )


def fingerprint_from(
    cases: Sequence[tuple[tuple[int, ...], tuple[float, ...]]],
    *,
    channels: Sequence[str] = ("MRI",),
    foreground: int = 2,
    relative_size: float = 1.0,
) -> Fingerprint:
    """One (shape, spacing) a case."""
    return Fingerprint(
        dataset_name="Example",
        channels=tuple(channels),
        labels=Labels({"background": 0, **{f"label {i}": i for i in range(1, foreground + 1)}}),
        cases=tuple(
            CaseFacts(name=f"case_{i}", shape=shape, cropped_shape=shape, spacing=spacing, relative_size=relative_size)
            for i, (shape, spacing) in enumerate(cases)
        ),
        intensities=(FACTS,) * len(channels),
    )


@st.composite
def fingerprints(draw: st.DrawFn) -> Fingerprint:
    """Datasets of all sizes and spacings, planar ones too."""
    edges = st.integers(6, 400)
    shape = draw(st.tuples(st.one_of(st.just(1), edges), edges, edges))
    fine = st.floats(0.2, 3.0)
    spacing = (999.0, 1.0, 1.0) if shape[0] == 1 else draw(st.tuples(st.floats(0.2, 9.0), fine, fine))
    channels = draw(st.lists(st.sampled_from(["CT", "MRI", "T2", "noNorm"]), min_size=1, max_size=3))
    return fingerprint_of(
        shape,
        spacing,
        cases=draw(st.integers(2, 40)),
        channels=channels,
        foreground=draw(st.integers(1, 9)),
        relative_size=draw(st.floats(0.05, 1.0)),
    )
