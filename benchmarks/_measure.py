"""Rounds of peers in turn, so that the machine's moods strike all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import attrs

__all__ = ["Figure", "interleaved"]


@attrs.frozen
class Figure:
    """Microseconds a call: the median of the rounds, and half their range."""

    median: float
    spread: float


def interleaved(
    peers: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    calls: int,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, Figure]:
    """Measure peers in turn.

    Args:
        peers: What to call, by name.
        rounds: How often each has its turn.
        calls: Calls in a turn.
        clock: ``time.process_time`` for CPU, ``time.perf_counter`` for wall.
    """
    for call in peers.values():
        for _ in range(max(calls // 10, 1)):
            call()
    taken: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(rounds):
        for name, call in peers.items():
            begun = clock()
            for _ in range(calls):
                call()
            taken[name].append((clock() - begun) / calls * 1e6)
    return {
        name: Figure(statistics.median(times), (max(times) - min(times)) / 2)
        for name, times in taken.items()
    }
