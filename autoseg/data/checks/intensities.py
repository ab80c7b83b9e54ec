"""Intensities: not a number, nothing to see, on another scale than the rest, of another kind than declared."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from autoseg.data import fixes
from autoseg.data.checks.evidence import AIR, ChannelEvidence
from autoseg.data.checks.files import leave_out
from autoseg.data.checks.finding import Finding, Fix, Picture
from autoseg.data.checks.survey import Check, Survey, cases_of
from autoseg.data.dataset import Case, Dataset
from autoseg.data.formats import PHOTOGRAPHS, STACKS

FAR = 8.0  # times wider or narrower than the median case
ENOUGH = 4  # cases, to say what is usual


def nonfinite(survey: Survey) -> Iterator[Finding]:
    """NaN and infinite voxels."""
    wrong = [
        (name, number, channel)
        for name, image in survey.images
        for number, channel in enumerate(image.channels)
        if channel.nonfinite
    ]
    if not wrong:
        return
    name, number, channel = max(wrong, key=lambda found: found[2].nonfinite)
    names = list(dict.fromkeys(n for n, _, _ in wrong))
    more = f" So in {len(names)} cases." if len(names) > 1 else ""
    lowest = min(c.minimum for _, _, c in wrong)
    yield Finding(
        check="nonfinite",
        severity="error",
        cases=tuple(names),
        message=f"case {name!r}: {channel.nonfinite} voxels of the image are NaN or infinite, the first at "
        f"{channel.first_nonfinite} of channel {survey.dataset.channels[number]!r}.{more}",
        advice=f"Where nothing was measured, the lowest intensity ({lowest:g}) can take their place.",
        worst=name,
        fix=Fix(
            text=f"reads them as {lowest:g}",
            change=lambda dataset: fixes.fill_nonfinite(dataset, lowest, *names),
        ),
        draw=lambda dataset: _where_nonfinite(dataset[name], number),
    )


def _where_nonfinite(case: Case, number: int) -> tuple[Picture, ...]:
    image = case.image()
    marked = ~np.isfinite(image.array[number])
    return (Picture(title="what is not a number", image=image, labels=marked.astype(np.uint8)),)


def constant(survey: Survey) -> Iterator[Finding]:
    """Channels with one intensity everywhere."""
    for number, channel in enumerate(survey.dataset.channels):
        blank = [n for n, i in survey.images if number < len(i.channels) and i.channels[number].constant]
        if blank:
            value = next(i.channels[number].minimum for n, i in survey.images if n == blank[0])
            yield Finding(
                check="constant",
                severity="warning",
                cases=tuple(blank),
                message=f"{cases_of(blank, len(survey.training))}: channel {channel!r} is {value:g} everywhere, "
                "so there is nothing to see in it.",
                advice="Was the file exported empty? nnU-Net says nothing of it.",
                worst=blank[0],
                fix=leave_out(blank) if len(blank) < len(survey.training) else None,
            )


def scale(survey: Survey) -> Iterator[Finding]:
    """Cases whose intensities lie on another scale: times 1000, or 16 bits beside 8."""
    for number, channel in enumerate(survey.dataset.channels):
        widths = {name: c.width for name, c in survey.channel(number).items() if c.width > 0}
        if len(widths) < ENOUGH:
            continue
        usual = float(np.median(list(widths.values())))
        far = {n: w / usual for n, w in widths.items() if not 1 / FAR < w / usual < FAR}
        if not far:
            continue
        worst = max(far, key=lambda n: abs(np.log(far[n])))
        names, factors = tuple(far), np.array(list(far.values()))
        factor, alike = float(np.median(factors)), float(factors.max() / factors.min()) < 2
        bits = _bits(survey, number)
        yield Finding(
            check="scale",
            severity="warning" if bits or channel.lower() == "ct" else "note",
            cases=names,
            message=f"in {cases_of(names, len(survey.training))} intensities of {channel!r} spread {far[worst]:.3g} "
            f"times as far as in the median case ({widths[worst]:.4g} against {usual:.4g} in {worst!r}).{bits}",
            advice="Usual in MR, where a z-score a case forgives it; in CT something is wrong with the files.",
            worst=worst,
            fix=Fix(
                text=f"divides them by {factor:.4g}",
                change=partial(_divide, factor=factor, names=names),
            )
            if alike
            else None,
        )


def _divide(dataset: Dataset, factor: float, names: tuple[str, ...]) -> Dataset:
    return fixes.rescale(dataset, 1 / factor, *names)


def _bits(survey: Survey, number: int) -> str:
    """Whether 8 and 16 bits were mixed."""
    pixels = survey.dataset.training[0].file_ending
    highest = {n: c.maximum for n, c in survey.channel(number).items() if c.whole}
    few_bits = [n for n, value in highest.items() if value <= 255]
    if pixels in (*PHOTOGRAPHS, *STACKS) and few_bits and len(few_bits) < len(highest) == len(survey.images):
        return " Files with 8 bits a pixel are mixed with files of 16."
    return ""


def modality(survey: Survey) -> Iterator[Finding]:
    """CT that is declared as something else, and the reverse."""
    for number, channel in enumerate(survey.dataset.channels):
        seen = survey.channel(number)
        if not seen:
            continue
        declared_ct = channel.lower() == "ct"
        like_ct = [name for name, c in seen.items() if _looks_like_ct(c)]
        if not declared_ct and len(like_ct) > len(seen) / 2:
            yield _modality(survey, number, tuple(like_ct), to="CT")
        if declared_ct and all(c.minimum >= 0 for c in seen.values()):
            yield _modality(survey, number, tuple(seen), to="MRI")


def _looks_like_ct(channel: ChannelEvidence) -> bool:
    """Whole numbers with air far below zero and a body around it: nothing but Hounsfield units looks so."""
    return channel.whole and -3100 <= channel.minimum <= -900 and channel.air > 0.005 and channel.high < 5000


def _modality(survey: Survey, number: int, names: tuple[str, ...], *, to: str) -> Finding:
    channels = list(survey.dataset.channels)
    declared = channels[number]
    lowest = [c.minimum for c in survey.channel(number).values()]
    air = float(np.median([c.air for c in survey.channel(number).values()]))
    channels[number] = to
    if to == "CT":
        evidence = (
            f"{cases_of(names, len(survey.training))} hold whole numbers down to {min(lowest):g}, {air:.0%} of the "
        )
        evidence += f"voxels below {AIR}: Hounsfield units, as only CT has them"
        advice = "Call the channel 'CT', and it is normalized with the numbers of the whole dataset."
    else:
        evidence = f"no case has a negative intensity (lowest {min(lowest):g}), and CT has air at -1000 and fat at -100"
        advice = "If it is not CT, or 1024 was added, name the channel otherwise: each case gets a z-score of its own."
    return Finding(
        check="modality",
        severity="warning",
        cases=names,
        message=f"channel {declared!r} does not look like what it is called: {evidence}.",
        advice=advice,
        worst=names[0],
        fix=Fix(
            text=f"calls the channel {to!r}",
            change=lambda dataset: fixes.declare_channels(dataset, *channels),
        ),
    )


INTENSITIES: tuple[Check, ...] = (nonfinite, constant, scale, modality)
