"""What counts as a number, Python's and numpy's but no truth value; and how one is written."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import TypeGuard

MINUS = "−"


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


def number(value: float, digits: int = 3) -> str:
    """A number with `digits` significant digits, thousands apart, and no exponent within reason.

    >>> number(1234567), number(0.02713), number(3.0), number(float("nan"))
    ('1,234,567', '0.0271', '3', '–')
    """
    value = float(value)
    if math.isnan(value):
        return "–"
    if math.isinf(value) or (value and not 1e-4 <= abs(value) < 1e12):
        return f"{value:.{digits}g}"
    if value == int(value) or abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}".replace("-", MINUS)
    decimals = max(digits - 1 - math.floor(math.log10(abs(value))), 0)
    return f"{value:.{decimals}f}".rstrip("0").rstrip(".").replace("-", MINUS)


def duration(seconds: float) -> str:
    """A time span, two units at most.

    >>> duration(0.42), duration(75), duration(7321)
    ('0.42 s', '1 min 15 s', '2 h 2 min')
    """
    if seconds < 60:
        return f"{number(seconds, 2 if seconds < 10 else 3)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
