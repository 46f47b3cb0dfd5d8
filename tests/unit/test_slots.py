"""Slots: a limit, a queue, and leases that always come back."""

from __future__ import annotations

import gc
import threading
from collections import deque
from types import SimpleNamespace

import pytest

from termai_http import CallCancelled, PoolTimeout
from termai_http._call import Attempt, AttemptLimits, Call, Clock, Waker
from termai_http._lease import Lease, LeaseHolder
from termai_http._slots import Slots, _Waiter

LIMITS = AttemptLimits(connect_timeout=1, read_timeout=None)


def take(slots: Slots, attempt: Attempt | None = None) -> Lease:
    """Take a slot."""
    lease = Lease(slots, attempt)
    slots.acquire(lease)
    return lease


def test_a_lease_is_given_back_once() -> None:
    """Ending a lease twice frees one slot; what was connected and not kept is discarded."""
    slots = Slots(2, 1.0, Clock())
    one, two = take(slots), take(slots)
    assert slots.figures().active == 2
    two.connected = True
    one.end(kept=False)
    one.end(kept=False)
    two.end(kept=False)
    figures = slots.figures()
    assert (figures.active, figures.discarded) == (0, 1)


def test_a_lost_lease_comes_back() -> None:
    """A lease that nobody ended is taken back when its holder is collected, in a cycle too."""
    slots = Slots(1, 0.0, Clock())
    cycle: list[object] = [LeaseHolder(take(slots))]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert slots.figures().active == 0
    take(slots).end(kept=True)


def test_the_queue_is_served_in_order() -> None:
    """Those who wait get their slots in the order of asking."""
    waiting = threading.Semaphore(0)
    real = Clock()

    def wait(waker: Waker, seconds: float) -> bool:
        waiting.release()
        return real.wait(waker, seconds)

    slots = Slots(1, 30.0, Clock(wait=wait))
    held, served = take(slots), []

    def queue(index: int) -> None:
        lease = take(slots)
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
    held = take(slots)
    with pytest.raises(PoolTimeout, match="1 connections in use of at most 1"):
        take(slots)
    assert slots.figures().waiting == 0
    held.end(kept=True)
    assert slots.figures().active == 0


def test_an_interrupt_in_the_queue_leaves_nothing_behind() -> None:
    """Ctrl-C while waiting leaves the queue, also where the slot was just granted."""
    slots: Slots

    def interrupted(waker: Waker, seconds: float) -> bool:
        raise KeyboardInterrupt

    slots = Slots(1, 1.0, Clock(wait=interrupted))
    held = take(slots)
    with pytest.raises(KeyboardInterrupt):
        take(slots)
    assert slots.figures().waiting == 0

    def granted(waker: Waker, seconds: float) -> bool:
        held.end(kept=True)
        raise KeyboardInterrupt

    slots._clock = Clock(wait=granted)
    with pytest.raises(KeyboardInterrupt):
        take(slots)
    assert slots.figures().active == 0


def test_a_slot_granted_at_the_last_moment_is_taken() -> None:
    """A release between the end of the wait and leaving the queue is no PoolTimeout."""

    def late(waker: Waker, seconds: float) -> bool:
        held.end(kept=True)
        return False

    slots = Slots(1, 1.0, Clock(wait=late))
    held = take(slots)
    second = take(slots)
    assert slots.figures().active == 1
    second.end(kept=True)


def test_a_call_interrupted_in_the_queue_raises_its_reason() -> None:
    """A cancelled call leaves the queue with CallCancelled."""
    slots = Slots(1, 1.0, Clock())
    held = take(slots)
    call = Call(60, Clock())
    attempt = call.begin_attempt(fresh=False, pooled=True, limits=LIMITS)
    call.interrupt(CallCancelled)
    with pytest.raises(CallCancelled):
        take(slots, attempt)
    assert slots.figures().waiting == 0
    held.end(kept=True)


def test_what_a_finalizer_closed_is_counted() -> None:
    """Idle connections of a dropped pool leave the figures at the next look."""
    slots = Slots(1, 1.0, Clock())
    slots.leave_evictions(3)
    assert slots.figures().evicted == 3


def test_a_lost_lease_wakes_those_who_wait() -> None:
    """A slot that the collector brings back goes to the first in the queue at once."""
    waiting = threading.Event()
    real = Clock()

    def wait(waker: Waker, seconds: float) -> bool:
        waiting.set()
        # Far longer than the test may take: only being woken ends it.
        return real.wait(waker, 60.0)

    slots = Slots(1, 60.0, Clock(wait=wait))
    held = LeaseHolder(take(slots))
    thread = threading.Thread(target=lambda: take(slots).end(kept=True))
    thread.start()
    assert waiting.wait(30)
    del held
    gc.collect()
    thread.join(30)
    assert not thread.is_alive()
    assert slots.figures().active == 0


def test_a_finalizer_in_a_thread_that_holds_the_lock_takes_none() -> None:
    """Losing a lease while the slots' lock is held neither blocks nor loses the slot."""
    slots = Slots(1, 1.0, Clock())
    held = LeaseHolder(take(slots))
    with slots.lock:
        del held
        gc.collect()
    assert slots.figures().active == 0


def test_starting_over_frees_all_and_makes_old_leases_harmless() -> None:
    """After a fork the child has every slot, a new lock, and a lease of before gives none back."""
    slots = Slots(1, 0.0, Clock())
    old, old_lock = take(slots), slots.lock
    slots.start_over()
    assert slots.lock is not old_lock
    new = take(slots)
    old.end(kept=False)
    assert slots.figures().active == 1
    assert slots.figures().discarded == 0
    new.end(kept=True)
    assert slots.figures().active == 0


def test_a_slot_granted_to_nobody_is_free() -> None:
    """One whose thread was torn away in the queue is passed over when its turn comes."""
    slots = Slots(1, 0.0, Clock())
    held, torn = take(slots), Lease(slots, None)
    slots._queue.append(_Waiter(torn))
    torn.abandon()
    held.end(kept=True)
    figures = slots.figures()
    assert (figures.active, figures.waiting) == (0, 0)


def test_a_connection_of_no_use_is_told_once_where_the_slot_was_taken_back() -> None:
    """It is told as evicted, and must not be told by its lease, which is over, as discarded."""
    slots = Slots(limit=1, patience=1.0, clock=Clock())
    lease = Lease(slots, None)
    conn = SimpleNamespace(lease=None)
    slots.acquire(lease, deque([(conn, 0.0)]))
    assert lease.connected
    slots.release(lease, discarded=True)
    assert slots.replace(lease, deque()) is None
    assert not lease.connected
    assert (slots.figures().evicted, slots.figures().discarded) == (0, 1)


def test_a_connection_whose_slot_was_taken_back_is_closed_once() -> None:
    """Its holder, collected later, finds it no more."""
    slots = Slots(limit=1, patience=1.0, clock=Clock())
    lease = take(slots)
    holder = LeaseHolder(lease)
    closed: list[bool] = []
    conn = SimpleNamespace(lease=None, close=lambda: closed.append(True))
    slots.out[lease.number] = conn
    slots.release(lease, discarded=True)
    lease.abandon()
    assert slots.out == {}
    del holder
    gc.collect()
    assert closed == [True]
