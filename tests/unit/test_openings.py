"""Few connections of a pool are opened at a time, and nobody waits long for a turn."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from termai_http._call import AttemptLimits, Call, Clock, Waker
from termai_http._lease import Lease
from termai_http._openings import Openings
from termai_http._slots import Slots
from termai_http.errors import CallCancelled

LIMITS = AttemptLimits(connect_timeout=10.0, read_timeout=None)
AT_ONCE = 4


class Time:
    """A clock that moves only while somebody waits, and then by all of it."""

    def __init__(self, during: Callable[[], None] = lambda: None) -> None:
        self.now = 100.0
        self.waits: list[float] = []
        self.during = during

    def wait(self, waker: Waker, seconds: float) -> bool:
        """Let something happen; the time passes where that wakes nobody."""
        self.waits.append(seconds)
        self.during()
        woken = waker.wait(0.0)
        self.now += 0.01 if woken else seconds
        return woken

    @property
    def clock(self) -> Clock:
        """The clock to hand in."""
        return Clock(monotonic=lambda: self.now, wait=self.wait)


class Bench:
    """Openings of a pool, with leases that hold slots."""

    def __init__(self, time: Time) -> None:
        self.clock = time.clock
        self.slots = Slots(100, 10.0, self.clock)
        self.openings = Openings(self.clock)

    def lease(self, timeout: float = 60.0) -> Lease:
        """Return a lease that has a slot."""
        call = Call(timeout, self.clock)
        attempt = call.begin_attempt(fresh=False, pooled=True, limits=LIMITS)
        lease = Lease(self.slots, attempt)
        self.slots.acquire(lease)
        return lease

    def begin(self, lease: Lease, idle: Callable[[], Any] = lambda: None) -> Any:
        """Ask for a turn."""
        return self.openings.await_turn(lease, idle)

    def fill(self) -> list[Lease]:
        """Begin as many as may be under way at once."""
        leases = [self.lease() for _ in range(AT_ONCE)]
        for lease in leases:
            assert self.begin(lease) is None
        return leases


def test_a_few_begin_at_once_and_the_next_when_one_ends() -> None:
    """Four do not wait; the fifth does, until one of them is open or waits for its peer."""
    time = Time()
    bench = Bench(time)
    first = bench.fill()
    assert time.waits == []
    time.during = lambda: bench.openings.end(first[0])
    assert bench.begin(bench.lease()) is None
    assert len(time.waits) == 1


def test_what_becomes_idle_serves_who_waits() -> None:
    """An idle connection is taken in the place of a turn, and the turn is left to another."""
    time = Time()
    bench = Bench(time)
    bench.fill()
    idle: list[str] = []

    def give_back() -> None:
        idle.append("connection")
        bench.openings.wake()

    time.during = give_back
    assert bench.begin(bench.lease(), lambda: idle.pop() if idle else None) == "connection"
    time.during = lambda: None
    before = len(time.waits)
    assert bench.begin(bench.lease()) is None
    assert len(time.waits) > before


def test_nobody_waits_where_nothing_moves() -> None:
    """After a second in which nothing ended, one goes on without a turn."""
    time = Time()
    bench = Bench(time)
    bench.fill()
    assert bench.begin(bench.lease()) is None
    assert time.waits == [pytest.approx(1.0)]


def test_nobody_waits_for_more_than_three_seconds() -> None:
    """However much moves, one goes on after three seconds."""
    time = Time()
    bench = Bench(time)
    bench.fill()
    # What wakes us goes to others each time.
    time.during = bench.openings.wake
    assert bench.begin(bench.lease()) is None
    assert len(time.waits) > 100
    assert time.now == pytest.approx(103.0, abs=0.02)


def test_a_wait_ends_with_the_call() -> None:
    """Neither the deadline nor a cancel waits for a turn."""
    time = Time()
    bench = Bench(time)
    bench.fill()
    assert bench.begin(bench.lease(timeout=0.1)) is None
    assert time.waits == [pytest.approx(0.1)]
    lease = bench.lease()
    assert lease.attempt is not None
    lease.attempt.call.interrupt(CallCancelled)
    assert bench.begin(lease) is None
    assert len(time.waits) == 1


def test_what_was_torn_away_takes_no_turn() -> None:
    """An opening whose lease is over and that nobody ended counts no more."""
    time = Time()
    bench = Bench(time)
    for lease in bench.fill():
        lease.end(kept=False)
    assert bench.begin(bench.lease()) is None
    assert time.waits == []


def test_an_interrupt_leaves_nobody_in_the_queue() -> None:
    """Who is torn away while it waits is not woken in the place of another."""

    def tear() -> None:
        raise KeyboardInterrupt

    time = Time(tear)
    bench = Bench(time)
    first = bench.fill()
    with pytest.raises(KeyboardInterrupt):
        bench.begin(bench.lease())
    time.during = lambda: bench.openings.end(first[0])
    assert bench.begin(bench.lease()) is None
    assert len(time.waits) == 2


def test_threads_go_by_turns() -> None:
    """Of many threads at most four open at a time, and each gets its turn."""
    slots = Slots(100, 10.0, Clock())
    openings = Openings(Clock())
    counting = threading.Lock()
    under_way, most, done = 0, 0, 0
    begin = threading.Barrier(32)

    def open_one() -> None:
        nonlocal under_way, most, done
        attempt = Call(30.0, Clock()).begin_attempt(fresh=False, pooled=True, limits=LIMITS)
        lease = Lease(slots, attempt)
        slots.acquire(lease)
        begin.wait()
        openings.await_turn(lease, lambda: None)
        with counting:
            under_way += 1
            most = max(most, under_way)
        with counting:
            under_way -= 1
            done += 1
        openings.end(lease)
        lease.end(kept=False)

    threads = [threading.Thread(target=open_one) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (done, under_way) == (32, 0)
    assert most <= AT_ONCE
