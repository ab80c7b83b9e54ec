"""Callables of one name are told apart by the values they hold, and only by these."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from autoseg.core.held import held


def closure(w):
    return lambda logits, target: w * logits.mean()


def default(w):
    def loss(logits, target, weight=w):
        return weight * logits.mean()

    return loss


def decorated(w):
    def outer(function):
        return lambda *arguments: w * function(*arguments)

    return outer(closure(1.0))


class Weighted:
    def __init__(self, w):
        self.w = w

    def __call__(self, logits, target):
        return self.w * logits.mean()

    def loss(self, logits, target):
        return self.w * logits.mean()


class Module(nn.Module):
    def __init__(self, w):
        super().__init__()
        self.inner = nn.CrossEntropyLoss(weight=torch.tensor([1.0, w]))

    def forward(self, logits, target):
        return self.inner(logits, target)


def inside(w):
    class Inside(nn.Module):
        def forward(self, logits, target):
            return w * logits.mean()

    return Inside


FACTORIES = {
    "closure": closure,
    "default": default,
    "decorated": decorated,
    "attribute": Weighted,
    "method": lambda w: Weighted(w).loss,
    "partial": lambda w: partial(closure(1.0), weight=w),
    "partial of a closure": lambda w: partial(closure(w)),
    "array": lambda w: closure(np.array([1.0, w])),
    "tensor": lambda w: closure(torch.tensor([1.0, w], dtype=torch.bfloat16)),
    "another function": lambda w: closure([default(w)]),
    "module": Module,
    "smoothing": lambda w: nn.CrossEntropyLoss(label_smoothing=w / 4),
    "class": inside,
    "object of a class": lambda w: inside(w)(),
    "set": lambda w: closure({"a", "b", w}),
    "path and nothing": lambda w: closure({"weights": w, "none": None}),
}


@pytest.mark.parametrize("make", FACTORIES.values(), ids=FACTORIES)
def test_what_is_held_tells_apart_and_the_same_is_the_same(make):
    assert held(make(2.0)) == held(make(2.0)) != held(make(3.0))


def test_a_function_that_holds_nothing_is_known_by_its_name_alone():
    assert held(lambda logits, target: logits.mean()) == held(abs) == []


def test_what_holds_itself_is_read_to_its_end():
    def factory(w):
        def countdown(n):
            return countdown(n - 1) if n else w

        return countdown

    assert held(factory(1)) == held(factory(1)) != held(factory(2))


def test_empty_values_tell_apart_by_their_names():
    def factory(a, b):
        return lambda: (a, b)

    assert held(factory(None, 5)) != held(factory(5, None))
