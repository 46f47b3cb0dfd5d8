"""Rounds of clients in turn, so that the machine's moods strike all of them alike."""

from __future__ import annotations

import contextlib
import importlib.util
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs

from ._peers import Place
from ._upstream import Upstream
from ._workers import PeerFailed, Worker

__all__ = ["Bench", "Figure", "installed"]


@attrs.frozen
class Figure:
    """The median of the rounds, and half the range of their middle 80 %; None for one round."""

    median: float
    spread: float | None

    @classmethod
    def of(cls, samples: Sequence[float]) -> Figure:
        """Sum rounds up."""
        if len(samples) < 2:
            return cls(samples[0], None)
        tenths = statistics.quantiles(samples, n=10, method="inclusive")
        return cls(statistics.median(samples), (tenths[-1] - tenths[0]) / 2)


def installed(package: str) -> bool:
    """Tell whether a package is here; "" is always."""
    return not package or importlib.util.find_spec(package) is not None


@attrs.define
class Bench:
    """What one run measures with, and what it found.

    Attributes:
        quick: Whether it is the short form.
        upstream: Where calls go to.
        found: Samples, by what was measured and by whom.
        notes: What went wrong, for the reader.
    """

    quick: bool
    upstream: Upstream
    found: dict[tuple[str, str], list[float]] = attrs.field(factory=dict)
    notes: list[str] = attrs.field(factory=list)
    _chance: random.Random = attrs.field(factory=lambda: random.Random(5))  # noqa: S311 - an order

    def place(self, *, tls: bool = False, prefix: str = "", threads: int = 1) -> Place:
        """Return where a client calls."""
        url = self.upstream.tls if tls else self.upstream.plain
        return Place(url + prefix, self.upstream.bundle, threads)

    def note(self, what: str, who: str, sample: float) -> None:
        """Keep a sample."""
        self.found.setdefault((what, who), []).append(sample)

    def figure(self, what: str, who: str) -> Figure | None:
        """Return what was found, None where nothing was."""
        samples = self.found.get((what, who))
        return Figure.of(samples) if samples else None

    def median(self, what: str, who: str) -> float | None:
        """Return the median of what was found, None where nothing was."""
        figure = self.figure(what, who)
        return None if figure is None else figure.median

    def ratio(self, what: str, who: str, to: str) -> float | None:
        """Return the ratio of two medians, None where one of them is missing."""
        one, other = self.median(what, who), self.median(what, to)
        return one / other if one is not None and other else None

    def rounds(
        self, names: Sequence[str], *, seconds: float, least: int = 2, most: int = 50
    ) -> Iterator[list[str]]:
        """Yield the names in an order by chance, again and again, until the time is over.

        Args:
            names: Whose turn it is to be, once a round.
            seconds: After which no further round begins that would, as the last, not end by then.
            least: Rounds that there are in any case.
            most: Rounds that are enough.
        """
        begun = last = time.monotonic()
        for number in range(most):
            now = time.monotonic()
            if number >= least and 2 * now - last - begun > seconds:
                return
            last = now
            yield self._chance.sample(list(names), len(names))

    def fail(self, why: str) -> None:
        """Note what failed, once."""
        if why not in self.notes:
            self.notes.append(why)

    @contextlib.contextmanager
    def workers(
        self, names: Sequence[str], start: Callable[[str], Worker]
    ) -> Iterator[dict[str, Worker]]:
        """Start clients that are all there at once; those that fail are left out by ``ask``."""
        found: dict[str, Worker] = {}
        try:
            for name in names:
                found[name] = start(name)
            yield found
        finally:
            for worker in found.values():
                worker.close()

    def ask(
        self,
        workers: dict[str, Worker],
        name: str,
        do: str,
        *,
        patience: float = 120.0,
        **how: Any,
    ) -> dict[str, Any] | None:
        """Ask a client; one that fails is noted, and not asked again (None)."""
        if name not in workers:
            return None
        try:
            return workers[name].ask(do, patience, **how)
        except PeerFailed as failure:
            self.fail(str(failure))
            workers.pop(name).close()
            return None
