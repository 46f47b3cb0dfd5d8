"""Slots: a limit, a queue, and leases that always come back."""

from __future__ import annotations

import gc
import threading

import pytest

from termai_http import CallCancelled, PoolTimeout
from termai_http._call import AttemptLimits, Call, Clock
from termai_http._slots import Slots

LIMITS = AttemptLimits(connect_timeout=1, read_timeout=None)


def started(call: Call) -> Call:
    """Begin an attempt on the call."""
    call.begin_attempt(fresh=False, pooled=True, limits=LIMITS)
    return call


def test_a_lease_is_given_back_once() -> None:
    """Ending a lease twice frees one slot; what was connected and not kept is discarded."""
    slots = Slots(2, 1.0, Clock())
    one, two = slots.acquire(None), slots.acquire(None)
    assert slots.figures().active == 2
    two.connected = True
    one.end(kept=False)
    one.end(kept=False)
    two.end(kept=False)
    figures = slots.figures()
    assert (figures.active, figures.discarded) == (0, 1)


def test_a_lost_lease_comes_back() -> None:
    """A lease that nobody ended is taken back when the collector finds it, in a cycle too."""
    slots = Slots(1, 0.0, Clock())
    cycle: list[object] = [slots.acquire(None)]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert slots.figures().active == 0
    slots.acquire(None).end(kept=True)


def test_the_queue_is_served_in_order() -> None:
    """Those who wait get their slots in the order of asking."""
    waiting = threading.Semaphore(0)
    real = Clock()

    def wait(event: threading.Event, seconds: float) -> bool:
        waiting.release()
        return real.wait(event, seconds)

    slots = Slots(1, 30.0, Clock(wait=wait))
    held, served = slots.acquire(None), []

    def queue(index: int) -> None:
        lease = slots.acquire(None)
        served.append(index)
        lease.end(kept=True)

    threads = [threading.Thread(target=queue, args=(index,)) for index in range(5)]
    for thread in threads:
        thread.start()
        assert waiting.acquire(timeout=30)
    assert slots.figures().waiting == 5
    held.end(kept=True)
    for thread in threads:
        thread.join(30)
    assert served == [0, 1, 2, 3, 4]
    assert slots.figures().active == 0


def test_a_wait_that_ends_in_vain_says_so() -> None:
    """The error names what is in use and who else waits, and leaves the queue."""
    slots = Slots(1, 0.0, Clock())
    held = slots.acquire(None)
    with pytest.raises(PoolTimeout, match="1 connections in use of at most 1"):
        slots.acquire(None)
    assert slots.figures().waiting == 0
    held.end(kept=True)
    assert slots.figures().active == 0


def test_an_interrupt_in_the_queue_leaves_nothing_behind() -> None:
    """Ctrl-C while waiting leaves the queue, also where the slot was just granted."""
    slots: Slots

    def interrupted(event: threading.Event, seconds: float) -> bool:
        raise KeyboardInterrupt

    slots = Slots(1, 1.0, Clock(wait=interrupted))
    held = slots.acquire(None)
    with pytest.raises(KeyboardInterrupt):
        slots.acquire(None)
    assert slots.figures().waiting == 0

    def granted(event: threading.Event, seconds: float) -> bool:
        held.end(kept=True)
        raise KeyboardInterrupt

    slots._clock = Clock(wait=granted)
    with pytest.raises(KeyboardInterrupt):
        slots.acquire(None)
    assert slots.figures().active == 0


def test_a_slot_granted_at_the_last_moment_is_taken() -> None:
    """A release between the end of the wait and leaving the queue is no PoolTimeout."""

    def late(event: threading.Event, seconds: float) -> bool:
        held.end(kept=True)
        return False

    slots = Slots(1, 1.0, Clock(wait=late))
    held = slots.acquire(None)
    second = slots.acquire(None)
    assert slots.figures().active == 1
    second.end(kept=True)


def test_a_call_interrupted_in_the_queue_raises_its_reason() -> None:
    """A cancelled call leaves the queue with CallCancelled."""
    slots = Slots(1, 1.0, Clock())
    held = slots.acquire(None)
    call = started(Call(60, Clock()))
    attempt = call.begin_attempt(fresh=False, pooled=True, limits=LIMITS)
    call.interrupt(CallCancelled)
    with pytest.raises(CallCancelled):
        slots.acquire(attempt)
    assert slots.figures().waiting == 0
    held.end(kept=True)


def test_what_a_finalizer_closed_is_counted() -> None:
    """Idle connections of a dropped pool leave the figures at the next look."""
    slots = Slots(1, 1.0, Clock())
    slots.idle = 3
    slots.abandoned.append(3)
    figures = slots.figures()
    assert (figures.idle, figures.evicted) == (0, 3)
