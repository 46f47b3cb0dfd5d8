"""What is done where nothing is held back: attempts begin and end without a lock.

A lock that every attempt of every thread takes costs more than all that is decided under it. So
where much is left of every limit, some attempts are allowed beforehand, a small part of what is
left, and what came of them is taken in later, many at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from ._pacing_headers import read_limits
from ._pacing_lane import ONE_REQUEST, Answer, Lane, Started

__all__ = ["Calm", "Ticket"]

_MANY = 32
_SOON = 0.1
_LET_IN = Answer(let_in=True)
_MORE_BODY = 1024


class Ticket:
    """An attempt that began without a lock.

    Attributes:
        at: When.
        started: What its lane knows it by, once that was told.
        over: Whether it was let in, and is over.
        counted: Whether its lane was told that, too.
    """

    __slots__ = ("at", "counted", "over", "started")

    def __init__(self, at: float) -> None:
        self.at = at
        self.started: Started | None = None
        self.over = self.counted = False


class Calm:
    """The attempts of one lane that need no lock.

    ``begin`` and ``end`` are safe from any thread, each step is one step of a deque; the others
    need the layer's lock.
    """

    __slots__ = ("_begun", "_cost", "_ended", "_largest", "_last", "_passes", "_settled")

    def __init__(self) -> None:
        self._passes: deque[None] = deque()
        self._begun: deque[Ticket] = deque()
        self._ended: deque[Ticket] = deque()
        self._last: tuple[Ticket, Mapping[str, str]] | None = None
        self._cost = ONE_REQUEST
        self._largest = 0
        self._settled = 0.0

    def begin(self, now: float, body: bytes | None) -> Ticket | None:
        """Begin an attempt; None where it has to be looked at first.

        Args:
            now: The present.
            body: What is sent; one far larger than others has to be looked at.
        """
        if not self._passes or (body is not None and len(body) > self._largest):
            return None
        try:
            self._passes.pop()
        except IndexError:
            return None
        ticket = Ticket(now)
        self._begun.append(ticket)
        return ticket

    def end(self, ticket: Ticket, now: float, headers: Mapping[str, str]) -> bool:
        """End an attempt that was let in; True where it is time to settle."""
        # Only one's headers are kept: the others' would be old before they are read.
        self._last = ticket, headers
        ticket.over = True
        self._ended.append(ticket)
        return len(self._ended) >= _MANY or now - self._settled >= _SOON

    def settle(self, lane: Lane, now: float, wall: float) -> None:
        """Tell a lane what began and ended since the last time."""
        self._settled = now
        # Most are over by now, and are told as one.
        passed: list[Ticket] = []
        while self._begun:
            ticket = self._begun.popleft()
            if ticket.over:
                passed.append(ticket)
            else:
                ticket.started = lane.start(ticket.at, self._cost)
        if passed:
            started = lane.passed(passed[-1].at, now, self._cost, len(passed))
            for ticket in passed:
                ticket.started, ticket.counted = started, True
        last = self._last
        while self._ended:
            ticket = self._ended[0]
            if ticket.started is None:
                # It began and ended since a line above: next time.
                break
            self._ended.popleft()
            if not ticket.counted and (last is None or ticket is not last[0]):
                lane.end(ticket.started, now, _LET_IN)
        if last is not None and last[0].started is not None:
            self._last = None
            answer = Answer(read_limits(last[1], wall), let_in=True)
            lane.end(last[0].started, now, answer)

    def allow(self, lane: Lane, now: float) -> None:
        """Allow as many as can do no harm."""
        count = lane.harmless(now, self._cost)
        if count <= 0:
            self._passes.clear()
        elif len(self._passes) < count:
            self._passes.extend([None] * (count - len(self._passes)))

    def measure(self, cost: tuple[float, float, float, float], body: bytes | None) -> None:
        """Take an attempt that was looked at as the measure of those that are not."""
        self._cost = cost
        self._largest = 2 * len(body or b"") + _MORE_BODY

    def stop(self) -> None:
        """Allow none any more."""
        self._passes.clear()
