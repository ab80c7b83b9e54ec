"""What label values stand for: undeclared, missing, twice, in gaps, or stored as colours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import combinations

from autoseg.data import fixes
from autoseg.data.checks.evidence import LISTED, LabelEvidence
from autoseg.data.checks.files import leave_out
from autoseg.data.checks.finding import Finding, Fix
from autoseg.data.checks.label_files import broken, intensities, is_an_image, nonfinite, smeared
from autoseg.data.checks.survey import Check, Survey, cases_of, few
from autoseg.data.labels import FileValue, Labels
from autoseg.data.png import palette_of


def values(survey: Survey) -> Iterator[Finding]:
    """Values, or colours, that the dataset does not declare."""
    unknown = {
        e.name: found
        for e in survey.training
        if e.label
        and not (e.label.broken or e.label.smeared)
        and not is_an_image(e)
        and (found := _unknown(e.label, survey.dataset[e.name].labels))
    }
    if not unknown:
        return
    total: Counter[FileValue] = Counter()
    for found in unknown.values():
        total.update(found)
    names, worst = tuple(unknown), max(unknown, key=lambda n: sum(unknown[n].values()))
    colours = any(isinstance(v, tuple) for v in total)
    every = _sorted(total)
    share = sum(unknown[worst].values())
    yield Finding(
        check="colours" if colours else "values",
        severity="error",
        cases=names,
        message=f"{cases_of(names, len(survey.training))}: the label map holds the "
        f"{'colour' if colours else 'value'}(s) {few(every, 5)}, but dataset.json declares only "
        f"{', '.join(map(str, survey.dataset.labels.permitted))}. "
        "Declare them under 'labels', or read them as labels that there are.",
        advice=f"{share:,} voxels of {worst!r} have one.",
        worst=worst,
        fix=_meaning(survey, every, unknown),
    )


def _unknown(label: LabelEvidence, labels: Labels) -> dict[FileValue, int]:
    known = {key for key, _ in labels.file_values} | set(labels.permitted)
    if label.channels > 1:
        known = {key for key, _ in labels.file_values if isinstance(key, tuple)}
    return {v: n for v, n in label.values.items() if v not in known}


def _sorted(found: Counter[FileValue]) -> list[FileValue]:
    return sorted(found, key=lambda v: v if isinstance(v, tuple) else (v,))


def _meaning(survey: Survey, every: list[FileValue], unknown: dict[str, dict[FileValue, int]]) -> Fix | None:
    """What the values may mean: their numbers in a palette, the declared labels in order where there are as many, or
    labels of their own.
    """
    labels = survey.dataset.labels
    if len(every) >= LISTED:
        return None
    dark = [v for v in every if isinstance(v, tuple) and not any(v)]
    used = {v for _, label in survey.labels for v in label.values} - set(every)
    free = [v for v in labels.permitted if v not in used and (v or dark)]
    if 0 not in used and not dark and len(used | set(every)) == len(labels.permitted):  # counted from 1
        used_in_order = _sorted(Counter(dict.fromkeys((*used, *every), 1)))
        meaning = dict(zip(used_in_order, labels.permitted, strict=True))
        return Fix(
            text=f"reads {used_in_order[0]} as background and the others in order; predictions are written with the "
            "files' own values",
            change=lambda dataset: fixes.relabel(dataset, meaning),
        )
    in_order = dict(zip(every, free, strict=True)) if len(free) == len(every) else {}
    if meaning := _numbers_in_palette(survey, every, unknown) or in_order:
        words = ", ".join(f"{stored} as {labels.name_of(value)}" for stored, value in meaning.items())
        whole = len(unknown) == len(survey.training)
        return Fix(
            text=f"reads {words}; predictions are written with the files' own values",
            change=lambda dataset: fixes.relabel(dataset, meaning, *(() if whole else unknown)),
            safe=len(every) - len(dark) == 1 and meaning == in_order,
        )
    if dark:
        return Fix(
            text=f"reads {few(dark)} as background and declares the other colours as labels of their own",
            change=lambda dataset: fixes.declare_labels(
                fixes.relabel(dataset, {v: 0 for v in dark}), _named(v for v in every if v not in dark)
            ),
        )
    return Fix(
        text=f"declares {few(every, 5)} as {'a label of its own' if len(every) == 1 else 'labels of their own'}",
        change=lambda dataset: fixes.declare_labels(dataset, _named(every)),
    )


def _numbers_in_palette(survey: Survey, colours: list[FileValue], names: Iterable[str]) -> dict[FileValue, int]:
    """What colours are by their numbers in the palette that all files share; nothing where those are no labels."""
    palettes = {palette_of(path) for name in names if (path := survey.dataset[name].label_path)}
    palette = palettes.pop() if len(palettes) == 1 else ()
    numbers: dict[FileValue, int] = {v: palette.index(v) for v in colours if isinstance(v, tuple) and v in palette}
    dark = [number for colour, number in numbers.items() if colour == (0, 0, 0)]
    known = len(numbers) == len(colours) and set(numbers.values()) <= set(survey.dataset.labels.permitted)
    return numbers if known and dark in ([], [0]) else {}


def grey(survey: Survey) -> Iterator[Finding]:
    """Label maps that were stored as colours, though they are grey: read as numbers here, but not everywhere."""
    names = [name for name, label in survey.labels if label.grey]
    if names:
        yield Finding(
            check="colours",
            severity="note",
            cases=tuple(names),
            message=f"{cases_of(names, len(survey.training))}: the label map is stored as a colour picture whose "
            "channels are equal, and read as one channel.",
            advice="nnU-Net's own check says nothing of it.",
            worst=names[0],
        )


def _named(every: Iterable[FileValue]) -> dict[str, FileValue]:
    return {f"label {v if not isinstance(v, tuple) else '-'.join(map(str, v))}": v for v in every}


def empty(survey: Survey) -> Iterator[Finding]:
    """Label maps without foreground, or with nothing that somebody annotated."""
    labels = survey.dataset.labels
    inside = {
        e.name: _inside(e.label, survey.dataset[e.name].labels)
        for e in survey.training
        if e.label and not is_an_image(e)
    }
    blank = [name for name, found in inside.items() if set(found) <= {0} and found]
    if blank:
        yield Finding(
            check="empty",
            severity="warning" if len(blank) < len(survey.training) else "error",
            cases=tuple(blank),
            message=f"{cases_of(blank, len(survey.training))}: the label map holds no foreground at all.",
            advice="Right if there is nothing to find in these images; if they were never annotated, leave them out."
            if len(blank) < len(survey.training)
            else "Nothing can be learned from them.",
            worst=blank[0],
            fix=leave_out(blank) if len(blank) < len(survey.training) else None,
        )
    ignored = [name for name, found in inside.items() if labels.ignore is not None and set(found) == {labels.ignore}]
    if ignored:
        yield Finding(
            check="empty",
            severity="error",
            cases=tuple(ignored),
            message=f"{cases_of(ignored, len(survey.training))}: every voxel has the ignore label.",
            advice="Nothing can be learned from them.",
            worst=ignored[0],
            fix=leave_out(ignored) if len(ignored) < len(survey.training) else None,
        )


def _inside(label: LabelEvidence, labels: Labels) -> dict[int, int]:
    """Voxels of each value as it is read."""
    meant = dict(labels.file_values)
    found: Counter[int] = Counter()
    for value, voxels in label.values.items():
        if value in meant:
            found[meant[value]] += voxels
        elif not isinstance(value, tuple):
            found[round(value)] += voxels
    return dict(found)


def unused(survey: Survey) -> Iterator[Finding]:
    """Labels that no voxel of any case has, and those of a single case."""
    labels = survey.dataset.labels
    having: dict[str, list[str]] = {name: [] for name in labels.regions}
    for e in survey.training:
        found = _inside(e.label, survey.dataset[e.name].labels) if e.label else {}
        for name, members in labels.regions.items():
            if any(found.get(v) for v in members):
                having[name].append(e.name)
    if not any(having.values()) or any(is_an_image(e) for e in survey.training):
        return  # label maps are wrong or empty; that is said already
    never = [name for name, cases in having.items() if not cases]
    if never:
        yield Finding(
            check="unused",
            severity="warning",
            cases=(),
            message=f"{few([repr(n) for n in never], 5)} {'is' if len(never) == 1 else 'are'} declared but "
            f"{'occurs' if len(never) == 1 else 'occur'} in none of {len(survey.training)} cases.",
            advice="No network can learn it. Is it called otherwise in the files?",
            fix=Fix(
                text=f"leaves {few(never)} out of the labels",
                change=lambda dataset: fixes.drop_labels(dataset, *never),
            ),
        )
    for name, cases in having.items():
        if len(cases) == 1 and len(survey.training) > 1:
            yield Finding(
                check="unused",
                severity="note",
                cases=tuple(cases),
                message=f"{name!r} occurs in one case only, {cases[0]!r}: it is either learned or judged, never both.",
                worst=cases[0],
            )


def numbering(survey: Survey) -> Iterator[Finding]:
    """Labels that are not numbered 0, 1, 2 ..., which nnU-Net refuses."""
    found = list(survey.dataset.labels.permitted)
    if found != list(range(len(found))):
        gap = next(i for i, v in enumerate(found) if i != v)
        yield Finding(
            check="numbering",
            severity="note",
            cases=(),
            message=f"the labels are numbered with gaps: {gap} is missing ({few(found, 8)}). nnU-Net refuses this.",
            advice="autoseg works with them as they are.",
            fix=Fix(
                text="numbers them without gaps inside; files keep their values", change=fixes.number_labels, safe=True
            ),
        )


def ambiguous(survey: Survey) -> Iterator[Finding]:
    """Two names for one thing, and regions that are written as a value which stands for nothing."""
    labels = survey.dataset.labels
    alike = [(a, b) for a, b in combinations(labels.names, 2) if labels.names[a] == labels.names[b]]
    for first, second in alike:
        yield Finding(
            check="ambiguous",
            severity="warning",
            cases=(),
            message=f"the labels {first!r} and {second!r} both are {labels.names[first]}.",
            advice="Every voxel of one is one of the other. Is a value wrong?",
        )
    strange = [value for value in labels.region_order if value not in labels.values]
    if labels.has_regions and strange:
        yield Finding(
            check="ambiguous",
            severity="warning",
            cases=(),
            message=f"'regions_class_order' {list(labels.region_order)} writes {few(strange)} into predictions, which "
            f"no label has: the values are {', '.join(map(str, labels.values))}.",
            advice="For each region, give the value that is its alone.",
        )


def remap(survey: Survey) -> Iterator[Finding]:
    """Values of the files that are read as others: good to know, since 255 in a viewer is 1 here."""
    labels = survey.dataset.labels
    moved = [(stored, value) for stored, value in labels.file_values if stored != value]
    if moved:
        words = [f"{stored} as {value} {labels.name_of(value)!r}" for stored, value in moved]
        yield Finding(
            check="remap",
            severity="note",
            cases=(),
            message=f"label files are read with other numbers: {few(words, 4)}.",
            advice="Predictions are written with the files' own values.",
        )


LABELS: tuple[Check, ...] = (
    nonfinite,
    intensities,
    broken,
    smeared,
    values,
    grey,
    empty,
    unused,
    numbering,
    ambiguous,
    remap,
)
