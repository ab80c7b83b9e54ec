"""A training curve in plain words: what is normal, what is not, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from autoseg.core.types import count, listed
from autoseg.training.history import History

RECENT = 3  # the last third of the epochs is compared with what came before
SMALL = 0.005  # a gain of pseudo Dice below this is no gain: the patches of one epoch scatter more
NEVER = 0.02  # of the patches: a label in fewer is hardly learned
TOLD = 150  # patches before a label's absence says something: at 2% three of them should have held it
NAMED = 4  # labels that a sentence names; of more it says how many
HARDLY = 0.1  # a Dice below this: the label is hardly found
SHORT = 1000  # steps: fewer say little about what the method could do
APART = 0.1  # between patches and whole cases, beyond which it is worth a word
LINES = {
    "training loss": "Dice plus cross-entropy on augmented patches. It begins near +1 and can at best reach -1.",
    "validation loss": "the same on patches of cases that are not trained on, and without augmentation; it may well be "
    "the lower one, because these patches are easier.",
    "pseudo Dice": "all validation patches counted as one image: good to follow training by, not the Dice of whole "
    "cases. A label that no patch held has no value, and its line a gap.",
    "whole cases": "a few validation cases predicted by sliding window, as prediction does it: the true Dice, on the "
    "grid of the plan. evaluate() measures it on all cases and on their own grids.",
    "learning rate": "how far each step goes. It falls to zero at the end, where the Dice usually makes its last gain.",
}


def read_history(history: History) -> tuple[str, ...]:
    """What the curves say, one sentence each.

    >>> read_history(History((), ("organ",)))
    ('No epoch is finished yet.',)
    """
    if not history.epochs:
        return ("No epoch is finished yet.",)
    sentences = [*_not_sampled(history), *_unseen(history), *_never_predicted(history), *_hardly_found(history)]
    if len(history) < 2 * RECENT:
        sentences.insert(0, _beginning(history))
    if len(history) >= 2 * RECENT:
        sentences += [*_diverging(history), *_overfitting(history)] or _still_gaining(history)
        sentences += _whole_cases(history)
    return tuple(sentences)


def _beginning(history: History) -> str:
    first, last = history.epochs[0].training_loss, history.epochs[-1].training_loss
    if len(history) > 1 and last >= first:
        return (
            f"These are the first epochs, and the training loss does not fall yet ({first:.2f} to {last:.2f}): "
            "normal for two or three of them, not for more."
        )
    return "These are the first epochs: it is normal that the lines move much and that small labels are still at 0."


def _not_sampled(history: History) -> list[str]:
    """Labels that the training patches hardly held, over all epochs that tell."""
    told = [e for e in history.epochs if e.holding]
    patches = sum(e.patches for e in told)
    if not patches:
        return []
    shares = (np.array([e.holding for e in told]).T @ np.array([e.patches for e in told]) / patches).tolist()
    sampled = f"the {patches:,} sampled training patches"
    never = [name for name, share in zip(history.labels, shares, strict=True) if share == 0]
    rare = {n: share for n, share in zip(history.labels, shares, strict=True) if 0 < share < NEVER}
    sentences = []
    if rare and patches >= TOLD:
        few = f"in {max(rare.values()):.1%}" if len(rare) == 1 else f"each in less than {NEVER:.0%}"
        them = "it is" if len(rare) == 1 else "they are"
        sentences.append(
            f"{_named(list(rare))} {few} of {sampled}, too few to learn {'it' if len(rare) == 1 else 'them'}: raise "
            f"foreground_fraction, or check that {them} annotated in the training cases."
        )
    if never:
        why = f": no training case seems to hold {'it' if len(never) == 1 else 'them'}"
        sentences.append(f"{_named(never)} in none of {sampled}{why if patches >= TOLD else ' yet'}.")
    return sentences


def _named(labels: Sequence[str]) -> str:
    """The subject of a sentence, with its verb: "'a' was", "'a', 'b' and 3 others were"."""
    names = [repr(name) for name in labels[:NAMED]]
    others = len(labels) - len(names)
    if others:
        return f"{', '.join(names)} and {others} {'other' if others == 1 else 'others'} were"
    return f"{' and '.join(filter(None, (', '.join(names[:-1]), names[-1])))} {'was' if len(names) == 1 else 'were'}"


def _whole_cases(history: History) -> list[str]:
    """Patches that look much better, or worse, than whole cases."""
    last = history.validated[-1] if history.validated else None
    if last is None or not abs(last.mean_pseudo_dice - last.mean_case_dice) > APART:
        return []
    if last.mean_case_dice < last.mean_pseudo_dice:
        why = "far from the labels the network sees things in them that patches around labels do not show"
    else:
        why = "patches show labels cut at their edges"
    return [
        f"On whole cases the Dice is {last.mean_case_dice:.2f}, on patches {last.mean_pseudo_dice:.2f}: {why}. "
        "Believe the whole cases."
    ]


def _unseen(history: History) -> list[str]:
    last = zip(history.labels, history.epochs[-1].pseudo_dice, strict=True)
    missing = [name for name, dice in last if math.isnan(dice)]
    if not missing:
        return []
    value = "its last value is" if len(missing) == 1 else "their last values are"
    return [f"{_named(missing)} neither in the sampled validation patches nor predicted there, so {value} missing."]


def _never_predicted(history: History) -> list[str]:
    last = zip(history.labels, history.epochs[-1].pseudo_dice, strict=True)
    zero = [name for name, dice in last if dice == 0]
    if not zero or len(history) < RECENT:
        return []
    names = _named(zero).rpartition(" ")[0]
    return [
        f"{names}: still 0. Small or rare labels are found later than others; if it stays so, look at the label maps, "
        "or train longer."
    ]


def _hardly_found(history: History) -> list[str]:
    """Labels that are predicted, but almost nowhere right, after few steps."""
    last = zip(history.labels, history.epochs[-1].pseudo_dice, strict=True)
    steps = sum(epoch.iterations for epoch in history.epochs)
    hardly = [f"{name!r} is hardly found (Dice {dice:.2f})" for name, dice in last if 0 < dice < HARDLY]
    if not hardly or steps >= SHORT:
        return []
    return [f"{listed(hardly)}: {count(steps, 'step')} were too few; try more minutes."]


def _split(values: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """What came before, and the last third."""
    array = np.asarray(values, float)
    cut = len(array) - max(len(array) // RECENT, 1)
    return array[:cut], array[cut:]


def _diverging(history: History) -> list[str]:
    before, recent = _split([e.training_loss for e in history.epochs])
    if recent.mean() <= before.min() + 0.1:
        return []
    return [
        f"The training loss rose from {before.min():.2f} to {recent.mean():.2f}: "
        "the learning rate is probably too high. Try a third of it."
    ]


def _overfitting(history: History) -> list[str]:
    train_before, train_recent = _split([e.training_loss for e in history.epochs])
    before, recent = _split([e.validation_loss for e in history.epochs])
    if not (train_recent.mean() < train_before.min() and recent.mean() > before.min() + 0.05):
        return []
    return [
        f"The training loss still falls, but the validation loss rose from {before.min():.2f} to {recent.mean():.2f}: "
        "the network learns the training cases by heart. More cases or stronger augmentation help, more epochs do not."
    ]


def _still_gaining(history: History) -> list[str]:
    before, recent = _split([e.mean_pseudo_dice for e in history.epochs])
    if np.isnan(before).all() or np.isnan(recent).all():
        return []
    gain = float(np.nanmax(recent) - np.nanmax(before))
    if gain > SMALL:
        return [f"The pseudo Dice still rose by {gain:.3f} in the last third: more time would probably help."]
    return ["The pseudo Dice no longer rises: more time with this recipe would gain little."]
