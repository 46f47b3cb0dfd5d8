"""A world without time of its own: callers, a lane between, and a server with a limit."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable

import attrs

from termai_http.contrib._pacing_headers import Reading
from termai_http.contrib._pacing_lane import Answer, Cost, Lane

__all__ = ["Bucket", "Outcomes", "Window", "play"]

_ONE: Cost = (1.0, 0.0, 0.0, 0.0)


class Bucket:
    """A limit that refills all the time.

    Args:
        limit: Most there can be.
        per_second: What comes back in a second.
        headers: Whether answers tell of it.
        whole: Whether ``Retry-After`` is in whole seconds.
    """

    def __init__(
        self, limit: int, per_second: float, *, headers: bool, whole: bool = False
    ) -> None:
        self.limit = limit
        self._rate = per_second
        self._headers = headers
        self._whole = whole
        self._left = float(limit)
        self._at = 0.0

    def answer(self, now: float) -> Answer:
        """Answer a request."""
        self._left = min(self._left + (now - self._at) * self._rate, self.limit)
        self._at = now
        good = self._left >= 1
        if good:
            self._left -= 1
        reading = Reading(
            kind=0,
            limit=self.limit,
            remaining=int(self._left),
            reset=(self.limit - self._left) / self._rate,
        )
        wish = (1 - self._left) / self._rate
        if self._whole:
            wish = float(-(-wish // 1))
        return Answer((reading,) * self._headers, not good, good, None if good else wish)


class Window:
    """A limit that is there again at the end of each window; as ``Bucket``."""

    def __init__(self, limit: int, seconds: float, *, headers: bool, whole: bool = False) -> None:
        self.limit = limit
        self._seconds = seconds
        self._headers = headers
        self._whole = whole
        self._number = -1
        self._left = limit

    def answer(self, now: float) -> Answer:
        """Answer a request."""
        number = int(now // self._seconds)
        if number != self._number:
            self._number, self._left = number, self.limit
        good = self._left >= 1
        if good:
            self._left -= 1
        reset = (number + 1) * self._seconds - now
        reading = Reading(kind=0, limit=self.limit, remaining=self._left, reset=reset)
        wish = float(-(-reset // 1)) if self._whole else reset
        return Answer((reading,) * self._headers, not good, good, None if good else wish)


@attrs.frozen(kw_only=True)
class Outcomes:
    """What came of it.

    Attributes:
        done: Calls that ended well.
        failed: Calls whose attempts were used up.
        attempts: Attempts made.
        refused: Those that were refused.
        seconds: How long it took.
        crowd: The most starts within a tenth of a second, after the first refusal.
    """

    done: int
    failed: int
    attempts: int
    refused: int
    seconds: float
    crowd: int

    @property
    def share(self) -> float:
        """Share of the attempts that were refused."""
        return self.refused / self.attempts


def play(
    server: Bucket | Window,
    *,
    callers: int = 64,
    calls: int = 3000,
    latency: Callable[[random.Random], float] = lambda chance: chance.uniform(0.03, 0.07),
    attempts: int = 3,
    begin: float = 0.0,
    lanes: int = 1,
) -> Outcomes:
    """Let callers make calls, one after the other each, as the threads of a client would."""
    chance = random.Random(7)
    events: list[tuple[float, int, Callable[[], None]]] = []
    order = itertools.count()
    now = begin
    lane_of = [Lane(begin) for _ in range(lanes)]
    queues: list[deque[tuple[int, int]]] = [deque() for _ in range(lanes)]
    left, done, failed, made, refused = calls, 0, 0, 0, 0
    starts: list[float] = []
    planned = [begin] * lanes
    first_refusal = float("inf")

    def at(when: float, what: Callable[[], None]) -> None:
        heapq.heappush(events, (when, next(order), what))

    def next_call(caller: int) -> None:
        nonlocal left
        if left:
            left -= 1
            join(caller, 1)

    def join(caller: int, attempt: int) -> None:
        queues[caller % lanes].append((caller, attempt))
        look(caller % lanes)

    def look(number: int) -> None:
        lane, queue = lane_of[number], queues[number]
        lane.tick(now, busy=bool(queue))
        while queue:
            hold = lane.hold(now, _ONE)
            if hold.seconds > 0:
                when = now + hold.seconds + chance.uniform(0, 0.001)
                if not now < planned[number] <= when:
                    planned[number] = when
                    at(when, lambda: look(number))
                return
            caller, attempt = queue.popleft()
            send(number, caller, attempt)
            lane.tick(now, busy=bool(queue))

    def send(number: int, caller: int, attempt: int) -> None:
        nonlocal made
        made += 1
        started = lane_of[number].start(now, _ONE)
        starts.append(now)
        there, back = latency(chance) / 2, latency(chance) / 2

        def arrive() -> None:
            answer = server.answer(now)
            at(now + back, lambda: come(answer))

        def come(answer: Answer) -> None:
            nonlocal done, failed, refused, first_refusal
            lane_of[number].tick(now, busy=bool(queues[number]))
            lane_of[number].end(started, now, answer)
            if answer.refused:
                refused += 1
                first_refusal = min(first_refusal, now)
                if attempt == attempts:
                    failed += 1
                    next_call(caller)
                else:
                    wish = 0.5 if answer.wish is None else answer.wish
                    at(now + wish * chance.uniform(1, 1.1), lambda: join(caller, attempt + 1))
            else:
                done += 1
                next_call(caller)
            look(number)

        at(now + there, arrive)

    for caller in range(callers):
        at(begin, lambda caller=caller: next_call(caller))  # type: ignore[misc]
    while events:
        now, _, what = heapq.heappop(events)
        what()
    after = [one for one in starts if one > first_refusal + 0.1]
    crowd, tail = 0, 0
    for head, one in enumerate(after):
        while after[tail] < one - 0.1:
            tail += 1
        crowd = max(crowd, head - tail + 1)
    return Outcomes(
        done=done, failed=failed, attempts=made, refused=refused, seconds=now - begin, crowd=crowd
    )
