"""The figures to reach, and whether they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs

from . import (
    batch,
    calls,
    connections,
    imports,
    layers,
    memory,
    pacing,
    sharing,
    status,
    streams,
    threads,
)
from ._measure import Bench
from ._peers import ANTHROPIC, CLAUDE, OPENAI, OURS, RAW, REQUESTS
from ._tables import NOTHING, Table, number

__all__ = ["goals"]

_PLAIN, _TLS = f"{calls.CPU}, plain", f"{calls.CPU}, over TLS"
_THOUSAND = threads.CELLS[1000, True].name
_HUNDRED = threads.CELLS[100, True].name


@attrs.frozen
class Goal:
    """One figure that is to be reached.

    Attributes:
        name: What it is.
        measure: Returns what was measured, None where something was not.
        least: What holds at least.
        aim: What is aimed at, None for nothing more.
        unit: Its unit.
        digits: Digits behind the point.
        upward: Whether more is better.
    """

    name: str
    measure: Callable[[Bench], float | None]
    least: float
    aim: float | None
    unit: str = ""
    digits: int = 3
    upward: bool = False

    def row(self, bench: Bench) -> list[str]:
        """Return its row."""
        measured = self.measure(bench)
        row = [self.name, self._told(measured)]
        for bound in (self.least, self.aim):
            told = NOTHING if bound is None else ("≥ " if self.upward else "≤ ") + self._told(bound)
            row += [told, self._holds(measured, bound)]
        return row

    def _told(self, value: float | None) -> str:
        unit = f" {self.unit}" if self.unit and value is not None else ""
        return number(value, self.digits) + unit

    def _holds(self, measured: float | None, bound: float | None) -> str:
        if measured is None or bound is None:
            return NOTHING
        return "yes" if (measured >= bound if self.upward else measured <= bound) else "no"


def _ratio(what: str, who: str, to: str) -> Callable[[Bench], float | None]:
    return lambda bench: bench.ratio(what, who, to)


def _median(what: str, who: str, scale: float = 1.0) -> Callable[[Bench], float | None]:
    def measure(bench: Bench) -> float | None:
        median = bench.median(what, who)
        return None if median is None else median * scale

    return measure


def _beyond(
    what: str, who: str, other: str, to: str, scale: float
) -> Callable[[Bench], float | None]:
    def measure(bench: Bench) -> float | None:
        one, base = bench.median(what, who), bench.median(other, to)
        return None if one is None or base is None else (one - base) * scale

    return measure


def _most(what: str, who: str) -> Callable[[Bench], float | None]:
    return lambda bench: max(bench.found.get((what, who), []), default=None)


def _share(bench: Bench) -> float | None:
    metrics, call = bench.median(calls.METRICS, OURS), bench.median(_PLAIN, OURS)
    return metrics / call * 100 if metrics is not None and call else None


def _rate(bench: Bench) -> float | None:
    rate, ideal = bench.median(f"{_HUNDRED}: rate", OURS), threads.CELLS[100, True].ideal()
    return rate / ideal * 100 if rate is not None and ideal else None


def _of_calls() -> list[Goal]:
    return [
        Goal(
            "CPU of chat(), plain, to requests.Session", _ratio(_PLAIN, OURS, REQUESTS), 0.22, 0.14
        ),
        Goal("CPU of chat(), plain, to the openai SDK", _ratio(_PLAIN, OURS, OPENAI), 0.125, 0.08),
        Goal(
            "CPU of chat(), plain, Claude, to the anthropic SDK",
            _ratio(_PLAIN, CLAUDE, ANTHROPIC),
            0.16,
            0.11,
        ),
        Goal("CPU of chat(), TLS, to requests.Session", _ratio(_TLS, OURS, REQUESTS), 0.24, 0.16),
        Goal("all metrics on, of a call's CPU", _share, 4, 2, "%", 1),
    ]


def _more(name: str, *, whole: bool = False) -> Callable[[Bench], float | None]:
    """Return what something adds to a call's CPU, in percent; ``whole`` where it is all extra."""

    def measure(bench: Bench) -> float | None:
        found, plain = bench.median(layers.CPU, name), bench.median(layers.CPU, layers.PLAIN)
        if found is None or not plain:
            return None
        return (found if whole else found - plain) / plain * 100

    return measure


def _of_layers() -> list[Goal]:
    return [
        Goal(
            "events, nobody listens, of a call's CPU",
            _more(layers.ASKED, whole=True),
            2,
            1,
            "%",
            1,
        ),
        Goal("every layer, nothing to do, of a call's CPU", _more(layers.EVERY), 20, 10, "%", 1),
        Goal(
            "calls/s of 16 threads, breaker and pacing, to without",
            _ratio(layers.THREADS, layers.WITH, layers.WITHOUT),
            0.95,
            1.0,
            upward=True,
        ),
        Goal("attempts refused, paced, 64 threads", pacing.refused, 2, 1, "%", 2),
        Goal("calls failed, paced, 64 threads", pacing.failed, 0, None, digits=0),
    ]


def _of_threads() -> list[Goal]:
    rate = f"{_THOUSAND}: rate"
    return [
        Goal(
            f"calls/s, {_THOUSAND}, to requests.Session",
            _ratio(rate, OURS, REQUESTS),
            2.5,
            3.3,
            digits=2,
            upward=True,
        ),
        Goal(
            f"calls/s, {_THOUSAND}, to the openai SDK",
            _ratio(rate, OURS, OPENAI),
            7,
            9,
            digits=2,
            upward=True,
        ),
        Goal(f"errors, {_THOUSAND}", _most(f"{_THOUSAND}: errors", OURS), 0, None, digits=0),
        Goal(
            f"connections, {_THOUSAND}",
            _most(f"{_THOUSAND}: connections", OURS),
            1000,
            None,
            digits=0,
        ),
        Goal(f"calls/s, {_HUNDRED}, of the ideal", _rate, 90, 95, "%", 1, upward=True),
        Goal(f"p99, {_HUNDRED}", _median(f"{_HUNDRED}: p99", OURS, 1e3), 85, 70, "ms", 1),
        Goal(f"peak memory, {_THOUSAND}", _most(f"{_THOUSAND}: peak", OURS), 70, 62, "MB", 1),
    ]


def _of_connections() -> list[Goal]:
    return [
        Goal("a new TLS connection: CPU", _median(connections.CPU, OURS, 1e3), 4, 3, "ms", 2),
        Goal("a new TLS connection: memory", _median(connections.MEMORY, OURS), 0.1, 0.06, "MB"),
        Goal(
            "wall of a reused call, TLS, 30 ms round trip",
            _median(f"{sharing.FAR}: calls wall", OURS, 1e3),
            32,
            31.3,
            "ms",
            2,
        ),
    ]


def _of_streams() -> Iterator[Goal]:
    for api, sdk, least, aim in (("chat", OPENAI, 0.08, 0.055), ("Claude", ANTHROPIC, 0.33, 0.22)):
        name = f"CPU of a streamed event at full speed, {api}, to the {sdk}"
        yield Goal(name, _ratio(f"{api}, {streams.AT_ONCE}", OURS, sdk), least, aim)
    for api in ("chat", "Claude"):
        what = f"{streams.FIRST} since call, {api}"
        measure = _beyond(what, OURS, what, RAW, 1e3)
        yield Goal(f"time to the first text beyond raw, {api}", measure, 1.3, 0.8, "ms", 2)


def _of_imports() -> Iterator[Goal]:
    # As wall on a machine that has nothing else to do, and steadier on one that has.
    what = imports.CPU
    for name, to, least, aim in (
        (imports.FACE, imports.BARE, 25.0, 15.0),
        (imports.CONFIG, "attrs", 15.0, 8.0),
        (imports.FIRST, imports.BOTH, 15.0, None),
    ):
        measure = _beyond(what, name, what, to, 1e3)
        yield Goal(
            f"import, CPU, beyond {to}: {name.removeprefix('termai_http: ')}",
            measure,
            least,
            aim,
            "ms",
            1,
        )


def _of_memory(bench: Bench) -> list[Goal]:
    many = f"{memory.calls(bench):,} calls"
    return [
        Goal("memory after one call", _median(memory.AFTER_ONE, OURS), 32, 30, "MB", 1),
        Goal(f"growth over {many}", _median(memory.GROWN, OURS), 0.3, 0.2, "MB", 2),
        Goal(
            f"objects that the collector tracks, more after {many}",
            _median(memory.OBJECTS, OURS),
            100,
            None,
            digits=0,
        ),
    ]


def _of_hosts(bench: Bench) -> list[Goal]:
    job = f"chat_many, {batch.prompts(bench):,} prompts, {batch.WORKERS} at once, 50 ms"
    return [
        Goal(
            f"calls/s, {job}, of the lower of ideal and plain threads",
            batch.share,
            90,
            95,
            "%",
            1,
            upward=True,
        ),
        Goal(f"growth, {job}", _median(batch.GROWN, OURS), 3, 1, "MB", 2),
        Goal("a second run of a million lines", _median(batch.RESUMED, OURS), 30, 20, "s", 1),
        Goal("peak memory of that", _median(batch.RESUME_PEAK, OURS), 200, 100, "MB", 1),
        Goal("the status page", _median(f"{status.PAGE}, as HTML", OURS, 1e3), 10, 7, "ms", 1),
    ]


def goals(bench: Bench) -> list[Table]:
    """Return the figures to reach beside those that were measured."""
    wanted = [*_of_calls(), *_of_threads(), *_of_connections()]
    wanted += [*_of_streams(), *_of_imports(), *_of_memory(bench), *_of_hosts(bench)]
    wanted += _of_layers()
    header = ["figure", "measured", "at least", "holds", "aim", "reached"]
    return [Table("The figures to reach", header, [goal.row(bench) for goal in wanted])]
