"""Curves are read as a teacher would read them."""

from __future__ import annotations

import math

import pytest

from autoseg.training.history import EpochRecord, History
from autoseg.training.reading import read_history


def history(training, validation=None, dice=None, labels=("organ",), **changes):
    validation = validation or training
    dice = dice or [(0.5,)] * len(training)
    records = [
        EpochRecord(
            number=i,
            iterations=1,
            seconds=i,
            training_loss=t,
            validation_loss=v,
            pseudo_dice=d,
            learning_rate=0.1,
            timings={},
            **changes,
        )
        for i, (t, v, d) in enumerate(zip(training, validation, dice, strict=True))
    ]
    return History(tuple(records), labels)


FALLING = [0.9, 0.7, 0.5, 0.3, 0.1, 0.0, -0.1, -0.2, -0.3]


@pytest.mark.parametrize(
    ("curves", "sentence"),
    [
        (history(FALLING, dice=[(i / 10,) for i in range(9)]), "still rose by 0.300 in the last third"),
        (history(FALLING, dice=[(0.8,)] * 9), "no longer rises"),
        (history(FALLING, [0.9, 0.7, 0.5, 0.4, 0.4, 0.5, 0.6, 0.7, 0.8]), "learns the training cases by heart"),
        (history([0.9, 0.5, 0.3, 0.2, 0.2, 0.5, 0.9, 1.2, 1.5]), "learning rate is probably too high"),
        (history(FALLING, dice=[(math.nan,)] * 9), "'organ' was neither in the sampled validation patches"),
        (history(FALLING, dice=[(0.0,)] * 9), "'organ': still 0"),
        (history(FALLING, patches=100, holding=(0.0,)), "'organ' was in none of the 900 sampled training patches"),
        (history(FALLING, patches=100, holding=(0.01,)), "'organ' was in 1.0% of the 900 sampled training patches"),
        (history(FALLING, dice=[(0.8,)] * 9, case_dice=(0.5,)), "On whole cases the Dice is 0.50, on patches 0.80"),
        (history(FALLING, dice=[(0.03,)] * 9), "'organ' is hardly found (Dice 0.03): 9 steps were too few; try more"),
        (history([0.9, 0.5]), "it is normal that the lines move much"),
        (history([0.9, 0.95]), "the training loss does not fall yet (0.90 to 0.95)"),
    ],
    ids=[
        "rising",
        "plateau",
        "overfit",
        "diverging",
        "unseen",
        "zero",
        "unsampled",
        "rare",
        "whole",
        "hardly",
        "start",
        "rough",
    ],
)
def test_each_kind_of_curve_has_its_sentence(curves, sentence):
    assert any(sentence in line for line in read_history(curves))


def test_a_healthy_curve_raises_no_alarm():
    (only,) = read_history(history(FALLING, dice=[(i / 10,) for i in range(9)]))
    assert "more time would probably help" in only


MANY = tuple(f"c{i}" for i in range(1, 8))


def test_many_labels_share_a_sentence():
    curves = history(FALLING, dice=[(math.nan,) * 7] * 9, labels=MANY, patches=100, holding=(0.0,) * 7)
    lines = read_history(curves)
    assert (
        "'c1', 'c2', 'c3', 'c4' and 3 others were in none of the 900 sampled training patches: no training" in lines[0]
    )
    assert "'c1', 'c2', 'c3', 'c4' and 3 others were neither in the sampled validation patches" in lines[1]
    two = history(FALLING, dice=[(math.nan,) * 2] * 9, labels=("a", "b"))
    assert any(
        line.startswith("'a' and 'b' were neither") and "their last values" in line for line in read_history(two)
    )


def test_a_few_patches_accuse_no_training_case():
    lines = read_history(history([0.9, 0.5], patches=2, holding=(0.0,)))
    assert any(line.endswith("'organ' was in none of the 4 sampled training patches yet.") for line in lines)
    assert not any("hold" in line for line in lines)
    assert not any("too few" in line for line in read_history(history([0.9, 0.5], patches=50, holding=(0.01,))))
