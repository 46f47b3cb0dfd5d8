"""Leases: the right to one slot and its connection, given back when their holder goes."""

from __future__ import annotations

import itertools
import sys
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from ._call import Attempt

__all__ = ["Lease", "LeaseHolder", "Reader", "close_conn"]

_GRACE = 0.25
_numbers = itertools.count(1)


class Lender(Protocol):
    """What hands out slots: ``Slots``."""

    held: dict[int, Lease]
    out: dict[int, Any]

    def release(self, lease: Lease, *, discarded: bool) -> None:
        """Take a slot back."""

    def leave_note(self, lease: Lease) -> None:
        """Take a slot back at the next look; safe at any instant, in any thread."""

    def count_opened(self, lease: Lease) -> None:
        """Count a connection that was opened for a lease."""


class Lease:
    """The right to one slot, held from ``Slots.acquire`` to ``end``.

    Whether it is held is one entry in ``Slots.held``, put there and taken out in one step, so that
    an interrupt at any instant leaves either nothing or something that can be found and given back
    once its holder is gone.

    Attributes:
        slots: Where it belongs.
        number: Its number in this process.
        attempt: The attempt it serves; None for a raw use of the session.
        connected: Whether it got an open connection.
        kept: Whether that went back into the pool, where another call may have it by now.
        over: Whether nobody wants it any more, though it may still stand in the queue.
        holder: Returns its ``LeaseHolder``, None once that is gone.
        reader: Returns the body that its caller reads piece by piece, None where there is none.
    """

    __slots__ = (
        *("__weakref__", "attempt", "connected", "holder", "kept", "number", "over", "reader"),
        "slots",
    )

    def __init__(self, slots: Lender, attempt: Attempt | None) -> None:
        self.slots = slots
        self.number = next(_numbers)
        self.attempt = attempt
        self.connected = False
        self.kept = False
        self.over = False
        self.holder: Callable[[], object] = _nobody_in_particular
        self.reader: Callable[[], Reader | None] = _nobody

    @property
    def held(self) -> bool:
        """Whether the slot is taken."""
        return self.number in self.slots.held

    @property
    def pooled(self) -> bool:
        """Whether its connection may go back into the pool."""
        return self.attempt is None or self.attempt.pooled

    def left(self) -> float | None:
        """Return the seconds until its call is overdue; None for a raw use of the session.

        A call ends by itself; nobody may come to read a stream that is held, a cancelled one above
        all.
        """
        if self.attempt is None:
            return None
        call = self.attempt.call
        if self.reader() is None:
            return call.left() + _GRACE
        return call.left() if call.interrupted is None else 0.0

    def end(self, *, kept: bool) -> None:
        """Give the slot back; ``kept`` where the connection went back into the pool."""
        self.slots.out.pop(self.number, None)
        self.slots.release(self, discarded=self.connected and not kept)

    def drop(self) -> None:
        """Let the slot be given back by the next who looks; safe at any instant, in any thread."""
        self.slots.out.pop(self.number, None)
        self.slots.leave_note(self)

    def abandon(self) -> None:
        """Close the connection that is still out, and give the slot back."""
        self.over = True
        slots, number = self.slots, self.number
        conn = slots.out.get(number)
        if conn is not None and not self.kept:
            conn.close()
        if number in slots.held:
            self.end(kept=self.kept)
        else:
            # Its slot was taken back meanwhile, past the deadline; the connection is closed all the
            # same, and its holder shall not find it again.
            slots.out.pop(number, None)


class Reader(Protocol):
    """A body that its caller reads piece by piece."""

    def close_unless_reading(self) -> None:
        """Close it, unless its caller is just reading: then that is woken, and closes it."""


class LeaseHolder:
    """Whoever has one has the lease; when it goes, the connection is closed and the slot free.

    Connections know their lease and not its holder, and those that are out are kept by ``Slots``:
    so a holder in a dropped cycle is collected while its connection is still whole, and no socket
    is left to warn of itself.
    """

    __slots__ = ("__weakref__", "lease")

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        lease.holder = weakref.ref(self)

    def __del__(self) -> None:
        """Give back without a lock: it may run in a thread that holds one, at any instant.

        Where an interrupt tears even this away, ``Slots`` finds the lease without a holder.
        """
        lease = getattr(self, "lease", None)
        if lease is None:
            # Torn away while it was made.
            return
        lease.over = True
        slots, number = lease.slots, lease.number
        if not (number in slots.held or number in slots.out) or sys.is_finalizing():
            return
        try:
            if lease.attempt is not None:
                lease.attempt.call.let_go()
            conn = lease.slots.out.pop(lease.number, None)
            if conn is not None:
                close_conn(conn, lease)
                if lease.attempt is not None:
                    lease.attempt.note_closed()
        finally:
            lease.slots.leave_note(lease)


def _nobody() -> None:
    """Stand for the reader of a lease whose body nobody reads piece by piece."""


def _nobody_in_particular() -> object:
    """Stand for the holder of a lease that has none of its own and is given back by hand."""
    return _nobody_in_particular


def close_conn(conn: Any, lease: Lease) -> None:
    """Close a connection that is still out on a lease, without ending the lease."""
    if not lease.kept:
        conn.lease = None
        conn.close()
