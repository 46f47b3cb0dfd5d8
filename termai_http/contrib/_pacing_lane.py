"""Whether an attempt may begin, by what is known of one host, key and model; pure."""

from __future__ import annotations

import math
from typing import NamedTuple

from ._pacing_headers import KINDS, LONGEST, Reading
from ._pacing_meter import Meter
from ._pacing_ramp import GRACE, Ramp

__all__ = ["ONE_REQUEST", "Answer", "Cost", "Hold", "Lane", "Started"]

Cost = tuple[float, float, float, float]
"""What an attempt takes of each of ``KINDS``."""

# What an attempt takes where no limit of tokens is known.
ONE_REQUEST: Cost = (1.0, 0.0, 0.0, 0.0)
# After a pause the starts keep the limit's pace for so long.
_SPREAD = 60.0
# What only the headers hold back is asked for again after so long.
_PATIENCE = 60.0
# After so long without an attempt, what refusals taught is forgotten.
_FORGOTTEN = 600.0
# Of what is left so much may begin unseen.
_UNSEEN_SHARE = 8
_MOST_UNSEEN = 64
_FIRST_BACKOFF = 0.5
_LONGEST_BACKOFF = 30.0
_MOST_DOUBLINGS = 8
_WAITING_FOR_ANSWERS = 0.05
# A pace is kept on the average, so who wakes late is followed a little sooner.
_CATCHING_UP = 2.0


class Started(NamedTuple):
    """An attempt that began.

    Attributes:
        serial: Its number in its lane.
        at: When.
        cost: What it takes.
        spent: What all before it took, itself included.
    """

    serial: int
    at: float
    cost: Cost
    spent: Cost


class Answer(NamedTuple):
    """What an attempt's end tells.

    Attributes:
        readings: The limits that it told.
        refused: Whether it was refused for want of them.
        let_in: Whether it was not.
        wish: Seconds that the server asked to wait, None where it did not.
        overloaded: Whether it was refused since the server is overloaded, which tells no limit.
    """

    readings: tuple[Reading, ...] = ()
    refused: bool = False
    let_in: bool = False
    wish: float | None = None
    overloaded: bool = False


class Hold(NamedTuple):
    """How long the next attempt is held back; 0 seconds for not at all.

    Attributes:
        seconds: How long.
        why: What asks for it.
        sure: Whether it is that long at least: what is under way may tell that it is shorter.
    """

    seconds: float
    why: str
    sure: bool = True


_FREE = Hold(0.0, "")


class Lane:
    """All that is known of one host, key and model. Not safe from threads by itself.

    Attributes:
        paused_until: Instant until which a refusal holds back everybody.
        used_at: Instant of the last start.
        starts: Attempts that began.
        refusals: Attempts that were refused.
    """

    __slots__ = (
        *(
            "_backoffs",
            "_next",
            "_refused_at",
            "_spent",
            "_spread_until",
            "_ticked",
            "_young",
            "_young_cost",
        ),
        *("busy", "meters", "paused_until", "ramp", "refusals", "starts", "used_at"),
    )

    def __init__(self, now: float) -> None:
        self.paused_until = -math.inf
        self.used_at = now
        self.starts = 0
        self.refusals = 0
        self.meters: dict[int, Meter] = {}
        self.ramp = Ramp()
        self.busy = False
        self._next = -math.inf
        self._spread_until = -math.inf
        self._backoffs = 0
        self._refused_at = -math.inf
        self._ticked = now
        self._spent: Cost = (0.0, 0.0, 0.0, 0.0)
        self._young: dict[int, Started] = {}
        self._young_cost = [0.0, 0.0, 0.0, 0.0]

    @property
    def counts_tokens(self) -> bool:
        """Whether the server told a limit of tokens."""
        return len(self.meters) > (0 in self.meters)

    def tick(self, now: float, *, busy: bool) -> None:
        """Let time pass.

        Args:
            now: Instant until which.
            busy: Whether somebody waits from now on.
        """
        if now > self._ticked:
            if not self.busy:
                self.ramp.idle(max(now - max(self._ticked, min(self.paused_until, now)), 0.0))
            self._ticked = now
        self.busy = busy
        if self._young:
            self._age(now)
        elif now - self.used_at > _FORGOTTEN and self.ramp.refused_at is not None:
            self.ramp = Ramp()

    def _age(self, now: float) -> None:
        while self._young:
            serial, oldest = next(iter(self._young.items()))
            if now - oldest.at < GRACE:
                return
            self._forget(serial)
            self.ramp.let_in(now)

    def _forget(self, serial: int) -> Started | None:
        started = self._young.pop(serial, None)
        if started is not None and started.cost is not ONE_REQUEST:
            for kind, cost in enumerate(started.cost):
                self._young_cost[kind] -= cost
        elif started is not None:
            self._young_cost[0] -= 1.0
        return started

    def interval(self, now: float) -> float:
        """Return the seconds between two starts, 0 where they need none."""
        rate = self.ramp.rate
        meter = self.meters.get(0)
        # Not everybody at once after a pause, nor in the first instant of a window.
        if meter is not None and now < max(self._spread_until, meter.rolled_at + _SPREAD):
            pace = meter.pace(now)
            if pace is not None:
                rate = pace if rate is None else min(pace, rate)
        return 0.0 if rate is None else 1 / rate

    def _window(self, now: float) -> float | None:
        """Return how many may be under way that were not let in yet, None for any number."""
        window = self.ramp.window
        if window is None or not self.meters:
            return window
        meter = self.meters.get(0)
        known = meter is not None and meter.pace(now) is not None
        return None if known or now >= self._spread_until else window

    def hold(self, now: float, cost: Cost) -> Hold:
        """Tell how long the next attempt is held back.

        Args:
            now: The present.
            cost: What it takes.
        """
        held = _FREE
        for kind, meter in self.meters.items():
            need = min(max(cost[kind], 1.0), meter.limit)
            wait = min(meter.wait(now, need), self.used_at + _PATIENCE - now)
            if wait > held.seconds:
                held = Hold(wait, KINDS[kind], self._is_sure(kind))
        window = self._window(now)
        if window is not None and len(self._young) >= window:
            oldest = next(iter(self._young.values()))
            wait = max(oldest.at + GRACE - now, _WAITING_FOR_ANSWERS)
            held = max(held, Hold(wait, "slow start", sure=False))
        if self._next > now:
            held = max(held, Hold(self._next - now, "pace"))
        if self.paused_until > now and self.paused_until - now >= held.seconds:
            held = Hold(self.paused_until - now, "refusal")
        return held

    def _is_sure(self, kind: int) -> bool:
        """Tell whether a limit's wait is known: tokens are estimates, until an answer comes."""
        meter = self.meters[kind]
        known = kind == 0 and (meter.windowed or meter.rate is not None)
        return known or not self._young

    def harmless(self, now: float, cost: Cost) -> int:
        """Tell how many attempts may begin unseen, since far more than those is left of all."""
        if max(self.paused_until, self._next) > now or self.interval(now):
            return 0
        count = float(_MOST_UNSEEN)
        window = self._window(now)
        if window is not None:
            count = min(count, (window - len(self._young)) / 2)
        for kind, meter in self.meters.items():
            meter.advance(now)
            if meter.credit < meter.limit / 2:
                return 0
            count = min(count, meter.credit / _UNSEEN_SHARE / max(cost[kind], 1.0))
        return int(count)

    def soonest(self, now: float, cost: Cost, before: int, ahead: Cost) -> Hold:
        """Tell how long one who joins those that wait is held back at least.

        Args:
            now: The present.
            cost: What it takes.
            before: How many wait.
            ahead: What they take.
        """
        held = self.hold(now, cost)
        if not before:
            return held
        pace = max(self._next - now, self.paused_until - now, 0.0) + before * self.interval(now)
        held = max(held, Hold(pace, "pace"))
        for kind, meter in self.meters.items():
            wait = meter.wait(now, ahead[kind] + min(max(cost[kind], 1.0), meter.limit))
            held = max(held, Hold(wait, KINDS[kind], self._is_sure(kind)))
        return held

    def start(self, now: float, cost: Cost) -> Started:
        """Begin an attempt."""
        self.ramp.began(now)
        interval = self.interval(now)
        if interval:
            self._next = max(self._next, now - _CATCHING_UP * interval) + interval
        for kind, meter in self.meters.items():
            meter.spend(now, cost[kind])
        self.starts += 1
        self.used_at = now
        started = Started(self.starts, now, cost, self._add(cost))
        self._young[self.starts] = started
        return started

    def passed(self, at: float, now: float, cost: Cost, count: int) -> Started:
        """Take in attempts that began, were let in and are over; returns the last of them.

        Args:
            at: Instant at which the last one began.
            now: The present.
            cost: What each takes.
            count: How many.
        """
        self.ramp.began(at)
        for kind, meter in self.meters.items():
            meter.spend(at, cost[kind] * count)
        self.starts += count
        self.used_at = at
        self._backoffs = 0
        requests, tokens, read, written = self._spent
        self._spent = (
            requests + cost[0] * count,
            tokens + cost[1] * count,
            read + cost[2] * count,
            written + cost[3] * count,
        )
        for _ in range(count):
            self.ramp.let_in(now)
        return Started(self.starts, at, cost, self._spent)

    def _add(self, cost: Cost) -> Cost:
        """Add to what was spent, and to what is under way; returns what was spent in all."""
        requests, tokens, read, written = self._spent
        young = self._young_cost
        young[0] += cost[0]
        if cost is ONE_REQUEST:
            self._spent = requests + 1.0, tokens, read, written
            return self._spent
        for kind in (1, 2, 3):
            young[kind] += cost[kind]
        self._spent = requests + cost[0], tokens + cost[1], read + cost[2], written + cost[3]
        return self._spent

    def end(self, started: Started, now: float, answer: Answer) -> None:
        """Take in what came of an attempt."""
        young = self._forget(started.serial) is not None
        for reading in answer.readings:
            meter = self.meters.get(reading.kind)
            if meter is None:
                meter = self.meters[reading.kind] = Meter()
            meter.read(
                reading,
                now,
                began=started.at,
                serial=started.serial,
                after=self._spent[reading.kind] - started.spent[reading.kind],
                young=self._young_cost[reading.kind],
            )
        if answer.refused:
            self._refused(started, now, answer)
        elif answer.let_in:
            self._backoffs = 0
            if young:
                self.ramp.let_in(now)

    def _refused(self, started: Started, now: float, answer: Answer) -> None:
        self.refusals += 1
        wish = answer.wish
        if wish is not None and not wish <= LONGEST:
            wish = None
        for reading in answer.readings:
            if reading.remaining < max(started.cost[reading.kind], 1.0):
                self.meters[reading.kind].refused(reading, wish, now)
        backoff = min(_FIRST_BACKOFF * 2**self._backoffs, _LONGEST_BACKOFF)
        pause = backoff if wish is None else wish
        news = self._teach(started, now, answer, pause)
        if wish is None:
            if not news:
                return
            self._backoffs = min(self._backoffs + 1, _MOST_DOUBLINGS)
        self._refused_at = max(self._refused_at, now)
        self.paused_until = max(self.paused_until, now + pause)
        self._next = max(self._next, self.paused_until)
        self._spread_until = max(self._spread_until, self.paused_until + _SPREAD)

    def _teach(self, started: Started, now: float, answer: Answer, pause: float) -> bool:
        """Let a refusal tell the rate, unless it was for something else than requests."""
        told = [reading.remaining for reading in answer.readings if reading.kind == 0]
        unknown = not told and 0 not in self.meters
        if not answer.overloaded and (unknown or (told and told[0] < 1)):
            return self.ramp.refused(now, started.at, pause)
        self.ramp.slow()
        return started.at > self._refused_at
