"""What counts as a number where one is asked for: True and False do not, nor NaN and infinity."""

from __future__ import annotations

import math
from typing import Any, TypeGuard

__all__ = ["is_number", "is_whole"]


def is_number(value: Any) -> TypeGuard[float]:
    """Tell whether a value is a finite int or float."""
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    return real and math.isfinite(value)


def is_whole(value: Any, least: int) -> TypeGuard[int]:
    """Tell whether a value is an int of at least so much."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
