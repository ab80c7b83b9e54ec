"""A training curve in plain words: what is normal, what is not, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from autoseg.training.history import History

RECENT = 3  # the last third of the epochs is compared with what came before
SMALL = 0.005  # a gain of pseudo Dice below this is no gain: the patches of one epoch scatter more


def read_history(history: History) -> tuple[str, ...]:
    """What the curves say, one sentence each.

    >>> read_history(History((), ("organ",)))
    ('No epoch is finished yet.',)
    """
    if not history.epochs:
        return ("No epoch is finished yet.",)
    sentences = [*_unseen(history), *_never_predicted(history)]
    if len(history) >= 2 * RECENT:
        sentences += [*_diverging(history), *_overfitting(history)] or _still_gaining(history)
    return tuple(sentences)


def _unseen(history: History) -> list[str]:
    last = zip(history.labels, history.epochs[-1].pseudo_dice, strict=True)
    return [
        f"{name!r} was neither in the sampled validation patches nor predicted there, so its last value is missing."
        for name, dice in last
        if math.isnan(dice)
    ]


def _never_predicted(history: History) -> list[str]:
    last = zip(history.labels, history.epochs[-1].pseudo_dice, strict=True)
    zero = [name for name, dice in last if dice == 0]
    if not zero or len(history) < RECENT:
        return []
    return [
        f"{', '.join(map(repr, zero))}: still 0. Small or rare labels are found later than others; if it stays so, "
        "look at the label maps, or train longer."
    ]


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
