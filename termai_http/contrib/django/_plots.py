"""Histograms of times: columns on a fixed scale, so that those of several workers can be added."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Mapping

import attrs

from ..._values import Value

__all__ = ["EDGES_MS", "TICKS", "Column", "columns", "place"]

# Milliseconds; equal columns for about equal ratios. The first and the last column have one edge.
EDGES_MS = (
    *(base * power for power in (10, 100, 1_000, 10_000) for base in (1, 1.5, 2, 3, 5, 7)),
    *(100_000, 150_000),
)
# Labels of the axis, and the edges that they name.
TICKS = {10: "10 ms", 100: "100 ms", 1_000: "1 s", 10_000: "10 s", 100_000: "100 s"}


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Column(Value):
    """One column of a histogram.

    Attributes:
        index: Its number from the left, from 0.
        count: How many times lie in it.
        height: Percent of the highest column; at least 2 where anything lies in it.
        label: Its times, in words.
    """

    index: int
    count: int
    height: float
    label: str

    @property
    def top(self) -> float:
        """Percent of the plot above it."""
        return 100 - self.height


def columns(counts: Mapping[float, int]) -> list[Column]:
    """Sort times, in milliseconds, into columns."""
    found = [0] * (len(EDGES_MS) + 1)
    for time, count in counts.items():
        found[bisect.bisect_right(EDGES_MS, time)] += count
    highest = max(found) or 1
    return [
        Column(
            index=index,
            count=count,
            height=round(max(100 * count / highest, 2), 2) if count else 0,
            label=_label(index),
        )
        for index, count in enumerate(found)
    ]


def place(time_ms: float | None) -> float | None:
    """Return where on the scale a time lies, in columns from the left; None for None."""
    if time_ms is None:
        return None
    index = bisect.bisect_right(EDGES_MS, time_ms)
    if index in (0, len(EDGES_MS)):
        return index + 0.5
    low, high = EDGES_MS[index - 1], EDGES_MS[index]
    return round(index + math.log(time_ms / low) / math.log(high / low), 3)


def _label(index: int) -> str:
    edges: Iterable[float] = EDGES_MS[max(index - 1, 0) : index + 1]
    names = [f"{edge:g} ms" if edge < 1000 else f"{edge / 1000:g} s" for edge in edges]
    if index == 0:
        return f"under {names[0]}"
    return f"{names[0]} to {names[1]}" if index < len(EDGES_MS) else f"{names[0]} and more"
