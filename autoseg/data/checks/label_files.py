"""Whether a label file holds labels at all: voxels that are NaN, fractions, intensities, or smeared by a JPEG."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from autoseg.data import fixes
from autoseg.data.checks.evidence import Evidence
from autoseg.data.checks.files import leave_out
from autoseg.data.checks.finding import Finding, Fix
from autoseg.data.checks.survey import Survey, cases_of, few
from autoseg.data.label_values import APART, FEW, FLAT

ROUNDED = 0.01  # how far from a whole number a value may be that was only stored as a float


def nonfinite(survey: Survey) -> Iterator[Finding]:
    """NaN or infinite voxels in label maps, of which nnU-Net says nothing."""
    wrong = {name: label.nonfinite for name, label in survey.labels if label.nonfinite}
    if wrong:
        worst = max(wrong, key=lambda n: wrong[n])
        names = tuple(wrong)
        yield Finding(
            check="label_nonfinite",
            severity="error",
            cases=names,
            message=f"{cases_of(names, len(survey.training))}: the label map holds NaN or infinite voxels, "
            f"{wrong[worst]} in {worst!r}.",
            advice="They can be read as background, if that is what they are.",
            worst=worst,
            fix=Fix(
                text="reads them as background",
                change=lambda dataset: fixes.round_labels(dataset, *names),
            ),
        )


def intensities(survey: Survey) -> Iterator[Finding]:
    """Images that lie where label maps should."""
    wrong = [e for e in survey.training if e.label and is_an_image(e)]
    if wrong:
        first = wrong[0]
        assert first.label
        copied = " It is the image itself." if first.copied else ""
        names = [e.name for e in wrong]
        yield Finding(
            check="intensities",
            severity="error",
            cases=tuple(names),
            message=f"{cases_of(names, len(survey.training))}: the label map holds {first.label.distinct:,} different "
            f"values, and only {first.label.flatness:.0%} of neighbouring voxels agree: these are intensities.{copied}",
            advice="Was the image saved under the label map's name?",
            worst=first.name,
            fix=leave_out(names) if len(wrong) < len(survey.training) else None,
        )


def is_an_image(e: Evidence) -> bool:
    """Whether many values lie beside each other without order, as in no label map."""
    label = e.label
    if label is None or label.smeared:
        return False
    return label.channels == 1 and (e.copied or (label.distinct > FEW and label.flatness < FLAT))


def broken(survey: Survey) -> Iterator[Finding]:
    """Values between whole numbers."""
    wrong = {e.name: e.label for e in survey.training if e.label and e.label.broken and not is_an_image(e)}
    if not wrong:
        return
    worst = max(wrong, key=lambda n: wrong[n].broken)
    farthest = max(label.farthest for label in wrong.values())
    names = tuple(wrong)
    rounding = farthest <= ROUNDED
    whose = f"of {worst!r} " if len(names) > 1 else ""
    yield Finding(
        check="broken",
        severity="error",
        cases=names,
        message=f"{cases_of(names, len(survey.training))}: {wrong[worst].broken} voxels of the label map {whose}"
        f"are not whole numbers, up to {farthest:.3g} away from one.",
        advice="They were only stored so; rounding loses nothing."
        if rounding
        else "Was it interpolated? Resample label maps by nearest neighbour; rounding gives wrong labels at borders.",
        worst=worst,
        fix=Fix(
            text="rounds them",
            change=lambda dataset: fixes.round_labels(dataset, *names),
            safe=rounding,
        ),
    )


def smeared(survey: Survey) -> Iterator[Finding]:
    """JPEGs, whose values lie around those that were saved."""
    names = [name for name, label in survey.labels if label.smeared]
    if names:
        stored = survey.dataset.labels.stored
        numbers = sorted(v for v in stored if not isinstance(v, tuple))
        apart = all(high - low >= APART for low, high in pairwise(numbers))
        yield Finding(
            check="smeared",
            severity="error",
            cases=tuple(names),
            message=f"{cases_of(names, len(survey.training))}: the label map is a JPEG, which smears values: there are "
            f"others than {few(stored, 5)}.",
            advice="Save label maps as PNG."
            if apart
            else "Declare the values that were saved, 0 and 255 for example: these lie too near to be told apart.",
            worst=names[0],
            fix=Fix(
                text="reads each voxel as the nearest",
                change=lambda dataset: fixes.nearest_labels(dataset, *names),
                safe=len(stored) == 2,  # between two labels smeared values may look like a third
            )
            if apart
            else None,
        )
