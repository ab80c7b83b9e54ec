"""What stands beside the curves of a training: the example that improves, what was sampled, what was taken over."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoseg.data.geometry import Grid
from autoseg.data.labels import Labels
from autoseg.display import render
from autoseg.display.charts import strip
from autoseg.display.colours import bar, colour_of, colour_of_region, legend, swatch
from autoseg.display.html import Html, card, facts, fold, gallery, join, section, table, tag, text
from autoseg.display.slices import Look, Overlay, panel, view_of
from autoseg.display.words import count, number, score, share, times
from autoseg.training.example import Example
from autoseg.training.repeats import Repeats
from autoseg.training.sampled import Sampled
from autoseg.training.transfer import Match, Transfer

SHOWN = 5  # predictions side by side
WIDTH = 640.0  # page pixels that they take together
HEIGHT = 150.0
BAR = 120


@render.register
def show_example(example: Example) -> str:
    """The predictions of one patch, side by side."""
    return card("Example", example.case, example_row(example, None))


def example_row(example: Example, labels: Labels | None, spacing: Sequence[float] = ()) -> Html:
    """What the network made of one slice after a few epochs, the truth outlined."""
    grid = Grid.of(tuple(example.image.shape), tuple(spacing[-2:]) or (1.0, 1.0))
    view, image, reference = view_of(grid, 0, 0), example.image.numpy(), example.reference.numpy()
    ignore = None if labels is None else labels.ignore
    chosen = _spread(len(example.epochs), SHOWN)
    rows, columns = grid.extent
    scale = min(HEIGHT / rows, (WIDTH / (len(chosen) + 1) - 8) / columns)
    look = Look((0.0, 1.0), scale, letters=False, most=30_000)
    truth = panel(image, grid, view, Overlay(filled=reference, ignore=ignore), look)
    shown = []
    for i in chosen:
        predicted = Overlay(filled=example.predictions[i].numpy(), outlined=reference, ignore=ignore)
        shown.append((panel(image, grid, view, predicted, look), f"after epoch {example.epochs[i]}"))
    key = None if labels is None else legend(labels, "filled: predicted, outlined: true")
    return join(gallery([(truth, "the truth")], *([item] for item in shown)), key)


def _spread(available: int, most: int) -> list[int]:
    """Positions of the first, the last, and some between."""
    return sorted({round(i) for i in np.linspace(0, available - 1, min(most, available))}) if available else []


@render.register
def show_sampled(sampled: Sampled) -> str:
    """How often each label was seen, and what that means for its weight."""
    note = f"{count(sampled.patches, 'patch', 'patches')} of {count(len(sampled.cases), 'case')}"
    return card("Sampled", "what training saw", sampled_table(sampled, None), note=note)


def sampled_table(sampled: Sampled, labels: Labels | None) -> Html:
    """Each label: the share of patches that held it, and its weights in the two terms of the loss."""
    most = max((*sampled.voxel_shares, 1e-9))
    colours = [
        colour_of(i) if labels is None else colour_of_region(labels, name) for i, name in enumerate(sampled.names, 1)
    ]
    rows = [
        (
            join(swatch(colour), " ", name),
            bar(min(patches, 1.0), share(patches), colour=colour, width=BAR),
            bar(voxels / most, share(voxels), colour=colour, width=BAR),
            share(sampled.dice_weight),
        )
        for name, colour, patches, voxels in zip(
            sampled.names, colours, sampled.patch_shares, sampled.voxel_shares, strict=True
        )
    ]
    head = ("label", "in so many patches", "share of all voxels: its weight in the cross-entropy", "weight in Dice")
    return join(
        table(head, rows, numbers=(3,)),
        text(
            "Nothing is weighted by hand: Dice counts every label alike, however small; cross-entropy counts every "
            "voxel alike. A label is seen more often with a larger ",
            tag("code", "foreground_fraction"),
            " or a sampler of your own.",
        ),
        _cases(sampled),
    )


def _cases(sampled: Sampled) -> Html | None:
    if not sampled.cases:
        return None
    counts = sorted(sampled.cases.items(), key=lambda item: item[1])
    fewest, most = counts[0], counts[-1]
    return section(
        "Patches of each case",
        strip([n for _, n in counts], (0, most[1])),
        text(f"From {fewest[1]} ({fewest[0]}) to {most[1]} ({most[0]}): nnU-Net draws evenly, the rest is chance."),
        hint="a dot a case",
    )


@render.register
def show_transfer(transfer: Transfer) -> str:
    """Which weights came from another model."""
    return card("Fine-tuning", transfer.source, *transfer_parts(transfer))


def transfer_parts(transfer: Transfer) -> list[Html]:
    """How many weights were taken over, which were not and why, and all of them behind a fold."""
    essence = {"taken over": f"{transfer.taken} of {len(transfer.matches)}", "start fresh": len(transfer.left)}
    everything = fold("All weights", _matches(transfer.matches), hint=str(len(transfer.matches)), long=True)
    left = section("Start fresh", _matches(transfer.left)) if transfer.left else None
    return [part for part in (facts(essence), left, everything) if part is not None]


def _matches(matches: Sequence[Match]) -> Html:
    rows = [
        (tag("code", m.name), times(m.shape) or "1", "–" if m.theirs is None else times(m.theirs) or "1", m.outcome)
        for m in matches
    ]
    return table(("weight", "here", "there", "outcome"), rows)


@render.register
def show_repeats(repeats: Repeats) -> str:
    """The spread over seeds."""
    head = ("seed", "pseudo Dice", "Dice of whole cases", "loss")
    rows = [
        (seed, score(last.mean_pseudo_dice), score(last.mean_case_dice), number(last.training_loss))
        for seed, last in zip(repeats.seeds, repeats.last, strict=True)
    ]
    essence = {
        "pseudo Dice": f"{score(repeats.mean)} ± {score(repeats.spread)}",
        "lowest to highest": f"{score(min(repeats.values))} to {score(max(repeats.values))}",
    }
    told = text(
        "Same data, same blueprint, another seed: a difference between two methods that is smaller than this spread "
        "says nothing."
    )
    return card(
        "Repeats", count(len(repeats.seeds), "seed"), facts(essence), table(head, rows, numbers=(0, 1, 2, 3)), told
    )
