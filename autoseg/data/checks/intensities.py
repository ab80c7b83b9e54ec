"""Intensities: not a number, nothing to see, on another scale than the rest, of another kind than declared."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from autoseg.core.numbers import number as written
from autoseg.data import fixes
from autoseg.data.checks.evidence import AIR, ChannelEvidence
from autoseg.data.checks.files import leave_out
from autoseg.data.checks.finding import Finding, Fix, Picture, channels_of
from autoseg.data.checks.survey import ENOUGH, Check, Survey, cases_of, factor, few
from autoseg.data.dataset import Case, Dataset
from autoseg.data.formats import PHOTOGRAPHS, STACKS
from autoseg.data.images import Image

FAR = 8.0  # times wider or narrower than the median case
HOPELESS = 100.0  # times, which no scanner explains
NARROW = 20.0  # Hounsfield units between the percentiles; the noise of a CT alone spreads further
STORED = 1024  # what is often added to Hounsfield units, so that none is negative


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
    channel = image.array[number]
    alone = Image(channel[None], image.grid, (image.channels[number],))
    return (Picture(title="what is not a number", image=alone, labels=(~np.isfinite(channel)).astype(np.uint8)),)


def constant(survey: Survey) -> Iterator[Finding]:
    """Channels with one intensity everywhere."""
    for number, channel in enumerate(survey.dataset.channels):
        blank = [n for n, i in survey.images if number < len(i.channels) and i.channels[number].constant]
        if blank:
            found = list(dict.fromkeys(f"{i.channels[number].minimum:g}" for n, i in survey.images if n in blank))
            what = f"is {found[0]}" if len(found) == 1 else f"has one intensity a case ({few(found)})"
            yield Finding(
                check="constant",
                severity="warning",
                cases=tuple(blank),
                message=f"{cases_of(blank, len(survey.training))}: channel {channel!r} {what} everywhere, so there is "
                "nothing to see in it.",
                advice="Was the file exported empty? nnU-Net says nothing of it.",
                worst=blank[0],
                draw=channels_of(blank[0], number),
                fix=leave_out(blank) if len(blank) < len(survey.training) else None,
            )


def scale(survey: Survey) -> Iterator[Finding]:
    """Cases whose intensities lie on another scale: times 1000, or 16 bits beside 8."""
    for number, channel in enumerate(survey.dataset.channels):
        widths = {name: c.width for name, c in survey.channel(number).items() if c.width > 0}
        strange = _strange(survey, number)
        if len(strange) <= len(widths) / 2:  # another finding speaks of them
            widths = {name: width for name, width in widths.items() if name not in strange}
        if len(widths) < ENOUGH:
            continue
        usual = float(np.median(list(widths.values())))
        far = {n: w / usual for n, w in widths.items() if not 1 / FAR < w / usual < FAR}
        if not far:
            continue
        worst = max(far, key=lambda n: abs(np.log(far[n])))
        names, factors = tuple(far), np.array(list(far.values()))
        usually, alike = float(np.median(factors)), float(factors.max() / factors.min()) < 2
        bits = _bits(survey, number)
        alone = _hopeless(far[worst]) and len(far) <= max(1, 0.05 * len(widths))  # two scanners may differ as much
        yield Finding(
            check="scale",
            severity="warning" if bits or channel.lower() == "ct" or alone else "note",
            cases=names,
            message=f"in {cases_of(names, len(survey.training))} intensities of {channel!r} spread "
            f"{factor(far[worst])} times as far as in the median case (in {worst!r} {written(widths[worst], 4)} "
            f"against {written(usual, 4)}).{bits}",
            advice="No scanner explains so much: is it in another unit, or another kind of image?"
            if alone
            else "Usual in MR, where a z-score a case forgives it; in CT something is wrong with the files.",
            worst=worst,
            draw=channels_of(worst, number),
            fix=Fix(
                text=f"divides them by {usually:.4g}",
                change=partial(_divide, factor=usually, names=names, channel=channel),
            )
            if alike
            else None,
        )


def _hopeless(factor: float) -> bool:
    return not 1 / HOPELESS < factor < HOPELESS


def _divide(dataset: Dataset, factor: float, names: tuple[str, ...], channel: str) -> Dataset:
    return fixes.rescale(dataset, 1 / factor, *names, channel=channel)


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
        strange = _strange(survey, number)
        if strange and len(strange) > len(seen) / 2 and (not declared_ct or len(strange) == len(seen)):
            yield _modality(survey, number, tuple(strange), to="MRI" if declared_ct else "CT")
        elif strange and declared_ct:
            yield _odd_ones(survey, number, strange, "holds no Hounsfield units; the others do")
        elif strange:
            yield _odd_ones(survey, number, strange, "holds Hounsfield units, as only CT has them; the others do not")


def _strange(survey: Survey, number: int) -> list[str]:
    """Cases that do not look like what their channel is called: CT or something else."""
    seen = survey.channel(number)
    if survey.dataset.channels[number].lower() == "ct":
        return [name for name, c in seen.items() if c.minimum >= 0 or c.width < NARROW]
    return [name for name, c in seen.items() if _looks_like_ct(c)]


def _looks_like_ct(channel: ChannelEvidence) -> bool:
    """Air far below zero and a body around it, in whole numbers where it was not resampled: only CT looks so."""
    airy = -3100 <= channel.minimum <= -900 and channel.air > 0.005
    return airy and (channel.whole or channel.low < -900) and channel.high < 5000


def _odd_ones(survey: Survey, number: int, names: list[str], what: str) -> Finding:
    """Some cases of another kind than the rest; a CT that was stored from 0 can be put right."""
    seen = survey.channel(number)
    channel, worst = survey.dataset.channels[number], names[0]
    rest = float(np.median([c.minimum for name, c in seen.items() if name not in names]))
    away = [seen[name].minimum - rest for name in names]
    stored = channel.lower() == "ct" and all(0.9 * STORED < distance < 1.1 * STORED for distance in away)
    return Finding(
        check="modality",
        severity="warning",
        cases=tuple(names),
        message=f"{cases_of(names, len(survey.training))}: channel {channel!r} {what} (lowest intensity "
        f"{seen[worst].minimum:g} in {worst!r}, usually {rest:g}).",
        advice=f"It looks as if {STORED} had been added." if stored else "Does this image belong here?",
        worst=worst,
        draw=channels_of(worst, number),
        fix=Fix(
            text=f"subtracts {STORED}",
            change=lambda dataset: fixes.shift(dataset, -STORED, *names, channel=channel),
        )
        if stored
        else leave_out(names),
    )


def _modality(survey: Survey, number: int, names: tuple[str, ...], *, to: str) -> Finding:
    channels = list(survey.dataset.channels)
    declared = channels[number]
    lowest = [c.minimum for c in survey.channel(number).values()]
    air = float(np.median([c.air for c in survey.channel(number).values()]))
    channels[number] = to
    if to == "CT":
        kind = "whole numbers" if all(survey.channel(number)[n].whole for n in names) else "intensities"
        evidence = f"{cases_of(names, len(survey.training))} hold {kind} down to {min(lowest):g}, {air:.0%} of the "
        evidence += f"voxels below {AIR}: Hounsfield units, as only CT has them"
        advice = "Call the channel 'CT', and it is normalized with the numbers of the whole dataset."
    else:
        width = max(c.width for c in survey.channel(number).values())
        evidence = f"no case has a negative intensity (lowest {min(lowest):g})"
        evidence = evidence if min(lowest) >= 0 else f"intensities spread over {width:.3g} at most"
        evidence += ", and CT has air at -1000 and fat at -100"
        advice = "If it is not CT, or 1024 was added, name the channel otherwise: each case gets a z-score of its own."
    return Finding(
        check="modality",
        severity="warning",
        cases=names,
        message=f"channel {declared!r} does not look like what it is called: {evidence}.",
        advice=advice,
        worst=names[0],
        draw=channels_of(names[0], number),
        fix=Fix(
            text=f"calls the channel {to!r}",
            change=lambda dataset: fixes.declare_channels(dataset, *channels),
        ),
    )


INTENSITIES: tuple[Check, ...] = (nonfinite, constant, scale, modality)
