"""The cache as a layer around the call: looks, shares, asks, keeps."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any

import attrs

from .. import events
from .._call import Clock
from .._job import Outcome
from .._values import Value
from ..errors import TermaiHttpError
from ..layers import BuiltLayer
from ._cache_entry import Entry, KeptAnswer, entry_of, pack, unpack
from ._cache_flight import Flight, Flights
from ._cache_key import CacheKey, key_of
from ._cache_store import Guard, Packed, Store
from ._cache_stream import KeptBody, Recording, Tape

if TYPE_CHECKING:
    from .._job import CallRequest
    from .._layering import Send

__all__ = ["BuiltCache", "CacheStats", "live"]

_made: dict[int, weakref.ref[BuiltCache]] = {}


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CacheStats(Value):
    """What a client's cache did, as ``stats().layers["cache"]``.

    Attributes:
        hits: Calls answered by a kept reply.
        shared: Calls answered by the reply of an equal one that was under way.
        misses: Calls that were made, since nothing was kept for them.
        stored: Replies kept.
        errors: Uses of the store that failed, and entries that were not as they were written.
    """

    hits: int = 0
    shared: int = 0
    misses: int = 0
    stored: int = 0
    errors: int = 0

    def rows(self) -> list[tuple[str, str, str]]:
        """Return its row in a table."""
        errors = f", {self.errors:,} errors of its store" if self.errors else ""
        how = f"{self.misses:,} missed, {self.stored:,} stored{errors}"
        return [("cache", f"{self.hits + self.shared:,} answered", how)]


def live() -> list[BuiltCache]:
    """Return the caches that clients of this process have."""
    return [built for ref in list(_made.values()) if (built := ref()) is not None]


class BuiltCache(BuiltLayer):
    """One client's cache. Safe from any thread.

    Args:
        store: Where replies are kept.
        clock: Time.
        ttl: Seconds for which a reply is good; None for ever.
        most_entry: Bytes of a body above which it is not kept.
        more: What else tells this client's replies from others.
        description: The description it was built from.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        ttl: float | None,
        most_entry: int,
        more: object,
        description: object,
    ) -> None:
        self.description = description
        self.store = store
        self._guard = Guard(store, clock)
        self._clock = clock
        self._ttl = ttl
        self._most_entry = most_entry
        self._more = more
        self._flights = Flights()
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(attrs.fields_dict(CacheStats), 0)
        number, made = id(self), _made
        made[number] = weakref.ref(self, lambda ref: made.pop(number, None))

    def around_call(self, request: CallRequest, send: Send) -> Outcome[Any]:
        """Answer a call by a kept reply, or make it and keep its reply."""
        call = request.call
        key = key_of(request.job, self._more, session=request.session)
        if key is None or call.interrupted is not None or call.left() <= 0:
            # What is over before it begins is not answered either; inside it is said why.
            return send(request)
        if not key.look:
            return self._ask(request, send, key, None)
        if request.streaming:
            # Nobody waits for a stream that is under way: the same thread may have both in hand,
            # and the second would never begin.
            return self._look(request, key, None) or self._ask(request, send, key, None)
        flight = Flight()
        try:
            leader = self._flights.enter(key.row, flight)
            if leader is flight:
                return self._look(request, key, flight) or self._ask(request, send, key, flight)
        finally:
            self._flights.leave(key.row, flight)
        return self._follow(request, send, key, leader)

    def _follow(
        self, request: CallRequest, send: Send, key: CacheKey, leader: Flight
    ) -> Outcome[Any]:
        """Wait for an equal call, and make this one only where the other brought nothing."""
        error = self._flights.follow(key.row, leader, request.call)
        if error is not None:
            return Outcome(error=error)
        if leader.entry is not None:
            served = self._serve(request, leader.entry, shared=not leader.kept)
            if served is not None:
                return served
        return self._ask(request, send, key, None)

    def _look(
        self, request: CallRequest, key: CacheKey, flight: Flight | None
    ) -> Outcome[Any] | None:
        """Answer by a kept reply; None where there is none."""
        entry = self._find(key, request.call.end)
        served = None if entry is None else self._serve(request, entry, shared=False)
        if served is not None and flight is not None:
            flight.entry, flight.kept = entry, True
        return served

    def _find(self, key: CacheKey, end: float) -> Entry | None:
        if not self._guard.may(end):
            return None
        failed, stored = self._guard.use(lambda: self.store.get(key.row))
        if failed:
            self._count("errors")
        if stored is None:
            return None
        try:
            entry = unpack(stored, key.seal)
        except ValueError:
            self._count("errors")
            self._guard.warn(f"an entry of {self.store.where} is not as it was written")
            return None
        # A clock that went back makes nothing old.
        old = self._ttl is not None and self._clock.wall() - entry.at >= self._ttl
        return None if old else entry

    def _serve(self, request: CallRequest, entry: Entry, *, shared: bool) -> Outcome[Any] | None:
        """Read a kept reply as if it came now; None where it cannot be read any more."""
        call = request.call
        answer: Any = KeptBody(entry, call) if request.streaming else KeptAnswer(entry)
        value = request.read(answer, call)
        if isinstance(value, TermaiHttpError):
            # Of an ended call it says so, and the attempt that follows will.
            return None
        self._count("shared" if shared else "hits")
        if call.tell is not None:
            request.tell(events.CacheAnswered, shared=shared)
        return Outcome(value=value, response=getattr(answer, "response", answer))

    def _ask(
        self, request: CallRequest, send: Send, key: CacheKey, flight: Flight | None
    ) -> Outcome[Any]:
        """Make the call; keep its reply, and share it with those who wait."""
        self._count("misses")
        if request.call.tell is not None:
            request.tell(events.CacheMissed)
        if flight is not None:
            flights = self._flights
            # Beside the ``finally`` of the caller, which a second interrupt may tear away.
            request.at_end(lambda outcome: flights.leave(key.row, flight))
        if request.streaming:
            return self._record(request, send, key)
        outcome = send(request)
        entry = entry_of(outcome, None, self._clock.wall())
        if entry is not None:
            if flight is not None:
                flight.entry = entry
            self._keep(key, entry, request.call.end)
        return outcome

    def _record(self, request: CallRequest, send: Send, key: CacheKey) -> Outcome[Any]:
        """Make a call whose reply is a stream; keep it once it was read to its end."""
        tapes: list[Tape] = []
        end, read, most = request.call.end, request.read, self._most_entry

        def read_recorded(answer: Any, call: Any) -> Any:
            if getattr(answer, "response", None) is None:
                return read(answer, call)
            tapes[:] = [Tape(most)]
            return read(Recording(answer, tapes[0]), call)

        def keep(outcome: Outcome[Any] | None) -> None:
            # None may come from a finalizer, in which no lock may be taken. Of the call nothing is
            # held here: it would hold itself.
            body = tapes[0].whole() if outcome is not None and tapes else None
            tapes.clear()
            if body is not None:
                entry = entry_of(outcome, body, self._clock.wall())
                if entry is not None:
                    self._keep(key, entry, end)

        request.at_end(keep)
        return send(request.with_read(read_recorded))

    def _keep(self, key: CacheKey, entry: Entry, end: float) -> None:
        if len(entry.body) > self._most_entry or not self._guard.may(end, keep=True):
            return

        def put() -> None:
            packed = Packed.until(pack(entry, key.seal), self._ttl, entry.at)
            self.store.put(key.row, packed, entry.at)

        failed, _ = self._guard.use(put, keep=True)
        self._count("errors" if failed else "stored")

    def _count(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1

    def stats(self) -> CacheStats:
        """Return what it did so far."""
        with self._lock:
            return CacheStats(**self._counts)

    def locks(self) -> list[Any]:
        """Return the locks that a fork must not catch in other hands."""
        return [self._lock, *self.store.locks()]

    def start_over(self) -> None:
        """Go on in a forked child: its own connections, zeros, nothing of the parent's calls."""
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(self._counts, 0)
        self._flights = Flights()
        self.store.start_over()

    def close(self) -> None:
        """Close the store."""
        self._guard.close()
