"""What counts as a number: Python's and numpy's, but no truth value, though Python counts with those too."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import TypeGuard


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a real number."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_whole(value: object) -> TypeGuard[int]:
    """Whether a value is a whole number, by its type: 2.0 is not.

    >>> is_whole(2), is_whole(2.0), is_whole(True)
    (True, False, False)
    """
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_positive(value: object) -> TypeGuard[float]:
    """Whether a value is a finite number above zero."""
    return is_number(value) and 0 < value < math.inf
